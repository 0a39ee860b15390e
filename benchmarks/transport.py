"""Echo of tensors between two processes: raw TCP, libraries alone, and cutset over either path.

All take turns in one run, so that noise of the machine falls on all of them; processor time is of
both processes. The hand-over is what a worker adds to a hop beside transport and codec: two thread
changes and its bookkeeping. Then between two network namespaces that are shaped
(Linux, root; said to be skipped elsewhere).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import write_result
from transport_peer import SINK, SOURCE, Ways

from cutset.units import parse_rate

RATES = "100Mbit/s,1Gbit/s"
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
PEER = Path(__file__).with_name("transport_peer.py")
NAMESPACE = f"cutset-bench-{os.getpid()}"
HERE, THERE = "10.213.77.1", "10.213.77.2"


def _rounds(size: int, rate_bps: float | None, quick: bool) -> int:
    """As many as take some seconds; the first ones warm up and are not counted."""
    rounds = min(400, max(12, 40_000_000 // size))
    if rate_bps is not None:
        rounds = min(rounds, max(3, int(4.0 * rate_bps / (16 * size))))
    return max(3, rounds // 5) if quick else rounds


@contextlib.contextmanager
def _other_end(
    host: str, within: tuple[str, ...] = ()
) -> Iterator[tuple[Ways, Callable[[], float]]]:
    """The ways to the other process, and the CPU seconds that both have used."""
    other = subprocess.Popen(
        [*within, sys.executable, str(PEER), host],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdin is not None
    clock = (~other.pid << 3) | 2  # CLOCK_PROCESS_CPUTIME_ID of another process, on Linux

    def cpu_s() -> float:
        theirs = time.clock_gettime(clock) if sys.platform == "linux" else 0.0
        return time.process_time() + theirs

    try:
        ways = Ways(host, other.stdout.readline())
        try:
            yield ways, cpu_s
        finally:
            ways.close()
    finally:
        other.stdin.close()
        other.wait()
        other.stdout.close()


@contextlib.contextmanager
def _shaped(rate_bps: float) -> Iterator[tuple[str, ...]]:
    """A namespace behind a veth pair that carries so much each way; yields how to run in it."""

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)

    inside = ("ip", "netns", "exec", NAMESPACE)
    near, far = f"cb{os.getpid() % 10**6}a", f"cb{os.getpid() % 10**6}b"
    burst = str(max(64_000, int(rate_bps / 8 * 0.008)))
    shape = ("root", "tbf", "rate", f"{int(rate_bps)}bit", "burst", burst, "latency", "400ms")
    run("ip", "netns", "add", NAMESPACE)
    try:
        run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", NAMESPACE)
        run("ip", "addr", "add", f"{HERE}/30", "dev", near)
        run("ip", "link", "set", near, "up")
        run(*inside, "ip", "addr", "add", f"{THERE}/30", "dev", far)
        run(*inside, "ip", "link", "set", far, "up")
        run(*inside, "ip", "link", "set", "lo", "up")
        run("tc", "qdisc", "add", "dev", near, *shape)
        run(*inside, "tc", "qdisc", "add", "dev", far, *shape)
        yield inside
    finally:
        subprocess.run(("ip", "link", "del", near), check=False, capture_output=True)
        run("ip", "netns", "del", NAMESPACE)


def _lacking() -> str | None:
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs Linux and root"
    missing = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    return f"needs {', '.join(missing)}" if missing else None


def _measure(
    ways: Ways, cpu_s: Callable[[], float], rate_bps: float | None, quick: bool
) -> dict[str, Any]:
    echo = {}
    sizes = SIZES if rate_bps is None or not quick else SIZES[:-1]
    for size in sizes:
        array = np.random.default_rng(0).integers(0, 256, size, np.uint8)
        echo[str(size)] = _interleaved(ways, array, cpu_s, _rounds(size, rate_bps, quick))
    return echo


def _interleaved(ways: Ways, array: Any, cpu_s: Callable[[], float], rounds: int) -> dict[str, Any]:
    order = ways.names()
    times: dict[str, list[float]] = {name: [] for name in order}
    cpu: dict[str, list[float]] = {name: [] for name in order}
    shuffle = random.Random(0).shuffle
    for i in range(rounds + 2):
        shuffle(order)  # each finds the caches as another one left them
        for name in order:
            start_s, used_s = time.perf_counter(), cpu_s()
            ways.echo(name, array)
            if i >= 2:
                times[name].append(time.perf_counter() - start_s)
                cpu[name].append(cpu_s() - used_s)
    hop_mb = 2 * array.nbytes / 1e6  # an echo is two hops
    return {
        name: {
            "echo_us": 1e6 * statistics.median(times[name]),
            "cpu_ms_per_mb": 1e3 * statistics.fmean(cpu[name]) / hop_mb,
            # A ratio in each round, then the median: what the machine does between cancels.
            "time_over_tcp": statistics.median(
                a / b for a, b in zip(times[name], times["tcp"], strict=True)
            ),
            "cpu_over_tcp": sum(cpu[name]) / sum(cpu["tcp"]),
        }
        for name in ways.names()
    }


def _copied(ways: Ways, way: str, size: int) -> float:
    """Copies of a payload in user space per hop, as multiples of it, as Python's allocator sees.

    What is allocated while a tensor is sent, and while one comes, less the one buffer that the
    kernel fills. Buffers of Zenoh's own core are not seen.
    """
    array = np.zeros(size, np.uint8)
    tracemalloc.start()
    try:
        ways.send(way, np.array([1]), SOURCE)
        ways.receive(way)  # all before has arrived: quiet
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        ways.send(way, array, SINK)
        ways.send(way, np.array([1]), SOURCE)
        ways.receive(way)
        sent = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        ways.send(way, np.array([size]), SOURCE)
        assert ways.receive(way).nbytes == size
        received = tracemalloc.get_traced_memory()[1] - before - size
    finally:
        tracemalloc.stop()
    return (sent + received) / size


def main(quick: bool = False, rates: str = RATES) -> dict[str, Any]:
    """Medians over interleaved rounds; writes results/transport.json unless quick."""
    with _other_end("127.0.0.1") as (ways, cpu_s):
        result: dict[str, Any] = {
            "echo": {"unshaped": _measure(ways, cpu_s, None, quick)},
            "copies_per_hop": {
                way: _copied(ways, way, SIZES[-1]) for way in ("cutset", "cutset_zenoh")
            },
        }
    skipped = _lacking()
    for rate in filter(None, rates.split(",") if skipped is None else ()):
        bps = parse_rate(rate, field="--rates")
        with _shaped(bps) as inside, _other_end(THERE, inside) as (ways, cpu_s):
            result["echo"][rate] = _measure(ways, cpu_s, bps, quick)
    result["shaped_skipped"] = skipped  # the reason, or None
    result |= _worker(30 if quick else 200)
    if not quick:
        write_result("transport", "measured", result)
    return result


def _worker(rounds: int) -> dict[str, Any]:
    """A real worker: CPU per MB and hop, its hand-over, and memory with a 5 MB segment.

    A device that waited for the message is slower to take it: what its processor held is gone.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from cutset.cluster import Cluster, Device, Link
    from cutset.engine import Submodel
    from cutset.graph import Graph, Operator, Tensor
    from cutset.plan import Plan, Stage
    from cutset.runtime.coordinator import Coordinator
    from cutset.runtime.measuring import measure_link
    from cutset.runtime.measuring_messages import Measure, Measured

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
        address = coordinator.connect("server")
        probes = coordinator.ask("client", Measure(address, 0, 10 * rounds, shaped=False))
        assert isinstance(probes, Measured)
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
                "message_one_way": 1e6 * statistics.median(probes.round_trip_s) / 2,
                "message_one_way_idle": 1e6 * report.handover_s,
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
    import json

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, writes nothing")
    parser.add_argument(
        "--rates", default=RATES, help=f"also over links shaped to these rates (default {RATES})"
    )
    arguments = parser.parse_args()
    print(json.dumps(main(arguments.quick, arguments.rates), indent=1))
