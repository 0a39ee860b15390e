"""The joint greedy baseline: least-sum partition, then always the best unused link."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.arrays import Floats
from cutset.solvers.one_stage import check_objective
from cutset.solvers.published.homogeneous import Homogeneous


@dataclass(frozen=True)
class GreedyJoint:
    """With `best_start`, every device is tried for the first stage; else only the source."""

    best_start: bool = True

    info: ClassVar[StrategyInfo] = StrategyInfo(
        objectives=frozenset({Objective.THROUGHPUT}),
        exact="",
        citation="Parthasarathy and Krishnamachari, arXiv 2210.12219: its joint greedy baseline",
        departs="memory and bytes are the problem's; the capacity is the smallest device's; compute"
        " times, source and sink are ignored, except that starts are compared by the evaluator's"
        " value; links are directed and may be missing",
    )

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        check_objective(problem, self.info.objectives, "greedy_joint")
        setting = Homogeneous(problem, "greedy_joint")
        ends = setting.partition()
        starts = list(range(len(setting.devices)))
        if not self.best_start:
            source = problem.cluster.source
            starts = [setting.devices.index(source) if source in setting.devices else 0]
        paths = [follow(setting.bandwidth_bps, start, len(ends)) for start in starts]
        plans = [setting.plan(ends, path) for path in paths if path is not None]
        if not plans:
            raise setting.failure(
                f"following the best unused link led to a device without a further one before all"
                f" {len(ends)} stages were placed",
                field="links",
                remedy="add links or a default_link, or use another strategy",
            )
        return Proposal(setting.best(plans, budget))


def follow(bandwidth_bps: Floats, start: int, length: int) -> tuple[int, ...] | None:
    """From `start` along the best link to an unused device; of equals to the first."""
    free = np.ones(len(bandwidth_bps), dtype=np.bool_)
    path = [start]
    free[start] = False
    while len(path) < length:
        width = np.where(free, bandwidth_bps[path[-1]], 0.0)
        following = int(np.argmax(width))
        if width[following] <= 0:
            return None
        path.append(following)
        free[following] = False
    return tuple(path)
