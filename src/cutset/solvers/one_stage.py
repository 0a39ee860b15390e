"""Plans of one stage, and what every strategy asks first: a plan's value, is it covered?"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import overload

from cutset.errors import InfeasibleError, UnsupportedProblemError
from cutset.estimate import estimate
from cutset.plan import Plan, Stage
from cutset.problem import Objective, Problem, check_memory
from cutset.solvers import relaxation, scopes


def check_objective(problem: Problem, supported: frozenset[Objective], name: str) -> None:
    """Raise UnsupportedProblemError unless the strategy covers the problem's objective."""
    if problem.objective not in supported:
        raise UnsupportedProblemError(
            f"strategy {name!r} does not cover this objective",
            field="objective",
            value=problem.objective.value,
            remedy="it covers " + ", ".join(sorted(o.value for o in supported)),
        )


def value_of(problem: Problem, plan: Plan) -> float:
    """The evaluator's value in seconds; inf where the plan cannot run or does not fit."""
    try:
        scored = estimate(problem, plan)
        check_memory(problem, scored.memory_bytes)
    except InfeasibleError:
        return math.inf
    return scored.value_s(problem.objective)


def single_stage(problem: Problem, device: str) -> Plan:
    """The whole graph on one device."""
    return Plan(
        (Stage("s0", device, tuple(op.name for op in problem.graph.operators)),),
        problem.graph.digest,
    )


@overload
def best_single(problem: Problem) -> tuple[Plan, float]: ...
@overload
def best_single(problem: Problem, *, required: bool) -> tuple[Plan | None, float]: ...
def best_single(problem: Problem, *, required: bool = True) -> tuple[Plan | None, float]:
    """The best plan of one stage and its value in seconds; ties go to the first device.

    Where none can run: raises InfeasibleError if one is required, else returns (None, inf).
    """
    best = _best_single(problem)
    if best[0] is None and required:
        raise infeasible(problem)
    return best


@lru_cache(maxsize=8)
def _best_single(problem: Problem) -> tuple[Plan | None, float]:
    """Kept, as the search and the verdict both ask: with many devices it takes a while."""
    best: tuple[Plan | None, float] = (None, math.inf)
    for device in problem.cluster.devices:
        plan = single_stage(problem, device.name)
        value = value_of(problem, plan)
        if value < best[1]:
            best = (plan, value)
    return best


def infeasible(problem: Problem) -> InfeasibleError:
    """What stands in the way of every plan of one stage."""
    ways, blocked = short_of(problem)
    return relaxation.infeasible(problem, scopes.ONE_STAGE, ways, blocked)


def none_found(problem: Problem, name: str) -> InfeasibleError:
    """What a method that does not look at every plan says where it finds none."""
    ways, blocked = short_of(problem)
    scope = f"plans that {name} looks at"
    return relaxation.infeasible(problem, scope, ways, blocked, least=False)


def short_of(problem: Problem) -> tuple[list[relaxation.Way], InfeasibleError | None]:
    """What each device needs to hold the whole graph; what stops it whatever the memory."""
    graph = problem.graph
    total = sum(op.memory_bytes for op in graph.operators) + graph.stage_memory_bytes
    ways: list[relaxation.Way] = []
    blocked: InfeasibleError | None = None
    for device in problem.cluster.devices:
        try:
            estimate(problem, single_stage(problem, device.name))
            ways.append(relaxation.way(problem, {device.name: total}))
        except InfeasibleError as error:
            blocked = error
    return ways, blocked
