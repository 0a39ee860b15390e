"""k-path matching: least-sum partition, transfers in classes, placement by colour coding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cutset.errors import PlanningError, UsageError
from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.arrays import Floats, Ints
from cutset.solvers.one_stage import check_objective
from cutset.solvers.published.colour_coding import ColourCoding
from cutset.solvers.published.homogeneous import Homogeneous


@dataclass(frozen=True)
class Kpath:
    """Transfers fall into `classes` by the bins of a histogram of all candidate points' bytes.

    From the highest class down, maximal runs of transfers of one class, longest first, get the
    devices along the path with the best worst link. At most `most_colourings` are drawn for one
    threshold of one run; runs of more than `longest_run` transfers are placed piece by piece.
    """

    classes: int = 8
    most_colourings: int = 1000
    longest_run: int = 10

    info: ClassVar[StrategyInfo] = StrategyInfo(
        objectives=frozenset({Objective.THROUGHPUT}),
        exact="",
        citation="Parthasarathy and Krishnamachari, Partitioning and Placement of DNNs on"
        " Distributed Edge Devices to Maximize Inference Throughput, arXiv 2210.12219",
        departs="memory and bytes are the problem's; the capacity is the smallest device's; compute"
        " times, source and sink are ignored as in the paper, and scored; links are directed and"
        " may be missing; the ⌊10·e^k⌋ colourings are capped and runs over longest_run are cut;"
        " the subset program covers all ⌊1.3k⌋ colours (the published code's only k of them);"
        " the largest transfer belongs to the highest class (there to none); what one device can"
        " hold goes to the best one (there refused)",
    )

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        check_objective(problem, self.info.objectives, "kpath")
        for name in ("classes", "most_colourings", "longest_run"):
            if getattr(self, name) < 1:
                raise UsageError(
                    "must be at least 1", field=f"strategy.{name}", value=getattr(self, name)
                )
        setting = Homogeneous(problem, "kpath")
        ends = setting.partition()
        if len(ends) == 1:
            alone = (setting.plan(ends, (i,)) for i in range(len(setting.devices)))
            return Proposal(setting.best(alone, budget))
        crossing = setting.points.crossing_bytes
        classes = classify(crossing[1:-1], crossing[list(ends[:-1])], self.classes)
        coding = ColourCoding(
            np.random.default_rng(budget.seed), budget, most_colourings=self.most_colourings
        )
        placed = self._match(setting.bandwidth_bps, classes, coding)
        if -1 in placed and budget.exhausted():
            raise PlanningError(
                f"time was over before kpath had placed all of its {len(placed)} stages",
                field="time_limit_s",
                value=f"{budget.time_limit_s:g} s",
                remedy="give it more time, more classes, or fewer colourings (most_colourings)",
            )
        if -1 in placed:
            raise setting.failure(
                f"no path of free devices was found for stage {placed.index(-1)} of {len(placed)}",
                field="links",
                remedy="try another seed or fewer classes, add links, or use another strategy",
            )
        return Proposal(setting.best([setting.plan(ends, placed)], budget))

    def _match(self, bandwidth_bps: Floats, classes: Ints, coding: ColourCoding) -> list[int]:
        """The device of each stage by its index, −1 where none was found."""
        placed = [-1] * (len(classes) + 1)
        free = np.ones(len(bandwidth_bps), dtype=np.bool_)
        for kind in range(self.classes, 0, -1):
            for begin, end in sorted(runs(classes, kind), key=lambda run: run[0] - run[1]):
                for first in range(begin, end, self.longest_run):
                    last = min(first + self.longest_run, end)
                    pinned = [placed[i] if placed[i] >= 0 else None for i in (first, last)]
                    usable = free.copy()
                    usable[[v for v in pinned if v is not None]] = True
                    width = np.where(np.outer(usable, usable), bandwidth_bps, 0.0)
                    path = coding.widest(width, last - first + 1, *pinned)
                    if path is not None:
                        placed[first : last + 1] = path
                        free[list(path)] = False
        return placed


def classify(candidates: Floats, chosen: Floats, classes: int) -> Ints:
    """The class, 1 to `classes`, of each chosen transfer: its bin in the candidates' histogram."""
    edges = np.histogram_bin_edges(candidates, bins=classes)
    return np.clip(np.digitize(chosen, edges), 1, classes)


def runs(classes: Ints, kind: int) -> list[tuple[int, int]]:
    """Maximal half-open ranges of transfers of one class."""
    marked = np.concatenate(([0], classes == kind, [0])).astype(np.int64)
    edges = np.flatnonzero(np.diff(marked))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
