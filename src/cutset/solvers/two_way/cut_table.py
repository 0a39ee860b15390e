"""Every way to cut a graph into a first and a second part, as columns of numbers.

A cut is a down-set of the graph: a set of operators that holds all predecessors of its members.
Every down-set is a whole number of blocks and a down-set of one more block (graph.articulations),
so the cuts of a graph are the *union* of its blocks' cuts, not their product. Prefixes at
articulations come from one pass of difference arrays, the inside of a block from enumeration. A
block with too many down-sets is left `open`: a min-cut oracle has to look into it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from cutset.graph import Graph

Floats = NDArray[np.float64]
Members = NDArray[np.bool_]  # for each operator, whether it is in the first part

MAX_CUTS_PER_BLOCK = 100_000
MAX_CELLS_PER_BLOCK = 8_000_000  # operators times cuts: bytes of the membership matrix


class Role(IntEnum):
    """Why a tensor may have to move, by where its producer and its readers are."""

    IN_FIRST = 0  # a graph input that the first part reads
    IN_SECOND = 1  # a graph input that the second part reads
    CUT = 2  # made in the first part, read in the second
    CUT_OUTPUT = 3  # those of CUT that are graph outputs too
    OUT_FIRST = 4  # a graph output that the first part makes
    OUT_SECOND = 5  # a graph output that the second part makes


@dataclass(frozen=True)
class _Moves:
    """Which tensors have which role, for prefixes: tensor `tensor[i]` has role `role[i]` in the
    prefixes of length `begin[i]` to `end[i]` (half-open)."""

    role: NDArray[np.int64]
    tensor: NDArray[np.int64]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    size: Floats


@dataclass(frozen=True)
class _Chunk:
    """Cuts that share a prefix: everything before `begin`, and `inside[:, row]` of what follows.

    `prefixes` instead of `inside` for cuts that are prefixes, one row for each length.
    """

    begin: int
    inside: NDArray[np.bool_] | None
    prefixes: NDArray[np.int64] | None

    @property
    def rows(self) -> int:
        if self.inside is not None:
            return int(self.inside.shape[1])
        assert self.prefixes is not None
        return len(self.prefixes)


@dataclass(frozen=True)
class CutTable:
    """Cuts as rows of columns; independent of devices and links.

    `bytes_`, `count`, `smallest` and `largest` have a row for each Role: the sum, number, least
    and greatest of the sizes of the tensors in that role (least inf and greatest 0 for none).
    `memory_first` is the sum of `memory_bytes` of the first part's operators. `open_blocks` are
    the blocks whose inside is missing here. The empty and the full cut are left out.
    """

    graph: Graph
    chunks: tuple[_Chunk, ...]
    bytes_: Floats
    count: Floats
    smallest: Floats
    largest: Floats
    memory_first: Floats
    open_blocks: tuple[tuple[int, int], ...]

    @property
    def rows(self) -> int:
        return len(self.memory_first)

    def first_part(self, row: int) -> tuple[int, ...]:
        """Positions of the operators before the cut."""
        for chunk in self.chunks:
            if row < chunk.rows:
                if chunk.inside is None:
                    assert chunk.prefixes is not None
                    return tuple(range(int(chunk.prefixes[row])))
                inside = np.flatnonzero(chunk.inside[:, row]) + chunk.begin
                return (*range(chunk.begin), *inside.tolist())
            row -= chunk.rows
        raise IndexError(row)

    def sum_first(self, values: Floats) -> Floats:
        """For each cut, the sum over the first part of a value for each operator; inf allowed."""
        infinite = np.isinf(values)
        finite = np.where(infinite, 0.0, values)
        total = self._sum(finite)
        if infinite.any():
            total = np.where(self._sum(infinite.astype(np.float64)) > 0, np.inf, total)
        return np.asarray(total)

    def sum_second(self, values: Floats) -> Floats:
        """As `sum_first`, over the operators after the cut."""
        infinite = np.isinf(values)
        finite = np.where(infinite, 0.0, values)
        total = np.maximum(finite.sum() - self._sum(finite), 0.0)
        if infinite.any():
            found = infinite.astype(np.float64)
            total = np.where(found.sum() - self._sum(found) > 0, np.inf, total)
        return np.asarray(total)

    def _sum(self, values: Floats) -> Floats:
        before = np.concatenate(([0.0], np.cumsum(values)))
        parts: list[Floats] = []
        for chunk in self.chunks:
            if chunk.inside is None:
                parts.append(before[chunk.prefixes])
            else:
                block = values[chunk.begin : chunk.begin + len(chunk.inside)]
                parts.append(before[chunk.begin] + block @ chunk.inside)
        return np.concatenate(parts) if parts else np.zeros(0)


def prefix_cuts(graph: Graph, *, articulations_only: bool = False) -> CutTable:
    """The prefixes of the topological order, or only those that end at an articulation."""
    lengths = np.array(
        graph.articulations if articulations_only else range(1, len(graph.operators)),
        dtype=np.int64,
    )
    keep = _together(graph, lengths)
    columns = _PrefixColumns(graph, _moves(graph))
    return columns.table(lengths[keep], (), ())


def all_cuts(graph: Graph, max_cuts_per_block: int = MAX_CUTS_PER_BLOCK) -> CutTable:
    """All cuts, besides those inside blocks that have more than `max_cuts_per_block` of them."""
    lengths = np.array(graph.articulations, dtype=np.int64)
    columns = _PrefixColumns(graph, _moves(graph))
    blocks, open_blocks = [], []
    for begin, end in graph.blocks:
        if end - begin > 1:
            inside = down_sets(graph, begin, end, max_cuts_per_block)
            if inside is None:
                open_blocks.append((begin, end))
            elif inside.shape[1]:
                blocks.append(_Chunk(begin, inside, None))
    return columns.table(lengths[_together(graph, lengths)], tuple(blocks), tuple(open_blocks))


def down_sets(graph: Graph, begin: int, end: int, limit: int) -> NDArray[np.bool_] | None:
    """Down-sets of the operators [begin, end), besides the empty and the full one.

    A matrix of membership: a row for each operator, a column for each down-set. Down-sets that
    tear a colocate group apart are left out. None where there are more than `limit`.
    """
    size = end - begin
    sets = np.zeros((size, 1), dtype=np.bool_)
    for i in range(size):
        before = [j - begin for j in graph.predecessors[begin + i] if j >= begin]
        able = sets[before].all(axis=0) if before else np.ones(sets.shape[1], dtype=np.bool_)
        grown = sets[:, able].copy()
        grown[i] = True
        sets = np.concatenate((sets, grown), axis=1)
        if sets.shape[1] > limit or sets.size > MAX_CELLS_PER_BLOCK:
            return None
    members = sets.sum(axis=0)
    keep = (members > 0) & (members < size)
    for group in graph.colocated.values():
        inside = [p - begin for p in group if begin <= p < end]
        if inside:
            if group[0] < begin:
                keep &= sets[inside].all(axis=0)
            if group[-1] >= end:
                keep &= ~sets[inside].any(axis=0)
            keep &= sets[inside].all(axis=0) | ~sets[inside].any(axis=0)
        elif group[0] < begin and group[-1] >= end:
            keep[:] = False
    return sets[:, keep]


def moving(graph: Graph, members: Members) -> list[tuple[Role, int]]:
    """The roles that tensors have at one cut, each with the tensor's bytes."""
    outputs = set(graph.outputs)
    found: list[tuple[Role, int]] = []
    for name, tensor in graph.tensors.items():
        readers, producer = graph.consumers[name], graph.producers.get(name)
        in_second = any(not members[r] for r in readers)
        roles: list[Role] = []
        if producer is None:
            if any(members[r] for r in readers):
                roles.append(Role.IN_FIRST)
            if in_second:
                roles.append(Role.IN_SECOND)
        elif members[producer]:
            if in_second:
                roles += [Role.CUT, Role.CUT_OUTPUT] if name in outputs else [Role.CUT]
            if name in outputs:
                roles.append(Role.OUT_FIRST)
        elif name in outputs:
            roles.append(Role.OUT_SECOND)
        found += [(role, tensor.size_bytes) for role in roles]
    return found


