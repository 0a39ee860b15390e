"""What a policy is shown while a trace is played: by the parts that show it a live run.

As in `live`, requests' passages become observations (`passages`), what is late is looked for every
WATCH_S, and looks are sent when `probing` says so. Here time is a number that is moved on.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.journeys import Course, Journey, Part
from cutset.adaptation.looks import Answer, answer
from cutset.adaptation.observations import (
    Asked,
    Back,
    DeviceRun,
    Lost,
    Observation,
    RoundTrip,
    ServerRun,
    Transfer,
    Truth,
)
from cutset.adaptation.observer import Observer, believed
from cutset.adaptation.passages import Passages
from cutset.adaptation.policy import Decision, Policy
from cutset.adaptation.probing import Probing, look_bytes, looked, next_action, start, when_next

S = TypeVar("S")

WATCH_S: Final = 0.05


@dataclass(frozen=True)
class _Ran:
    """The device's own segment of a request ended."""

    request: int
    cut: int
    compute_s: float


@dataclass(frozen=True)
class _Sent:
    """What goes up was acknowledged, and held the link for `held_s`."""

    request: int
    cut: int
    held_s: float


@dataclass(frozen=True)
class _Came:
    """The server's answer is there, with its word on what it waited and ran."""

    request: int
    cut: int
    queue_s: float
    compute_s: float


_Event = _Ran | _Sent | _Came | Answer | Lost | Back


@dataclass(frozen=True)
class Stuck:
    """The request under way should take this decision's cut from `at_s` on."""

    at_s: float
    decision: Decision


