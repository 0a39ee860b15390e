"""From a schedule (operator -> device, and an order) to a plan (stages), by the evaluator.

The one place where it is decided which operators share a stage. Stages first are the runs of a
device that neither send nor receive on the way: they delay nothing. Neighbours are then joined
where the evaluator says that it costs nothing, or pays because a stage has an overhead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cutset.plan import Plan, Stage
from cutset.problem import Budget, Objective, Problem
from cutset.solvers.arrays import Ints
from cutset.solvers.latency.latency_model import latency_model

#: Visits of operators and tensors in one call of compiled code: some 20 ms.
PIECE = 400_000


def stages_of(
    problem: Problem,
    device: Sequence[int] | Ints,
    order: Sequence[int] | Ints,
    budget: Budget | None = None,
    *,
    effort: float = 5_000_000,
) -> Plan:
    """The plan of `device` (for each operator an index into the cluster's devices) in `order`.

    `order` is a topological order of all operators; each device runs its own in it. Operators of
    a device share a stage unless one of them sends before the last, or receives after the first;
    on a device whose memory they exceed, stages are then joined at any price. After that,
    neighbouring stages are joined while the evaluator's value for the problem's objective does
    not rise. `effort` limits that: visits of operators and tensors, some 50 million a second; an
    exhausted budget ends it. Pure: same arguments (and no budget that ends), same plan.

    The plan may be one that cannot run (a missing link or cost, memory): `search.value_of` is inf.
    """
    device, order = np.asarray(device, dtype=np.int64), np.asarray(order, dtype=np.int64)
    stage = _stages(problem, device, order, budget, effort)
    return plan_of(problem, device, order, stage)


def _stages(
    problem: Problem, device: Ints, order: Ints, budget: Budget | None, effort: float
) -> Ints:
    from cutset.solvers.latency import latency_kernels as evaluator
    from cutset.solvers.scheduling import stage_kernels as kernels

    m = latency_model(problem)
    _, _, receives, sends, _ = evaluator.moves(m, device, order)
    stage: Ints = kernels.group(m.devices, device, order, receives, sends)
    if not evaluator.memory_kept(m, device, stage):
        stage = kernels.fit(m, device, order, stage)
    latency = problem.objective is Objective.LATENCY
    best = evaluator.value_s(m, device, order, stage, latency)
    if math.isinf(best):
        return stage
    work = m.work
    tries = max(PIECE // work, 1)
    first, made = 0, 0
    while effort >= work and not (budget is not None and budget.exhausted()):
        part = int(min(tries, effort // work))
        stage, best, first, joined = kernels.join(
            m, device, order, stage, best, latency, first, part
        )
        effort, made = effort - part * work, made + joined
        if first < 0 and not made:
            break
        if first < 0:
            first, made = 0, 0
    return stage


def plan_of(problem: Problem, device: Ints, order: Ints, stage: Ints) -> Plan:
    """The plan whose stages are numbered by `stage`, their operators in `order`."""
    operators, devices = problem.graph.operators, problem.cluster.devices
    held: dict[int, list[int]] = {}
    for i in order:
        held.setdefault(int(stage[i]), []).append(int(i))
    return Plan(
        tuple(
            Stage(
                f"s{s}",
                devices[int(device[held[s][0]])].name,
                tuple(operators[i].name for i in held[s]),
            )
            for s in sorted(held)
        ),
        problem.graph.digest,
    )
