"""HEFT: list scheduling on heterogeneous devices by upward ranks and earliest finish times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.one_stage import check_objective
from cutset.solvers.scheduling.list_schedule import list_schedule
from cutset.solvers.scheduling.stages_of import stages_of


@dataclass(frozen=True)
class Heft:
    """Operators by falling upward rank (mean costs), each on the device where it ends first.

    An operator may go into a gap that an earlier decision left. Placing counts transfers, but not
    that they wait for each other; the plan's value is the evaluator's, which does.
    """

    info: ClassVar[StrategyInfo] = StrategyInfo(
        objectives=frozenset({Objective.LATENCY}),
        exact="",
        citation="Topcuoglu, Hariri, Wu, Performance-Effective and Low-Complexity Task Scheduling"
        " for Heterogeneous Computing, TPDS 13(3), 2002, doi 10.1109/71.993206",
        departs="a tensor moves once to a device; results must reach the sink; memory limits,"
        " missing links and colocate groups restrict the choice of device; operators are joined"
        " to stages afterwards, where the evaluator says that it costs nothing",
    )

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        check_objective(problem, self.info.objectives, "heft")
        found = list_schedule(problem, contended=False)
        budget.report(stages_of(problem, found.device, found.order, effort=0))
        return Proposal(stages_of(problem, found.device, found.order, budget))
