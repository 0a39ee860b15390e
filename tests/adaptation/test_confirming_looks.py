"""What got worse, or better, or seems so, is looked at again: soon, and within bounds."""

from dataclasses import replace
from itertools import pairwise

import pytest
from cut_cases import CUTS, LOCAL, OFFLOAD, STATED, a_cut
from probing_cases import OBSERVER, SLOW_LOOK, answered, idle, seen_from, times

from cutset.adaptation.allowance import Allowance
from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.observations import ServerRun, Transfer
from cutset.adaptation.observer import Observer, believed
from cutset.adaptation.probing import (
    LINK_SHARE,
    LookDown,
    LookServer,
    LookUp,
    look_bytes,
    looked,
    next_action,
    share,
    start,
)
from cutset.adaptation.server_looks import SERVER_SHARE


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
    state, seen = start(0.0), replace(seen_from(fast), load_at_s=1e9, ping_at_s=1e9)
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
    state, seen = start(0.0), replace(seen_from(slow), load_at_s=1e9, ping_at_s=1e9)
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
    state, seen = start(0.0), replace(seen_from(slow), load_at_s=1e9, ping_at_s=1e9)
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
        fresh = dict.fromkeys(("up_at_s", "down_at_s", "load_at_s", "ping_at_s"), at_s)
        seen = replace(seen, **fresh)
        state, action = next_action(state, seen, CUTS, at_s)
        if action is not None:
            assert isinstance(action, LookUp)
            looks.append(at_s)
            state = looked(state, action, at_s, look_bytes(action), 0.0)
    gaps = [b - a for a, b in pairwise(looks)]
    assert gaps == pytest.approx([0.3, 0.6, 1.2, 2.4, 4.8], abs=0.03)


def test_a_server_that_stood_still_is_looked_at_as_any():
    """What requests waited for it makes it seem hundreds of times slower, and no look so dear."""
    state, seen = start(0.0), replace(seen_from(), up_at_s=1e9, down_at_s=1e9, ping_at_s=1e9)
    looks = []
    for i in range(1500):
        at_s = i / 100
        if i == 1000:
            for _ in range(2):
                seen = OBSERVER.see(seen, ServerRun(at_s, OFFLOAD, 6.0))
            assert believed(seen, at_s).load > 100
        state, action = next_action(state, seen, CUTS, at_s)
        if action is not None:
            looks.append(at_s)
            state, seen = answered(state, seen, action, at_s, STATED)
    after = [at_s for at_s in looks if at_s > 10]
    assert after[1] <= 10.5
    assert believed(seen, 15.0).load == pytest.approx(1.0)


def test_a_look_that_the_server_stood_still_amid_is_not_paid_for_by_a_minute():
    state, seen = start(0.0), replace(seen_from(), up_at_s=1e9, down_at_s=1e9, ping_at_s=1e9)
    looks = []
    for i in range(2000):
        at_s = i / 100
        state, action = next_action(state, seen, CUTS, at_s)
        if action is not None:
            looks.append(at_s)
            truth = replace(STATED, load=200.0) if len(looks) == 10 else STATED
            state, seen = answered(state, seen, action, at_s, truth)
    assert max(b - a for a, b in pairwise([*looks, 20.0])) <= 0.5


@pytest.mark.parametrize("load", [3.0, 7.0])
def test_load_is_learnt_by_long_segments_too(load):
    """A look of a quarter of a second takes two under load, but one is enough."""
    cuts = Cuts("pi", "server", (CUTS.cuts[LOCAL], a_cut("late", 1.0, 0.25, 30_000, 4000)))
    state, seen = start(0.0), Observer(cuts).start(STATED, 0.0)
    seen = replace(seen, up_at_s=1e9, down_at_s=1e9, ping_at_s=1e9)
    answer = None
    # Seconds between two looks at an idle server, and the one that tells.
    known_s = 10 + 0.25 / SERVER_SHARE + 0.25 * load + 0.1
    for i in range(round(100 * known_s)):
        at_s = i / 100
        if answer is not None and answer.at_s <= at_s:
            state = looked(state, LookServer(answer.cut), at_s, 0, answer.compute_s)
            seen, answer = Observer(cuts).see(seen, answer), None
        state, action = next_action(state, seen, cuts, at_s)
        if action is not None:
            assert answer is None
            took_s = cuts.cuts[action.cut].server_s * (load if at_s >= 10 else 1.0)
            answer = ServerRun(at_s + took_s, action.cut, took_s, look=True)
        if at_s <= 10:
            assert believed(seen, at_s).load == pytest.approx(1.0)
    assert believed(seen, known_s).load == pytest.approx(load, rel=0.1)
