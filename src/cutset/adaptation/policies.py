"""Policies: which of the loaded cuts the next request takes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.observations import Asked, Observation, Truth
from cutset.adaptation.observer import Observer, Seen, believed, errors
from cutset.adaptation.policy import Decision, Policy
from cutset.adaptation.reasons import reason
from cutset.errors import UsageError, choices

NAMES = ("load-aware", "load-oblivious", "local", "offload", "cut:N", "oracle")


@dataclass(frozen=True)
class Following:
    """What a policy that follows observations knows: the cut it holds, since when (seconds), and
    the conditions that it was chosen under."""

    observer: Observer
    seen: Seen
    cut: int
    since_s: float
    chosen_under: Conditions


@dataclass(frozen=True)
class _Follower:
    """Takes the cheapest cut for what is believed, and stays with it while that hardly pays.

    A cut is left if another is cheaper by `min_gain` of its value, by more than `noise_margin`
    standard errors of the difference (as far as these are known), and after `min_dwell_s`; at
    once if it cannot be answered any more.
    """

    min_gain: float = 0.03
    min_dwell_s: float = 0.0
    noise_margin: float = 2.0

    @property
    def name(self) -> str:
        raise NotImplementedError

    def start(self, cuts: Cuts, stated: Conditions, at_s: float) -> Following:
        """The cheapest cut for what is stated."""
        observer = Observer(cuts)
        seen = observer.start(stated, at_s)
        view = self._view(believed(seen, at_s))
        return Following(observer, seen, cuts.best(view), seen.at_s, view)

    def step(self, state: Following, observation: Observation) -> tuple[Following, Decision]:
        """Asked chooses; all else is learnt from."""
        seen = state.observer.see(state.seen, observation)
        state = replace(state, seen=seen)
        view = self._view(believed(seen, seen.at_s))
        if not isinstance(observation, Asked):
            return state, Decision(state.cut, "", view)
        taken = self._choose(state, view)
        if taken == state.cut:
            return state, Decision(taken, "", view)
        why = reason(state.observer.cuts, state.cut, taken, state.chosen_under, view)
        state = replace(state, cut=taken, since_s=seen.at_s, chosen_under=view)
        return state, Decision(taken, why, view)

    def _view(self, conditions: Conditions) -> Conditions:
        """What of the conditions the policy looks at."""
        return conditions

    def _choose(self, state: Following, view: Conditions) -> int:
        cuts, held = state.observer.cuts, state.cut
        values = cuts.values_s(view)
        best = int(values.argmin())
        if not values[best] < values[held]:
            return held
        if math.isinf(values[held]):
            return best
        gain_s = float(values[held] - values[best])
        if gain_s < self.min_gain * values[held]:
            return held
        if gain_s < self.noise_margin * _difference_error_s(state, best, view):
            return held
        if state.seen.at_s - state.since_s < self.min_dwell_s:
            return held
        return best


@dataclass(frozen=True)
class LoadAware(_Follower):
    """Follows links, server and device."""

    @property
    def name(self) -> str:
        return "load-aware"


@dataclass(frozen=True)
class LoadOblivious(_Follower):
    """Follows links and device, and takes the server as idle, as Neurosurgeon (Kang et al.,
    ASPLOS 2017) and DADS (Hu et al., INFOCOM 2019) do."""

    @property
    def name(self) -> str:
        return "load-oblivious"

    def _view(self, conditions: Conditions) -> Conditions:
        return replace(conditions, load=1.0, queue_s=0.0)


@dataclass(frozen=True)
class Static:
    """Always the same cut: an index, "local" (all on the device) or "offload" (all on the server).

    What is believed is followed all the same, so that it can be reported.
    """

    cut: int | str

    @property
    def name(self) -> str:
        return f"static {self.cut if isinstance(self.cut, str) else f'cut:{self.cut}'}"

    def start(self, cuts: Cuts, stated: Conditions, at_s: float) -> Following:
        """Raises UsageError where there is no such cut."""
        observer = Observer(cuts)
        seen = observer.start(stated, at_s)
        held = _index(self.cut, cuts)
        return Following(observer, seen, held, seen.at_s, believed(seen, at_s))

    def step(self, state: Following, observation: Observation) -> tuple[Following, Decision]:
        seen = state.observer.see(state.seen, observation)
        held = Decision(state.cut, "", believed(seen, seen.at_s))
        return replace(state, seen=seen), held


@dataclass(frozen=True)
class Knowing:
    """The oracle's state: what holds, the cut it takes, and what held when it chose that."""

    cuts: Cuts
    conditions: Conditions
    cut: int
    chosen_under: Conditions


