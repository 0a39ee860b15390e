"""LoADPart's question in simulation: what does it gain to know the server's load?

Simulated: costs are rooflines of FLOPs and bytes with seeded noise, a small board and a server 5,
15 or 60 times faster. At every point of the grid each policy decides with what it knows, and the
evaluator prices its plan under the true bandwidth and load. The load-oblivious policies see the
bandwidth and believe that the server is idle.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from common import write_result
from envelope import roofline

from cutset import strategies, zoo
from cutset.cost import LoadedCost, TableCost
from cutset.graph import Graph
from cutset.onnx_io import load_model
from cutset.problem import Budget, Problem
from cutset.solvers.one_stage import single_stage, value_of
from cutset.testing import graphs

MODELS = {
    "alexnet": 224,
    "squeezenet": 224,
    "vgg16": 224,
    "resnet18": 224,
    "resnet50": 224,
    "xception": 299,
}
BANDWIDTHS_MBPS = (1, 2, 4, 8, 16, 32, 64)
LOADS = tuple(range(1, 11))
SPEEDUPS = (5, 15, 60)  # of the server over the board
LATENCY_S = 0.002

#: Policy -> (strategy, whether it is told the load).
POLICIES: Mapping[str, tuple[str, bool]] = {
    "envelope": ("envelope", True),
    "loadpart": ("loadpart", True),
    "loadpart, oblivious": ("loadpart", False),
    "neurosurgeon": ("neurosurgeon", False),
}


def graph_of(name: str, side: int) -> Graph:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(zoo.build(name, side=side), str(path))
        return load_model(path).graph


def costs_of(graph: Graph, speedup: float) -> TableCost:
    """The roofline of benchmarks/envelope.py, whose server is 15 times faster, at this speed-up."""
    base = roofline(graph).seconds
    fast = {name: seconds * 15 / speedup for name, seconds in base[graphs.FAST].items()}
    return TableCost({graphs.SLOW: base[graphs.SLOW], graphs.FAST: fast})


def point(graph: Graph, cost: TableCost, mbps: float, load: float) -> dict[str, Any]:
    """Every policy's latency at one point of the grid, and its first part's size."""
    idle = Problem(graph, graphs.two_devices(mbps * 1e6, LATENCY_S), cost)
    true = replace(idle, cost=LoadedCost(cost, {"server": load}))
    values, cuts = {}, {}
    for policy, (strategy, aware) in POLICIES.items():
        plan = strategies.load(strategy)(true if aware else idle, Budget()).plan
        values[policy] = value_of(true, plan)
        cuts[policy] = [(s.device, len(s.operators)) for s in plan.stages]
    values["local"] = value_of(true, single_stage(true, "pi"))
    values["offload"] = value_of(true, single_stage(true, "server"))
    return {
        "bandwidth_bps": mbps * 1e6,
        "load": load,
        "latency_s": values,
        "changed": cuts["loadpart"] != cuts["loadpart, oblivious"],
    }


def summary(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Reductions of latency, as fractions: load-aware against load-oblivious LoADPart."""

    def saved(against: str, policy: str = "loadpart") -> list[float]:
        return [1 - p["latency_s"][policy] / p["latency_s"][against] for p in points]

    gains = saved("loadpart, oblivious")
    changed = [g for g, p in zip(gains, points, strict=True) if p["changed"]]
    regret = [p["latency_s"]["loadpart"] / p["latency_s"]["envelope"] - 1 for p in points]
    return {
        "points": len(points),
        "changed_points": len(changed),
        "mean": statistics.fmean(gains),
        "mean_over_changed": statistics.fmean(changed) if changed else 0.0,
        "largest": max(gains),
        "mean_against": {
            other: statistics.fmean(saved(other)) for other in ("neurosurgeon", "local", "offload")
        },
        "loadpart_over_optimum": {"mean": statistics.fmean(regret), "largest": max(regret)},
    }


def main(quick: bool = False) -> None:
    """Run the grid and write the result; `quick` takes two models and few points, and prints."""
    rows = []
    for name, side in MODELS.items():
        if quick and name not in ("alexnet", "squeezenet"):
            continue
        graph = graph_of(name, side)
        for speedup in SPEEDUPS:
            cost = costs_of(graph, speedup)
            points = [
                point(graph, cost, mbps, load)
                for mbps in BANDWIDTHS_MBPS[:: 3 if quick else 1]
                for load in LOADS[:: 3 if quick else 1]
            ]
            rows.append({"model": name, "speedup": speedup, **summary(points), "grid": points})
            print(_line(rows[-1]), flush=True)
    overall = {
        str(speedup): summary([p for r in rows if r["speedup"] == speedup for p in r["grid"]])
        for speedup in SPEEDUPS
    }
    if quick:
        return
    result = {
        "grid": "bandwidth 1, 2, 4 … 64 Mbit/s both ways, 2 ms, load 1, 2 … 10; float32 input",
        "baseline": "the same method believing that the server is idle (load-oblivious)",
        "published": {"mean": 0.142, "largest": 0.323},
        "summary": overall,
        "models": rows,
    }
    write_result("s3", "simulated", result)


def _line(row: Mapping[str, Any]) -> str:
    return (
        f"{row['model']}, server {row['speedup']}x: mean {row['mean']:.1%},"
        f" {row['changed_points']}/{row['points']} changed: {row['mean_over_changed']:.1%},"
        f" largest {row['largest']:.1%}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small grid, prints only")
    main(parser.parse_args().quick)
