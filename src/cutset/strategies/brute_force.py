"""Tries every plan: what the other strategies are held to on small problems."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

from cutset.errors import PlanningError, UnsupportedProblemError
from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.all_plans import placement_count, untiled_plans
from cutset.solvers.fitting import no_plan
from cutset.solvers.full_scope import full_bound_s
from cutset.solvers.one_stage import best_single, value_of
from cutset.solvers.scopes import FULL


@dataclass(frozen=True)
class BruteForce:
    """Every untiled plan, up to what the evaluator can tell apart; the first of the best.

    Declines a problem with more than `max_plans` of them, some seconds' work.
    """

    max_plans: int = 30_000

    info: ClassVar[StrategyInfo] = StrategyInfo(
        objectives=frozenset(Objective),
        exact=FULL,
        citation="none: every plan is tried",
    )

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        best, value = best_single(problem, required=False)
        bound = full_bound_s(problem)
        if best is not None:
            budget.report(best, bound, FULL)
        self._check_size(problem)
        for plan in untiled_plans(problem):
            if budget.exhausted():
                break
            found = value_of(problem, plan)
            if found < value:
                best, value = plan, found
                budget.report(plan, bound, FULL)
        else:
            bound = value
        if best is None and math.isfinite(bound):
            raise PlanningError(
                "no plan was found in the time; there may be one, as none was ruled out",
                field="time_limit_s",
                value=f"{budget.time_limit_s:g} s",
                remedy="give it more time, or the devices more memory",
            )
        if best is None:
            raise no_plan(problem, proven=True)
        return Proposal(best, bound, FULL)

    def _check_size(self, problem: Problem) -> None:
        count = placement_count(problem)
        if count <= self.max_plans:
            plans = itertools.islice(untiled_plans(problem), self.max_plans + 1)
            count = sum(1 for _ in plans)
        if count > self.max_plans:
            raise UnsupportedProblemError(
                f"brute_force tries every plan, and there are more than {self.max_plans}",
                field="operators",
                value=f"{len(problem.graph.operators)} operators,"
                f" {len(problem.cluster.devices)} devices",
                remedy="use the strategy auto, or a smaller problem",
            )