def _together(graph: Graph, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which prefixes tear no colocate group apart."""
    return np.isin(lengths, graph.cut_positions)


def _moves(graph: Graph) -> _Moves:
    count = len(graph.operators)
    outputs = set(graph.outputs)
    rows: list[tuple[int, int, int, int, int]] = []
    for t, (name, tensor) in enumerate(graph.tensors.items()):
        readers = graph.consumers[name]
        producer = graph.producers.get(name)
        size = tensor.size_bytes
        if producer is None:
            if readers:
                rows.append((Role.IN_FIRST, t, readers[0] + 1, count + 1, size))
                rows.append((Role.IN_SECOND, t, 0, readers[-1] + 1, size))
            continue
        if readers:
            rows.append((Role.CUT, t, producer + 1, readers[-1] + 1, size))
        if name in outputs:
            if readers:
                rows.append((Role.CUT_OUTPUT, t, producer + 1, readers[-1] + 1, size))
            rows.append((Role.OUT_FIRST, t, producer + 1, count + 1, size))
            rows.append((Role.OUT_SECOND, t, 0, producer + 1, size))
    table = np.array(rows, dtype=np.int64).reshape(-1, 5)
    return _Moves(table[:, 0], table[:, 1], table[:, 2], table[:, 3], table[:, 4].astype(float))


class _PrefixColumns:
    """The columns of all prefixes of a graph, and of blocks from them."""

    def __init__(self, graph: Graph, moves: _Moves) -> None:
        self.graph = graph
        self.moves = moves
        count = len(graph.operators)
        shape = (len(Role), count + 2)
        self.bytes_, self.count = np.zeros(shape), np.zeros(shape)
        for column, amount in ((self.bytes_, moves.size), (self.count, 1.0)):
            np.add.at(column, (moves.role, moves.begin), amount)
            np.subtract.at(column, (moves.role, moves.end), amount)
            np.cumsum(column, axis=1, out=column)
        self.smallest = np.full(shape, np.inf)
        self.largest = np.zeros(shape)
        for role, begin, end, size in zip(
            moves.role.tolist(),
            moves.begin.tolist(),
            moves.end.tolist(),
            moves.size.tolist(),
            strict=True,
        ):
            low, high = self.smallest[role, begin:end], self.largest[role, begin:end]
            np.minimum(low, size, out=low)
            np.maximum(high, size, out=high)
        self.memory = np.concatenate(
            ([0.0], np.cumsum([float(op.memory_bytes) for op in graph.operators]))
        )
        self.tensor_names = list(graph.tensors)

    def table(
        self,
        lengths: NDArray[np.int64],
        blocks: tuple[_Chunk, ...],
        open_blocks: tuple[tuple[int, int], ...],
    ) -> CutTable:
        parts = [
            (
                self.bytes_[:, lengths],
                self.count[:, lengths],
                self.smallest[:, lengths],
                self.largest[:, lengths],
                self.memory[lengths],
            )
        ]
        passing = self._passing(chunk.begin for chunk in blocks)
        parts += [self._block(chunk, moves) for chunk, moves in zip(blocks, passing, strict=True)]
        return CutTable(
            self.graph,
            (_Chunk(0, None, lengths), *blocks),
            np.concatenate([p[0] for p in parts], axis=1),
            np.concatenate([p[1] for p in parts], axis=1),
            np.concatenate([p[2] for p in parts], axis=1),
            np.concatenate([p[3] for p in parts], axis=1),
            np.concatenate([p[4] for p in parts]),
            open_blocks,
        )

    def _passing(self, begins: Iterable[int]) -> Iterator[list[int]]:
        """For each of these ascending lengths, the moves whose span of prefixes holds it."""
        order = np.argsort(self.moves.begin, kind="stable").tolist()
        first, last = self.moves.begin.tolist(), self.moves.end.tolist()
        active: list[int] = []
        done = 0
        for begin in begins:
            while done < len(order) and first[order[done]] <= begin:
                active.append(order[done])
                done += 1
            active = [i for i in active if last[i] > begin]
            yield active

    def _block(
        self, chunk: _Chunk, passing: Iterable[int]
    ) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Columns of cuts inside a block: what passes it by is constant, the rest is looked at."""
        inside, begin = chunk.inside, chunk.begin
        assert inside is not None
        size, rows = inside.shape
        end = begin + size
        operators = self.graph.operators[begin:end]
        touched = dict.fromkeys(
            itertools.chain.from_iterable((*op.inputs, *op.outputs) for op in operators)
        )
        yes: Members = np.ones(rows, dtype=np.bool_)
        no: Members = np.zeros(rows, dtype=np.bool_)
        moving: dict[Role, list[tuple[float, Members]]] = {role: [] for role in Role}
        for i in passing:
            if self.tensor_names[self.moves.tensor[i]] not in touched:
                moving[Role(self.moves.role[i])].append((float(self.moves.size[i]), yes))
        outputs = set(self.graph.outputs)
        for name in touched:
            tensor_bytes = float(self.graph.tensors[name].size_bytes)
            readers = self.graph.consumers[name]
            within = [r - begin for r in readers if begin <= r < end]
            read_after = bool(readers) and readers[-1] >= end
            in_second: Members = yes if read_after else no
            if within and not read_after:
                in_second = np.asarray(~inside[within].all(axis=0))
            producer = self.graph.producers.get(name)
            if producer is None:
                read_before = bool(readers) and readers[0] < begin
                in_first: Members = yes
                if not read_before:
                    in_first = np.asarray(inside[within].any(axis=0))
                moving[Role.IN_FIRST].append((tensor_bytes, in_first))
                moving[Role.IN_SECOND].append((tensor_bytes, in_second))
                continue
            made_first: Members = yes if producer < begin else inside[producer - begin]
            cut = np.asarray(made_first & in_second)
            if readers:
                moving[Role.CUT].append((tensor_bytes, cut))
            if name in outputs:
                moving[Role.CUT_OUTPUT].append((tensor_bytes, cut))
                moving[Role.OUT_FIRST].append((tensor_bytes, made_first))
                moving[Role.OUT_SECOND].append((tensor_bytes, np.asarray(~made_first)))
        bytes_, count = np.zeros((len(Role), rows)), np.zeros((len(Role), rows))
        smallest, largest = np.full((len(Role), rows), np.inf), np.zeros((len(Role), rows))
        for role, tensors in moving.items():
            if tensors:
                sizes = np.array([tensor_bytes for tensor_bytes, _ in tensors])
                there = np.stack([members for _, members in tensors])
                bytes_[role], count[role] = sizes @ there, there.sum(axis=0)
                smallest[role] = np.where(there, sizes[:, None], np.inf).min(axis=0)
                largest[role] = (there * sizes[:, None]).max(axis=0)
        memory = np.array([float(op.memory_bytes) for op in operators])
        return bytes_, count, smallest, largest, self.memory[begin] + memory @ inside
