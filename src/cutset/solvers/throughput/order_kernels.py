"""Compiled annealing over orders of devices; imported only where it is called."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from cutset.solvers.arrays import Floats, Ints
from cutset.solvers.throughput.block_chain import Chain

_POWER = 3  # squarings: busy times count by their 8th power, so that the largest rules


class Orders(NamedTuple):
    """The state of `anneal`, kept between calls.

    `sums[j, q]` is the least sum of powers with which the first j devices run q blocks.
    """

    order: Ints  # [N] all devices; the first counts[0] are in use
    best: Ints  # [N]
    sums: Floats  # [N + 1, M + 1]
    trial: Floats  # [N + 1, M + 1]
    crossing_bytes: Floats  # [M + 1]
    behind: Floats  # [M + 1] share of memory and compute behind a cut
    counts: Ints  # [3] devices in use, of `best`, steps done
    values: Floats  # [2] logarithms: of the current order, of the best
    random: Ints  # [1] state of the generator


@njit(cache=True, nogil=True)
def _draw(od: Orders, below: int) -> int:
    """A number in [0, below) of a linear congruential generator of 31 bits."""
    od.random[0] = (od.random[0] * 1103515245 + 12345) % 2147483648
    return int((od.random[0] >> 8) % below)


@njit(cache=True, nogil=True)
def _powered(x: float) -> float:
    x = min(x, 1e30)
    for _ in range(_POWER):
        x *= x
    return min(x, 1e250)


@njit(cache=True, nogil=True)
def _rows(ch: Chain, od: Orders, beta: float, order: Ints, used: int, first: int) -> float:
    """Fill `trial` from row first + 1 on; the logarithm of the order's value.

    All that crosses a cut is charged to the hop there, which is no bound, but near enough.
    """
    m = len(ch.memory)
    best = np.inf
    rows, other = od.trial, od.sums
    for j in range(used):
        if j < first:
            best = min(best, other[j + 1, m])
            continue
        before = other if j == first else rows
        d = order[j]
        for q in range(m + 1):
            rows[j + 1, q] = np.inf
        for p in range(m):
            sum_s = before[j, p]
            if sum_s == np.inf:
                continue
            busy = ch.overhead[d]
            if j > 0:
                wire = od.crossing_bytes[p] * ch.wire[order[j - 1], d]
                if wire == np.inf:
                    continue
                sum_s += _powered(wire / beta)
                busy += od.crossing_bytes[p] * ch.recv[d]
                if ch.serial[d]:
                    busy += wire
            elif d != ch.source:
                wire = ch.input_bytes * ch.wire[ch.source, d] if ch.input_bytes > 0.0 else 0.0
                if wire == np.inf:
                    continue
                sum_s += _powered(wire / beta)
                busy += ch.input_bytes * ch.recv[d]
            memory = ch.stage_memory
            for q in range(p + 1, m + 1):
                memory += ch.memory[q - 1]
                busy += ch.compute_s[d, q - 1]
                if memory > ch.limit[d] or busy == np.inf:
                    break
                total = sum_s + _powered((busy + od.crossing_bytes[q] * ch.send[d]) / beta)
                rows[j + 1, q] = min(rows[j + 1, q], total)
        best = min(best, rows[j + 1, m])
    if best < np.inf:
        return math.log(max(best, 1e-300))
    best = np.inf  # blocks that are left over
    last = rows if used > first else other
    for q in range(m):
        if last[used, q] < np.inf:
            best = min(best, math.log(max(last[used, q], 1e-300)) + 100.0 * (1 + od.behind[q]))
    return min(best, 1e6)


@njit(cache=True, nogil=True)
def anneal(
    ch: Chain, od: Orders, beta: float, warm: float, cool: float, total: int, steps: int
) -> None:
    """`steps` of `total` random changes of the order: swap, move, turn round, replace, add, drop.

    Worse orders are accepted by a temperature that falls from `warm` to `cool`.
    """
    n = len(ch.limit)
    order = np.empty(n, dtype=np.int64)
    if od.counts[2] == 0:
        od.sums[:] = np.inf
        od.trial[:] = np.inf
        od.sums[0, 0] = 0.0
        od.trial[0, 0] = 0.0
        od.values[0] = _rows(ch, od, beta, od.order, od.counts[0], 0)
        od.sums[:] = od.trial
        od.values[1] = od.values[0]
        od.best[:] = od.order
        od.counts[1] = od.counts[0]
    for _ in range(steps):
        if od.counts[2] >= total:
            return
        od.counts[2] += 1
        heat = warm * (cool / warm) ** (od.counts[2] / total)
        used = od.counts[0]
        order[:] = od.order
        kind = _draw(od, 6)
        i, j = _draw(od, used), _draw(od, used)
        first = min(i, j)
        if kind == 0:
            order[i], order[j] = order[j], order[i]
        elif kind == 1:
            d = order[i]
            if i < j:
                for x in range(i, j):
                    order[x] = order[x + 1]
            else:
                for x in range(i, j, -1):
                    order[x] = order[x - 1]
            order[j] = d
        elif kind == 2:
            low, high = first, max(i, j)
            while low < high:
                order[low], order[high] = order[high], order[low]
                low += 1
                high -= 1
        elif kind == 3:
            if used == n:
                continue
            j = used + _draw(od, n - used)
            order[i], order[j] = order[j], order[i]
            first = i
        elif kind == 4:
            if used == n:
                continue
            j = used + _draw(od, n - used)
            i = _draw(od, used + 1)
            d = order[j]
            order[j] = order[used]
            for x in range(used, i, -1):
                order[x] = order[x - 1]
            order[i] = d
            used += 1
            first = i
        else:
            if used == 1:
                continue
            d = order[i]
            for x in range(i, used - 1):
                order[x] = order[x + 1]
            used -= 1
            order[used] = d
            first = min(i, used - 1)
        value = _rows(ch, od, beta, order, used, first)
        worse = value - od.values[0]
        if worse > 0.0 and worse > -heat * math.log((1 + _draw(od, 1 << 20)) / (1 << 20)):
            continue
        for x in range(first + 1, used + 1):
            od.sums[x] = od.trial[x]
        od.order[:] = order
        od.counts[0] = used
        od.values[0] = value
        if value < od.values[1]:
            od.values[1] = value
            od.best[:] = order
            od.counts[1] = used
