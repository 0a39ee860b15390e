"""What a period depends on, as one tuple of arrays for compiled loops; and plans from placements.

A *placement* is a device for each operator. Transfers, memory and period of a plan depend on its
placement and on how many stages each device has, and none falls with more stages: so a placement
at one stage a device bounds every plan that has it, and is exact where the devices' parts have an
acyclic quotient, which is when they are stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from cutset.plan import Plan, Stage
from cutset.problem import Problem
from cutset.solvers.arrays import Bools, Floats, Ints, cluster_arrays, graph_arrays


class PeriodModel(NamedTuple):
    """O operators, T tensors, D devices; fields as in `arrays`. Seconds and bytes."""

    bytes_: Floats  # [T]
    producer: Ints  # [T]; −1 for graph inputs
    is_output: Bools  # [T]
    readers_at: Ints
    readers: Ints
    before_at: Ints
    before: Ints
    op_memory: Floats  # [O]
    compute_s: Floats  # [D, O]
    wire: Floats  # [D, D] seconds a byte; inf where there is no link
    send: Floats  # [D] seconds a byte
    recv: Floats  # [D]
    overhead_s: Floats  # [D]
    overlap: Bools  # [D]
    memory: Floats  # [D]
    best_in: Floats  # [D] of all links to the device, the fewest seconds a byte
    best_out: Floats  # [D]
    stage_memory: float
    source: int
    sink: int
    multicast: bool


class Units(NamedTuple):
    """U sets of operators that share a device, and how they lie in the graph."""

    at: Ints  # [U + 1] into operators
    operators: Ints
    above: Bools  # [U, U]: the first is before the second
    near_at: Ints  # [U + 1] into near
    near: Ints  # units that give to, or take from, a unit


@lru_cache(maxsize=8)
def period_model(problem: Problem) -> PeriodModel:
    g, c = graph_arrays(problem.graph), cluster_arrays(problem)
    others = c.wire_s_per_byte + np.diag(np.full(len(c.names), np.inf))
    return PeriodModel(
        g.bytes_,
        g.producer,
        g.is_output,
        g.readers_at,
        g.readers,
        g.before_at,
        g.before,
        g.memory,
        c.compute_s,
        c.wire_s_per_byte,
        c.send_s_per_byte,
        c.recv_s_per_byte,
        c.overhead_s,
        c.overlap,
        c.memory,
        others.min(axis=0),
        others.min(axis=1),
        c.stage_memory,
        c.source,
        c.sink,
        bool(c.multicast),
    )


def placement_plan(problem: Problem, device_of: Sequence[int] | Ints) -> Plan:
    """The plan with this placement whose stages are runs that take all they can.

    One stage a device where that is possible; else each time the device with the longest run goes
    on, ties to the first.
    """
    graph, devices = problem.graph, problem.cluster.devices
    placed = [int(d) for d in device_of]
    parts = _whole_stages(problem, placed) or _runs(problem, placed)
    return Plan(
        tuple(
            Stage(f"s{k}", devices[d].name, tuple(graph.operators[i].name for i in part))
            for k, (d, part) in enumerate(parts)
        ),
        graph.digest,
    )


def _whole_stages(problem: Problem, placed: list[int]) -> list[tuple[int, list[int]]]:
    """Devices and their operators in topological order of the quotient; empty if it has a cycle."""
    needs: dict[int, set[int]] = {d: set() for d in sorted(set(placed))}
    for i, before in enumerate(problem.graph.predecessors):
        needs[placed[i]] |= {placed[j] for j in before} - {placed[i]}
    order: list[int] = []
    while len(order) < len(needs):
        ready = next((d for d in needs if d not in order and needs[d] <= set(order)), None)
        if ready is None:
            return []
        order.append(ready)
    return [(d, [i for i, e in enumerate(placed) if e == d]) for d in order]


def _runs(problem: Problem, placed: list[int]) -> list[tuple[int, list[int]]]:
    graph = problem.graph
    left = {d: [i for i, e in enumerate(placed) if e == d] for d in sorted(set(placed))}
    done: set[int] = set()
    found: list[tuple[int, list[int]]] = []
    while left:
        best: tuple[int, list[int]] = (-1, [])
        for d, operators in left.items():
            run: list[int] = []
            inside = set(done)
            for i in operators:
                if inside.issuperset(graph.predecessors[i]):
                    run.append(i)
                    inside.add(i)
            # A device whose run ends its part needs no further stage: such runs go first.
            if (len(run) == len(operators), len(run)) > (
                len(best[1]) == len(left.get(best[0], ())),
                len(best[1]),
            ) or best[0] < 0:
                best = (d, run)
        d, run = best
        found.append(best)
        done.update(run)
        left[d] = [i for i in left[d] if i not in done]
        if not left[d]:
            del left[d]
    return found
