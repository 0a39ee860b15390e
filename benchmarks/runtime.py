"""Predicted against measured throughput and latency of pipelines and branches, in the lab.

2, 3 and 5 devices in network namespaces of this machine, their links shaped by the kernel, their
compute paced to a share of a core. So the figures test the runtime and the evaluator's rules of
stages, links and turns, not the cost of operators on other processors.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import plans
from common import quartiles, write_result
from models import ENTRIES, plan_at, prepared

from cutset import api, lab, profiler
from cutset.cluster import Cluster, Device, Engine, Link
from cutset.errors import InfeasibleError
from cutset.estimate import estimate
from cutset.feeds import random_feeds
from cutset.onnx_io import Model
from cutset.plan import Plan
from cutset.problem import Estimate, Problem
from cutset.profiles import Profile
from cutset.report import in_flight_for, percentile, throughput_per_s
from cutset.runner import run_requests
from cutset.runtime.coordinator import Coordinator
from cutset.runtime.session import SessionStats

NAMES = ("a", "b", "c", "d", "e")
#: Shares of a core by number of devices; their sums leave room for what is not paced.
SHARES = {2: 0.4, 3: 0.33, 5: 0.25}
RATES_BPS: tuple[float | None, ...] = (20e6, 100e6, None)
MODELS = (
    "light inception_v1",
    "resnet18 256",
    "mobilenet_v2 512",
    "squeezenet 640",
    "light densenet121",
    "ppocr_det 384x768",
)
MODELS_EACH = 3  # of MODELS in each lab, in rotation
THROUGHPUT_GOAL = (0.95, 1.08)
LATENCY_GOAL = 0.08
GAIN_GOAL = 1.3
LEAST_REQUESTS, MOST_REQUESTS = 5, 20
BUDGET_S = 4.0  # for the requests of a plan one at a time, and again for those in the pipeline
MOST_S = 4.0  # plans predicted to take longer are counted, but not run
#: A model that fits on none of the boards: by its name, the boards and the memory of each.
TOO_LARGE = ("resnet50 224", 4, 256 * 2**20)


def cluster(count: int, rate_bps: float | None, memory_bytes: float | None = None) -> Cluster:
    """Boards with one network interface each, which carries what a link carries."""
    limits: dict[str, Any] = {}
    if rate_bps is not None:
        limits = {"egress_bps": rate_bps, "ingress_bps": rate_bps}
    if memory_bytes is not None:
        limits["memory_bytes"] = memory_bytes
    devices = tuple(
        Device(
            name,
            "board",
            cpu_share=SHARES.get(count, 1 / count),
            engine=Engine(threads=1),
            **limits,
        )
        for name in NAMES[:count]
    )
    return Cluster(devices, (), "a", "a", default_link=Link("", "", rate_bps, 0.0))


def models_of(number: int) -> tuple[str, ...]:
    """Which models run in the lab of that number: each model in half of the labs."""
    return tuple(MODELS[(number + i) % len(MODELS)] for i in range(0, 2 * MODELS_EACH, 2))


def chosen(problem: Problem, count: int) -> Iterator[tuple[str, Plan]]:
    """All on the source, a pipeline over all devices, and parallel branches where there are any."""
    yield "single", plan_at(problem.graph, (), ("a",))
    names = NAMES[:count]
    found = plans.pipeline(problem, names)
    if found is not None:
        yield "pipeline", found
    found = plans.branches(problem, "a", names[1:])
    if found is not None:
        yield "branches", found


def measure(
    model: Model,
    problem: Problem,
    plan: Plan,
    coordinator: Coordinator,
    profile: Profile | None = None,
) -> dict[str, Any]:
    """One request at a time, then as many as fill the pipeline; both beside the prediction.

    Memory limits are enforced by the numbers of `profile`.
    """
    predicted = api.evaluate(problem, plan)
    window = in_flight_for(predicted.latency_s, predicted.period_s, True)
    alone = max(LEAST_REQUESTS, min(MOST_REQUESTS, int(BUDGET_S / predicted.latency_s)))
    many = max(20, min(100, int(BUDGET_S / predicted.period_s)))
    feeds = random_feeds(model.ports, 4)
    with api.deploy(
        model,
        coordinator.cluster,
        plan,
        profile=profile,
        coordinator=coordinator,
        in_flight=window,
    ) as session:
        run_requests(session, feeds, requests=window + 1, in_flight=window)  # the first allocate
        one = run_requests(session, feeds, requests=alone)
        stream = run_requests(session, feeds, requests=many + 2 * window, in_flight=window)
        stats = session.stats()
    for record in (one, stream):
        if record.first_error is not None:
            raise record.first_error
    # The first window fills the pipeline, the last empties it: what is between is steady.
    per_s = throughput_per_s(sorted(stream.answered_at_s)[window:-window])
    assert per_s is not None
    return {
        "stages": [f"{s.device} {len(s.operators)}" for s in plan.stages],
        "in_flight": window,
        "requests": {"alone": alone, "pipelined": many},
        "predicted_latency_s": predicted.latency_s,
        "latency_s": quartiles(one.latencies_s),
        "latency_error": percentile(one.latencies_s, 0.5) / predicted.latency_s - 1,
        "predicted_per_s": 1 / predicted.period_s,
        "throughput_per_s": per_s,
        "throughput_ratio": per_s * predicted.period_s,
        "bottleneck": predicted.bottleneck,
        "retries": stats.retries,
        "parts": parts(predicted, stats),
    }


def parts(predicted: Estimate, stats: SessionStats) -> list[dict[str, Any]]:
    measured = {s.name: s for d in stats.devices.values() for s in d.stages}
    return [
        {
            "stage": f"{stage.name} on {stage.device}",
            "predicted_s": stage.end_s - stage.start_s,
            "measured_s": measured[stage.name].compute_s / max(measured[stage.name].requests, 1),
        }
        for stage in predicted.stages
    ]


@contextlib.contextmanager
def emulated(built: Cluster, folder: Path, process: bool) -> Iterator[Coordinator]:
    """The cluster in the lab, or emulated by processes. Enters the source's namespace for good."""
    with contextlib.ExitStack() as last:
        if not process:
            up = last.enter_context(lab.up(built))
            built = up.attach(built)
            up.enter()
        yield last.enter_context(Coordinator(built, cache_dir=folder))


