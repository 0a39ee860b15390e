"""Adaptive partition of DAGs over all edge devices: list schedules, balancing, and the optimum.

Simulated: costs are rooflines of FLOPs and bytes with seeded noise, for three kinds of device whose
speeds are as 1 : 2 : 4, several of a kind; the evaluator prices every plan. Then, on five devices,
the one that the balanced plan keeps busiest becomes four times slower: what the old plan takes
now, and what the new plan takes.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import write_result
from models import ENTRIES, prepared
from s3 import graph_of

from cutset import strategies
from cutset.cluster import Cluster, Device, Link
from cutset.cost import LoadedCost, TableCost
from cutset.errors import PlanningError
from cutset.graph import Graph
from cutset.planner import solve
from cutset.problem import Budget, Problem, Solution
from cutset.solvers.one_stage import value_of
from cutset.testing import graphs

MODELS = (
    "light inception_v1",
    "light inception_v2",
    "light densenet121",
    "ppocr_det 384x768",
    "detector 320",
)
DEVICES = (3, 5, 10, 20)

#: Name -> (bits per second of each interface and link, seconds of latency).
NETWORKS: Mapping[str, tuple[float, float]] = {
    "Wi-Fi": (50e6, 0.003),
    "1 GbE": (940e6, 0.0003),
    "10 GbE": (9.4e9, 0.0001),
}

#: Kind -> (FLOP/s, bytes/s); devices are of the kinds in turn, the first is the source.
KINDS: Mapping[str, tuple[float, float]] = {
    "board": (10e9, 4e9),
    "tablet": (20e9, 8e9),
    "mini PC": (40e9, 16e9),
}
LAUNCH_S = 5e-6  # an operator, on any device
OVERHEAD_S = 200e-6  # a stage
NOISE = 0.3
STRATEGIES = ("single_device", "heft", "balance", "makespan")
TIME_LIMIT_S = 5.0
SLOWDOWN = 4.0
ADAPTED = 5  # devices


def costs_of(graph: Graph, seed: int = 0) -> TableCost:
    """Seconds: the larger of FLOPs and bytes over the kind's rates, ±30%, and a launch."""
    rng = random.Random(f"{graph.name} {seed}")
    tables: dict[str, dict[str, float]] = {kind: {} for kind in KINDS}
    for op in graph.operators:
        touched = sum(graph.tensors[t].size_bytes for t in (*op.inputs, *op.outputs))
        for kind, (flops, rate) in KINDS.items():
            seconds = max(op.flops / flops, (touched + op.weight_bytes) / rate)
            tables[kind][op.name] = seconds * rng.uniform(1 - NOISE, 1 + NOISE) + LAUNCH_S
    return TableCost(tables)


def cluster_of(devices: int, network: str) -> Cluster:
    rate, latency = NETWORKS[network]
    kinds = list(KINDS)
    return Cluster(
        tuple(
            Device(
                f"d{i}",
                kinds[i % len(kinds)],
                egress_bps=rate,
                ingress_bps=rate,
                stage_overhead_s=OVERHEAD_S,
            )
            for i in range(devices)
        ),
        (),
        "d0",
        "d0",
        default_link=Link("", "", rate, latency),
    )


def planned(problem: Problem, strategy: str) -> Solution | None:
    """The strategy's plan; None where it finds none or does not cover the problem."""
    try:
        return solve(problem, strategy, time_limit_s=TIME_LIMIT_S)
    except PlanningError:
        return None


def cell(problem: Problem, names: Sequence[str]) -> dict[str, Any]:
    """Every strategy's value, and the best bound on any plan that one of them proved."""
    found: dict[str, Any] = {}
    bound = 0.0
    for name in names:
        solution = planned(problem, name)
        if solution is None:
            continue
        if solution.scope == "full":
            bound = max(bound, solution.bound_s)
        found[name] = {
            "value_s": solution.value_s,
            "elapsed_s": solution.elapsed_s,
            "devices": len(solution.plan.devices),
            "stages": len(solution.plan.stages),
        }
    return {"plans": found, "bound_s": bound}


