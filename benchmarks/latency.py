"""Predicted against measured end-to-end latency, on devices emulated by processes.

The source is this process at a quarter of a core, the server a process with one thread; they talk
through Zenoh over links held to a stated rate. Compute on the source is paced, so that for its
stages the figures test runtime and evaluator more than the cost model.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import quartiles, write_result
from models import ENTRIES, Entry, cut_positions, plan_at, prepared

from cutset import api
from cutset.cluster import Cluster, Device, Engine, Link
from cutset.feeds import random_feeds
from cutset.onnx_io import Model
from cutset.plan import Plan
from cutset.planner import solve
from cutset.problem import Estimate, Problem
from cutset.report import percentile
from cutset.runner import run_requests
from cutset.runtime.coordinator import Coordinator
from cutset.runtime.session import SessionStats
from cutset.solvers.two_way.break_even import with_bandwidth

PI, SERVER = "pi", "server"
CPU_SHARE = 0.25
RATES_BPS = (5e6, 20e6, 100e6)
LINK_LATENCY_S = 0.002
MODELS = (
    "ppocr_det 384x768",
    "ppocr_rec 48x864",
    "minilm 1x256",
    "squeezenet 640",
    "resnet18 256",
    "mobilenet_v2 512",
)
GOAL = 0.10
REQUESTS = 10
LEAST_REQUESTS = 3
BUDGET_S = 2.5  # for the requests of one plan at one rate; at least LEAST_REQUESTS are sent
MOST_S = 4.0  # plans predicted to take longer are counted, but not run


def cluster() -> Cluster:
    pi = Device(PI, PI, cpu_share=CPU_SHARE, engine=Engine(threads=1))
    server = Device(SERVER, SERVER, engine=Engine(threads=1))
    links = tuple(Link(a, b, RATES_BPS[1], LINK_LATENCY_S) for a, b in ((PI, SERVER), (SERVER, PI)))
    return Cluster((pi, server), links, PI, PI)


def at_rate(stated: Problem, bandwidth_bps: float) -> Problem:
    for link in stated.cluster.pairs():
        stated = with_bandwidth(stated, link, bandwidth_bps)
    return stated


def plans(stated: Problem) -> Iterator[tuple[str, Plan]]:
    """All on either device, the proven best plan, and cuts after a third and two thirds of the
    source's time whether they pay or not; a plan that is one of the former is left out."""
    graph = stated.graph
    fixed = [("local", plan_at(graph, (), (PI,))), ("offload", plan_at(graph, (), (SERVER,)))]
    fixed.append(("best", solve(stated, "envelope").plan))
    for i, position in enumerate(cut_positions(graph, stated.compute_s(PI), 3)):
        fixed.append((f"cut at {i + 1}/3", plan_at(graph, (position,), (PI, SERVER))))
    seen: set[tuple[tuple[str, tuple[str, ...]], ...]] = set()
    for name, plan in fixed:
        key = tuple((stage.device, stage.operators) for stage in plan.stages)
        if key not in seen:
            seen.add(key)
            yield name, plan


def measure(
    entry: Entry,
    folder: Path,
    coordinator: Coordinator,
    rates: tuple[float, ...],
    requests: int,
    left_out: list[str],
) -> list[dict[str, Any]]:
    model = prepared(entry, folder)
    feeds = random_feeds(model.ports, 4)
    profile = api.profile(model, feeds=feeds[0], coordinator=coordinator, fresh=True)
    stated = api.problem(model, coordinator.cluster, profile)
    rows = []
    for rate in rates:
        problem = at_rate(stated, rate)
        for name, plan in plans(problem):
            if name == "local" and rate != rates[0]:
                continue  # no link, no difference
            if api.evaluate(problem, plan).latency_s > MOST_S:
                print(f"{entry.name}, {rate / 1e6:g} Mbit/s, {name}: too long, left out")
                left_out.append(f"{entry.name}, {rate / 1e6:g} Mbit/s, {name}")
                continue
            row = {
                "model": entry.name,
                "plan": name,
                "bandwidth_bps": rate,
                **run(model, problem, plan, coordinator, rate, requests),
            }
            rows.append(row)
            print(
                f"{entry.name}, {rate / 1e6:g} Mbit/s, {name}: predicted"
                f" {1e3 * row['predicted_s']:.1f} ms, measured {1e3 * row['measured_s']:.1f} ms"
                f" ({row['error']:+.1%})",
                flush=True,
            )
    return rows


