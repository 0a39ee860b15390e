"""Compiled loops over all walks within a threshold: what a stage can be, and what all can hold.

All take a threshold in seconds and ask for a pipeline whose every device, egress and ingress is
busy no longer (a link is never busier than the egress that feeds it). `Chain` is what they read.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from cutset.solvers.arrays import Bools, Floats, Ints
from cutset.solvers.throughput.block_chain import Chain


@njit(cache=True, nogil=True)
def times(amount: float, rate: float) -> float:
    return 0.0 if amount == 0.0 else amount * rate


@njit(cache=True, nogil=True)
def state_of(ch: Chain, cut: int, begin: int) -> int:
    """The state at a cut that ends a stage [begin, cut): which of the makers are in that stage."""
    first = ch.makers_at[cut]
    k = first
    while k < ch.makers_at[cut + 1] - 1 and ch.makers[k] < begin:
        k += 1
    return int(k)


class Arcs(NamedTuple):
    """Stages on walks within a threshold: of a begin (state, device), a linked list by falling end.

    A stage may begin after a hop of at most `limit` s/byte; what is left of its device's time is
    `room` less `near` × that hop, of which the hop behind it takes its share where the device is
    busy with transfers.
    """

    head: Ints  # [states, N]; −1: none
    next: Ints
    end: Ints  # state at the end; the number of states: the end of the chain
    limit: Floats
    room: Floats
    near: Floats
    total: Ints  # [1] listed, or that there would be


@njit(cache=True, nogil=True)
def backward(
    ch: Chain, beta: float, high: int, low: int, slack: Floats, hop: Floats, last: Ints, arcs: Arcs
) -> None:
    """Walk relaxation for cuts high, high − 1, …, low, which must be called from M − 1 to 0.

    Devices may repeat, and what comes from farther than the stage before takes the best wire there
    is: every pipeline within `beta` is such a walk. slack[state, d] becomes the greatest wire
    (s/byte) into device d at the state's cut from which a walk reaches the end; −1: none. For cut 0
    it is ≥ 0 where a walk can begin, at row makers_at[0]. hop[state, d] becomes the least wire out
    of d to a device that can go on; inf: none. last[p, d]: the farthest cut where such a stage
    that begins at cut p ends; p: none. Where `arcs` has room, all stages on such walks are
    listed there.
    """
    n, m = ch.compute_s.shape
    width = 1
    for p in range(m + 1):
        width = max(width, ch.makers_at[p + 1] - ch.makers_at[p])
    near = np.zeros(width)
    far = np.zeros(width)
    for p in range(high, low - 1, -1):
        states = max(1, ch.makers_at[p + 1] - ch.makers_at[p]) if p else 1
        row = ch.makers_at[p]
        for d in range(n):
            last[p, d] = p
            for k in range(states):
                slack[row + k, d] = -1.0
                arcs.head[row + k, d] = -1
                near[k] = 0.0
                far[k] = 0.0
            serial = 1.0 if ch.serial[d] else 0.0
            from_source = 0.0  # bytes
            results = 0.0
            memory = ch.stage_memory
            compute = ch.overhead[d]
            to_sink = ch.wire[d, ch.sink]
            listed = ch.crossing_at[p]
            for q in range(p + 1, m + 1):
                b = q - 1
                memory += ch.memory[b]
                compute += ch.compute_s[d, b]
                if memory > ch.limit[d] or compute > beta:
                    break
                while listed < ch.crossing_at[p + 1] and ch.next_reader[listed] == b:
                    amount = ch.bytes_[ch.crossing[listed]]
                    if ch.rank[listed] < 0:
                        if d != ch.source:
                            from_source += amount
                    else:
                        for k in range(states):
                            if ch.rank[listed] >= k:
                                near[k] += amount
                            else:
                                far[k] += amount
                    listed += 1
                if d != ch.sink:
                    for i in range(ch.made_at[b], ch.made_at[b + 1]):
                        if ch.wanted[ch.made[i]]:
                            results += ch.bytes_[ch.made[i]]
                next_s = 0.0
                later = 0.0
                hop_s = 0.0
                if q < m:
                    ends = state_of(ch, q, p)
                    hop_s = hop[ends, d]
                    if hop_s == np.inf:
                        continue
                    next_s = ch.next_bytes[1 if d == ch.sink else 0, ends]
                    later = ch.later_bytes[1 if d == ch.sink else 0, ends]
                first_s = 0.0
                if d == ch.source and p > 0:
                    first_s = ch.input_bytes
                out_s = (
                    times(next_s, hop_s)
                    + times(later + first_s, ch.wire_out[d])
                    + times(results, to_sink)
                )
                if out_s > beta:
                    continue
                at_sink = times(results, ch.recv[ch.sink])
                if ch.serial[ch.sink]:
                    at_sink += times(results, to_sink)
                if at_sink > beta:
                    continue
                source_s = times(from_source, ch.wire[ch.source, d])
                if p == 0:
                    at_source = times(from_source, ch.send[ch.source])
                    if ch.serial[ch.source]:
                        at_source += source_s
                    if at_source > beta:
                        break
                sent = next_s + later + first_s + results
                busy = compute + sent * ch.send[d] + serial * out_s
                for k in range(states):
                    far_s = times(far[k], ch.wire_in[d]) + source_s
                    own = busy + (near[k] + far[k] + from_source) * ch.recv[d] + serial * far_s
                    if far_s > beta or own > beta:
                        continue
                    if near[k] == 0.0:
                        limit = 1e300
                    else:
                        limit = min(1e300, (beta - far_s) / near[k])
                        if ch.serial[d]:
                            limit = min(limit, (beta - own) / near[k])
                    if limit < 0.0:
                        continue
                    slack[row + k, d] = max(slack[row + k, d], limit)
                    last[p, d] = q
                    a = arcs.total[0]
                    if a < len(arcs.end):
                        arcs.end[a] = state_of(ch, q, p) if q < m else len(ch.makers)
                        arcs.limit[a] = limit
                        arcs.room[a] = beta - own + serial * times(next_s, hop_s)
                        arcs.near[a] = serial * near[k]
                        arcs.next[a] = arcs.head[row + k, d]
                        arcs.head[row + k, d] = a
                    arcs.total[0] = a + 1
        if p:
            for k in range(states):
                for d in range(n):
                    hop[row + k, d] = np.inf
                    for i in range(n):
                        f = ch.nearest[d, i]
                        if f != d and ch.path[d, f] <= slack[row + k, f]:
                            hop[row + k, d] = ch.path[d, f]
                            break


@njit(cache=True, nogil=True)
def open_cuts(ch: Chain, beta: float, slack: Floats, free: Bools) -> None:
    """free[state, d]: from d on, whatever crosses the state's cut reaches any useful device within
    `beta`, so that being there is no worse than being anywhere before it.

    Only where transfers take none of the devices' time.
    """
    n, m = ch.compute_s.shape
    free[:] = False
    for d in range(n):
        if ch.serial[d] or ch.send[d] > 0.0 or ch.recv[d] > 0.0:
            return
    useful = np.zeros(n, dtype=np.bool_)
    for p in range(m - 1, 0, -1):
        for d in range(n):
            for row in range(ch.makers_at[p], ch.makers_at[p + 1]):
                if slack[row, d] >= 0.0:
                    useful[d] = True
        amount = 0.0
        for i in range(ch.crossing_at[p], ch.crossing_at[p + 1]):
            amount += ch.bytes_[ch.crossing[i]]
        for d in range(n):
            worst = 0.0
            for f in range(n):
                if f != d and useful[f]:
                    worst = max(worst, ch.path[d, f])
                    if f != ch.source:
                        worst = max(worst, ch.wire[ch.source, f])
            for row in range(ch.makers_at[p], ch.makers_at[p + 1]):
                free[row, d] = amount * worst <= beta


@njit(cache=True, nogil=True)
def enter(ch: Chain, slack: Floats, last: Ints) -> None:
    """After `backward`: leave in last[p, d] only stages that a walk from the start comes to."""
    n, m = ch.compute_s.shape
    reached = np.zeros((len(ch.makers), n), dtype=np.bool_)  # stages of d that end in a state
    for p in range(m):
        for d in range(n):
            entered = False
            if p == 0:
                entered = slack[ch.makers_at[0], d] >= 0.0
            else:
                for row in range(ch.makers_at[p], ch.makers_at[p + 1]):
                    for e in range(n):
                        if e != d and reached[row, e] and ch.path[e, d] <= slack[row, d]:
                            entered = True
                            break
                    if entered:
                        break
            if not entered:
                last[p, d] = p
            for q in range(p + 1, min(last[p, d], m - 1) + 1):
                reached[state_of(ch, q, p), d] = True


@njit(cache=True, nogil=True)
def cover(last: Ints, weight: Floats, reach: Floats) -> float:
    """reach[i, p, d]: the most of weight[i] in one stage of device d that begins at cut p or
    later, where one from cut p ends at last[p, d] at most. Of the kinds, the least ratio of what
    all devices together can have to what there is: below 1, they cannot run all blocks."""
    kinds, m = weight.shape
    n = last.shape[1]
    least = np.inf
    before = np.zeros(m + 1)
    for i in range(kinds):
        for b in range(m):
            before[b + 1] = before[b] + weight[i, b]
        rounding = 1e-12 * before[m]
        total = 0.0
        for d in range(n):
            reach[i, m, d] = 0.0
            for p in range(m - 1, -1, -1):
                held = 0.0
                if last[p, d] > p:
                    held = before[last[p, d]] - before[p] + rounding
                reach[i, p, d] = held if held > reach[i, p + 1, d] else reach[i, p + 1, d]
            total += reach[i, 0, d]
        if before[m] > 0.0:
            least = min(least, float(total / before[m]))
    return least * (1 + 1e-9)


@njit(cache=True, nogil=True)
def scarce(last: Ints, weight: Floats, rounds: int) -> None:
    """Weights of blocks that the stages can hardly run all: dual variables of the fractional
    cover of the blocks by one stage a device, by multiplicative updates from `weight` on.

    Whatever they are, all stages of a pipeline together hold their sum (weak duality)."""
    n = last.shape[1]
    m = len(weight)
    best = weight.copy()
    least = np.inf
    before = np.zeros(m + 1)
    step = 0.2
    for turn in range(rounds):
        if turn == rounds // 3:
            step = 0.05
        if turn == 2 * rounds // 3:
            step = 0.015
        covered = np.zeros(m + 1, dtype=np.int64)
        for b in range(m):
            before[b + 1] = before[b] + weight[b]
        total = 0.0
        for d in range(n):
            most, at = 0.0, -1
            for p in range(m):
                if last[p, d] > p and before[last[p, d]] - before[p] > most:
                    most, at = before[last[p, d]] - before[p], p
            if at >= 0:
                covered[at] += 1
                covered[last[at, d]] -= 1
                total += most
        ratio = total / before[m]
        if ratio < least:
            least = ratio
            best[:] = weight
            if ratio < 1 - 1e-6:
                break
        times_ = 0
        for b in range(m):
            times_ += covered[b]
            if times_ == 0:
                weight[b] *= 1 + step
            else:
                weight[b] /= 1 + step * (times_ - 1)
        weight /= weight.sum()
        weight += 1e-9 / m
    weight[:] = best
