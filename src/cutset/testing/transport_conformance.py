"""What every Transport must do: subclass TransportConformance in a test module and say how peers
are made. Needs nothing but plain asserts.

    class TestMine(TransportConformance):
        def peers(self, count): ...   # yields `count` transports that can reach each other
"""

from __future__ import annotations

import queue
from collections.abc import Sequence
from contextlib import AbstractContextManager
from threading import Event

from cutset.errors import LocalProtocolError
from cutset.runtime.transport import Transport

TIMEOUT_S = 20.0


class Inbox:
    """Takes what a transport receives; `hold` makes the receiver stall until it is set."""

    def __init__(self, transport: Transport) -> None:
        self.messages: queue.SimpleQueue[tuple[bytes, bytes]] = queue.SimpleQueue()
        self.lost: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.hold = Event()
        self.hold.set()
        transport.start(self._receive, self.lost.put)

    def _receive(self, header: bytes, payload: bytes) -> None:
        self.hold.wait(TIMEOUT_S)
        self.messages.put((header, payload))

    def next(self) -> tuple[bytes, bytes]:
        return self.messages.get(timeout=TIMEOUT_S)


class TransportConformance:
    """Tests for any transport; `peers` makes fresh ones, and closes them at its end."""

    def peers(self, count: int) -> AbstractContextManager[Sequence[Transport]]:
        raise NotImplementedError

    def test_payloads_of_all_sizes_arrive_whole(self) -> None:
        with self.peers(2) as (a, b):
            Inbox(a)
            inbox = Inbox(b)
            assert a.wait_for(b.address, TIMEOUT_S)
            for size in (0, 1, 4095, 65_536, 2_000_003):
                payload = bytes(i % 251 for i in range(min(size, 251))) * (size // 251 + 1)
                a.send(b.address, b"h%d" % size, payload[:size])
                assert inbox.next() == (b"h%d" % size, payload[:size])

    def test_order_is_kept(self) -> None:
        with self.peers(2) as (a, b):
            Inbox(a)
            inbox = Inbox(b)
            assert a.wait_for(b.address, TIMEOUT_S)
            for i in range(300):
                a.send(b.address, b"%d" % i, b"x" * (i * 37 % 5000))
            assert [inbox.next()[0] for _ in range(300)] == [b"%d" % i for i in range(300)]

    def test_a_stalled_receiver_loses_nothing(self) -> None:
        with self.peers(2) as (a, b):
            Inbox(a)
            inbox = Inbox(b)
            assert a.wait_for(b.address, TIMEOUT_S)
            inbox.hold.clear()
            for i in range(60):
                a.send(b.address, b"%d" % i, b"x" * 100_000)
            inbox.hold.set()
            assert [inbox.next()[0] for _ in range(60)] == [b"%d" % i for i in range(60)]

    def test_only_the_addressee_receives(self) -> None:
        with self.peers(3) as (a, b, c):
            Inbox(a)
            to_b, to_c = Inbox(b), Inbox(c)
            assert a.wait_for(b.address, TIMEOUT_S)
            assert a.wait_for(c.address, TIMEOUT_S)
            a.send(b.address, b"for b")
            a.send(c.address, b"for c", urgent=True)
            assert to_b.next() == (b"for b", b"")
            assert to_c.next() == (b"for c", b"")
            assert to_b.messages.empty()
            assert to_c.messages.empty()

    def test_a_message_to_nobody_is_lost_quietly(self) -> None:
        with self.peers(1) as (a,):
            Inbox(a)
            a.send("nobody", b"h", b"p")
            assert not a.wait_for("nobody", 0.01)

    def test_peers_hear_who_leaves(self) -> None:
        with self.peers(2) as (a, b):
            inbox = Inbox(a)
            Inbox(b)
            assert a.wait_for(b.address, TIMEOUT_S)
            b.close()
            assert inbox.lost.get(timeout=TIMEOUT_S) == b.address

    def test_a_closed_transport_refuses_to_send(self) -> None:
        with self.peers(1) as (a,):
            Inbox(a)
            a.close()
            a.close()
            try:
                a.send(a.address, b"h")
            except LocalProtocolError:
                return
            raise AssertionError("a closed transport sent")
