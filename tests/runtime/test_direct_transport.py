"""Data over connections of its own: who dials, what a stall holds up, and what happens instead."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
import zenoh

from cutset.runtime import connection, direct_links
from cutset.runtime.coordinator import Coordinator
from cutset.runtime.direct_links import DirectLinks
from cutset.runtime.direct_transport import DirectTransport, data_place
from cutset.runtime.framing import Lane
from cutset.runtime.message_parts import DataEndpoint, Place
from cutset.runtime.transport import arrived
from cutset.runtime.zenoh_transport import ZenohTransport, free_endpoint, session_config
from cutset.testing.transport_conformance import TIMEOUT_S, Inbox, meet

MB = 1_000_000


@contextlib.contextmanager
def peers(
    *listens: bool, log: Callable[[str], None] = lambda line: None
) -> Iterator[list[DirectTransport]]:
    """Peers that know the first one by Zenoh; those that listen can be dialled."""
    hub = free_endpoint()
    found: list[DirectTransport] = []
    try:
        for i, listen in enumerate(listens):
            control = ZenohTransport(
                listen=() if i else (hub,), connect=(hub,) if i else (), mesh=False
            )
            found.append(DirectTransport(control, listen=(hub,) if listen else (), log=log))
        yield found
    finally:
        for peer in found:
            peer.close()


def nowhere() -> DataEndpoint:
    """An endpoint at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return DataEndpoint((Place("127.0.0.1", port),), b"token")


@pytest.mark.parametrize(
    ("endpoint", "place"),
    [
        ("tcp/0.0.0.0:7447", ("0.0.0.0", 8447)),
        ("tcp/[::]:7447", ("::", 8447)),
        ("tcp/127.0.0.1:7447", ("127.0.0.1", 0)),
        ("tcp/0.0.0.0:0", ("0.0.0.0", 0)),
        ("tcp/0.0.0.0:65000", ("0.0.0.0", 0)),
        ("tls/0.0.0.0:7447", None),
    ],
)
def test_data_is_taken_beside_the_control_endpoint(
    endpoint: str, place: tuple[str, int] | None
) -> None:
    assert data_place(endpoint) == place


def test_who_cannot_be_dialled_gets_data_over_the_connection_it_opened() -> None:
    with peers(True, False) as (a, b):
        Inbox(a)
        inbox = Inbox(b)
        assert b.data_endpoint is None
        meet(b, a)
        assert a.links.wait_for(b.address, TIMEOUT_S)
        assert a.path(b.address) == b.path(a.address) == "direct"
        a.send(b.address, b"h", b"x" * MB, data=True)
        assert inbox.next() == (b"h", b"x" * MB)