def one_lab(
    number: int, count: int, rate: float | None, process: bool, names: Sequence[str]
) -> list[dict[str, Any]]:
    """All plans of some models on one cluster; those that take too long have no figures."""
    rows: list[dict[str, Any]] = []
    label = "unshaped" if rate is None else f"{rate / 1e6:g} Mbit/s"
    with (
        tempfile.TemporaryDirectory() as folder,
        emulated(cluster(count, rate), Path(folder) / "cache", process) as coordinator,
    ):
        links = None
        for name in names or models_of(number):
            model = prepared(ENTRIES[name], Path(folder))
            feeds = random_feeds(model.ports, 1)[0]
            # The machine's speed drifts: costs are measured just before what they predict.
            found = profiler.profile_cluster(model, coordinator, feeds, fresh=True, links=False)
            links = links or profiler.profile_links("", coordinator)
            profile = replace(found, links=links.links, devices=links.devices)
            problem = api.problem(model, coordinator.cluster, profile)
            for kind, plan in chosen(problem, count):
                row: dict[str, Any] = {
                    "model": name,
                    "devices": count,
                    "bandwidth_bps": rate,
                    "plan": kind,
                }
                what = f"{name}, {count} devices, {label}, {kind}"
                if api.evaluate(problem, plan).latency_s > MOST_S:
                    rows.append({**row, "left_out": True})
                    continue
                row |= measure(model, problem, plan, coordinator)
                rows.append(row)
                print(
                    f"{what}: {1e3 * row['predicted_latency_s']:.1f} ms predicted,"
                    f" measured {row['latency_error']:+.1%}; {row['predicted_per_s']:.2f}/s"
                    f" predicted, measured x{row['throughput_ratio']:.3f}; {row['bottleneck']}",
                    file=sys.stderr,
                    flush=True,
                )
    return rows


