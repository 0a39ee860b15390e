"""The best of all untiled plans, where they are so few that trying each is the fastest proof."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from cutset.plan import Plan
from cutset.problem import Budget, Problem
from cutset.solvers.all_plans import few_plans
from cutset.solvers.one_stage import value_of

_ROUNDING = 1e-12  # relative: values this close are the same in sums of another order


@dataclass
class Best:
    """The best plan so far; of equal ones that of fewest stages, then the first. Mutable."""

    plan: Plan | None = None
    value_s: float = math.inf

    def offer(self, plan: Plan, value_s: float) -> bool:
        """Take it in if it is better; whether it was."""
        if self.plan is None:
            better = value_s < math.inf
        else:
            fewer = len(plan.stages) < len(self.plan.stages)
            rounding = _ROUNDING if fewer else -_ROUNDING
            better = value_s <= self.value_s * (1 + rounding) and (fewer or value_s < self.value_s)
        if better:
            self.plan, self.value_s = plan, value_s
        return better


@dataclass(frozen=True)
class FewPlans:
    """The best of all plans, the best of those of one stage or of two on different devices, and
    `least_s`, which no untiled plan can beat (inf: there is none); found in `elapsed_s`."""

    best: Best
    two_way: Best
    least_s: float
    elapsed_s: float


def best_of_few(problem: Problem, budget: Budget) -> FewPlans | None:
    """The best of every untiled plan; None where they are more than some hundred, or time ends it.

    Improvements are reported. That these are all plans, up to what the evaluator can tell apart,
    is shown in all_plans.py.
    """
    begin_s = time.perf_counter()
    if (plans := few_plans(problem)) is None:
        return None
    best, two_way, least_s = Best(), Best(), math.inf
    for plan in plans:
        if budget.exhausted():
            return None
        value_s = value_of(problem, plan)
        least_s = min(least_s, value_s)
        if best.offer(plan, value_s):
            budget.report(plan)
        if len(plan.stages) == len(plan.devices) <= 2:
            two_way.offer(plan, value_s)
    return FewPlans(best, two_way, least_s, time.perf_counter() - begin_s)
