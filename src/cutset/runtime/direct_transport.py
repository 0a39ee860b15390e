"""The default transport: data over connections of its own, everything else over Zenoh.

Membership, liveliness, discovery and control stay on the control plane, which also hands out where
peers take data and the token that opens a connection. Where no direct connection comes up, data
goes over the control plane as well. docs/decisions.md says why, with the measurements.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from cutset.errors import LocalProtocolError, TransportError
from cutset.runtime.direct_links import DirectLinks
from cutset.runtime.message_parts import DataEndpoint, Payload
from cutset.runtime.transport import Arrival, Lost, Receive, Transport, Wanted, always
from cutset.runtime.zenoh_transport import parse_endpoint

DIRECT: Final = "direct"
PORT_DISTANCE: Final = 1000  # from the control plane's port, so that neighbouring ports stay free
DIRECT_WAIT_S: Final = 5.0  # before data goes over the control plane: also the peer may dial


def data_place(endpoint: str) -> tuple[str, int] | None:
    """Where a device that listens on a control endpoint takes data; None beside an encrypted one.

    Beyond loopback the port is fixed, so that firewalls can let it through.
    """
    parsed = parse_endpoint(endpoint, field="--listen")
    if parsed.protocol != "tcp":
        return None  # what asks for encryption must not get a plain connection beside it
    port = parsed.port + PORT_DISTANCE
    return parsed.host, 0 if parsed.is_loopback or not parsed.port or port > 65535 else port


class DirectTransport:
    """`control` carries all but data, and is closed with this. See Transport for what is promised.

    `listen` are the control plane's endpoints beside which connections for data are taken; without
    any, peers that this one dials use its connections both ways.
    Raises TransportError where a host cannot be listened on.
    """

    def __init__(
        self,
        control: Transport,
        *,
        listen: Sequence[str] = (),
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.control = control
        self._log = log
        self._delivering = threading.RLock()
        self._closed = False
        self._receive: Receive = lambda header, payload, arrival: None
        self._since_s: dict[str, float] = {}  # when a peer was introduced
        self._told: set[str] = set()
        self.links = DirectLinks(control.address, self._deliver, log)
        try:
            for endpoint in listen:
                place = data_place(endpoint)
                if place is not None:
                    self.links.listen(*place)
        except OSError as error:
            self.links.close()
            control.close()
            raise TransportError(
                f"cannot listen for data: {error.strerror or error}",
                field="listen",
                value=endpoint,
                remedy="check the host; an address must belong to this machine",
            ) from None

    @property
    def address(self) -> str:
        return self.control.address

    @property
    def data_endpoint(self) -> DataEndpoint | None:
        endpoint = self.links.endpoint
        return endpoint if endpoint.places else None

    def start(self, receive: Receive, lost: Lost) -> None:
        def gone(address: str) -> None:
            self._since_s.pop(address, None)
            self._told.discard(address)
            self.links.drop(address)
            lost(address)

        self._receive = receive
        self.control.start(self._deliver, gone)

    def _deliver(self, header: bytes, payload: Payload, arrival: Arrival) -> None:
        with self._delivering:  # several threads bring messages, and one call is promised
            if not self._closed:
                self._receive(header, payload, arrival)

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
        if data and self.links.send(target, header, payload, urgent=urgent, wanted=wanted):
            return
        self.control.send(target, header, payload, urgent=urgent)

    def introduce(self, address: str, endpoint: DataEndpoint) -> None:
        self._since_s.setdefault(address, time.monotonic())
        self.links.dial(address, endpoint)

    def wait_for(self, address: str, timeout_s: float) -> bool:
        end_s = time.monotonic() + timeout_s
        since_s = self._since_s.get(address)
        if since_s is not None:
            direct_s = min(end_s, since_s + DIRECT_WAIT_S) - time.monotonic()
            if self.links.wait_for(address, max(0.0, direct_s)):
                return True
        elif self.links.connected(address):
            return True
        if not self.control.wait_for(address, max(0.0, end_s - time.monotonic())):
            return False
        if since_s is not None and address not in self._told:
            self._told.add(address)
            self._log(f"no direct connection for data, which goes {self.path(address)}")
        return True

    def path(self, address: str) -> str:
        if self.links.connected(address):
            return DIRECT
        problem = self.links.problem(address)
        return self.control.path(address) + (f": {problem}" if problem else "")

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.links.close()
        self.control.close()
        if self._delivering.acquire(timeout=1.0):  # a call that runs comes to its end
            self._delivering.release()
