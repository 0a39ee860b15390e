"""Every plan of two stages on two devices, as rivals of a plan while a link or load moves.

The cuts are listed once. For each changed problem their lower bounds cost a few array operations,
and only cuts whose bound is below the value to beat are evaluated. Where there are too many cuts
to list, those of the envelope stand for them, the cheapest by their sums first.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np

from cutset.errors import PlanningError
from cutset.plan import Plan
from cutset.problem import Objective, Problem
from cutset.solvers.one_stage import value_of
from cutset.solvers.two_way.cut_table import CutTable, all_cuts
from cutset.solvers.two_way.envelope import Envelope, build_envelope, prices_of
from cutset.solvers.two_way.roles import Floats
from cutset.solvers.two_way.two_stage import Pair, two_stage_plan

#: Relative: a rival is better by more than rounding.
BETTER = 1 - 1e-9

_CUTS_PER_BLOCK = 10_000
_MOST_ROWS = 20_000
_EVALUATED = 24  # cuts for a changed problem, the lowest bounds first
_ORACLE_CALLS = 100  # for blocks with too many cuts to list


@dataclass
class RivalCuts:
    """The plans of two stages on `devices`. Mutable: `complete` becomes False where a cut
    was left out, `evaluations` counts."""

    devices: tuple[str, str]
    table: CutTable | None
    sums: CutSums | None
    complete: bool
    evaluations: int = 0

    @staticmethod
    def of(problem: Problem, device: str, server: str) -> RivalCuts:
        """Those of the source and another device, or of any two."""
        if len(problem.graph.operators) < 2:
            return RivalCuts((device, server), None, None, True)
        table = all_cuts(problem.graph, _CUTS_PER_BLOCK)
        if not table.open_blocks and table.rows <= _MOST_ROWS:
            return RivalCuts((device, server), table, None, True)
        try:
            envelope = build_envelope(problem, server, max_oracle_calls=_ORACLE_CALLS)
        except PlanningError:
            return RivalCuts((device, server), None, None, False)
        return RivalCuts((device, server), None, CutSums.of(problem, envelope), False)

    def better(self, problem: Problem, value_s: float) -> tuple[float, Plan] | None:
        """The best of them and its value where it takes less; the problem has the same graph."""
        best: tuple[float, Plan] | None = None
        first, second = self.devices
        pairs = (Pair(problem, first, second), Pair(problem, second, first))
        open_: list[tuple[float, int, int]] = []
        if self.table is not None:
            for p, pair in enumerate(pairs):
                bounds = pair.bounds(self.table, problem.objective)
                rows = np.flatnonzero(bounds < value_s * BETTER)
                open_ += [(float(bounds[row]), p, int(row)) for row in rows]
        elif self.sums is not None:
            sums = self.sums.values_s(problem)
            order = np.argsort(sums, kind="stable")[:_EVALUATED]
            open_ = [(-math.inf, 0, int(row)) for row in order]
        for done, (bound, p, row) in enumerate(heapq.nsmallest(_EVALUATED + 1, open_)):
            if bound >= value_s * BETTER:
                break
            if done == _EVALUATED:
                self.complete = False
                break
            if self.table is not None:
                plan = pairs[p].plan(self.table.first_part(row))
            else:
                assert self.sums is not None
                plan = self.sums.plan(problem, row)
            found = self._value(problem, plan)
            if found < value_s * BETTER:
                value_s, best = found, (found, plan)
        return best

    def _value(self, problem: Problem, plan: Plan) -> float:
        self.evaluations += 1
        return value_of(problem, plan)


@dataclass(frozen=True)
class CutSums:
    """The cuts of an envelope by what they add up to: a row for each of its split points.

    `rest_s` is what neither compute nor links change; `on_device` says which operators the
    envelope's device runs, the server runs the others.
    """

    envelope: Envelope
    points: tuple[int, ...]
    on_device: Floats
    rest_s: Floats

    @staticmethod
    def of(problem: Problem, envelope: Envelope) -> CutSums:
        points = tuple(i for i, p in enumerate(envelope.points) if p.first != p.second)
        on_device = np.zeros((len(points), len(problem.graph.operators)))
        for row, i in enumerate(points):
            point = envelope.points[i]
            on_device[row, list(point.first_part)] = 1.0
            if point.first != envelope.device:
                on_device[row] = 1.0 - on_device[row]
        fixed = np.array([envelope.points[i].fixed_s for i in points])
        rest = fixed - on_device @ _finite(problem, envelope.device)
        return CutSums(envelope, points, on_device, rest)

    def values_s(self, problem: Problem) -> Floats:
        """Sums of all that a request takes; for throughput, the busiest of devices and links."""
        prices = prices_of(problem, self.envelope)
        legs = self.envelope.matrix[list(self.points)] * prices
        device = self.on_device @ _finite(problem, self.envelope.device)
        server = (1.0 - self.on_device) @ _finite(problem, self.envelope.server)
        if problem.objective is Objective.LATENCY:
            return np.asarray(self.rest_s + device + server + legs[:, [1, 2, 4, 5]].sum(axis=1))
        return np.asarray(np.column_stack((device, server, legs[:, 1], legs[:, 2])).max(axis=1))

    def plan(self, problem: Problem, row: int) -> Plan:
        point = self.envelope.points[self.points[row]]
        return two_stage_plan(problem.graph, point.first, point.second, point.first_part)


def _finite(problem: Problem, device: str) -> Floats:
    """Seconds of each operator, 0 where it cannot run there: none of the cuts has it there."""
    seconds = np.array(problem.compute_s(device), dtype=np.float64)
    return np.where(np.isinf(seconds), 0.0, seconds)
