"""Where another plan becomes as good as this one: break-evens for plans of any shape.

The envelope knows all two-stage plans at once and gives exact flips (break_even.py). Here the
plans are those that were found: each parameter is moved alone, away from today, until one of the
others is as good by the evaluator, and the place is bisected. Nothing is said about plans that
were not compared, and of a pair that ties more than once between two probes, one place is found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cutset.cost import LoadedCost
from cutset.estimate import estimate
from cutset.plan import Plan
from cutset.problem import BreakEven, Problem
from cutset.solvers.one_stage import value_of
from cutset.solvers.two_way.break_even import with_bandwidth

#: The words for what such a break-even holds for.
AMONG = "the plans compared"

_PROBES = (1.25, 2.0, 4.0, 16.0, 256.0)  # how many times slower, or faster, than today
_BISECTIONS = 16
_MOST_PARAMETERS = 8
_MOST_OTHERS = 4
_WORK = 600_000  # operators × devices × changed problems that are looked at
_LEAST, _MOST = 40, 1_000  # changed problems, whatever the size


def ties(problem: Problem, plan: Plan, others: Sequence[tuple[str, Plan]]) -> tuple[BreakEven, ...]:
    """The nearest tie in each direction of what the plan depends on most.

    `others` are plans with their names in words, the strongest first; at most four are looked at.
    Parameters are bandwidths of links and loads and speeds of devices that any of them uses, the
    busiest first. Empty where one of the others is better already. The same problem and plans give
    the same ties everywhere: work is counted, not timed.
    """
    different = {_placement(other): (name, other) for name, other in reversed(others)}
    different.pop(_placement(plan), None)
    rivals = list(reversed(different.values()))[:_MOST_OTHERS]
    rivals = [(name, other) for name, other in rivals if _busy(problem, other)]
    own = value_of(problem, plan)
    if not rivals or math.isinf(own) or own > min(value_of(problem, r) for _, r in rivals):
        return ()
    own_use = _busy(problem, plan)
    others_use = dict.fromkeys(name for _, other in rivals for name in _busy(problem, other))
    size = len(problem.graph.operators) * len(problem.cluster.devices)
    around = _Around(problem, plan, rivals, max(_LEAST, min(_MOST, _WORK // max(size, 1))))
    found = []
    for resource in list(dict.fromkeys([*own_use, *others_use]))[:_MOST_PARAMETERS]:
        parameter = _parameter(problem, resource)
        # What is slower makes a plan better only beside one that uses it, what is faster itself.
        for slower, use in ((True, own_use), (False, others_use)):
            tie = around.first(parameter.changed, slower) if resource in use else None
            if tie is not None:
                found.append(parameter.break_even(*tie))
    return tuple(found)


def _placement(plan: Plan) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((stage.device, stage.operators) for stage in plan.stages)


@dataclass(frozen=True)
class _Parameter:
    """What can change. `changed(x)` is the problem with it x times slower than today."""

    change: str
    changed: Callable[[float], Problem]
    today: float | None  # bits per second of a link; None for a device

    def break_even(self, slowness: float, then: str) -> BreakEven:
        if self.today is not None:
            at = self.today / slowness
            below, above = (at, None) if slowness > 1 else (None, at)
            return BreakEven(f"link:{self.change}", then, below, above, AMONG)
        if slowness > 1:
            return BreakEven(f"device:{self.change}.load", then, above=slowness, scope=AMONG)
        return BreakEven(f"device:{self.change}.speed", then, above=1 / slowness, scope=AMONG)


def _busy(problem: Problem, plan: Plan) -> dict[str, None]:
    """Links and devices that the plan uses, the busiest first; none where it cannot run."""
    if math.isinf(value_of(problem, plan)):
        return {}
    busy = estimate(problem, plan).busy_s
    ranked = sorted(busy, key=lambda name: (-busy[name], name))
    return dict.fromkeys(n for n in ranked if n.startswith(("link:", "device:")) and busy[n] > 0)


def _parameter(problem: Problem, resource: str) -> _Parameter:
    family, _, name = resource.partition(":")
    if family == "device":
        return _Parameter(
            name, lambda x: replace(problem, cost=LoadedCost(problem.cost, {name: x})), None
        )
    link = problem.cluster.link(*name.split(">"))
    assert link is not None  # a plan uses it
    # What a transfer gets today; the interfaces' own limits stay, as they are others' too.
    today = problem.bandwidth_bps(link)
    return _Parameter(name, lambda x: with_bandwidth(problem, link, today / x), today)


@dataclass
class _Around:
    """The plans, and how many changed problems may still be looked at. Mutable: the count is."""

    problem: Problem
    plan: Plan
    rivals: Sequence[tuple[str, Plan]]
    left: int

    def first(self, changed: Callable[[float], Problem], slower: bool) -> tuple[float, str] | None:
        """How many times slower (below 1: faster) the first tie is, and with which plan."""
        near = 1.0
        for probe in _PROBES:
            far = probe if slower else 1 / probe
            winner = self._winner(changed, far)
            if winner is None:
                near = far
                continue
            for _ in range(_BISECTIONS):
                middle = math.sqrt(near * far)
                closer = self._winner(changed, middle)
                if closer is None:
                    near = middle
                else:
                    far, winner = middle, closer
            return (far, winner) if self.left > 0 else None
        return None

    def _winner(self, changed: Callable[[float], Problem], x: float) -> str | None:
        """The best of the others where it beats the plan there; None too when work is used up."""
        if self.left <= 0:
            return None
        self.left -= 1
        problem = changed(x)
        own = value_of(problem, self.plan)
        best, winner = own, None
        for name, other in self.rivals:
            value = value_of(problem, other)
            if value < best:
                best, winner = value, name
        return winner
