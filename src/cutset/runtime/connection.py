"""One TCP connection to a peer, used in both directions, without a copy of a payload.

A send goes to the kernel from the sender's own thread; what the kernel does not take at once waits
in a backlog that a thread of the connection works off, so that a peer that stalls holds up nobody
else. The backlog keeps references, not copies, and only of what is still wanted.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cutset.runtime.framing import message_prefix, read_message, stamp_arrivals
from cutset.runtime.message_parts import Payload
from cutset.runtime.transport import Receive, Wanted, always

MAX_BACKLOG: Final = 4096  # messages; more are lost, and come again
AT_ONCE_S: Final = 0.002  # how long a sender waits for the kernel before the backlog takes over
_PATIENCE: Final = (
    ("TCP_KEEPIDLE", 10),  # seconds of silence
    ("TCP_KEEPINTVL", 10),
    ("TCP_KEEPCNT", 5),
    ("TCP_USER_TIMEOUT", 60_000),  # milliseconds without a byte taken
)
#: In this order: the first is not everybody's to choose.
_BY_ACKNOWLEDGEMENTS: Final = (b"cubic", b"reno")
_DONT_WAIT: Final = getattr(socket, "MSG_DONTWAIT", None)


@dataclass(frozen=True)
class _Waiting:
    parts: list[memoryview]
    wanted: Wanted


class Connection:
    """`receive` gets each message by this connection's thread; `ended` is called once, after it."""

    def __init__(
        self,
        connection: socket.socket,
        receive: Receive,
        ended: Callable[[Exception | None], None],
    ) -> None:
        connection.settimeout(None)
        _tune(connection)
        self._socket = connection
        self._receive = receive
        self._ended = ended
        self._changed = threading.Condition()
        self._backlog: deque[_Waiting] = deque()
        self._writer: threading.Thread | None = None
        self._writing = False
        self._closed = False
        self._reader = threading.Thread(target=self._read, name="cutset-read", daemon=True)

    def start(self) -> None:
        self._reader.start()

    @property
    def backlog(self) -> int:
        """How many messages wait for the kernel."""
        return len(self._backlog)

    def send(self, header: bytes, payload: Payload, wanted: Wanted = always) -> None:
        """Hand a message over; it is lost where the connection ends or the backlog is full."""
        parts = [memoryview(message_prefix(header, payload))]
        if payload:
            parts.append(memoryview(payload))
        with self._changed:
            if self._closed:
                return
            if not self._writing:
                parts = self._now(parts)
                if not parts:
                    return
                wanted = always  # its beginning is on the wire
            elif len(self._backlog) >= MAX_BACKLOG or wanted is not always:
                self._backlog = deque(m for m in self._backlog if m.wanted())
                if len(self._backlog) >= MAX_BACKLOG:
                    return
            self._backlog.append(_Waiting(parts, wanted))
            self._writing = True
            if self._writer is None:
                self._writer = threading.Thread(
                    target=self._write, name="cutset-write", daemon=True
                )
                self._writer.start()
            self._changed.notify()

    def close(self) -> None:
        """End both directions; what waits is lost."""
        with self._changed:
            self._closed = True
            self._backlog.clear()
            self._changed.notify()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        """Wait for the threads, after `close`."""
        for thread in (self._reader, self._writer):
            if thread is not None and thread is not threading.current_thread():
                thread.join()

    def _now(self, parts: list[memoryview]) -> list[memoryview]:
        """What is left after the kernel has taken what it takes at once, or soon."""
        if _DONT_WAIT is None:  # Windows
            return parts
        end_s = 0.0
        while parts:
            try:
                parts = _rest(parts, self._socket.sendmsg(parts, (), _DONT_WAIT))
            except BlockingIOError:
                now_s = time.monotonic()
                end_s = end_s or now_s + AT_ONCE_S
                if now_s >= end_s:
                    return parts
                _wait_writable(self._socket, end_s - now_s)
            except OSError:
                return []  # the reader notices too, and ends the connection
        return parts

    def _write(self) -> None:
        while True:
            with self._changed:
                self._writing = bool(self._backlog)
                while not self._backlog:
                    if self._closed:
                        return
                    self._changed.wait()
                message = self._backlog.popleft()
            if not message.wanted():
                continue
            try:
                _send_all(self._socket, message.parts)
            except OSError:
                self.close()
                return

    def _read(self) -> None:
        problem: Exception | None = None
        try:
            while True:
                self._receive(*read_message(self._socket))
        except (EOFError, OSError):
            pass
        except Exception as error:  # a malformed message ends the connection, never the process
            problem = error
        self.close()
        if self._writer is not None:
            self._writer.join()
        self._socket.close()
        self._ended(problem)


def _rest(parts: list[memoryview], taken: int) -> list[memoryview]:
    for i, part in enumerate(parts):
        if taken < len(part):
            return [part[taken:], *parts[i + 1 :]]
        taken -= len(part)
    return []


def _send_all(connection: socket.socket, parts: list[memoryview]) -> None:
    if _DONT_WAIT is None:  # Windows has no sendmsg
        for part in parts:
            connection.sendall(part)
        return
    while parts:
        parts = _rest(parts, connection.sendmsg(parts))


def _wait_writable(connection: socket.socket, seconds: float) -> None:
    poll = select.poll()  # not select.select, which fails from the 1024th descriptor on
    poll.register(connection, select.POLLOUT)
    poll.poll(1000 * seconds)


def _tune(connection: socket.socket) -> None:
    """No delay for small messages, and a peer that has vanished is noticed in the end.

    Later than Zenoh does: a process that merely stalls must keep its connection.
    """
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    _follow_acknowledgements(connection)
    stamp_arrivals(connection)
    for name, value in _PATIENCE:
        option = getattr(socket, name, None)
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _follow_acknowledgements(connection: socket.socket) -> None:
    """Not BBR, where that is the system's congestion control: it paces a sender by the rate that
    was seen, and requests with pauses between them show no more than they were paced to. After a
    link got ten times as fast they went at a third of it for 17 s."""
    option = getattr(socket, "TCP_CONGESTION", None)
    if option is None:
        return
    with contextlib.suppress(OSError):
        if not connection.getsockopt(socket.IPPROTO_TCP, option, 16).startswith(b"bbr"):
            return
    for name in _BY_ACKNOWLEDGEMENTS:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, option, name)
            return
