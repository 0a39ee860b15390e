"""When to look: what traffic does not show is looked at, within a budget; pure.

The shell sends what `next_action` says, tells `looked` of the answer, and makes it an observation
(a Transfer or ServerRun with `look`, a RoundTrip). One look is under way at a time, so that none
delays another. Budgets are kept by the rate that is believed: the two looks that see a link get
slower are sent at the pace of the rate before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import assert_never

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.observer import LEAST_RUN_S, Seen, believed
from cutset.adaptation.window import Window

#: A look at a link is a pair of transfers of half as many bytes each, at least; on a link that
#: carries more within its share, more, up to the latter: threads and clocks are off by a
#: millisecond at times, and a transfer must last longer than that to tell anything.
LOOK_BYTES, MOST_LOOK_BYTES = 6000, 60_000
#: Of a link's bits, what looks may take; and of the server's time.
LINK_SHARE = 0.009  # below the 1% that is promised, as beliefs are late
SERVER_SHARE = 0.04
#: What was seen within this time needs no look.
FRESH_S = 0.4
#: Looks at a link of unknown rate are apart by this ...
UNKNOWN_GAP_S = 0.3
#: ... and looks at any by no more than this: one that is believed to be under 160 kbit/s gives
#: more than its share, or nobody would see it recover.
MOST_GAP_S = 30.0
PING_EVERY_S = 1.0
#: A server's segment that is expected to take this shows load well enough.
SHOWS_LOAD_S = 10e-3
UNANSWERED_S = 2.0
#: After looks that nobody answered: the first wait (seconds), doubled each time up to the last.
_BACK_OFF_S, MOST_BACK_OFF_S = 1.0, 4.0
#: What got worse by this factor often comes back: it is looked at again soon, then more rarely.
WORSE = 2.0
_DOUBT_S, _MOST_DOUBTS = 0.3, 4
#: When nothing can be looked at, the next time to ask.
_IDLE_S = 1.0


@dataclass(frozen=True)
class LookUp:
    """Send so many bytes to the server."""

    bytes: int = LOOK_BYTES


@dataclass(frozen=True)
class LookDown:
    """Have the server send so many bytes."""

    bytes: int = LOOK_BYTES


@dataclass(frozen=True)
class LookServer:
    """Have the server run its segment of cut `cut` once."""

    cut: int


@dataclass(frozen=True)
class Ping:
    """Send an empty message to the server and back."""


Action = LookUp | LookDown | LookServer | Ping


@dataclass(frozen=True)
class Pace:
    """When one kind of look may come again; times in seconds on the observations' clock.

    The budget allows a look from `free_at_s`, `gap_s` after the one before. `held` is the least
    value seen since the last change for the worse, `doubts` the looks since then (more than
    _MOST_DOUBTS: no doubt is left), `confirmed_s` when the last suspect was seen that a look was
    sent ahead of its budget for. `per_bit_s` is what the budget is counted by: a link that is
    faster than when its looks were charged has earned them sooner.
    """

    free_at_s: float
    looked_at_s: float
    gap_s: float = 0.0
    unanswered: int = 0
    held_off_until_s: float = -math.inf
    held: float = math.inf
    doubts: int = _MOST_DOUBTS + 1
    confirmed_s: float = -math.inf
    per_bit_s: float = math.inf


@dataclass(frozen=True)
class Probing:
    """When what was looked at, and how much that took.

    `pending` is the look that is under way, since `pending_since_s`. `up_bytes` and `down_bytes`
    count all bytes of looks, `server_s` the server's seconds.
    """

    up: Pace
    down: Pace
    server: Pace
    ping: Pace
    pending: Action | None = None
    pending_since_s: float = 0.0
    up_bytes: int = 0
    down_bytes: int = 0
    server_s: float = 0.0


def start(at_s: float) -> Probing:
    """Nothing was looked at yet."""
    never = Pace(at_s, at_s)
    return Probing(never, never, never, never)


def next_action(
    state: Probing, seen: Seen, cuts: Cuts, at_s: float, busy: bool
) -> tuple[Probing, Action | None]:
    """What to look at now, if anything; the one that waits longest first.

    `busy`: a request is under way; nothing is sent over the links then. A lost server is not
    looked at: that it is back is not for looks to find out.
    """
    state = _noticed(_given_up(state, at_s), seen, at_s)
    due = _due(state, seen, cuts, busy)
    if seen.lost or state.pending is not None or not due:
        return state, None
    action = min(due, key=lambda each: due[each])
    if due[action] > at_s:
        return state, None
    action = _sized(action, believed(seen, at_s))
    return _sent(state, action, seen, cuts, at_s), action


def when_next(state: Probing, seen: Seen, cuts: Cuts, at_s: float, busy: bool = False) -> float:
    """Seconds from `at_s` after which to ask for the next action again, if nothing is seen until
    then; from 0 to one second, two while a look is under way."""
    if state.pending is not None:
        return min(max(0.0, state.pending_since_s + UNANSWERED_S - at_s), UNANSWERED_S)
    due = {} if seen.lost else _due(_noticed(state, seen, at_s), seen, cuts, busy)
    return min(max(0.0, min(due.values(), default=math.inf) - at_s), _IDLE_S)


def looked(state: Probing, action: Action, at_s: float, bytes: int, took_s: float) -> Probing:
    """An action was answered at `at_s`: `bytes` crossed the link (its own direction's), and it
    took the link or server `took_s` seconds. A late answer counts as one too."""
    pace = replace(_pace(state, action), unanswered=0, held_off_until_s=-math.inf)
    took_s = took_s if 0 <= took_s < math.inf else 0.0
    if isinstance(action, LookServer):
        pace = replace(pace, free_at_s=max(pace.looked_at_s + _server_gap_s(took_s), at_s))
        state = replace(state, server_s=state.server_s + took_s)
    elif isinstance(action, LookUp | LookDown):
        more = max(0, bytes - action.bytes)  # headers; its own were charged as it was sent
        pace = replace(pace, free_at_s=pace.free_at_s + pace.gap_s * more / action.bytes)
        state = _charged(state, action, more)
    if state.pending == action:
        state = replace(state, pending=None)
    return _with_pace(state, action, pace)


def look_bytes(action: Action) -> int:
    """The bytes that an action sends over a link beside headers."""
    return action.bytes if isinstance(action, LookUp | LookDown) else 0


def share(bytes: int, rate_bps: float, seconds: float) -> float:
    """What of a link of this rate looks took over a time; 0 where that is no time or no link."""
    return 8 * bytes / (rate_bps * seconds) if rate_bps > 0 and seconds > 0 else 0.0


def server_look(cuts: Cuts) -> int | None:
    """The cut whose segment is run to see the load: the cheapest that shows it well, else the
    largest; None where none shows it at all."""
    segments = [
        (cut.server_s, index)
        for index, cut in enumerate(cuts.cuts)
        if cut.uses_server and cut.server_s >= LEAST_RUN_S
    ]
    good = [segment for segment in segments if segment[0] >= SHOWS_LOAD_S]
    return min(good)[1] if good else max(segments)[1] if segments else None


def _due(state: Probing, seen: Seen, cuts: Cuts, busy: bool) -> dict[Action, float]:
    """When each action that has a use is due."""
    due: dict[Action, float] = {}
    index = server_look(cuts)
    if index is not None:
        pace = state.server
        due[LookServer(index)] = _look_due_s(pace, seen.load, seen.server_at_s)
    if busy:
        return due
    if any(cut.up_used for cut in cuts.cuts):
        due[LookUp()] = _look_due_s(state.up, seen.up, seen.up_at_s)
    if any(cut.down_used for cut in cuts.cuts):
        due[LookDown()] = _look_due_s(state.down, seen.down, seen.down_at_s)
    if any(cut.uses_server for cut in cuts.cuts):
        pace = state.ping
        last_s = max(seen.ping_at_s, pace.looked_at_s)
        due[Ping()] = max(last_s + PING_EVERY_S, pace.held_off_until_s)
    return due


def _look_due_s(pace: Pace, window: Window, seen_at_s: float) -> float:
    due_s = max(max(seen_at_s, pace.looked_at_s) + FRESH_S, pace.free_at_s)
    if pace.doubts <= _MOST_DOUBTS:
        again_s = pace.looked_at_s + _DOUBT_S * 2.0**pace.doubts
        due_s = min(due_s, max(again_s, pace.free_at_s))
    suspect = window.suspect
    if suspect is not None and suspect.at_s != pace.confirmed_s and window.suspicion >= WORSE:
        # One look ahead of the budget, which the next ones wait for: a change, or an outlier?
        due_s = min(due_s, max(suspect.at_s, pace.free_at_s - pace.gap_s))
    return max(due_s, pace.held_off_until_s)


def _sent(state: Probing, action: Action, seen: Seen, cuts: Cuts, at_s: float) -> Probing:
    pace = _pace(state, action)
    conditions = believed(seen, at_s)
    gap_s, window = 0.0, None
    if isinstance(action, LookUp):
        gap_s, window = _link_gap_s(action.bytes, conditions.up_bps), seen.up
    elif isinstance(action, LookDown):
        gap_s, window = _link_gap_s(action.bytes, conditions.down_bps), seen.down
    elif isinstance(action, LookServer):
        gap_s = _server_gap_s(cuts.cuts[action.cut].server_s * conditions.load)
        window = seen.load
    pace = replace(
        pace,
        looked_at_s=at_s,
        gap_s=gap_s,
        free_at_s=max(pace.free_at_s, at_s) + gap_s,
        doubts=min(pace.doubts, _MOST_DOUBTS) + 1,
    )
    if window is not None and window.suspect is not None:
        pace = replace(pace, confirmed_s=window.suspect.at_s)
    state = replace(_with_pace(state, action, pace), pending=action, pending_since_s=at_s)
    return _charged(state, action, look_bytes(action))


def _sized(action: Action, conditions: Conditions) -> Action:
    """A look at a link with as many bytes as its share of the link allows until the next."""
    if not isinstance(action, LookUp | LookDown):
        return action
    rate_bps = conditions.up_bps if isinstance(action, LookUp) else conditions.down_bps
    fits = min(LINK_SHARE * rate_bps * FRESH_S / 8, MOST_LOOK_BYTES)
    return replace(action, bytes=max(LOOK_BYTES, int(fits)))


def _link_gap_s(bytes: int, rate_bps: float) -> float:
    if not rate_bps > 0:
        return UNKNOWN_GAP_S  # where it carries nothing, unanswered looks get rarer by themselves
    return min(8 * bytes / (LINK_SHARE * rate_bps), MOST_GAP_S)


def _server_gap_s(took_s: float) -> float:
    return max(FRESH_S, took_s / SERVER_SHARE)


def _charged(state: Probing, action: Action, bytes: int) -> Probing:
    if isinstance(action, LookUp):
        return replace(state, up_bytes=state.up_bytes + bytes)
    if isinstance(action, LookDown):
        return replace(state, down_bytes=state.down_bytes + bytes)
    return state


def _given_up(state: Probing, at_s: float) -> Probing:
    """Without a look that nobody answered in time."""
    action = state.pending
    if action is None or at_s < state.pending_since_s + UNANSWERED_S:
        return state
    pace = _pace(state, action)
    wait_s = min(_BACK_OFF_S * 2.0**pace.unanswered, MOST_BACK_OFF_S)
    more = min(pace.unanswered + 1, 10)
    pace = replace(pace, unanswered=more, held_off_until_s=at_s + wait_s)
    return replace(_with_pace(state, action, pace), pending=None)


def _noticed(state: Probing, seen: Seen, at_s: float) -> Probing:
    """With doubt about what got worse, and budgets by what links are believed to carry now."""
    return replace(
        state,
        up=_repriced(_doubting(state.up, seen.up.value), seen.up.value, at_s),
        down=_repriced(_doubting(state.down, seen.down.value), seen.down.value, at_s),
        server=_doubting(state.server, seen.load.value),
    )


def _repriced(pace: Pace, per_bit_s: float, at_s: float) -> Pace:
    """What is still to be waited for, as the link is now; it is not lengthened by a slower one, as
    the bytes were sent over the faster."""
    if not 0 < per_bit_s < pace.per_bit_s < math.inf:
        return replace(pace, per_bit_s=per_bit_s)
    shorter = per_bit_s / pace.per_bit_s
    left_s = max(0.0, pace.free_at_s - at_s)
    return replace(
        pace,
        free_at_s=pace.free_at_s - left_s * (1 - shorter),
        gap_s=pace.gap_s * shorter,
        per_bit_s=per_bit_s,
    )


def _doubting(pace: Pace, value: float) -> Pace:
    if value < pace.held:
        sure = WORSE * value <= pace.held
        return replace(pace, held=value, doubts=_MOST_DOUBTS + 1 if sure else pace.doubts)
    worse = pace.held < math.inf and value >= WORSE * pace.held
    return replace(pace, held=value, doubts=0) if worse else pace


def _pace(state: Probing, action: Action) -> Pace:
    match action:
        case LookUp():
            return state.up
        case LookDown():
            return state.down
        case LookServer():
            return state.server
        case Ping():
            return state.ping
    assert_never(action)


def _with_pace(state: Probing, action: Action, pace: Pace) -> Probing:
    match action:
        case LookUp():
            return replace(state, up=pace)
        case LookDown():
            return replace(state, down=pace)
        case LookServer():
            return replace(state, server=pace)
        case Ping():
            return replace(state, ping=pace)
    assert_never(action)
