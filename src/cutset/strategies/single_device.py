"""All on one device: the best of them. The baseline that every split has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.full_scope import full_bound_s
from cutset.solvers.one_stage import best_single
from cutset.solvers.scopes import FULL


@dataclass(frozen=True)
class SingleDevice:
    """Evaluates the whole graph on each device (local and offload) and takes the best."""

    info: ClassVar[StrategyInfo] = StrategyInfo(
        objectives=frozenset(Objective),
        exact="plans of one stage",
        citation="none: the baseline",
    )

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        plan, value = best_single(problem)
        full = full_bound_s(problem, value)
        if full >= value * (1 - 1e-9):
            return Proposal(plan, min(full, value), FULL)
        return Proposal(plan, value, "plans of one stage", full)
