"""Waits at the server and round trips: short memories that one odd measurement does not move."""

from __future__ import annotations

MOST_WAITS = 8
MOST_PINGS = 10
#: Times that differ by less are the same.
SAME_S = 1e-3
#: Two waits in a row that are beyond all before by this factor are a step.
_WAIT_FACTOR = 1.5
#: So many round trips in a row that are longer than the least by this factor are one. A device that
#: computes answers every other one late: two in a row say nothing.
STEP_PINGS = 5
_PING_FACTOR = 1.3


def with_wait(waits: tuple[float, ...], wait_s: float) -> tuple[float, ...]:
    """The last waits (seconds, oldest first) with one more; only the last two after a step.

    A queue that is empty or full by turns is no step: its waits are within those before.
    """
    waits = (*waits, wait_s)[-MOST_WAITS:]
    before, last = waits[:-2], waits[-2:]
    if not before:
        return waits
    if min(last) > _WAIT_FACTOR * max(before) + SAME_S:
        return last
    if _WAIT_FACTOR * max(last) + SAME_S < min(before):
        return last
    return waits


def mean_wait_s(waits: tuple[float, ...]) -> float:
    """The mean, the longest taken as no longer than the second longest; 0 without any."""
    if len(waits) < 2:
        return sum(waits)
    ordered = sorted(waits)
    return (sum(ordered[:-1]) + ordered[-2]) / len(ordered)


def with_ping(pings: tuple[float, ...], took_s: float) -> tuple[float, ...]:
    """The last round trips (seconds, oldest first) with one more; only the last STEP_PINGS after a
    step up. A step down needs no such: the least counts."""
    pings = (*pings, took_s)[-MOST_PINGS:]
    before, last = pings[:-STEP_PINGS], pings[-STEP_PINGS:]
    return last if before and _is_late(min(last), before) else pings


def more_pings(pings: tuple[float, ...]) -> bool:
    """Whether the least of so few says little yet, or the last may be the first of a step up."""
    return len(pings) < STEP_PINGS or _is_late(pings[-1], pings)


def _is_late(took_s: float, pings: tuple[float, ...]) -> bool:
    return took_s > _PING_FACTOR * min(pings) + SAME_S
