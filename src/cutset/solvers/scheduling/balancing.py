"""Load balancing of a schedule: operators move off the devices that the value hangs on."""

from __future__ import annotations

import math

import numpy as np

from cutset.problem import Budget, Objective, Problem
from cutset.solvers.latency.latency_model import latency_model
from cutset.solvers.scheduling.list_schedule import Schedule, rank_order, value_s
from cutset.solvers.scheduling.stages_of import PIECE, stages_of


def balanced(
    problem: Problem, start: Schedule, budget: Budget, *, effort: float = math.inf
) -> Schedule:
    """The schedule after all moves that lower the evaluator's value, until none does.

    Moved are operators, chains, and the beginnings and ends of the stages on the critical path
    (for throughput: of the devices at the bottleneck), to the device where the value falls most.
    Where no move helps, operators are ordered anew by the ranks of where they are now. `effort`
    limits the search, in visits of operators and tensors; so does the budget, to which every plan
    that improves is reported. Never worse than `start`.
    """
    from cutset.solvers.scheduling import balance_kernels as kernels
    from cutset.solvers.scheduling.list_kernels import ranks_on

    m = latency_model(problem)
    latency = problem.objective is Objective.LATENCY
    chain = kernels.chains(m)
    device, order = start.device.copy(), start.order
    best = value_s(problem, start)
    work = m.work
    tries = max(PIECE // work, 1)
    while not math.isinf(best):
        before = best
        pool, begin, end = kernels.units(m, device, order, chain, latency)
        first = 0
        while first < len(begin):
            if budget.exhausted() or effort <= 0:
                return Schedule(device, order)
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
    return Schedule(device, order)


def on_one_device(problem: Problem) -> Schedule | None:
    """All on the device where one stage has the best value, if one can run and hold it all."""
    from cutset.solvers.latency.latency_kernels import score

    m = latency_model(problem)
    latency = problem.objective is Objective.LATENCY
    order = np.arange(m.operators, dtype=np.int64)
    stage = np.zeros(m.operators, dtype=np.int64)
    best, best_s = None, math.inf
    for d in range(m.devices):
        device = np.full(m.operators, d, dtype=np.int64)
        value = score(m, device, order, stage, latency, True)
        if value < best_s:
            best, best_s = Schedule(device, order), value
    return best
