"""The transport over Eclipse Zenoh: explicit endpoints, no multicast, no shared memory.

Zenoh is not the flow control here. Samples are taken by a callback that only moves them, so that
a link never stays blocked past its lease, which would lose messages silently; the session's
window bounds what is under way, and every hop acknowledges and sends again.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import msgspec
import zenoh

from cutset.errors import LocalProtocolError, RemoteProtocolError, TransportError, UsageError
from cutset.runtime.message_parts import PROTOCOL_VERSION, DataEndpoint, Payload
from cutset.runtime.transport import Lost, Receive, Wanted, always, arrived

_ROOT: Final = f"cutset/{PROTOCOL_VERSION}"
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
DEFAULT_ENDPOINT: Final = "tcp/127.0.0.1:7447"


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """How a worker introduces itself to one who knows only its endpoint."""

    address: str
    name: str
    version: str


@dataclass(frozen=True)
class Endpoint:
    protocol: str
    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        return self.host in _LOOPBACK or self.host.startswith("127.")


def parse_endpoint(text: str, *, field: str | None = None) -> Endpoint:
    """The parts of "tcp/HOST:PORT". Raises UsageError."""
    protocol, slash, rest = text.partition("/")
    host, colon, port = rest.rpartition(":")
    number = int(port) if port.isascii() and port.isdigit() else -1
    if not slash or not colon or not host or not 0 <= number <= 65535:
        raise UsageError(
            "not an endpoint",
            field=field,
            value=text,
            remedy="write it as tcp/HOST:PORT, such as tcp/127.0.0.1:7447",
        )
    if protocol not in {"tcp", "tls"}:
        raise UsageError(
            "endpoints are tcp or tls", field=field, value=text, remedy="write tcp/HOST:PORT"
        )
    return Endpoint(protocol, host.strip("[]"), number)


def check_listen(text: str, *, insecure: bool) -> None:
    """Raise UsageError where the endpoint would be heard beyond this machine unasked."""
    endpoint = parse_endpoint(text, field="--listen")
    if not endpoint.is_loopback and not insecure:
        raise UsageError(
            "listening beyond loopback is refused: devices cannot be paired yet, so anyone who"
            " reaches the port could use this worker",
            field="--listen",
            value=text,
            remedy="add --insecure on a network that you trust, or listen on tcp/127.0.0.1:7447",
        )


def free_endpoint() -> str:
    """A loopback endpoint whose port was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp/127.0.0.1:{probe.getsockname()[1]}"


#: How long a peer may be silent before it is taken for lost. A process that ends is seen at once,
#: as its connections close; this is for devices that vanish, and must outlast a receiver or a
#: Wi-Fi that stalls for ten seconds. Deadlines and the fallback act before it.
LEASE_MS: Final = 15_000
OPEN_MS: Final = 3_000


def session_config(
    mode: str,
    listen: Sequence[str],
    connect: Sequence[str],
    *,
    discover: str | None = None,
    mesh: bool = True,
    extra: Mapping[str, object] = MappingProxyType({}),
) -> Any:
    """Zenoh's settings as cutset uses them: no multicast but on the interface `discover`."""
    settings: dict[str, object] = {
        "mode": mode,
        "scouting/multicast/enabled": discover is not None,
        # Answers say who is where; whom to connect to is the coordinator's to decide.
        "scouting/multicast/autoconnect": {"router": [], "peer": [], "client": []},
        # Peers do not forward; gossip tells workers that know only the coordinator of each other.
        "scouting/gossip/enabled": mode == "peer",
        # Every link costs its keep-alives on both sides, also when idle.
        "scouting/gossip/autoconnect": {
            "router": ["router", "peer"] if mesh else [],
            "peer": ["router", "peer"] if mesh else [],
            "client": [],
        },
        "transport/shared_memory/enabled": False,  # it would bypass the links we measure
        "transport/link/tx/lease": LEASE_MS,
        # Closing waits for attempts to connect, such as to a peer that stands still.
        "transport/unicast/open_timeout": OPEN_MS,
        "transport/link/tx/keep_alive": 4,
        # A blocked link must not be closed below us (microseconds): sending again is ours.
        "transport/link/tx/queue/congestion_control/block/wait_before_close": 600_000_000,
        "listen/endpoints": list(listen),
        "connect/endpoints": list(connect),
        **extra,
    }
    if discover is not None:
        settings["scouting/multicast/interface"] = discover
    config = zenoh.Config()
    for key, value in settings.items():
        config.insert_json5(key, json.dumps(value))
    return config


