"""Every way to cut a graph into a first and a second part, as columns of numbers.

A cut is a down-set of the graph: a set of operators that holds all predecessors of its members.
Every down-set is a whole number of blocks and a down-set of one more block (graph.articulations),
so the cuts of a graph are the *union* of its blocks' cuts, not their product. Prefixes at
articulations come from one pass of difference arrays, the inside of a block from enumeration. A
block with too many down-sets is left `open`: a min-cut oracle has to look into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cutset.graph import Graph
from cutset.solvers.two_way.cut_columns import (
    Moves,
    inside_columns,
    inside_extremes,
    moves_of,
    prefix_columns,
    prefix_extremes,
)
from cutset.solvers.two_way.down_sets import DownSets, down_sets
from cutset.solvers.two_way.roles import Floats, Role

MAX_CUTS_PER_BLOCK = 100_000


@dataclass(frozen=True)
class CutTable:
    """Cuts as rows of columns; independent of devices and links.

    First come the prefixes of these `lengths`, then the `inside` of blocks. `bytes_`, `count`,
    `smallest` and `largest` have a row for each Role: the sum, number, least and greatest of the
    sizes of the tensors in that role (least inf and greatest 0 for none). `memory_first` is the
    sum of `memory_bytes` of the first part's operators. `open_blocks` are the blocks whose inside
    is missing here. The empty and the full cut are left out.
    """

    graph: Graph
    lengths: NDArray[np.int64]
    inside: tuple[DownSets, ...]
    moves: Moves
    bytes_: Floats
    count: Floats
    memory_first: Floats
    open_blocks: tuple[tuple[int, int], ...]

    @property
    def rows(self) -> int:
        return len(self.memory_first)

    @property
    def smallest(self) -> Floats:
        return self._extremes[0]

    @property
    def largest(self) -> Floats:
        return self._extremes[1]

    @cached_property
    def _extremes(self) -> tuple[Floats, Floats]:
        smallest, largest = prefix_extremes(self.graph, self.moves)
        parts = [(smallest[:, self.lengths], largest[:, self.lengths])]
        parts += [inside_extremes(self.graph, self.moves, sets) for sets in self.inside]
        return (
            np.concatenate([low for low, _ in parts], axis=1),
            np.concatenate([high for _, high in parts], axis=1),
        )

    def first_part(self, row: int) -> tuple[int, ...]:
        """Positions of the operators before the cut."""
        if row < len(self.lengths):
            return tuple(range(int(self.lengths[row])))
        row -= len(self.lengths)
        for sets in self.inside:
            if row < len(sets.listed):
                index = int(sets.listed[row])
                begin = int(sets.begin[sets.block[index]])
                return (*range(begin), *sets.members(index).tolist())
            row -= len(sets.listed)
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
        inside = [before[sets.begin[sets.listed_block]] + sets.sums(values) for sets in self.inside]
        return np.concatenate((before[self.lengths], *inside))


def prefix_cuts(graph: Graph, *, articulations_only: bool = False) -> CutTable:
    """The prefixes of the topological order, or only those that end at an articulation."""
    lengths = graph.articulations if articulations_only else range(1, len(graph.operators))
    return _table(graph, lengths, (), ())


def all_cuts(graph: Graph, max_cuts_per_block: int = MAX_CUTS_PER_BLOCK) -> CutTable:
    """All cuts, besides those inside blocks that have more than `max_cuts_per_block` of them."""
    long = [(begin, end) for begin, end in graph.blocks if end - begin > 1]
    inside = tuple(down_sets(graph, long, max_cuts_per_block))
    overfull = sorted(
        (int(sets.begin[i]), int(sets.end[i])) for sets in inside for i in sets.overfull
    )
    return _table(graph, graph.articulations, inside, tuple(overfull))


def _table(
    graph: Graph,
    lengths: range | tuple[int, ...],
    inside: tuple[DownSets, ...],
    open_blocks: tuple[tuple[int, int], ...],
) -> CutTable:
    """The table of the prefixes that tear no colocate group apart, and of these sets."""
    kept = np.array(lengths, dtype=np.int64)
    kept = kept[np.isin(kept, graph.cut_positions)]
    moves = moves_of(graph)
    prefixes = prefix_columns(graph, moves)
    parts = [prefixes[kept], *(inside_columns(graph, prefixes, sets) for sets in inside)]
    columns = np.ascontiguousarray(np.concatenate(parts).T)
    roles = len(Role)
    return CutTable(
        graph,
        kept,
        inside,
        moves,
        columns[:roles],
        columns[roles : 2 * roles],
        columns[-1],
        open_blocks,
    )
