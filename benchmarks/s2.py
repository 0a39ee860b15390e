"""S2 like for like: how far from the proven optimum are the published throughput methods?

Simulated, in the setting of arXiv 2210.12219 (benchmarks/s2_workload.py): every method plans the
same instances, the evaluator scores them, and `bottleneck` proves the optimum among the same plans.
Where one device holds the whole network there is nothing to send: every value is 0, no ratio
exists, and these cells are only listed, as are those with too few devices for any plan.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from common import quartiles, write_result
from s2_workload import MIB, cluster_of, fewest_spans, layer_graph, problem_of, span_chain

from cutset import strategies, zoo
from cutset.errors import InfeasibleError
from cutset.graph import Graph
from cutset.plan import Plan
from cutset.planner import certify
from cutset.problem import Budget, Problem, Solution
from cutset.solvers.one_stage import value_of

MODELS = ("resnet50", "inception_resnet_v2", "mobilenet_v2", "efficientnet_b1")
CAPACITIES_MIB = (64, 128, 256, 512)
NODES = (5, 10, 15, 20, 50)
CLASSES = (2, 5, 8, 11, 14, 17, 20)
TRIALS = 50
TIME_LIMIT_S = 20.0
RESAMPLES = 2000

KPATH = tuple(f"kpath, {classes} classes" for classes in CLASSES)
BEST_CLASS = "kpath, best of these"
#: Method -> (strategy, options).
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    **{name: ("kpath", {"classes": c}) for name, c in zip(KPATH, CLASSES, strict=True)},
    "greedy, best start": ("greedy_joint", {}),
    "greedy, one start": ("greedy_joint", {"best_start": False}),
    "random": ("random_cut", {}),
}


@dataclass(frozen=True)
class Instance:
    """`values_s` is None where a method failed; `relaxed_s` bounds plans of kpath's partition."""

    model: str
    capacity_mib: int
    nodes: int
    trial: int
    optimum_s: float
    bound_s: float
    proven: bool
    proof_s: float
    relaxed_s: float | None
    values_s: Mapping[str, float | None]

    def ratio(self, method: str) -> float | None:
        """The method's value over the optimum, or over the bound where that is not proven."""
        value = self.values_s[method]
        return None if value is None else value / self.bound_s


def planned(
    problem: Problem,
    strategy: str,
    options: Mapping[str, Any],
    seed: int,
    limit_s: float = math.inf,
) -> Solution | None:
    """The strategy's plan, validated and scored; None where it fails."""
    budget = Budget(limit_s, seed, value_s=lambda plan: value_of(problem, plan))
    try:
        proposal = strategies.load(strategy, options)(problem, budget)
    except InfeasibleError:
        return None
    return certify(problem, proposal, strategy, time.perf_counter() - budget.started_s)


def relaxed_s(problem: Problem, plan: Plan) -> float:
    """The published bound: the partition's largest transfer over the cluster's best link."""
    graph = problem.graph
    ends = itertools.accumulate(len(stage.operators) for stage in plan.stages[:-1])
    largest = max(graph.tensors[t].size_bytes for end in ends for t in graph.crossing(end))
    return 8 * largest / max(problem.bandwidth_bps(link) for link in problem.cluster.pairs())


def instance(graph: Graph, model: str, capacity_mib: int, nodes: int, trial: int) -> Instance:
    problem = problem_of(graph, cluster_of(nodes, capacity_mib * MIB, f"s2 {nodes} {trial}"))
    best = planned(problem, "bottleneck", {}, trial, TIME_LIMIT_S)
    assert best is not None  # it fits: fewest_spans says so
    found = {
        method: planned(problem, strategy, options, trial)
        for method, (strategy, options) in METHODS.items()
    }
    values = {method: None if s is None else s.value_s for method, s in found.items()}
    classes = [value for method in KPATH if (value := values[method]) is not None]
    matched = next((s for method in KPATH if (s := found[method]) is not None), None)
    return Instance(
        model,
        capacity_mib,
        nodes,
        trial,
        best.value_s,
        best.bound_s,
        best.proof == "optimal",
        best.elapsed_s,
        None if matched is None else relaxed_s(problem, matched.plan),
        {**values, BEST_CLASS: min(classes, default=None)},
    )


