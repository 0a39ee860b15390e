"""What the runtime asks of a network: addressed messages, in order, and news of lost peers.

Small on purpose, so that an in-memory transport passes the same conformance suite
(cutset.testing.transport_conformance) and another engine can follow.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from cutset.runtime.message_parts import DataEndpoint, Payload

PEER_TIMEOUT_S: Final = 10.0
"""How long a device waits for a connection to another that its work needs."""


@dataclass(frozen=True)
class Arrival:
    """When a message was there: its last of `bytes` bytes came at `at_s` (time.perf_counter, and as
    near to the wire as the transport can tell); at `read_s` it had been read, and so many bytes of
    what follows were there too."""

    at_s: float
    read_s: float
    bytes: int
    behind_bytes: int = 0


def arrived(bytes: int) -> Arrival:
    """Just now, as far as can be told."""
    now_s = time.perf_counter()
    return Arrival(now_s, now_s, bytes)


Receive = Callable[[bytes, Payload, Arrival], None]
"""Called with a message's header and payload, and when it came: one call at a time, in order for
each sender."""

Lost = Callable[[str], None]
"""Called with the address of a peer that is gone."""

Wanted = Callable[[], bool]
"""Whether a message that still waits to be sent is worth sending. Cheap, and takes no lock."""


def always() -> bool:
    """A message that is wanted whenever its turn comes."""
    return True


class Transport(Protocol):
    @property
    def address(self) -> str:
        """By which peers send to this one."""
        ...

    @property
    def data_endpoint(self) -> DataEndpoint | None:
        """Where peers may open a connection of their own for data; None where they cannot."""
        ...

    def start(self, receive: Receive, lost: Lost) -> None:
        """Begin to receive. The callbacks may only move what they get: they never block."""
        ...

    def send(
        self,
        target: str,
        header: bytes,
        payload: Payload = b"",
        *,
        urgent: bool = False,
        data: bool = False,
        wanted: Wanted = always,
    ) -> None:
        """Send a message; may block while the link is full.

        The payload is not copied: it must not change until the message has arrived. `data` is what
        goes between stages, beside control messages; a transport may have another way for it.
        What is no longer `wanted` when its turn comes may be dropped.
        A message to a peer that is gone or unknown is lost without an error: senders need an
        answer. Urgent messages may overtake others; the others keep their order for each peer.
        Raises LocalProtocolError when the transport is closed.
        """
        ...

    def introduce(self, address: str, endpoint: DataEndpoint) -> None:
        """Say where a peer takes data; a connection is made, and made again, in the background."""
        ...

    def wait_for(self, address: str, timeout_s: float) -> bool:
        """Wait until the peer can be sent data; False when the time is over."""
        ...

    def path(self, address: str) -> str:
        """By which way data goes to a peer: one word, and after a colon the reason if any."""
        ...

    def close(self) -> None:
        """Leave: peers learn that this one is gone, and no callback runs afterwards."""
        ...
