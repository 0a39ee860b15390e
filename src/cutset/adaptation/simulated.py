"""A trace played against a policy by simulated time: no hardware, no clock.

Requests run one after another. Each takes what its journey (journeys.py) takes; the policy sees
what a real run would show, and nothing else: transfers and runs when they end, a transfer that is
late while it is under way, answers to looks, and the server's loss after a while.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.journeys import Course, Journey, course_of
from cutset.adaptation.observations import Back, Lost
from cutset.adaptation.policy import Policy, Switch
from cutset.adaptation.traces import Trace
from cutset.adaptation.watching import Watcher
from cutset.errors import UsageError

S = TypeVar("S")

#: The fallback begins so many times what it is believed to take before a deadline, and so many
#: seconds earlier still.
FALLBACKS: Final = 1.5
FALLBACK_EARLY_S: Final = 0.1
#: More would be no replay to wait for.
MOST_REQUESTS: Final = 200_000


@dataclass(frozen=True)
class Setting:
    """How a trace is played; seconds.

    Requests start at least `interval_s` apart, and never before the one before has ended. Without
    an answer `deadline_s` after its start a request has failed; with `fallback` the device alone
    answers those that would be too late. What is measured is off by a factor exp(`noise`·N(0,1)),
    drawn from `seed`. The server's loss and return are seen `detection_s` late. `foresight` takes
    the cut that turns out best, whatever the policy says: what no policy can do better. `looks`:
    links and server are looked at as `probing` says.
    """

    interval_s: float = 0.0
    deadline_s: float | None = None
    fallback: bool = False
    noise: float = 0.0
    seed: int = 0
    detection_s: float = 1.0
    foresight: bool = False
    looks: bool = True


@dataclass(frozen=True)
class Request:
    """A request that started at `at_s` by `cut`. `latency_s` is inf where no answer came in time.

    `best_s` is what the best cut would have taken from the same moment (inf: none ever answers;
    None: nobody knows).
    `fallback`: the device alone answered. `believed` is what the policy went by.
    """

    at_s: float
    cut: int
    latency_s: float
    best_s: float | None
    fallback: bool
    believed: Conditions

    @property
    def answered(self) -> bool:
        return math.isfinite(self.latency_s)


@dataclass(frozen=True)
class Played:
    """What a policy did over a trace of `duration_s`; `looked_…` is what looks sent, bytes, and
    what they took the server, seconds."""

    policy: str
    requests: tuple[Request, ...]
    switches: tuple[Switch, ...]
    duration_s: float
    looked_up_bytes: int = 0
    looked_down_bytes: int = 0
    looked_server_s: float = 0.0


def play(
    trace: Trace,
    cuts: Cuts,
    policy: Policy[S],
    setting: Setting,
    stated: Conditions | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Played:
    """Play the whole trace; `stated` (default: what the trace begins with) is what the policy is
    told first. `progress` is called with the trace's seconds that are done.

    Raises UsageError beyond MOST_REQUESTS requests.
    """
    _check_length(trace, cuts, setting)
    course = course_of(trace, cuts)
    return _Player(course, policy, setting, stated or course.at(0.0)).play(progress)


def _too_long(time: str) -> UsageError:
    return UsageError(
        f"more than {MOST_REQUESTS} requests in {time}",
        remedy="play a shorter --duration, or state a longer --interval",
    )


def _check_length(trace: Trace, cuts: Cuts, setting: Setting) -> None:
    """Raise UsageError where it is far too long, at once: a minute's computing would say the same.

    Whoever waits for a link sends fewer requests than the device alone would answer, so that only
    what is ten times too long is refused by that number.
    """
    if cuts.local is None:
        return
    local = cuts.cuts[cuts.local]
    slowest_s = local.device_s * max(m.conditions.slowdown for m in trace.moments) + local.other_s
    if trace.duration_s > 10 * MOST_REQUESTS * max(slowest_s, setting.interval_s):
        raise _too_long(f"{trace.duration_s:.3g} s")


class _Player(Generic[S]):
    """The policy's state and what it is still to be told, while a trace is played."""

    def __init__(
        self, course: Course, policy: Policy[S], setting: Setting, stated: Conditions
    ) -> None:
        self._course, self._policy, self._setting = course, policy, setting
        self._random = random.Random(setting.seed)
        # Who knows all needs to see nothing.
        looks = setting.looks and not setting.foresight
        self._watcher = Watcher(course, policy, stated, self._noisy, looks)
        self._lost_s: list[float] = []
        self._cut: int | None = None
        self._switches: list[Switch] = []
        for seen in _outages(course.trace, setting.detection_s):
            self._watcher.shows(seen.at_s, seen)
            if isinstance(seen, Lost):
                self._lost_s.append(seen.at_s)

    def play(self, progress: Callable[[float], None]) -> Played:
        trace, requests = self._course.trace, list[Request]()
        at_s = 0.0
        while at_s < trace.duration_s:
            if len(requests) == MOST_REQUESTS:
                raise _too_long(f"{at_s:.3g} of {trace.duration_s:.3g} s")
            request, end_s = self._request(at_s)
            requests.append(request)
            if not math.isfinite(end_s):
                break  # it waits for ever, and all that would follow with it
            at_s = max(end_s, at_s + self._setting.interval_s)
            progress(min(at_s, trace.duration_s))
        looks = self._watcher.looked
        return Played(
            self._policy.name,
            tuple(requests),
            tuple(self._switches),
            trace.duration_s,
            looks.up_bytes,
            looks.down_bytes,
            looks.server_s,
        )

    def _request(self, at_s: float) -> tuple[Request, float]:
        """One request, and when the next one may start."""
        setting, course, watcher = self._setting, self._course, self._watcher
        decision = watcher.asked(at_s)
        best = course.best(at_s)
        journey = best if setting.foresight else course.journey(decision.cut, at_s)
        reason = "best of all, in hindsight" if setting.foresight else decision.reason
        self._taken(at_s, journey.cut, reason)
        if not setting.foresight:
            watcher.begun(journey)
        limit_s = at_s + (math.inf if setting.deadline_s is None else setting.deadline_s)
        alone_s = self._alone_from(journey, limit_s, decision.believed)
        lost_s = self._lost_after(journey)
        if not setting.foresight and self._uses_server(journey.cut):
            until_s = min(journey.end_s, alone_s, limit_s, lost_s, course.trace.duration_s)
            stuck = watcher.stuck_before(until_s)
            if stuck is not None:
                self._taken(stuck.at_s, stuck.decision.cut, stuck.decision.reason)
                journey, alone_s = course.journey(stuck.decision.cut, stuck.at_s), math.inf
                watcher.begun(journey, again=True)
        if self._uses_server(journey.cut) and lost_s < min(journey.end_s, alone_s, limit_s):
            # A session sends what a lost server left unanswered again, by the cut that remains.
            again = watcher.asked(lost_s)
            if not self._uses_server(again.cut):
                self._taken(lost_s, again.cut, again.reason)
                journey, alone_s = course.journey(again.cut, lost_s), math.inf
                watcher.begun(journey, again=True)
        fallback_s = math.inf
        if course.cuts.local is not None and alone_s < journey.end_s:
            fallback_s = course.journey(course.cuts.local, alone_s).end_s
        end_s = min(journey.end_s, fallback_s)
        fallback = fallback_s < journey.end_s and end_s <= limit_s
        latency_s = end_s - at_s if end_s <= limit_s else math.inf
        end_s = min(end_s, limit_s)
        if not setting.foresight:
            # What never ends is watched as long as the trace goes.
            shown_s = end_s if math.isfinite(end_s) else max(at_s, course.trace.duration_s)
            watcher.ended(shown_s, journey.end_s <= end_s < math.inf)
        best_s, believed = best.end_s - at_s, decision.believed
        return Request(at_s, journey.cut, latency_s, best_s, fallback, believed), end_s

    def _uses_server(self, cut: int) -> bool:
        return self._course.cuts.cuts[cut].uses_server

    def _alone_from(self, journey: Journey, limit_s: float, believed: Conditions) -> float:
        """When the device begins to answer a request alone, should no answer be there by then; inf
        where it never does."""
        cuts, local = self._course.cuts, self._course.cuts.local
        if not (self._setting.fallback and self._uses_server(journey.cut) and local is not None):
            return math.inf
        cut = cuts.cuts[local]
        takes_s = cut.device_s * believed.slowdown + cut.other_s
        return max(journey.start_s, limit_s - FALLBACKS * takes_s - FALLBACK_EARLY_S)

    def _lost_after(self, journey: Journey) -> float:
        """When the server is seen to be lost while a journey that needs it is under way."""
        if self._setting.foresight or not self._uses_server(journey.cut):
            return math.inf
        index = bisect_right(self._lost_s, journey.start_s)
        return self._lost_s[index] if index < len(self._lost_s) else math.inf

    def _taken(self, at_s: float, cut: int, reason: str) -> None:
        if self._cut is not None and cut != self._cut:
            self._switches.append(Switch(at_s, self._cut, cut, reason))
        self._cut = cut

    def _noisy(self, seconds: float) -> float:
        noise = self._setting.noise
        return seconds * math.exp(noise * self._random.gauss(0.0, 1.0)) if noise > 0 else seconds


def _outages(trace: Trace, detection_s: float) -> Iterator[Lost | Back]:
    """The server's losses and returns as they are seen: none that is over before it is seen."""
    lost_since_s: float | None = None
    for moment in trace.moments:
        if moment.conditions.lost and lost_since_s is None:
            lost_since_s = moment.at_s
        elif not moment.conditions.lost and lost_since_s is not None:
            if moment.at_s > lost_since_s + detection_s:
                yield Lost(lost_since_s + detection_s)
                yield Back(moment.at_s + detection_s)
            lost_since_s = None
    if lost_since_s is not None:
        yield Lost(lost_since_s + detection_s)
