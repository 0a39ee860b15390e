"""Requests on their way as observations: durations of one clock, and what is late."""

from __future__ import annotations

import math

import pytest

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cut, Cuts
from cutset.adaptation.observations import FASTEST_BPS, DeviceRun, ServerRun, Transfer
from cutset.adaptation.passages import NO_USE, Passages, Use
from cutset.plan import Plan, Stage


def cut(device_s: float, up: int, server_s: float, down: int) -> Cut:
    uses = server_s > 0
    stages = (Stage("a", "pi", ("x",)),)
    return Cut("c", Plan(stages), device_s, 0.0, up, down, server_s, uses, uses, uses)


CUTS = Cuts("pi", "server", (cut(1.0, 0, 0.0, 0), cut(0.1, 1_000_000, 0.2, 1000)))
BELIEVED = Conditions(8e6, 8e6)  # a second up, 1 ms down


def test_what_is_left_of_a_round_trip_is_the_way_down() -> None:
    passages = Passages(CUTS, overhead_s=0.004)
    passages.began(7, 1, 100.0)
    assert list(passages.ran(7, 1, 0.1, 100.1)) == [DeviceRun(100.1, 1, 0.1)]
    (up,) = passages.sent(7, 1, 1_000_000, 1.004, 101.104)
    assert isinstance(up, Transfer)
    assert (up.up, up.bytes, up.took_s) == (True, 1_000_000, pytest.approx(1.0))
    run, down = passages.arrived(7, 1, 1000, 0.05, 0.2, 101.104 + 0.25 + 0.003)
    assert run == ServerRun(down.at_s, 1, 0.2, 0.05)
    assert isinstance(down, Transfer)
    assert not down.up
    assert down.took_s == pytest.approx(0.001)  # half of the overhead is the way back's
    took_s, told = passages.ended(7, answered=True, believed=BELIEVED, at_s=101.4)
    assert took_s == pytest.approx(1.4)
    assert told == []


@pytest.mark.parametrize(
    ("queue_s", "compute_s"),
    [(-1.0, 0.2), (0.0, -0.2), (math.nan, 0.2), (0.0, math.inf), (0.0, 1e9), (5.0, 5.0)],
)
def test_what_a_server_cannot_have_taken_is_left_out(queue_s: float, compute_s: float) -> None:
    passages = Passages(CUTS)
    passages.began(7, 1, 100.0)
    list(passages.sent(7, 1, 1_000_000, 1.0, 101.1))
    assert list(passages.arrived(7, 1, 1000, queue_s, compute_s, 101.5)) == []


def test_late_answers_of_old_requests_say_nothing() -> None:
    passages = Passages(CUTS)
    passages.began(7, 1, 100.0)
    passages.ended(7, answered=False, believed=BELIEVED, at_s=100.5)
    assert list(passages.arrived(7, 1, 1000, 0.0, 0.1, 102.0)) == []
    assert list(passages.sent(7, 1, 10, 0.1, 102.0)) == []
    assert passages.ended(7, answered=True, believed=BELIEVED, at_s=103.0) == (None, [])
    passages.began(8, 0, 104.0)  # it began again with another cut
    assert list(passages.arrived(8, 1, 1000, 0.0, 0.1, 104.5)) == []


def test_a_link_that_carries_nothing_is_seen_while_the_request_waits() -> None:
    passages = Passages(CUTS)
    passages.began(7, 1, 100.0)
    list(passages.ran(7, 1, 0.1, 100.1))
    assert passages.overdue(BELIEVED, 100.1) == []
    assert passages.overdue(BELIEVED, 103.2) == []  # three times 1.1 s, and 0.05 s
    (late,) = passages.overdue(BELIEVED, 103.5)
    assert isinstance(late, Transfer)
    assert late.unfinished
    assert late.up
    assert late.bytes == 1_000_000
    assert late.took_s == pytest.approx(3.4)
    assert passages.overdue(BELIEVED, 103.6) == []  # told already
    assert len(passages.overdue(BELIEVED, 105.3)) == 1


def test_a_server_that_stands_still_is_seen_while_the_request_waits() -> None:
    passages = Passages(CUTS)
    passages.began(7, 1, 100.0)
    list(passages.sent(7, 1, 1_000_000, 1.0, 101.1))
    assert passages.overdue(BELIEVED, 101.5) == []
    (late,) = passages.overdue(BELIEVED, 101.9)
    assert isinstance(late, ServerRun)
    assert late.unfinished
    assert late.compute_s == pytest.approx(0.8, abs=0.01)


