"""Echo of tensors between two processes: raw TCP, Zenoh alone, and cutset's transport and codec.

All three take turns in one run, so that noise of the machine falls on all of them. The hand-over
is what a worker adds to a hop beside transport and codec: two thread changes and its bookkeeping.
"""

from __future__ import annotations

import argparse
import queue
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import write_result

from cutset.runtime.codec import decode, decode_tensor, dtype_name, encode, tensor_view
from cutset.runtime.messages import Activation, Probe, ProbeBack
from cutset.runtime.zenoh_transport import ZenohTransport, free_endpoint

SIZES = (100_000, 1_000_000)
TIMEOUT_S = 20.0


def _message(array: Any, sender: str) -> bytes:
    return encode(Activation("s", 1, 1, "t", dtype_name(array), array.shape, sender, 1.0))


def _echo_process(endpoint: str) -> None:
    """The other end: echoes TCP on a port that it prints, Zenoh alone, and cutset's messages."""
    import zenoh

    server = socket.create_server(("127.0.0.1", 0))
    transport = ZenohTransport(connect=(endpoint,))
    session = transport._session
    outgoing: queue.SimpleQueue[tuple[str, bytes, bytes]] = queue.SimpleQueue()

    def receive(header: bytes, payload: bytes) -> None:
        message = decode(header)
        if isinstance(message, Probe):  # for the hand-over of a bare thread change
            outgoing.put((message.sender, encode(ProbeBack(message.id, time.process_time())), b""))
            return
        assert isinstance(message, Activation)
        array = decode_tensor("t", message.dtype, message.shape, payload, None)
        transport.send(message.sender, _message(array, ""), tensor_view(array))

    def alone(sample: Any) -> None:
        session.put(
            "bench/back",
            sample.payload.to_bytes(),
            congestion_control=zenoh.CongestionControl.BLOCK,
            express=True,
        )

    def sending() -> None:
        while True:
            transport.send(*outgoing.get())

    threading.Thread(target=sending, daemon=True).start()
    subscriber = session.declare_subscriber("bench/there", alone)
    transport.start(receive, lambda address: None)
    print(server.getsockname()[1], transport.address, flush=True)
    threading.Thread(target=_echo_tcp, args=(server,), daemon=True).start()
    sys.stdin.read()
    del subscriber
    import os

    os._exit(0)


def _echo_tcp(server: socket.socket) -> None:
    connection, _ = server.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        size = int.from_bytes(_read(connection, 4), "little")
        connection.sendall(_read(connection, size))


def _read(connection: socket.socket, size: int) -> bytes:
    buffer = bytearray(size)
    view, done = memoryview(buffer), 0
    while done < size:
        count = connection.recv_into(view[done:])
        if not count:
            raise SystemExit
        done += count
    return bytes(buffer)


