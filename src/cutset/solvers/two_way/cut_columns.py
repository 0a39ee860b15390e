"""The columns of a cut table: how many bytes and tensors each cut moves in each role.

Prefixes of the operators' order come from difference arrays, and so does what adding one operator
to a prefix changes. A down-set inside a block changes the same by adding it, but for tensors that
several operators of the block read: there the change depends on which other readers are members.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cutset.graph import Graph
from cutset.solvers.two_way.down_sets import DownSets, Integers, Words, bits_of, holds_all
from cutset.solvers.two_way.roles import Floats, Members, Role


@dataclass(frozen=True)
class Moves:
    """Which tensors have which role, for prefixes: tensor `tensor[i]` has role `role[i]` in the
    prefixes of length `begin[i]` to `end[i]` (half-open)."""

    role: Integers
    tensor: Integers
    begin: Integers
    end: Integers
    size: Floats


def moves_of(graph: Graph) -> Moves:
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
    flat = np.fromiter(itertools.chain.from_iterable(rows), np.int64, 5 * len(rows))
    table = flat.reshape(-1, 5)
    return Moves(table[:, 0], table[:, 1], table[:, 2], table[:, 3], table[:, 4].astype(float))


def prefix_columns(graph: Graph, moves: Moves) -> Floats:
    """For each prefix length (a row): bytes of each role, tensors of each role, memory bytes."""
    count, roles = len(graph.operators), len(Role)
    steps = np.zeros((count + 2, 2 * roles + 1))
    for offset, amount in ((0, moves.size), (roles, np.ones(len(moves.size)))):
        np.add.at(steps, (moves.begin, moves.role + offset), amount)
        np.subtract.at(steps, (moves.end, moves.role + offset), amount)
    steps[1 : count + 1, -1] = [op.memory_bytes for op in graph.operators]
    return np.cumsum(steps, axis=0, out=steps)


def prefix_extremes(graph: Graph, moves: Moves) -> tuple[Floats, Floats]:
    """The least (or inf) and the greatest (or 0) size of a tensor in each role (row), by length."""
    shape = (len(Role), len(graph.operators) + 2)
    smallest, largest = np.full(shape, np.inf), np.zeros(shape)
    for role, begin, end, size in zip(
        moves.role.tolist(),
        moves.begin.tolist(),
        moves.end.tolist(),
        moves.size.tolist(),
        strict=True,
    ):
        low, high = smallest[role, begin:end], largest[role, begin:end]
        np.minimum(low, size, out=low)
        np.maximum(high, size, out=high)
    return smallest, largest


def inside_columns(graph: Graph, prefixes: Floats, sets: DownSets) -> Floats:
    """The columns of `prefix_columns` for the listed sets (rows), with all before their blocks."""
    added = np.diff(prefixes, axis=0)
    others = _other_readers(graph, sets)
    columns = np.empty((len(sets.block), prefixes.shape[1]))
    columns[: len(sets.begin)] = prefixes[sets.begin]
    for first, last in sets.steps:
        operators, origin = sets.added[first:last], sets.parent[first:last]
        np.add(columns[origin], added[operators], out=columns[first:last])
        begins, amounts = others.first[operators], others.count[operators]
        for k in range(int(amounts.max(initial=0))):
            rows = np.flatnonzero(amounts > k)
            i = begins[rows] + k
            held = sets.words[origin[rows]]
            differs = np.where(
                others.none[i],
                ~(held & others.readers[i]).any(axis=1),
                ~holds_all(held, others.readers[i]),
            )
            rows, i = rows[differs] + first, i[differs]
            columns[rows, others.role[i]] += others.size[i]
            columns[rows, others.role[i] + len(Role)] += 1
    return np.asarray(columns[sets.listed])


@dataclass(frozen=True)
class _OtherReaders:
    """What adding an operator moves more than in a prefix, for tensors it is not alone to read.

    Elements first[v] to first[v] + count[v] are of operator v. The tensor moves in the role where
    not all of the other `readers` are members; where `none`, where none is.
    """

    first: Integers
    count: Integers
    readers: Words
    none: NDArray[np.bool_]
    role: Integers
    size: Floats


def _other_readers(graph: Graph, sets: DownSets) -> _OtherReaders:
    """The last reader does not spare a tensor its way if another one stays behind, and a graph
    input's first reader may be any of them."""
    count = len(graph.operators)
    start, stop = np.full(count, count), np.zeros(count, dtype=np.int64)
    for begin, end in zip(sets.begin.tolist(), sets.end.tolist(), strict=True):
        start[begin:end], stop[begin:end] = begin, end
    begins, outputs = start.tolist(), set(graph.outputs)
    found: list[tuple[int, bool, Role, int, tuple[int, ...]]] = []
    for name, readers in graph.consumers.items():
        if len(readers) < 2:
            continue
        last, size = readers[-1], graph.tensors[name].size_bytes
        made = name in graph.producers
        before = tuple(r for r in readers[:-1] if r >= begins[last])
        if before:
            for role in (Role.CUT, Role.CUT_OUTPUT) if made else (Role.IN_SECOND,):
                if role is not Role.CUT_OUTPUT or name in outputs:
                    found.append((last, False, role, size, before))
        if not made:
            for k in range(1, len(readers)):
                if readers[0] >= begins[readers[k]]:
                    found.append((readers[k], True, Role.IN_FIRST, size, readers[:k]))
    found.sort(key=lambda one: one[0])
    words = np.zeros((len(found), sets.words.shape[1]), dtype=np.uint64)
    lengths = np.fromiter((len(one[4]) for one in found), np.int64, len(found))
    reader = np.fromiter((r for one in found for r in one[4]), np.int64)
    bits_of(words, np.repeat(np.arange(len(found)), lengths), reader - start[reader])
    operators = np.fromiter((one[0] for one in found), np.int64, len(found))
    amounts = np.bincount(operators, minlength=count)
    return _OtherReaders(
        np.cumsum(amounts) - amounts,
        amounts,
        words,
        np.fromiter((one[1] for one in found), np.bool_, len(found)),
        np.fromiter((one[2] for one in found), np.int64, len(found)),
        np.fromiter((one[3] for one in found), np.float64, len(found)),
    )