class Watcher(Generic[S]):
    """A policy, its state, and what it is still to be shown. One request is under way at a time.

    `noisy` turns seconds into measured ones; without `looks` nothing is looked at.
    """

    def __init__(
        self,
        course: Course,
        policy: Policy[S],
        stated: Conditions,
        noisy: Callable[[float], float],
        looks: bool,
    ) -> None:
        cuts = course.cuts
        self._course, self._policy, self._noisy, self._looks = course, policy, noisy, looks
        self._state = policy.start(cuts, stated, 0.0)
        self._observer = Observer(cuts)
        self._seen = self._observer.start(stated, 0.0)
        self._passages = Passages(cuts)
        self._probing = start(0.0)
        self._looking = False
        self._order = itertools.count()
        self._coming: list[tuple[float, int, _Event]] = []
        self._request = 0
        self._tick = 1
        self._now_s = 0.0

    @property
    def looked(self) -> Probing:
        """What looks took until now."""
        return self._probing

    def shows(self, at_s: float, event: _Event) -> None:
        """To be shown when time comes there; what never comes is not."""
        if math.isfinite(at_s):
            heapq.heappush(self._coming, (at_s, next(self._order), event))

    def asked(self, at_s: float) -> Decision:
        """The policy's decision for a request that starts now."""
        self.advance(at_s)
        self._state, _ = self._policy.step(self._state, Truth(at_s, self._course.at(at_s)))
        self._state, decision = self._policy.step(self._state, Asked(at_s))
        return decision

    def begun(self, journey: Journey, again: bool = False) -> None:
        """A request is sent, or sent `again` by another cut."""
        self._request += not again
        self._passages.began(self._request, journey.cut, journey.start_s)
        for at_s, event in self._events(journey):
            self.shows(at_s, event)
        self._soon(journey.start_s)

    def ended(self, at_s: float, answered: bool) -> None:
        """The request was answered by its journey, or given up: then or, where more was shown
        already, now."""
        at_s = max(at_s, self._now_s)
        self.advance(at_s)
        now = believed(self._seen, at_s)
        _, told = self._passages.ended(self._request, answered=answered, believed=now, at_s=at_s)
        self._tell(told)

    def stuck_before(self, until_s: float) -> Stuck | None:
        """Let time pass until the request under way should begin anew on the device alone, by the
        policy too; None where that is not before `until_s`."""
        return self._pass(until_s, stops_if_stuck=True)

    def advance(self, until_s: float) -> None:
        """Let time pass, and show what comes up to `until_s`."""
        self._pass(until_s)

    # --- inside

    def _pass(self, until_s: float, *, stops_if_stuck: bool = False) -> Stuck | None:
        self._now_s = max(self._now_s, until_s)
        while True:
            tick_s = self._tick * WATCH_S
            event_s = self._coming[0][0] if self._coming else math.inf
            if min(tick_s, event_s) > until_s:
                return None
            if event_s <= tick_s:
                _, _, event = heapq.heappop(self._coming)
                self._show(event_s, event)
                self._soon(event_s)
            else:
                self._watch(tick_s)
                wait_s = self._wait_s(tick_s)
                last_s = min(tick_s + wait_s, until_s)
                self._tick = max(self._tick + 1, math.ceil(last_s / WATCH_S))
                found = self._stuck(tick_s) if stops_if_stuck else None
                if found is not None:
                    self._now_s = tick_s
                    return found

    def _stuck(self, at_s: float) -> Stuck | None:
        """As live._late: where the policy stays on the request's way, so does the request."""
        if not self._passages.stuck(believed(self._seen, at_s), at_s):
            return None
        self._state, decision = self._policy.step(self._state, Asked(at_s))
        return Stuck(at_s, decision) if decision.cut == self._course.cuts.local else None

    def _soon(self, at_s: float) -> None:
        """Something has changed: the next tick comes at its time again."""
        self._tick = min(self._tick, math.floor(at_s / WATCH_S) + 1)

    def _wait_s(self, at_s: float) -> float:
        """For how long from a tick on nothing need be looked for, unless something happens."""
        if len(self._passages):
            return WATCH_S
        if not self._looks or self._looking:
            return math.inf
        return when_next(self._probing, self._seen, self._course.cuts, at_s)

    def _watch(self, at_s: float) -> None:
        if len(self._passages):
            self._tell(self._passages.overdue(believed(self._seen, at_s), at_s))
        if not self._looks or self._looking:
            return
        self._probing, action = next_action(
            self._probing, self._seen, self._course.cuts, at_s, self._passages.use
        )
        if action is not None:
            self._looking = True
            found = answer(self._course, action, at_s, self._noisy)
            self.shows(found.at_s, found)

    def _show(self, at_s: float, event: _Event) -> None:
        passages, cuts = self._passages, self._course.cuts.cuts
        match event:
            case _Ran(request, cut, compute_s):
                self._tell(passages.ran(request, cut, compute_s, at_s))
            case _Sent(request, cut, held_s):
                size = round(cuts[cut].up_bytes)
                self._tell(passages.sent(request, cut, size, held_s, at_s))
            case _Came(request, cut, queue_s, compute_s):
                size = round(cuts[cut].down_bytes)
                self._tell(passages.arrived(request, cut, size, queue_s, compute_s, at_s))
            case Answer():
                self._looking = False
                if event.answered:
                    self._probing = looked(
                        self._probing, event.action, at_s, look_bytes(event.action), event.took_s
                    )
                # Its noise is in it already.
                self._fold(() if event.seen is None else (event.seen,))
            case Lost() | Back():
                self._fold((event,))

    def _events(self, journey: Journey) -> Iterable[tuple[float, _Event]]:
        request, cut = self._request, journey.cut
        used = self._course.cuts.cuts[cut]
        phases = {phase.part: phase for phase in journey.phases}
        own = phases.get(Part.DEVICE)
        if own is not None:
            yield own.end_s, _Ran(request, cut, own.end_s - own.start_s)
        if Part.UP in phases and used.up_bytes > 0:
            up = phases[Part.UP]
            # Its acknowledgement comes by the way of the answer.
            there_s = self._course.opens_s(Part.DOWN, phases[Part.UP_LATENCY].end_s)
            back_s = there_s + self._course.at(there_s).down_latency_s
            yield back_s, _Sent(request, cut, up.end_s - up.start_s)
        if Part.SERVER in phases and Part.DOWN_LATENCY in phases:
            queue, ran = phases[Part.QUEUE], phases[Part.SERVER]
            waited_s, took_s = queue.end_s - queue.start_s, ran.end_s - ran.start_s
            yield phases[Part.DOWN_LATENCY].end_s, _Came(request, cut, waited_s, took_s)

    def _tell(self, told: Iterable[Observation]) -> None:
        self._fold(map(self._measured, told))

    def _fold(self, told: Iterable[Observation]) -> None:
        for observation in told:
            self._seen = self._observer.see(self._seen, observation)
            self._state, _ = self._policy.step(self._state, observation)

    def _measured(self, observation: Observation) -> Observation:
        """With noise; what is unfinished is no measurement."""
        match observation:
            case Transfer(unfinished=False) | RoundTrip():
                return replace(observation, took_s=self._noisy(observation.took_s))
            case ServerRun(unfinished=False):
                return replace(
                    observation,
                    compute_s=self._noisy(observation.compute_s),
                    queue_s=self._noisy(observation.queue_s),
                )
            case DeviceRun():
                return replace(observation, compute_s=self._noisy(observation.compute_s))
        return observation
