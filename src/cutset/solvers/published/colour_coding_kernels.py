"""The dynamic program of colour coding, compiled. Import this only where it is needed."""

from __future__ import annotations

import numba
import numpy as np

from cutset.solvers.arrays import Ints

_WORD = 62  # as in colour_coding


@numba.njit(cache=True, nogil=True)
def colourful_path(
    outgoing: Ints, colourings: Ints, colours: int, start: int, end: int, reached: Ints, path: Ints
) -> bool:
    """Whether one of the colourings has a path of `len(path)` vertices, all of different colours.

    `outgoing[v]` is the bit set of v's successors, `colourings` [colourings, vertices] are drawn
    from `colours`; `start` and `end` are −1 where free. `reached` [2^colours, words] is scratch;
    the path is left in `path`.
    """
    count, words = outgoing.shape
    length = len(path)
    kinds = np.zeros((colours, words), dtype=np.int64)  # vertices of a colour
    after = np.zeros(words, dtype=np.int64)
    for row in range(colourings.shape[0]):
        colour = colourings[row]
        reached[:] = 0
        kinds[:] = 0
        for v in range(count):
            kinds[colour[v], v // _WORD] |= 1 << (v % _WORD)
            if (start < 0 and v != end) or v == start:
                reached[1 << colour[v], v // _WORD] |= 1 << (v % _WORD)
        for used in range(1, 1 << colours):
            size = 0
            rest = used
            while rest:
                rest &= rest - 1
                size += 1
            if size >= length:
                continue
            after[:] = 0
            some = False
            for v in range(count):
                if reached[used, v // _WORD] >> (v % _WORD) & 1:
                    some = True
                    for w in range(words):
                        after[w] |= outgoing[v, w]
            if not some:
                continue
            if end >= 0:
                bit = 1 << (end % _WORD)
                for w in range(words):
                    here = bit if w == end // _WORD else 0
                    after[w] &= here if size == length - 1 else ~here
            for c in range(colours):
                if used >> c & 1:
                    continue
                for w in range(words):
                    new = after[w] & kinds[c, w]
                    reached[used | 1 << c, w] |= new
                    if new and size == length - 1:
                        _trace(outgoing, colour, reached, path, used | 1 << c, w, new)
                        return True
    return False


@numba.njit(cache=True, nogil=True)
def _trace(
    outgoing: Ints, colour: Ints, reached: Ints, path: Ints, used: int, word: int, new: int
) -> None:
    """Walk back from the first vertex of `new`, which ends a path of the colours `used`."""
    last = word * _WORD
    while not new & 1:
        new >>= 1
        last += 1
    path[-1] = last
    for place in range(len(path) - 2, -1, -1):
        used &= ~(1 << colour[last])
        for v in range(len(colour)):
            if (
                reached[used, v // _WORD] >> (v % _WORD) & 1
                and outgoing[v, last // _WORD] >> (last % _WORD) & 1
            ):
                last = v
                break
        path[place] = last
