"""The greeting lets in who knows the token; noise is refused, whatever it is."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutset.errors import RemoteProtocolError
from cutset.runtime.framing import (
    Caller,
    Lane,
    greet,
    message_prefix,
    new_token,
    read_message,
    stamp_arrivals,
    welcome,
)
from cutset.runtime.message_parts import MAX_HEADER_BYTES, MAX_TENSOR_BYTES

CALLER = Caller("me", Lane.URGENT, b"12345678")


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    a, b = socket.socketpair()
    with a, b:
        yield a, b


def meet(mine: bytes, theirs: bytes) -> tuple[Caller | Exception, Exception | None]:
    """What the listener and the caller make of each other."""
    with pair() as (a, b):
        problems: list[Exception | None] = [None]

        def call() -> None:
            try:
                greet(a, mine, CALLER)
            except (RemoteProtocolError, OSError) as error:
                problems[0] = error

        thread = threading.Thread(target=call)
        thread.start()
        try:
            found: Caller | Exception
            found, last = welcome(b, theirs)
            b.sendall(last)
        except RemoteProtocolError as error:
            found = error
            b.shutdown(socket.SHUT_RDWR)
        thread.join()
        return found, problems[0]


def test_who_knows_the_token_is_let_in() -> None:
    token = new_token()
    assert meet(token, token) == (CALLER, None)


def test_who_does_not_know_the_token_is_refused_on_both_sides() -> None:
    found, problem = meet(new_token(), new_token())
    assert isinstance(found, RemoteProtocolError)
    assert problem is not None


def test_a_listener_that_only_pretends_is_refused() -> None:
    with pair() as (a, b):
        b.sendall(b"cutset\x00\x01" + bytes(32) + bytes(32))
        with pytest.raises(RemoteProtocolError, match="another worker"):
            greet(a, new_token(), CALLER)


def test_another_protocol_is_named_as_such() -> None:
    with pair() as (a, b):
        b.sendall(b"SSH-2.0-OpenSSH_9.6\r\n" + bytes(40))
        with pytest.raises(RemoteProtocolError, match="no worker of this version"):
            greet(a, new_token(), CALLER)


@given(st.binary(max_size=300))
def test_noise_is_not_let_in(noise: bytes) -> None:
    with pair() as (a, b):
        a.sendall(noise)
        a.shutdown(socket.SHUT_WR)
        with pytest.raises((RemoteProtocolError, OSError)):
            welcome(b, new_token())


@given(st.binary(max_size=200), st.binary(max_size=2000))
def test_messages_survive(header: bytes, payload: bytes) -> None:
    with pair() as (a, b):
        a.sendall(message_prefix(header, payload) + payload)
        got, view, arrival = read_message(b)
        assert (got, bytes(view)) == (header, payload)
        assert arrival.bytes == 12 + len(header) + len(payload)
        assert arrival.behind_bytes == 0
        assert arrival.at_s <= arrival.read_s


def _wait_for_stamps(a: socket.socket, b: socket.socket) -> None:
    """The kernel begins to stamp some time after the first socket of all asks for it; what came
    before that has the stamp of its reading."""
    for _ in range(500):
        a.sendall(message_prefix(b"one", b"1") + b"1")
        b.recv(1, socket.MSG_PEEK)
        time.sleep(0.02)
        _, _, arrival = read_message(b)
        if arrival.read_s - arrival.at_s > 0.01:
            return
    raise AssertionError("the kernel does not stamp what comes")


@pytest.mark.skipif(sys.platform != "linux", reason="only there the kernel stamps what comes")
def test_a_reader_that_is_late_knows_when_a_message_came_and_what_came_behind_it() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        a = socket.create_connection(listener.getsockname())
        b, _ = listener.accept()
    with contextlib.closing(a), contextlib.closing(b):
        stamp_arrivals(b)
        _wait_for_stamps(a, b)
        first, second = bytes(5000), bytes(9000)
        a.sendall(message_prefix(b"one", first) + first)
        a.sendall(message_prefix(b"two", second) + second)
        b.recv(2 * (12 + 3) + 5000 + 9000, socket.MSG_PEEK | socket.MSG_WAITALL)
        there_s = time.perf_counter()
        _, _, one = read_message(b)
        _, _, two = read_message(b)
    assert one.behind_bytes == two.bytes == 12 + 3 + 9000
    assert two.behind_bytes == 0
    # Of what waits in one buffer the kernel knows when the last came.
    assert two.at_s <= there_s <= one.read_s <= two.read_s


@given(st.binary(max_size=200))
def test_noise_is_a_message_an_end_or_an_error(noise: bytes) -> None:
    with pair() as (a, b):
        a.sendall(noise)
        a.shutdown(socket.SHUT_WR)
        with contextlib.suppress(EOFError, RemoteProtocolError):
            while True:
                header, payload, _ = read_message(b)
                assert 12 + len(header) + len(payload) <= len(noise)


@pytest.mark.parametrize(
    "lengths", [(MAX_HEADER_BYTES + 1, 0), (0, MAX_TENSOR_BYTES + 1), (2**32 - 1, 2**64 - 1)]
)
def test_lengths_that_no_message_has_are_refused_before_anything_is_read(
    lengths: tuple[int, int],
) -> None:
    with pair() as (a, b):
        a.sendall(lengths[0].to_bytes(4, "little") + lengths[1].to_bytes(8, "little"))
        with pytest.raises(RemoteProtocolError, match="too long"):
            read_message(b)
