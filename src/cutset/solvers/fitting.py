"""A plan that fits, or why there is none: what methods that look at plans of any kind share."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import lru_cache

import numpy as np

from cutset.errors import PlanningError
from cutset.plan import Plan
from cutset.problem import Budget, Objective, Problem
from cutset.solvers import one_stage, relaxation
from cutset.solvers.filling import filled_plans
from cutset.solvers.least_memory import least_short, with_memory
from cutset.solvers.one_stage import value_of
from cutset.solvers.relaxation import impossible
from cutset.solvers.throughput.assignment_bound import assignment_bound_s
from cutset.solvers.two_way.cut_table import CutTable, all_cuts
from cutset.solvers.two_way.search import pairs, short_of

_FEW_CUTS = 2_000  # of a block, where only memory is asked about
_NODES = 200_000  # partial placements: seconds


@lru_cache(maxsize=8)
def fitting_plan(problem: Problem) -> Plan | None:
    """A plan that can run and fits, judged by memory only; None where none is known.

    It finds every plan that `no_plan` names more memory for, once there is that much.
    """
    two_stages = (
        pair.plan(table.first_part(int(row)))
        for table in _few_cuts(problem)
        for pair in pairs(problem)
        for row in np.flatnonzero(np.isfinite(pair.bounds(table, problem.objective)))[:1]
    )
    found = itertools.chain((plan for _, plan in filled_plans(problem)), two_stages)
    plan = next((plan for plan in found if value_of(problem, plan) < math.inf), None)
    if plan is None and impossible(problem) is None:
        plan = least_short(problem).plan
    return None if plan is None or math.isinf(value_of(problem, plan)) else plan


def searched_plan(problem: Problem, budget: Budget) -> tuple[Plan | None, bool]:
    """(a plan that fits, whether it is proven that there is none), by search over placements.

    For where `fitting_plan` knows none: whatever the objective, it is that of throughput which
    looks at every placement, and the first one that fits ends it.
    """
    found: list[Plan] = []

    def take(plan: Plan) -> float:
        found.append(plan)
        return 0.0

    busiest = replace(problem, objective=Objective.THROUGHPUT)
    bound_s = assignment_bound_s(busiest, budget, offer=take, nodes=_NODES)
    return next(iter(found), None), not found and math.isinf(bound_s)


def no_plan(problem: Problem, *, proven: bool = False) -> PlanningError:
    """The error of every method that looks at plans of any kind, the same for all of them.

    An InfeasibleError where no plan exists (`proven`, or shown here), else a NoPlanFoundError.
    """
    ways, blocked = one_stage.short_of(problem)
    for table in _few_cuts(problem):
        ways += short_of(problem, table)
    least = least_short(problem)
    if least.way is not None and fitting_plan(with_memory(problem, dict(least.way.needs))):
        ways.append(least.way)
    return relaxation.no_plan(problem, ways, blocked, proven=proven, least_bytes=least.short_bytes)


def _few_cuts(problem: Problem) -> tuple[CutTable, ...]:
    """The cuts of blocks that have few, where there are two devices to cut for."""
    if len(problem.cluster.devices) < 2 or len(problem.graph.operators) < 2:
        return ()
    return (all_cuts(problem.graph, _FEW_CUTS),)
