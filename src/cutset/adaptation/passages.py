"""Requests on their way, turned into observations: what took how long, by this device's clock only.

A request of a cut goes up the link, runs on the server and comes down. The device knows when its
tensors were acknowledged and when the answer came; the server tells how long the request waited
and ran there. What is left between the acknowledgement and the answer is the way down, so that no
two clocks are compared. What is not at its end long after it should be is observed too: a link that
carries nothing and a server that stands still would otherwise never be seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cut, Cuts
from cutset.adaptation.observations import (
    SHOWS_LOAD_S,
    SMALL_BYTES,
    DeviceRun,
    Observation,
    ServerRun,
    Transfer,
    at_least_s,
)

#: What takes so many times what is believed, and so many seconds more, is told unfinished; again
#: when it has lasted so many times longer still. What waits behind other requests is not late while
#: these get on.
LATE_TIMES: Final = 3.0
LATE_S: Final = 0.05
AGAIN_TIMES: Final = 1.5
#: A request given up says as much as a step that was confirmed: it was told so often at its end.
GIVEN_UP_TIMES: Final = 2


@dataclass(frozen=True)
class Use:
    """What requests under way use: `links` (and the server) at all, a direction so much that they
    show what it carries, the server for so long that they show its load."""

    links: bool = False
    fills_up: bool = False
    fills_down: bool = False
    shows_load: bool = False


NO_USE: Final = Use()


@dataclass
class _Passage:
    cut: int
    since_s: float
    ran_at_s: float | None = None  # its stage on this device, if it has one
    sent_bytes: int = 0
    sent_at_s: float | None = None  # when all that goes up was acknowledged last
    came_at_s: float | None = None
    reported_s: float = 0.0  # what the server says it waited and ran
    tell_at_s: float = -math.inf  # when it is late enough to be told, again


class _Latest:
    """When requests got on last; until then others may have waited behind them."""

    def __init__(self) -> None:
        self._last: tuple[int | None, float] = (None, -math.inf)
        self._before_s = -math.inf  # when another than the last did

    def got_on(self, request: int, at_s: float) -> None:
        if self._last[0] != request:
            self._before_s = self._last[1]
        self._last = request, at_s

    def others_s(self, request: int) -> float:
        """When another than this request did."""
        return self._before_s if self._last[0] == request else self._last[1]


class Passages:
    """The requests under way. `overhead_s` is what a transfer's acknowledgement takes beside the
    link. An acknowledgement comes by the way of the answer, so that the link's latency is in both;
    `answer_delay_s` is by how much the answer's is longer (emulated links delay no
    acknowledgements). Not thread-safe: the caller holds a lock."""

    def __init__(self, cuts: Cuts, overhead_s: float = 0.0, answer_delay_s: float = 0.0) -> None:
        self._cuts = cuts
        self._overhead_s = overhead_s
        self._answer_delay_s = answer_delay_s
        self._under_way: dict[int, _Passage] = {}
        self._crossed_bytes = {True: 0, False: 0}
        self._ran, self._crossed = _Latest(), _Latest()  # on the device; links and server

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def use(self) -> Use:
        """What requests under way may be using, wherever they are."""
        cuts = [cut for p in self._under_way.values() if (cut := self._cut(p)).uses_server]
        if not cuts:
            return NO_USE
        return Use(
            True,
            any(cut.up_bytes >= SMALL_BYTES for cut in cuts),
            any(cut.down_bytes >= SMALL_BYTES for cut in cuts),
            any(cut.server_s >= SHOWS_LOAD_S for cut in cuts),
        )

    def waiting_s(self, at_s: float) -> float:
        """For how long the oldest request has been under way; 0 without any."""
        return max((at_s - p.since_s for p in self._under_way.values()), default=0.0)

    def crossed_bytes(self, up: bool) -> int:
        """How many bytes of requests were seen in this direction."""
        return self._crossed_bytes[up]

    def cut_of(self, request: int) -> int | None:
        """The cut that a request under way takes; None for an unknown one."""
        passage = self._under_way.get(request)
        return None if passage is None else passage.cut

    def began(self, request: int, cut: int, at_s: float) -> None:
        self._under_way[request] = _Passage(cut, at_s)

    def ran(self, request: int, cut: int, compute_s: float, at_s: float) -> Iterator[Observation]:
        """A stage of this device ran."""
        passage = self._known(request, cut)
        if passage is not None:
            if self._cut(passage).uses_server:
                self._ran.got_on(request, at_s)
            passage.ran_at_s = at_s
            passage.tell_at_s = -math.inf  # from now on it waits for something else
            yield DeviceRun(at_s, cut, compute_s)

    def sent(
        self, request: int, cut: int, size_bytes: int, held_s: float, at_s: float
    ) -> Iterator[Observation]:
        """A tensor of it was acknowledged, and held the link up for `held_s`."""
        passage = self._known(request, cut)
        if passage is not None:
            self._crossed.got_on(request, at_s)
            self._crossed_bytes[True] += size_bytes
            passage.sent_bytes += size_bytes
            passage.sent_at_s = at_s
            passage.tell_at_s = -math.inf
            yield Transfer(
                at_s, True, size_bytes, at_least_s(held_s - self._overhead_s, size_bytes)
            )

    def arrived(
        self,
        request: int,
        cut: int,
        size_bytes: int,
        queue_s: float,
        compute_s: float,
        at_s: float,
    ) -> Iterator[Observation]:
        """A tensor of it came from the server. What the server tells is left out where it cannot
        be: negative, no number, or more than the request has been under way for."""
        passage = self._known(request, cut)
        if passage is None:
            return
        self._crossed.got_on(request, at_s)
        self._crossed_bytes[False] += size_bytes
        passage.tell_at_s = -math.inf
        believable = (
            queue_s >= 0 and compute_s >= 0 and queue_s + compute_s <= at_s - passage.since_s
        )
        if passage.came_at_s is None:
            if not believable:
                return
            passage.reported_s = queue_s + compute_s
            yield ServerRun(at_s, cut, compute_s, queue_s)
            start_s = None if passage.sent_at_s is None else passage.sent_at_s + passage.reported_s
        else:
            start_s = passage.came_at_s
        if start_s is not None and self._cut(passage).down_used:
            took_s = at_s - start_s - self._overhead_s / 2
            if passage.came_at_s is None:
                took_s -= self._answer_delay_s
            yield Transfer(at_s, False, size_bytes, at_least_s(took_s, size_bytes))
        passage.came_at_s = at_s

    def ended(
        self, request: int, *, answered: bool, believed: Conditions, at_s: float
    ) -> tuple[float | None, list[Observation]]:
        """Seconds that it took (None for an unknown one), and where it was given up what it says.

        Late answers of what has ended are unknown from now on.
        """
        passage = self._under_way.pop(request, None)
        if passage is None:
            return None, []
        told: list[Observation] = []
        late = self._unfinished(request, passage, believed, at_s)
        if not answered and late is not None and late[0] > late[1]:
            told = [late[2]] * GIVEN_UP_TIMES
        return at_s - passage.since_s, told

    def overdue(self, believed: Conditions, at_s: float) -> list[Observation]:
        """What is late by now, and was not told lately."""
        told = []
        for request, passage in self._under_way.items():
            if at_s < passage.tell_at_s:
                continue
            late = self._unfinished(request, passage, believed, at_s)
            if late is None:
                continue
            waited_s, expected_s, observation = late
            limit_s = LATE_TIMES * expected_s + LATE_S
            if waited_s > limit_s:
                told.append(observation)
                passage.tell_at_s = at_s + (AGAIN_TIMES - 1) * waited_s
            else:
                passage.tell_at_s = at_s + limit_s - waited_s
        return told

    def stuck(self, believed: Conditions, at_s: float) -> list[int]:
        """Requests that this device alone should answer: they have waited as long as that takes,
        for something that is believed to take longer by now.

        How long they would still wait is not known. To begin anew after waiting for as long as
        that costs is never worse than twice the better choice (the ski-rental rule).
        """
        local = self._cuts.local
        if local is None:
            return []
        values_s = self._cuts.values_s(believed)
        return [
            request
            for request, passage in self._under_way.items()
            if self._cut(passage).uses_server
            and passage.came_at_s is None
            and values_s[passage.cut] > values_s[local]
            and at_s - passage.since_s > values_s[local]
        ]

    # --- inside

    def _cut(self, passage: _Passage) -> Cut:
        return self._cuts.cuts[passage.cut]

    def _known(self, request: int, cut: int) -> _Passage | None:
        passage = self._under_way.get(request)
        return passage if passage is not None and passage.cut == cut else None

    def _unfinished(
        self, request: int, passage: _Passage, believed: Conditions, at_s: float
    ) -> tuple[float, float, Observation] | None:
        """What it waits for: for how long already, how long it should be, and that as observed."""
        cut = self._cut(passage)
        if not cut.uses_server:
            return None
        up_s = _transfer_s(cut.up_bytes, believed.up_bps)
        down_s = _transfer_s(cut.down_bytes, believed.down_bps)
        first_s = 0.0 if cut.up_bytes == 0 else believed.slowdown * cut.device_s
        server_s = believed.queue_s + believed.load * cut.server_s
        if passage.came_at_s is not None:
            return None  # what is left runs on this device
        others_s = self._crossed.others_s(request)
        begun_s = passage.since_s
        if passage.ran_at_s is not None:  # however long it waited for its turn on the device
            begun_s = max(begun_s, passage.ran_at_s - first_s)
        elif cut.device_s > 0:
            others_s = max(others_s, self._ran.others_s(request))
        if cut.up_used and passage.sent_bytes < cut.up_bytes:
            # The device's own part, where it comes first, is not told apart: it is added up.
            waited_s = at_s - max(begun_s, others_s)
            rest = int(cut.up_bytes) - passage.sent_bytes
            held_s = at_least_s(waited_s - first_s - believed.up_latency_s)
            return waited_s, first_s + up_s, Transfer(at_s, True, rest, held_s, unfinished=True)
        waited_s = at_s - max(passage.sent_at_s or begun_s, others_s)
        if server_s >= down_s:
            compute_s = at_least_s(waited_s - down_s)
            run = ServerRun(at_s, passage.cut, compute_s, unfinished=True)
            return waited_s, server_s + down_s, run
        held_s = at_least_s(waited_s - server_s)
        came = Transfer(at_s, False, max(1, int(cut.down_bytes)), held_s, unfinished=True)
        return waited_s, server_s + down_s, came


def _transfer_s(size_bytes: float, rate_bps: float) -> float:
    """At the believed rate; a link that is believed to carry nothing makes nobody wait for ever."""
    return min(8 * size_bytes / max(rate_bps, 1e3), 3600.0)
