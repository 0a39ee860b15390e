"""Load balancing of a schedule: operators move off the devices that the value hangs on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from cutset.graph import Graph
from cutset.plan import Plan
from cutset.problem import Budget, Objective, Problem
from cutset.solvers.arrays import Ints
from cutset.solvers.latency.latency_model import latency_model
from cutset.solvers.one_stage import best_single, single_stage
from cutset.solvers.scheduling.groups import move_groups
from cutset.solvers.scheduling.list_schedule import (
    Schedule,
    list_schedule,
    rank_order,
    value_s,
)
from cutset.solvers.scheduling.stages_of import PIECE, stages_of

#: Of all balancing where no time limit does: visits of operators and tensors, 20 seconds' worth.
EFFORT = 1e9
_JOINING = 1e8  # effort of joining the stages of a plan that may be the last


def balanced(
    problem: Problem, start: Schedule, budget: Budget, *, effort: float = math.inf
) -> Schedule:
    """The schedule after all moves that lower the evaluator's value, until none does.

    Moved are operators, chains, and the beginnings and ends of the stages on the critical path
    (for throughput: of the devices at the bottleneck), to the device where the value falls most.
    Where none helps, what hangs together anywhere (`move_groups`) moves. Where that does not help
    either, operators are ordered anew by the ranks of where they are now. `effort` limits the
    search, in visits of operators and tensors; so does the budget, to which every plan that
    improves is reported. Never worse than `start`.
    """
    return balanced_within(problem, start, budget, effort)[0]


def balanced_within(
    problem: Problem, start: Schedule, budget: Budget, effort: float
) -> tuple[Schedule, float]:
    """`balanced`, and the effort that is left: 0 or less where it ended the search."""
    from cutset.solvers.scheduling import balance_kernels as kernels
    from cutset.solvers.scheduling.list_kernels import ranks_on

    m = latency_model(problem)
    latency = problem.objective is Objective.LATENCY
    chain = kernels.chains(m)
    device, order = start.device.copy(), start.order
    best = value_s(problem, start)
    work = m.work
    tries = max(PIECE // work, 1)
    together = _units(problem.graph)
    while not math.isinf(best):
        before = best
        late = kernels.units(m, device, order, chain, latency)
        for pool, begin, end in (late, together):
            if best < before:
                break  # what the value hangs on has changed
            first = 0
            while first < len(begin):
                if budget.exhausted() or effort <= 0:
                    return Schedule(device, order), 0.0
                value, first, done = kernels.move(
                    m, device, order, pool, begin, end, first, tries, best, latency
                )
                effort -= done * work
                if value < best:
                    best = value
                    budget.report(stages_of(problem, device, order, effort=0))
        if best < before:
            continue
        again = Schedule(device, rank_order(ranks_on(m, device)))
        value = value_s(problem, again)
        if not value < best * (1 - 1e-9):
            break
        best, order = value, again.order
    return Schedule(device, order), max(effort, 0.0)


def _units(graph: Graph) -> tuple[Ints, Ints, Ints]:
    """The groups of `move_groups` as `kernels.move` takes them: operators, begins, ends."""
    groups = list(move_groups(graph))
    end = np.cumsum([len(group) for group in groups], dtype=np.int64)
    begin = end - np.array([len(group) for group in groups], dtype=np.int64)
    return np.array([i for group in groups for i in group], dtype=np.int64), begin, end


def starts(problem: Problem, budget: Budget) -> Iterator[tuple[Schedule, Plan]]:
    """What balancing starts from: the best single device (found before anything is compiled) and
    a list schedule.

    Raises what `search.no_plan` returns where no plan was found.
    """
    single = on_one_device(problem)
    if single is not None:
        name = problem.cluster.devices[int(single.device[0])].name
        yield single, single_stage(problem, name)
    listed = list_schedule(problem, contended=True)
    yield listed, stages_of(problem, listed.device, listed.order, budget)


def balanced_plans(
    problem: Problem, begun: Sequence[Schedule], budget: Budget, *, effort: float
) -> Iterator[Plan]:
    """The plans of `begun` after load balancing, the last one's first."""
    for start in reversed(begun):
        found = balanced(problem, start, budget, effort=effort / len(begun))
        yield stages_of(problem, found.device, found.order, budget, effort=_JOINING)


def on_one_device(problem: Problem) -> Schedule | None:
    """All on the device where one stage has the best value, if one can run and hold it all."""
    plan, _ = best_single(problem, required=False)
    if plan is None:
        return None
    count = len(problem.graph.operators)
    where = [d.name for d in problem.cluster.devices].index(plan.devices[0])
    return Schedule(np.full(count, where, dtype=np.int64), np.arange(count, dtype=np.int64))
