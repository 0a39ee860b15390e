"""Cycles in records of streams made by hand."""

from __future__ import annotations

from cutset.simulation.events import Record
from cutset.simulation.steady import find_cycle


def record(admitted: list[float], takes: list[float]) -> Record:
    """Requests with one activity that starts a bit later, longer for those that take longer."""
    finished = [begin + time for begin, time in zip(admitted, takes, strict=True)]
    starts = [[begin + time / 2] for begin, time in zip(admitted, takes, strict=True)]
    return Record(admitted, finished, finished, starts)


def test_a_constant_stream_has_a_cycle_of_one() -> None:
    cycle = find_cycle(record([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 6))
    assert cycle is not None
    assert (cycle.requests, cycle.period, cycle.exact) == (1, 1.0, True)


def test_a_cycle_of_two_after_a_warm_up() -> None:
    admitted = [0, 0.5, 1.75, 2.75, 5.75, 6.75, 9.75, 10.75, 13.75, 14.75, 17.75]
    takes = [0.5, 1.25, 1.0, 3.0, 1.0, 3.0, 1.0, 3.0, 1.0, 3.0, 1.0]
    cycle = find_cycle(record([float(t) for t in admitted], takes))
    assert cycle is not None
    assert (cycle.requests, cycle.period, cycle.exact) == (2, 2.0, True)


def test_what_never_recurs_is_measured_in_its_later_half() -> None:
    admitted = [float(n + n % 7 * 0.01 * n) for n in range(40)]
    cycle = find_cycle(record(admitted, [0.1 + n / 1000 for n in range(40)]))
    assert cycle is not None
    assert not cycle.exact
    assert cycle.begin >= admitted[17]
    assert cycle.requests >= 18


def test_requests_that_end_after_the_last_admission_do_not_count() -> None:
    assert find_cycle(record([0.0, 0.0, 0.0], [1.0, 2.0, 3.0])) is None
    assert find_cycle(record([0.0], [1.0])) is None


def test_a_state_is_more_than_the_last_request() -> None:
    """The last two requests do the same, but the one under way beside them does not."""
    admitted = [0.0, 1.0, 2.0, 3.0, 4.0, 9.0]
    cycle = find_cycle(record(admitted, [1.0, 4.0, 1.0, 1.0, 1.0, 1.0]))
    assert cycle is not None
    assert not cycle.exact
