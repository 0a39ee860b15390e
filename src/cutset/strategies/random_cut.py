"""The random baseline: devices filled near their capacity, cut and placed at random."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import ClassVar

from cutset.errors import UsageError
from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.one_stage import check_objective, value_of
from cutset.solvers.published.candidate_points import CandidatePoints
from cutset.solvers.published.homogeneous import Homogeneous


@dataclass(frozen=True)
class RandomCut:
    """A span ends at a random point where it takes at least `fill` of what the largest span from
    there takes; what is left goes to one device once it fits. Devices are drawn too. A draw that
    cannot run is drawn again, `most_draws` in all.
    """

    fill: float = 0.8
    most_draws: int = 100

    info: ClassVar[StrategyInfo] = StrategyInfo(
        objectives=frozenset({Objective.THROUGHPUT}),
        exact="",
        citation="Parthasarathy and Krishnamachari, arXiv 2210.12219: its random baseline",
        departs="how near the capacity a device is filled is not published: fill is ours, and so is"
        " drawing again; memory is the problem's, the capacity the smallest device's; links may be"
        " missing",
    )

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        check_objective(problem, self.info.objectives, "random_cut")
        if not 0 <= self.fill <= 1:
            raise UsageError("must be 0 to 1", field="strategy.fill", value=self.fill)
        setting = Homogeneous(problem, "random_cut")
        rng = random.Random(f"random_cut {budget.seed}")
        setting.check_blocks()
        for _ in range(self.most_draws):
            if budget.exhausted():
                break
            ends = draw_ends(setting.points, setting.capacity_bytes, self.fill, rng)
            placed = rng.sample(range(len(setting.devices)), len(setting.devices))
            if len(ends) > len(placed):
                continue
            plan = setting.plan(ends, placed[: len(ends)])
            if math.isfinite(value_of(problem, plan)):
                budget.report(plan)
                return Proposal(plan)
        raise setting.failure(
            f"none of {self.most_draws} random plans can run",
            field="devices",
            remedy="add links or devices, state more memory, or use another strategy",
        )


def draw_ends(
    points: CandidatePoints, capacity_bytes: float, fill: float, rng: random.Random
) -> list[int]:
    """Ends of random spans that fit; every part between neighbouring points must fit."""
    memory, ends = points.memory_bytes, [0]
    while ends[-1] < points.last:
        begin = ends[-1]
        reach = points.reach(begin, capacity_bytes)
        least = memory[begin] + fill * (memory[reach] - memory[begin])
        near = [e for e in range(begin + 1, reach + 1) if memory[e] >= least]
        ends.append(reach if reach == points.last else rng.choice(near))
    return ends[1:]
