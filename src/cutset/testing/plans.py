"""Plans of any shape, at random or all of them: what evaluator, simulator and proofs are tested on.

Every untiled plan is a topological order cut into runs, each run a stage on some device.
"""

from __future__ import annotations

import random

from cutset.graph import Graph
from cutset.plan import Plan, Stage
from cutset.problem import Problem


def random_plan(problem: Problem, seed: int, merge: float = 0.6) -> Plan:
    """A valid plan of any number of stages; operators that must be together are.

    Neighbours in a random order join a stage with probability `merge` where their device is the
    same. Memory, costs and links are not looked at: the evaluator may still refuse it.
    """
    rng = random.Random(f"plan {seed}")
    graph = problem.graph
    names = [d.name for d in problem.cluster.devices]
    groups: dict[str, str] = {}
    runs: list[tuple[str, list[str]]] = []
    for i in random_order(graph, rng):
        op = graph.operators[i]
        stay = runs[-1][0] if runs and rng.random() < merge else None
        device = stay or rng.choice(names)
        if op.colocate is not None:
            device = groups.setdefault(op.colocate, device)
        if runs and runs[-1][0] == device and (stay is not None or rng.random() < merge):
            runs[-1][1].append(op.name)
        else:
            runs.append((device, [op.name]))
    stages = tuple(Stage(f"s{i}", device, tuple(ops)) for i, (device, ops) in enumerate(runs))
    return Plan(stages, graph.digest)


def random_order(graph: Graph, rng: random.Random) -> list[int]:
    """A topological order drawn at random."""
    waiting = [len(before) for before in graph.predecessors]
    ready = [i for i, count in enumerate(waiting) if count == 0]
    order = []
    while ready:
        i = ready.pop(rng.randrange(len(ready)))
        order.append(i)
        for j in graph.successors[i]:
            waiting[j] -= 1
            if waiting[j] == 0:
                ready.append(j)
    return order
