"""List scheduling, then load balancing: a DAG's operators over all devices of an edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.one_stage import value_of
from cutset.solvers.scheduling.balancing import EFFORT, balanced_plans, starts


@dataclass(frozen=True)
class Balance:
    """Each operator where it ends first, transfers and their waiting included; then operators
    move off the device that finishes last until nothing improves.

    "The device that finishes last" is taken as whatever the end of the request waits for: the
    critical path through devices and links. The same refinement starts from the best single
    device too, and the better of the two plans counts. For throughput, operators move off the
    devices at the evaluator's bottleneck. `effort` limits the refinement where no time limit
    does: visits of operators and tensors, some 50 million a second.
    """

    effort: float = EFFORT

    info: ClassVar[StrategyInfo] = StrategyInfo(
        objectives=frozenset(Objective),
        exact="",
        citation="Miao et al., Adaptive DNN Partition in Edge Computing Environments, ICPADS 2020,"
        " doi 10.1109/ICPADS51040.2020.00097",
        departs="the paper's steps, cost model and granularity could not be read: list scheduling,"
        " what moves (operators, chains, ends of stages), the start from one device and the"
        " throughput objective are ours; every candidate is scored by the evaluator",
    )

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        begun, found = [], []
        for schedule, plan in starts(problem, budget):
            begun.append(schedule)
            found.append(plan)
            budget.report(plan)
        for plan in balanced_plans(problem, begun, budget, effort=self.effort):
            found.append(plan)
            budget.report(plan)
        return Proposal(min(found, key=lambda plan: value_of(problem, plan)))
