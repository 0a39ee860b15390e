"""Operators that hang together, and so are worth moving to another device as one."""

from __future__ import annotations

from collections.abc import Iterator

from cutset.graph import Graph

_GROUP = 40  # operators of a group at most


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
