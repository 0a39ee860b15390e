"""Bytes on a direct connection: a greeting that proves who may speak, then messages.

A message is its header and its payload, each preceded by nothing but both lengths. The greeting is
a challenge in both directions: each side proves by HMAC-SHA-256 that it knows the listener's
token, which travels over the control plane, without sending it. It keeps out strangers and crossed
wires; it hides nothing: the bytes that follow are neither encrypted nor signed.
"""

from __future__ import annotations

import array
import contextlib
import hmac
import secrets
import socket
import struct
import sys
import time
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from cutset.errors import RemoteProtocolError
from cutset.runtime.message_parts import (
    MAX_ADDRESS_LENGTH,
    MAX_HEADER_BYTES,
    MAX_TENSOR_BYTES,
    Payload,
)
from cutset.runtime.transport import Arrival, arrived

GREETING_TIMEOUT_S: Final = 3.0
TOKEN_BYTES: Final = 32

_PREFIX: Final = struct.Struct("<IQ")  # bytes of the header, bytes of the payload
_MAGIC: Final = b"cutset\x00\x01"
_HELLO: Final = struct.Struct("<8s32s")  # magic, the listener's nonce
_ANSWER: Final = struct.Struct("<B8s32s32sH")  # lane, pair, nonce, proof, bytes of the address
_PROOF_BYTES: Final = 32
_WAIT_ALL: Final = getattr(socket, "MSG_WAITALL", 0)
_STAMPS: Final = sys.platform == "linux"
_SO_TIMESTAMPNS: Final = 35  # asm-generic/socket.h; Python has no name for it
_STAMP: Final = struct.Struct("@ll")
_STAMP_SPACE: Final = 64  # for a stamp and its header, at least
_OLDEST_STAMP_S: Final = 60.0

if _STAMPS:
    import fcntl
    import termios


class Lane(IntEnum):
    """What is urgent has a connection of its own, so that it never waits behind a tensor."""

    BULK = 0
    URGENT = 1


@dataclass(frozen=True)
class Caller:
    """Who opened a connection. Both lanes of one caller carry the same random `pair`."""

    address: str
    lane: Lane
    pair: bytes


def new_token() -> bytes:
    return secrets.token_bytes(TOKEN_BYTES)


def _proof(token: bytes, who: bytes, *parts: bytes) -> bytes:
    # Every part but the last has a fixed length, so that no two lists of parts read the same.
    return hmac.digest(token, b"".join((who, *parts)), "sha256")


def greet(connection: socket.socket, token: bytes, caller: Caller) -> None:
    """The caller's half of the greeting.

    Raises RemoteProtocolError where the listener does not know the token, OSError (also over
    time) where the connection fails.
    """
    end_s = time.monotonic() + GREETING_TIMEOUT_S
    magic, nonce = _HELLO.unpack(_receive(connection, _HELLO.size, end_s))
    if magic != _MAGIC:
        raise RemoteProtocolError("no worker of this version listens there")
    mine = secrets.token_bytes(_PROOF_BYTES)
    name = caller.address.encode()
    about = bytes([caller.lane]) + caller.pair + mine
    proof = _proof(token, b"caller\x00", nonce, about, name)
    connection.sendall(_ANSWER.pack(caller.lane, caller.pair, mine, proof, len(name)) + name)
    back = _receive(connection, _PROOF_BYTES, end_s)
    if not hmac.compare_digest(back, _proof(token, b"listen\x00", nonce, mine)):
        raise RemoteProtocolError("another worker listens there")


def welcome(connection: socket.socket, token: bytes) -> tuple[Caller, bytes]:
    """The listener's half of the greeting: who is there, and the bytes that end it.

    Those are the caller's to send, when it is ready for what follows: upon them the peer speaks.
    Raises RemoteProtocolError on a stranger, OSError (also over time) where the connection fails.
    """
    end_s = time.monotonic() + GREETING_TIMEOUT_S
    nonce = secrets.token_bytes(_PROOF_BYTES)
    connection.sendall(_HELLO.pack(_MAGIC, nonce))
    lane, pair, theirs, proof, length = _ANSWER.unpack(_receive(connection, _ANSWER.size, end_s))
    if length > 4 * MAX_ADDRESS_LENGTH:
        raise RemoteProtocolError("a greeting is too long", value=f"{length} bytes")
    name = _receive(connection, length, end_s)
    about = bytes([lane]) + pair + theirs
    if not hmac.compare_digest(proof, _proof(token, b"caller\x00", nonce, about, name)):
        raise RemoteProtocolError("a stranger does not know this worker's token")
    try:
        caller = Caller(name.decode(), Lane(lane), pair)
    except ValueError:  # UnicodeDecodeError is one
        raise RemoteProtocolError("a greeting cannot be read") from None
    return caller, _proof(token, b"listen\x00", nonce, theirs)


