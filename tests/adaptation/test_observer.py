import math
from dataclasses import replace

import pytest
from cut_cases import CUTS, EARLY, LATE, LOCAL, STATED, a_cut
from hypothesis import given
from hypothesis import strategies as st

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.observations import (
    Asked,
    Back,
    DeviceRun,
    Lost,
    RoundTrip,
    ServerRun,
    Transfer,
    Truth,
)
from cutset.adaptation.observer import Observer, believed, errors

OBSERVER = Observer(CUTS)


def seen_after(*observations, stated=STATED):
    seen = OBSERVER.start(stated, 0.0)
    for observation in observations:
        seen = OBSERVER.see(seen, observation)
    return seen


def after(*observations, stated=STATED):
    seen = seen_after(*observations, stated=stated)
    return believed(seen, seen.at_s)


def sent(at_s, mbps, *, up=True, count=100_000, **more):
    return Transfer(at_s, up, count, 8 * count / (mbps * 1e6), **more)


def ran(at_s, load, cut=EARLY, **more):
    return ServerRun(at_s, cut, CUTS.cuts[cut].server_s * load, **more)


def test_before_anything_is_seen_what_is_stated_holds():
    assert after() == STATED


@pytest.mark.parametrize("factor", [4, 1 / 4])
def test_every_quantity_follows_a_step_with_the_second_sample(factor):
    steady = [sent(0.1 * i, 20, up=up) for i in range(5) for up in (True, False)]
    steady += [ran(0.5, 8), ran(0.6, 8), ran(0.7, 8), *[DeviceRun(0.7, LOCAL, 0.46)] * 3]
    first, second = [
        [
            sent(at_s, 20 * factor),
            sent(at_s, 20 / factor, up=False),
            ran(at_s, 8 * factor),
            DeviceRun(at_s, LOCAL, 0.46 * factor),
        ]
        for at_s in (1.0, 1.1)
    ]
    before, once, twice = (
        after(*steady),
        after(*steady, *first),
        after(*steady, *first, *second),
    )
    for name in ("up_bps", "down_bps", "load", "slowdown"):
        assert getattr(once, name) == pytest.approx(getattr(before, name))
    assert twice.up_bps == pytest.approx(20e6 * factor)
    assert twice.down_bps == pytest.approx(20e6 / factor)
    assert twice.load == pytest.approx(8 * factor)
    assert twice.slowdown == pytest.approx(2 * factor)


def test_a_queue_is_kept_apart_from_the_load():
    now = after(ran(0.1, 1, queue_s=0.04), ran(0.2, 1, queue_s=0.04))
    assert now.load == pytest.approx(1)
    assert now.queue_s == pytest.approx(0.04)
    assert after(ran(0.1, 1, queue_s=0.04)).queue_s == 0
    assert after(*[ran(0.1, 1)] * 8, ran(0.2, 1, queue_s=5.0)).queue_s == 0


def test_latency_is_half_of_the_least_round_trip():
    now = after(RoundTrip(0.1, 0.030), RoundTrip(0.2, 0.010), RoundTrip(0.3, 0.2))
    assert now.up_latency_s == now.down_latency_s == 0.005


def test_small_transfers_of_requests_show_slowness_only():
    slow = [sent(0.1 * i, 2, count=4000) for i in range(2)]
    fast = [sent(0.5 + 0.1 * i, 500, count=4000) for i in range(9)]
    assert after(*slow).up_bps == pytest.approx(2e6)
    assert after(*slow, fast[0]).up_bps == pytest.approx(2e6)
    assert after(*slow, *fast).up_bps == pytest.approx(20e6)  # as before, and no faster
    looks = [sent(2 + 0.1 * i, 60, count=3000, look=True) for i in range(2)]
    assert after(*slow, *fast, *looks).up_bps == pytest.approx(60e6)


def test_a_small_transfer_is_no_slower_for_what_a_scheduler_adds():
    took_s = 8 * 1000 / 20e6 + 4.9e-3
    assert after(*[Transfer(0.1 * i, True, 1000, took_s) for i in range(9)]).up_bps == 20e6


