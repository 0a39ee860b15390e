"""One request through one cut while conditions change: work is integrated over their course.

What is worked off (compute, bits) goes on at whatever holds at each instant, and stands still
while nothing is carried. What is waited for (latencies, the queue) is as it was when the waiting
began. Under steady conditions the whole takes what `Cuts.values_s` says.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from enum import StrEnum

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cut, Cuts
from cutset.adaptation.traces import Trace


class Part(StrEnum):
    """What a request is at. `OTHER` is what neither load nor rate changes."""

    OTHER = "other"
    DEVICE = "device"
    UP = "up"
    UP_LATENCY = "up latency"
    QUEUE = "queue"
    SERVER = "server"
    DOWN = "down"
    DOWN_LATENCY = "down latency"


@dataclass(frozen=True)
class Phase:
    """A part of a request, seconds on the trace's clock; `end_s` is inf where it never ends."""

    part: Part
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Journey:
    """A request by cut `cut` that starts at `start_s`; `end_s` is when its answer is there."""

    cut: int
    start_s: float
    phases: tuple[Phase, ...]

    @property
    def end_s(self) -> float:
        return self.phases[-1].end_s if self.phases else self.start_s


@dataclass(frozen=True)
class Course:
    """A trace, and the cuts that are played over it. What holds last in the trace holds for ever.

    `starts_s` is when each of the trace's moments begins.
    """

    trace: Trace
    cuts: Cuts
    starts_s: tuple[float, ...]

    def at(self, at_s: float) -> Conditions:
        """What holds then, at inf what holds last."""
        return self.trace.moments[self._index(at_s)].conditions

    def until(self, at_s: float) -> float:
        """When what holds at `at_s` ends; inf for the last."""
        index = self._index(at_s) + 1
        return self.starts_s[index] if index < len(self.starts_s) else math.inf

    def work_end_s(self, part: Part, amount: float, start_s: float) -> float:
        """When `amount` (seconds without load, or bits) that is begun at `start_s` is done.

        inf where it never is.
        """
        at_s, left = start_s, amount
        while left > 0 and math.isfinite(at_s):
            speed, end_s = _speed(part, self.at(at_s)), self.until(at_s)
            if math.isinf(speed):
                return at_s
            done_s = at_s + left / speed if speed > 0 else math.inf
            if done_s <= end_s:
                return done_s
            left -= speed * (end_s - at_s)
            at_s = end_s
        return at_s

    def opens_s(self, part: Part, at_s: float) -> float:
        """When a part goes on, from `at_s` on: a link carries, a server is there; inf: never."""
        while math.isfinite(at_s) and _speed(part, self.at(at_s)) <= 0:
            at_s = self.until(at_s)
        return at_s

    def journey(self, index: int, start_s: float) -> Journey:
        """One request by a cut from `start_s` on."""
        phases: list[Phase] = []
        at_s = start_s
        for part, amount in _parts(self.cuts.cuts[index], self.cuts.device):
            end_s = math.inf
            if math.isfinite(at_s):
                if part is Part.QUEUE:
                    reached_s = self.opens_s(Part.SERVER, at_s)
                    end_s = reached_s + self.at(reached_s).queue_s
                elif part in (Part.OTHER, Part.UP_LATENCY, Part.DOWN_LATENCY):
                    end_s = at_s + _wait_s(part, amount, self.at(at_s))
                else:
                    end_s = self.work_end_s(part, amount, at_s)
            phases.append(Phase(part, at_s, end_s))
            at_s = end_s
        return Journey(index, start_s, tuple(phases))

    def best(self, start_s: float) -> Journey:
        """The journey that ends first of all that could start now: what hindsight takes. Of equals
        the first cut's."""
        values_s = self.cuts.values_s(self.at(start_s))
        first = int(values_s.argmin())
        if start_s + values_s[first] <= self.until(start_s):
            # It is done before anything changes, and all others are not.
            return self.journey(first, start_s)
        found = [self.journey(i, start_s) for i in range(len(self.cuts.cuts))]
        return min(found, key=lambda journey: journey.end_s)

    def _index(self, at_s: float) -> int:
        return max(0, bisect_right(self.starts_s, at_s) - 1)


def course_of(trace: Trace, cuts: Cuts) -> Course:
    return Course(trace, cuts, tuple(moment.at_s for moment in trace.moments))


def _parts(cut: Cut, device: str) -> list[tuple[Part, float]]:
    """What a request of the cut goes through, with how much of it, in the order of the stages."""
    own = [(Part.DEVICE, cut.device_s)] if cut.device_s > 0 else []
    there: list[tuple[Part, float]] = []
    if cut.up_used:
        there += [(Part.UP, 8 * cut.up_bytes), (Part.UP_LATENCY, 1.0)]
    if cut.uses_server:
        there += [(Part.QUEUE, 1.0), (Part.SERVER, cut.server_s)]
    if cut.down_used:
        there += [(Part.DOWN, 8 * cut.down_bytes), (Part.DOWN_LATENCY, 1.0)]
    last = bool(cut.plan.stages) and cut.plan.stages[0].device != device
    return [(Part.OTHER, cut.other_s), *(there + own if last else own + there)]


def _speed(part: Part, conditions: Conditions) -> float:
    """Amount a second; 0 where it stands still."""
    if part is not Part.DEVICE and conditions.lost:
        return 0.0
    match part:
        case Part.UP:
            return conditions.up_bps
        case Part.DOWN:
            return conditions.down_bps
        case Part.SERVER:
            return _inverse(conditions.load)
        case _:
            return _inverse(conditions.slowdown)


def _inverse(factor: float) -> float:
    return 1 / factor if factor > 0 else math.inf


def _wait_s(part: Part, amount: float, conditions: Conditions) -> float:
    match part:
        case Part.UP_LATENCY:
            return conditions.up_latency_s
        case Part.DOWN_LATENCY:
            return conditions.down_latency_s
        case _:
            return amount
