"""A policy that the benchmark steers: it forces a request's cut, or asks one of several policies.

All cuts are loaded, so that any request can take any of them, and one deployment serves all
policies that are compared.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.observations import (
    Asked,
    DeviceRun,
    Observation,
    RoundTrip,
    ServerRun,
    Transfer,
    Truth,
)
from cutset.adaptation.policy import Decision, Policy

#: Observations that are kept: what the policies' own cost is measured with.
LATEST = 64


@dataclass(frozen=True)
class Sent:
    """A request was sent at `at_s` (the adapter's clock) by the cut of `decision`."""

    at_s: float
    decision: Decision


@dataclass
class Script:
    """What the next request takes: `forced` if that is not None, else what `active` says.

    What requests show only the active policy observes, so that its choice rests on traffic that it
    caused itself. What was looked at all policies do: looks come when the session has not seen a
    thing for long, whichever policy it asks, and those of a slow link or a long segment are as far
    apart as the time that a policy is active for. `truth`, where it is set, is what the oracle is
    told before each request.
    """

    policies: dict[str, Policy[Any]]
    active: str
    forced: int | None = None
    truth: Conditions | None = None
    states: dict[str, Any] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    runs: list[ServerRun] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    latest: deque[Observation] = field(default_factory=lambda: deque(maxlen=LATEST))

    def begin(self, cuts: Cuts, stated: Conditions, at_s: float) -> None:
        """All policies as they are before anything is seen."""
        for name, policy in self.policies.items():
            self.states[name] = policy.start(cuts, stated, at_s)

    def step(self, observation: Observation) -> Decision:
        if isinstance(observation, Asked) and self.truth is not None:
            self._told(self.active, Truth(observation.at_s, self.truth))
        said = {name: self._told(name, observation) for name in self._hearing(observation)}
        if self.forced is None:
            decision = said[self.active]
        else:
            decision = Decision(self.forced, "", self.truth or Conditions(0.0, 0.0))
        self._note(observation, decision)
        return decision

    def _told(self, name: str, observation: Observation) -> Decision:
        self.states[name], decision = self.policies[name].step(self.states[name], observation)
        return decision

    def _hearing(self, observation: Observation) -> Collection[str]:
        match observation:
            case RoundTrip() | Transfer(look=True) | ServerRun(look=True):
                return list(self.states)  # of those that have begun
        # A request that was forced is none of a policy's own.
        return () if self.forced is not None else (self.active,)

    def _note(self, observation: Observation, decision: Decision) -> None:
        match observation:
            case Asked(at_s=at_s):
                self.sent.append(Sent(at_s, decision))
            case ServerRun(unfinished=False):
                self.runs.append(observation)
                self.latest.append(observation)
            case DeviceRun():
                self.latest.append(observation)
            case Transfer():
                self.latest.append(observation)
                self.transfers.append(observation)

    def forget(self) -> None:
        """Drop what was noted so far."""
        self.sent.clear()
        self.runs.clear()
        self.transfers.clear()

    @property
    def fewest_transfers(self) -> int:
        """How many whole transfers were noted, of the way with fewer."""
        ways = [t.up for t in self.transfers if not t.unfinished]
        return min(ways.count(True), ways.count(False))


@dataclass(frozen=True)
class Steered:
    """The policy that the deployment has: all it does is the script's."""

    script: Script

    @property
    def name(self) -> str:
        return "steered"

    def start(self, cuts: Cuts, stated: Conditions, at_s: float) -> Script:
        self.script.begin(cuts, stated, at_s)
        return self.script

    def step(self, state: Script, observation: Observation) -> tuple[Script, Decision]:
        return state, state.step(observation)