def too_large(process: bool) -> dict[str, Any]:
    """A model that no board holds, on several of them; and what a single board says."""
    name, count, memory = TOO_LARGE
    with (
        tempfile.TemporaryDirectory() as folder,
        emulated(cluster(count, 100e6, memory), Path(folder) / "cache", process) as coordinator,
    ):
        model = prepared(ENTRIES[name], Path(folder))
        feeds = random_feeds(model.ports, 1)[0]
        # Too large for a board as a whole, so not measured on one: its times are not compared.
        profile = profiler.profile_here(model, feeds, "board", Engine(threads=1), fresh=True)
        problem = api.problem(model, coordinator.cluster, profile)
        whole = plan_at(model.graph, (), ("a",))
        refused = ""
        try:
            api.deploy(
                model, coordinator.cluster, whole, profile=profile, coordinator=coordinator
            ).close()
        except InfeasibleError as error:
            refused = str(error)
        plan = plans.pipeline(problem, NAMES[:count], memory)
        assert plan is not None
        expected = api.unsplit(model).run(feeds)
        with api.deploy(
            model, coordinator.cluster, plan, profile=profile, coordinator=coordinator
        ) as session:
            record = run_requests(session, [feeds], requests=3, expected=[expected])
            measured = session.memory_bytes
        assert record.comparison is not None
        return {
            "model": name,
            "devices": count,
            "memory_bytes": memory,
            "single_needs_bytes": estimate(problem, whole).memory_bytes["a"],
            "refused": refused,
            "stages": [f"{s.device} {len(s.operators)}" for s in plan.stages],
            "enforced_bytes": dict(api.evaluate(problem, plan).memory_bytes),
            "measured_bytes": dict(measured),
            "answered": record.answered,
            "equal": record.comparison.equal(1e-5),
            "max_rel": record.comparison.max_rel,
        }


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    ran = [row for row in rows if not row.get("left_out")]
    ratios = [row["throughput_ratio"] for row in ran]
    low, high = THROUGHPUT_GOAL
    worst = max(ran, key=lambda row: abs(row["latency_error"]))
    single = {_where(row): row for row in ran if row["plan"] == "single"}
    gains = []
    for row in ran:
        alone = single.get(_where(row))
        if row["plan"] != "pipeline" or row["devices"] != 3 or alone is None:
            continue
        predicted = row["predicted_per_s"] / alone["predicted_per_s"]
        if predicted >= GAIN_GOAL:
            gains.append(
                {
                    "model": row["model"],
                    "bandwidth_bps": row["bandwidth_bps"],
                    "predicted": predicted,
                    "measured": row["throughput_per_s"] / alone["throughput_per_s"],
                }
            )
    return {
        "plans": len(ran),
        "throughput_within": sum(low <= ratio <= high for ratio in ratios),
        "throughput_least": min(ratios),
        "throughput_median": statistics.median(ratios),
        "throughput_most": max(ratios),
        "latency_mean_absolute_error": statistics.fmean(abs(r["latency_error"]) for r in ran),
        "latency_worst": {
            "what": f"{worst['model']}, {worst['devices']} devices, {worst['plan']}",
            "latency_error": worst["latency_error"],
        },
        "gains": gains,
        "gains_reached": sum(g["measured"] >= GAIN_GOAL for g in gains),
    }


def _where(row: Mapping[str, Any]) -> tuple[object, ...]:
    return row["model"], row["devices"], row["bandwidth_bps"]


def apart(*arguments: str) -> Any:
    """Part of a benchmark in a process of its own: what has entered a namespace stays there."""
    command = [sys.executable, *arguments]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(found.stdout)


def main(quick: bool = False) -> None:
    """All labs one after another, and the result; `quick` runs one of them, and only prints."""
    start_s = time.perf_counter()
    rows: list[dict[str, Any]] = []
    labs = [(count, rate) for count in SHARES for rate in RATES_BPS]
    for number, (count, rate) in enumerate(labs[4:5] if quick else labs):
        print(f"lab {number + 1}/{len(labs)}: {count} devices, {rate} bit/s", flush=True)
        rows += apart(__file__, "--lab", str(number), str(count), str(rate or 0))
    if quick:
        print(json.dumps(summary(rows), indent=1))
        return
    large = apart(__file__, "--too-large")
    print(json.dumps(summary(rows), indent=1), f"{time.perf_counter() - start_s:.0f} s")
    write_result(
        "runtime",
        "lab",
        {
            "grid": "2, 3, 5 devices x 20, 100 Mbit/s, unshaped; three of six models in each",
            "shares_of_a_core": {str(count): share for count, share in SHARES.items()},
            "baseline": "the same lab's single device, which needs no transfer",
            "throughput_goal": THROUGHPUT_GOAL,
            "latency_goal": LATENCY_GOAL,
            "gain_goal": GAIN_GOAL,
            "summary": summary(rows),
            "too_large": large,
            "rows": rows,
        },
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one lab; writes no result")
    parser.add_argument("--process", action="store_true", help="emulate in process, with --lab")
    parser.add_argument("--models", nargs="*", default=[], help="with --lab: these only")
    parser.add_argument("--lab", nargs=3, metavar=("NUMBER", "DEVICES", "BPS"))
    parser.add_argument("--too-large", action="store_true")
    o = parser.parse_args()
    if o.lab:
        number, count, rate = int(o.lab[0]), int(o.lab[1]), float(o.lab[2])
        print(json.dumps(one_lab(number, count, rate or None, o.process, o.models)))
    elif o.too_large:
        print(json.dumps(too_large(o.process)))
    else:
        main(o.quick)
