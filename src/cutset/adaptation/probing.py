"""When to look: what traffic does not show is looked at, within an allowance; pure.

The shell sends what `next_action` says, tells `looked` of the answer, and makes it an observation
(a Transfer or ServerRun with `look`, a RoundTrip). One look is under way at a time, so that none
delays another. Allowances fill by the rate that is believed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from cutset.adaptation.allowance import Allowance
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.observer import Seen, believed
from cutset.adaptation.passages import NO_USE, Use
from cutset.adaptation.recent import more_pings
from cutset.adaptation.server_looks import SERVER_SHARE, server_look
from cutset.adaptation.window import Window

#: A look at a link is two transfers, of which the second is timed: the first takes what a shaper
#: lets pass at once, and is as large as that may be.
LEAD_BYTES = 3000
#: The second has so many bytes at least, two frames and more: where one frame holds the end of the
#: first and all of the second, they arrive at once. On a link that carries more within its share,
#: more: threads and clocks are off by a millisecond at times.
LEAST_LOOK_BYTES, MOST_LOOK_BYTES = 3000, 60_000
#: Where a look's reader was too late to time it, the next one follows at once and is twice as
#: large, so many times, up to what takes so long that it can be timed anyway. The reader was busy,
#: or the link is faster than believed.
_MOST_UNREAD, _TIMED_ANYWAY_S = 4, 0.02
#: A rate that was seen once, and is faster than believed, is confirmed by what takes so long.
_CONFIRMS_S = 0.006
#: Of a link's bits, what looks may take.
LINK_SHARE = 0.009  # below the 1% that is promised, as beliefs are late
#: Large looks take no more of a link, so that something is left for when it seems slow.
_LARGE_SHARE = 0.006
#: What of that was not used is kept, up to so many bytes and seconds: traffic showed the link then,
#: and when it gets slow it is what its recovery is seen by.
KEPT_BYTES, KEPT_S = 500_000, 0.4
#: What was seen within this time needs no look; where looks must save, or a request is under way,
#: within this.
FRESH_S, SAVING_S = 0.4, 0.6
#: Looks at a link of unknown rate are apart by this ...
UNKNOWN_GAP_S = 0.3
#: ... and looks at any by no more than this: one that is believed to be under 180 kbit/s gives
#: more than its share, or nobody would see it recover.
MOST_GAP_S = 30.0
#: Pings are so far apart, and less where more of them are needed to tell.
PING_EVERY_S, PING_AGAIN_S = 1.0, 0.1
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
    """Send LEAD_BYTES to the server, and right behind them so many bytes."""

    bytes: int = LEAST_LOOK_BYTES


@dataclass(frozen=True)
class LookDown:
    """Have the server send the same."""

    bytes: int = LEAST_LOOK_BYTES


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

    `allowance` is in bytes of the link or seconds of the unloaded server. `held` is the least value
    seen since the last change for the worse, `doubts` the looks since then (more than _MOST_DOUBTS:
    no doubt is left), `confirmed_s` when the last suspect was seen that a look was sent ahead of
    its allowance for; `unread` how many more of the last looks could not be timed than could, and
    `again` that the very last one could not; `hoped` that the link's other direction has got much
    faster since.
    """

    allowance: Allowance
    looked_at_s: float
    unanswered: int = 0
    unread: int = 0
    again: bool = False
    held_off_until_s: float = -math.inf
    held: float = math.inf
    doubts: int = _MOST_DOUBTS + 1
    confirmed_s: float = -math.inf
    hoped: bool = False


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
    """Nothing was looked at yet, and each can be once."""
    link = Pace(Allowance(look_bytes(LookUp()), at_s), at_s)
    server, ping = Pace(Allowance(KEPT_S, at_s), at_s), Pace(Allowance(0.0, at_s), at_s)
    return Probing(link, link, server, ping)


def next_action(
    state: Probing, seen: Seen, cuts: Cuts, at_s: float, use: Use = NO_USE
) -> tuple[Probing, Action | None]:
    """What to look at now, if anything; the one that waits longest first.

    `use` is what requests under way use: a direction is left alone that they fill. A lost server is
    not looked at: that it is back is not for looks to find out.
    """
    looks = _looks(state, seen, cuts, at_s)
    state = _noticed(_given_up(state, at_s), looks, at_s)
    due = _due(state, seen, cuts, looks, use)
    if seen.lost or state.pending is not None or not due:
        return state, None
    action = min(due, key=lambda each: due[each])
    if due[action] > at_s:
        return state, None
    return _sent(state, action, looks.get(action), at_s), action


