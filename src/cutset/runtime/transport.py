"""What the runtime asks of a network: addressed messages, in order, and news of lost peers.

Small on purpose, so that an in-memory transport passes the same conformance suite
(cutset.testing.transport_conformance) and another engine can follow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Receive = Callable[[bytes, bytes], None]
"""Called with a message's header and payload, by one thread of the transport, in order."""

Lost = Callable[[str], None]
"""Called with the address of a peer that is gone."""


class Transport(Protocol):
    @property
    def address(self) -> str:
        """By which peers send to this one."""
        ...

    def start(self, receive: Receive, lost: Lost) -> None:
        """Begin to receive. The callbacks may only move what they get: they never block."""
        ...

    def send(
        self, target: str, header: bytes, payload: bytes = b"", *, urgent: bool = False
    ) -> None:
        """Send a message; may block while the link is full.

        A message to a peer that is gone or unknown is lost without an error: senders need an
        answer. Urgent messages may overtake others; the others keep their order for each peer.
        Raises LocalProtocolError when the transport is closed.
        """
        ...

    def wait_for(self, address: str, timeout_s: float) -> bool:
        """Wait until the peer can be sent to; False when the time is over."""
        ...

    def close(self) -> None:
        """Leave: peers learn that this one is gone, and no callback runs afterwards."""
        ...
