"""Operators that every better plan keeps together.

A plan whose period is below `value_s` moves no tensor that takes that long over the best link
between two devices: its producer and its readers share a device. So do colocate groups. What is
left is often small where links are slow, and any bound on it, or `value_s`, bounds every plan.
"""

from __future__ import annotations

import math

import numpy as np

from cutset.problem import Problem
from cutset.solvers.arrays import Ints
from cutset.solvers.throughput.period_model import period_model


def together(problem: Problem, value_s: float = math.inf) -> Ints:
    """For each operator the number of its unit, numbered in the order of their first operators.

    Holds for any untiled plan of a period below `value_s` seconds.
    """
    m = period_model(problem)
    operators = problem.graph.operators
    root = list(range(len(operators)))
    seen: dict[str, int] = {}
    for i, op in enumerate(operators):
        if op.colocate is not None:
            _join(root, seen.setdefault(op.colocate, i), i)
    fastest = float(m.best_in.min(initial=math.inf))
    for t, size in enumerate(m.bytes_):
        p = int(m.producer[t])
        if p >= 0 and (math.isinf(fastest) or fastest * size >= value_s):
            for r in m.readers[m.readers_at[t] : m.readers_at[t + 1]]:
                _join(root, p, int(r))
    return _numbered([_find(root, i) for i in range(len(root))])


def convex(problem: Problem, unit: Ints) -> Ints:
    """Units merged until their quotient is acyclic, as they are in plans of one stage a device,
    numbered in a topological order."""
    count = int(unit.max(initial=-1)) + 1
    after: list[set[int]] = [set() for _ in range(count)]
    for i, before in enumerate(problem.graph.predecessors):
        for j in before:
            if unit[i] != unit[j]:
                after[int(unit[j])].add(int(unit[i]))
    component = _components(after)
    return np.array([component[int(u)] for u in unit], dtype=np.int64)


def _components(after: list[set[int]]) -> list[int]:
    """Strongly connected components, numbered in topological order (Tarjan 1972, iterative)."""
    count = len(after)
    index, low = [-1] * count, [0] * count
    on_stack = [False] * count
    stack: list[int] = []
    found: list[int] = [-1] * count
    clock = components = 0
    for start in range(count):
        if index[start] >= 0:
            continue
        work = [(start, iter(sorted(after[start])))]
        index[start] = low[start] = clock
        clock += 1
        stack.append(start)
        on_stack[start] = True
        while work:
            u, successors = work[-1]
            v = next(successors, None)
            if v is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[u])
                if low[u] == index[u]:
                    while True:
                        w = stack.pop()
                        on_stack[w] = False
                        found[w] = components
                        if w == u:
                            break
                    components += 1
            elif index[v] < 0:
                index[v] = low[v] = clock
                clock += 1
                stack.append(v)
                on_stack[v] = True
                work.append((v, iter(sorted(after[v]))))
            elif on_stack[v]:
                low[u] = min(low[u], index[v])
    return [components - 1 - c for c in found]


def _find(root: list[int], i: int) -> int:
    while root[i] != i:
        root[i] = root[root[i]]
        i = root[i]
    return i


def _join(root: list[int], i: int, j: int) -> None:
    a, b = _find(root, i), _find(root, j)
    root[max(a, b)] = min(a, b)


def _numbered(roots: list[int]) -> Ints:
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(r, len(numbers)) for r in roots], dtype=np.int64)
