"""DADS: the cheapest cut of a DAG by maximum flow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from cutset.errors import UnsupportedProblemError
from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.one_stage import best_single, check_objective, none_found, value_of
from cutset.solvers.two_way.min_cut import CutOracle
from cutset.solvers.two_way.scan import additive_cut
from cutset.solvers.two_way.search import pairs


@dataclass(frozen=True)
class Dads:
    """One min-cut for each ordered pair of devices that holds the source, and the single devices.

    The min-cut minimises the additive cost: compute, bytes over bandwidth, send and receive costs,
    one after another.
    """

    info: ClassVar[StrategyInfo] = StrategyInfo(
        objectives=frozenset({Objective.LATENCY}),
        exact="",
        citation="Hu et al., Dynamic Adaptive DNN Surgery, INFOCOM 2019,"
        " doi 10.1109/INFOCOM.2019.8737614",
        departs="the light-load objective only; an auxiliary vertex for each tensor with several"
        " readers and infinite reverse arcs keep payments and order right; no memory limits",
    )

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        check_objective(problem, self.info.objectives, "dads")
        graph, source = problem.graph, problem.cluster.source
        total = graph.stage_memory_bytes + sum(op.memory_bytes for op in graph.operators)
        for device in problem.cluster.devices:
            if device.memory_bytes < total:
                raise UnsupportedProblemError(
                    "dads knows no memory limits",
                    field=f"devices.{device.name}.memory",
                    value=f"{device.memory_bytes:.0f} bytes",
                    remedy=f"the model takes {total} bytes; use the strategy envelope",
                )
        best, value = best_single(problem, required=False)
        oracle = CutOracle(graph)
        for pair in pairs(problem):
            if source not in (pair.first, pair.second):
                continue
            cut = additive_cut(pair, oracle)
            if cut is None:
                continue
            plan = pair.plan(cut)
            found = value_of(problem, plan)
            if found < value or best is None:
                best, value = plan, found
                budget.report(best)
        if best is None or math.isinf(value):
            raise none_found(problem, "dads")
        return Proposal(best)
