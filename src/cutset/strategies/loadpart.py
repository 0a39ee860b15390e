"""LoADPart: the best prefix of a topological order, aware of the server's load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.one_stage import check_objective
from cutset.solvers.two_way.cut_table import prefix_cuts
from cutset.solvers.two_way.scan import scan


@dataclass(frozen=True)
class Loadpart:
    """Every prefix of the topological order on the source, the rest on another device.

    The server's load is in the problem's costs (LoadedCost), as the paper's factor k is in its
    decision: min over i of prefix_local[i] + size[i]/bandwidth + k·suffix_remote[i] in O(n).
    """

    info: ClassVar[StrategyInfo] = StrategyInfo(
        objectives=frozenset({Objective.LATENCY}),
        exact="",
        citation="Liu et al., LoADPart, ICDCS 2022, doi 10.1109/ICDCS54860.2022.00053",
        departs="the paper's abstract gives no formula: the decision is that of a later public"
        " implementation, with every crossing tensor paid, colocate groups and memory kept, and"
        " profiled costs instead of predicted ones",
    )

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        check_objective(problem, self.info.objectives, "loadpart")
        return scan(problem, prefix_cuts(problem.graph), "loadpart")
