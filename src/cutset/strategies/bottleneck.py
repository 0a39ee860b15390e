"""The highest throughput: the plan whose busiest device, link, egress or ingress is least busy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.search import check_objective
from cutset.solvers.throughput.pipelines import best_pipeline


@dataclass(frozen=True)
class Bottleneck:
    """The best pipeline of whole blocks over a simple path of devices, with a lower bound on all.

    A threshold is feasible where a path within it is found; a walk relaxation, in which devices may
    repeat until they are told apart, proves that there is none.
    """

    info: ClassVar[StrategyInfo] = StrategyInfo(
        objectives=frozenset({Objective.THROUGHPUT}),
        exact="pipelines: plans of one stage a device, each of whole blocks",
        citation="cutset, docs/planning.md; relaxed states after Righini and Salani, Networks 2008,"
        " doi 10.1002/net.20212",
    )

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        check_objective(problem, self.info.objectives, "bottleneck")
        return best_pipeline(problem, budget)
