"""Plans of many stages that benchmarks run: pipelines and parallel branches, made by plain rules.

They are not the planner's: a benchmark of the runtime wants plans of every shape, good or bad.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from models import crossing_bytes

from cutset.graph import Graph
from cutset.plan import Plan, Stage
from cutset.problem import Problem


def pipeline(
    problem: Problem, devices: Sequence[str], memory_bytes: float = math.inf
) -> Plan | None:
    """One stage on each of `devices`, in order, cut at articulations: of those that fit into
    `memory_bytes`, the plan with the least largest stage or transfer, and of several the most even
    one. None where there is none.
    """
    graph = problem.graph
    points = (0, *graph.articulations, len(graph.operators))
    if len(points) <= len(devices):
        return None
    compute = {name: (0.0, *itertools.accumulate(problem.compute_s(name))) for name in devices}
    inward = [crossing_bytes(graph, p) for p in points]
    memory = (0, *itertools.accumulate(op.memory_bytes for op in graph.operators))
    room = memory_bytes - graph.stage_memory_bytes
    source, sink = problem.cluster.source, problem.cluster.sink

    def moved_s(a: str, b: str, size: int) -> float:
        link = problem.cluster.link(a, b)
        if a == b:
            return 0.0
        return math.inf if link is None else 8 * size / problem.bandwidth_bps(link)

    best: dict[int, tuple[float, float, tuple[int, ...]]] = {0: (0.0, 0.0, ())}
    before = source
    for k, device in enumerate(devices):
        after: dict[int, tuple[float, float, tuple[int, ...]]] = {}
        last = k == len(devices) - 1
        for i, (so_far, squares, cuts) in best.items():
            enter = moved_s(before, device, inward[i])
            ends = (len(points) - 1,) if last else range(i + 1, len(points) - 1)
            for j in ends:
                if memory[points[j]] - memory[points[i]] > room:
                    continue
                stage = compute[device][points[j]] - compute[device][points[i]]
                worst = max(so_far, enter, stage)
                if last:
                    answer = sum(graph.tensors[t].size_bytes for t in graph.outputs)
                    worst = max(worst, moved_s(device, sink, answer))
                found = (worst, squares + stage**2, (*cuts, j))
                if j not in after or found[:2] < after[j][:2]:
                    after[j] = found
        best, before = after, device
    if len(points) - 1 not in best:
        return None
    edges = (0, *(points[j] for j in best[len(points) - 1][2]))
    return _staged(
        graph,
        [(d, range(a, b)) for d, (a, b) in zip(devices, itertools.pairwise(edges), strict=True)],
    )


def branches(problem: Problem, main: str, helpers: Sequence[str], blocks: int = 2) -> Plan | None:
    """Everything on `main`, but in the heaviest `blocks` that have parallel branches: those are
    spread over `main` and `helpers`, longest first. None where no block has branches.
    """
    graph = problem.graph
    compute = problem.compute_s(main)
    found: list[tuple[float, int, int, list[list[int]]]] = []
    for a, b in graph.blocks:
        parts = _components(graph, range(a, b - 1))
        if len(parts) > 1:
            seconds = sum(compute[i] for part in parts for i in part)
            found.append((seconds, a, b, parts))
    chosen = sorted(sorted(found, reverse=True)[:blocks], key=lambda x: x[1])
    if not chosen:
        return None
    stages: list[tuple[str, Sequence[int]]] = []
    done = 0
    for _, a, b, parts in chosen:
        if done < a:
            stages.append((main, range(done, a)))
        devices = (main, *helpers)
        shares: dict[str, list[int]] = {name: [] for name in devices}
        busy = dict.fromkeys(devices, 0.0)
        for part in sorted(parts, key=lambda p: -sum(compute[i] for i in p)):
            times = {d: sum(problem.compute_s(d)[i] for i in part) for d in devices}
            device = min(devices, key=lambda d: busy[d] + times[d])
            busy[device] += times[device]
            shares[device] += part
        # Others first: their stages wait for what `main` made before, not for its own branch.
        stages += [(d, sorted(shares[d])) for d in (*helpers, main) if shares[d]]
        done = b - 1
    stages.append((main, range(done, len(graph.operators))))
    return _staged(graph, stages)


def _components(graph: Graph, positions: Sequence[int]) -> list[list[int]]:
    """Operators that depend on each other within `positions`, as groups."""
    inside = set(positions)
    group: dict[int, int] = {}
    for i in positions:
        linked = {group[j] for j in graph.predecessors[i] if j in inside}
        mine = min(linked, default=i)
        group[i] = mine
        for j, other in group.items():
            if other in linked:
                group[j] = mine
    parts: dict[int, list[int]] = {}
    for i, number in group.items():
        parts.setdefault(number, []).append(i)
    return list(parts.values())


def _staged(graph: Graph, stages: Sequence[tuple[str, Sequence[int]]]) -> Plan:
    return Plan(
        tuple(
            Stage(f"s{k}", device, tuple(graph.operators[i].name for i in positions))
            for k, (device, positions) in enumerate(stages)
        )
    )