@dataclass(frozen=True)
class Oracle:
    """The cheapest cut for what really holds, at no cost for changing it; nobody can do better.

    It reads Truth only, so that it exists in replays only.
    """

    @property
    def name(self) -> str:
        return "oracle"

    def start(self, cuts: Cuts, stated: Conditions, at_s: float) -> Knowing:
        """`stated` is taken as true until a Truth is observed."""
        return Knowing(cuts, stated, cuts.best(stated), stated)

    def step(self, state: Knowing, observation: Observation) -> tuple[Knowing, Decision]:
        if isinstance(observation, Truth):
            state = replace(state, conditions=observation.conditions)
        now = state.conditions
        taken = state.cuts.best(now) if isinstance(observation, Asked) else state.cut
        if taken == state.cut:
            return state, Decision(taken, "", now)
        why = reason(state.cuts, state.cut, taken, state.chosen_under, now)
        return replace(state, cut=taken, chosen_under=now), Decision(taken, why, now)


def by_name(text: str, cuts: Cuts) -> Policy[Any]:
    """The policy of a name: one of NAMES, `cut:N` with an index from 0 into the loaded cuts.

    Raises UsageError for a name that is none, and for a cut that is not loaded.
    """
    name = text.strip().lower().removeprefix("static ")
    simple: Mapping[str, Policy[Any]] = {
        "load-aware": LoadAware(),
        "load-oblivious": LoadOblivious(),
        "local": Static("local"),
        "offload": Static("offload"),
        "oracle": Oracle(),
    }
    policy: Policy[Any]
    if name in simple:
        policy = simple[name]
    elif found := re.fullmatch(r"cut:([0-9]{1,9})", name):
        policy = Static(int(found[1]))
    else:
        raise UsageError(
            "no policy has this name",
            field="policy",
            value=text,
            remedy=choices(name, NAMES, "policies"),
        )
    if isinstance(policy, Static):
        _index(policy.cut, cuts)
    return policy


def _index(cut: int | str, cuts: Cuts) -> int:
    """The index of a static policy's cut. Raises UsageError where it is not loaded."""
    if isinstance(cut, int):
        if 0 <= cut < len(cuts.cuts):
            return cut
        raise UsageError(
            "no such cut is loaded",
            field="policy",
            value=f"cut:{cut}",
            remedy=f"take one of cut:0 to cut:{len(cuts.cuts) - 1}",
        )
    known = {"local": cuts.local, "offload": cuts.offload}
    if cut not in known:
        raise UsageError(
            "no cut has this name",
            field="policy",
            value=cut,
            remedy=choices(cut, known, "names of cuts"),
        )
    found = known[cut]
    if found is None:
        where = cuts.device if cut == "local" else cuts.server
        raise UsageError(
            f"no loaded cut runs all on {where}",
            field="policy",
            value=cut,
            remedy=f"take one of cut:0 to cut:{len(cuts.cuts) - 1}, or load-aware",
        )
    return found


def _difference_error_s(state: Following, best: int, view: Conditions) -> float:
    """The standard error of how much cheaper `best` is than the held cut, seconds."""
    held, other = state.observer.cuts.cuts[state.cut], state.observer.cuts.cuts[best]
    priced_s = {
        "up_bps": _over(8 * (held.up_bytes - other.up_bytes), view.up_bps),
        "down_bps": _over(8 * (held.down_bytes - other.down_bytes), view.down_bps),
        "load": (held.server_s - other.server_s) * view.load,
        "slowdown": (held.device_s - other.device_s) * view.slowdown,
    }
    known = errors(state.seen)
    return math.hypot(*(part_s * (known[name] or 0.0) for name, part_s in priced_s.items()))


def _over(bits: float, rate_bps: float) -> float:
    # Where the rate is 0 both values are finite only if neither cut sends anything.
    return bits / rate_bps if rate_bps > 0 else 0.0
