"""Plans that fill devices one after another, and give one of them what the others do not hold.

They do not depend on how much memory that one device has: so where one fits once it has enough, it
is found again then. What relaxation.py names is true because of this.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

from cutset.cluster import Device
from cutset.plan import Plan, Stage
from cutset.problem import Problem
from cutset.solvers.throughput.period_model import placement_plan

_SUBSETS = 9  # devices beside the one of which all orders are looked at, at most


def filled_plans(problem: Problem) -> Iterator[tuple[str, Plan]]:
    """For each device, plans in which it takes what the others do not hold; they may not run."""
    devices = problem.cluster.devices
    parts = parts_of(problem)
    for last, device in enumerate(devices):
        chain = _chain(problem, last)
        if chain is not None:
            yield device.name, chain
        placement = _filled(problem, last, parts)
        if placement is not None:
            yield device.name, placement_plan(problem, placement)
        names = tuple(op.name for op in problem.graph.operators)
        yield device.name, Plan((Stage("s0", device.name, names),), problem.graph.digest)


def parts_of(problem: Problem) -> list[tuple[str, list[int]]]:
    """Operators that share a device, with the words for them; single ones and colocate groups."""
    found: dict[tuple[str, str], list[int]] = {}
    for i, op in enumerate(problem.graph.operators):
        key = ("operator", op.name) if op.colocate is None else ("group", op.colocate)
        found.setdefault(key, []).append(i)
    return [
        (f"operator {name!r}" if kind == "operator" else f"the colocate group {name!r}", operators)
        for (kind, name), operators in found.items()
    ]


def runs(problem: Problem, device: str, operators: Sequence[int]) -> bool:
    """Whether the device has a cost for all of them."""
    seconds = problem.compute_s(device)
    return all(math.isfinite(seconds[i]) for i in operators)


def room(problem: Problem, device: Device) -> float:
    """Bytes for the operators of one stage."""
    return max(device.memory_bytes - problem.graph.stage_memory_bytes, 0.0)


def _filled(
    problem: Problem, last: int, parts: Sequence[tuple[str, Sequence[int]]]
) -> list[int] | None:
    """Parts in the order of the graph, each on the device of the one before while it has room."""
    devices = problem.cluster.devices
    order = sorted(range(len(devices)), key=lambda d: (-room(problem, devices[d]), d))
    left = {d: room(problem, devices[d]) for d in order if d != last}
    placement = [last] * len(problem.graph.operators)
    here: int | None = None
    for _, operators in parts:
        needed = sum(problem.graph.operators[i].memory_bytes for i in operators)
        can = [d for d in order if runs(problem, devices[d].name, operators)]
        fitting = [d for d in can if d != last and left[d] >= needed]
        if here in fitting:
            chosen = here
        elif fitting:
            chosen = fitting[0]
        elif last in can:
            chosen = last
        else:
            return None
        assert chosen is not None
        if chosen != last:
            left[chosen] -= needed
            here = chosen
        for i in operators:
            placement[i] = chosen
    return placement


class _Row:
    """The operators in the order of the graph, cut where no colocate group is parted."""

    def __init__(self, problem: Problem) -> None:
        operators = problem.graph.operators
        self.problem = problem
        self.at = problem.graph.cut_positions
        done = list(itertools.accumulate((op.memory_bytes for op in operators), initial=0))
        self.memory = [done[p] for p in self.at]
        self.end = len(self.at) - 1
        self.unable: list[list[int]] = []  # of a device, how many operators up to a cut it cannot
        for device in problem.cluster.devices:
            seconds = problem.compute_s(device.name)
            count = list(itertools.accumulate((math.isinf(s) for s in seconds), initial=0))
            self.unable.append([count[p] for p in self.at])

    def furthest(self, device: int, begin: int) -> int:
        """The last cut up to which the device holds all from `begin` on."""
        limit = room(self.problem, self.problem.cluster.devices[device])
        unable = self.unable[device]
        end = bisect.bisect_right(self.memory, self.memory[begin] + limit) - 1
        return max(begin, min(end, bisect.bisect_right(unable, unable[begin]) - 1))

    def earliest(self, device: int, end: int) -> int:
        """The first cut from which on the device holds all up to `end`."""
        limit = room(self.problem, self.problem.cluster.devices[device])
        unable = self.unable[device]
        begin = bisect.bisect_left(self.memory, self.memory[end] - limit)
        return min(end, max(begin, bisect.bisect_left(unable, unable[end])))


def _chain(problem: Problem, last: int) -> Plan | None:
    """One stage a device in the order of the graph, such that `last` has the fewest bytes.

    Of the other devices some hold the beginning and some the end. Up to `_SUBSETS` of them all
    sets and orders are covered: what reaches further is never worse.
    """
    row = _row(problem)
    devices = problem.cluster.devices
    others = [d for d in range(len(devices)) if d != last]
    best: tuple[int, list[int], list[int]] | None = None
    for first, behind in _shares(row, others):
        begin, end = _forward(row, first)[-1], _backward(row, behind)[-1]
        if begin < end and row.unable[last][begin] < row.unable[last][end]:
            continue
        bytes_ = max(row.memory[end] - row.memory[begin], 0) + (begin < end)
        if best is None or bytes_ < best[0]:
            best = bytes_, first, behind
    return None if best is None else _chain_plan(row, best[1], last, best[2])


@lru_cache(maxsize=2)
def _row(problem: Problem) -> _Row:
    return _Row(problem)


def _shares(row: _Row, others: list[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Devices for the beginning, and from the end on for the end, each in the order to fill."""
    if len(others) > _SUBSETS:
        devices = row.problem.cluster.devices
        order = sorted(others, key=lambda d: (-room(row.problem, devices[d]), d))
        for k in range(len(order) + 1):
            yield order[:k], order[k:]
        return
    count = 1 << len(others)
    reach: list[tuple[int, list[int]]] = [(0, [])]
    back: list[tuple[int, list[int]]] = [(row.end, [])]
    for mask in range(1, count):
        inside = [j for j in range(len(others)) if mask >> j & 1]
        end, j = max((row.furthest(others[j], reach[mask ^ 1 << j][0]), -j) for j in inside)
        reach.append((end, [*reach[mask ^ 1 << -j][1], others[-j]]))
        begin, j = min((row.earliest(others[j], back[mask ^ 1 << j][0]), j) for j in inside)
        back.append((begin, [*back[mask ^ 1 << j][1], others[j]]))
    for mask in range(count):
        yield reach[mask][1], back[count - 1 - mask][1]


