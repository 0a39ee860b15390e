"""Lower bounds on *any* untiled plan: any number of stages, back and forth, in parallel.

Cheap arguments only, each true for the evaluator of docs/formats.md. They close for small
problems where they can, and say nothing (0) otherwise.
"""

from __future__ import annotations

import math

from cutset.problem import Objective, Problem
from cutset.solvers.throughput.load_bound import load_bound
from cutset.solvers.two_way.two_stage import shape_of


def full_bound_s(problem: Problem, value_s: float = math.inf) -> float:
    """Seconds that no untiled plan can beat; 0 where no argument applies.

    `value_s`, the value of a plan, only sharpens it: then the least of both is what is proven.
    """
    if len(problem.cluster.devices) == 1:
        return _one_device_s(problem)
    if problem.objective is Objective.LATENCY:
        return max(_stay_or_travel_s(problem), _chain_s(problem))
    return load_bound(problem, value_s).bound_s


def _one_device_s(problem: Problem) -> float:
    """Every stage runs on the one device, one after another, and stages only add overhead.

    For latency the last stage must count: it does where every operator leads to an output.
    """
    if problem.objective is Objective.LATENCY and shape_of(problem.graph).dead:
        return 0.0
    device = problem.cluster.devices[0]
    return math.fsum((device.stage_overhead_s or 0.0, *problem.compute_s(device.name)))


def _stay_or_travel_s(problem: Problem) -> float:
    """All on the source, or at least one tensor away and one tensor back.

    Where requests enter and leave at the source and every operator lies on a path from a graph
    input to a graph output, an operator elsewhere puts two transfers on such a path.
    """
    cluster, graph = problem.cluster, problem.graph
    shape = shape_of(graph)
    if cluster.source != cluster.sink or shape.dead or not shape.sources_read_inputs:
        return 0.0
    home = cluster.source
    smallest = min((t.size_bytes for t in graph.tensors.values()), default=0)

    def trip_s(start: str, end: str) -> float:
        link = cluster.link(start, end)
        if link is None:
            return math.inf
        return (link.latency_s or 0.0) + 8 * smallest / problem.bandwidth_bps(link)

    others = [d.name for d in cluster.devices if d.name != home]
    away = min((trip_s(home, name) for name in others), default=math.inf)
    back = min((trip_s(name, home) for name in others), default=math.inf)
    overhead = problem.device(home).stage_overhead_s or 0.0
    return min(away + back, math.fsum((overhead, *problem.compute_s(home))))


def _chain_s(problem: Problem) -> float:
    """Shortest path over (operator, device), for graphs whose operators form one chain.

    There nothing can run in parallel, and the tensor between two neighbours has to move when the
    device changes; side tensors and memory are left out, which only lowers the bound.
    """
    graph, cluster = problem.graph, problem.cluster
    count = len(graph.operators)
    if any(i - 1 not in graph.predecessors[i] for i in range(1, count)):
        return 0.0
    if not any(t in graph.outputs for t in graph.operators[-1].outputs):
        return 0.0
    names = [d.name for d in cluster.devices]
    overhead = {name: problem.device(name).stage_overhead_s or 0.0 for name in names}

    def hop_s(tensors: list[str], start: str, end: str) -> float:
        """At least this long from ready to the last arrival of these tensors."""
        if start == end or not tensors:
            return 0.0
        link = cluster.link(start, end)
        if link is None:
            return math.inf
        sizes = [graph.tensors[t].size_bytes for t in tensors]
        per_byte = 8 / problem.bandwidth_bps(link)
        cost = problem.device(start).send_s_per_byte or 0.0
        cost += problem.device(end).recv_s_per_byte or 0.0
        serial = per_byte * sum(sizes) + cost * min(sizes)
        return max(serial, (per_byte + cost) * max(sizes)) + (link.latency_s or 0.0)

    inputs = [t for t in graph.operators[0].inputs if t in graph.inputs]
    compute = {name: problem.compute_s(name) for name in names}
    at = {
        name: hop_s(inputs, cluster.source, name) + overhead[name] + compute[name][0]
        for name in names
    }
    for i in range(1, count):
        made = set(graph.operators[i - 1].outputs)
        between = [t for t in dict.fromkeys(graph.operators[i].inputs) if t in made]
        at = {
            b: compute[b][i]
            + min(at[a] + hop_s(between, a, b) + (overhead[b] if a != b else 0.0) for a in names)
            for b in names
        }
    results = [t for t in graph.operators[-1].outputs if t in graph.outputs]
    return min(at[a] + hop_s(results, a, cluster.sink) for a in names)