_MAX_PUBLISHERS: Final = 512


class ZenohTransport:
    """A Zenoh peer; its address is its Zenoh id. See Transport for what its methods promise.

    `listen` and `connect` are endpoints; connections are made and made again in the background.
    One that listens nowhere is a client of what it connects to, which must be there: a router
    passes on between its clients, and not between peers.
    `name` is what `find_worker` tells others; `discover` is the interface on which multicast
    questions are answered. `mesh` connects to peers of peers as well: peers do not forward.
    Raises TransportError where an endpoint cannot be listened on.
    """

    def __init__(
        self,
        *,
        listen: Sequence[str] = (),
        connect: Sequence[str] = (),
        name: str = "",
        discover: str | None = None,
        mesh: bool = True,
    ) -> None:
        self.name = name
        self.endpoints = tuple(listen)
        self._alive: set[str] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._declared: list[Any] = []
        self._publishers: dict[tuple[str, bool], Any] = {}
        try:
            self._session: Any = zenoh.open(
                session_config(
                    "peer" if listen else "client",
                    listen,
                    connect,
                    discover=discover,
                    mesh=mesh,
                    # A peer goes on trying (-1) in the background; 0 would be one attempt, so that
                    # who comes later is never met. A client would wait here.
                    extra={
                        "connect/timeout_ms": -1 if listen else 0,
                        "connect/exit_on_failure": False,
                    },
                )
            )
        except zenoh.ZError as error:
            raise _open_error(error, listen, connect) from None
        self._address = str(self._session.zid())

    @property
    def address(self) -> str:
        return self._address

    @property
    def data_endpoint(self) -> DataEndpoint | None:
        return None

    def start(self, receive: Receive, lost: Lost) -> None:
        from importlib.metadata import version

        def on_sample(sample: Any) -> None:
            attachment = sample.attachment
            if attachment is not None and not self._closed:
                header, payload = attachment.to_bytes(), sample.payload.to_bytes()
                receive(header, payload, arrived(len(header) + len(payload)))

        def on_liveliness(sample: Any) -> None:
            address = str(sample.key_expr).rpartition("/")[2]
            came = sample.kind == zenoh.SampleKind.PUT
            with self._changed:
                known = address in self._alive
                (self._alive.add if came else self._alive.discard)(address)
                self._changed.notify_all()
            if known and not came and not self._closed:
                lost(address)

        hello = msgspec.msgpack.encode(Hello(self._address, self.name, version("cutset")))

        def on_query(query: Any) -> None:
            with query:
                query.reply(query.key_expr, hello)

        session = self._session
        self._declared = [
            session.declare_subscriber(f"{_ROOT}/to/{self._address}", on_sample),
            session.liveliness().declare_subscriber(
                f"{_ROOT}/alive/*", on_liveliness, history=True
            ),
            session.declare_queryable(f"{_ROOT}/hello/{self._address}", on_query),
            # Last, so that who sees the token can send: declarations keep their order on a link.
            session.liveliness().declare_token(f"{_ROOT}/alive/{self._address}"),
        ]

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
        try:
            self._publisher(target, urgent).put(bytes(payload), attachment=header)
        except zenoh.ZError as error:
            if self._closed:
                raise LocalProtocolError("the transport is closed") from None
            raise TransportError(f"a message could not be sent: {error}") from None

    def _publisher(self, target: str, urgent: bool) -> Any:
        """A declared publisher: its key travels as a number, and is not parsed for each message."""
        publisher = self._publishers.get((target, urgent))
        if publisher is None:
            if len(self._publishers) >= _MAX_PUBLISHERS:  # peers come and go; the oldest gives way
                self._publishers.pop(next(iter(self._publishers)), None)
            publisher = self._session.declare_publisher(
                f"{_ROOT}/to/{target}",
                congestion_control=zenoh.CongestionControl.BLOCK,
                priority=zenoh.Priority.INTERACTIVE_HIGH if urgent else zenoh.Priority.DATA,
                express=True,
            )
            self._publishers[target, urgent] = publisher
        return publisher

    def introduce(self, address: str, endpoint: DataEndpoint) -> None:
        """Nothing: data goes the way of everything."""

    def path(self, address: str) -> str:
        return "zenoh"

    def wait_for(self, address: str, timeout_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: address in self._alive, timeout_s)

    def close(self) -> None:
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        # Zenoh waits for peers that stand still, and fails then: it is gone all the same.
        for declared in reversed(self._declared):
            with contextlib.suppress(zenoh.ZError):
                declared.undeclare()
        with contextlib.suppress(zenoh.ZError):
            self._session.close()


