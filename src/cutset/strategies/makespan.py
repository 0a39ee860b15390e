"""The least latency of one inference over any number of devices, branches in parallel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.latency.makespan import makespan
from cutset.solvers.one_stage import check_objective


@dataclass(frozen=True)
class Makespan:
    """Shortest path over (block, device), blocks solved by branch and bound where it leads.

    `max_nodes` ends the search of one block's cell with an honest gap; it counts work, not time,
    so that the same problem gives the same plan on every machine.
    """

    max_nodes: int = 2_000_000

    info: ClassVar[StrategyInfo] = StrategyInfo(
        objectives=frozenset({Objective.LATENCY}),
        exact="any untiled plan, as far as work and time allow",
        citation="cutset, docs/planning.md",
    )

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        check_objective(problem, self.info.objectives, "makespan")
        return makespan(problem, budget, max_nodes=self.max_nodes)
