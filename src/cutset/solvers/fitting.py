"""A plan that fits, or why there is none: what methods that look at plans of any kind share."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np

from cutset.errors import PlanningError
from cutset.plan import Plan
from cutset.problem import Problem
from cutset.solvers import one_stage, relaxation
from cutset.solvers.filling import filled_plans
from cutset.solvers.one_stage import value_of
from cutset.solvers.two_way.cut_table import CutTable, all_cuts
from cutset.solvers.two_way.search import pairs, short_of

_FEW_CUTS = 2_000  # of a block, where only memory is asked about


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
    return next((plan for plan in found if value_of(problem, plan) < math.inf), None)


def no_plan(problem: Problem, *, proven: bool = False) -> PlanningError:
    """The error of every method that looks at plans of any kind, the same for all of them.

    An InfeasibleError where no plan exists (`proven`, or shown here), else a NoPlanFoundError.
    """
    ways, blocked = one_stage.short_of(problem)
    for table in _few_cuts(problem):
        ways += short_of(problem, table)
    return relaxation.no_plan(problem, ways, blocked, proven=proven)


def _few_cuts(problem: Problem) -> tuple[CutTable, ...]:
    """The cuts of blocks that have few, where there are two devices to cut for."""
    if len(problem.cluster.devices) < 2 or len(problem.graph.operators) < 2:
        return ()
    return (all_cuts(problem.graph, _FEW_CUTS),)
