"""Compiled depth-first search for a pipeline within a threshold, by the evaluator's own sums."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from cutset.solvers.arrays import Bools, Floats, Ints
from cutset.solvers.throughput.block_chain import Chain
from cutset.solvers.throughput.walk_kernels import state_of, times


class Trail(NamedTuple):
    """The state of `descend`, kept between calls. Row j is what holds after j stages."""

    device: Ints  # [N + 1]
    begin: Ints  # [N + 1]
    end: Ints  # [N + 1]
    choice: Ints  # [N + 1] index into the devices by wire, of the one tried
    used: Bools  # [N]
    holder: Ints  # [M] device of each block
    busy: Floats  # [N + 1, N]
    egress: Floats  # [N + 1, N]
    ingress: Floats  # [N + 1, N]
    slowest: Floats  # [N + 1, T] the longest transfer of a tensor so far, s; −1: none
    at_sink: Bools  # [N + 1, T] moved there as a result
    stamp: Ints  # [T]
    passed: Bools  # [N + 1, M + 1] ends tried that are within the threshold
    later: Ints  # [N + 1] a better end of the stage before; M: none
    depth: Ints  # [1]
    clock: Ints  # [1]


@njit(cache=True, nogil=True)
def _move(ch: Chain, tr: Trail, j: int, t: int, home: int, to: int) -> None:
    """Add tensor t from device `home` to device `to`, as the evaluator counts it."""
    amount = ch.bytes_[t]
    seconds = times(amount, ch.wire[home, to])
    grown = seconds
    if ch.multicast:
        grown = max(0.0, seconds - max(0.0, tr.slowest[j, t]))
    if not ch.multicast or tr.slowest[j, t] < 0.0:
        tr.busy[j, home] += amount * ch.send[home]
    tr.slowest[j, t] = max(tr.slowest[j, t], seconds)
    tr.egress[j, home] += grown
    if ch.serial[home]:
        tr.busy[j, home] += grown
    tr.ingress[j, to] += seconds
    tr.busy[j, to] += amount * ch.recv[to]
    if ch.serial[to]:
        tr.busy[j, to] += seconds


@njit(cache=True, nogil=True)
def start(ch: Chain, tr: Trail) -> None:
    """Before the first stage: graph inputs that are results go to the sink."""
    tr.depth[0] = 1
    tr.later[1] = len(ch.memory)
    tr.clock[0] = 0
    tr.used[:] = False
    tr.stamp[:] = 0
    tr.busy[0] = 0.0
    tr.egress[0] = 0.0
    tr.ingress[0] = 0.0
    tr.slowest[0] = -1.0
    tr.at_sink[0] = False
    for t in range(len(ch.maker)):
        if ch.maker[t] < 0 and ch.wanted[t] and ch.source != ch.sink:
            _move(ch, tr, 0, t, ch.source, ch.sink)
            tr.at_sink[0, t] = True
    tr.begin[1] = 0
    tr.choice[1] = -1
    tr.end[1] = 0


@njit(cache=True, nogil=True)
def append(ch: Chain, tr: Trail, j: int, d: int, p: int, q: int) -> float:
    """Make stage j the blocks [p, q) on device d: the largest busy time of all stages so far."""
    tr.busy[j] = tr.busy[j - 1]
    tr.egress[j] = tr.egress[j - 1]
    tr.ingress[j] = tr.ingress[j - 1]
    tr.slowest[j] = tr.slowest[j - 1]
    tr.at_sink[j] = tr.at_sink[j - 1]
    tr.clock[0] += 1
    tr.busy[j, d] += ch.overhead[d]
    for b in range(p, q):
        tr.busy[j, d] += ch.compute_s[d, b]
        tr.holder[b] = d
        for i in range(ch.reads_at[b], ch.reads_at[b + 1]):
            t = ch.reads[i]
            if ch.maker[t] >= p or tr.stamp[t] == tr.clock[0]:
                continue
            tr.stamp[t] = tr.clock[0]
            home = ch.source if ch.maker[t] < 0 else tr.holder[ch.maker[t]]
            if home != d and not (d == ch.sink and tr.at_sink[j, t]):
                _move(ch, tr, j, t, home, d)
        if d != ch.sink:
            for i in range(ch.made_at[b], ch.made_at[b + 1]):
                t = ch.made[i]
                if ch.wanted[t]:
                    _move(ch, tr, j, t, d, ch.sink)
                    tr.at_sink[j, t] = True
    worst = 0.0
    for e in range(len(ch.limit)):
        worst = max(worst, tr.busy[j, e], tr.egress[j, e], tr.ingress[j, e])
    return worst


@njit(cache=True, nogil=True)
def _farthest(ch: Chain, d: int, p: int, beta: float) -> int:
    """The last cut that a stage from cut p on device d can end at."""
    memory, compute = ch.stage_memory, ch.overhead[d]
    q = p
    while q < len(ch.memory):
        memory += ch.memory[q]
        compute += ch.compute_s[d, q]
        if memory > ch.limit[d] or compute > beta:
            break
        q += 1
    return q


@njit(cache=True, nogil=True)
def _better_end(ch: Chain, tr: Trail, j: int) -> int:
    """See `label_kernels._better_end`, of stage j. What a stage sends is not yet in `passed`."""
    m = len(ch.memory)
    p, d = tr.end[j], tr.device[j]
    if not ch.serial[d] and ch.send[d] == 0.0 and ch.oldest[p] >= tr.begin[j]:
        for s in range(p + 1, min(m - 1, ch.clean[p]) + 1):
            if tr.passed[j, s] and ch.amount[s] <= ch.amount[p]:
                return s
    return m


@njit(cache=True, nogil=True)
def _hopeless(
    ch: Chain, tr: Trail, beta: float, reach: Floats, behind: Floats, able: Bools, j: int, q: int
) -> bool:
    """Whether no stages of other devices can go on from cut q, after j stages.

    They must be able to hold all that is behind it; and what crosses it must still leave the
    devices that have it, at best to the nearest device that can have a stage behind the cut: one
    that ran a stage runs no other.
    """
    n = len(ch.limit)
    for i in range(len(reach)):
        rest = 0.0
        for e in range(n):
            if not tr.used[e]:
                rest += reach[i, q, e]
        if rest * (1 + 1e-9) < behind[i, q]:
            return True
    first, past = ch.crossing_at[q], ch.crossing_at[q + 1]
    for x in range(j + 1):
        home = tr.device[x] if x else ch.source
        if x == 0 and not tr.used[home]:
            continue  # the source may read what it has
        amount = 0.0
        for c in range(first, past):
            t = ch.crossing[c]
            if x == 0:
                mine = ch.maker[t] < 0
            else:
                mine = tr.begin[x] <= ch.maker[t] < (q if x == j else tr.begin[x + 1])
            if mine and not ch.wanted[t]:
                amount += ch.bytes_[t]
        if amount == 0.0:
            continue
        if ch.multicast:
            amount = 0.0  # it may have been sent already, to one that is farther
            for c in range(first, past):
                t = ch.crossing[c]
                if x == j and ch.maker[t] >= tr.begin[x] and not ch.wanted[t]:
                    amount += ch.bytes_[t]
        wire = np.inf
        for i in range(n):
            f = ch.nearest[home, i] if x else i
            if f != home and able[q, f] and not tr.used[f]:
                wire = min(wire, ch.wire[home, f])
                if x:
                    break
        seconds = times(amount, wire)
        if tr.egress[j, home] + seconds > beta:
            return True
        if ch.serial[home] and tr.busy[j, home] + seconds > beta:
            return True
    return False


@njit(cache=True, nogil=True)
def descend(
    ch: Chain,
    tr: Trail,
    beta: float,
    slack: Floats,
    hop: Floats,
    reach: Floats,
    behind: Floats,
    able: Bools,
    steps: int,
) -> int:
    """Depth-first search for a pipeline within `beta`, exact; at most about `steps` stages tried.

    Returns the number of stages where one is found (in rows 1 to that number of the trail), 0 where
    there is none, and −1 to be called again.
    """
    n, m = ch.compute_s.shape
    while tr.depth[0] > 0:
        j = tr.depth[0]
        p = tr.begin[j]
        if tr.end[j] - 1 <= p:  # the next device
            if tr.choice[j] >= 0:
                tr.used[tr.device[j]] = False
            found = False
            while tr.choice[j] < n - 1:
                tr.choice[j] += 1
                if j == 1:
                    f = tr.choice[j]
                    fits = slack[ch.makers_at[0], f] >= 0.0
                else:
                    last = tr.device[j - 1]
                    f = ch.nearest[last, tr.choice[j]]
                    row = state_of(ch, p, tr.begin[j - 1])
                    fits = ch.path[last, f] <= slack[row, f]
                if fits and not tr.used[f]:
                    found = True
                    tr.device[j] = f
                    tr.used[f] = True
                    tr.end[j] = _farthest(ch, f, p, beta) + 1
                    tr.passed[j] = False
                    break
            if not found:
                tr.depth[0] -= 1
                continue
            if tr.end[j] - 1 <= p:
                tr.end[j] = p
                continue
        tr.end[j] -= 1
        d, q = tr.device[j], tr.end[j]
        if q < m and hop[state_of(ch, q, p), d] == np.inf:
            continue
        if q > tr.later[j] and ch.oldest[q] >= tr.later[j]:
            continue
        steps -= 1
        if append(ch, tr, j, d, p, q) <= beta:
            if q == m:
                return int(j)
            tr.passed[j, q] = True
            if j < n and not _hopeless(ch, tr, beta, reach, behind, able, j, q):
                tr.later[j + 1] = _better_end(ch, tr, j)
                tr.depth[0] = j + 1
                tr.begin[j + 1] = q
                tr.end[j + 1] = q
                tr.choice[j + 1] = -1
        if steps <= 0:
            return -1
    return 0
