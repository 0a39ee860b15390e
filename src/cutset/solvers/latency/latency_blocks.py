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

#: Blocks of more operators have regions.
LARGE = 16
#: Operators inside a region at most.
REGION = 18
#: Side tensors that cross an articulation are this many times smaller than what it cuts.
SIDE = 16


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

    @property
    def count(self) -> int:
        return len(self.positions)

    def reads(self, v: int) -> list[int]:
        """The tensors that an operator reads."""
        return [int(t) for t in self.tin_t[self.tin_at[v] : self.tin_at[v + 1]]]

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
    def regions(self) -> tuple[tuple[int, int], ...]:
        """Pairs (u, v): an operator with several to wait for, and the last one before it that all
        paths to it come through, with at most `REGION` operators between."""
        if self.count <= LARGE:
            return ()
        # Immediate dominators, walking up both chains; a smaller number is never a descendant.
        above = [0] * self.count
        found = []
        for v in range(1, self.count):
            before = [int(u) for u in self.in_u[self.in_at[v] : self.in_at[v + 1]]] or [0]
            u = before[0]
            for w in before[1:]:
                while u != w:
                    if u < w:
                        w = above[w]
                    else:
                        u = above[u]
            above[v] = u
            inside = int(np.count_nonzero(self.reach[u] & self.reach[:, v]))
            if len(before) > 1 and 0 < inside <= min(REGION, self.count - 3):
                found.append((u, v))
        return tuple(found)

    def region(self, u: int, v: int) -> Block:
        """The operators between two as a block of its own; side tensors are left out."""
        inside = [int(w) for w in np.flatnonzero(self.reach[u] & self.reach[:, v])]
        members = [u, *inside, v]
        local = {w: k for k, w in enumerate(members)}
        reads: list[list[int]] = [[]]
        for w in members[1:]:
            reads.append([t for t in self.reads(w) if int(self.tprod[t]) in local])
        number: dict[int, int] = {}
        for row in reads:
            for t in row:
                number.setdefault(t, len(number))
        made_by = [local[int(self.tprod[t])] for t in number]
        sizes = [float(self.tbytes[t]) for t in number]
        kept = [int(self.trank[t]) for t in number]
        rank = np.argsort(np.argsort(np.array(kept, dtype=np.int64), kind="stable"), kind="stable")
        return _assembled(
            tuple(self.positions[w] for w in members),
            self.first and u == 0,
            self.last and v == self.count - 1,
            [[number[t] for t in row] for row in reads],
            made_by,
            sizes,
            rank.astype(np.int64),
        )

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
    before them cross, besides side tensors of few bytes. All before an articulation leads to the
    operator before it and all after depends on that, so blocks follow one another in time in any
    plan. Left out are tensors that go elsewhere than within a block (side tensors, an early
    result), as if they were everywhere at once, and side operators (`_beside`), as if what they
    make were: that can only lower a bound.
    """
    live = live_operators(graph)
    if not live:
        return ()
    part = _restricted(graph, live)
    hidden = _beside(part)
    if hidden:
        live = tuple(i for k, i in enumerate(live) if k not in hidden)
        part = _restricted(graph, live)
    edges = (0, *_meetings(part), len(live))
    spans = list(itertools.pairwise(edges))
    return tuple(_block(part, live, a, b) for a, b in spans)


def _restricted(graph: Graph, kept: tuple[int, ...]) -> Graph:
    """The graph of some operators, without what the others make."""
    operators = [graph.operators[i] for i in kept]
    made = {t for op in operators for t in op.outputs} | set(graph.inputs)
    return replace(
        graph,
        operators=tuple(
            replace(op, inputs=tuple(t for t in op.inputs if t in made)) for op in operators
        ),
        outputs=tuple(t for t in graph.outputs if t in made),
    )


def _beside(part: Graph) -> frozenset[int]:
    """Operators that hide most articulations from all others, where they are light and need only
    each other (what is made of a mask): they can run at any time. Empty if there are none."""
    count = len(part.operators)
    everything = (1 << count) - 1
    hiding: dict[int, int] = {}
    descendants = [0] * count
    for v in range(count - 1, -1, -1):
        for u in part.predecessors[v]:
            descendants[u] |= descendants[v] | 1 << v
    for p in range(1, count):
        before = (1 << p) - 1
        after = everything & ~before
        main = p - 1
        mask = before & ~(part.ancestors[main] | 1 << main) | after & ~descendants[main]
        if mask:
            hiding[mask] = hiding.get(mask, 0) + 1
    weight = [
        sum(part.tensors[t].size_bytes for t in (*op.inputs, *op.outputs)) + op.weight_bytes
        for op in part.operators
    ]
    best: tuple[int, int] = (0, 0)
    for mask, shown in sorted(hiding.items()):
        members = [v for v in range(count) if mask >> v & 1]
        closed = all(part.ancestors[v] & ~mask == 0 for v in members)
        if closed and SIDE * sum(weight[v] for v in members) <= sum(weight) and shown > best[0]:
            best = (shown, mask)
    return frozenset(v for v in range(count) if best[1] >> v & 1)


def _meetings(part: Graph) -> list[int]:
    """Articulations that nothing crosses but tensors of the operator before, or side tensors of
    few bytes against these (a mask)."""
    count = len(part.operators)
    over = [0] * (count + 2)  # differences of the bytes of side tensors that cross a position
    results = set(part.outputs)  # the sink, after all, reads them
    for tensor, readers in part.consumers.items():
        made = part.producers.get(tensor, -1)
        last = count if tensor in results else max(readers, default=-1)
        if last > made + 1:
            size = part.tensors[tensor].size_bytes
            over[made + 2] += size
            over[last + 1] -= size
    beside = list(itertools.accumulate(over))
    return [
        p
        for p in part.articulations
        if SIDE * beside[p]
        <= sum(part.tensors[t].size_bytes for t in part.operators[p - 1].outputs)
    ]


def _block(part: Graph, live: tuple[int, ...], begin: int, end: int) -> Block:
    first, last = begin == 0, end == len(live)
    inside = list(range(begin, end))
    positions = (-1 if first else live[begin - 1], *(live[i] for i in inside))
    reads: list[list[str]] = [[]]
    local = {begin - 1: 0} | {p: k + 1 for k, p in enumerate(inside)}
    for p in inside:
        names = []
        for tensor in dict.fromkeys(part.operators[p].inputs):
            made = part.producers.get(tensor, -1)
            if made in local and (made >= 0 or first):
                names.append(tensor)
        reads.append(names)
    if last:
        positions = (*positions, -1)
        names = []
        for tensor in dict.fromkeys(part.outputs):
            made = part.producers.get(tensor, -1)
            if made in local and (made >= 0 or first):
                names.append(tensor)
        reads.append(names)
    number: dict[str, int] = {}
    for names in reads:
        for tensor in names:
            number.setdefault(tensor, len(number))
    made_by = [local[part.producers.get(t, -1)] for t in number]
    sizes = [float(part.tensors[t].size_bytes) for t in number]
    return _assembled(
        positions,
        first,
        last,
        [[number[t] for t in names] for names in reads],
        made_by,
        sizes,
        ranks(tuple(number)),
    )


def _assembled(
    positions: tuple[int, ...],
    first: bool,
    last: bool,
    reads: list[list[int]],
    made_by: list[int],
    sizes: list[float],
    rank: Ints,
) -> Block:
    """A block from the tensors that each operator reads, and who makes them."""
    edges: list[dict[int, float]] = []
    for row in reads:
        before: dict[int, float] = {}
        for t in row:
            before[made_by[t]] = max(before.get(made_by[t], 0.0), sizes[t])
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
        *_rows(reads),
        np.array(made_by, dtype=np.int64),
        np.array(sizes, dtype=np.float64),
        rank,
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
