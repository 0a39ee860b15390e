"""The same problem in other words, or a little better: what must not change a value, or only so.

New costs are kept by device: each device of a varied problem is a kind of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from cutset.cluster import Cluster, Device, Link
from cutset.cost import LoadedCost, TableCost
from cutset.graph import Graph, Operator
from cutset.problem import Objective, Problem
from cutset.testing.plans import random_order


def by_device(problem: Problem) -> Problem:
    """The problem with its costs in a table whose kinds are the devices' names, as files have."""
    return _rebuilt(problem, lambda name: name, problem.graph.operators)


def renamed(problem: Problem, prefix: str = "the ") -> Problem:
    """Every device, operator, tensor and group with the prefix: all keep their order."""
    return _rebuilt(problem, lambda name: prefix + name, problem.graph.operators)


def reordered(problem: Problem, seed: int) -> Problem:
    """Devices in the opposite order, operators in another topological one.

    For throughput all get names in another order too. Not for latency: transfers that are ready
    together take turns by the names of tensors and receivers.
    """
    graph = problem.graph
    operators = [graph.operators[i] for i in random_order(graph, random.Random(seed))]
    names = sorted(
        {d.name for d in problem.cluster.devices}
        | {op.name for op in operators}
        | {op.colocate for op in operators if op.colocate is not None}
        | set(graph.tensors)
    )
    fresh = dict(zip(names, reversed(names), strict=True))
    latency = problem.objective is Objective.LATENCY
    made = _rebuilt(problem, (lambda name: name) if latency else fresh.__getitem__, operators)
    cluster = made.cluster
    return replace(
        made,
        cluster=replace(cluster, devices=cluster.devices[::-1], links=cluster.links[::-1]),
    )


def scaled(problem: Problem, factor: float) -> Problem:
    """Everything takes `factor` times as long; a power of two leaves all rounding as it was."""

    def times(seconds: float | None) -> float | None:
        return None if seconds is None else seconds * factor

    devices = tuple(
        replace(
            d,
            egress_bps=d.egress_bps / factor,
            ingress_bps=d.ingress_bps / factor,
            stage_overhead_s=times(d.stage_overhead_s),
            send_s_per_byte=times(d.send_s_per_byte),
            recv_s_per_byte=times(d.recv_s_per_byte),
        )
        for d in problem.cluster.devices
    )
    slower = _with_links(problem.cluster, 1 / factor, factor)
    load = {d.name: factor for d in devices}
    return replace(
        problem, cluster=replace(slower, devices=devices), cost=LoadedCost(problem.cost, load)
    )


def with_faster_device(problem: Problem, which: int) -> Problem:
    """One device computes twice as fast; `which` counts around."""
    device = problem.cluster.devices[which % len(problem.cluster.devices)].name
    return replace(problem, cost=LoadedCost(problem.cost, {device: 0.5}))


def with_faster_links(problem: Problem) -> Problem:
    """Every link has twice the bandwidth."""
    return replace(problem, cluster=_with_links(problem.cluster, 2.0, 1.0))


def _with_links(cluster: Cluster, bandwidth: float, latency: float) -> Cluster:
    def changed(link: Link) -> Link:
        return replace(
            link,
            bandwidth_bps=None if link.bandwidth_bps is None else link.bandwidth_bps * bandwidth,
            latency_s=None if link.latency_s is None else link.latency_s * latency,
        )

    default = cluster.default_link
    return replace(
        cluster,
        links=tuple(map(changed, cluster.links)),
        default_link=None if default is None else changed(default),
    )


def _rebuilt(
    problem: Problem, name: Callable[[str], str], operators: Sequence[Operator]
) -> Problem:
    """The problem with all names mapped, and its operators in the given order."""
    graph, cluster = problem.graph, problem.cluster

    def names(tensors: Sequence[str]) -> tuple[str, ...]:
        return tuple(map(name, tensors))

    def device(d: Device) -> Device:
        return replace(d, name=name(d.name), kind=name(d.name))

    new = Graph(
        graph.name,
        tuple(
            replace(
                op,
                name=name(op.name),
                inputs=names(op.inputs),
                outputs=names(op.outputs),
                colocate=None if op.colocate is None else name(op.colocate),
            )
            for op in operators
        ),
        {name(t.name): replace(t, name=name(t.name)) for t in graph.tensors.values()},
        names(graph.inputs),
        names(graph.outputs),
        stage_memory_bytes=graph.stage_memory_bytes,
    )
    links = tuple(replace(x, source=name(x.source), target=name(x.target)) for x in cluster.links)
    return Problem(
        new,
        replace(
            cluster,
            devices=tuple(map(device, cluster.devices)),
            links=links,
            source=name(cluster.source),
            sink=name(cluster.sink),
        ),
        TableCost({name(d): {name(o): s for o, s in row.items()} for d, row in _costs(problem)}),
        problem.objective,
    )


def _costs(problem: Problem) -> Sequence[tuple[str, Mapping[str, float]]]:
    """For each device the seconds of each operator, inf where it cannot run."""
    operators = [op.name for op in problem.graph.operators]
    return [
        (d.name, dict(zip(operators, problem.compute_s(d.name), strict=True)))
        for d in problem.cluster.devices
    ]
