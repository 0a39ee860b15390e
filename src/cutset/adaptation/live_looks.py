"""Looks at links and server: what a live session asks for, and what an answer says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

from cutset.adaptation.observations import Observation, RoundTrip, ServerRun, Transfer, at_least_s
from cutset.adaptation.probing import (
    LEAD_BYTES,
    Action,
    LookDown,
    LookServer,
    LookUp,
    Ping,
    look_bytes,
)

#: A look whose reader was late is still timed by what came afterwards, if that is so much: of one
#: frame nobody knows how much of it was under way already, and a shaper whose timer is late lets
#: two pass together (which made 13 of 16 Mbit/s where 4600 bytes were enough).
LEAST_GAP_BYTES: Final = 6000
#: A look that has no answer by then is given up.
LOOK_TIMEOUT_S: Final = 3.0
#: In so short a time nothing is timed: where its sender was interrupted between the two, a shaper
#: let the second pass at once.
LEAST_GAP_S: Final = 0.25e-3


@dataclass(frozen=True)
class Gap:
    """What a look at a link found: `bytes` of its second transfer came in `seconds`, those that
    were not there yet when the first had been read; both transfers came within `whole_s`."""

    bytes: int
    seconds: float
    whole_s: float


class Looks(Protocol):
    """How links and server are looked at. Each raises CutsetError where no answer comes."""

    def up(self, lead_bytes: int, size_bytes: int) -> Gap:
        """For how long a transfer of `size_bytes` right behind another holds the link there."""

    def down(self, lead_bytes: int, size_bytes: int) -> Gap:
        """The same from the server."""

    def run(self, cut: int) -> tuple[float, float]:
        """Seconds that the server's segment of a cut waits there and runs."""

    def ping(self) -> float:
        """Seconds of an empty round trip, beside what it takes without any latency."""

    def expect(self, up_bps: float) -> None:
        """What the link to the server is believed to carry, bits per second."""


def look(looks: Looks, action: Action, clock: Callable[[], float]) -> Observation:
    """What is seen, at the time of the answer. Raises CutsetError where none comes."""
    match action:
        case LookUp(size):
            gap = looks.up(LEAD_BYTES, size)
            return transfer(clock(), True, size, gap)
        case LookDown(size):
            gap = looks.down(LEAD_BYTES, size)
            return transfer(clock(), False, size, gap)
        case LookServer(cut):
            queue_s, took_s = looks.run(cut)
            return ServerRun(clock(), cut, took_s, queue_s, look=True)
        case Ping():
            took_s = at_least_s(looks.ping())
            return RoundTrip(clock(), took_s)
    assert_never(action)


def transfer(at_s: float, up: bool, size_bytes: int, found: Gap) -> Transfer:
    """What a look at a link says. Where its reader was so late that too little came afterwards, no
    more is known than that all of it crossed the link meanwhile."""
    prompt = found.bytes >= size_bytes
    if found.seconds >= LEAST_GAP_S and (prompt or found.bytes >= LEAST_GAP_BYTES):
        return Transfer(at_s, up, found.bytes, found.seconds, look=True)
    both = LEAD_BYTES + size_bytes
    whole_s = at_least_s(found.whole_s, both)
    return Transfer(at_s, up, both, whole_s, look=True, at_most=True)


def unanswered(action: Action, at_s: float, waited_s: float) -> Observation | None:
    """What a look that found no answer says: of a lost ping nothing."""
    match action:
        case LookUp() | LookDown():
            up, size_bytes = isinstance(action, LookUp), look_bytes(action)
            return Transfer(at_s, up, size_bytes, waited_s, unfinished=True, look=True)
        case LookServer(cut):
            return ServerRun(at_s, cut, waited_s, unfinished=True, look=True)
    return None
