"""Are plans in reality ranked as predicted? Strategies' plans, all run in the lab.

3 to 5 unequal devices in network namespaces of this machine, links of different rates shaped by the
kernel, memory limits that the workers and the kernel enforce. For throughput the pipelines of the
published methods and of `bottleneck`; for latency of Inception v1 the list schedules and
`makespan`; the best single device beside them where one holds the model. Kendall's tau-b compares
the order that the evaluator predicts with the measured one, within a case.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common import write_result
from models import ENTRIES, prepared
from runtime import apart, emulated, measure
from scipy.stats import kendalltau

from cutset import api, profiler
from cutset.cluster import Cluster, Device, Engine, Link
from cutset.errors import PlanningError
from cutset.feeds import random_feeds
from cutset.onnx_io import Model
from cutset.plan import Plan
from cutset.planner import solve
from cutset.problem import Objective
from cutset.profiles import Profile
from cutset.simulation import simulate
from cutset.solvers.one_stage import single_stage, value_of

PIPELINES = (
    ("bottleneck", 0),
    ("kpath", 0),
    ("greedy_joint", 0),
    *(("random_cut", seed) for seed in range(3)),
    ("single_device", 0),
)
SCHEDULES = tuple(
    (name, 0) for name in ("makespan", "heft", "balance", "envelope", "loadpart", "single_device")
)
TIME_LIMIT_S = 30.0
ROUNDS = 3  # of profiling; the fastest counts
CLOSE = 0.05  # relative: predictions nearer than this are a tie that no measurement can order


@dataclass(frozen=True)
class Case:
    """Devices by their shares of a core, the rates of their links in a ring and across it."""

    model: str
    objective: Objective
    shares: tuple[float, ...]
    rates_bps: tuple[float, ...]
    memory_bytes: float | None = None

    @property
    def strategies(self) -> tuple[tuple[str, int], ...]:
        return PIPELINES if self.objective is Objective.THROUGHPUT else SCHEDULES


#: They add up to under half of this machine, as emulating the networks takes processor time too.
THREE = (0.3, 0.2, 0.12)
FIVE = (0.18, 0.15, 0.12, 0.1, 0.08)
MIXED = (60e6, 24e6, 120e6, 12e6, 36e6)
#: For one request the source is the slowest, as else it would do all of it alone.
SLOW_THREE, SLOW_FIVE = THREE[::-1], FIVE[::-1]
MIB = 2.0**20
CASES = (
    Case("resnet50 224", Objective.THROUGHPUT, THREE, MIXED, 260 * MIB),
    Case("resnet50 224", Objective.THROUGHPUT, FIVE, MIXED, 180 * MIB),
    Case("light densenet121", Objective.THROUGHPUT, FIVE, MIXED, 120 * MIB),
    Case("mobilenet_v2 512", Objective.THROUGHPUT, FIVE, MIXED, 100 * MIB),
    Case("light inception_v1", Objective.LATENCY, SLOW_THREE, (1e9,)),
    Case("light inception_v1", Objective.LATENCY, SLOW_FIVE, (1e9, 100e6)),
    Case("light inception_v1", Objective.LATENCY, SLOW_FIVE, MIXED),
)


def cluster(case: Case, limited: bool) -> Cluster:
    """Devices a, b, c …, of a kind each; every pair has a link, of the rates in rotation."""
    names = [chr(ord("a") + i) for i in range(len(case.shares))]
    memory = case.memory_bytes if limited and case.memory_bytes else math.inf
    devices = tuple(
        Device(name, name, cpu_share=share, engine=Engine(threads=1), memory_bytes=memory)
        for name, share in zip(names, case.shares, strict=True)
    )
    rates = itertools.cycle(case.rates_bps)
    links = tuple(Link(a, b, next(rates), 0.0) for a, b in itertools.permutations(names, 2))
    return Cluster(devices, links, "a", "a")


def measured_profile(case: Case, model: Model, folder: Path) -> Profile:
    """The links as measured, and the model's times on a whole core over each device's share.

    That is what pacing makes of them. Measuring each device would add this machine's noise, which
    is larger for a device that idles.
    """
    feeds = random_feeds(model.ports, 1)[0]
    rounds = [
        profiler.profile_here(model, feeds, "core", Engine(threads=1), fresh=True)
        for _ in range(ROUNDS)
    ]
    core = min(rounds, key=lambda profile: profile.whole[0].latency_s)
    with emulated(cluster(case, False), folder, False) as coordinator:
        found = profiler.profile_links(model.graph.digest, coordinator)
    for device in cluster(case, False).devices:
        assert device.cpu_share is not None
        found = profiler.joined(found, slowed(core, device.kind, 1 / device.cpu_share))
    return found


def slowed(core: Profile, kind: str, factor: float) -> Profile:
    """The profile of one kind of device as another's, which takes `factor` times as long."""
    return replace(
        core,
        measurements=tuple(
            replace(m, kind=kind, latency_s=factor * m.latency_s, stdev_s=factor * m.stdev_s)
            for m in core.measurements
        ),
        whole=(),
        memory=tuple(replace(m, kind=kind) for m in core.memory),
    )


@dataclass(frozen=True)
class Candidate:
    """A plan to run, with what is known of it; seconds."""

    plan: Plan
    value_s: float
    bound_s: float | None = None
    proof: str = "none"


