"""The plan that is short of the least memory, which may be none: any objective, any plan."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from cutset.errors import InfeasibleError
from cutset.estimate import estimate
from cutset.plan import Plan
from cutset.problem import Objective, Problem
from cutset.solvers import relaxation
from cutset.solvers.all_plans import few_plans
from cutset.solvers.packing import packed
from cutset.solvers.relaxation import Way
from cutset.solvers.throughput.period_model import placement_plan


@dataclass(frozen=True)
class Least:
    """`plan` runs once `way` is added, where one was found. It is proven that no plan is short of
    less than `short_bytes` in all (inf: none can run, whatever the memory)."""

    short_bytes: float = 0.0
    plan: Plan | None = None
    way: Way | None = None


@lru_cache(maxsize=8)
def least_short(problem: Problem) -> Least:
    """By trying every plan where these are few, and by an integer program else (packing.py)."""
    ample = with_memory(problem, {d.name: math.inf for d in problem.cluster.devices})
    # Memory depends on the placement and the number of stages: what throughput tells apart.
    plans = few_plans(replace(ample, objective=Objective.THROUGHPUT))
    if plans is not None:
        found = [(way, k) for k, plan in enumerate(plans) if (way := _way(problem, plan))]
        if not found:
            return Least(math.inf)
        way, k = min(found)
        return Least(way.short_bytes, plans[k], way)
    packing = packed(problem)
    if packing.placement is None:
        return Least(packing.short_bytes)
    plan = placement_plan(problem, packing.placement)
    return Least(packing.short_bytes, plan, _way(problem, plan))


def with_memory(problem: Problem, memory_bytes: dict[str, float]) -> Problem:
    """The problem where these devices have so much."""
    devices = tuple(
        replace(d, memory_bytes=memory_bytes.get(d.name, d.memory_bytes))
        for d in problem.cluster.devices
    )
    return replace(problem, cluster=replace(problem.cluster, devices=devices))


def _way(problem: Problem, plan: Plan) -> Way | None:
    try:
        memory = estimate(problem, plan).memory_bytes
    except InfeasibleError:
        return None
    return relaxation.way(problem, {name: float(n) for name, n in memory.items()})