def mean_ratio(
    instances: Sequence[Instance], ratio: Callable[[Instance], float | None]
) -> dict[str, float] | None:
    """Geometric mean with a bootstrap 95% interval, and how many instances it is of.

    Resampled are whole layouts (a trial's places of nodes, which all models and capacities share),
    among those of the same number of nodes.
    """
    logs: dict[tuple[int, int], list[float]] = {}
    for one in instances:
        value = ratio(one)
        if value is not None:
            logs.setdefault((one.nodes, one.trial), []).append(math.log(value))
    if not logs:
        return None
    rng = np.random.default_rng(0)
    totals, counts = np.zeros(RESAMPLES), np.zeros(RESAMPLES)
    for nodes in sorted({key[0] for key in logs}):
        own = [logs[key] for key in sorted(logs) if key[0] == nodes]
        drawn = rng.integers(0, len(own), (RESAMPLES, len(own)))
        totals += np.array([math.fsum(values) for values in own])[drawn].sum(axis=1)
        counts += np.array([len(values) for values in own])[drawn].sum(axis=1)
    low, high = np.exp(np.percentile(totals / counts, (2.5, 97.5)))
    every = [value for values in logs.values() for value in values]
    return {
        "ratio": math.exp(math.fsum(every) / len(every)),
        "low": float(low),
        "high": float(high),
        "instances": len(every),
    }


def over(instances: Sequence[Instance], method: str, baseline: str) -> dict[str, Any]:
    """A method's values over a baseline's: geometric mean of ratios, and ratio of means."""

    def ratio(one: Instance) -> float | None:
        value, base = one.values_s[method], one.values_s[baseline]
        return None if value is None or base is None else value / base

    both = [one for one in instances if ratio(one) is not None]
    means = [math.fsum(one.values_s[name] or 0.0 for one in both) for name in (method, baseline)]
    return {"geometric": mean_ratio(both, ratio), "of_means": means[0] / means[1]}


def summary(instances: Sequence[Instance]) -> dict[str, Any]:
    """All that is quoted of a set of instances."""
    proven = [one for one in instances if one.proven]
    unproven = [one for one in instances if not one.proven]
    methods = {}
    for method in (*METHODS, BEST_CLASS):
        ratios = [one.ratio(method) for one in proven]
        methods[method] = {
            "proven": mean_ratio(proven, lambda one, m=method: one.ratio(m)),  # type: ignore[misc]
            "unproven": mean_ratio(unproven, lambda one, m=method: one.ratio(m)),  # type: ignore[misc]
            "failures": sum(one.values_s[method] is None for one in instances),
            "optimal": sum(r is not None and r <= 1 + 1e-9 for r in ratios),
            "worst": max((r for r in ratios if r is not None), default=None),
        }
    relaxed = [
        value / one.relaxed_s
        for one in instances
        for method in KPATH
        if one.relaxed_s is not None and (value := one.values_s[method]) is not None
    ]
    return {
        "instances": len(instances),
        "proven": len(proven),
        "proof_s": quartiles([one.proof_s for one in instances]),
        "slowest_proof_s": max(one.proof_s for one in instances),
        "unproven_gap": mean_ratio(unproven, lambda one: one.optimum_s / one.bound_s),
        "methods": methods,
        "over_kpath": {
            m: over(instances, m, BEST_CLASS)
            for m in ("random", "greedy, best start", "greedy, one start")
        },
        "kpath_over_relaxed": {"mean": float(np.mean(relaxed)), "worst": max(relaxed)},
    }


