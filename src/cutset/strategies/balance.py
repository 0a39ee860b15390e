"""List scheduling, then load balancing: a DAG's operators over all devices of an edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.scheduling.balancing import balanced, on_one_device
from cutset.solvers.scheduling.list_schedule import list_schedule
from cutset.solvers.scheduling.stages_of import stages_of
from cutset.solvers.search import single_stage, value_of

_JOINING = 1e8  # effort of joining the stages of a plan that may be the last


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

    effort: float = 1e9

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
        starts, plans = [], []
        single = on_one_device(problem)
        if single is not None:
            starts.append(single)
            name = problem.cluster.devices[int(single.device[0])].name
            plans.append(single_stage(problem, name))
            budget.report(plans[-1])
        starts.append(list_schedule(problem, contended=True))
        for start in starts:
            plans.append(stages_of(problem, start.device, start.order, budget))
            budget.report(plans[-1])
        for start in reversed(starts):
            found = balanced(problem, start, budget, effort=self.effort / len(starts))
            plans.append(stages_of(problem, found.device, found.order, budget, effort=_JOINING))
            budget.report(plans[-1])
        return Proposal(min(plans, key=lambda plan: value_of(problem, plan)))
