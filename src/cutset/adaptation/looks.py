"""What a look would be answered while conditions change: for replays, which have no hardware."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from cutset.adaptation.journeys import Course, Part
from cutset.adaptation.observations import Observation, RoundTrip, ServerRun, Transfer
from cutset.adaptation.probing import (
    LOOK_BYTES,
    UNANSWERED_S,
    Action,
    LookDown,
    LookServer,
    LookUp,
    Ping,
)


@dataclass(frozen=True)
class Answer:
    """What `action` shows, all at `at_s`: `bytes` held the link, or nothing the server, for
    `took_s` seconds. `late`: no answer yet, but that it takes longer."""

    action: Action
    at_s: float
    seen: tuple[Observation, ...]
    bytes: int
    took_s: float
    late: bool = False


def answers(
    course: Course, action: Action, at_s: float, noisy: Callable[[float], float]
) -> tuple[Answer, ...]:
    """What is seen of a look that begins at `at_s`, in order of time; nothing where it is never
    answered and shows nothing. `noisy` turns seconds into measured ones."""
    match action:
        case LookUp():
            return _link(course, action, at_s, Part.UP, noisy)
        case LookDown():
            return _link(course, action, at_s, Part.DOWN, noisy)
        case LookServer(cut):
            there_s = course.reached_s(at_s + course.at(at_s).up_latency_s)
            queue_s = course.at(there_s).queue_s
            begun_s = there_s + queue_s
            done_s = course.work_end_s(Part.SERVER, course.cuts.cuts[cut].server_s, begun_s)
            if not math.isfinite(done_s):
                return ()
            took_s, end_s = noisy(done_s - begun_s), done_s + course.at(done_s).down_latency_s
            run = ServerRun(end_s, cut, took_s, noisy(queue_s), look=True)
            return (Answer(action, end_s, (run,), 0, took_s),)
        case Ping():
            there_s = course.reached_s(at_s + course.at(at_s).up_latency_s)
            end_s = there_s + course.at(there_s).down_latency_s
            if not math.isfinite(end_s):
                return ()
            took_s = noisy(end_s - at_s)
            return (Answer(action, end_s, (RoundTrip(end_s, took_s),), 0, took_s),)
    assert_never(action)


def _link(
    course: Course,
    action: Action,
    at_s: float,
    part: Part,
    noisy: Callable[[float], float],
) -> tuple[Answer, ...]:
    """The pair of transfers of a look at a link; the way there and back takes its latency."""
    up, half = part is Part.UP, LOOK_BYTES // 2
    now = course.at(at_s)
    start_s = at_s if up else at_s + now.up_latency_s
    first_s = course.work_end_s(part, 8 * half, start_s)
    second_s = course.work_end_s(part, 8 * half, first_s)
    found = []
    if first_s > at_s + UNANSWERED_S:
        told_s = at_s + UNANSWERED_S
        slow = Transfer(told_s, up, half, told_s - start_s, unfinished=True, look=True)
        found.append(Answer(action, told_s, (slow,), 0, told_s - start_s, late=True))
    if math.isfinite(second_s):
        back = course.at(second_s)
        end_s = second_s + back.down_latency_s + (back.up_latency_s if up else 0.0)
        took_s = (noisy(first_s - start_s), noisy(second_s - first_s))
        seen = tuple(Transfer(end_s, up, half, took, look=True) for took in took_s)
        found.append(Answer(action, end_s, seen, LOOK_BYTES, sum(took_s)))
    return tuple(found)
