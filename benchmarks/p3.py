"""One inference over many devices, branches in parallel: what is proven, and in what time.

Simulated: costs are rooflines of FLOPs and bytes with seeded noise. The source and sink is the
slowest device (10 GFLOP/s and 4 GB/s); the others are 1 to 15 times as fast, drawn by a seed, so
that some are of one kind. Every pair has a link: Wi-Fi of 25 to 75 Mbit/s and 3 ms, 1 Gbit/s and
0.3 ms, or 10 Gbit/s and 0.05 ms. The variant with overheads adds 0.3 ms a stage.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import write_result
from models import ENTRIES, Entry, prepared

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.graph import Graph
from cutset.planner import solve
from cutset.problem import Problem

MODELS = (
    "light inception_v1",
    "light inception_v2",
    "light densenet121",
    "light shufflenet",
    "ppocr_det 384x768",
    "ppocr_rec 48x864",
    "squeezenet 640",
    "resnet50 224",
    "xception 299",
    "vit_s 224",
    "unet 160",
    "detector 320",
    "minilm 1x256",
)
ADDED = {
    "light shufflenet": Entry("light shufflenet", "light", "shufflenet"),
    "detector 320": Entry("detector 320", "zoo", "detector", 320),
}
DEVICES = (3, 5, 10, 20)
NETWORKS: Mapping[str, tuple[float, float]] = {
    "Wi-Fi": (50e6, 3e-3),
    "1 GbE": (1e9, 3e-4),
    "10 GbE": (1e10, 5e-5),
}
SPEEDS = (1, 2, 4, 8, 15)
OVERHEAD_S = 3e-4
LIMIT_S = 20.0
SMALL_LIMIT_S = 5.0  # at up to 5 devices, where a second is to be enough
PROVEN = 1e-6


def problem_of(graph: Graph, devices: int, network: str, overhead_s: float = 0.0) -> Problem:
    """The graph on a cluster; the same for the same arguments everywhere."""
    rng = random.Random(f"{graph.name} {devices} {network}")
    seconds: dict[str, dict[str, float]] = {}
    for speed in SPEEDS:
        row = seconds[f"x{speed}"] = {}
        for op in graph.operators:
            touched = sum(graph.tensors[t].size_bytes for t in (*op.inputs, *op.outputs))
            alone = max(op.flops / 10e9, (touched + op.weight_bytes) / 4e9) / speed
            row[op.name] = alone * rng.uniform(0.7, 1.3) + 1e-6
    kinds = ["x1", *(f"x{rng.choice(SPEEDS)}" for _ in range(devices - 1))]
    names = [f"d{i}" for i in range(devices)]
    rate, latency = NETWORKS[network]
    links = tuple(
        Link(a, b, rate * (rng.uniform(0.5, 1.5) if network == "Wi-Fi" else 1.0), latency)
        for a in names
        for b in names
        if a != b
    )
    parts = tuple(
        Device(name, kind, stage_overhead_s=overhead_s)
        for name, kind in zip(names, kinds, strict=True)
    )
    return Problem(graph, Cluster(parts, links, "d0", "d0"), TableCost(seconds))


def measure(name: str, graph: Graph, devices: int, network: str, overhead_s: float) -> Any:
    problem = problem_of(graph, devices, network, overhead_s)
    limit = SMALL_LIMIT_S if devices <= 5 else LIMIT_S
    begin = time.perf_counter()
    found = solve(problem, "makespan", time_limit_s=limit)
    spent = time.perf_counter() - begin
    heft = solve(problem, "heft").value_s
    assert found.verdict is not None
    single = found.verdict.best_single_value_s
    return {
        "model": name,
        "devices": devices,
        "network": network,
        "overhead_s": overhead_s,
        "value_s": found.value_s,
        "bound_s": found.bound_s,
        "gap": found.gap,
        "elapsed_s": found.elapsed_s,
        "call_s": spent,
        "heft": heft / found.value_s,
        "single": single / found.value_s,
        "better_of_both": min(heft, single) / found.value_s,
        "devices_used": len(found.plan.devices),
    }


def graphs_of(names: Sequence[str]) -> Iterator[tuple[str, Graph]]:
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            entry = ADDED.get(name) or ENTRIES[name]
            yield name, prepared(entry, Path(folder)).graph


def geometric(values: Sequence[float]) -> float:
    return math.exp(statistics.fmean(math.log(v) for v in values))


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    proven = [r for r in rows if r["gap"] <= PROVEN]
    return {
        "instances": len(rows),
        "proven": len(proven),
        "within_1_percent": sum(r["gap"] <= 0.01 for r in rows),
        "largest_gap": max(r["gap"] for r in rows),
        "median_s": statistics.median(r["elapsed_s"] for r in rows),
        "longest_s": max(r["elapsed_s"] for r in rows),
        "within_1_s": sum(r["elapsed_s"] <= 1.0 for r in rows),
        "heft": geometric([r["heft"] for r in rows]),
        "better_of_both": geometric([r["better_of_both"] for r in rows]),
    }


def main(quick: bool = False) -> None:
    """Run all and write the result; `quick` takes few models and devices, and only prints."""
    rows = []
    warm = problem_of(*next((g, 3, "10 GbE") for _, g in graphs_of(["squeezenet 640"])), 1e-4)
    solve(warm, "makespan")  # what is compiled once is not measured here
    solve(warm, "heft")
    for name, graph in graphs_of(MODELS[:2] if quick else MODELS):
        for devices in DEVICES[:2] if quick else DEVICES:
            for network in NETWORKS:
                for overhead_s in (0.0, OVERHEAD_S) if devices <= 5 else (0.0,):
                    row = measure(name, graph, devices, network, overhead_s)
                    rows.append(row)
                    print(
                        f"{name}, {devices} devices, {network}, {overhead_s * 1e3:g} ms a stage:"
                        f" {row['value_s'] * 1e3:.3f} ms, gap {row['gap']:.2e},"
                        f" {row['elapsed_s']:.2f} s",
                        file=sys.stderr,
                        flush=True,
                    )
    groups = {
        f"{devices} devices{', overheads' if overhead_s else ''}": summary(kept)
        for overhead_s in (0.0, OVERHEAD_S)
        for devices in DEVICES
        if (kept := [r for r in rows if r["devices"] == devices and r["overhead_s"] == overhead_s])
    }
    for group, found in groups.items():
        print(group, found)
    result = {
        "grid": f"{len(MODELS)} models, 3, 5, 10, 20 devices 1 to 15 times as fast as the source,"
        " Wi-Fi (25 to 75 Mbit/s, 3 ms), 1 GbE (0.3 ms), 10 GbE (0.05 ms); overheads 0.3 ms a"
        " stage at up to 5 devices",
        "time_limit_s": {"up to 5 devices": SMALL_LIMIT_S, "more": LIMIT_S},
        "goal": "up to 5 devices all proven (gap ≤ 1e-6) in 1 s each; 10 to 20 within 1% in 20 s",
        "summary": groups,
        "rows": rows,
    }
    if not quick:
        write_result("p3", "simulated", result)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two models, few devices")
    main(parser.parse_args().quick)