def test_a_request_given_up_counts_as_a_step() -> None:
    passages = Passages(CUTS)
    passages.began(7, 1, 100.0)
    took_s, told = passages.ended(7, answered=False, believed=BELIEVED, at_s=104.0)
    assert took_s == pytest.approx(4.0)
    assert len(told) == 2
    assert all(isinstance(o, Transfer) and o.unfinished for o in told)


def test_requests_of_the_device_alone_are_never_late() -> None:
    passages = Passages(CUTS)
    passages.began(7, 0, 100.0)
    assert passages.use == NO_USE
    assert passages.overdue(BELIEVED, 1000.0) == []


def test_who_waited_as_long_as_the_device_takes_is_stuck() -> None:
    passages = Passages(CUTS)
    passages.began(7, 1, 100.0)
    passages.began(8, 0, 100.0)
    slow = Conditions(0.8e6, 8e6)  # ten seconds up, where the device alone takes one
    assert (
        passages.stuck(
            slow,
            100.9,
        )
        == []
    )
    assert passages.stuck(slow, 101.1) == [7]
    assert passages.stuck(Conditions(80e6, 8e6), 101.1) == []  # it should be here any moment
    list(passages.sent(7, 1, 1_000_000, 1.0, 101.1))
    list(passages.arrived(7, 1, 1000, 0.0, 0.1, 101.3))
    assert passages.stuck(slow, 101.4) == []  # what is left runs here


def test_what_requests_under_way_use() -> None:
    passages = Passages(CUTS)
    assert passages.use == NO_USE
    sizes = [
        (cut.up_bytes >= 8000, cut.down_bytes >= 8000, cut.server_s >= 0.01) for cut in CUTS.cuts
    ]
    passages.began(7, 1, 100.0)
    assert passages.use == Use(True, *sizes[1])
    assert (passages.crossed_bytes(True), passages.crossed_bytes(False)) == (0, 0)
    list(passages.sent(7, 1, 10, 0.1, 100.1))
    list(passages.arrived(7, 1, 11, 0.0, 0.01, 100.2))
    list(passages.arrived(8, 1, 10, 0.0, 0.01, 100.2))  # of an unknown request
    assert (passages.crossed_bytes(True), passages.crossed_bytes(False)) == (10, 11)


def test_no_link_is_faster_than_clocks_can_tell() -> None:
    passages = Passages(CUTS, overhead_s=0.5)
    passages.began(1, 1, 10.0)
    (seen,) = passages.sent(1, 1, 1_000_000, 0.4, 11.0)
    assert isinstance(seen, Transfer)
    assert 8 * seen.bytes / seen.took_s == pytest.approx(FASTEST_BPS)


def several(count: int = 4) -> Passages:
    """So many requests that began at once."""
    passages = Passages(CUTS)
    for request in range(count):
        passages.began(request, 1, 100.0)
    return passages


def test_what_waits_behind_requests_that_get_on_is_not_late() -> None:
    """The device, the link and the server serve one after another; nobody is slower for that."""
    passages = several()
    at_s = 100.0
    for request in range(4):
        at_s += 1.0  # ten times what its own part takes
        list(passages.ran(request, 1, 0.1, at_s))
        assert passages.overdue(BELIEVED, at_s + 0.1) == []
    for request in range(4):
        at_s += 1.0
        list(passages.sent(request, 1, 1_000_000, 1.0, at_s))
        assert passages.overdue(BELIEVED, at_s + 0.1) == []
    for request in range(4):
        at_s += 0.6
        list(passages.arrived(request, 1, 1000, 0.0, 0.2, at_s))
        assert passages.overdue(BELIEVED, at_s + 0.1) == []


@pytest.mark.parametrize("cut", [1, 0])
def test_a_link_that_stalls_is_seen_whatever_the_device_does(cut: int) -> None:
    """Other requests begin, run their own parts and are given up; none crosses the link."""
    passages = several()
    late = []
    for request in range(4):
        list(passages.ran(request, 1, 0.1, 100.1))
    for step in range(1, 60):
        at_s, request = 100.1 + 0.1 * step, 3 + step
        passages.began(request, cut, at_s)
        list(passages.ran(request, cut, 0.1, at_s))
        late += passages.overdue(BELIEVED, at_s)
        if request % 2:
            passages.ended(request, answered=False, believed=BELIEVED, at_s=at_s)
    assert any(t.up and t.unfinished and t.took_s > 3 for t in late)