def main(quick: bool = False) -> dict[str, Any]:
    """Medians over interleaved rounds; writes results/transport.json unless quick."""
    import zenoh

    rounds = 30 if quick else 200
    endpoint = free_endpoint()
    transport = ZenohTransport(listen=(endpoint,))
    answers: queue.SimpleQueue[tuple[bytes, bytes]] = queue.SimpleQueue()
    bare: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    transport.start(lambda header, payload: answers.put((header, payload)), lambda address: None)
    session = transport._session
    subscriber = session.declare_subscriber("bench/back", lambda s: bare.put(s.payload.to_bytes()))
    other = subprocess.Popen(
        [sys.executable, __file__, "--echo", endpoint],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdin is not None
    try:
        port, address = other.stdout.readline().split()
        connection = socket.create_connection(("127.0.0.1", int(port)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert transport.wait_for(address, TIMEOUT_S)
        echo: dict[str, dict[str, float]] = {}
        for size in SIZES:
            array = np.random.default_rng(0).integers(0, 256, size, np.uint8)
            raw = array.tobytes()

            def tcp(raw: bytes = raw) -> None:
                connection.sendall(len(raw).to_bytes(4, "little") + raw)
                _read(connection, len(raw))

            def alone(raw: bytes = raw) -> None:
                session.put(
                    "bench/there",
                    raw,
                    congestion_control=zenoh.CongestionControl.BLOCK,
                    express=True,
                )
                bare.get(timeout=TIMEOUT_S)

            def ours(array: Any = array) -> None:
                header = _message(array, transport.address)
                transport.send(address, header, tensor_view(array))
                header, payload = answers.get(timeout=TIMEOUT_S)
                message = decode(header)
                assert isinstance(message, Activation)
                decode_tensor("t", message.dtype, message.shape, payload, None)

            echo[str(size)] = _interleaved({"tcp": tcp, "zenoh": alone, "cutset": ours}, rounds)
        connection.close()
    finally:
        other.stdin.close()
        other.wait()
        other.stdout.close()
        subscriber.undeclare()
        transport.close()
    result: dict[str, Any] = {
        "rounds": rounds,
        "echo": echo,
        **_worker(rounds),
    }
    if not quick:
        write_result("transport", "measured", result)
    return result


def _interleaved(runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    shuffle = random.Random(0).shuffle
    for i in range(rounds + 5):
        shuffle(order)  # each finds the caches as another one left them
        for name in order:
            run = runs[name]
            start_s, cpu_s = time.perf_counter(), time.process_time()
            run()
            if i >= 5:
                times[name].append(time.perf_counter() - start_s)
                cpu[name].append(time.process_time() - cpu_s)
    found = {f"{name}_us": 1e6 * statistics.median(t) for name, t in times.items()}
    found |= {f"{name}_own_cpu_us": 1e6 * statistics.fmean(t) for name, t in cpu.items()}
    # A ratio in each round, then the median: what the machine does between rounds cancels.
    ratios = [a / b for a, b in zip(times["cutset"], times["zenoh"], strict=True)]
    found["cutset_over_zenoh"] = statistics.median(ratios)
    found["cutset_over_tcp"] = statistics.median(
        a / b for a, b in zip(times["cutset"], times["tcp"], strict=True)
    )
    return found


def _worker(rounds: int) -> dict[str, Any]:
    """A real worker: CPU per MB and hop, its hand-over, and memory with a 5 MB segment."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from cutset.cluster import Cluster, Device, Link
    from cutset.engine import Submodel
    from cutset.graph import Graph, Operator, Tensor
    from cutset.plan import Plan, Stage
    from cutset.runtime.coordinator import Coordinator
    from cutset.runtime.measuring import measure_link

    width, rows = 250, 100  # activations of 100 kB; weights of 5 MB in all
    inner = 5_000_000 // (4 * 2 * width)
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal((width, inner), np.float32), "w1"),
        numpy_helper.from_array(rng.standard_normal((inner, width), np.float32), "w2"),
    ]
    value = helper.make_tensor_value_info
    model: Any = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "w1"], ["h"]),
                helper.make_node("MatMul", ["h", "w2"], ["y"]),
            ],
            "segment",
            [value("x", TensorProto.FLOAT, [rows, width])],
            [value("y", TensorProto.FLOAT, [rows, width])],
            weights,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    size = 4 * rows * width
    graph = Graph(
        "segment",
        (Operator("op", "MatMul", ("x",), ("y",)),),
        {t: Tensor(t, size, (rows, width), "float32") for t in ("x", "y")},
        ("x",),
        ("y",),
    )
    cluster = Cluster(
        (Device("client", "client"), Device("server", "server")),
        (),
        "client",
        "client",
        default_link=Link("", ""),
    )
    submodel = Submodel("s0", ("x",), ("y",), model.SerializeToString(), {}, "segment")
    feeds = {"x": rng.standard_normal((rows, width), np.float32)}
    with (
        tempfile.TemporaryDirectory() as folder,
        Coordinator(cluster, cache_dir=folder) as coordinator,
    ):
        coordinator.connect("server")
        idle = _rss(coordinator)
        report = measure_link(coordinator, "client", "server")
        plan = Plan((Stage("s0", "server", ("op",)),))
        deployment = coordinator.deploy(plan, [submodel], graph)
        with deployment.session() as session:
            times = []
            for _ in range(rounds):
                start_s = time.perf_counter()
                session.run(None, feeds)
                times.append(time.perf_counter() - start_s)
            stages = session.stats().devices["server"].stages[0]
        return {
            "handover_us": {
                "queue_to_compute": 1e6 * stages.queue_s / stages.requests,
                "message_one_way": 1e6 * report.handover_s,
            },
            "request_100kB_us": 1e6 * statistics.median(times),
            "compute_us": 1e6 * stages.compute_s / stages.requests,
            "send_cpu_ms_per_mb": 1e9 * report.send_s_per_byte,
            "recv_cpu_ms_per_mb": 1e9 * report.recv_s_per_byte,
            "worker_rss_idle_bytes": idle,
            "worker_rss_5mb_segment_bytes": _rss(coordinator),
        }


def _rss(coordinator: Any) -> int:
    states = {s.name: s.status for s in coordinator.status()}
    return int(states["server"].rss_bytes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, writes nothing")
    parser.add_argument("--echo", metavar="ENDPOINT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.echo:
        _echo_process(arguments.echo)
    else:
        import json

        print(json.dumps(main(arguments.quick), indent=1))
