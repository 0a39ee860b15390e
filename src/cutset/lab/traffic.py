"""Plain TCP between two devices of the lab: what a link carries, and what one transfer takes.

Both ends are threads of this process that have joined the devices' namespaces, so that one clock
times both.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cutset.errors import TransportError
from cutset.lab import namespaces

CHUNK_BYTES: Final = 1 << 18
CONNECT_TIMEOUT_S: Final = 10.0
TRANSFER_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True)
class End:
    """One end of a measured link: a namespace, and the device's address in it."""

    namespace_fd: int
    address: str


@dataclass
class _Received:
    """When each transfer's first and last byte came, and how many bytes the first piece had."""

    times: list[tuple[float, float, int]] = field(default_factory=list)


def payload_bps(source: End, target: End, size_bytes: int, transfers: int = 1) -> list[float]:
    """Bits of payload per second between the first and the last byte of each transfer.

    One more goes before them, so that TCP has found its window on a link with a latency.
    Raises TransportError where the devices cannot talk.
    """
    _, received = _transfer(source, target, (size_bytes,) * (transfers + 1))
    return [
        8 * (size_bytes - first_bytes) / max(last_s - first_s, 1e-9)
        for first_s, last_s, first_bytes in received[1:]
    ]


def transfer_times_s(source: End, target: End, sizes_bytes: Sequence[int]) -> list[float]:
    """Seconds from the send of each transfer to its last byte; one after another, on one idle link.

    Raises TransportError where the devices cannot talk.
    """
    sent, received = _transfer(source, target, sizes_bytes)
    return [last - start for start, (_, last, _) in zip(sent, received, strict=True)]


def _transfer(
    source: End, target: End, sizes: Sequence[int]
) -> tuple[list[float], list[tuple[float, float, int]]]:
    def listen() -> socket.socket:
        found = socket.socket()
        found.settimeout(CONNECT_TIMEOUT_S)
        found.bind((target.address, 0))
        found.listen(1)
        return found

    received = _Received()
    try:
        with namespaces.inside(target.namespace_fd, listen) as listener:
            port = listener.getsockname()[1]
            taker = threading.Thread(target=_take, args=(listener, sizes, received), daemon=True)
            taker.start()
            sent = namespaces.inside(
                source.namespace_fd, lambda: _give((target.address, port), sizes)
            )
            taker.join(TRANSFER_TIMEOUT_S)
    except OSError as error:
        raise _failed(source, target, str(error)) from None
    if len(received.times) != len(sizes):
        raise _failed(source, target, "the transfer did not end in time")
    return sent, received.times


def _give(target: tuple[str, int], sizes: Sequence[int]) -> list[float]:
    """Send each size once the last is confirmed; when each was begun."""
    data = memoryview(bytes(CHUNK_BYTES))
    starts = []
    with socket.create_connection(target, timeout=CONNECT_TIMEOUT_S) as connection:
        connection.settimeout(TRANSFER_TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for size in sizes:
            starts.append(time.perf_counter())
            while size > 0:
                size -= connection.send(data[: min(size, CHUNK_BYTES)])
            if not connection.recv(1):
                break
    return starts


def _take(listener: socket.socket, sizes: Sequence[int], received: _Received) -> None:
    buffer = bytearray(1 << 20)
    try:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(TRANSFER_TIMEOUT_S)
            for size in sizes:
                first_bytes = connection.recv_into(buffer, min(size, len(buffer)))
                first_s = last_s = time.perf_counter()
                left = size - first_bytes
                while left > 0 and (count := connection.recv_into(buffer, min(left, len(buffer)))):
                    left -= count
                    last_s = time.perf_counter()
                if left:
                    return
                received.times.append((first_s, last_s, first_bytes))
                connection.sendall(b".")
    except OSError:
        return  # the sender says what failed


def _failed(source: End, target: End, why: str) -> TransportError:
    return TransportError(
        f"no transfer from {source.address} to {target.address}: {why}",
        field="lab",
        remedy="see `cutset lab status`: is the link down?",
    )