def _open_error(error: Exception, listen: Sequence[str], connect: Sequence[str]) -> TransportError:
    text = str(error)
    if not listen:
        return TransportError(
            "cannot connect",
            field="connect",
            value=", ".join(connect) or "nothing",
            remedy="start what listens there first, and check host, port and network",
        )
    where = ", ".join(listen) or "none"
    if "in use" in text:
        return TransportError(
            "the port is in use",
            field="listen",
            value=where,
            remedy="stop what listens there, or choose another port with --listen",
        )
    reason = text.split(" at /")[0].split(". at ")[0]
    return TransportError(
        f"cannot listen: {reason}",
        field="listen",
        value=where,
        remedy="check host and port; an address must belong to this machine",
    )


def find_worker(
    endpoint: str,
    device: str,
    *,
    timeout_s: float = 3.0,
    now: Callable[[], float] = time.monotonic,
) -> Hello:
    """Who listens at the endpoint? Asked over a connection of its own.

    Raises TransportError that names device and endpoint within `timeout_s` and a little.
    """
    parse_endpoint(endpoint, field=f"devices.{device}.endpoint")
    remedy = f"start `cutset worker {device} --listen {endpoint}` there, and check the network"
    deadline_s = now() + timeout_s
    try:
        session: Any = zenoh.open(
            session_config(
                "client",
                (),
                (endpoint,),
                extra={
                    "connect/timeout_ms": int(timeout_s * 1000),
                    "connect/exit_on_failure": True,
                },
            )
        )
    except zenoh.ZError:
        raise TransportError(
            f"device {device!r} cannot be reached within {timeout_s:g} s",
            field=f"devices.{device}.endpoint",
            value=endpoint,
            remedy=remedy,
        ) from None
    try:
        # A query ends with zero replies and no error when nobody (yet) answers: ask again.
        while (left_s := deadline_s - now()) > 0:
            # Who is at the endpoint passes questions on: ask for its own answer, by its id.
            for zid in session.info.peers_zid():
                for reply in session.get(f"{_ROOT}/hello/{zid}", timeout=min(1.0, left_s)):
                    if reply.ok is not None:
                        return _hello(reply.ok.payload.to_bytes(), device, endpoint)
            # A router has no answer of its own: of the workers behind it, ask for the one so named.
            if session.info.routers_zid():
                for reply in session.get(f"{_ROOT}/hello/*", timeout=min(1.0, left_s)):
                    if reply.ok is not None:
                        hello = _hello(reply.ok.payload.to_bytes(), device, endpoint)
                        if hello.name == device:
                            return hello
            threading.Event().wait(0.05)
    finally:
        session.close()
    raise TransportError(
        f"device {device!r} is connected, but no worker of this version answers",
        field=f"devices.{device}.endpoint",
        value=endpoint,
        remedy=remedy,
    )


def _hello(data: bytes, device: str, endpoint: str) -> Hello:
    try:
        return msgspec.msgpack.decode(data, type=Hello)
    except msgspec.DecodeError as error:
        raise RemoteProtocolError(
            f"device {device!r} introduces itself in words we cannot read: {error}",
            field=f"devices.{device}.endpoint",
            value=endpoint,
            remedy="run the same version of cutset on both sides",
        ) from None
