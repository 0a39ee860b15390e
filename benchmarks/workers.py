"""Twenty workers on one machine with a chain of tiny stages: what membership and hand-over cost.

All are processes of this machine and share its cores, so the throughput is that of the machine
with twenty hand-overs a request, not of twenty boards.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from common import quartiles, write_result
from models import plan_at
from onnx import TensorProto, helper, numpy_helper

from cutset import api
from cutset.cluster import Cluster, Device, Engine, Link
from cutset.feeds import random_feeds
from cutset.runner import run_requests
from cutset.runtime.coordinator import Coordinator
from cutset.runtime.messages import GetStatus, Status

WORKERS = 20
IDLE_S = 10.0
IDLE_GOAL = 0.005  # of a core, each


def chain(folder: Path, operators: int, width: int = 64) -> Path:
    """A model of as many small matrix products, one after another."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(
            (rng.standard_normal((width, width)) / width**0.5).astype(np.float32), f"w{i}"
        )
        for i in range(operators)
    ]
    names = ["x", *(f"t{i}" for i in range(operators - 1)), "y"]
    nodes = [
        helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(operators)
    ]
    value = helper.make_tensor_value_info
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "chain",
            [value("x", TensorProto.FLOAT, [16, width])],
            [value("y", TensorProto.FLOAT, [16, width])],
            weights,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    path = folder / "chain.onnx"
    onnx.save(proto, str(path))
    return path


def statuses(coordinator: Coordinator, names: list[str]) -> dict[str, Status]:
    found = {}
    for name in names:
        answer = coordinator.ask(name, GetStatus())
        assert isinstance(answer, Status)
        found[name] = answer
    return found


def cpu_s(pid: int) -> float:
    """CPU time that a process has used, by the kernel's count (user and system)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle(pids: dict[str, int], seconds: float) -> dict[str, float]:
    """Each process's share of a core while nothing is asked of it."""
    before, start_s = {n: cpu_s(p) for n, p in pids.items()}, time.perf_counter()
    time.sleep(seconds)
    took_s = time.perf_counter() - start_s
    return {n: (cpu_s(p) - before[n]) / took_s for n, p in pids.items()}


def main(quick: bool = False) -> None:
    """Measure and write the result, unless quick."""
    count, idle_s, requests = (5, 2.0, 50) if quick else (WORKERS, IDLE_S, 400)
    names = [f"w{i}" for i in range(count)]
    devices = tuple(Device(n, "w", engine=Engine(threads=1)) for n in ("client", *names))
    cluster = Cluster(devices, (), "client", "client", default_link=Link("", "", None, 0.0))
    with tempfile.TemporaryDirectory() as folder:
        model = api.load(chain(Path(folder), count))
        start_s = time.perf_counter()
        with Coordinator(cluster, cache_dir=Path(folder) / "cache") as coordinator:
            for name in names:
                coordinator.connect(name)
            started_s = time.perf_counter() - start_s
            pids = {n: s.pid for n, s in statuses(coordinator, names).items()}
            before = idle(pids, idle_s)
            plan = plan_at(model.graph, range(1, count), names)
            start_s = time.perf_counter()
            with api.deploy(
                model, cluster, plan, coordinator=coordinator, in_flight=2 * count
            ) as session:
                deployed_s = time.perf_counter() - start_s
                feeds = random_feeds(model.ports, 2)
                run_requests(session, feeds, requests=20)
                alone = run_requests(session, feeds, requests=50)
                stream = run_requests(session, feeds, requests=requests, in_flight=2 * count)
                stats = session.stats()
                loaded = idle(pids, idle_s)
                rss = [s.rss_bytes for s in statuses(coordinator, names).values()]
    for record in (alone, stream):
        if record.first_error is not None:
            raise record.first_error
    span_s = max(stream.answered_at_s) - min(stream.answered_at_s)
    result: dict[str, Any] = {
        "workers": count,
        "start_s": started_s,
        "deploy_s": deployed_s,
        "idle_goal": IDLE_GOAL,
        "idle_of_a_core": quartiles(list(before.values())) | {"worst": max(before.values())},
        "idle_deployed_of_a_core": quartiles(list(loaded.values()))
        | {"worst": max(loaded.values())},
        "rss_bytes": quartiles(rss) | {"worst": max(rss)},
        "latency_s": quartiles(alone.latencies_s),
        "hop_s": statistics.median(alone.latencies_s) / (count + 1),
        "throughput_per_s": (stream.answered - 1) / span_s,
        "retries": stats.retries,
    }
    print(result)
    if not quick:
        write_result("workers", "measured", result)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="five workers; writes no result")
    main(parser.parse_args().quick)
