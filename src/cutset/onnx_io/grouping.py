"""Groups ONNX nodes into operators: what the engine runs as one, and what must not be cut."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

#: Two nodes further apart than this (in the model's order) are not merged for a fused tensor with
#: several readers: cutting there costs a little, merging would swallow what lies between.
_FUSION_SPAN = 64


@dataclass(frozen=True)
class NodeView:
    """A node as grouping sees it: the activations that it reads (captures too) and makes."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Indices of nodes in order; `unsized` names tensors whose unknown sizes keep it whole."""

    nodes: tuple[int, ...]
    unsized: tuple[str, ...]
    contracted: bool


def group(
    nodes: Sequence[NodeView],
    may_cut: Callable[[str], bool],
    survives: Callable[[str], bool],
    outputs: frozenset[str],
) -> tuple[Group, ...]:
    """Operators in topological order, such that the graph of operators is acyclic.

    `may_cut`: the tensor's size is known before a run. `survives`: the fused graph still has it.
    A tensor that may not be cut stays with all its readers; one that does not survive stays with
    them where they are near. Groups that would depend on each other become one.
    """
    parent = list(range(len(nodes)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    readers: dict[str, list[int]] = {}
    for i, node in enumerate(nodes):
        for name in node.inputs:
            readers.setdefault(name, []).append(i)
    unsized: dict[int, list[str]] = {}
    for i, node in enumerate(nodes):
        for name in node.outputs:
            after = readers.get(name, [])
            if not after:
                continue
            if not may_cut(name):
                unsized.setdefault(i, []).append(name)
            elif (
                survives(name)
                or name in outputs
                or (len(after) > 1 and after[-1] - i > _FUSION_SPAN)
            ):
                continue
            for j in after:
                parent[find(j)] = find(i)
    members: dict[int, list[int]] = {}
    for i in range(len(nodes)):
        members.setdefault(find(i), []).append(i)
    makers = {name: i for i, node in enumerate(nodes) for name in node.outputs}
    edges: dict[int, set[int]] = {root: set() for root in members}
    for i, node in enumerate(nodes):
        for name in node.inputs:
            if name in makers and find(makers[name]) != find(i):
                edges[find(makers[name])].add(find(i))
    components = _strong_components(edges)
    merged = {root: k for k, roots in enumerate(components) for root in roots}
    groups = [
        Group(
            tuple(sorted(i for root in roots for i in members[root])),
            tuple(name for root in roots for i in members[root] for name in unsized.get(i, ())),
            len(roots) > 1,
        )
        for roots in components
    ]
    after_group: dict[int, set[int]] = {k: set() for k in range(len(groups))}
    for root, targets in edges.items():
        after_group[merged[root]] |= {merged[t] for t in targets} - {merged[root]}
    return tuple(groups[k] for k in _ordered(after_group, [g.nodes[0] for g in groups]))


def _strong_components(edges: Mapping[int, set[int]]) -> list[list[int]]:
    """Tarjan's strongly connected components (SIAM J. Comput. 1(2), 1972), without recursion."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    components: list[list[int]] = []
    for start in edges:
        if start in index:
            continue
        index[start] = low[start] = len(index)
        stack.append(start)
        on_stack.add(start)
        work = [(start, iter(sorted(edges[start])))]
        while work:
            v, targets = work[-1]
            for w in targets:
                if w not in index:
                    index[w] = low[w] = len(index)
                    stack.append(w)
                    on_stack.add(w)
                    work.append((w, iter(sorted(edges[w]))))
                    break
                if w in on_stack:
                    low[v] = min(low[v], index[w])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[v])
                if low[v] == index[v]:
                    component: list[int] = []
                    while True:
                        w = stack.pop()
                        on_stack.discard(w)
                        component.append(w)
                        if w == v:
                            break
                    components.append(sorted(component))
    return components


def _ordered(after: Mapping[int, set[int]], rank: Sequence[int]) -> list[int]:
    """A topological order that keeps the model's order where it can."""
    waiting = dict.fromkeys(after, 0)
    for targets in after.values():
        for k in targets:
            waiting[k] += 1
    ready = [(rank[k], k) for k, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        _, k = heapq.heappop(ready)
        order.append(k)
        for j in after[k]:
            waiting[j] -= 1
            if waiting[j] == 0:
                heapq.heappush(ready, (rank[j], j))
    return order
