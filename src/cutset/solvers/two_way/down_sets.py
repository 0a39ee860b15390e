"""The down-sets inside a graph's blocks, of all blocks at once.

Operators are added in their order, each to every set that holds its predecessors; the first
operators of all blocks come first, then all second ones, and so on, so that there are as many
steps as the longest block has operators. Each set remembers what it was grown from, and what is
summed over its members takes one addition a set.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cutset.graph import Graph

MAX_CELLS_PER_BLOCK = 8_000_000  # operators times sets
_WORD = 64  # bits

Words = NDArray[np.uint64]  # a set in each row: bit i is the block's i-th operator
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class DownSets:
    """Down-sets of blocks: `begin` and `end` have an element for each block.

    Set i is of block `block[i]`; it is the set `parent[i]` and the operator `added[i]`. The first
    sets are the empty ones of each block; `steps` are the ranges of sets grown in one step.
    `listed` are the sets that are neither empty nor full and tear no colocate group apart, block
    by block. `overfull` are indices of blocks that have too many sets; none of theirs is listed.
    """

    begin: Integers
    end: Integers
    block: Integers
    words: Words
    parent: Integers
    added: Integers
    steps: tuple[tuple[int, int], ...]
    listed: Integers
    overfull: tuple[int, ...]

    @cached_property
    def listed_block(self) -> Integers:
        return self.block[self.listed]

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """For each listed set, the sum over its members of a value for each operator."""
        total = np.zeros(len(self.block))
        for first, last in self.steps:
            total[first:last] = total[self.parent[first:last]] + values[self.added[first:last]]
        return np.asarray(total[self.listed])

    def members(self, index: int) -> Integers:
        """Positions of the operators of a set, besides those before its block."""
        bits = np.unpackbits(self.words[index].astype("<u8").view(np.uint8), bitorder="little")
        return np.asarray(np.flatnonzero(bits) + self.begin[self.block[index]])

    def matrix(self, block: int) -> NDArray[np.bool_]:
        """Membership of a block's listed sets: a row for each operator, a column for each set."""
        here = self.words[self.listed[self.listed_block == block]]
        size = int(self.end[block] - self.begin[block])
        bits = np.unpackbits(here.astype("<u8").view(np.uint8), axis=1, bitorder="little")
        return np.ascontiguousarray(bits[:, :size].T).astype(np.bool_)


def down_sets(graph: Graph, blocks: Sequence[tuple[int, int]], limit: int) -> list[DownSets]:
    """The down-sets of these blocks, by how many words their sets take.

    Blocks with more than `limit` sets (or too many for memory) are `overfull`.
    """
    by_words: dict[int, list[tuple[int, int]]] = {}
    for begin, end in blocks:
        by_words.setdefault(-(-(end - begin) // _WORD), []).append((begin, end))
    return [_grown(graph, by_words[count], count, limit) for count in sorted(by_words)]


def bits_of(words: Words, rows: Integers, bits: Integers) -> None:
    """Set a bit in each of these rows."""
    one = np.left_shift(np.uint64(1), (bits % _WORD).astype(np.uint64))
    np.bitwise_or.at(words, (rows, bits // _WORD), one)


def holds_all(sets: Words, wanted: Words) -> NDArray[np.bool_]:
    """For each row, whether the set holds all that is wanted."""
    return np.asarray(~(wanted & ~sets).any(axis=1))


def _grown(graph: Graph, blocks: list[tuple[int, int]], width: int, limit: int) -> DownSets:
    begin, end = np.array(blocks, dtype=np.int64).T
    size = end - begin
    most = np.minimum(limit, MAX_CELLS_PER_BLOCK // size)
    needed = _predecessors(graph, begin, end, width)
    block = np.arange(len(blocks))
    words = np.zeros((len(blocks), width), dtype=np.uint64)
    parent, added = [np.full(len(blocks), -1)], [np.full(len(blocks), -1)]
    steps: list[tuple[int, int]] = []
    count = np.ones(len(blocks), dtype=np.int64)
    for i in range(int(size.max())):
        growing = (size > i) & (count <= most)
        if not growing.any():
            break
        able = np.flatnonzero(growing[block])
        operators = begin[block[able]] + i
        chosen = holds_all(words[able], needed[operators])
        able, operators = able[chosen], operators[chosen]
        grown = words[able]
        grown[:, i // _WORD] |= np.uint64(1 << i % _WORD)
        steps.append((len(block), len(block) + len(able)))
        parent.append(able)
        added.append(operators)
        words, block = np.concatenate((words, grown)), np.concatenate((block, block[able]))
        count += np.bincount(block[able], minlength=len(blocks))
    origin, last = np.concatenate(parent), np.concatenate(added)
    overfull = np.flatnonzero(count > most)
    keep = _whole_groups(graph, begin, end, block, words)
    keep[: len(blocks)] = False
    full = np.zeros((len(blocks), width), dtype=np.uint64)
    bits_of(full, *_each(size))
    keep &= (words != full[block]).any(axis=1) & ~np.isin(block, overfull)
    listed = np.flatnonzero(keep)
    listed = listed[np.argsort(block[listed], kind="stable")]
    return DownSets(
        begin, end, block, words, origin, last, tuple(steps), listed, tuple(overfull.tolist())
    )


def _each(size: Integers) -> tuple[Integers, Integers]:
    """Every (block, bit) of blocks of these sizes."""
    rows = np.repeat(np.arange(len(size)), size)
    return rows, np.arange(len(rows)) - np.repeat(np.cumsum(size) - size, size)


def _predecessors(graph: Graph, begin: Integers, end: Integers, width: int) -> Words:
    """For each operator of these blocks, its predecessors in the block."""
    before = graph.predecessors
    reader = np.repeat(np.arange(len(before)), np.fromiter(map(len, before), np.int64, len(before)))
    made = np.fromiter(itertools.chain.from_iterable(before), np.int64, len(reader))
    start = np.full(len(before), len(before))
    rows, offset = _each(end - begin)
    start[begin[rows] + offset] = begin[rows]
    inside = made >= start[reader]
    reader, made = reader[inside], made[inside]
    words = np.zeros((len(before), width), dtype=np.uint64)
    bits_of(words, reader, made - start[reader])
    return words


def _whole_groups(
    graph: Graph, begin: Integers, end: Integers, block: Integers, words: Words
) -> NDArray[np.bool_]:
    """Which sets, with all before their blocks, tear no colocate group apart."""
    keep = np.ones(len(block), dtype=np.bool_)
    for group in graph.colocated.values():
        for b in np.flatnonzero((begin <= group[-1]) & (end > group[0])).tolist():
            rows = np.flatnonzero(block == b)
            wanted = _set_of((p - begin[b] for p in group if begin[b] <= p < end[b]), words)
            every = holds_all(words[rows], wanted)
            none = ~(words[rows] & wanted).any(axis=1)
            if group[0] >= begin[b]:
                keep[rows] &= (every | none) if group[-1] < end[b] else none
            else:
                keep[rows] &= every if group[-1] < end[b] else np.False_
    return keep


def _set_of(bits: Iterable[int], like: Words) -> Words:
    one = np.zeros((1, like.shape[1]), dtype=np.uint64)
    chosen = np.fromiter(bits, np.int64)
    bits_of(one, np.zeros_like(chosen), chosen)
    return one
