"""Throughput on many devices with memory limits: how often proven optimal, how fast, and the gap.

Simulated: costs are rooflines with seeded noise, clusters are made up (p2_problems.py); what is
timed is planning, one thread. Real models first, then a stress: so little memory that the shortest
pipeline takes a large part of 50 devices.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import columns, write_result
from models import ENTRIES, prepared
from p2_problems import LAWS, memory_for, problem

from cutset.errors import PlanningError
from cutset.graph import Graph
from cutset.problem import Budget, Problem
from cutset.solvers.one_stage import value_of
from cutset.solvers.throughput.block_chain import block_chain
from cutset.solvers.throughput.pipeline_start import greedy_path
from cutset.solvers.throughput.pipelines import best_pipeline
from cutset.testing import graphs

DEVICES = (5, 10, 20, 50)
TIGHTNESS = (2, 4)  # stages that the model needs on devices of the least memory
SEEDS = 3
LIMIT_S = 2.0
STRESS_DEVICES = 50
STRESS_SHARES = (0.35, 0.5, 0.7, 0.9)
STRESS_LIMIT_S = 60.0
STRESS_GRAPHS = (("chain", 150), ("skip_connections", 150))
PROVEN = 1e-9


def measure(p: Problem, limit_s: float) -> dict[str, Any]:
    """The best pipeline of one problem: value, bound, gap, seconds; and the greedy one's value."""
    chain = block_chain(p)
    path = greedy_path(chain.arrays)
    greedy = None if path is None else value_of(p, chain.plan(p.graph, *path))
    begin = time.perf_counter()
    try:
        found = best_pipeline(p, Budget(limit_s))
    except PlanningError as error:
        return {"failed": error.message, "elapsed_s": time.perf_counter() - begin}
    elapsed_s = time.perf_counter() - begin
    if found is None:
        return {"failed": "proven: no pipeline", "elapsed_s": elapsed_s}
    value_s = value_of(p, found.plan)
    gap = 1 - found.bound_s / value_s
    return {
        "value_s": value_s,
        "bound_s": found.bound_s,
        "gap": gap,
        "proven": gap <= PROVEN,
        "stages": len(found.plan.stages),
        "greedy_s": greedy,
        "elapsed_s": elapsed_s,
    }


def real(graphs_: dict[str, Graph], devices: Sequence[int], seeds: int) -> list[dict[str, Any]]:
    rows = []
    for name, graph in graphs_.items():
        for count in devices:
            for stages in TIGHTNESS:
                memory = memory_for(graph, stages)
                if memory is None:
                    continue
                for law in LAWS:
                    for seed in range(seeds):
                        p = problem(graph, count, law, memory, seed, spread=0.5)
                        row = {"model": name, "devices": count, "law": law, "needed": stages}
                        rows.append({**row, "seed": seed, **measure(p, LIMIT_S)})
            mine = [r for r in rows if r["model"] == name and r["devices"] == count]
            proven = sum(r.get("proven", False) for r in mine)
            print(f"{name}, {count} devices: {proven}/{len(mine)} proven", file=sys.stderr)
    return rows


def stress(shares: Iterable[float], limit_s: float) -> list[dict[str, Any]]:
    rows = []
    for kind, operators in STRESS_GRAPHS:
        graph, _ = graphs.GENERATORS[kind](operators, 1)
        for share in shares:
            stages = round(share * STRESS_DEVICES)
            memory = memory_for(graph, stages)
            if memory is None:
                continue
            p = problem(graph, STRESS_DEVICES, "wifi", memory, 0)
            row = {"graph": f"{kind} {operators}", "needed": stages, **measure(p, limit_s)}
            rows.append(row)
            print(row, file=sys.stderr)
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    solved = [r for r in rows if "failed" not in r]
    times = [r["elapsed_s"] for r in rows]
    ratios = [r["greedy_s"] / r["value_s"] for r in solved if r["greedy_s"] is not None]
    finite = [x for x in ratios if np.isfinite(x)]
    return {
        "problems": len(rows),
        "without_plan": len(rows) - len(solved),
        "proven": sum(r["proven"] for r in solved),
        "largest_gap": max((r["gap"] for r in solved), default=0.0),
        "elapsed_s": {
            "median": float(np.median(times)),
            "p95": float(np.percentile(times, 95)),
            "max": max(times),
        },
        "greedy_over_value": float(np.exp(np.mean(np.log(finite)))) if finite else None,
        "greedy_without_plan": len(solved) - len(finite),
    }


def main(quick: bool = False) -> None:
    """Run all and write the result; `quick` takes few problems, and only prints."""
    begin = time.perf_counter()
    warm, _ = graphs.chain(12)
    first = measure(problem(warm, 4, "wifi", memory_for(warm, 2) or 1.0, 0), 60.0)
    hard, _ = graphs.GENERATORS["skip_connections"](60, 1)  # what only hard problems come to
    measure(problem(hard, 30, "wifi", memory_for(hard, 12) or 1.0, 0), 20.0)
    print(f"first, with compilation: {first['elapsed_s']:.1f} s", file=sys.stderr)
    names = (
        ["alexnet 224", "squeezenet 640"] if quick else [n for n in ENTRIES if "minilm" not in n]
    )
    loaded = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            loaded[name] = prepared(ENTRIES[name], Path(folder)).graph
            print(f"loaded {name}", file=sys.stderr)
    rows = real(loaded, DEVICES[:2] if quick else DEVICES, 1 if quick else SEEDS)
    stressed = stress(
        STRESS_SHARES[:1] if quick else STRESS_SHARES, 3.0 if quick else STRESS_LIMIT_S
    )
    cells = [
        {"devices": n, "law": law, **summary(chosen)}
        for n in DEVICES
        for law in LAWS
        if (chosen := [r for r in rows if r["devices"] == n and r["law"] == law])
    ]
    result = {
        "grid": f"devices {DEVICES}, links {LAWS}, memory for {TIGHTNESS} stages and up to half"
        f" more, {SEEDS} seeds, {LIMIT_S:g} s",
        "baseline": "greedy: fill each device, follow the fastest link, best start",
        "first_with_compilation_s": first["elapsed_s"],
        "summary": summary(rows),
        "cells": cells,
        "stress_limit_s": STRESS_LIMIT_S,
        "stress": stressed,
        "rows": columns(rows),
    }
    print(result["summary"])
    print(f"{time.perf_counter() - begin:.0f} s", file=sys.stderr)
    if not quick:
        write_result("p2", "simulated", result)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two models, few devices")
    main(parser.parse_args().quick)
