"""When links and server are looked at, and what that takes."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from cut_cases import CUTS, LATE, LOCAL, OFFLOAD, STATED, a_cut
from hypothesis import given
from hypothesis import strategies as st
from probing_cases import OBSERVER, SLOW_LOOK, answered, idle, seen_from, times

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.observations import Lost, RoundTrip, ServerRun, Transfer
from cutset.adaptation.observer import Observer, believed
from cutset.adaptation.passages import NO_USE, Use
from cutset.adaptation.probing import (
    KEPT_BYTES,
    KEPT_S,
    LEAD_BYTES,
    LINK_SHARE,
    LookDown,
    LookServer,
    LookUp,
    Ping,
    look_bytes,
    looked,
    next_action,
    share,
    start,
    when_next,
)
from cutset.adaptation.server_looks import SERVER_SHARE, server_look


@pytest.mark.parametrize("mbps", [0.5, 2, 5, 20, 100, 1000])
def test_looks_take_at_most_a_hundredth_of_a_link(mbps):
    truth = Conditions(mbps * 1e6, mbps * 1e6)
    _, state, _ = idle(lambda at_s: truth, 40, stated=truth)
    # The last look's time is not over at the end, so that there may be one more.
    for sent in (state.up_bytes, state.down_bytes):
        assert sent > 0
        last = max(SLOW_LOOK, sent / 100)  # of 40 s, a look each 0.4 s at most
        assert share(sent - last, mbps * 1e6, 40) <= 0.01


def test_an_unused_allowance_is_kept_for_when_the_link_is_slow():
    """Traffic showed a fast link for long; then none shows the slow one, nor its recovery."""
    fast, slow = Conditions(16e6, 16e6), Conditions(1e6, 1e6)
    state, seen = start(0.0), replace(seen_from(fast), load_at_s=1e9, ping_at_s=1e9)
    looks = []
    for i in range(12000):
        at_s = i / 100
        if at_s < 30:
            seen = replace(seen, up_at_s=at_s, down_at_s=at_s)
        state, action = next_action(state, seen, CUTS, at_s)
        if action is not None:
            state, seen = answered(state, seen, action, at_s, slow)
            looks.append((at_s, action))
    for kind in (LookUp, LookDown):
        gaps = [b - a for a, b in pairwise(times(looks, kind))]
        kept = [gap for gap in gaps[2:] if gap <= 0.65]
        assert len(kept) >= 0.9 * KEPT_BYTES / SLOW_LOOK
        assert gaps[-3:] == pytest.approx([5.33] * 3, abs=0.1)
    earned = LINK_SHARE / 8 * (30 * 16e6 + 90 * 1e6)
    assert max(state.up_bytes, state.down_bytes) <= earned


def test_looks_are_as_frequent_as_is_useful():
    actions, _, _ = idle(lambda at_s: Conditions(1e9, 1e9), 4, stated=Conditions(1e9, 1e9))
    for kind in (LookUp, LookDown):
        gaps = [b - a for a, b in pairwise(times(actions, kind))]
        assert len(gaps) >= 7
        assert min(gaps) >= 0.4 - 1e-9
    pings = times(actions, Ping)  # five, until their least says something, then one a second
    assert pings == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 1.5, 2.5, 3.5], abs=0.05)


def test_traffic_makes_looks_needless():
    state, seen = start(0.0), seen_from()
    for i in range(1, 100):
        at_s = i / 10
        for up in (True, False):
            seen = OBSERVER.see(seen, Transfer(at_s, up, 100_000, 0.04))
        seen = OBSERVER.see(seen, ServerRun(at_s, OFFLOAD, 0.05))
        seen = OBSERVER.see(seen, RoundTrip(at_s, 0.004))
        state, action = next_action(state, seen, CUTS, at_s + 0.05)
        assert action is None
    assert (state.up_bytes, state.down_bytes, state.server_s) == (0, 0, 0)


def test_short_runs_that_show_no_load_do_not_replace_looks():
    """Where each request runs 0.3 ms there, the queue is seen, and load was never learnt again."""
    short = Cuts("pi", "server", (*CUTS.cuts, a_cut("short", 0.1, 0.0003, 2000, 4000)))
    state, seen = start(0.0), Observer(short).start(STATED, 0.0)
    seen = replace(seen, up_at_s=1e9, down_at_s=1e9, ping_at_s=1e9)
    for i in range(300):
        at_s = i / 100
        if i % 20 == 0:
            seen = Observer(short).see(seen, ServerRun(at_s, len(CUTS.cuts), 0.0003, 0.001))
        state, action = next_action(state, seen, short, at_s)
        if action is not None:
            assert isinstance(action, LookServer)
            state, seen = answered(state, seen, action, at_s, replace(STATED, load=5), short)
    assert believed(seen, 3.0).load == pytest.approx(5)
    assert believed(seen, 3.0).queue_s > 0


def test_small_transfers_that_show_nothing_do_not_replace_looks():
    state, seen = start(0.0), seen_from()
    seen = OBSERVER.see(seen, Transfer(5.0, True, 1000, 1e-5))
    seen = OBSERVER.see(seen, Transfer(5.0, False, 100_000, 0.04))
    seen = OBSERVER.see(OBSERVER.see(seen, ServerRun(5.0, OFFLOAD, 0.05)), RoundTrip(5.0, 0.004))
    assert isinstance(next_action(state, seen, CUTS, 5.1)[1], LookUp)


def test_what_requests_fill_is_left_alone():
    actions, state, _ = idle(lambda at_s: STATED, 5, use=Use(True, True, True, False))
    assert {type(action) for _, action in actions} == {LookServer}
    assert (state.up_bytes, state.down_bytes) == (0, 0)


def test_the_way_of_small_answers_is_looked_at_between_them():
    """They show slowness only: what was believed of it once would be believed for ever."""
    truth = Conditions(20e6, 20e6)
    actions, state, seen = idle(
        lambda at_s: truth, 9, stated=replace(truth, down_bps=1e6), use=Use(True, True, False, True)
    )
    assert {type(action) for _, action in actions} == {LookDown}
    assert state.up_bytes == 0
    assert believed(seen, 9).down_bps == pytest.approx(20e6)
    gaps = [b - a for a, b in pairwise(times(actions, LookDown))]
    assert gaps[-5:] == pytest.approx([0.6] * 5, abs=0.02)


def test_what_no_cut_uses_is_not_looked_at():
    alone = Cuts("pi", "server", (CUTS.cuts[LOCAL],))
    assert idle(lambda at_s: STATED, 3, cuts=alone)[0] == []
    one_way = Cuts("pi", "server", (replace(CUTS.cuts[OFFLOAD], down_used=False),))
    kinds = {type(action) for _, action in idle(lambda at_s: STATED, 3, cuts=one_way)[0]}
    assert kinds == {LookUp, LookServer, Ping}


def test_the_server_runs_the_cheapest_segment_that_shows_its_load():
    assert server_look(CUTS) == LATE
    small = tuple(a_cut(str(s), 0.1, s, 9, 9) for s in (0.0015, 0.004, 0.002))
    assert server_look(Cuts("pi", "server", small)) == 1
    assert server_look(Cuts("pi", "server", small[:1])) == 0
    assert server_look(Cuts("pi", "server", (a_cut("tiny", 0.1, 0.0005, 9, 9),))) is None
    assert server_look(Cuts("pi", "server", (CUTS.cuts[LOCAL],))) is None


def test_looks_at_the_server_take_at_most_a_share_of_what_it_computes():
    """Under load too: others that compute there delay a look, they do not make it dearer."""
    for load in (1.0, 6.0, 40.0):
        holds = Conditions(1e9, 1e9, load=load)
        actions, state, _ = idle(lambda at_s, holds=holds: holds, 60, stated=holds)
        looks = times(actions, LookServer)
        assert state.server_s == pytest.approx(len(looks) * 0.012 * load)
        assert 0.012 * (len(looks) - 1) <= SERVER_SHARE * 60 + KEPT_S
        assert min(b - a for a, b in pairwise(looks)) >= 0.4 - 1e-9


def test_looks_that_nobody_answers_get_rarer():
    only_up = replace(CUTS.cuts[OFFLOAD], down_used=False, server_s=0.0)
    cuts = Cuts("pi", "server", (only_up,))
    state, seen = start(0.0), seen_from()
    sent = []
    for i in range(6000):
        state, action = next_action(state, seen, cuts, i / 100)
        if isinstance(action, LookUp):
            sent.append(i / 100)
        elif action is not None:
            state = looked(state, action, i / 100, 0, 0.0)
            seen = OBSERVER.see(seen, RoundTrip(i / 100, 0.004))
    gaps = [b - a for a, b in pairwise(sent)]
    assert gaps[:2] == pytest.approx([3, 4], abs=0.1)
    assert gaps[2:] == pytest.approx([6] * len(gaps[2:]), abs=0.1)
    late = looked(state, LookUp(), 60.0, LEAD_BYTES, 0.1)
    assert late.up.unanswered == 0
    assert late.pending is None


def test_one_look_at_a_time():
    state, action = next_action(start(0.0), seen_from(), CUTS, 5.0)
    assert action is not None
    assert next_action(state, seen_from(), CUTS, 6.9)[1] is None
    assert when_next(state, seen_from(), CUTS, 6.5) == pytest.approx(0.5)
    assert next_action(state, seen_from(), CUTS, 7.0)[1] is not None


def test_a_lost_server_is_not_looked_at():
    seen = OBSERVER.see(seen_from(), Lost(1.0))
    assert next_action(start(0.0), seen, CUTS, 9.0)[1] is None
    assert when_next(start(0.0), seen, CUTS, 9.0) == 1.0


def test_an_unknown_link_is_looked_at():
    nothing = Conditions(0, 0)
    actions, _, seen = idle(lambda at_s: Conditions(5e6, 5e6), 3, stated=nothing)
    assert times(actions, LookUp)[0] <= 0.45
    assert believed(seen, 3).up_bps == pytest.approx(5e6)


def test_bytes_beyond_the_planned_ones_count_and_are_waited_for():
    state = replace(start(0.0), server=start(1e9).server)
    seen = replace(seen_from(), load_at_s=1e9, ping_at_s=1e9)
    state, action = next_action(state, seen, CUTS, 0.5)
    assert isinstance(action, LookUp)
    size = look_bytes(action)
    plain = looked(state, action, 0.6, size, 0.01)
    more = looked(state, action, 0.6, 2 * size, 0.01)
    assert more.up_bytes == 2 * plain.up_bytes == 2 * size
    assert plain.up.allowance.left - more.up.allowance.left == size


def test_share_of_nothing():
    assert share(6000, 0, 1) == share(6000, 1e6, 0) == 0
    assert share(6000, 4.8e6, 1) == 0.01


kinds = st.sampled_from([LookUp(), LookDown(), LookServer(LATE), Ping()])
events = st.lists(
    st.tuples(
        st.floats(0, 3),
        st.sampled_from(["ask", "busy", "answer", "slow", "fast", "run", "lost"]),
        kinds,
        st.floats(),
    ),
    max_size=40,
)


@given(events)
def test_it_is_pure_bounded_and_wakes_when_something_is_due(steps):
    state, seen, at_s = start(0.0), seen_from(), 0.0
    for after_s, what, action, number in steps:
        at_s += after_s
        if what == "answer":
            state = looked(state, action, at_s, LEAD_BYTES, number)
        elif what in ("slow", "fast"):
            took_s = 8.0 if what == "slow" else 0.004
            seen = OBSERVER.see(seen, Transfer(at_s, True, 100_000, took_s))
        elif what == "run":
            seen = OBSERVER.see(seen, ServerRun(at_s, OFFLOAD, number))
        elif what == "lost":
            seen = OBSERVER.see(seen, Lost(at_s))
        else:
            busy = Use(True, True, True, False) if what == "busy" else NO_USE
            wait_s = when_next(state, seen, CUTS, at_s, busy)
            assert 0 <= wait_s <= 2
            after, taken = next_action(state, seen, CUTS, at_s, busy)
            assert next_action(state, seen, CUTS, at_s, busy) == (after, taken)
            assert taken is None or wait_s == 0
            if taken is None and wait_s == 0:
                # A look was given up just now, or what was due is not any more.
                assert when_next(after, seen, CUTS, at_s, busy) > 0
            state = after
        for pace in (state.up, state.down, state.server, state.ping):
            assert math.isfinite(pace.allowance.left)
            assert pace.allowance.left <= KEPT_BYTES
