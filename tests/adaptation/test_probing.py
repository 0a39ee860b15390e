import math
from dataclasses import replace
from itertools import pairwise

import pytest
from cut_cases import CUTS, LATE, LOCAL, OFFLOAD, STATED, a_cut
from hypothesis import given
from hypothesis import strategies as st

from cutset.adaptation.allowance import Allowance
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
    SERVER_SHARE,
    LookDown,
    LookServer,
    LookUp,
    Ping,
    look_bytes,
    looked,
    next_action,
    server_look,
    share,
    start,
    when_next,
)

OBSERVER = Observer(CUTS)
SLOW_LOOK = LEAD_BYTES + 3000  # at several Mbit/s


def seen_from(stated=STATED):
    return OBSERVER.start(stated, 0.0)


def answered(state, seen, action, at_s, truth, cuts=CUTS):
    """The look is answered at once, by a link and server of these conditions."""
    took_s, sent = 0.0, 0
    if isinstance(action, LookServer):
        took_s = cuts.cuts[action.cut].server_s * truth.load
        observation = ServerRun(at_s, action.cut, took_s, look=True)
    elif isinstance(action, Ping):
        observation = RoundTrip(at_s, 0.004)
    else:
        up = isinstance(action, LookUp)
        rate, sent = truth.up_bps if up else truth.down_bps, look_bytes(action)
        took_s = 8 * action.bytes / rate
        observation = Transfer(at_s, up, action.bytes, took_s, look=True)
    return (
        looked(state, action, at_s, sent, took_s),
        Observer(cuts).see(seen, observation),
    )


def idle(holds, seconds, *, cuts=CUTS, stated=STATED, use=NO_USE, step_s=0.01):
    """What is looked at by (time, action) on links and a server that no request uses."""
    state, seen = start(0.0), Observer(cuts).start(stated, 0.0)
    actions = []
    for i in range(round(seconds / step_s)):
        at_s = i * step_s
        state, action = next_action(state, seen, cuts, at_s, use)
        if action is not None:
            actions.append((at_s, action))
            state, seen = answered(state, seen, action, at_s, holds(at_s), cuts)
    return actions, state, seen


def times(actions, kind):
    return [at_s for at_s, action in actions if isinstance(action, kind)]


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
    state, seen = start(0.0), replace(seen_from(fast), server_at_s=1e9, ping_at_s=1e9)
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
    assert times(actions, Ping) == pytest.approx([1, 2, 3], abs=0.05)


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


def test_looks_at_the_server_take_at_most_a_share_of_its_time():
    for load in (1.0, 6.0, 40.0):
        holds = Conditions(1e9, 1e9, load=load)
        actions, state, _ = idle(lambda at_s, holds=holds: holds, 60, stated=holds)
        looks = times(actions, LookServer)
        assert state.server_s == pytest.approx(len(looks) * 0.012 * load)
        started_with_s = KEPT_S / 4
        assert 0.012 * load * (len(looks) - 1) <= SERVER_SHARE * 60 + started_with_s
        assert min(b - a for a, b in pairwise(looks)) >= 0.4 - 1e-9


def step_at_ten(before, after):
    return lambda at_s: before if at_s < 10 else after


@pytest.mark.parametrize(("before", "after"), [(20e6, 2e6), (2e6, 20e6), (20e6, 0.3e6)])
def test_a_suspect_look_is_confirmed_at_once(before, after):
    holds = step_at_ten(Conditions(before, before), Conditions(after, after))
    actions, _, seen = idle(holds, 40, stated=Conditions(before, before))
    looks = [at_s for at_s in times(actions, LookUp) if at_s >= 10]
    assert looks[1] - looks[0] <= 0.05
    assert believed(seen, 40).up_bps == pytest.approx(after)


def test_what_was_sent_ahead_of_the_allowance_is_waited_for():
    slow = Conditions(2e6, 2e6)
    actions, _, _ = idle(step_at_ten(Conditions(20e6, 20e6), slow), 60)
    looks = [look for _, look in actions if isinstance(look, LookUp)]
    earned = LINK_SHARE / 8 * (10 * 20e6 + 50 * 2e6)
    # Beside the first, one may be sent ahead.
    assert sum(map(look_bytes, looks)) <= earned + 2 * SLOW_LOOK
    late = [look for at_s, look in actions if at_s >= 40 and isinstance(look, LookUp)]
    assert share(sum(map(look_bytes, late[:-1])), 2e6, 20) <= 0.01


