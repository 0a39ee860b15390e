"""A trace played against a policy by simulated time: no hardware, no clock.

Requests run one after another. Each takes what its journey (journeys.py) takes; the policy sees
what a real run would show, and nothing else: transfers and runs when they end, a transfer that is
late while it is under way, answers to looks, and the server's loss after a while.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.journeys import Course, Journey, Part, Phase, course_of
from cutset.adaptation.looks import Answer, answers
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
from cutset.adaptation.policies import Following, Static
from cutset.adaptation.policy import Decision, Policy
from cutset.adaptation.probing import looked, next_action, when_next
from cutset.adaptation.probing import start as start_probing
from cutset.adaptation.traces import Trace
from cutset.errors import UsageError

S = TypeVar("S")

#: The fallback begins so many times what it is believed to take before a deadline, and so many
#: seconds earlier still.
FALLBACKS: Final = 1.5
FALLBACK_EARLY_S: Final = 0.1
#: A transfer is late after so many times what it is believed to take, and so many seconds; it is
#: told again each time it has taken so many times longer.
LATE: Final = 3.0
LATE_S: Final = 0.05
AGAIN: Final = 1.5
#: A look is asked for no more often than this.
_LEAST_WAIT_S: Final = 1e-3
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
    a policy that follows what it sees looks, as `probing` says, where no request uses the server.
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

    `best_s` is what the best cut would have taken from the same moment (inf: none ever answers).
    `fallback`: the device alone answered. `believed` is what the policy went by.
    """

    at_s: float
    cut: int
    latency_s: float
    best_s: float
    fallback: bool
    believed: Conditions

    @property
    def answered(self) -> bool:
        return math.isfinite(self.latency_s)


@dataclass(frozen=True)
class Switch:
    at_s: float
    before: int
    after: int
    reason: str


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
    course = course_of(trace, cuts)
    return _Player(course, policy, setting, stated or course.at(0.0)).play(progress)


class _Player(Generic[S]):
    """The policy's state and what it is still to be told, while a trace is played."""

    def __init__(
        self, course: Course, policy: Policy[S], setting: Setting, stated: Conditions
    ) -> None:
        self._course, self._policy, self._setting = course, policy, setting
        self._cuts = course.cuts
        self._random = random.Random(setting.seed)
        self._state = policy.start(course.cuts, stated, 0.0)
        self._order = itertools.count()
        self._pending: list[tuple[float, int, Lost | Back | Answer]] = []
        self._probing = start_probing(0.0)
        self._lost_s: list[float] = []
        self._cut: int | None = None
        self._switches: list[Switch] = []
        for seen in _outages(course.trace, setting.detection_s):
            self._later(seen)
            if isinstance(seen, Lost):
                self._lost_s.append(seen.at_s)

    def play(self, progress: Callable[[float], None]) -> Played:
        trace, requests = self._course.trace, list[Request]()
        at_s = 0.0
        while at_s < trace.duration_s:
            if len(requests) == MOST_REQUESTS:
                raise UsageError(
                    f"more than {MOST_REQUESTS} requests in {at_s:.3g} of {trace.duration_s:.3g} s",
                    remedy="play a shorter part (--duration), or requests further apart (--interval)",
                )
            request, end_s = self._request(at_s)
            requests.append(request)
            if not math.isfinite(end_s):
                break  # it waits for ever, and all that would follow with it
            next_s = max(end_s, at_s + self._setting.interval_s)
            self._look(end_s, min(next_s, trace.duration_s))
            at_s = next_s
            progress(min(at_s, trace.duration_s))
        looks = self._probing
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
        setting, course, cuts = self._setting, self._course, self._cuts
        self._tell(Truth(at_s, course.at(at_s)))
        decision = self._tell(Asked(at_s))
        best = course.best(at_s)
        journey = best if setting.foresight else course.journey(decision.cut, at_s)
        reason = "best of all, in hindsight" if setting.foresight else decision.reason
        self._taken(at_s, journey.cut, reason)
        limit_s = at_s + (math.inf if setting.deadline_s is None else setting.deadline_s)
        alone_s = self._alone_from(journey, limit_s, decision.believed)
        reported_s, lost_s = at_s, self._lost_after(journey)
        if lost_s < min(journey.end_s, alone_s, limit_s):
            # A session sends what a lost server left unanswered again, by the cut that remains.
            self._report(journey, at_s, lost_s, decision.believed)
            reported_s, decision = lost_s, self._tell(Asked(lost_s))
            if not cuts.cuts[decision.cut].uses_server:
                self._taken(lost_s, decision.cut, decision.reason)
                journey, alone_s = course.journey(decision.cut, lost_s), math.inf
        alone = None
        if cuts.local is not None and alone_s < journey.end_s:
            alone = course.journey(cuts.local, alone_s)
        end_s = min(journey.end_s, alone.end_s if alone is not None else math.inf)
        fallback = end_s < journey.end_s and end_s <= limit_s
        latency_s = end_s - at_s if end_s <= limit_s else math.inf
        end_s = min(end_s, limit_s)
        if not cuts.cuts[journey.cut].uses_server:
            self._look(reported_s, end_s)
        self._report(journey, reported_s, end_s, decision.believed)
        if alone is not None and fallback:
            self._report(alone, alone_s, end_s, decision.believed)
        best_s, believed = best.end_s - at_s, decision.believed
        return Request(at_s, journey.cut, latency_s, best_s, fallback, believed), end_s

    def _alone_from(self, journey: Journey, limit_s: float, believed: Conditions) -> float:
        """When the device begins to answer a request alone, should no answer be there by then; inf
        where it never does."""
        local = self._cuts.local
        uses_server = self._cuts.cuts[journey.cut].uses_server
        if not (self._setting.fallback and uses_server and local is not None):
            return math.inf
        cut = self._cuts.cuts[local]
        takes_s = cut.device_s * believed.slowdown + cut.other_s
        return max(journey.start_s, limit_s - FALLBACKS * takes_s - FALLBACK_EARLY_S)

    def _lost_after(self, journey: Journey) -> float:
        """When the server is seen to be lost while a journey that needs it is under way."""
        if self._setting.foresight or not self._cuts.cuts[journey.cut].uses_server:
            return math.inf
        index = bisect_right(self._lost_s, journey.start_s)
        return self._lost_s[index] if index < len(self._lost_s) else math.inf

    def _taken(self, at_s: float, cut: int, reason: str) -> None:
        if self._cut is not None and cut != self._cut:
            self._switches.append(Switch(at_s, self._cut, cut, reason))
        self._cut = cut

    def _report(
        self, journey: Journey, after_s: float, until_s: float, believed: Conditions
    ) -> None:
        """Tell what is seen of a journey after `after_s` and up to `until_s`, in time's order.

        What is under way at `until_s` is told as unfinished: there it is given up.
        """
        horizon_s = until_s
        if math.isinf(until_s):  # never ends: it is watched as long as the trace goes
            horizon_s = max(after_s, self._course.trace.duration_s)
        seen = [
            o
            for o in _seen(journey, self._cuts, horizon_s, believed, self._noisy)
            if after_s < o.at_s or journey.start_s == after_s
        ]
        for observation in sorted(seen, key=lambda o: o.at_s):
            self._tell(observation)

    def _noisy(self, seconds: float) -> float:
        noise = self._setting.noise
        return seconds * math.exp(noise * self._random.gauss(0.0, 1.0)) if noise > 0 else seconds

    def _look(self, from_s: float, until_s: float) -> None:
        """Looks while no request uses the server; they are in nobody's way."""
        at_s = from_s
        while at_s < until_s and self._setting.looks:
            self._catch_up(at_s)
            state = self._state
            if not isinstance(state, Following) or isinstance(self._policy, Static):
                return
            self._probing, action = next_action(
                self._probing, state.seen, self._cuts, at_s, busy=False
            )
            if action is not None:
                for answer in answers(self._course, action, at_s, self._noisy):
                    self._later(answer)
            wait_s = when_next(self._probing, state.seen, self._cuts, at_s)
            soon_s = self._pending[0][0] if self._pending else math.inf
            at_s = max(min(at_s + wait_s, soon_s), at_s + _LEAST_WAIT_S)

    def _later(self, event: Lost | Back | Answer) -> None:
        heapq.heappush(self._pending, (event.at_s, next(self._order), event))

    def _catch_up(self, at_s: float) -> None:
        """Tell what is to be seen up to a time."""
        while self._pending and self._pending[0][0] <= at_s:
            _, _, event = heapq.heappop(self._pending)
            for observation in event.seen if isinstance(event, Answer) else (event,):
                self._state, _ = self._policy.step(self._state, observation)
            if isinstance(event, Answer) and not event.late:
                self._probing = looked(
                    self._probing, event.action, event.at_s, event.bytes, event.took_s
                )

    def _tell(self, observation: Observation) -> Decision:
        """What the policy decides on the observation, after all that is to be seen before it."""
        self._catch_up(observation.at_s)
        self._state, decision = self._policy.step(self._state, observation)
        return decision


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


