"""Made-up clusters for pipelines: devices of unequal speed, three laws of links, tight memory."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.graph import Graph
from cutset.problem import Objective, Problem

LAWS = ("wifi", "ethernet", "mixed")


def problem(
    graph: Graph, devices: int, law: str, memory_bytes: float, seed: int, spread: float = 0.0
) -> Problem:
    """`devices` of memory_bytes × (1 + up to `spread`) each, links by `law`, all seeded."""
    rng = random.Random(f"{graph.name} {devices} {law} {seed}")
    names = [f"d{i:02}" for i in range(devices)]
    speeds = [rng.choice((1.0, 2.0, 4.0, 8.0)) * rng.uniform(0.8, 1.2) for _ in names]
    made = tuple(
        Device(
            name,
            name,
            memory_bytes=math.floor(memory_bytes * (1 + spread * rng.random())),
            stage_overhead_s=1e-4,
        )
        for name in names
    )
    cost = TableCost({n: _roofline(graph, s, rng) for n, s in zip(names, speeds, strict=True)})
    cluster = Cluster(made, _links(names, law, rng), names[0], names[0])
    return Problem(graph, cluster, cost, Objective.THROUGHPUT)


def _roofline(graph: Graph, speed: float, rng: random.Random) -> dict[str, float]:
    """`speed` × 5 GFLOP/s and 2 GB/s, with ±20% noise an operator."""
    seconds = {}
    for op in graph.operators:
        touched = sum(graph.tensors[t].size_bytes for t in (*op.inputs, *op.outputs))
        ideal = max(op.flops / 5e9, (touched + op.weight_bytes) / 2e9) + 1e-6
        seconds[op.name] = ideal / speed * rng.uniform(0.8, 1.2)
    return seconds


def _links(names: Sequence[str], law: str, rng: random.Random) -> tuple[Link, ...]:
    """wifi: log2(1 + 283230/d²) Mbit/s between points of [1, 150]² m, the law of arXiv 2210.12219;
    ethernet: 1 Gbit/s less up to 40%; mixed: every third device on a wire, the others on Wi-Fi.
    """
    places = [(rng.uniform(1, 150), rng.uniform(1, 150)) for _ in names]
    wired = [law == "ethernet" or (law == "mixed" and i % 3 == 0) for i in range(len(names))]
    links = []
    for i, j in itertools.combinations(range(len(names)), 2):
        if wired[i] and wired[j]:
            rates = [1e9 * rng.uniform(0.6, 1.0) for _ in range(2)]
        else:
            square = (places[i][0] - places[j][0]) ** 2 + (places[i][1] - places[j][1]) ** 2
            rates = [1e6 * math.log2(1 + 283230 / max(square, 1.0))] * 2
        links.append(Link(names[i], names[j], rates[0], 0.002))
        links.append(Link(names[j], names[i], rates[1], 0.002))
    return tuple(links)


def memory_for(graph: Graph, stages: int) -> float | None:
    """Bytes with which equal devices need exactly this many stages; None where none do.

    Half-way between the least that `stages` need and the least that one less needs.
    """
    blocks = [sum(op.memory_bytes for op in graph.operators[a:b]) for a, b in graph.blocks]
    least = _least(blocks, graph.stage_memory_bytes, stages)
    if _stages(blocks, graph.stage_memory_bytes, least) != stages:
        return None
    if stages == 1:
        return least * 1.5
    return (least + _least(blocks, graph.stage_memory_bytes, stages - 1)) / 2


def _least(blocks: Sequence[int], own: int, stages: int) -> int:
    low, high = max(blocks) + own - 1, sum(blocks) + own
    while high - low > 1:
        middle = (low + high) // 2
        if _stages(blocks, own, middle) <= stages:
            high = middle
        else:
            low = middle
    return high


def _stages(blocks: Sequence[int], own: int, memory: int) -> int:
    count, used = 1, own
    for size in blocks:
        if used + size > memory:
            count, used = count + 1, own
        used += size
    return count
