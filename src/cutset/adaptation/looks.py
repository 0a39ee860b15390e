"""What a look would be answered while conditions change: for replays, which have no hardware."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from cutset.adaptation.journeys import Course, Part
from cutset.adaptation.live_looks import LOOK_TIMEOUT_S, unanswered
from cutset.adaptation.observations import Observation, RoundTrip, ServerRun, Transfer
from cutset.adaptation.probing import (
    LEAD_BYTES,
    Action,
    LookDown,
    LookServer,
    LookUp,
    Ping,
)


@dataclass(frozen=True)
class Answer:
    """What `action` shows at `at_s`: None of a ping that is lost. It took the link or the server
    `took_s` seconds; `answered` is False where it was given up."""

    action: Action
    at_s: float
    seen: Observation | None
    took_s: float
    answered: bool


def answer(course: Course, action: Action, at_s: float, noisy: Callable[[float], float]) -> Answer:
    """What is seen of a look that begins at `at_s`; `noisy` turns seconds into measured ones."""
    match action:
        case LookUp():
            found = _link(course, action, at_s, Part.UP, noisy)
        case LookDown():
            found = _link(course, action, at_s, Part.DOWN, noisy)
        case LookServer(cut):
            there_s = _there_s(course, at_s)
            queue_s = course.at(there_s).queue_s
            begun_s = there_s + queue_s
            done_s = course.work_end_s(Part.SERVER, course.cuts.cuts[cut].server_s, begun_s)
            end_s = _back_s(course, done_s)
            took_s = noisy(done_s - begun_s) if math.isfinite(done_s) else math.inf
            run = ServerRun(end_s, cut, took_s, noisy(queue_s), look=True)
            found = Answer(action, end_s, run, took_s, True)
        case Ping():
            end_s = _back_s(course, _there_s(course, at_s))
            took_s = noisy(end_s - at_s) if math.isfinite(end_s) else math.inf
            found = Answer(action, end_s, RoundTrip(end_s, took_s), took_s, True)
        case _:
            assert_never(action)
    return found if found.at_s <= at_s + LOOK_TIMEOUT_S else _given_up(action, at_s)


def _link(
    course: Course,
    action: LookUp | LookDown,
    at_s: float,
    part: Part,
    noisy: Callable[[float], float],
) -> Answer:
    """Two transfers right behind one another, of which the second is timed."""
    up = part is Part.UP
    start_s = at_s if up else _there_s(course, at_s)
    first_s = course.work_end_s(part, 8 * LEAD_BYTES, start_s)
    second_s = course.work_end_s(part, 8 * action.bytes, first_s)
    if not math.isfinite(second_s):
        return _given_up(action, at_s)
    arrived_s = second_s + course.at(second_s).up_latency_s if up else second_s
    end_s, took_s = _back_s(course, arrived_s), noisy(second_s - first_s)
    return Answer(action, end_s, Transfer(end_s, up, action.bytes, took_s, look=True), took_s, True)


def _there_s(course: Course, at_s: float) -> float:
    """When a small message that leaves the device then is at the server."""
    leaves_s = course.opens_s(Part.UP, at_s)
    return leaves_s + course.at(leaves_s).up_latency_s


def _back_s(course: Course, at_s: float) -> float:
    """When a small message that leaves the server then is at the device."""
    leaves_s = course.opens_s(Part.DOWN, at_s)
    return leaves_s + course.at(leaves_s).down_latency_s


def _given_up(action: Action, at_s: float) -> Answer:
    end_s = at_s + LOOK_TIMEOUT_S
    return Answer(action, end_s, unanswered(action, end_s, LOOK_TIMEOUT_S), LOOK_TIMEOUT_S, False)
