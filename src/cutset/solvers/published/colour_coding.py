"""Simple paths of a given length by colour coding (Alon, Yuster and Zwick, J. ACM 42(4), 1995).

Vertices are coloured at random; a path whose colours are all different is simple, and whether one
exists is a dynamic program over (set of colours, last vertex). A path of k vertices that exists is
found by one colouring with probability m!/((m−k)!·mᵏ), so many colourings make missing it unlikely;
finding none proves nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cutset.problem import Budget
from cutset.solvers.arrays import Bools, Floats, Ints

_WORD = 62  # vertices a word of a bit set: int64, without its sign
_STEPS = 20_000_000  # elementary steps of one call of the kernel: some tens of milliseconds


@dataclass
class ColourCoding:
    """Searches with the draws of one generator. At most `most_colourings` for a path of k vertices,
    and no more than ⌊10·eᵏ⌋; ⌊1.3·k⌋ colours.
    """

    rng: np.random.Generator
    budget: Budget
    most_colourings: int

    def path(
        self, adjacent: Bools, length: int, start: int | None = None, end: int | None = None
    ) -> tuple[int, ...] | None:
        """A simple directed path of `length` ≥ 2 vertices, between the given ends where given."""
        adjacent = adjacent & ~np.eye(len(adjacent), dtype=np.bool_)
        if not _walk_exists(adjacent, length, start, end):
            return None
        if length == 2:
            rows, columns = np.nonzero(_pinned(adjacent, start, end))
            return int(rows[0]), int(columns[0])
        return self._coloured(adjacent, length, start, end)

    def widest(
        self, width: Floats, length: int, start: int | None = None, end: int | None = None
    ) -> tuple[int, ...] | None:
        """A path whose narrowest edge is as wide as a binary search finds; width 0 is no edge."""
        levels = np.unique(width[width > 0])[::-1]
        low, high, found = 0, len(levels), None
        while low < high and not self.budget.exhausted():
            middle = (low + high) // 2
            path = self.path(width >= levels[middle], length, start, end)
            if path is None:
                low = middle + 1
            else:
                high, found = middle, path
        return found

    def _coloured(
        self, adjacent: Bools, length: int, start: int | None, end: int | None
    ) -> tuple[int, ...] | None:
        from cutset.solvers.published import colour_coding_kernels as kernels

        count, colours = len(adjacent), math.floor(1.3 * length)
        left = min(math.floor(10 * math.exp(length)), self.most_colourings)
        outgoing = _bits(adjacent)
        reached = np.zeros((1 << colours, outgoing.shape[1]), dtype=np.int64)
        path = np.zeros(length, dtype=np.int64)
        piece = max(1, _STEPS // ((count + colours) << colours))
        while left > 0 and not self.budget.exhausted():
            drawn = self.rng.integers(0, colours, (min(piece, left), count))
            left -= len(drawn)
            ends = (-1 if start is None else start, -1 if end is None else end)
            if kernels.colourful_path(outgoing, drawn, colours, *ends, reached, path):
                return tuple(int(v) for v in path)
        return None


def _pinned(adjacent: Bools, start: int | None, end: int | None) -> Bools:
    """The edges between the given ends, for a path of one edge."""
    kept = adjacent.copy()
    if start is not None:
        kept[np.arange(len(kept)) != start] = False
    if end is not None:
        kept[:, np.arange(len(kept)) != end] = False
    return kept


def _walk_exists(adjacent: Bools, length: int, start: int | None, end: int | None) -> bool:
    """Whether a walk exists that may repeat vertices: no path exists without one."""
    inner = np.ones(len(adjacent), dtype=np.bool_)
    for pinned in (start, end):
        if pinned is not None:
            inner[pinned] = False
    at = inner if start is None else np.arange(len(adjacent)) == start
    for step in range(1, length):
        at = adjacent[at].any(axis=0)
        if step < length - 1:
            at = at & inner
        elif end is not None:
            at = at & (np.arange(len(adjacent)) == end)
    return bool(at.any())


def _bits(adjacent: Bools) -> Ints:
    """Rows as bit sets, `_WORD` vertices a word."""
    count = len(adjacent)
    words = np.zeros((count, -(-count // _WORD)), dtype=np.int64)
    for v, w in zip(*np.nonzero(adjacent), strict=True):
        words[v, w // _WORD] |= 1 << int(w % _WORD)
    return words