def _seen(
    journey: Journey,
    cuts: Cuts,
    until_s: float,
    believed: Conditions,
    noisy: Callable[[float], float],
) -> Iterator[Observation]:
    """All that is seen of a journey up to `until_s`."""
    cut = cuts.cuts[journey.cut]
    queue_s = 0.0
    for phase in journey.phases:
        if phase.start_s > until_s:
            return
        done = phase.end_s <= until_s
        took_s = min(phase.end_s, until_s) - phase.start_s
        match phase.part:
            case Part.DEVICE if done:
                yield DeviceRun(phase.end_s, journey.cut, noisy(took_s))
            case Part.UP if cut.up_bytes > 0:
                yield from _carried(phase, True, cut.up_bytes, believed.up_bps, until_s, noisy)
            case Part.DOWN if cut.down_bytes > 0:
                yield from _carried(phase, False, cut.down_bytes, believed.down_bps, until_s, noisy)
            case Part.QUEUE:
                queue_s = took_s
                if not done:
                    yield ServerRun(until_s, journey.cut, 0.0, queue_s, unfinished=True)
            case Part.SERVER if done and journey.end_s <= until_s:
                # The server's word comes with the answer.
                yield ServerRun(journey.end_s, journey.cut, noisy(took_s), noisy(queue_s))
            case Part.SERVER if not done:
                yield ServerRun(until_s, journey.cut, took_s, queue_s, unfinished=True)
            case _:
                pass


def _carried(
    phase: Phase,
    up: bool,
    size_bytes: float,
    believed_bps: float,
    until_s: float,
    noisy: Callable[[float], float],
) -> Iterator[Transfer]:
    """A transfer: as unfinished each time it is late, then at its end or where it is given up."""
    size = max(1, round(size_bytes))
    wait_s = LATE * (8 * size / believed_bps if believed_bps > 0 else 0.0) + LATE_S
    while phase.start_s + wait_s < min(phase.end_s, until_s):
        yield Transfer(phase.start_s + wait_s, up, size, wait_s, unfinished=True)
        wait_s *= AGAIN
    if phase.end_s <= until_s:
        yield Transfer(phase.end_s, up, size, noisy(phase.end_s - phase.start_s))
    elif until_s > phase.start_s:
        yield Transfer(until_s, up, size, until_s - phase.start_s, unfinished=True)
