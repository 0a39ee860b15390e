"""The exact best plan of at most two stages, from all cuts of the graph at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.two_way.search import search


@dataclass(frozen=True)
class Envelope:
    """Lists the cuts block by block, bounds each, evaluates those whose bound is promising.

    Blocks with more cuts than `max_cuts_per_block` are searched by min-cuts and branching. The
    limits end the search with an honest gap; they count work, not time, so that the same problem
    gives the same plan on every machine.
    """

    max_cuts_per_block: int = 100_000
    max_evaluations: int = 2_000
    max_subproblems: int = 200

    info: ClassVar[StrategyInfo] = StrategyInfo(
        objectives=frozenset(Objective),
        exact="plans of at most two stages",
        citation="cutset, docs/planning.md; min-cut bounds after Hu et al., INFOCOM 2019 (DADS)",
    )

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        return search(
            problem,
            budget,
            max_cuts_per_block=self.max_cuts_per_block,
            max_evaluations=self.max_evaluations,
            max_subproblems=self.max_subproblems,
        )
