"""Connections straight to peers: one listener, one background thread for each peer to dial.

A pair of connections joins two devices, one for what is urgent and one for the rest; either device
may have opened it, and both use it. So a device that cannot be connected to still gets its data.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cutset.errors import CutsetError, RemoteProtocolError
from cutset.runtime.connection import Connection
from cutset.runtime.drops import Drops, Reason
from cutset.runtime.framing import Caller, Lane, greet, new_token, welcome
from cutset.runtime.message_parts import DataEndpoint, Payload, Place
from cutset.runtime.transport import Receive, Wanted, always

MAX_GREETINGS: Final = 16  # under way at once
MAX_PAIRS: Final = 1024
CONNECT_TIMEOUT_S: Final = 3.0
RETRY_S: Final = 0.25  # doubles, up to
RETRY_AT_MOST_S: Final = 4.0
GIVE_UP_S: Final = 60.0  # without success; a new deployment begins again


@dataclass
class _Pair:
    dialled: bool  # by this device; otherwise accepted
    lanes: dict[Lane, Connection] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def complete(self) -> bool:
        return len(self.lanes) == len(Lane) and not self.over.is_set()

    def close(self) -> None:
        self.over.set()
        for connection in list(self.lanes.values()):
            connection.close()


@dataclass
class _Dial:
    endpoint: DataEndpoint
    stop: threading.Event = field(default_factory=threading.Event)
    ended: bool = False
    problem: str | None = None


class DirectLinks:
    """`receive` gets messages, one call at a time for each connection; `log` gets single lines.

    `address` is what this device calls itself to the peers that it dials.
    """

    def __init__(
        self,
        address: str,
        receive: Receive,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._address = address
        self._receive = receive
        self._token = new_token()
        self._changed = threading.Condition()
        self._pairs: dict[str, dict[bytes, _Pair]] = {}  # the first complete one is used
        self._dials: dict[str, _Dial] = {}
        self._servers: list[socket.socket] = []
        self._places: list[Place] = []
        self._accepting: list[threading.Thread] = []
        self._greetings = threading.Semaphore(MAX_GREETINGS)
        self._greeting: set[socket.socket] = set()
        self._closed = False
        self.drops = Drops(log)  # strangers, and connections that ended in a malformed message

    @property
    def endpoint(self) -> DataEndpoint:
        return DataEndpoint(tuple(self._places), self._token)

    # --- listening

    def listen(self, host: str, port: int) -> None:
        """Take connections at host and port; at another port where that one is taken or 0.

        Raises OSError where the host cannot be listened on.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            server = socket.create_server((host, port), family=family)
        except OSError:
            if not port:
                raise
            server = socket.create_server((host, 0), family=family)
        stated = "" if host in {"0.0.0.0", "::"} else host
        self._servers.append(server)
        self._places.append(Place(stated, server.getsockname()[1]))
        thread = threading.Thread(
            target=self._accept, args=(server,), name="cutset-accept", daemon=True
        )
        self._accepting.append(thread)
        thread.start()

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                if self._closed:
                    return
                time.sleep(0.05)  # out of descriptors: others may be closed meanwhile
                continue
            if not self._greetings.acquire(blocking=False):
                connection.close()
                self._refuse("too many greetings at once")
                continue
            threading.Thread(
                target=self._welcome, args=(connection,), name="cutset-welcome", daemon=True
            ).start()

    def _welcome(self, connection: socket.socket) -> None:
        try:
            with self._changed:
                if self._closed:
                    connection.close()
                    return
                self._greeting.add(connection)
            caller, last = welcome(connection, self._token)
        except (CutsetError, OSError) as error:
            connection.close()
            self._refuse(str(error))
            return
        finally:
            self._greetings.release()
            with self._changed:
                self._greeting.discard(connection)
        self._add(connection, caller, last)

    def _refuse(self, reason: str) -> None:
        if not self._closed:
            self.drops.add(Reason.GREETING, reason)

    # --- dialling

    def dial(self, address: str, endpoint: DataEndpoint) -> None:
        """Connect in the background, and again when that breaks, until `drop`."""
        with self._changed:
            if self._closed or not endpoint.places:
                return
            before = self._dials.get(address)
            if before is not None:
                if before.endpoint == endpoint and not before.ended:
                    return
                before.stop.set()
            dial = self._dials[address] = _Dial(endpoint)
        threading.Thread(
            target=self._dialling, args=(address, dial), name="cutset-dial", daemon=True
        ).start()

    def _dialling(self, address: str, dial: _Dial) -> None:
        wait_s, since_s = RETRY_S, time.monotonic()
        while not dial.stop.is_set() and time.monotonic() < since_s + GIVE_UP_S:
            pair = self._open(address, dial)
            if pair is not None:
                pair.over.wait()
                wait_s, since_s = RETRY_S, time.monotonic()
            dial.stop.wait(wait_s)
            wait_s = min(2 * wait_s, RETRY_AT_MOST_S)
        dial.ended = True

    def _open(self, address: str, dial: _Dial) -> _Pair | None:
        """A pair of connections to the first place that answers; None with `dial.problem` set."""
        problems = []
        for place in dial.endpoint.places:
            if dial.stop.is_set():
                return None
            number = secrets.token_bytes(8)
            try:
                for lane in Lane:
                    connection = socket.create_connection(
                        (place.host, place.port), CONNECT_TIMEOUT_S
                    )
                    try:
                        greet(connection, dial.endpoint.token, Caller(self._address, lane, number))
                    except BaseException:
                        connection.close()
                        raise
                    self._add(connection, Caller(address, lane, number))
            except (OSError, RemoteProtocolError) as error:
                reason = error.strerror if isinstance(error, OSError) else None
                problems.append(f"{place.host}:{place.port}: {reason or error}")
                self._remove(address, number)
                continue
            with self._changed:
                dial.problem = None
                return self._pairs.get(address, {}).get(number)
        with self._changed:
            dial.problem = "; ".join(problems)
            self._changed.notify_all()
        return None

    # --- pairs

    def _add(self, connection: socket.socket, caller: Caller, last: bytes = b"") -> None:
        """A greeted connection; one that was accepted has `last` to send.

        That is sent when the pair is known here: what the peer then says may be answered at once.
        """
        accepted = bool(last)
        link = Connection(connection, self._receive, lambda problem: self._ended(caller, problem))
        with self._changed:
            known = self._pairs.get(caller.address, {})
            pair = known.get(caller.pair) or _Pair(dialled=not accepted)
            crowded = sum(map(len, self._pairs.values())) >= MAX_PAIRS
            if self._closed or crowded or caller.lane in pair.lanes:
                connection.close()
                return
            if accepted:
                try:
                    connection.sendall(last)  # a few bytes on a new connection: it does not block
                except OSError:
                    connection.close()
                    return
            known = self._pairs.setdefault(caller.address, known)
            known[caller.pair] = pair
            pair.lanes[caller.lane] = link
            # A peer dials again only when its last pair was over: what is left of it here is dead.
            over = accepted and pair.complete
            dead = [p for p in known.values() if over and not p.dialled and p is not pair]
            self._changed.notify_all()
        link.start()
        for other in dead:
            other.close()

    def _ended(self, caller: Caller, problem: Exception | None) -> None:
        if problem is not None:
            self._refuse(str(problem))
        self._remove(caller.address, caller.pair)

    def _remove(self, address: str, number: bytes) -> None:
        with self._changed:
            known = self._pairs.get(address, {})
            pair = known.pop(number, None)
            if not known:
                self._pairs.pop(address, None)
            self._changed.notify_all()
        if pair is not None:
            pair.close()

    def _pair(self, address: str) -> _Pair | None:
        known = self._pairs.get(address, {})
        return next((pair for pair in known.values() if pair.complete), None)

    def connected(self, address: str) -> bool:
        with self._changed:
            return self._pair(address) is not None

    def send(
        self,
        target: str,
        header: bytes,
        payload: Payload,
        *,
        urgent: bool = False,
        wanted: Wanted = always,
    ) -> bool:
        """Hand a message to the peer's connection; False where there is none."""
        with self._changed:
            pair = self._pair(target)
        if pair is None:
            return False
        pair.lanes[Lane.URGENT if urgent else Lane.BULK].send(header, payload, wanted)
        return True

    def problem(self, address: str) -> str | None:
        """Why a peer that was dialled could not be connected to, when last tried."""
        with self._changed:
            dial = self._dials.get(address)
            return None if dial is None else dial.problem

    def wait_for(self, address: str, timeout_s: float) -> bool:
        """Wait until the peer is connected, by whichever side dialled.

        False when the time is over, or earlier where it cannot be dialled and cannot dial us.
        """

        def settled() -> bool:
            dial = self._dials.get(address)
            failed = dial is not None and dial.problem is not None and not self._places
            return failed or self._pair(address) is not None

        with self._changed:
            self._changed.wait_for(settled, timeout_s)
            return self._pair(address) is not None

    def drop(self, address: str) -> None:
        """The peer is gone: dial no more, and close what is left."""
        with self._changed:
            dial = self._dials.pop(address, None)
            pairs = list(self._pairs.get(address, {}).values())
        if dial is not None:
            dial.stop.set()
        for pair in pairs:
            pair.close()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            greeting = list(self._greeting)
            addresses = {*self._dials, *self._pairs}
        for server in self._servers:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept
            server.close()
        for connection in greeting:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for address in addresses:
            self.drop(address)