def _forward(row: _Row, devices: Sequence[int]) -> list[int]:
    """The cuts after each of these devices, filled in turn; the first is 0."""
    cuts = [0]
    for d in devices:
        cuts.append(row.furthest(d, cuts[-1]))
    return cuts


def _backward(row: _Row, devices: Sequence[int]) -> list[int]:
    cuts = [row.end]
    for d in devices:
        cuts.append(row.earliest(d, cuts[-1]))
    return cuts


def _chain_plan(row: _Row, first: list[int], last: int, behind: list[int]) -> Plan:
    ahead = _forward(row, first)
    rest = _backward(row, behind)
    pieces = [(d, a, b) for d, (a, b) in zip(first, itertools.pairwise(ahead), strict=True)]
    pieces.append((last, ahead[-1], max(rest[-1], ahead[-1])))
    for d, (b, a) in reversed(list(zip(behind, itertools.pairwise(rest), strict=True))):
        pieces.append((d, max(a, ahead[-1]), max(b, ahead[-1])))
    operators = row.problem.graph.operators
    names = [d.name for d in row.problem.cluster.devices]
    stages = [
        (names[d], tuple(op.name for op in operators[row.at[a] : row.at[b]]))
        for d, a, b in pieces
        if a < b
    ]
    return Plan(
        tuple(Stage(f"s{k}", name, part) for k, (name, part) in enumerate(stages)),
        row.problem.graph.digest,
    )
