"""What is seen while requests run. All times are seconds on one clock: the device's own.

The peer's clock never enters: it reports durations only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cutset.adaptation.conditions import Conditions

#: Requests' transfers below this show slowness only: a shaper lets a first burst pass at once.
SMALL_BYTES = 8000
#: A server's segment that is expected to take this shows load well enough.
SHOWS_LOAD_S = 10e-3
#: What clocks show as faster is taken for this: no choice of a cut rests on what is beyond.
FASTEST_BPS: Final = 100e9
_LEAST_S: Final = 1e-6  # durations by one clock may come out as nothing


def at_least_s(took_s: float, size_bytes: float = 0.0) -> float:
    """Seconds that something took, or those that it took at least."""
    return max(took_s, _LEAST_S, 8 * float(size_bytes) / FASTEST_BPS)


@dataclass(frozen=True)
class Transfer:
    """`bytes` held a link for `took_s`, latency taken off. `up` is from device to server.

    `unfinished`: it is not at its end yet, so that it takes longer than that. `at_most`: it took no
    longer than that. `look`: it was no request's, but sent to see the link.
    """

    at_s: float
    up: bool
    bytes: int
    took_s: float
    unfinished: bool = False
    look: bool = False
    at_most: bool = False


@dataclass(frozen=True)
class ServerRun:
    """The server's segment of cut `cut` waited `queue_s` and ran `compute_s`, by its own word.

    `unfinished` and `look` as for Transfer.
    """

    at_s: float
    cut: int
    compute_s: float
    queue_s: float = 0.0
    unfinished: bool = False
    look: bool = False


@dataclass(frozen=True)
class DeviceRun:
    """The device's own segment of cut `cut` ran `compute_s`."""

    at_s: float
    cut: int
    compute_s: float


@dataclass(frozen=True)
class RoundTrip:
    """An empty message went to the server and came back in `took_s`."""

    at_s: float
    took_s: float


@dataclass(frozen=True)
class Lost:
    """The server is gone: no cut that uses it can be taken."""

    at_s: float


@dataclass(frozen=True)
class Back:
    """The server's cuts are loaded again."""

    at_s: float


@dataclass(frozen=True)
class Truth:
    """What really holds: only replays know it, and only the oracle reads it."""

    at_s: float
    conditions: Conditions


@dataclass(frozen=True)
class Asked:
    """A request is about to be sent: which cut is it to take?"""

    at_s: float


Observation = Transfer | ServerRun | DeviceRun | RoundTrip | Lost | Back | Truth | Asked