def test_a_port_that_is_taken_is_passed_over() -> None:
    links = direct_links.DirectLinks("me", lambda *message: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        links.listen("127.0.0.1", port)
        (place,) = links.endpoint.places
        assert place.port != port
    links.close()


def test_without_a_direct_connection_data_goes_over_zenoh_and_says_so_once() -> None:
    lines: list[str] = []
    with peers(False, False, log=lines.append) as (a, b):
        Inbox(a)
        inbox = Inbox(b)
        a.introduce(b.address, nowhere())
        for _ in range(2):
            assert a.wait_for(b.address, TIMEOUT_S)
        assert a.path(b.address).startswith("zenoh: 127.0.0.1:")
        a.send(b.address, b"h", b"p", data=True)
        assert inbox.next() == (b"h", b"p")
    (line,) = lines
    assert "zenoh" in line
    assert "refused" in line


def test_another_worker_at_the_place_is_not_taken_for_the_right_one() -> None:
    with peers(True, True) as (a, b):
        Inbox(a)
        Inbox(b)
        place = a.links.endpoint.places
        b.introduce("somebody", DataEndpoint(place, b.links.endpoint.token))
        with b.links._changed:
            assert b.links._changed.wait_for(
                lambda: b.links._dials["somebody"].problem is not None, TIMEOUT_S
            )
        assert not b.links.connected("somebody")
        meet(b, a)


def test_a_broken_connection_is_made_again() -> None:
    with peers(True, True) as (a, b):
        Inbox(a)
        inbox = Inbox(b)
        meet(a, b)
        for _ in range(3):
            pair = a.links._pair(b.address)
            assert pair is not None
            pair.lanes[Lane.BULK]._socket.shutdown(socket.SHUT_RDWR)
            assert pair.over.wait(TIMEOUT_S)
            assert a.links.wait_for(b.address, TIMEOUT_S)
            assert b.links.wait_for(a.address, TIMEOUT_S)
        a.send(b.address, b"h", b"p", data=True)
        assert inbox.next() == (b"h", b"p")


def test_a_lost_peer_is_dialled_no_more() -> None:
    with peers(True, True) as (a, b):
        inbox = Inbox(a)
        Inbox(b)
        meet(a, b)
        dial = a.links._dials[b.address]
        b.close()
        assert inbox.lost.get(timeout=TIMEOUT_S) == b.address
        assert dial.stop.is_set()
        assert not a.links.connected(b.address)


def test_a_malformed_message_costs_its_sender_the_connection_and_nobody_else() -> None:
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    with peers(True, True, True, log=lines.put) as (a, b, c):
        inbox = Inbox(a)
        Inbox(b)
        Inbox(c)
        meet(b, a)
        meet(c, a)
        pair = b.links._pair(a.address)
        assert pair is not None
        pair.lanes[Lane.BULK]._socket.sendall(b"\xff" * 12)
        assert pair.over.wait(TIMEOUT_S)
        c.send(a.address, b"h", b"p", data=True)
        assert inbox.next() == (b"h", b"p")
        assert "too long" in lines.get(timeout=TIMEOUT_S)
        assert a.links.drops.counts() == {"greeting": 1}


def stall(a: DirectTransport, b: DirectTransport, inbox: Inbox) -> connection.Connection:
    """Fill the connection until messages wait on our side."""
    pair = a.links._pair(b.address)
    assert pair is not None
    inbox.hold.clear()
    lane = pair.lanes[Lane.BULK]
    for _ in range(200):
        a.send(b.address, b"fill", b"x" * MB, data=True)
        if lane.backlog:
            return lane
    raise AssertionError("the connection never fills")


def test_a_receiver_that_stalls_holds_up_nobody_else_and_loses_nothing() -> None:
    with peers(True, True, True) as (a, b, c):
        Inbox(a)
        stalled, other = Inbox(b), Inbox(c)
        meet(a, b)
        meet(a, c)
        stall(a, b, stalled)
        a.send(b.address, b"last", data=True)
        for i in range(20):
            a.send(c.address, b"%d" % i, b"x" * 100_000, data=True)
            assert other.next()[0] == b"%d" % i
        stalled.hold.set()
        while stalled.next()[0] != b"last":
            pass


def test_what_is_not_wanted_any_more_does_not_wait_for_a_stalled_receiver() -> None:
    with peers(True, True) as (a, b):
        Inbox(a)
        inbox = Inbox(b)
        meet(a, b)
        lane = stall(a, b, inbox)
        before, latest = lane.backlog, [0]
        for i in range(1, 500):
            latest[0] = i
            a.send(
                b.address,
                b"%d" % i,
                b"x" * MB,
                data=True,
                wanted=lambda i=i: latest[0] == i,  # type: ignore[misc]
            )
            assert lane.backlog <= before + 1
        inbox.hold.set()
        found = [inbox.next()[0]]
        while found[-1] != b"499":
            found.append(inbox.next()[0])
        # Of those between, only what the kernel took in its turn, while it found more room.
        assert len(set(found)) < 50


def test_a_backlog_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_BACKLOG", 10)
    with peers(True, True) as (a, b):
        Inbox(a)
        inbox = Inbox(b)
        meet(a, b)
        lane = stall(a, b, inbox)
        for _ in range(50):
            a.send(b.address, b"more", data=True)
        assert lane.backlog <= 10
        inbox.hold.set()


def test_no_callback_runs_after_close() -> None:
    with peers(True, True) as (a, b):
        Inbox(b)
        came = threading.Event()
        a.start(lambda *message: came.set(), lambda address: None)
        meet(b, a)
        a.close()
        a._deliver(b"h", b"p", arrived(2))
        assert not came.is_set()


def test_workers_send_straight_to_each_other(tmp_path: Path) -> None:
    plan, submodels = toy.plan([("pi", 0, 0), ("tpu", 1, 1), ("server", 2, 3)])
    x = toy.inputs(1)[0]
    cluster = toy.cluster(("pi", "tpu", "server"))
    with Coordinator(cluster, cache_dir=tmp_path) as coordinator:
        with coordinator.deploy(plan, submodels, toy.graph()) as deployment:
            session = deployment.session()
            for _ in range(5):  # of the last, acknowledgements may still be under way
                (y,) = session.run(["y"], {"x": x}, deadline_s=30)
                np.testing.assert_array_equal(y, toy.expected(x))
            stats = session.stats()
        links = {link.name: link.path for d in stats.devices.values() for link in d.links}
        assert links == dict.fromkeys(("pi>tpu", "tpu>server", "server>pi"), "direct")
        assert {s.path for s in coordinator.status()} == {None, "direct"}


def test_through_a_zenoh_router_data_goes_where_no_connection_can_be_made() -> None:
    hub = free_endpoint()
    router: Any = zenoh.open(session_config("router", (hub,), ()))
    # Neither takes connections, and neither knows the other's Zenoh endpoint.
    a, b = (DirectTransport(ZenohTransport(connect=(hub,), mesh=False)) for _ in range(2))
    try:
        Inbox(a)
        inbox = Inbox(b)
        a.introduce(b.address, nowhere())
        assert a.wait_for(b.address, TIMEOUT_S)
        assert a.path(b.address).startswith("zenoh: ")
        a.send(b.address, b"h", b"x" * MB, data=True)
        assert inbox.next() == (b"h", b"x" * MB)
    finally:
        a.close()
        b.close()
        router.close()


def test_what_comes_first_over_a_connection_can_be_answered_over_it() -> None:
    answered: queue.SimpleQueue[bool] = queue.SimpleQueue()
    a = DirectLinks("a", lambda *message: None)
    b = DirectLinks("b", lambda *message: answered.put(b.send("a", b"back", b"")))
    add = b._add

    def late(*arguments: Any, **options: Any) -> None:
        threading.Event().wait(0.05)  # b is slow to know a pair that a uses at once
        add(*arguments, **options)

    b._add = late  # type: ignore[method-assign]
    try:
        b.listen("127.0.0.1", 0)
        a.dial("b", b.endpoint)
        assert a.wait_for("b", TIMEOUT_S)
        assert a.send("b", b"there", b"")
        assert answered.get(timeout=TIMEOUT_S)
    finally:
        a.close()
        b.close()
