"""Seeded graphs with costs, for tests and benchmarks: (Graph, TableCost) of two kinds.

Every generator takes the number of operators and a seed, and returns the same on every machine.
The kinds are "slow" and "fast"; sizes are bytes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.graph import Graph, Operator, Tensor

SLOW, FAST = "slow", "fast"


def chain(operators: int, seed: int = 0) -> tuple[Graph, TableCost]:
    """Every operator reads the one before."""
    return _build("chain", [[i - 1] if i else [] for i in range(operators)], seed)


def skip_connections(operators: int, seed: int = 0) -> tuple[Graph, TableCost]:
    """A chain in which some operators also read one a few places back, as in residual networks."""
    rng = random.Random(f"skip {seed}")
    reads = []
    for i in range(operators):
        before = [i - 1] if i else []
        if i > 3 and rng.random() < 0.3:
            before.append(i - rng.randint(2, 4))
        reads.append(before)
    return _build("skip", reads, seed)


def series_parallel(operators: int, seed: int = 0) -> tuple[Graph, TableCost]:
    """Blocks of two to four parallel chains between single operators, as in Inception."""
    rng = random.Random(f"series-parallel {seed}")
    reads: list[list[int]] = [[]]
    while len(reads) < operators:
        fork = len(reads) - 1
        ends = []
        for _ in range(rng.randint(2, 4)):
            end = fork
            for _ in range(rng.randint(1, 4)):
                reads.append([end])
                end = len(reads) - 1
            ends.append(end)
        reads.append(ends)
    return _build("series-parallel", reads[:operators], seed)


def layered(operators: int, seed: int = 0, width: int = 4) -> tuple[Graph, TableCost]:
    """Layers of up to `width` operators that read random operators of the two layers before.

    The last operator reads all that nothing else does.
    """
    rng = random.Random(f"layered {seed}")
    reads: list[list[int]] = [[]]
    layers = [[0]]
    while len(reads) < operators - 1:
        near = [i for layer in layers[-2:] for i in layer]
        layer = []
        for _ in range(min(rng.randint(1, width), operators - 1 - len(reads))):
            reads.append(sorted(rng.sample(near, min(len(near), rng.randint(1, 3)))))
            layer.append(len(reads) - 1)
        layers.append(layer)
    read = {j for before in reads for j in before}
    reads.append([i for i in range(len(reads)) if i not in read])
    return _build("layered", reads[:operators], seed)


def wide(operators: int, seed: int = 0) -> tuple[Graph, TableCost]:
    """One operator fans out to all but one of the rest, which the last reads."""
    middle = [[0] for _ in range(max(operators - 2, 0))]
    reads = [[], *middle, list(range(1, operators - 1)) or [0]][:operators]
    return _build("wide", reads, seed)


GENERATORS: Mapping[str, Callable[[int, int], tuple[Graph, TableCost]]] = {
    "chain": chain,
    "skip_connections": skip_connections,
    "series_parallel": series_parallel,
    "layered": layered,
    "wide": wide,
}


def two_devices(
    bandwidth_bps: float = 20e6, latency_s: float = 0.003, down_bps: float | None = None
) -> Cluster:
    """A slow "pi", where requests enter and leave, and a fast "server"."""
    return Cluster(
        (Device("pi", SLOW), Device("server", FAST)),
        (
            Link("pi", "server", bandwidth_bps, latency_s),
            Link("server", "pi", down_bps or bandwidth_bps, latency_s),
        ),
        "pi",
        "pi",
    )


def _build(name: str, reads: Sequence[Sequence[int]], seed: int) -> tuple[Graph, TableCost]:
    """A network: sizes shrink along the way and vary, the fast kind is 5 to 30 times faster."""
    rng = random.Random(f"{name} costs {seed}")
    count = len(reads)
    read = {j for before in reads for j in before}
    tensors = {"x": Tensor("x", 600_000)}
    slow, fast = {}, {}
    operators = []
    for i, before in enumerate(reads):
        size = int(800_000 * 0.02 ** (i / max(count, 1)) * rng.uniform(0.2, 1.8)) + 4
        tensors[f"t{i}"] = Tensor(f"t{i}", size)
        operator = Operator(
            f"op{i}",
            "Conv",
            tuple(f"t{j}" for j in before) or ("x",),
            (f"t{i}",),
            memory_bytes=rng.randint(10_000, 500_000),
        )
        operators.append(operator)
        slow[operator.name] = rng.uniform(0.2, 1.8) * 0.5 / count
        fast[operator.name] = slow[operator.name] / rng.uniform(5, 30)
    outputs = tuple(f"t{i}" for i in range(count) if i not in read)
    graph = Graph(f"{name}-{count}-{seed}", tuple(operators), tensors, ("x",), outputs)
    return graph, TableCost({SLOW: slow, FAST: fast})
