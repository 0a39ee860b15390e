"""How far one link or device may change: until this very plan is beaten, and until the verdict is.

Each parameter is moved alone, away from today, and everything is decided by the evaluator. The
rivals at each place are the plans that are known, and where a plan is on two devices, every cut of
those two, looked for anew (two_way/rival_cuts.py). A place between two probes where a rival is
better only for a while is not seen.

The values of two plans are piecewise linear in how many times slower a link or device is, so that
their tie is found by the secant, and the first tie of all by cutting: at the tie with one rival,
the best of all is asked for; where that is another one, its tie is nearer (Dinkelbach's method).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from cutset.cluster import Link
from cutset.cost import LoadedCost
from cutset.estimate import estimate
from cutset.plan import Plan
from cutset.problem import BreakEven, Problem
from cutset.solvers.one_stage import value_of
from cutset.solvers.two_way.break_even import with_bandwidth
from cutset.solvers.two_way.rival_cuts import BETTER, RivalCuts

#: The words for what such a break-even holds for.
AMONG = "the plans compared"

_PROBES = (1.25, 2.0, 5.0, 30.0, 1e3, 1e6)  # how many times slower, or faster, than today
_ROUNDS = 10  # of asking for the best of all at a tie
_SECANTS = 14
_STEPS = 36  # of secants and then bisections
_CLOSE = 1e-9  # relative: values of plans that are equal
_NEAR = 1e-3  # relative: gaps that may be those of a tie
_NEXT = 1e-6  # relative: places this close are one
_BEFORE = 1e-3  # relative: so far before a tie no rival may be better
_MOST_PARAMETERS = 8
_MOST_OTHERS = 4
_WORK = 500_000
_LEAST, _MOST = 80, 3_000  # plans, whatever the size


@dataclass(frozen=True)
class Ends:
    """Where the verdict flips while plans are made anew, and where the plan itself is beaten."""

    verdict: tuple[BreakEven, ...] = ()
    plan: tuple[BreakEven, ...] = ()


def ties(
    problem: Problem,
    plan: Plan,
    others: Sequence[tuple[str, Plan]],
    cuts: RivalCuts | None = None,
    over: Callable[[], bool] = lambda: False,
) -> Ends:
    """The nearest end in each direction of what the plan or a rival depends on.

    `others` are plans with their names in words, the strongest first; `cuts` are looked at beside
    them. Parameters are bandwidths of links and loads and speeds of devices that any of them uses,
    the busiest first. Where a rival is better already, the plan has no ends of its own. The same
    problem and plans give the same ends everywhere: work is counted, not timed; where `over` says
    so, what is known until then counts.
    """
    rivals = _different(problem, plan, others)
    own = value_of(problem, plan)
    if math.isinf(own) or (cuts is None and not rivals):
        return Ends()
    links = {f"link:{link.source}>{link.target}": link for link in problem.cluster.pairs()}
    own_use = _busy(problem, plan)
    named = [p for _, p in rivals]
    others_use = dict.fromkeys(name for other in named for name in _busy(problem, other))
    if cuts is not None:
        start, end = cuts.devices
        both = (f"device:{start}", f"device:{end}", f"link:{start}>{end}", f"link:{end}>{start}")
        others_use |= dict.fromkeys(
            name for name in both if name.startswith("device:") or name in links
        )
    resources = list(dict.fromkeys([*own_use, *others_use]))[:_MOST_PARAMETERS]
    size = len(problem.graph.operators) * len(problem.cluster.devices)
    work = _Work(max(_LEAST, min(_MOST, _WORK // max(size, 1))), over)
    verdicts: list[BreakEven] = []
    plans: list[BreakEven] = []
    for resource in resources:
        if work.over():
            break
        parameter = _parameter(problem, resource, links.get(resource))
        # What is slower makes a plan better only beside one that uses it.
        for slower in (True, False) if resource in own_use else (False,):
            way = _Way(plan, rivals, cuts, parameter.changed, slower, work)
            for found, end_of in ((verdicts, way.verdict), (plans, way.plan_itself)):
                place = end_of()
                if place is not None:
                    found.append(parameter.break_even(*place, scope=way.scope))
    if work.left <= 0:  # not all that is claimed was looked for to the end
        verdicts, plans = ([replace(e, scope=AMONG) for e in found] for found in (verdicts, plans))
    return Ends(tuple(verdicts), tuple(plans))


def _different(
    problem: Problem, plan: Plan, others: Sequence[tuple[str, Plan]]
) -> list[tuple[str, Plan]]:
    """Every device alone, and the first of the others that are not the plan and can run."""
    different = {_placement(other): (name, other) for name, other in reversed(others)}
    different.pop(_placement(plan), None)
    rivals = list(reversed(different.values()))
    alone = [rival for rival in rivals if len(rival[1].devices) == 1]
    split = [rival for rival in rivals if len(rival[1].devices) > 1]
    kept = [*alone[:_MOST_OTHERS], *split[:_MOST_OTHERS]]
    return [(name, other) for name, other in kept if _busy(problem, other)]


_Placement = tuple[tuple[str, tuple[str, ...]], ...]


def _placement(plan: Plan) -> _Placement:
    return tuple((stage.device, stage.operators) for stage in plan.stages)


def family_of(plan: Plan) -> str:
    """What a verdict is about: one device alone, or a split."""
    return f"{plan.devices[0]} alone" if len(plan.devices) == 1 else "split"


@dataclass(frozen=True)
class _Parameter:
    """What can change. `changed(x)` is the problem with it x times slower than today."""

    change: str
    changed: Callable[[float], Problem]
    today: float | None  # bits per second of a link; None for a device

    def break_even(self, slowness: float, then: str, scope: str | None) -> BreakEven:
        if self.today is not None:
            at = self.today / slowness
            below, above = (at, None) if slowness > 1 else (None, at)
            return BreakEven(f"link:{self.change}", then, below, above, scope)
        if slowness > 1:
            return BreakEven(f"device:{self.change}.load", then, above=slowness, scope=scope)
        return BreakEven(f"device:{self.change}.speed", then, above=1 / slowness, scope=scope)


def _busy(problem: Problem, plan: Plan) -> dict[str, None]:
    """Links and devices that the plan uses, the busiest first; none where it cannot run."""
    if math.isinf(value_of(problem, plan)):
        return {}
    busy = estimate(problem, plan).busy_s
    ranked = sorted(busy, key=lambda name: (-busy[name], name))
    return dict.fromkeys(n for n in ranked if n.startswith(("link:", "device:")) and busy[n] > 0)


def _parameter(problem: Problem, resource: str, link: Link | None) -> _Parameter:
    name = resource.partition(":")[2]
    if link is None:
        return _Parameter(
            name, lambda x: replace(problem, cost=LoadedCost(problem.cost, {name: x})), None
        )
    # What a transfer gets today; the interfaces' own limits stay, as they are others' too.
    today = problem.bandwidth_bps(link)
    return _Parameter(name, lambda x: with_bandwidth(problem, link, today / x), today)


@dataclass(frozen=True)
class _Best:
    """The best plan at one place. `own_s` is the value of the plan that is looked after."""

    name: str
    plan: Plan
    value_s: float
    own_s: float

    @property
    def family(self) -> str:
        return family_of(self.plan)


@dataclass
class _Work:
    """How many plans may still be evaluated; none once it is `over`. Mutable: all that is looked
    at shares it."""

    left: int
    until: Callable[[], bool]

    def over(self) -> bool:
        if self.left > 0 and self.until():
            self.left = 0
        return self.left <= 0


@dataclass
class _Way:
    """One parameter in one direction. Mutable: what was found on it is kept."""

    plan: Plan
    rivals: Sequence[tuple[str, Plan]]
    cuts: RivalCuts | None
    changed: Callable[[float], Problem]
    slower: bool
    work: _Work
    _problems: dict[float, Problem] = field(default_factory=dict)
    _values: dict[tuple[float, _Placement], float] = field(default_factory=dict)
    _bests: dict[float, _Best] = field(default_factory=dict)

    @property
    def scope(self) -> str | None:
        every = self.cuts is not None and self.cuts.complete and self.work.left > 0
        two = len(self._at(1.0).cluster.devices) == 2 and len(self.plan.stages) <= 2
        return None if every and two else AMONG

    def plan_itself(self) -> tuple[float, str] | None:
        """How many times slower (below 1: faster) the plan is first beaten, and by which plan."""
        near = 1.0
        if self._beaten(near):
            return None
        for far in self._probes():
            if self._beaten(far):
                break
            near = far
        else:
            return None
        rival = self._best(far)
        for _ in range(_ROUNDS):
            place = self._tie(self.plan, rival.plan, near, far)
            before = self._before(place)
            if (before <= near) == self.slower or not self._beaten(before):
                break
            far, rival = before, self._best(before)
        return place, self._words(rival)

    def verdict(self) -> tuple[float, str] | None:
        """The same for the family of the best plan, whatever that is at each place."""
        family = family_of(self.plan)
        near = 1.0
        if self._best(near).family != family:
            return None
        for far in self._probes():
            if self._best(far).family != family:
                break
            near = far
        else:
            return None
        for _ in range(_ROUNDS):
            kept, rival = self._best(near), self._best(far)
            place = self._tie(kept.plan, rival.plan, near, far)
            best = self._best(place)
            tied = min(self._value(place, kept.plan), self._value(place, rival.plan))
            if best.value_s < tied * BETTER and place not in (near, far):
                near, far = (place, far) if best.family == family else (near, place)
                continue
            far = place
            before = self._before(place)
            if (before <= near) == self.slower or self._best(before).family == family:
                break
            far = before
        return place, self._best(far).family

    def _before(self, place: float) -> float:
        return place * (1 - _BEFORE if self.slower else 1 + _BEFORE)

    def _probes(self) -> list[float]:
        return [x if self.slower else 1 / x for x in _PROBES]

    def _words(self, rival: _Best) -> str:
        if len(rival.plan.devices) == 1:
            return rival.family
        if self.cuts is not None and len(rival.plan.stages) == 2:
            return "another cut" if len(self.plan.devices) > 1 else "split"
        return rival.name

    def _at(self, x: float) -> Problem:
        if x not in self._problems:
            self._problems[x] = self.changed(x)
        return self._problems[x]

    def _value(self, x: float, plan: Plan) -> float:
        key = (x, _placement(plan))
        if key not in self._values:
            self.work.left -= 1
            self._values[key] = value_of(self._at(x), plan)
        return self._values[key]

    def _beaten(self, x: float) -> bool:
        best = self._best(x)
        return best.value_s < best.own_s * BETTER

    def _best(self, x: float) -> _Best:
        """The best of all at x; the plan itself where nothing is better, or work is used up."""
        if x in self._bests:
            return self._bests[x]
        own = self._value(x, self.plan)
        best = _Best("", self.plan, own, own)
        if not self.work.over():
            for name, other in self.rivals:
                value = self._value(x, other)
                if value < best.value_s * BETTER:
                    best = _Best(name, other, value, own)
            if self.cuts is not None:
                before = self.cuts.evaluations
                found = self.cuts.better(self._at(x), best.value_s)
                self.work.left -= self.cuts.evaluations - before
                if found is not None:
                    best = _Best("", found[1], found[0], own)
        self._bests[x] = best
        return best

    def _tie(self, kept: Plan, rival: Plan, near: float, far: float) -> float:
        """Where the rival, better at `far`, begins to be better than what is best at `near`.

        While the two are equal, as periods may be for long, the rival is not better.
        """

        def gap_s(x: float) -> float:
            """By how many seconds the kept plan is better; what is rounding is 0."""
            own, other = self._value(x, kept), self._value(x, rival)
            if math.isinf(own) or math.isinf(other):
                return -math.inf if math.isinf(own) else math.inf
            return other - own if abs(other - own) > _CLOSE * own else 0.0

        low, high = gap_s(near), gap_s(far)
        beyond = 1 + _NEXT / 2 if self.slower else 1 / (1 + _NEXT / 2)
        moved = 0  # which end moved last: the other's gap is halved (the Illinois rule)
        for step in range(_STEPS):
            if abs(far - near) <= _NEXT * max(near, far) or self.work.over():
                break
            middle = math.sqrt(near * far)
            if step < _SECANTS and 0 <= low < math.inf and -math.inf < high < 0:
                # A little beyond, so that one step of an exact secant closes the interval.
                tie = (near + (far - near) * low / (low - high)) * beyond
                middle = tie if min(near, far) < tie < max(near, far) else middle
            gap = gap_s(middle)
            if gap >= 0:
                high = high / 2 if moved == 1 else high
                near, low, moved = middle, gap, 1
            elif -gap <= _NEAR * self._value(middle, kept) and gap_s(middle / beyond**2) >= 0:
                return middle
            else:
                low = low / 2 if moved == -1 else low
                far, high, moved = middle, gap, -1
        return far