def adapted(problem: Problem) -> dict[str, Any]:
    """The busiest device slows down: the plans of before and after, priced then."""
    before = solve(problem, "balance")
    busy = {
        name: before.estimate.busy_s.get(f"device:{name}", 0.0) for name in problem.cluster.by_name
    }
    slowed = max(busy, key=lambda name: busy[name])
    after = replace(problem, cost=LoadedCost(problem.cost, {slowed: SLOWDOWN}))
    start_s = time.perf_counter()
    again = solve(after, "balance")
    return {
        "slowed": slowed,
        "before_s": before.value_s,
        "old_plan_s": value_of(after, before.plan),
        "new_plan_s": again.value_s,
        "changed": again.plan != before.plan,
        "replanning_s": time.perf_counter() - start_s,
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By network: geometric means over the least known value (and over the bound) of each cell."""
    found: dict[str, Any] = {}
    for network in NETWORKS:
        cells = [row for row in rows if row["network"] == network]
        ratios: dict[str, list[float]] = {}
        for row in cells:
            values = {name: plan["value_s"] for name, plan in row["plans"].items()}
            least = min(values.values())
            values["min(heft, single_device)"] = min(values["heft"], values["single_device"])
            for name, value in values.items():
                ratios.setdefault(name, []).append(value / least)
        found[network] = {
            "cells": len(cells),
            "over_least": {n: statistics.geometric_mean(r) for n, r in ratios.items()},
            "worst_over_least": {n: max(r) for n, r in ratios.items()},
            "proven": sum(
                row["bound_s"] >= min(p["value_s"] for p in row["plans"].values()) * (1 - 1e-9)
                for row in cells
            ),
        }
    return found


def main(quick: bool = False) -> None:
    """Run the grid and write the result; `quick` takes two models and few cells, and prints."""
    names = [name for name in STRATEGIES if name in strategies.available()]
    start_s = time.perf_counter()
    toy, seconds = graphs.series_parallel(12)
    for name in names:  # what is compiled once is not planning
        strategies.load(name)(Problem(toy, graphs.two_devices(), seconds), Budget())
    print(f"compiled in {time.perf_counter() - start_s:.0f} s", file=sys.stderr, flush=True)
    rows, changes = [], []
    with tempfile.TemporaryDirectory() as folder:
        for model in MODELS:
            if quick and model not in ("light inception_v1", "detector 320"):
                continue
            entry = ENTRIES.get(model)
            graph = prepared(entry, Path(folder)).graph if entry else graph_of("detector", 320)
            cost = costs_of(graph)
            for network in NETWORKS:
                for devices in (3,) if quick else DEVICES:
                    problem = Problem(graph, cluster_of(devices, network), cost)
                    rows.append(
                        {
                            "model": model,
                            "operators": len(graph.operators),
                            "network": network,
                            "devices": devices,
                            **cell(problem, names),
                        }
                    )
                    print(_line(rows[-1]), file=sys.stderr, flush=True)
                problem = Problem(graph, cluster_of(ADAPTED, network), cost)
                changes.append({"model": model, "network": network, **adapted(problem)})
                print(_change(changes[-1]), file=sys.stderr, flush=True)
    overall = summary(rows)
    print(overall)
    print(f"{time.perf_counter() - start_s:.0f} s")
    if quick:
        return
    result = {
        "grid": ", ".join(
            f"{n} {r / 1e6:g} Mbit/s {1e3 * s:g} ms" for n, (r, s) in NETWORKS.items()
        )
        + "; each interface carries what a link does",
        "speeds": "operators take the larger of FLOPs and bytes over "
        + ", ".join(
            f"{f / 1e9:g} GFLOP/s and {b / 1e9:g} GB/s ({k})" for k, (f, b) in KINDS.items()
        )
        + f", ±{NOISE:.0%} seeded, and {1e6 * LAUNCH_S:g} µs; a stage {1e6 * OVERHEAD_S:g} µs;"
        " kinds in turn, the first device is source and sink",
        "time_limit_s": TIME_LIMIT_S,
        "slowdown": SLOWDOWN,
        "adapted_devices": ADAPTED,
        "summary": overall,
        "rows": rows,
        "adapted": changes,
    }
    write_result("s1", "simulated", result)


def _line(row: Mapping[str, Any]) -> str:
    plans = ", ".join(
        f"{name} {1e3 * p['value_s']:.2f} ms on {p['devices']} ({p['elapsed_s']:.2f} s)"
        for name, p in row["plans"].items()
    )
    bound = f"; bound {1e3 * row['bound_s']:.2f} ms" if row["bound_s"] else ""
    return f"{row['model']}, {row['network']}, {row['devices']} devices: {plans}{bound}"


def _change(row: Mapping[str, Any]) -> str:
    return (
        f"{row['model']}, {row['network']}: {row['slowed']} slower, {1e3 * row['before_s']:.2f} ms"
        f" -> {1e3 * row['old_plan_s']:.2f} ms, planned anew {1e3 * row['new_plan_s']:.2f} ms"
        f" in {row['replanning_s']:.2f} s"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two models, few cells, prints only")
    main(parser.parse_args().quick)
