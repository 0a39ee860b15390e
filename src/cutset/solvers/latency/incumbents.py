"""Plans of low latency from every cheap method, for a search that starts from the best of them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

from cutset.errors import PlanningError
from cutset.plan import Plan
from cutset.problem import Budget, Problem
from cutset.solvers.latency.chain_plans import chain_plans
from cutset.solvers.scheduling.balancing import EFFORT, balanced_plans
from cutset.solvers.scheduling.list_schedule import Schedule, list_schedule, schedule_of
from cutset.solvers.scheduling.restarting import restarted
from cutset.solvers.scheduling.stages_of import stages_of
from cutset.solvers.two_way.search import search

_CHAINS = 1e8  # effort of balancing the chains: two seconds
_RESTARTS = 5e7  # effort of random changes: a second
_TWO_WAY = 0.3  # of the time that is left, for plans of two stages


def improving_plans(
    problem: Problem,
    budget: Budget,
    begun: Sequence[Schedule],
    best: Callable[[], Plan | None],
    *,
    two_way: bool,
) -> Iterator[Plan]:
    """The plans of `heft`, of `balance` (which begins with `begun`), with `two_way` of `envelope`,
    and what load balancing makes of chains of stages; at the end from `best()` on, which is asked
    when these were taken in. Where the budget does not end it, one is as good as each of those.
    """
    try:
        found = list_schedule(problem, contended=False)
        yield stages_of(problem, found.device, found.order, budget)
    except PlanningError:
        pass
    yield from _balanced(problem, budget, [schedule_of(problem, p) for p in chain_plans(problem)])
    if begun:
        yield from balanced_plans(problem, begun, budget, effort=EFFORT)
    if two_way:
        left_s = budget.remaining_s()
        part = budget.part(math.inf if math.isinf(left_s) else _TWO_WAY * left_s)
        with contextlib.suppress(PlanningError):
            yield search(problem, part).plan
    plan = best()
    if plan is not None and not budget.exhausted():
        start = schedule_of(problem, plan)
        again = restarted(problem, start, budget, effort=_RESTARTS)
        yield stages_of(problem, again.device, again.order, budget)


def _balanced(problem: Problem, budget: Budget, starts: Sequence[Schedule]) -> Iterator[Plan]:
    if starts:
        yield from balanced_plans(problem, starts, budget, effort=_CHAINS)
