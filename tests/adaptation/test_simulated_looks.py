"""Looks over changing conditions: what they show, and when they are given up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cut, Cuts
from cutset.adaptation.journeys import course_of
from cutset.adaptation.live_looks import LOOK_TIMEOUT_S
from cutset.adaptation.looks import Answer, answer
from cutset.adaptation.observations import RoundTrip, ServerRun, Transfer
from cutset.adaptation.probing import Action, LookDown, LookServer, LookUp, Ping
from cutset.adaptation.traces import Moment, Trace
from cutset.plan import Plan

HELD = Conditions(1e6, 2e6, 0.01, 0.02, load=3.0, queue_s=0.1)
CUTS = Cuts("pi", "server", (Cut("all", Plan(()), 0, 0, 1, 1, 0.05, True, True, True),))
LINK_S = 8 * 3000 / 1e6


def looked(action: Action, *held: tuple[float, Conditions], factor: float = 1.0) -> Answer:
    trace = Trace("t", tuple(Moment(at_s, conditions) for at_s, conditions in held), 60.0)
    return answer(course_of(trace, CUTS), action, 1.0, lambda seconds: factor * seconds)


def test_a_look_at_a_link_times_the_second_transfer() -> None:
    up = looked(LookUp(), (0.0, HELD))
    assert up.at_s == pytest.approx(1.0 + 2 * LINK_S + 0.03)
    assert up.seen == Transfer(up.at_s, True, 3000, pytest.approx(LINK_S), look=True)
    down = looked(LookDown(), (0.0, HELD), factor=1.5)
    assert down.at_s == pytest.approx(1.0 + LINK_S + 0.03)
    assert down.seen == Transfer(down.at_s, False, 3000, pytest.approx(1.5 * LINK_S / 2), look=True)


def test_a_look_at_the_server_shows_load_and_queue() -> None:
    found = looked(LookServer(0), (0.0, HELD))
    assert found.at_s == pytest.approx(1.0 + 0.03 + 0.1 + 0.15)
    assert found.seen == ServerRun(
        found.at_s, 0, pytest.approx(0.15), pytest.approx(0.1), look=True
    )
    assert (found.took_s, found.answered) == (pytest.approx(0.15), True)


def test_a_ping_takes_the_latencies() -> None:
    found = looked(Ping(), (0.0, HELD))
    assert found.seen == RoundTrip(pytest.approx(1.03), pytest.approx(0.03))


@pytest.mark.parametrize("action", [LookUp(), LookDown(), LookServer(0), Ping()])
@pytest.mark.parametrize(
    "gone", [replace(HELD, lost=True), replace(HELD, up_bps=0.0), replace(HELD, down_bps=0.0)]
)
def test_what_finds_no_answer_is_given_up(action: Action, gone: Conditions) -> None:
    never = looked(action, (0.0, gone))
    assert (never.at_s, never.answered) == (1.0 + LOOK_TIMEOUT_S, False)
    assert (never.seen is None) == (action == Ping())
    assert never.seen is None or never.seen.unfinished
    # what is back in time is answered late
    late = looked(action, (0.0, gone), (2.0, HELD))
    assert late.answered
    assert 2.0 <= late.at_s < 2.5
