"""Neurosurgeon: the best layer of a chain to cut after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.one_stage import check_objective
from cutset.solvers.two_way.cut_table import prefix_cuts
from cutset.solvers.two_way.scan import scan


@dataclass(frozen=True)
class Neurosurgeon:
    """The paper scans the layers of a chain. On a DAG, only articulations are scanned.

    Articulations are the points that a chain of blocks has between its links; where a graph has
    none, what is left is local and remote.
    """

    info: ClassVar[StrategyInfo] = StrategyInfo(
        objectives=frozenset({Objective.LATENCY}),
        exact="",
        citation="Kang et al., Neurosurgeon, ASPLOS 2017, doi 10.1145/3037697.3037698",
        departs="DAGs are cut at articulations only, side tensors are paid; profiled costs instead"
        " of predicted ones; no energy objective",
    )

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        check_objective(problem, self.info.objectives, "neurosurgeon")
        return scan(problem, prefix_cuts(problem.graph, articulations_only=True), "neurosurgeon")
