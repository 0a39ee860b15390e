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
from cutset.solvers.latency_model import latency_model

_PIECE = 400_000  # visits of operators and tensors in one call of compiled code: some 20 ms


def stages_of(
    problem: Problem,
    device: Sequence[int] | Ints,
    order: Sequence[int] | Ints,
    budget: Budget | None = None,
    *,
    join: bool = True,
) -> Plan:
    """The plan of `device` (for each operator an index into the cluster's devices) in `order`.

    `order` is a topological order of all operators; each device runs its own in it. Operators of
    a device share a stage unless one of them sends before the last, or receives after the first;
    with `join`, neighbouring stages are joined further while the evaluator's value for the
    problem's objective does not rise, and, on a device whose memory they exceed, at any price. An
    exhausted budget ends the joining, not the plan. Pure: same arguments, same plan.

    The plan may be one that cannot run (a missing link or cost, memory): `search.value_of` is inf.
    """
    stage = joined_stages(problem, np.asarray(device), np.asarray(order), budget, join=join)
    return plan_of(problem, np.asarray(device), np.asarray(order), stage)


def joined_stages(
    problem: Problem, device: Ints, order: Ints, budget: Budget | None, *, join: bool
) -> Ints:
    """The stage of each operator, numbered as a plan lists them."""
    from cutset.solvers import latency_kernels as kernels

    m = latency_model(problem)
    _, _, receives, sends, _ = kernels.moves(m, device, order)
    stage = kernels.group(m.devices, device, order, receives, sends)
    if not join:
        return stage
    latency = problem.objective is Objective.LATENCY
    tries = max(_PIECE // (2 * m.work), 1)
    over_memory = not kernels.memory_kept(m, device, stage)
    for over in (True, False) if over_memory else (False,):
        best = math.inf if over else kernels.score(m, device, order, stage, latency, False)
        if not over and math.isinf(best):
            break
        changed = True
        while changed:
            changed, first = False, 0
            while first >= 0:
                if budget is not None and budget.exhausted():
                    return stage
                stage, best, first, made = kernels.join(
                    m, device, order, stage, best, latency, over, first, tries
                )
                changed = changed or made > 0
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
