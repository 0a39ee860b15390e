"""The other end of benchmarks/transport.py, and the ways that are compared: each echoes a message.

"alone" is a library as it is, without cutset: whole messages through blocking calls of one thread.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from cutset.errors import CutsetError
from cutset.runtime.codec import decode, decode_tensor, dtype_name, encode, tensor_view
from cutset.runtime.direct_transport import DirectTransport
from cutset.runtime.framing import message_prefix, read_message
from cutset.runtime.message_parts import Payload
from cutset.runtime.messages import Activation
from cutset.runtime.transport import Arrival, Transport
from cutset.runtime.zenoh_transport import ZenohTransport, free_endpoint

try:
    import zmq
except ImportError:  # a comparison only: cutset does not need it
    zmq = None  # type: ignore[assignment]

TIMEOUT_S = 60.0
TENSOR, SINK, SOURCE = "t", "sink", "source"  # echo it; keep it; send so many bytes


def header(array: Any, sender: str, tensor: str = TENSOR) -> bytes:
    return encode(Activation("s", 1, 1, tensor, dtype_name(array), array.shape, sender, 1.0))


def tensor_of(message: Activation, payload: Payload) -> Any:
    return decode_tensor(message.tensor, message.dtype, message.shape, payload, None)


def tcp(connection: socket.socket, raw: Payload) -> None:
    """A message as cutset frames it, over a plain socket."""
    parts = [memoryview(message_prefix(b"", raw)), memoryview(raw)]
    sent = connection.sendmsg(parts)
    if (rest := sent - len(parts[0])) < len(raw):
        connection.sendall(parts[1][rest:])


def _serve_tcp(server: socket.socket) -> None:
    connection, _ = server.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(EOFError):
        while True:
            tcp(connection, read_message(connection)[1])


def _serve_zmq(router: Any) -> None:
    while True:
        router.send_multipart(router.recv_multipart(copy=False), copy=False)


def _ours(transport: Transport) -> None:
    """Echo through transport and codec, from the thread that receives."""

    def receive(head: bytes, payload: Payload, arrival: Arrival) -> None:
        message = decode(head)
        assert isinstance(message, Activation)
        array = tensor_of(message, payload)
        if message.tensor == SOURCE:
            array = np.zeros(int(array[0]), np.uint8)
        if message.tensor != SINK:
            back = header(array, "")
            transport.send(message.sender, back, tensor_view(array), data=True)

    transport.start(receive, lambda address: None)


def serve(host: str) -> None:
    """Echo in every way until standard input closes; prints where, as one line."""
    server = socket.create_server((host, 0))
    threading.Thread(target=_serve_tcp, args=(server,), daemon=True).start()
    ports = [server.getsockname()[1], 0, 0]
    secret = public = b"-"
    if zmq is not None:
        context = zmq.Context()
        public, secret = zmq.curve_keypair()
        for i in (1, 2):
            router = context.socket(zmq.ROUTER)
            if i == 2:
                router.curve_server, router.curve_secretkey = True, secret
            ports[i] = router.bind_to_random_port(f"tcp://{host}")
            threading.Thread(target=_serve_zmq, args=(router,), daemon=True).start()
    endpoints = [free_endpoint().replace("127.0.0.1", host) for _ in range(2)]
    plain = ZenohTransport(listen=endpoints[:1])
    session = plain._session
    subscriber = session.declare_subscriber(
        "bench/there", lambda sample: put(session, "bench/back", sample.payload)
    )
    direct = DirectTransport(ZenohTransport(listen=endpoints[1:], mesh=False), listen=endpoints[1:])
    for transport in (plain, direct):
        _ours(transport)
    place, token = direct.links.endpoint.places[0], direct.links.endpoint.token
    answer = [*ports, public.decode(), *endpoints, plain.address, direct.address, place.port]
    print(*answer, token.hex(), flush=True)
    sys.stdin.read()
    del subscriber
    os._exit(0)


def put(session: Any, key: str, payload: Any) -> None:
    import zenoh

    session.put(key, payload, congestion_control=zenoh.CongestionControl.BLOCK, express=True)


class Ways:
    """The near end: `echo(way)` sends a tensor there and back; `close` ends what was opened."""

    def __init__(self, host: str, line: str) -> None:
        from cutset.runtime.message_parts import DataEndpoint, Place

        parts = line.split()
        self._closing: list[Callable[[], None]] = []
        tcp_port, zmq_port, curve_port = map(int, parts[:3])
        self._tcp = socket.create_connection((host, tcp_port))
        self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._closing.append(self._tcp.close)
        self._zmq: dict[str, Any] = {}
        if zmq is not None and zmq_port:
            context = zmq.Context()
            self._closing.append(context.destroy)
            for name, port in (("zmq", zmq_port), ("zmq_curve", curve_port)):
                dealer = context.socket(zmq.DEALER)
                if name == "zmq_curve":
                    dealer.curve_publickey, dealer.curve_secretkey = zmq.curve_keypair()
                    dealer.curve_serverkey = parts[3].encode()
                dealer.connect(f"tcp://{host}:{port}")
                self._zmq[name] = dealer
        plain = ZenohTransport(connect=(parts[4],))
        direct = DirectTransport(ZenohTransport(connect=(parts[5],), mesh=False))
        self._ours: dict[str, tuple[Transport, str, queue.SimpleQueue[tuple[bytes, Payload]]]] = {}
        self._start("cutset_zenoh", plain, parts[6])
        self._start("cutset", direct, parts[7])
        direct.introduce(
            parts[7], DataEndpoint((Place(host, int(parts[8])),), bytes.fromhex(parts[9]))
        )
        for known, address, _ in self._ours.values():
            if not known.wait_for(address, TIMEOUT_S):
                raise CutsetError("the other end is not reached")
        assert direct.path(parts[7]) == "direct"
        self._session = plain._session
        self._bare: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._subscriber = self._session.declare_subscriber(
            "bench/back", lambda sample: self._bare.put(sample.payload)
        )

    def _start(self, name: str, transport: Transport, address: str) -> None:
        answers: queue.SimpleQueue[tuple[bytes, Payload]] = queue.SimpleQueue()
        transport.start(lambda head, payload, _: answers.put((head, payload)), lambda lost: None)
        self._ours[name] = (transport, address, answers)
        self._closing.append(transport.close)

    def close(self) -> None:
        self._subscriber.undeclare()
        for close in self._closing:
            close()

    def names(self) -> list[str]:
        return ["tcp", *self._zmq, "zenoh", *self._ours]

    def echo(self, way: str, array: Any) -> None:
        if way == "tcp":
            tcp(self._tcp, memoryview(array))
            read_message(self._tcp)
        elif way in self._zmq:
            self._zmq[way].send_multipart([b"h", memoryview(array)], copy=False)
            self._zmq[way].recv_multipart(copy=False)
        elif way == "zenoh":
            put(self._session, "bench/there", memoryview(array).tobytes())
            self._bare.get(timeout=TIMEOUT_S)
        else:
            self.send(way, array, TENSOR)
            self.receive(way)

    def send(self, way: str, array: Any, tensor: str) -> None:
        transport, address, _ = self._ours[way]
        head = header(array, transport.address, tensor)
        transport.send(address, head, tensor_view(array), data=True)

    def receive(self, way: str) -> Any:
        head, payload = self._ours[way][2].get(timeout=TIMEOUT_S)
        message = decode(head)
        assert isinstance(message, Activation)
        return tensor_of(message, payload)


if __name__ == "__main__":
    serve(sys.argv[1])