@pytest.mark.parametrize(("load", "late_s"), [(2.5, 10.6e-3), (4.2, 16.4e-3)])
def test_answers_that_a_loaded_server_sends_late_make_no_link_slow(load, late_s):
    """As seen at 64 Mbit/s: a few bytes each, with two and four processes that compete there."""

    def down_bps(load, up=False):
        answers = [Transfer(1 + 0.1 * i, up, 4000, 8 * 4000 / 20e6 + late_s) for i in range(3)]
        now = after(*[ran(0.1 * i, load) for i in range(9)], *answers)
        return now.up_bps if up else now.down_bps

    assert down_bps(load) == 20e6
    assert down_bps(1) < 5e6
    assert down_bps(load, up=True) < 5e6


def test_transfers_that_teach_nothing_leave_the_link_as_old_as_it_was():
    assert seen_after(sent(3, 500, count=4000)).up_at_s == 0
    assert seen_after(sent(3, 500)).up_at_s == 3
    assert seen_after(sent(3, 500)).down_at_s == 0


def test_an_unfinished_transfer_shows_that_a_link_stalls():
    stalled = [Transfer(at_s, True, 100_000, at_s, unfinished=True) for at_s in (1, 2, 4)]
    assert after(*stalled).up_bps == pytest.approx(8 * 100_000 / 4)


def test_an_unfinished_run_is_a_bound():
    waits = [ServerRun(t, EARLY, 0.0, t, unfinished=True) for t in (0.5, 1.0)]
    assert after(*waits).queue_s == pytest.approx(0.5)
    assert after(*waits).load == 1
    runs = [ServerRun(t, EARLY, t, unfinished=True) for t in (0.6, 1.2)]
    assert after(*runs).load == pytest.approx(1.2 / 0.03)


def test_runs_that_differ_by_less_than_chance_does_are_the_same():
    now = after(*[ServerRun(0.1, LATE, 0.0125)] * 4, *[DeviceRun(0.1, EARLY, 0.0605)] * 4)
    assert now.load == pytest.approx(0.0125 / 0.012)
    tiny = Cuts("pi", "server", (a_cut("tiny", 0.0005, 0.0005, 9000, 10),))
    observer = Observer(tiny)
    seen = observer.start(STATED, 0.0)
    for _ in range(4):
        seen = observer.see(seen, ServerRun(0.1, 0, 0.4))
        seen = observer.see(seen, DeviceRun(0.1, 0, 0.4))
    assert believed(seen, 0.1).load == 1
    assert believed(seen, 0.1).slowdown == 1


def test_short_runs_do_not_overrule_long_ones():
    """Of 4 ms, a few more are chance; many times as many are not."""
    local, early = a_cut("local", 1.2, 0.0, 0, 0), a_cut("early", 4e-3, 4e-3, 9000, 10)
    observer = Observer(Cuts("pi", "server", (local, early)))

    def folded(*observations):
        seen = observer.start(STATED, 0.0)
        for observation in observations:
            seen = observer.see(seen, observation)
        now = believed(seen, seen.at_s)
        return now.slowdown, now.load

    long = [DeviceRun(0.1 * i, 0, 0.9) for i in range(3)]
    both = ((DeviceRun(1 + i, 1, 6e-3), ServerRun(1 + i, 1, 7e-3)) for i in range(9))
    short = [run for runs in both for run in runs]
    slow = [DeviceRun(9.5, 1, 20e-3), ServerRun(9.5, 1, 24e-3)] * 2
    assert folded(*short) == (1.0, 1.0)
    assert folded(*long, *short) == pytest.approx((0.75, 1.0))
    assert folded(*long, *short, *slow) == pytest.approx((5, 6))


def test_the_load_of_a_server_that_is_not_seen_comes_back_to_one_by_itself():
    seen = seen_after(*[ran(1.0, 5, queue_s=0.08)] * 3)
    for at_s, left in ((1.0, 1), (2.9, 1), (3.0, 1), (5.0, 1 / 2), (7.0, 1 / 4)):
        now = believed(seen, at_s)
        assert now.load == pytest.approx(1 + 4 * left)
        assert now.queue_s == pytest.approx(0.08 * left)
    late = believed(seen, 1e9)
    assert (late.load, late.queue_s) == (1, 0)


