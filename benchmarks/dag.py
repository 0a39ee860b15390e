"""Throughput of real graphs with skip connections and branches on 2 to 20 devices: gap and time.

Simulated: costs are a roofline of FLOPs and bytes with seeded noise, on devices of three speeds in
turns drawn at random; memory of each for a share of the model. What is measured is planning: the
plan's period, how far any plan of one stage a device, and any untiled plan, could be below it, and
how long that took.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from common import write_result
from models import ENTRIES, Entry, prepared

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.errors import PlanningError
from cutset.graph import Graph
from cutset.planner import solve
from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers import scopes
from cutset.solvers.throughput.dag_pipeline import best_dag_plan

MODELS = (
    ENTRIES["unet 160"],
    Entry("detector 320", "zoo", "detector", 320),
    ENTRIES["vit_s 224"],
    ENTRIES["light densenet121"],
    ENTRIES["light inception_v1"],
    ENTRIES["light inception_v2"],
    ENTRIES["ppocr_det 384x768"],
)
DEVICES = (2, 3, 5, 10, 20)
LINKS: Mapping[str, tuple[float, ...]] = {
    "100 Mbit/s": (100e6,),
    "1 Gbit/s": (1e9,),
    "0.1 to 1 Gbit/s": (100e6, 300e6, 1e9),
}
SPEEDS: Mapping[str, float] = {"small": 1.0, "middle": 4.0, "large": 10.0}
SPARE = 1.6  # of the model's memory, that all devices together have
LIMIT_S = 15.0


@dataclass(frozen=True)
class Dag:
    """The search in chains of down-sets as a strategy of its own."""

    info: ClassVar[StrategyInfo] = StrategyInfo(
        frozenset({Objective.THROUGHPUT}), scopes.STAGE_PER_DEVICE, ""
    )

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        return best_dag_plan(problem, budget)


def roofline(graph: Graph) -> TableCost:
    """10 GFLOP/s and 4 GB/s times the kind's speed, each operator with noise of ±25%."""
    rng = random.Random(graph.name)
    tables: dict[str, dict[str, float]] = {kind: {} for kind in SPEEDS}
    for op in graph.operators:
        touched = sum(graph.tensors[t].size_bytes for t in (*op.inputs, *op.outputs))
        seconds = max(op.flops / 10e9, (touched + op.weight_bytes) / 4e9) + 1e-5
        for kind, speed in SPEEDS.items():
            tables[kind][op.name] = seconds / speed * rng.uniform(0.8, 1.25)
    return TableCost(tables)


def cluster(graph: Graph, count: int, rates_bps: Sequence[float]) -> Cluster:
    rng = random.Random(f"{count} {len(rates_bps)}")
    largest = max(op.memory_bytes for op in graph.operators)
    total = sum(op.memory_bytes for op in graph.operators)
    memory = max(SPARE * total / count, largest) + graph.stage_memory_bytes
    devices = tuple(
        Device(
            f"d{i}",
            rng.choice(tuple(SPEEDS)),
            memory_bytes=memory,
            stage_overhead_s=0.001,
            send_s_per_byte=1e-9,
            recv_s_per_byte=1e-9,
        )
        for i in range(count)
    )
    links = tuple(
        Link(a.name, b.name, rng.choice(tuple(rates_bps)), 0.001)
        for a in devices
        for b in devices
        if a is not b
    )
    return Cluster(devices, links, "d0", "d0")


def measure(name: str, graph: Graph, counts: Sequence[int]) -> Iterator[dict[str, Any]]:
    cost = roofline(graph)
    for count in counts:
        for links, rates_bps in LINKS.items():
            problem = Problem(graph, cluster(graph, count, rates_bps), cost, Objective.THROUGHPUT)
            row: dict[str, Any] = {"model": name, "devices": count, "links": links}
            begin_s = time.perf_counter()
            try:
                found = solve(problem, Dag(), time_limit_s=LIMIT_S)
            except PlanningError as error:
                yield {**row, "failed": error.message, "took_s": time.perf_counter() - begin_s}
                continue
            yield {
                **row,
                "operators": len(graph.operators),
                "took_s": found.elapsed_s,
                "value_s": found.value_s,
                "bound_s": found.bound_s,
                "gap": found.gap,
                "full_gap": 1 - found.full_bound_s / found.value_s,
                "proof": found.proof,
                "scope": found.scope,
                "stages": len(found.plan.stages),
            }


def main(quick: bool = False) -> None:
    """Run all and write the result; `quick` takes two models and few devices, and only prints."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for i, entry in enumerate(MODELS[:2] if quick else MODELS):
            graph = prepared(entry, Path(folder)).graph
            if i == 0:
                list(measure(entry.name, graph, DEVICES[:1]))  # what is compiled once is not timed
            for row in measure(entry.name, graph, DEVICES[:2] if quick else DEVICES):
                rows.append(row)
                print(_line(row), file=sys.stderr, flush=True)
    print(summary(rows))
    if not quick:
        write_result(
            "dag",
            "simulated",
            {
                "grid": f"devices {DEVICES}, links {tuple(LINKS)}, memory for {SPARE} models",
                "baseline": "the proven bound",
                "time_limit_s": LIMIT_S,
                "summary": summary(rows),
                "rows": rows,
            },
        )


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Shares proven among plans of one stage a device and among all, gaps and times."""
    solved = [row for row in rows if "failed" not in row]
    times = sorted(row["took_s"] for row in solved)
    return {
        "runs": len(rows),
        "failed": len(rows) - len(solved),
        "proven": sum(row["proof"] == "optimal" for row in solved),
        "proven_full": sum(row["full_gap"] <= 1e-9 for row in solved),
        "largest_gap": max((row["gap"] for row in solved), default=0.0),
        "median_full_gap": statistics.median(row["full_gap"] for row in solved),
        "median_s": statistics.median(times),
        "p95_s": times[min(int(0.95 * len(times)), len(times) - 1)],
    }


def _line(row: Mapping[str, Any]) -> str:
    what = f"{row['model']}, {row['devices']} devices, {row['links']}"
    if "failed" in row:
        return f"{what}: {row['failed']}"
    return (
        f"{what}: {1e3 * row['value_s']:.2f} ms, {row['stages']} stages, gap {row['gap']:.2%}, any"
        f" plan {row['full_gap']:.1%}, {row['took_s']:.2f} s"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two models, few devices")
    main(parser.parse_args().quick)
