"""Better schedules by moving operators to other devices, one group at a time.

For parts of a graph that are too large to be solved: the evaluator's value, in compiled code,
decides on every move.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from cutset.graph import Graph
from cutset.problem import Budget, Objective, Problem
from cutset.solvers.arrays import Ints
from cutset.solvers.latency.latency_model import latency_model
from cutset.solvers.scheduling.list_schedule import Schedule, rank_order

_GROUP = 40  # operators that are moved together at most


def moved(problem: Problem, start: Schedule, budget: Budget, *, effort: float) -> Schedule:
    """The schedule after moves that made it better, until none does.

    Groups are the operators that all come through one operator, or all go to one. Devices run
    theirs by upward rank. `effort` limits the visits of operators and tensors.
    """
    from cutset.solvers.scheduling import list_kernels
    from cutset.solvers.scheduling import stage_kernels as kernels

    m = latency_model(problem)
    latency = problem.objective is Objective.LATENCY

    def scored(device: Ints) -> tuple[float, Ints]:
        order = rank_order(list_kernels.ranks_on(m, device))
        return float(kernels.grouped_score(m, device, order, latency)), order

    device, order = start.device.copy(), start.order
    best = float(kernels.grouped_score(m, device, order, latency))
    value, again = scored(device)
    if value < best:
        best, order = value, again
    groups = [np.array(g, dtype=np.int64) for g in move_groups(problem.graph)]
    able = np.isfinite(m.compute_s)
    unchanged = 0
    while unchanged < len(groups) and effort > 0:
        unchanged = 0
        for group in groups:
            improved = False
            for y in range(m.devices):
                if effort <= 0 or budget.exhausted():
                    return Schedule(device, order)
                if (device[group] == y).all() or not able[y, group].all():
                    continue
                tried = device.copy()
                tried[group] = y
                for g in set(m.group[group].tolist()) - {-1}:
                    tried[m.group == g] = y
                effort -= m.work
                value, again = scored(tried)
                if value < best * (1 - 1e-12) or (math.isinf(best) and value < best):
                    best, device, order, improved = value, tried, again, True
            unchanged = 0 if improved else unchanged + 1
    return Schedule(device, order)


def move_groups(graph: Graph) -> Iterator[tuple[int, ...]]:
    """Each operator, and the groups that hang together: no operator of a group is reached (or: is
    left) but through its first (or last) one."""
    count = len(graph.operators)
    seen: set[tuple[int, ...]] = set()
    for group in (
        *_dominated(graph.predecessors, range(count)),
        *_dominated(graph.successors, range(count - 1, -1, -1)),
    ):
        if group not in seen and len(group) <= _GROUP:
            seen.add(group)
            yield group


def _dominated(before: tuple[tuple[int, ...], ...], order: range) -> Iterator[tuple[int, ...]]:
    """For each operator those that all paths from the start of the order reach through it."""
    count = len(before)
    rank = {v: k for k, v in enumerate(order)}
    above: dict[int, int] = {}
    for v in order:
        near = before[v]
        u = near[0] if near else -1
        for w in near[1:]:
            while u != w and u >= 0 and w >= 0:
                if rank[u] < rank[w]:
                    w = above[w]
                else:
                    u = above[u]
            if w < 0:
                u = -1
        above[v] = u
    groups: list[list[int]] = [[v] for v in range(count)]
    for v in reversed(order):
        if above[v] >= 0:
            room = groups[above[v]]
            if len(room) <= _GROUP:
                room += groups[v]
    for v in order:
        yield tuple(sorted(groups[v]))