def planned(case: Case, model: Model, profile: Profile) -> Iterator[tuple[str, Candidate | str]]:
    """Each strategy's plan, or why it has none; for latency each device alone, too."""
    problem = api.problem(model, cluster(case, True), profile, objective=case.objective.value)
    for name, seed in case.strategies:
        label = f"{name} {seed}" if name == "random_cut" else name
        try:
            found = solve(problem, name, seed=seed, time_limit_s=TIME_LIMIT_S)
            yield label, Candidate(found.plan, found.value_s, found.bound_s, found.proof)
        except PlanningError as error:
            yield label, error.message
    if case.objective is Objective.LATENCY:
        for device in problem.cluster.devices:
            plan = single_stage(problem, device.name)
            yield f"{device.name} alone", Candidate(plan, value_of(problem, plan))


def profile_of(number: int, out: Path) -> None:
    """Measure the profile of a case, as a file."""
    from cutset.serde import write_profile

    with tempfile.TemporaryDirectory() as folder:
        model = prepared(ENTRIES[CASES[number].model], Path(folder))
        write_profile(out, measured_profile(CASES[number], model, Path(folder) / "cache"))


def run_case(number: int, profile_file: Path) -> dict[str, Any]:
    """All plans of a case, each run: predicted beside measured, and how well the orders agree."""
    from cutset.serde import read_profile

    case = CASES[number]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        model = prepared(ENTRIES[case.model], Path(folder))
        profile = read_profile(profile_file)
        found = list(planned(case, model, profile))
        known: dict[str, dict[str, Any]] = {}
        with emulated(cluster(case, True), Path(folder) / "cache", False) as coordinator:
            problem = api.problem(
                model, coordinator.cluster, profile, objective=case.objective.value
            )
            for label, solution in found:
                if isinstance(solution, str):
                    rows.append({"strategy": label, "failed": solution})
                    continue
                key = str(solution.plan)  # what several strategies found runs once
                if key not in known:
                    known[key] = measure(model, problem, solution.plan, coordinator, profile)
                row = known[key]
                latency = case.objective is Objective.LATENCY
                value = row["latency_s"]["median"] if latency else 1 / row["throughput_per_s"]
                played = simulate(problem, solution.plan, in_flight=row["in_flight"])
                rows.append(
                    {
                        "strategy": label,
                        "predicted_s": solution.value_s,
                        "simulated_s": played.latency_s if latency else played.period_s,
                        "measured_s": value,
                        "bound_s": solution.bound_s,
                        "proof": solution.proof,
                        "stages": row["stages"],
                        "bottleneck": row["bottleneck"],
                    }
                )
                print(
                    f"{case.model}, {len(case.shares)} devices, {label}:"
                    f" {1e3 * solution.value_s:.1f} ms predicted, {1e3 * value:.1f} ms measured",
                    file=sys.stderr,
                    flush=True,
                )
    return {
        "model": case.model,
        "objective": case.objective.value,
        "shares": case.shares,
        "rates_bps": case.rates_bps,
        "memory_bytes": case.memory_bytes,
        **agreement([(r["predicted_s"], r["measured_s"]) for r in rows if "measured_s" in r]),
        "simulated": agreement(
            [(r["simulated_s"], r["measured_s"]) for r in rows if "measured_s" in r]
        ),
        "rows": rows,
    }


def agreement(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Kendall's tau-b of distinct plans, and of the pairs predicted to differ by more than CLOSE,
    how many are in the predicted order."""
    distinct = sorted(set(pairs))
    tau = kendalltau(*zip(*distinct, strict=True)).statistic if len(distinct) > 1 else None
    clear = [
        (a, b)
        for a, b in itertools.combinations(distinct, 2)
        if abs(b[0] - a[0]) > CLOSE * min(a[0], b[0])
    ]
    right = sum((b[0] - a[0]) * (b[1] - a[1]) > 0 for a, b in clear)
    return {"plans": len(distinct), "tau": tau, "clear_pairs": len(clear), "in_order": right}


def summary(cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over all cases; a case of one plan has no order."""
    return _summary(cases) | {"simulated": _summary([case["simulated"] for case in cases])}


def _summary(cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    taus = [case["tau"] for case in cases if case["tau"] is not None]
    return {
        "mean_tau": sum(taus) / len(taus),
        "least_tau": min(taus),
        "clear_pairs": sum(case["clear_pairs"] for case in cases),
        "in_order": sum(case["in_order"] for case in cases),
    }


def write(cases: Sequence[Mapping[str, Any]]) -> None:
    """The result of all cases."""
    write_result(
        "ranking",
        "lab",
        {
            "grid": "3 and 5 devices, links in rotation, memory limits; see shares and rates",
            "baseline": "the best single device, where one holds the model",
            "close": CLOSE,
            "summary": summary(cases),
            "cases": cases,
        },
    )


def main(quick: bool = False) -> None:
    """Run all cases; `quick` runs the first one, and only prints."""
    cases: list[Mapping[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1 if quick else len(CASES)):
            print(f"case {number + 1}/{len(CASES)}", file=sys.stderr, flush=True)
            file = str(Path(folder) / f"{number}.json")
            apart(__file__, "--profile", str(number), file)
            cases.append(apart(__file__, "--case", str(number), file))
    print(json.dumps(summary(cases), indent=1))
    if not quick:
        write(cases)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the first case; writes no result")
    parser.add_argument("--profile", nargs=2, metavar=("NUMBER", "FILE"))
    parser.add_argument("--case", nargs=2, metavar=("NUMBER", "FILE"))
    o = parser.parse_args()
    if o.profile:
        profile_of(int(o.profile[0]), Path(o.profile[1]))
        print("null")
    elif o.case:
        print(json.dumps(run_case(int(o.case[0]), Path(o.case[1]))))
    else:
        main(o.quick)
