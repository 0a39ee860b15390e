"""A transport in memory: peers of one process, for tests and for a device run in process."""

from __future__ import annotations

import queue
import threading
import time

from cutset.errors import LocalProtocolError
from cutset.runtime.message_parts import DataEndpoint, Payload
from cutset.runtime.transport import Lost, Receive, Wanted, always, arrived


class LocalNetwork:
    """Joins transports of one process; what one sends, the others receive."""

    def __init__(self) -> None:
        self._peers: dict[str, LocalTransport] = {}
        self._changed = threading.Condition()

    def join(self, address: str) -> LocalTransport:
        """A new transport on this network. The address must be free."""
        with self._changed:
            if address in self._peers:
                raise LocalProtocolError("the address is taken", field="address", value=address)
            return LocalTransport(self, address)


class LocalTransport:
    """One peer of a LocalNetwork; see Transport for what its methods promise."""

    def __init__(self, network: LocalNetwork, address: str) -> None:
        self._network = network
        self._address = address
        self._inbox: queue.SimpleQueue[tuple[str, bytes, bytes] | None] = queue.SimpleQueue()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        return self._address

    @property
    def data_endpoint(self) -> DataEndpoint | None:
        return None

    def start(self, receive: Receive, lost: Lost) -> None:
        def loop() -> None:
            while (item := self._inbox.get()) is not None:
                gone, header, payload = item
                if gone:
                    lost(gone)
                else:
                    receive(header, payload, arrived(len(header) + len(payload)))

        self._thread = threading.Thread(target=loop, name=f"local-{self._address}", daemon=True)
        self._thread.start()
        with self._network._changed:
            self._network._peers[self._address] = self
            self._network._changed.notify_all()

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
        if self._closed:
            raise LocalProtocolError("the transport is closed")
        peer = self._network._peers.get(target)
        if peer is not None:
            peer._inbox.put(("", header, bytes(payload)))  # as a network would: not our memory

    def introduce(self, address: str, endpoint: DataEndpoint) -> None:
        """Nothing: data goes the way of everything."""

    def path(self, address: str) -> str:
        return "memory"

    def wait_for(self, address: str, timeout_s: float) -> bool:
        end_s = time.monotonic() + timeout_s
        with self._network._changed:
            return self._network._changed.wait_for(
                lambda: address in self._network._peers, max(0.0, end_s - time.monotonic())
            )

    def close(self) -> None:
        with self._network._changed:
            if self._closed:
                return
            self._closed = True
            self._network._peers.pop(self._address, None)
            others = list(self._network._peers.values())
        for other in others:
            other._inbox.put((self._address, b"", b""))
        self._inbox.put(None)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
