"""A problem as a chain of blocks: what pipelines of whole blocks are made of, as arrays.

A *cut* p is the point before block p; a stage is the blocks [p, q) on one device. Tensors that
never leave their block do not appear. Those that are made in the same block, read in the same
blocks, and wanted at the sink or not alike always travel together and are one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cutset.graph import Graph
from cutset.plan import Plan, Stage
from cutset.problem import Problem
from cutset.solvers.arrays import Bools, Floats, Ints, cluster_arrays

#: In place of zero bytes: too little to count, but times a missing link (inf) it is no 0.
_NO_BYTES = 1e-200


class Chain(NamedTuple):
    """N devices, M blocks, T travelling tensors; seconds and bytes; for compiled loops.

    Lists are in compressed rows: those of i are `x[x_at[i]:x_at[i + 1]]`. Row p of `crossing` lists
    the tensors made before cut p and read behind it, in the order of `next_reader`, the first block
    that reads them from there on.
    """

    compute_s: Floats  # [N, M]
    memory: Floats  # [M] bytes
    limit: Floats  # [N] bytes
    stage_memory: float
    bytes_: Floats  # [T]
    maker: Ints  # [T] block; −1: graph input
    wanted: Bools  # [T] at the sink
    reads_at: Ints  # [M + 1]
    reads: Ints  # tensors that a block reads and does not make
    made_at: Ints  # [M + 1]
    made: Ints  # tensors that a block makes
    crossing_at: Ints  # [M + 2]
    crossing: Ints
    next_reader: Ints
    rank: Ints  # of a crossing tensor's maker among the makers at the cut; −1: graph input
    makers_at: Ints  # [M + 2]; one entry for cut 0, where nothing is made yet
    makers: Ints  # distinct blocks that made what crosses a cut, ascending
    next_bytes: Floats  # [2, states] of what the state's makers made, what the next block reads;
    # first without results, which a stage that is not at the sink sends there
    later_bytes: Floats  # [2, states] what only blocks behind it read
    wire: Floats  # [N, N] s/byte; inf without a link
    path: Floats  # [N, N] s/byte from a stage to the next; inf where that must not be
    nearest: Ints  # [N, N] devices by `path` from each
    wire_in: Floats  # [N] the least into a device
    wire_out: Floats  # [N] the least out of it
    send: Floats  # [N] s/byte
    recv: Floats  # [N] s/byte
    overhead: Floats  # [N]
    serial: Bools  # [N] transfers occupy the device
    source: int
    sink: int
    multicast: bool
    input_bytes: float  # of graph inputs that block 0 reads
    amount: Floats  # [M + 1] bytes that cross a cut
    oldest: Ints  # [M + 1] first block that made what crosses a cut; −1: none, or a graph input or
    # result crosses; M at the end
    clean: Ints  # [M + 1] up to which cut no block from this cut on makes a result


@dataclass(frozen=True, eq=False)
class BlockChain:
    """The arrays, and what makes a plan of indices. Cuts that would part a colocate group are
    none: such blocks are merged."""

    names: tuple[str, ...]
    edges: tuple[int, ...]  # [M + 1] positions of operators where blocks begin
    arrays: Chain

    def plan(self, graph: Graph, devices: Iterable[int], cuts: Iterable[int]) -> Plan:
        """Stage i on devices[i], up to the block cuts[i]; the last of `cuts` is M."""
        stages, begin = [], 0
        for i, (device, end) in enumerate(zip(devices, cuts, strict=True)):
            part = graph.operators[self.edges[begin] : self.edges[end]]
            stages.append(Stage(f"s{i}", self.names[device], tuple(op.name for op in part)))
            begin = end
        return Plan(tuple(stages), graph.digest)


def block_chain(problem: Problem) -> BlockChain:
    graph, cluster = problem.graph, cluster_arrays(problem)
    edges = _edges(graph)
    count = len(edges) - 1
    block_of = np.repeat(np.arange(count), np.diff(edges))
    wanted = set(graph.outputs)
    groups: dict[tuple[int, bool, tuple[int, ...]], int] = {}
    for name in graph.tensors:
        made_by = graph.producers.get(name)
        maker = -1 if made_by is None else int(block_of[made_by])
        readers = sorted({int(block_of[i]) for i in graph.consumers[name]} - {maker})
        if readers or name in wanted:
            key = (maker, name in wanted, tuple(readers))
            groups[key] = groups.get(key, 0) + graph.tensors[name].size_bytes
    keys = sorted(groups)
    reads: list[list[int]] = [[] for _ in range(count)]
    made: list[list[int]] = [[] for _ in range(count)]
    crossing: list[list[tuple[int, int]]] = [[] for _ in range(count + 1)]
    for t, (maker, _, blocks) in enumerate(keys):
        if maker >= 0:
            made[maker].append(t)
        after = maker + 1
        for b in blocks:
            reads[b].append(t)
            for p in range(after, b + 1):
                crossing[p].append((b, t))
            after = b + 1
    rows = [sorted(row) for row in crossing]
    makers = [sorted({keys[t][0] for _, t in row} - {-1}) for row in rows]
    makers[0] = [-1]
    ranks = [
        [makers[p].index(keys[t][0]) if keys[t][0] >= 0 else -1 for _, t in row]
        for p, row in enumerate(rows)
    ]
    crossing_at, crossing_tensors = _rows([[t for _, t in row] for row in rows])
    makers_at, makers_list = _rows(makers)
    wire = cluster.wire_s_per_byte
    others = np.where(np.eye(len(wire), dtype=np.bool_), np.inf, wire)
    arrays = Chain(
        np.ascontiguousarray(np.add.reduceat(cluster.compute_s, edges[:-1], axis=1)),
        np.add.reduceat(np.array([float(op.memory_bytes) for op in graph.operators]), edges[:-1]),
        cluster.memory,
        cluster.stage_memory,
        np.array([float(groups[key]) or _NO_BYTES for key in keys], dtype=np.float64),
        np.array([maker for maker, _, _ in keys], dtype=np.int64),
        np.array([out for _, out, _ in keys], dtype=np.bool_),
        *_rows(reads),
        *_rows(made),
        crossing_at,
        crossing_tensors,
        _rows([[b for b, _ in row] for row in rows])[1],
        _rows(ranks)[1],
        makers_at,
        makers_list,
        *_handed(rows, makers, keys, groups),
        wire,
        others,
        np.ascontiguousarray(np.argsort(others, axis=1, kind="stable")),
        others.min(axis=0),
        others.min(axis=1),
        cluster.send_s_per_byte,
        cluster.recv_s_per_byte,
        cluster.overhead_s,
        ~cluster.overlap,
        cluster.source,
        cluster.sink,
        cluster.multicast,
        math.fsum(groups[key] or _NO_BYTES for key in keys if key[0] < 0 and 0 in key[2]),
        np.array([math.fsum(groups[keys[t]] or _NO_BYTES for _, t in row) for row in rows]),
        np.array([_oldest([keys[t] for _, t in row]) for row in rows[:-1]] + [count]),
        _clean(count, {maker for maker, out, _ in keys if out}),
    )
    return BlockChain(cluster.names, edges, arrays)


def in_order(ch: Chain, devices: Sequence[int]) -> tuple[Chain, list[int]]:
    """The same, where only these devices run stages, and in this order; any may be left out.

    Others than these, source and sink are none of it: second, the devices it has.
    """
    named = sorted({*devices, ch.source, ch.sink})
    rank = {d: j for j, d in enumerate(devices)}
    place = np.array([rank.get(d, -1) for d in named])
    allowed = (place[:, None] >= 0) & (place[None, :] > place[:, None])
    wire = np.ascontiguousarray(ch.wire[np.ix_(named, named)])
    path = np.where(allowed, wire, np.inf)
    return ch._replace(
        compute_s=np.ascontiguousarray(ch.compute_s[named]),
        limit=np.where(place >= 0, ch.limit[named], -1.0),
        wire=wire,
        path=path,
        nearest=np.ascontiguousarray(np.argsort(path, axis=1, kind="stable")),
        wire_in=ch.wire_in[named],
        wire_out=ch.wire_out[named],
        send=ch.send[named],
        recv=ch.recv[named],
        overhead=ch.overhead[named],
        serial=ch.serial[named],
        source=named.index(ch.source),
        sink=named.index(ch.sink),
    ), named


def coarse(ch: Chain, count: int) -> tuple[Chain, list[int]]:
    """Compute and memory of about `count` groups of blocks, and the cuts around the groups.

    All else is as before, of blocks. Of cuts with alike memory and compute before them, those that
    the fewest bytes cross are kept.
    """
    m = len(ch.memory)
    if m <= count + count // 2:
        return ch, list(range(m + 1))
    typical = np.median(np.where(np.isfinite(ch.compute_s), ch.compute_s, 0.0), axis=0)
    size = sum(x / max(x.sum(), 1e-300) for x in (typical, ch.memory, np.ones(m)))
    group = np.minimum((np.cumsum(size) / 3 * count).astype(np.int64), count - 1)
    crossing = np.array(
        [ch.bytes_[ch.crossing[ch.crossing_at[p] : ch.crossing_at[p + 1]]].sum() for p in range(m)]
    )
    cuts = [0]
    for g in range(count):
        if len(chosen := 1 + np.flatnonzero(group[: m - 1] == g)):
            cuts.append(int(chosen[crossing[chosen].argmin()]))
    starts = sorted(set(cuts))
    return ch._replace(
        compute_s=np.ascontiguousarray(np.add.reduceat(ch.compute_s, starts, axis=1)),
        memory=np.add.reduceat(ch.memory, starts),
    ), [*starts, m]


def _oldest(crossing: Sequence[tuple[int, bool, tuple[int, ...]]]) -> int:
    if any(maker < 0 or out for maker, out, _ in crossing):
        return -1
    return min((maker for maker, _, _ in crossing), default=-1)


def _clean(count: int, results: set[int]) -> Ints:
    """Of each cut the first block from there on that makes a result, or M."""
    first = np.full(count + 1, count, dtype=np.int64)
    for p in range(count - 1, -1, -1):
        first[p] = p if p in results else first[p + 1]
    return first


def _handed(
    rows: list[list[tuple[int, int]]],
    makers: list[list[int]],
    keys: Sequence[tuple[int, bool, tuple[int, ...]]],
    groups: dict[tuple[int, bool, tuple[int, ...]], int],
) -> tuple[Floats, Floats]:
    """`next_bytes` and `later_bytes` of a chain."""
    handed = np.zeros((2, 2, sum(map(len, makers))))
    state = 0
    for p, (row, made) in enumerate(zip(rows, makers, strict=True)):
        for first in made:
            for b, t in row:
                maker, out, _ = keys[t]
                if p and maker >= first:
                    size = groups[keys[t]] or _NO_BYTES
                    handed[int(b > p), 1, state] += size
                    if not out:
                        handed[int(b > p), 0, state] += size
            state += 1
    return handed[0], handed[1]


def _edges(graph: Graph) -> tuple[int, ...]:
    """Where blocks begin, and the end; points inside a colocate group are left out."""
    whole = set(graph.cut_positions)
    return (0, *(p for p in graph.articulations if p in whole), len(graph.operators))


def _rows(rows: list[list[int]]) -> tuple[Ints, Ints]:
    at = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=at[1:])
    return at, np.array([i for row in rows for i in row], dtype=np.int64)
