"""The highest throughput: the plan whose busiest device, link, egress or ingress is least busy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from cutset.errors import PlanningError
from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.one_stage import check_objective, value_of
from cutset.solvers.scopes import FULL, PIPELINES
from cutset.solvers.throughput.dag_pipeline import best_dag_plan
from cutset.solvers.throughput.pipelines import best_pipeline

_PIPELINE_SHARE = 0.7  # of the time; the rest, and what is not used, is for other plans
_DESCENTS = 50_000_000  # stages tried by the last resort for pipelines: about a minute
_CLOSED = 1e-9  # relative: a bound this close to the value proves it


@dataclass(frozen=True)
class Bottleneck:
    """The best pipeline of whole blocks over a simple path of devices; then any better plan of
    one stage a device, with a lower bound on all of them.

    A threshold is feasible where a path within it is found; a walk relaxation, in which devices may
    repeat until they are told apart, proves that there is none. Other plans are chains of
    down-sets of the graph, proven where these are few. The bound that says most is returned: for
    all plans or those of one stage a device where it closes the gap, else for pipelines where the
    plan is one.
    """

    info: ClassVar[StrategyInfo] = StrategyInfo(
        objectives=frozenset({Objective.THROUGHPUT}),
        exact=PIPELINES,
        citation="cutset, docs/planning.md; relaxed states after Righini and Salani, Networks 2008,"
        " doi 10.1002/net.20212",
    )

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        check_objective(problem, self.info.objectives, "bottleneck")
        part = budget.part(_PIPELINE_SHARE * budget.remaining_s())
        try:
            pipeline = best_pipeline(problem, part, descents=_DESCENTS)
        except PlanningError:  # time ended it
            pipeline = None
        other = best_dag_plan(problem, budget, None if pipeline is None else pipeline.plan)
        best = _together(problem, pipeline, other)
        budget.report(best.plan, best.full_bound_s, FULL)
        return best


def _together(problem: Problem, pipeline: Proposal | None, other: Proposal) -> Proposal:
    """`other` was searched for from the pipeline on, so its plan is no worse."""
    if pipeline is None:
        return other
    value_s = value_of(problem, pipeline.plan)
    other_s = value_of(problem, other.plan)
    if other_s < value_s * (1 - _CLOSED) or other.bound_s >= value_s * (1 - _CLOSED):
        return other
    bound_s = min(max(pipeline.bound_s, other.bound_s), value_s)
    return replace(other, plan=pipeline.plan, bound_s=bound_s, scope=PIPELINES)