def inside_extremes(graph: Graph, moves: Moves, sets: DownSets) -> tuple[Floats, Floats]:
    """As `prefix_extremes`, for the listed sets."""
    shape = (len(Role), len(sets.listed))
    smallest, largest = np.full(shape, np.inf), np.zeros(shape)
    names = list(graph.tensors)
    bounds = np.searchsorted(sets.listed_block, np.arange(len(sets.begin) + 1))
    passing = _passing(moves, sets.begin.tolist())
    for block, here in enumerate(passing):
        rows = slice(int(bounds[block]), int(bounds[block + 1]))
        if rows.start == rows.stop:
            continue
        begin, end = int(sets.begin[block]), int(sets.end[block])
        touched = dict.fromkeys(
            name for op in graph.operators[begin:end] for name in (*op.inputs, *op.outputs)
        )
        low, high = smallest[:, rows], largest[:, rows]
        for i in here:
            if names[moves.tensor[i]] not in touched:
                role, size = moves.role[i], moves.size[i]
                np.minimum(low[role], size, out=low[role])
                np.maximum(high[role], size, out=high[role])
        inside = sets.matrix(block)
        for name in touched:
            size = float(graph.tensors[name].size_bytes)
            for role, there in _inside_roles(graph, name, begin, end, inside):
                np.minimum(low[role], np.where(there, size, np.inf), out=low[role])
                np.maximum(high[role], np.where(there, size, 0.0), out=high[role])
    return smallest, largest


def _inside_roles(
    graph: Graph, name: str, begin: int, end: int, inside: Members
) -> Iterator[tuple[Role, Members]]:
    """The roles that a tensor may have in a block's sets, and in which of them it has it."""
    yes: Members = np.ones(inside.shape[1], dtype=np.bool_)
    readers = graph.consumers[name]
    within = [r - begin for r in readers if begin <= r < end]
    in_second: Members = yes if readers and readers[-1] >= end else ~yes
    if within and readers[-1] < end:
        in_second = np.asarray(~inside[within].all(axis=0))
    producer = graph.producers.get(name)
    if producer is None:
        before = bool(readers) and readers[0] < begin
        yield Role.IN_FIRST, yes if before else np.asarray(inside[within].any(axis=0))
        yield Role.IN_SECOND, in_second
        return
    made: Members = yes if producer < begin else np.asarray(inside[producer - begin])
    cut = np.asarray(made & in_second)
    if readers:
        yield Role.CUT, cut
    if name in graph.outputs:
        yield Role.CUT_OUTPUT, cut
        yield Role.OUT_FIRST, made
        yield Role.OUT_SECOND, np.asarray(~made)


def _passing(moves: Moves, begins: list[int]) -> Iterator[list[int]]:
    """For each of these ascending lengths, the moves whose span of prefixes holds it."""
    order = np.argsort(moves.begin, kind="stable").tolist()
    first, last = moves.begin.tolist(), moves.end.tolist()
    active: list[int] = []
    done = 0
    for begin in begins:
        while done < len(order) and first[order[done]] <= begin:
            active.append(order[done])
            done += 1
        active = [i for i in active if last[i] > begin]
        yield active