def when_next(state: Probing, seen: Seen, cuts: Cuts, at_s: float, use: Use = NO_USE) -> float:
    """Seconds from `at_s` after which to ask for the next action again, if nothing is seen until
    then; from 0 to one second, two while a look is under way."""
    if state.pending is not None:
        return min(max(0.0, state.pending_since_s + UNANSWERED_S - at_s), UNANSWERED_S)
    looks = _looks(state, seen, cuts, at_s)
    due = {} if seen.lost else _due(_noticed(state, looks, at_s), seen, cuts, looks, use)
    return min(max(0.0, min(due.values(), default=math.inf) - at_s), _IDLE_S)


def looked(
    state: Probing, action: Action, at_s: float, bytes: int, took_s: float, *, read: bool = True
) -> Probing:
    """An action was answered at `at_s`: `bytes` crossed the link (its own direction's), and the
    server, where it was to run, took `took_s` seconds. A late answer counts as one too. Not `read`:
    for how long it held the link could not be told."""
    pace = _pace(state, action)
    again = not read and pace.unread < _MOST_UNREAD
    unread = max(0, pace.unread - 1) if read else min(pace.unread + 1, _MOST_UNREAD)
    pace = replace(pace, unanswered=0, unread=unread, again=again, held_off_until_s=-math.inf)
    if isinstance(action, LookServer):
        # What a server says of itself is no reason to leave it alone for ever.
        took_s = min(took_s, UNANSWERED_S) if took_s >= 0 else 0.0
        state = replace(state, server_s=state.server_s + took_s)
    elif isinstance(action, LookUp | LookDown):
        more = max(0, bytes - look_bytes(action))  # headers; the rest was charged as it was sent
        pace = replace(pace, allowance=pace.allowance.spent(more))
        state = _counted(state, action, more)
    if state.pending == action:
        state = replace(state, pending=None)
    return _with_pace(state, action, pace)


def look_bytes(action: Action) -> int:
    """The bytes that an action sends over a link beside headers."""
    return LEAD_BYTES + action.bytes if isinstance(action, LookUp | LookDown) else 0


def share(bytes: int, rate_bps: float, seconds: float) -> float:
    """What of a link of this rate looks took over a time; 0 where that is no time or no link."""
    return 8 * bytes / (rate_bps * seconds) if rate_bps > 0 and seconds > 0 else 0.0


@dataclass(frozen=True)
class _Terms:
    """What a look is for, what it costs now, what is earned for it in a second, and what of that
    is kept."""

    window: Window
    seen_at_s: float
    cost: float
    per_s: float
    most: float

    @property
    def gap_s(self) -> float:
        """Between looks, where nothing is left of before."""
        return self.cost / self.per_s


def _looks(state: Probing, seen: Seen, cuts: Cuts, at_s: float) -> dict[Action, _Terms]:
    """The looks that have a use for some cut, as large as they would be now."""
    now = believed(seen, at_s)
    found: dict[Action, _Terms] = {}
    if any(cut.up_used for cut in cuts.cuts):
        up = LookUp(_timed_bytes(now.up_bps, seen.up, state.up))
        found[up] = _link_terms(up, now.up_bps, seen.up, seen.up_at_s)
    if any(cut.down_used for cut in cuts.cuts):
        down = LookDown(_timed_bytes(now.down_bps, seen.down, state.down))
        found[down] = _link_terms(down, now.down_bps, seen.down, seen.down_at_s)
    index = server_look(cuts)
    if index is not None:
        cost_s = cuts.cuts[index].server_s
        terms = _Terms(seen.load, seen.load_at_s, cost_s, SERVER_SHARE, max(KEPT_S, cost_s))
        found[LookServer(index)] = terms
    return found


def _link_terms(action: Action, rate_bps: float, window: Window, seen_at_s: float) -> _Terms:
    cost = look_bytes(action)
    if rate_bps > 0:
        per_s = max(LINK_SHARE * rate_bps / 8, cost / MOST_GAP_S)
    else:  # where it carries nothing, unanswered looks get rarer by themselves
        per_s = cost / UNKNOWN_GAP_S
    return _Terms(window, seen_at_s, cost, per_s, KEPT_BYTES)


def _timed_bytes(rate_bps: float, window: Window, pace: Pace) -> int:
    """As many as the link's share allows until the next, or as can be timed."""
    timed = min(LEAST_LOOK_BYTES * 2**pace.unread, _TIMED_ANYWAY_S * rate_bps / 8)
    if (suspect := window.suspect) is not None:
        seen_bps = 1 / suspect.per_unit
        if seen_bps > rate_bps and suspect.at_s != pace.confirmed_s:
            timed = (_TIMED_ANYWAY_S if suspect.at_most else _CONFIRMS_S) * seen_bps / 8
        # The look that confirms that a link got slow would hold it for long, and be owed longer.
        rate_bps = min(rate_bps, seen_bps)
    within = _LARGE_SHARE * rate_bps * FRESH_S / 8 - LEAD_BYTES
    return int(min(max(LEAST_LOOK_BYTES, timed, within), MOST_LOOK_BYTES))


