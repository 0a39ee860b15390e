"""What every Transport must do: subclass TransportConformance in a test module and say how peers
are made. Needs nothing but plain asserts.

    class TestMine(TransportConformance):
        def peers(self, count): ...   # yields `count` transports that can reach each other
"""

from __future__ import annotations

import queue
import socket
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from threading import Event

from cutset.errors import LocalProtocolError
from cutset.runtime.message_parts import Payload
from cutset.runtime.transport import Arrival, Transport

TIMEOUT_S = 20.0


class Inbox:
    """Takes what a transport receives; `hold` makes the receiver stall until it is set."""

    def __init__(self, transport: Transport) -> None:
        self.messages: queue.SimpleQueue[tuple[bytes, bytes]] = queue.SimpleQueue()
        self.lost: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.hold = Event()
        self.hold.set()
        transport.start(self._receive, self.lost.put)

    def _receive(self, header: bytes, payload: Payload, arrival: Arrival) -> None:
        self.hold.wait(TIMEOUT_S)
        self.messages.put((header, bytes(payload)))

    def next(self) -> tuple[bytes, bytes]:
        return self.messages.get(timeout=TIMEOUT_S)


def meet(a: Transport, b: Transport) -> None:
    """Let `a`, which is started as `b` is, know where `b` takes data, and wait for it."""
    if b.data_endpoint is not None:
        a.introduce(b.address, b.data_endpoint)
    assert a.wait_for(b.address, TIMEOUT_S)
    assert a.path(b.address)


class TransportConformance:
    """Tests for any transport; `peers` makes fresh ones, and closes them at its end."""

    def peers(self, count: int) -> AbstractContextManager[Sequence[Transport]]:
        raise NotImplementedError

    def test_payloads_of_all_sizes_arrive_whole(self) -> None:
        with self.peers(2) as (a, b):
            Inbox(a)
            inbox = Inbox(b)
            meet(a, b)
            for size in (0, 1, 4095, 65_536, 2_000_003, 10_000_019):
                payload = bytes(i % 251 for i in range(min(size, 251))) * (size // 251 + 1)
                a.send(b.address, b"h%d" % size, payload[:size], data=True)
                assert inbox.next() == (b"h%d" % size, payload[:size])

    def test_order_is_kept(self) -> None:
        with self.peers(2) as (a, b):
            Inbox(a)
            inbox = Inbox(b)
            meet(a, b)
            for i in range(300):
                a.send(b.address, b"%d" % i, b"x" * (i * 37 % 5000), data=True)
            assert [inbox.next()[0] for _ in range(300)] == [b"%d" % i for i in range(300)]

    def test_a_stalled_receiver_loses_nothing(self) -> None:
        with self.peers(2) as (a, b):
            Inbox(a)
            inbox = Inbox(b)
            meet(a, b)
            inbox.hold.clear()
            for i in range(60):
                a.send(b.address, b"%d" % i, b"x" * 100_000, data=True)
            inbox.hold.set()
            assert [inbox.next()[0] for _ in range(60)] == [b"%d" % i for i in range(60)]

    def test_a_view_is_sent_as_the_bytes_it_shows(self) -> None:
        with self.peers(2) as (a, b):
            Inbox(a)
            inbox = Inbox(b)
            meet(a, b)
            buffer = bytearray(range(256)) * 4000
            a.send(b.address, b"h", memoryview(buffer)[1:1_000_001], data=True)
            assert inbox.next() == (b"h", bytes(buffer[1:1_000_001]))

    def test_data_and_control_both_arrive(self) -> None:
        with self.peers(2) as (a, b):
            Inbox(a)
            inbox = Inbox(b)
            meet(a, b)
            sent = []
            for data in (False, True):
                for urgent in (False, True):
                    sent.append((b"%d%d" % (data, urgent), b"payload"))
                    a.send(b.address, *sent[-1], data=data, urgent=urgent)
            assert sorted(inbox.next() for _ in sent) == sorted(sent)

    def test_answers_go_back_by_the_same_way(self) -> None:
        with self.peers(2) as (a, b):
            answers = Inbox(a)
            inbox = Inbox(b)
            meet(a, b)
            a.send(b.address, b"question", data=True)
            assert inbox.next() == (b"question", b"")
            assert b.wait_for(a.address, TIMEOUT_S)
            b.send(a.address, b"answer", b"x" * 100_000, data=True)
            assert answers.next() == (b"answer", b"x" * 100_000)

    def test_many_peers_all_send_to_all(self) -> None:
        with self.peers(6) as all_:
            inboxes = [Inbox(peer) for peer in all_]
            for i, a in enumerate(all_):
                for b in all_[i + 1 :]:
                    meet(a, b)
            for i, a in enumerate(all_):
                for j, b in enumerate(all_):
                    if a is not b:
                        assert b.wait_for(a.address, TIMEOUT_S)
                        a.send(b.address, b"%d>%d" % (i, j), b"x" * 50_000, data=True)
            for j, inbox in enumerate(inboxes):
                came = {inbox.next()[0] for _ in range(len(all_) - 1)}
                assert came == {b"%d>%d" % (i, j) for i in range(len(all_)) if i != j}

    def test_strangers_are_neither_heard_nor_harmful(self) -> None:
        noise = [
            b"",
            b"\0" * 4096,
            b"\xff" * 4096,
            b"GET / HTTP/1.1\r\n\r\n",
            bytes(range(256)) * 40,
        ]
        with self.peers(2) as (a, b), ExitStack() as stack:
            Inbox(a)
            inbox = Inbox(b)
            for place in b.data_endpoint.places if b.data_endpoint else ():
                for data in noise * 2:
                    stranger = socket.create_connection((place.host, place.port), TIMEOUT_S)
                    stack.enter_context(stranger)  # some stay open and say nothing
                    with suppress(OSError):
                        stranger.sendall(data)
            meet(a, b)
            a.send(b.address, b"h", b"p", data=True)
            assert inbox.next() == (b"h", b"p")
            assert inbox.messages.empty()

    def test_only_the_addressee_receives(self) -> None:
        with self.peers(3) as (a, b, c):
            Inbox(a)
            to_b, to_c = Inbox(b), Inbox(c)
            meet(a, b)
            meet(a, c)
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
            meet(a, b)
            b.close()
            assert inbox.lost.get(timeout=TIMEOUT_S) == b.address

    def test_a_closed_transport_refuses_to_send(self) -> None:
        with self.peers(1) as (a,):
            Inbox(a)
            a.close()
            a.close()
            try:
                a.send(a.address, b"h", data=True)
            except LocalProtocolError:
                return
            raise AssertionError("a closed transport sent")
