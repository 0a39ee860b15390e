"""Compares the families of plans and returns the best; "don't split" when that is best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.search import search


@dataclass(frozen=True)
class Auto:
    """The families there are: whole on one device, and two-stage splits, both exact.

    One search covers them, as a single stage is where the search for two starts.
    """

    info: ClassVar[StrategyInfo] = StrategyInfo(
        objectives=frozenset(Objective),
        exact="plans of at most two stages",
        citation="cutset, docs/planning.md",
    )

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        return search(problem, budget)