def test_a_server_that_is_looked_at_rarely_recovers_no_sooner_than_by_a_look():
    """A look of 0.3 s takes the share of five: halves of that, not of two."""
    rare = Observer(Cuts("pi", "server", (a_cut("late", 1, 0.3, 30_000, 4000),)))
    seen = rare.see(rare.start(Conditions(20e6, 20e6, load=5), 0.0), ServerRun(1.0, 0, 1.5))
    for at_s, left in ((6.0, 1), (11.0, 1 / 2), (16.0, 1 / 4)):
        assert believed(seen, at_s).load == pytest.approx(1 + 4 * left)


def test_a_device_that_computed_nothing_for_a_while_recovers_too():
    """One stall must not keep it from ever computing again."""
    seen = seen_after(*[DeviceRun(0.1 * i, LOCAL, 7 * 0.23) for i in range(3)])
    slow = believed(seen, 0.3).slowdown
    assert slow > 5
    assert believed(seen, 2.0).slowdown == pytest.approx(slow)
    assert believed(seen, 0.2 + 4.0).slowdown == pytest.approx(1 + (slow - 1) / 2)
    assert believed(seen, 60.0).slowdown == pytest.approx(1, abs=0.01)
    again = OBSERVER.see(seen, DeviceRun(60.0, LOCAL, 0.23))
    assert believed(again, 60.0).slowdown == pytest.approx(1, abs=0.05)


def test_a_server_faster_than_its_profile_stays_so():
    assert believed(seen_after(*[ran(1.0, 0.5)] * 3), 100).load == pytest.approx(0.5)


def test_what_is_seen_after_a_while_is_compared_with_what_is_believed_by_then():
    seen = seen_after(*[ran(1.0, 5, queue_s=0.08)] * 3)
    seen = OBSERVER.see(seen, ran(30.0, 1))
    assert believed(seen, 30).load == pytest.approx(1, abs=0.01)
    assert believed(seen, 30).queue_s < 1e-3
    seen = OBSERVER.see(seen_after(*[ran(1.0, 5)] * 3), ran(30.0, 5))
    assert believed(seen, 30).load == pytest.approx(1, abs=0.01)
    assert believed(OBSERVER.see(seen, ran(30.1, 5)), 30.1).load == pytest.approx(5)


def test_links_stay_as_they_were_seen():
    seen = seen_after(sent(0.1, 5), sent(0.2, 5))
    assert believed(seen, 1e6).up_bps == pytest.approx(5e6)


def test_lost_and_back():
    assert after(Lost(1.0)).lost
    assert not after(Lost(1.0), Back(2.0)).lost


def test_what_two_threads_tell_in_the_other_order_counts():
    assert after(sent(1.0, 20), Lost(0.9999)).lost
    late = seen_after(sent(5.0, 20), Lost(3.0))
    assert not late.lost
    assert late.ignored == (("backwards in time", 1),)


@pytest.mark.parametrize(
    ("observation", "why"),
    [
        (Transfer(0, True, 1000, -1.0), "negative"),
        (Transfer(0, True, -1, 1.0), "negative"),
        (Transfer(0, True, 1000, math.nan), "not a number"),
        (Transfer(0, True, 1000, math.inf), "not a number"),
        (Transfer(0, True, 1000, 0.0), "no time"),
        (Transfer(0, True, 0, 1.0), "of nothing"),
        (Transfer(0, True, 10**400, 1.0), "beyond all sense"),
        (Transfer(0, True, 10**12, 0.5), "faster than any link"),
        (Transfer(0, True, 1000, 1e7), "beyond all sense"),
        (Transfer(math.nan, True, 1000, 1.0), "not a number"),
        (Transfer(1e300, True, 1000, 1.0), "beyond all sense"),
        (Transfer(-5, True, 1000, 1.0), "backwards in time"),
        (ServerRun(0, 4, 0.1), "unknown cut"),
        (ServerRun(0, -1, 0.1, unfinished=True), "unknown cut"),
        (ServerRun(0, 9, 0.0, unfinished=True), "unknown cut"),
        (ServerRun(0, EARLY, 0.0), "no time"),
        (ServerRun(0, EARLY, 0.1, -1.0), "negative"),
        (ServerRun(0, EARLY, 1e-9), "beyond all sense"),
        (ServerRun(0, EARLY, 1e5), "beyond all sense"),
        (DeviceRun(0, 7, 0.1), "unknown cut"),
        (DeviceRun(0, LOCAL, -0.1), "negative"),
        (RoundTrip(0, -0.1), "negative"),
        (RoundTrip(0, 0), "no time"),
    ],
)
def test_what_cannot_be_is_counted_and_changes_nothing(observation, why):
    seen = seen_after(sent(0.5, 15), ran(0.6, 1.1))
    for _ in range(3):
        assert replace(OBSERVER.see(seen, observation), ignored=()) == seen
    twice = OBSERVER.see(OBSERVER.see(seen, observation), observation)
    assert twice.ignored == ((why, 2),)


