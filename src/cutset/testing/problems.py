"""Small problems with every corner of the model in them, and their best two-stage plan.

`random_problem` draws one from a seed: missing links and costs, memory limits, colocate groups,
several inputs and outputs, tensors without bytes, operators that lead nowhere, multicast, any sink.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.errors import InvalidFileError
from cutset.graph import Graph, Operator, Tensor
from cutset.plan import Plan, check_plan
from cutset.problem import Objective, Problem
from cutset.solvers.one_stage import single_stage, value_of
from cutset.solvers.two_way.two_stage import two_stage_plan


def random_problem(seed: int, max_operators: int = 7, max_devices: int = 3) -> Problem:
    """A problem of a few operators and devices; the same for a seed everywhere."""
    rng = random.Random(seed)
    graph = _graph(rng, rng.randint(1, max_operators))
    names = ["a", "b", "c", "d"][: min(rng.choice((1, 2, 2, 2, 3)), max_devices)]
    seconds = {
        name: {
            op.name: rng.choice((0.0, 0.001, 0.002, 0.005, 0.01, 0.02))
            for op in graph.operators
            if rng.random() > 0.03
        }
        for name in names
    }
    links = tuple(
        Link(a, b, rng.choice((1e6, 5e6, 2e7, 1e8)), rng.choice((0.0, 0.001, 0.003)))
        for a, b in itertools.permutations(names, 2)
        if rng.random() > 0.07
    )
    cluster = Cluster(
        tuple(_device(rng, name) for name in names),
        links,
        source=rng.choice(names),
        sink=rng.choice(names),
        multicast=rng.random() < 0.15,
    )
    return Problem(graph, cluster, TableCost(seconds), rng.choice(tuple(Objective)))


def _device(rng: random.Random, name: str) -> Device:
    return Device(
        name,
        name,
        memory_bytes=rng.choice((math.inf, math.inf, 150, 80)),
        egress_bps=rng.choice((math.inf, 1e7)),
        ingress_bps=rng.choice((math.inf, 1e7)),
        overlap=rng.random() < 0.6,
        stage_overhead_s=rng.choice((0.0, 0.001, None)),
        send_s_per_byte=rng.choice((None, 0.0, 1e-7, 1e-6)),
        recv_s_per_byte=rng.choice((0.0, 1e-7, 1e-6)),
    )


def _graph(rng: random.Random, count: int) -> Graph:
    inputs = [f"x{i}" for i in range(rng.randint(1, 2))]
    tensors = {name: Tensor(name, rng.choice((0, 1000, 5000, 20000))) for name in inputs}
    known = list(inputs)
    operators = []
    for i in range(count):
        least = 0 if rng.random() < 0.15 else 1
        reads = tuple(rng.sample(known, rng.randint(least, min(3, len(known)))))
        made = tuple(f"t{i}_{j}" for j in range(rng.choice((1, 1, 1, 2))))
        for name in made:
            tensors[name] = Tensor(name, rng.choice((0, 500, 1000, 1000, 3000, 8000, 30000)))
        operators.append(
            Operator(
                f"o{i}",
                "Any",
                reads,
                made,
                memory_bytes=rng.choice((0, 10, 20, 50)),
                colocate=rng.choice((*[None] * 6, "g", "h")),
            )
        )
        known += made
    read = {t for op in operators for t in op.inputs}
    products = known[len(inputs) :]
    leaves = [t for t in products if t not in read]
    outputs = set(leaves)
    if rng.random() < 0.3:
        outputs = set(rng.sample(leaves, rng.randint(0, len(leaves))))
    if rng.random() < 0.3:
        outputs.add(rng.choice(products))
    if rng.random() < 0.05:
        outputs.add(inputs[0])
    return Graph(
        "random",
        tuple(operators),
        tensors,
        tuple(inputs),
        tuple(sorted(outputs or {products[-1]})),
        stage_memory_bytes=rng.choice((0, 5)),
    )


def two_stage_plans(problem: Problem) -> Iterator[Plan]:
    """Every plan of one or two stages, each on any device; exponential in the operators."""
    graph, names = problem.graph, [d.name for d in problem.cluster.devices]
    for name in names:
        yield single_stage(problem, name)
    count = len(graph.operators)
    for mask in range(1, (1 << count) - 1):
        part = [i for i in range(count) if mask >> i & 1]
        if any(graph.ancestors[i] & ~mask for i in part):
            continue
        for first, second in itertools.permutations(names, 2):
            yield two_stage_plan(graph, first, second, part)


def brute_force_s(problem: Problem) -> float:
    """The least value of all plans of at most two stages; inf where none can run."""
    best = math.inf
    for plan in two_stage_plans(problem):
        try:
            check_plan(plan, problem.graph, problem.cluster)
        except InvalidFileError:  # tears a colocate group apart
            continue
        best = min(best, value_of(problem, plan))
    return best
