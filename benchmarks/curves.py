"""Planning time and gap as graphs and clusters grow.

Simulated: seeded graphs of four shapes with made-up costs, devices of unequal speed (every third of
one type) on links from 20 Mbit/s to 1 Gbit/s. Each strategy has the same time limit; what is
reported is how long it took and how far its plan may be from the best.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from common import write_result

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.errors import PlanningError
from cutset.planner import solve
from cutset.problem import Objective, Problem
from cutset.testing import graphs

OPERATORS = (50, 100, 200, 500, 1000, 2000, 5000)
DEVICES = (2, 3, 5, 10, 20, 50)
AT_OPERATORS, AT_DEVICES = 200, 5  # what stays while the other grows
SHAPES = ("chain", "skip_connections", "series_parallel", "layered")
STRATEGIES: Mapping[Objective, tuple[str, ...]] = {
    Objective.THROUGHPUT: ("bottleneck", "greedy_joint"),
    Objective.LATENCY: ("makespan", "heft", "envelope"),
}
LIMIT_S = 10.0


def problem_of(shape: str, operators: int, devices: int, objective: Objective) -> Problem:
    """A graph and a cluster, the same for the same arguments everywhere."""
    graph, cost = graphs.GENERATORS[shape](operators, 1)
    rng = random.Random(f"{shape} {operators} {devices}")
    base = cost.seconds[graphs.SLOW]
    kinds = [f"kind{i // 3 if i % 3 else i}" for i in range(devices)]
    speed = {kind: rng.uniform(0.5, 8.0) for kind in sorted(set(kinds))}
    seconds = {k: {name: s / speed[k] for name, s in base.items()} for k in speed}
    names = [f"d{i}" for i in range(devices)]
    memory = 2.5 * sum(op.memory_bytes for op in graph.operators) / devices
    cluster = Cluster(
        tuple(
            Device(n, k, memory_bytes=memory if objective is Objective.THROUGHPUT else 8 * memory)
            for n, k in zip(names, kinds, strict=True)
        ),
        tuple(Link(a, b, 20e6 * 50 ** rng.random(), 0.001) for a in names for b in names if a != b),
        "d0",
        "d0",
    )
    return Problem(graph, cluster, TableCost(seconds), objective)


def sizes(quick: bool) -> Iterator[tuple[int, int]]:
    """(operators, devices): one grows while the other stays."""
    yield from ((n, AT_DEVICES) for n in (OPERATORS[:2] if quick else OPERATORS))
    yield from ((AT_OPERATORS, n) for n in (DEVICES[:2] if quick else DEVICES) if n != AT_DEVICES)


def measure(shape: str, operators: int, devices: int) -> Iterator[dict[str, Any]]:
    for objective, names in STRATEGIES.items():
        for name in names:
            problem = problem_of(shape, operators, devices, objective)
            row: dict[str, Any] = {
                "shape": shape,
                "operators": operators,
                "devices": devices,
                "objective": objective.value,
                "strategy": name,
            }
            begin_s = time.perf_counter()
            try:
                found = solve(problem, name, time_limit_s=LIMIT_S)
            except PlanningError as error:
                yield {**row, "failed": error.message, "took_s": time.perf_counter() - begin_s}
                continue
            yield {
                **row,
                "took_s": time.perf_counter() - begin_s,
                "elapsed_s": found.elapsed_s,
                "value_s": found.value_s,
                "bound_s": found.bound_s,
                "gap": found.gap,
                "full_bound_s": found.full_bound_s,
                "proof": found.proof,
                "scope": found.scope,
            }


def main(quick: bool = False) -> None:
    """Run all sizes; `quick` takes the smallest ones of one shape, and only prints."""
    rows = []
    for shape in SHAPES[:1] if quick else SHAPES:
        list(measure(shape, 20, 3))  # what is compiled once is not timed
        for operators, devices in sizes(quick):
            for row in measure(shape, operators, devices):
                rows.append(row)
                print(_line(row), file=sys.stderr, flush=True)
    print(summary(rows))
    if not quick:
        write_result(
            "curves",
            "simulated",
            {
                "grid": f"operators {OPERATORS} at {AT_DEVICES} devices, devices {DEVICES} at"
                f" {AT_OPERATORS} operators, four shapes of graphs",
                "baseline": "greedy_joint (throughput), heft and envelope (latency)",
                "time_limit_s": LIMIT_S,
                "summary": summary(rows),
                "rows": rows,
            },
        )


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How well time limits were kept, whole call included, and the share proven optimal."""
    found = {}
    for name in sorted({row["strategy"] for row in rows}):
        own = [row for row in rows if row["strategy"] == name]
        solved = [row for row in own if "failed" not in row]
        found[name] = {
            "runs": len(own),
            "failed": len(own) - len(solved),
            "proven": sum(row["proof"] == "optimal" for row in solved),
            "longest_elapsed_s": max((row["elapsed_s"] for row in solved), default=0.0),
            "longest_call_s": max(row["took_s"] for row in own),
        }
    return found


def _line(row: Mapping[str, Any]) -> str:
    what = f"{row['shape']} {row['operators']} operators, {row['devices']} devices"
    if "failed" in row:
        return f"{what}: {row['strategy']} failed: {row['failed']}"
    return f"{what}: {row['strategy']} {row['took_s']:.2f} s, gap {row['gap']:.1%}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, prints only")
    main(parser.parse_args().quick)