def message_prefix(header: bytes, payload: Payload) -> bytes:
    """What precedes a payload on the wire."""
    return _PREFIX.pack(len(header), len(payload)) + header


def stamp_arrivals(connection: socket.socket) -> None:
    """Have the kernel say when what is read came, where it can: a thread may read it much later."""
    if _STAMPS:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


def read_message(connection: socket.socket) -> tuple[bytes, Payload, Arrival]:
    """The next message; its payload is read by the kernel into a buffer of its own, once.

    Raises EOFError at the end, OSError where the connection fails, RemoteProtocolError on lengths
    that no message has or that do not fit into memory.
    """
    header_bytes, payload_bytes = _PREFIX.unpack(_read(connection, _PREFIX.size))
    if header_bytes > MAX_HEADER_BYTES or payload_bytes > MAX_TENSOR_BYTES:
        raise RemoteProtocolError(
            "a message is too long", value=f"{header_bytes} + {payload_bytes} bytes"
        )
    header = _read(connection, header_bytes)
    total_bytes = _PREFIX.size + header_bytes + payload_bytes
    if not payload_bytes:
        return header, b"", arrived(total_bytes)
    try:
        payload = np.empty(payload_bytes, np.uint8).data  # not zeroed, unlike a bytearray
    except MemoryError:
        raise RemoteProtocolError(
            "no memory for a message", value=f"{payload_bytes} bytes"
        ) from None
    at_s = _fill(connection, payload)
    behind_bytes = _waiting_bytes(connection)
    read_s = time.perf_counter()
    arrival = Arrival(min(at_s, read_s), read_s, total_bytes, behind_bytes)
    return header, payload.toreadonly(), arrival


def _read(connection: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes; few, as they are copied."""
    data = connection.recv(count, _WAIT_ALL) if count else b""
    if len(data) == count:
        return data
    if not data:
        raise EOFError
    rest = bytearray(count - len(data))
    _fill(connection, memoryview(rest))
    return data + rest


def _fill(connection: socket.socket, view: memoryview) -> float:
    """Read it whole; when its last byte came (time.perf_counter)."""
    stamps: list[tuple[int, int, bytes]] = []
    while view:
        if _STAMPS:
            count, stamps, _, _ = connection.recvmsg_into([view], _STAMP_SPACE, _WAIT_ALL)
        else:
            count = connection.recv_into(view, 0, _WAIT_ALL)
        if not count:
            raise EOFError
        view = view[count:]
    return _came_s(stamps)


def _came_s(stamps: list[tuple[int, int, bytes]]) -> float:
    """The kernel's stamp on this process's clock; now where there is none, or it cannot be."""
    now_s, wall_s = time.perf_counter(), time.time()
    for level, kind, data in stamps:
        if (level, kind, len(data)) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS, _STAMP.size):
            seconds, nanoseconds = _STAMP.unpack(data)
            ago_s: float = wall_s - seconds - 1e-9 * nanoseconds
            if 0 <= ago_s < _OLDEST_STAMP_S:  # the wall clock may have been set meanwhile
                return now_s - ago_s
    return now_s


def _waiting_bytes(connection: socket.socket) -> int:
    """What has come and was not read."""
    if not _STAMPS:
        return 0
    found = array.array("i", [0])
    with contextlib.suppress(OSError):
        fcntl.ioctl(connection, termios.FIONREAD, found)
    return max(0, found[0])


def _receive(connection: socket.socket, count: int, end_s: float) -> bytes:
    """Exactly `count` bytes before `end_s` (time.monotonic), however they trickle in."""
    data = b""
    while len(data) < count:
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the greeting takes too long")
        connection.settimeout(left_s)
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionError("the connection was closed")
        data += part
    return data