def test_a_link_that_seems_slow_for_no_reason_is_looked_at_soon():
    """Looks at a fast one leave something for that: else it would stay slow for 20 s."""
    fast = Conditions(20e6, 20e6)
    state, seen = start(0.0), replace(seen_from(fast), server_at_s=1e9, ping_at_s=1e9)
    for i in range(2000):
        at_s = i / 100
        if i == 1000:
            for _ in range(2):
                seen = OBSERVER.see(seen, Transfer(at_s, True, 37_000, 1.1))
            assert believed(seen, at_s).up_bps < 0.3e6
        if i == 1100:
            assert believed(seen, at_s).up_bps == pytest.approx(20e6)
        state, action = next_action(state, seen, CUTS, at_s)
        if action is not None:
            state, seen = answered(state, seen, action, at_s, fast)


def test_a_link_that_is_fast_again_is_looked_at_as_one():
    """Looks that found it out were charged by the slow rate: that wait is over with it."""
    fast, slow = Conditions(200e6, 200e6), Conditions(1e6, 1e6)
    holds = lambda at_s: slow if 5 <= at_s < 20 else fast  # noqa: E731
    actions, _, seen = idle(holds, 40, stated=fast)
    assert believed(seen, 40).up_bps == pytest.approx(200e6)
    for kind in (LookUp, LookDown):
        found = next(at_s for at_s in times(actions, kind) if at_s >= 20)
        assert found <= 26  # a look each 5.3 s
        later = [at_s for at_s in times(actions, kind) if at_s >= found]
        assert later[1] - later[0] <= 0.05
        assert max(b - a for a, b in pairwise([*later, 40])) <= 0.5


def test_what_got_fast_one_way_is_looked_at_the_other_way_too():
    """However much its looks owe: at 1 Mbit/s that would be waited for for a minute."""
    fast, slow = Conditions(16e6, 16e6), Conditions(1e6, 1e6)
    state, seen = start(0.0), replace(seen_from(slow), server_at_s=1e9, ping_at_s=1e9)
    state = replace(state, down=replace(state.down, allowance=Allowance(-60_000, 0.0)))
    looks = []
    for i in range(2000):
        at_s = i / 100
        truth = fast if at_s >= 8 else slow
        state, action = next_action(state, seen, CUTS, at_s)
        if action is not None:
            looks.append((at_s, action))
            state, seen = answered(state, seen, action, at_s, truth)
    faster_s = next(at_s for at_s in times(looks, LookUp) if at_s >= 8)
    down = times(looks, LookDown)
    assert down[0] - faster_s <= 0.1
    assert down[1] - down[0] <= 0.05  # the one that confirms it
    assert len([at_s for at_s in down if at_s < faster_s + 2]) == 2  # and then it waits
    assert believed(seen, 20).down_bps == pytest.approx(16e6)


def test_a_suspect_is_confirmed_ahead_of_the_allowance_once():
    slow = Conditions(1e6, 20e6)  # 5.3 s between looks up
    state, seen = start(0.0), replace(seen_from(slow), server_at_s=1e9, ping_at_s=1e9)
    seen = replace(seen, down_at_s=1e9)
    looks = []
    for i in range(2800):
        state, action = next_action(state, seen, CUTS, i / 100)
        if action is not None:
            state = looked(state, action, i / 100, look_bytes(action), 0.05)
            looks.append((i / 100, action.bytes))
        if len(looks) == 1 and seen.up.suspect is None:  # and it stays one: no answer is observed
            seen = OBSERVER.see(seen, Transfer(i / 100, True, 3000, 0.001, look=True))
    first, confirming, later = looks
    assert first == pytest.approx((0.6, 3000), abs=0.1)
    # At 24 Mbit/s it would take 6 ms; what it takes more is waited for.
    assert confirming == pytest.approx((0.61, 18_000), abs=0.1)
    assert later[0] == pytest.approx(24, abs=0.5)