def run(
    model: Model,
    problem: Problem,
    plan: Plan,
    coordinator: Coordinator,
    rate: float,
    requests: int,
) -> dict[str, Any]:
    predicted = api.evaluate(problem, plan)
    count = min(requests, max(LEAST_REQUESTS, int(BUDGET_S / predicted.latency_s)))
    with api.deploy(model, coordinator.cluster, plan, coordinator=coordinator) as session:
        if plan.devices != (PI,):
            for a, b in ((PI, SERVER), (SERVER, PI)):
                coordinator.set_link(a, b, bandwidth_bps=rate)
        session.run(None, random_feeds(model.ports, 1, seed=9)[0])  # the first allocates
        record = run_requests(session, random_feeds(model.ports, 4), requests=count)
        stats = session.stats()
    if record.first_error is not None:
        raise record.first_error
    measured_s = percentile(record.latencies_s, 0.5)
    return {
        "stages": [f"{s.device} {len(s.operators)}" for s in plan.stages],
        "requests": record.answered,
        "predicted_s": predicted.latency_s,
        "measured_s": measured_s,
        "measured_quartiles_s": quartiles(record.latencies_s),
        "error": predicted.latency_s / measured_s - 1,
        "parts": parts(predicted, stats),
    }


def parts(predicted: Estimate, stats: SessionStats) -> list[dict[str, Any]]:
    """Each stage, predicted beside measured (means over all requests, the uncounted first too)."""
    measured = {s.name: s for d in stats.devices.values() for s in d.stages}
    found: list[dict[str, Any]] = []
    for stage in predicted.stages:
        m = measured[stage.name]
        found.append(
            {
                "part": f"stage {stage.name} on {stage.device}",
                "predicted_s": stage.end_s - stage.start_s,
                "measured_s": m.compute_s / max(m.requests, 1),
                "waited_s": m.queue_s / max(m.requests, 1),
            }
        )
    return found


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    off = [abs(row["error"]) for row in rows]
    worst = max(rows, key=lambda row: abs(row["error"]))
    by_plan: dict[str, list[float]] = {}
    for row in rows:
        by_plan.setdefault(row["plan"], []).append(row["error"])
    return {
        "plans": len(rows),
        "mean_absolute_error": statistics.fmean(off),
        "median_absolute_error": statistics.median(off),
        "within_goal": sum(x <= GOAL for x in off),
        "goal": GOAL,
        "worst": {k: worst[k] for k in ("model", "plan", "bandwidth_bps", "error")},
        "mean_error_by_plan": {name: statistics.fmean(x) for name, x in by_plan.items()},
    }


def main(quick: bool = False) -> None:
    """Run all and write the result; `quick` takes one model and rate, and only prints."""
    models = ("squeezenet 640",) if quick else MODELS
    rates = RATES_BPS[1:2] if quick else RATES_BPS
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    start_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for i, name in enumerate(models):
            print(f"{i + 1}/{len(models)} {name}", flush=True)
            # Profiles are measured afresh and caches are this run's own.
            with Coordinator(cluster(), cache_dir=Path(folder) / str(i)) as coordinator:
                rows += measure(
                    ENTRIES[name],
                    Path(folder),
                    coordinator,
                    rates,
                    LEAST_REQUESTS if quick else REQUESTS,
                    left_out,
                )
    found = summary(rows)
    print(found, f"{time.perf_counter() - start_s:.0f} s")
    if not quick:
        write_result(
            "latency",
            "emulated",
            {
                "grid": "models x 5, 20, 100 Mbit/s (2 ms each way) x plans; pi at 0.25 of a core",
                "error_is": "predicted/measured - 1; measured is the median of 3 to 10 requests",
                "summary": found,
                "left_out": {"predicted_over_s": MOST_S, "plans": left_out},
                "rows": rows,
            },
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one model, one rate")
    main(parser.parse_args().quick)
