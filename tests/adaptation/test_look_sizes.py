"""How many bytes a look has: as many as can be timed."""

from dataclasses import replace

from cut_cases import CUTS, STATED
from probing_cases import SLOW_LOOK, seen_from

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.probing import (
    LEAD_BYTES,
    LINK_SHARE,
    LookUp,
    Ping,
    look_bytes,
    looked,
    next_action,
    start,
)


def test_a_fast_link_is_looked_at_with_more_bytes():
    """3000 bytes take less than half a millisecond at 64 Mbit/s: that tells of threads only."""
    for mbps, expected in ((1, 3000), (64, 16_200), (10_000, 60_000)):
        seen = seen_from(Conditions(mbps * 1e6, mbps * 1e6))
        state = replace(start(0.0), server=start(1e9).server)
        _, action = next_action(state, replace(seen, load_at_s=1e9, ping_at_s=1e9), CUTS, 1.0)
        assert isinstance(action, LookUp)
        assert action.bytes == expected
        assert look_bytes(action) == LEAD_BYTES + expected
    assert look_bytes(Ping()) == 0


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
    seen = replace(seen, down_at_s=1e9, load_at_s=1e9, ping_at_s=1e9)
    looks = []
    for i in range(6000):
        state, action = next_action(state, seen, CUTS, i / 100)
        if action is not None:
            looks.append((i / 100, action.bytes))
            state = looked(state, action, i / 100, look_bytes(action), 0.0, read=False)
    assert looks[1] == (looks[0][0] + 0.01, 6000)
    ahead_bytes = SLOW_LOOK + LEAD_BYTES + looks[-1][1]  # at the start, and of the last look
    assert state.up_bytes <= LINK_SHARE * 4e6 / 8 * 60 + ahead_bytes