def test_what_got_worse_is_looked_at_again_soon_and_then_more_rarely():
    state, seen = start(0.0), seen_from(Conditions(400e6, 400e6))
    looks = []
    for i in range(1, 600):
        at_s = i / 50
        if i in (98, 99):
            seen = OBSERVER.see(seen, Transfer(at_s, True, 100_000, 0.016))
        # Traffic shows all else, and of this that it is slow: no look is due for being stale.
        fresh = dict.fromkeys(("up_at_s", "down_at_s", "server_at_s", "ping_at_s"), at_s)
        seen = replace(seen, **fresh)
        state, action = next_action(state, seen, CUTS, at_s)
        if action is not None:
            assert isinstance(action, LookUp)
            looks.append(at_s)
            state = looked(state, action, at_s, look_bytes(action), 0.0)
    gaps = [b - a for a, b in pairwise(looks)]
    assert gaps == pytest.approx([0.3, 0.6, 1.2, 2.4, 4.8], abs=0.03)


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
    seen = replace(seen_from(), server_at_s=1e9)
    state, action = next_action(state, seen, CUTS, 0.5)
    assert isinstance(action, LookUp)
    size = look_bytes(action)
    plain = looked(state, action, 0.6, size, 0.01)
    more = looked(state, action, 0.6, 2 * size, 0.01)
    assert more.up_bytes == 2 * plain.up_bytes == 2 * size
    assert plain.up.allowance.left - more.up.allowance.left == size


def test_a_fast_link_is_looked_at_with_more_bytes():
    """3000 bytes take less than half a millisecond at 64 Mbit/s: that tells of threads only."""
    for mbps, expected in ((1, 3000), (64, 16_200), (10_000, 60_000)):
        seen = seen_from(Conditions(mbps * 1e6, mbps * 1e6))
        state = replace(start(0.0), server=start(1e9).server)
        _, action = next_action(state, replace(seen, server_at_s=1e9), CUTS, 1.0)
        assert isinstance(action, LookUp)
        assert action.bytes == expected
        assert look_bytes(action) == LEAD_BYTES + expected
    assert look_bytes(Ping()) == 0


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


def unread(rate_bps, count):
    """The bytes of the next look, after so many that could not be timed."""
    seen, state, at_s = seen_from(replace(STATED, up_bps=rate_bps)), start(0.0), 0.0
    while True:
        at_s += 0.01
        state, action = next_action(state, seen, CUTS, at_s)
        if isinstance(action, LookUp):
            if not count:
                return state, seen, action.bytes
            count -= 1
        if action is not None:
            missed = isinstance(action, LookUp)
            state = looked(state, action, at_s, look_bytes(action), 0.0, read=not missed)


def test_looks_that_are_read_too_late_to_be_timed_get_larger():
    sizes = [unread(16e6, count)[2] for count in range(6)]
    assert sizes[:3] == [3000, 6000, 12_000]
    # Not beyond what takes 20 ms, which is timed anyway.
    assert sizes[3:] == [24_000, 40_000, 40_000]
    assert unread(1e6, 4)[2] == 3000
    assert unread(1e9, 9)[2] == 60_000


def test_looks_that_can_be_timed_get_smaller_again():
    state, seen, size = unread(16e6, 3)
    at_s = 100.0
    state = looked(state, LookUp(size), at_s, look_bytes(LookUp(size)), 0.01)
    while True:
        at_s += 0.01
        state, action = next_action(state, seen, CUTS, at_s)
        if isinstance(action, LookUp):
            break
        if action is not None:
            state = looked(state, action, at_s, look_bytes(action), 0.0)
    assert action.bytes == 12_000


def test_a_look_that_could_not_be_timed_is_followed_by_another_at_once():
    """The first that could not; also where none ever can, looks keep to their share."""
    seen, state = seen_from(replace(STATED, up_bps=4e6)), start(0.0)
    seen = replace(seen, down_at_s=1e9, server_at_s=1e9, ping_at_s=1e9)
    looks = []
    for i in range(6000):
        state, action = next_action(state, seen, CUTS, i / 100)
        if action is not None:
            looks.append((i / 100, action.bytes))
            state = looked(state, action, i / 100, look_bytes(action), 0.0, read=False)
    assert looks[1] == (looks[0][0] + 0.01, 6000)
    ahead_bytes = SLOW_LOOK + LEAD_BYTES + looks[-1][1]  # at the start, and of the last look
    assert state.up_bytes <= LINK_SHARE * 4e6 / 8 * 60 + ahead_bytes