def cells(
    graphs: Mapping[str, Graph], nodes: Sequence[int]
) -> tuple[list[tuple[str, int, int]], list[dict[str, Any]]]:
    """Model, capacity and nodes of the cells to run, and those left out with the reason."""
    run, left_out = [], []
    for model, graph in graphs.items():
        for capacity in CAPACITIES_MIB:
            spans = fewest_spans(graph, capacity * MIB)
            short = [n for n in nodes if spans > n]
            if spans == 1:
                left_out.append({"model": model, "capacity_mib": capacity, "why": "one suffices"})
                continue
            if short:
                why = f"{spans} devices needed"
                cell = {"model": model, "capacity_mib": capacity, "nodes": short, "why": why}
                left_out.append(cell)
            run += [(model, capacity, n) for n in nodes if n not in short]
    return run, left_out


def main(quick: bool = False) -> None:
    """Run all cells and write the result; `quick` takes two models, few trials, and prints."""
    models, trials = (MODELS[2:], 3) if quick else (MODELS, TRIALS)
    nodes = NODES[::3] if quick else NODES
    graphs = {name: span_chain(layer_graph(zoo.build(name))) for name in models}
    run, left_out = cells(graphs, nodes)
    instance(graphs[run[0][0]], *run[0], 0)  # compiles: not timed
    started_s = time.perf_counter()
    found: list[Instance] = []
    by_cell = []
    for i, cell in enumerate(run):
        own = [instance(graphs[cell[0]], *cell, trial) for trial in range(trials)]
        found += own
        s = summary(own)
        ratios = {
            m: None if (r := v["proven"]) is None else r["ratio"] for m, v in s["methods"].items()
        }
        by_cell.append(
            {
                "model": cell[0],
                "capacity_mib": cell[1],
                "nodes": cell[2],
                "proven": s["proven"],
                "optimum_s": float(np.mean([one.optimum_s for one in own])),
                "ratios": ratios,
            }
        )
        took_s = time.perf_counter() - started_s
        print(
            f"[{i + 1}/{len(run)}] {cell[0]}, {cell[1]} MiB, {cell[2]} nodes: {s['proven']} of"
            f" {trials} proven; best start {ratios['greedy, best start']:.3f},"
            f" {BEST_CLASS} {ratios[BEST_CLASS]:.3f}, random {ratios['random']:.2f}"
            f" ({took_s:.0f} s)",
            file=sys.stderr,
        )
    totals = {str(n): summary([one for one in found if one.nodes == n]) for n in nodes}
    totals["all"] = summary(found)
    least = {
        name: {str(c): fewest_spans(g, c * MIB) for c in CAPACITIES_MIB}
        for name, g in graphs.items()
    }
    by_spans = {
        str(spans): summary([x for x in found if least[x.model][str(x.capacity_mib)] == spans])
        for spans in sorted({least[model][str(capacity)] for model, capacity, _ in run})
    }
    for name, s in totals.items():
        print(f"{name} nodes: {_line(s)}")
    for name, s in by_spans.items():
        print(f"at least {name} devices: {_line(s)}")
    if quick:
        return
    result = {
        "grid": f"nodes {', '.join(map(str, nodes))}; capacity"
        f" {', '.join(map(str, CAPACITIES_MIB))} MiB; {trials} trials a cell",
        "baseline": "the proven optimum over the same plans (bottleneck)",
        "published": {
            "random_over_kpath": 10,
            "greedy_over_kpath": 1.35,
            "kpath_over_bound": 1.092,
        },
        "trials": trials,
        "time_limit_s": TIME_LIMIT_S,
        "least_devices": least,
        "left_out": left_out,
        "summary": totals,
        "by_least_devices": by_spans,
        "cells": by_cell,
    }
    write_result("s2", "simulated", result)


def _line(s: Mapping[str, Any]) -> str:
    ratios = (
        f"{method} {m['proven']['ratio']:.3f}" for method, m in s["methods"].items() if m["proven"]
    )
    return f"{s['proven']} of {s['instances']} proven; " + "; ".join(ratios)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two models, few trials, prints only")
    main(parser.parse_args().quick)