def _due(
    state: Probing, seen: Seen, cuts: Cuts, looks: Mapping[Action, _Terms], use: Use
) -> dict[Action, float]:
    """When each action that has a use is due."""
    due: dict[Action, float] = {}
    for action, terms in looks.items():
        # What a request is about to show better: under load a short segment and a long one, each
        # right by itself, make outliers of one another.
        if not _is_shown(action, use):
            on_link = not isinstance(action, LookServer)
            due[action] = _look_due_s(_pace(state, action), terms, on_link and use.links)
    if not use.links and any(cut.uses_server for cut in cuts.cuts):
        pace = state.ping
        last_s = max(seen.ping_at_s, pace.looked_at_s)
        gap_s = PING_AGAIN_S if more_pings(seen.pings) else PING_EVERY_S
        due[Ping()] = max(last_s + gap_s, pace.held_off_until_s)
    return due


def _is_shown(action: Action, use: Use) -> bool:
    if isinstance(action, LookServer):
        return use.shows_load
    return use.fills_up if isinstance(action, LookUp) else use.fills_down


def _look_due_s(pace: Pace, terms: _Terms, saving: bool) -> float:
    allowance = pace.allowance
    allowed_s = allowance.reaches_s(terms.cost, terms.per_s)
    fresh_s = SAVING_S if saving else min(max(FRESH_S, terms.gap_s), SAVING_S)
    due_s = max(max(terms.seen_at_s, pace.looked_at_s) + fresh_s, allowed_s)
    if pace.doubts <= _MOST_DOUBTS:
        due_s = min(due_s, max(pace.looked_at_s + _DOUBT_S * 2.0**pace.doubts, allowed_s))
    # One look ahead of the allowance, which the next ones wait for:
    ahead_s = allowance.reaches_s(0.0, terms.per_s)
    suspect = terms.window.suspect
    new = suspect is not None and suspect.at_s != pace.confirmed_s
    if suspect is not None and new and terms.window.suspicion >= WORSE:
        # A change, or an outlier? On a link that got fast the answer costs little, and nobody
        # should wait for it.
        faster = suspect.per_unit < terms.window.value
        due_s = min(due_s, suspect.at_s if faster else max(suspect.at_s, ahead_s))
    if pace.again:
        due_s = min(due_s, max(pace.looked_at_s, ahead_s))
    if pace.hoped:  # at once, whatever is owed: what earlier looks took may be a slow link's minute
        due_s = min(due_s, pace.looked_at_s)
    return max(due_s, pace.held_off_until_s)


def _sent(state: Probing, action: Action, terms: _Terms | None, at_s: float) -> Probing:
    pace = replace(_pace(state, action), looked_at_s=at_s)
    if terms is not None:
        suspect = terms.window.suspect
        pace = replace(
            pace,
            allowance=pace.allowance.spent(terms.cost),
            doubts=min(pace.doubts, _MOST_DOUBTS) + 1,
            again=False,
            hoped=False,
            confirmed_s=pace.confirmed_s if suspect is None else suspect.at_s,
        )
    state = replace(_with_pace(state, action, pace), pending=action, pending_since_s=at_s)
    return _counted(state, action, look_bytes(action))


def _counted(state: Probing, action: Action, bytes: int) -> Probing:
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


def _noticed(state: Probing, looks: Mapping[Action, _Terms], at_s: float) -> Probing:
    """With doubt about what got worse, hope for the direction other than one that got better, and
    what the allowances have earned since."""
    for action, terms in looks.items():
        if _got_better(_pace(state, action), terms.window.value):
            if isinstance(action, LookUp):
                state = replace(state, down=replace(state.down, hoped=True))
            elif isinstance(action, LookDown):
                state = replace(state, up=replace(state.up, hoped=True))
        pace = _doubting(_pace(state, action), terms.window.value)
        allowance = pace.allowance.earned(terms.per_s, terms.most, at_s)
        state = _with_pace(state, action, replace(pace, allowance=allowance))
    return state


def _got_better(pace: Pace, value: float) -> bool:
    return WORSE * value <= pace.held < math.inf


def _doubting(pace: Pace, value: float) -> Pace:
    if value < pace.held:
        sure = _got_better(pace, value)
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
