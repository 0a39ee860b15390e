"""A graph as a chain of blocks that meet in one operator, for the search for the least latency.

Only operators that lead to a graph output take part: what nobody waits for can be listed last.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cutset.graph import Graph
from cutset.solvers.arrays import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class Block:
    """Operators between two articulations, with an entry before and an exit at the end.

    Operator 0 is the entry: the operator before the block, or the request's source (then `first`).
    The last one is the block's last operator, or, where `last`, the results at the sink. Edges are
    those inside, each with the bytes of its largest tensor; tensors are those made in the block or
    by its entry and read in it.
    """

    positions: tuple[int, ...]  # of the operators in the graph; −1 for source and sink
    first: bool
    last: bool
    in_at: Ints  # [K + 1]
    in_u: Ints
    in_b: Floats
    out_at: Ints
    out_w: Ints
    out_b: Floats
    tin_at: Ints  # [K + 1] into tin_t: the tensors that an operator reads
    tin_t: Ints
    tprod: Ints  # [T]
    tbytes: Floats  # [T]
    trank: Ints  # [T] places in the order of the tensors' names
    whole: bool  # nothing crosses it or enters it but through its entry and its exit

    @property
    def count(self) -> int:
        return len(self.positions)

    @cached_property
    def real(self) -> Floats:
        """1 for the operators that run in it, 0 for entry and sink."""
        real = np.ones(self.count)
        real[0] = 0.0
        if self.last:
            real[-1] = 0.0
        return real

    @cached_property
    def reach(self) -> Bools:
        """[K, K]: whether a path leads from one operator to another."""
        found = np.zeros((self.count, self.count), dtype=np.bool_)
        for v in range(self.count):
            for u in self.in_u[self.in_at[v] : self.in_at[v + 1]]:
                found[:, v] |= found[:, u]
                found[u, v] = True
        return found

    @cached_property
    def key(self) -> bytes:
        """Equal for blocks of one shape: the same edges and sizes."""
        arrays = (self.in_at, self.in_u, self.in_b, self.tin_at, self.tin_t, self.tprod)
        head = bytes((self.first, self.last))
        return head + b"|".join(a.tobytes() for a in (*arrays, self.tbytes, self.trank))


def live_operators(graph: Graph) -> tuple[int, ...]:
    """Positions of the operators that lead to a graph output."""
    mask = 0
    for tensor in graph.outputs:
        producer = graph.producers.get(tensor)
        if producer is not None:
            mask |= graph.ancestors[producer] | 1 << producer
    return tuple(i for i in range(len(graph.operators)) if mask >> i & 1)


def latency_blocks(graph: Graph) -> tuple[Block, ...]:
    """The blocks, in order; empty where no output needs an operator.

    They meet at articulations of the live part of the graph that only tensors of the operator
    before them cross. Tensors that break this inside (an early result) are left out; then `whole`
    is False.
    """
    live = live_operators(graph)
    if not live:
        return ()
    part = replace(graph, operators=tuple(graph.operators[i] for i in live))
    edges = (0, *_strict(part), len(live))
    spans = list(itertools.pairwise(edges))
    return tuple(_block(part, live, a, b) for a, b in spans)


def _strict(part: Graph) -> list[int]:
    """Articulations that nothing crosses but tensors of the operator before."""
    count = len(part.operators)
    over = [0] * (count + 2)  # differences of how many side tensors cross a position
    for tensor, readers in part.consumers.items():
        made = part.producers.get(tensor, -1)
        if readers and readers[-1] > made + 1:
            over[made + 2] += 1
            over[readers[-1] + 1] -= 1
    crossing = list(itertools.accumulate(over))
    return [p for p in part.articulations if crossing[p] == 0]


def _block(part: Graph, live: tuple[int, ...], begin: int, end: int) -> Block:
    first, last = begin == 0, end == len(live)
    inside = list(range(begin, end))
    positions = (-1 if first else live[begin - 1], *(live[i] for i in inside))
    reads: list[list[str]] = [[]]
    local = {begin - 1: 0} | {p: k + 1 for k, p in enumerate(inside)}
    whole = True
    for p in inside:
        names = []
        for tensor in dict.fromkeys(part.operators[p].inputs):
            made = part.producers.get(tensor, -1)
            if made in local and (made >= 0 or first):
                names.append(tensor)
            else:
                whole = False
        reads.append(names)
    if last:
        positions = (*positions, -1)
        names = []
        for tensor in dict.fromkeys(part.outputs):
            made = part.producers.get(tensor, -1)
            if made in local and (made >= 0 or first):
                names.append(tensor)
            else:
                whole = False
        reads.append(names)
    elif any(part.producers.get(t, -1) in local for t in part.outputs):
        whole = False
    number: dict[str, int] = {}
    for names in reads:
        for tensor in names:
            number.setdefault(tensor, len(number))
    made_by = [local[part.producers.get(t, -1)] for t in number]
    sizes = [float(part.tensors[t].size_bytes) for t in number]
    edges: list[dict[int, float]] = []
    for names in reads:
        before: dict[int, float] = {}
        for tensor in names:
            u = made_by[number[tensor]]
            before[u] = max(before.get(u, 0.0), sizes[number[tensor]])
        edges.append(before)
    after: list[dict[int, float]] = [{} for _ in reads]
    for v, before in enumerate(edges):
        for u, size in before.items():
            after[u][v] = size
    return Block(
        positions,
        first,
        last,
        *_edge_rows(edges),
        *_edge_rows(after),
        *_rows([[number[t] for t in names] for names in reads]),
        np.array(made_by, dtype=np.int64),
        np.array(sizes, dtype=np.float64),
        ranks(tuple(number)),
        whole,
    )


def _rows(rows: list[list[int]]) -> tuple[Ints, Ints]:
    at = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=at[1:])
    return at, np.array([i for row in rows for i in row], dtype=np.int64)


def _edge_rows(edges: list[dict[int, float]]) -> tuple[Ints, Ints, Floats]:
    at, ends = _rows([list(row) for row in edges])
    return at, ends, np.array([b for row in edges for b in row.values()], dtype=np.float64)


def ranks(names: tuple[str, ...]) -> Ints:
    """Each name's place in their order as text, by code point."""
    found = np.zeros(len(names), dtype=np.int64)
    found[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return found
