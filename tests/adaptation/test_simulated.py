"""Traces played by simulated time: closed forms, what is seen, what stalls and ends."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cut, Cuts
from cutset.adaptation.journeys import Part, course_of
from cutset.adaptation.observations import (
    Asked,
    Back,
    DeviceRun,
    Lost,
    Observation,
    ServerRun,
    Transfer,
    Truth,
)
from cutset.adaptation.policies import LoadAware, by_name
from cutset.adaptation.policy import Decision
from cutset.adaptation.simulated import Played, Setting, play
from cutset.adaptation.traces import Moment, Trace
from cutset.errors import UsageError
from cutset.plan import Plan, Stage

STEADY = Conditions(10e6, 20e6, 0.003, 0.002, load=2.0, queue_s=0.004, slowdown=1.5)


def cut(name: str, device_s: float, up: float, server_s: float, down: float) -> Cut:
    stages = [Stage("s0", "pi", ("a",))] if device_s else []
    stages += [Stage("s1", "server", ("b",))] if server_s else []
    uses = server_s > 0
    return Cut(name, Plan(tuple(stages)), device_s, 0.001, up, down, server_s, uses, uses, uses)


CUTS = Cuts(
    "pi",
    "server",
    (
        cut("all", 0.0, 60_000, 0.010, 4000),
        cut("half", 0.040, 10_000, 0.005, 4000),
        cut("local", 0.120, 0, 0.0, 0),
    ),
)


def trace(*pieces: tuple[float, Conditions], until: float = 10.0) -> Trace:
    return Trace("test", tuple(Moment(at, c) for at, c in pieces), until)


@dataclass(frozen=True)
class Follow:
    """Keeps what it is told, takes `cut`, or local while the server is lost."""

    cut: int | None
    name: str = "follow"

    def start(self, cuts: Cuts, stated: Conditions, at_s: float) -> tuple[Observation, ...]:
        return ()

    def step(
        self, state: tuple[Observation, ...], observation: Observation
    ) -> tuple[tuple[Observation, ...], Decision]:
        LOG.append(observation)
        state = (*state[-400:], observation)
        lost = [isinstance(o, Lost) for o in state if isinstance(o, Lost | Back)]
        if self.cut is None:
            truth = [o.conditions for o in state if isinstance(o, Truth)]
            return state, Decision(CUTS.best(truth[-1]) if truth else 0, "", STEADY)
        return state, Decision(2 if lost and lost[-1] else self.cut, "told", STEADY)


LOG: list[Observation] = []


@dataclass(frozen=True)
class Stubborn:
    """Takes one cut, whatever happens."""

    cut: int
    name: str = "stubborn"

    def start(self, cuts: Cuts, stated: Conditions, at_s: float) -> None:
        return None

    def step(self, state: None, observation: Observation) -> tuple[None, Decision]:
        LOG.append(observation)
        return None, Decision(self.cut, "", STEADY)


@pytest.fixture(autouse=True)
def empty_log() -> None:
    LOG.clear()


def same(values: Iterable[float]) -> float:
    """The one value that all are."""
    listed = list(values)
    assert listed == pytest.approx([listed[0]] * len(listed))
    return listed[0]


def seen(kind: type) -> list:
    return [o for o in LOG if isinstance(o, kind)]


@pytest.mark.parametrize("index", range(3))
def test_steady_conditions_cost_the_closed_form(index: int) -> None:
    played = play(trace((0.0, STEADY)), CUTS, Stubborn(index), Setting())
    values = CUTS.values_s(STEADY)
    assert [r.latency_s for r in played.requests] == pytest.approx(
        [values[index]] * math.ceil(10 / values[index]), rel=1e-9
    )
    assert same(r.best_s for r in played.requests) == pytest.approx(values.min())
    assert not played.switches


def test_what_is_seen_is_what_a_run_shows() -> None:
    play(trace((0.0, STEADY), until=0.01), CUTS, Stubborn(1), Setting())
    up, down = seen(Transfer)
    assert (up.up, up.bytes, up.took_s) == (True, 10_000, pytest.approx(0.008))
    assert (down.up, down.bytes, down.took_s) == (False, 4000, pytest.approx(0.0016))
    [ran], [own] = seen(ServerRun), seen(DeviceRun)
    assert (ran.compute_s, ran.queue_s) == (pytest.approx(0.010), pytest.approx(0.004))
    assert (own.cut, own.compute_s) == (1, pytest.approx(0.060))
    assert [o.at_s for o in LOG] == sorted(o.at_s for o in LOG)


def test_bits_are_carried_at_the_rate_of_each_instant() -> None:
    slow = replace(STEADY, up_bps=1e6)
    course = course_of(trace((0.0, STEADY), (0.021, slow)), CUTS)
    # 1 ms other, then 480 kbit: 200 of them in 20 ms at 10 Mbit/s, 280 at 1 Mbit/s
    assert course.work_end_s(Part.UP, 480e3, 0.001) == pytest.approx(0.021 + 0.280)
    phases = {p.part: p for p in course.journey(0, 0.0).phases}
    assert phases[Part.UP].end_s == pytest.approx(0.021 + 0.280)


def test_a_stall_ends_when_the_rate_comes_back() -> None:
    gone = replace(STEADY, up_bps=0.0)
    pieces = trace((0.0, gone), (2.0, STEADY), until=2.1)
    played = play(pieces, CUTS, Stubborn(0), Setting(), STEADY)
    first, second = played.requests[:2]
    value = CUTS.values_s(STEADY)[0]
    # all but the 1 ms before the transfer comes after the stall
    assert first.latency_s == pytest.approx(2.0 + value - 0.001)
    assert second.latency_s == pytest.approx(value)
    # what is late is told while it stalls, by a watch of 50 ms, more and more rarely
    late = [o.took_s for o in seen(Transfer) if o.unfinished]
    expected_s = 8 * 60_000 / 10e6
    assert 0 <= late[0] + 0.003 - (3 * expected_s + 0.05) <= 0.05 + 1e-9
    assert all(b >= 1.5 * a for a, b in pairwise(late))
    assert late[-1] < 2.0


def test_a_rate_that_never_comes_back_leaves_one_request_unanswered() -> None:
    gone = replace(STEADY, down_bps=0.0)
    played = play(trace((0.0, gone)), CUTS, Stubborn(0), Setting())
    [request] = played.requests
    assert not request.answered
    assert request.best_s == pytest.approx(CUTS.values_s(STEADY)[2])  # the device alone


def test_fallback_answers_before_the_deadline() -> None:
    gone = replace(STEADY, up_bps=0.0)
    setting = Setting(deadline_s=0.5, fallback=True)
    played = play(trace((0.0, gone), until=5.0), CUTS, Stubborn(0), setting)
    local_s = 0.120 * 1.5 + 0.001
    early_s = 1.5 * local_s + 0.1
    assert all(r.fallback for r in played.requests)
    assert same(r.latency_s for r in played.requests) == pytest.approx(0.5 - early_s + local_s)
    # the transfer that is given up shows that the link is slow
    assert all(o.unfinished for o in seen(Transfer))


def test_a_deadline_without_fallback_fails_requests_and_goes_on() -> None:
    gone = replace(STEADY, up_bps=0.0)
    played = play(trace((0.0, gone), until=5.0), CUTS, Stubborn(0), Setting(deadline_s=0.5))
    assert [r.at_s for r in played.requests] == pytest.approx([0.5 * i for i in range(10)])
    assert not any(r.answered for r in played.requests)


def test_a_lost_server_is_seen_late_and_its_request_sent_again() -> None:
    lost = replace(STEADY, lost=True)
    pieces = trace((0.0, STEADY), (2.0, lost), (6.0, STEADY))
    played = play(pieces, CUTS, Follow(1), Setting(detection_s=0.7))
    [off] = [r for r in played.requests if r.at_s <= 2.0 < r.at_s + r.latency_s]
    local_s = CUTS.values_s(STEADY)[2]
    assert off.cut == 2
    assert off.at_s + off.latency_s == pytest.approx(2.7 + local_s)
    assert [(s.before, s.after) for s in played.switches] == [(1, 2), (2, 1)]
    assert played.switches[0].at_s == pytest.approx(2.7)
    assert 6.7 <= played.switches[1].at_s < 6.7 + local_s
    assert all(r.answered for r in played.requests)


def test_an_outage_that_is_over_before_it_is_seen_is_not_told() -> None:
    lost = replace(STEADY, lost=True)
    pieces = trace((0.0, STEADY), (2.0, lost), (2.3, STEADY))
    played = play(pieces, CUTS, Follow(1), Setting(detection_s=0.7))
    assert not seen(Lost)
    assert not played.switches
    assert max(r.latency_s for r in played.requests) == pytest.approx(
        0.3 + CUTS.values_s(STEADY)[1], abs=0.05
    )


def test_requests_keep_their_distance() -> None:
    played = play(trace((0.0, STEADY)), CUTS, Stubborn(1), Setting(interval_s=1.0))
    assert [r.at_s for r in played.requests] == pytest.approx(list(range(10)))


def test_noise_is_in_what_is_measured_and_the_same_for_a_seed() -> None:
    def took(noise: float, seed: int) -> tuple[Played, list[float]]:
        LOG.clear()
        found = play(trace((0.0, STEADY)), CUTS, Stubborn(1), Setting(noise=noise, seed=seed))
        return found, [o.took_s for o in seen(Transfer)]

    plain, exact = took(0.0, 1)
    noisy, measured = took(0.3, 1)
    assert noisy.requests == plain.requests
    assert measured != exact
    assert took(0.3, 1)[1] == measured
    assert took(0.3, 2)[1] != measured


def test_too_many_requests_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutset.adaptation.simulated.MOST_REQUESTS", 5)
    with pytest.raises(UsageError, match="more than 5 requests"):
        play(trace((0.0, STEADY)), CUTS, Stubborn(1), Setting())


rates = st.sampled_from((0.0, 3e5, 2e6, 1e7, 8e7))
conditions = st.builds(
    Conditions,
    rates,
    rates,
    st.sampled_from((0.0, 0.01)),
    st.sampled_from((0.0, 0.01)),
    st.sampled_from((1.0, 3.0, 8.0)),
    st.sampled_from((0.0, 0.05)),
    st.sampled_from((1.0, 2.0)),
    st.booleans(),
)
traces = st.lists(st.tuples(st.floats(0.01, 1.5), conditions), min_size=1, max_size=6).map(
    lambda pieces: trace(
        *((sum(d for d, _ in pieces[:i]), c) for i, (_, c) in enumerate(pieces)),
        until=sum(d for d, _ in pieces),
    )
)


@given(traces, st.sampled_from((0, 1, 2)), st.sampled_from((None, 0.3, 1.0)), st.booleans())
def test_nothing_beats_hindsight(
    pieces: Trace, index: int, deadline_s: float | None, fallback: bool
) -> None:
    setting = Setting(deadline_s=deadline_s, fallback=fallback)
    for policy in (Stubborn(index), Follow(index), Follow(None)):
        LOG.clear()
        played = play(pieces, CUTS, policy, setting)
        assert all(r.latency_s >= r.best_s * (1 - 1e-9) for r in played.requests)
        if deadline_s is not None:
            assert all(r.latency_s <= deadline_s + 1e-9 for r in played.requests if r.answered)
        assert [o.at_s for o in LOG] == sorted(o.at_s for o in LOG)
        assert all(b.at_s >= a.at_s for a, b in pairwise(played.requests))
    best = play(pieces, CUTS, Follow(None), replace(setting, foresight=True, fallback=False))
    assert all(r.latency_s == r.best_s for r in best.requests if r.answered)


@given(traces, st.floats(0.0, 5.0))
def test_the_best_is_the_best_of_all_tried(pieces: Trace, at_s: float) -> None:
    course = course_of(pieces, CUTS)
    ends = [course.journey(i, at_s).end_s for i in range(3)]
    assert course.best(at_s).end_s == pytest.approx(min(ends))
    for i, end_s in enumerate(ends):
        for later_s in (0.0, 0.2):
            if course.at(at_s) == course.at(end_s) and len(pieces.moments) == 1:
                assert course.journey(i, at_s + later_s).end_s == pytest.approx(end_s + later_s)


def test_asked_comes_before_every_request() -> None:
    played = play(trace((0.0, STEADY)), CUTS, Stubborn(1), Setting())
    assert [o.at_s for o in seen(Asked)] == [r.at_s for r in played.requests]


def test_looks_find_out_that_the_link_is_back() -> None:
    slow = replace(STEADY, up_bps=1e6, down_bps=1e6, slowdown=1.0)
    fast = replace(slow, up_bps=60e6, down_bps=60e6, load=1.0, queue_s=0.0)
    pieces = trace((0.0, slow), (5.0, fast), until=15.0)
    played = play(pieces, CUTS, LoadAware(), Setting(interval_s=0.2))
    blind = play(pieces, CUTS, LoadAware(), Setting(interval_s=0.2, looks=False))
    assert played.requests[0].cut == 2
    assert played.requests[-1].cut == CUTS.best(fast) != 2
    assert blind.requests[-1].cut == 2
    assert played.looked_up_bytes > 0
    # no more than a hundredth of what the link could have carried, and the first looks
    assert 8 * played.looked_up_bytes <= 0.01 * (5 * 1e6 + 10 * 60e6) + 3 * 8 * 6000
    assert (blind.looked_up_bytes, blind.looked_down_bytes, blind.looked_server_s) == (0, 0, 0.0)


@pytest.mark.parametrize("name", ["load-aware", "load-oblivious", "local", "cut:0", "oracle"])
def test_policies_of_every_name_are_played(name: str) -> None:
    """Through a rate of 0 at the start, a lost server and a loaded one."""
    pieces = trace(
        (0.0, replace(STEADY, up_bps=0.0)),
        (1.0, STEADY),
        (3.0, replace(STEADY, lost=True)),
        (6.0, replace(STEADY, load=8.0)),
    )
    setting = Setting(noise=0.1, interval_s=0.05, deadline_s=0.6, fallback=True)
    played = play(pieces, CUTS, by_name(name, CUTS), setting, STEADY)
    assert all(r.answered for r in played.requests)
    assert all(r.latency_s >= r.best_s * (1 - 1e-9) for r in played.requests)
    assert played.requests[-1].at_s > 9.0


def test_what_is_far_too_long_is_refused_at_once() -> None:
    """Not after a minute in which 200 000 requests are played."""
    long = Trace("long", (Moment(0.0, STEADY),), 1e9)
    with pytest.raises(UsageError, match="requests in 1e\\+09 s"):
        play(long, CUTS, LoadAware(), Setting(), progress=lambda at_s: pytest.fail("it is played"))


def test_a_request_on_a_dead_link_begins_anew_on_the_device() -> None:
    """As a live session does: having waited as long as that takes, no deadline needed."""
    steady = replace(STEADY, load=1.0, slowdown=1.0)
    dead = replace(steady, up_bps=0.0)
    played = play(trace((0.0, steady), (3.0, dead), until=8.0), CUTS, LoadAware(), Setting())
    assert all(request.answered for request in played.requests)
    caught = next(r for r in played.requests if r.at_s <= 3.0 < r.at_s + r.latency_s)
    assert caught.cut == 2
    assert caught.latency_s <= 0.6  # late three times what is believed, told twice
    (switch,) = played.switches
    assert switch.after == 2
    assert switch.reason.startswith("bandwidth up 10 ")
    offload = play(
        trace((0.0, steady), (3.0, dead), until=8.0), CUTS, by_name("offload", CUTS), Setting()
    )
    assert not offload.requests[-1].answered