def test_stated_conditions_may_be_unknown():
    nothing = Conditions(0, -1, math.nan, -1, 0, math.nan, math.inf)
    assert after(stated=nothing) == Conditions(0, 0)
    assert after(sent(0.1, 7), stated=nothing).up_bps == pytest.approx(7e6)


def test_errors_are_stated_where_there_are_samples():
    known = errors(seen_after(sent(0.1, 19), sent(0.2, 21)))
    assert known["up_bps"] == pytest.approx(0.05, rel=0.05)
    assert known["down_bps"] is known["load"] is known["slowdown"] is None


numbers = st.floats() | st.floats(0, 10) | st.sampled_from([0.0, 1e-320, 1e6, 1e308])
cuts = st.integers(-2, 5) | st.integers()
counts = st.integers() | st.integers(0, 10**6)
anything = st.one_of(
    st.builds(Transfer, numbers, st.booleans(), counts, numbers, st.booleans(), st.booleans()),
    st.builds(ServerRun, numbers, cuts, numbers, numbers, st.booleans(), st.booleans()),
    st.builds(DeviceRun, numbers, cuts, numbers),
    st.builds(RoundTrip, numbers, numbers),
    st.builds(Lost, numbers),
    st.builds(Back, numbers),
    st.builds(Asked, numbers),
    st.builds(Truth, numbers, st.builds(Conditions, numbers, numbers)),
)
stated_anyhow = st.builds(Conditions, *[numbers] * 7)


@given(stated_anyhow, numbers, st.lists(anything, max_size=30), numbers)
def test_whatever_is_observed_conditions_can_be(stated, start_s, observations, at_s):
    seen = OBSERVER.start(stated, start_s)
    for observation in observations:
        seen = OBSERVER.see(seen, observation)
        assert len(seen.ignored) <= 10
    for when_s in (seen.at_s, at_s):
        now = believed(seen, when_s)
        for name in ("up_bps", "down_bps", "up_latency_s", "down_latency_s", "queue_s"):
            assert 0 <= getattr(now, name) < math.inf
        assert 0 < now.load < math.inf
        assert 0 < now.slowdown < math.inf
        values = CUTS.values_s(now)
        assert not any(math.isnan(value) or value < 0 for value in values)
    assert all(e is None or 0 <= e < math.inf for e in errors(seen).values())


@pytest.mark.parametrize("gap_s", [0.5, 2.5, 9.0])
def test_a_step_is_followed_however_long_requests_take(gap_s):
    """What was seen before is old by then; that the first sample was odd is not."""
    times = [gap_s * (i + 1) for i in range(3)]
    runs = [after(*(ran(at_s, 4.5) for at_s in times[:n])).load for n in (1, 2, 3)]
    assert runs == [1.0, pytest.approx(4.5), pytest.approx(4.5)]
    device = [after(*(DeviceRun(at_s, LOCAL, 0.46) for at_s in times[:n])).slowdown for n in (1, 2)]
    assert device[0] == 1.0
    assert device[1] == pytest.approx(2.0)


def test_an_odd_sample_of_long_ago_is_no_half_of_a_step():
    assert after(ran(1.0, 4.5), ran(30.0, 4.5)).load == 1.0
