"""Load balancing, compiled: which operators to move off the busiest devices, and trying it.

Imported only where it is called: this module imports numba. `m` is a LatencyModel.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cutset.solvers.arrays import Bools, Ints
from cutset.solvers.latency.latency_kernels import busy, moves, timeline
from cutset.solvers.latency.latency_model import LatencyModel
from cutset.solvers.scheduling.stage_kernels import group, grouped_score

_ENDS_TRIED = 100  # of a stage, how many of its beginnings (and of its ends) move as one


@njit(cache=True, nogil=True)
def chains(m: LatencyModel) -> Ints:
    """For each operator the first one of its chain: operators that only the next one follows."""
    operators = len(m.memory)
    only = np.full(operators, -1, np.int64)  # the one operator before; −2 for several
    follows = np.full(operators, -1, np.int64)  # the one operator after; −2 for several
    for t in range(len(m.bytes_)):
        a = m.producer[t]
        for k in range(m.readers_at[t], m.readers_at[t + 1]):
            b = m.readers[k]
            if a >= 0:
                only[b] = a if only[b] in (-1, a) else -2
                follows[a] = b if follows[a] in (-1, b) else -2
    first = np.arange(operators)
    for i in range(operators):
        if only[i] >= 0 and follows[only[i]] == i:
            first[i] = first[only[i]]
    return first


@njit(cache=True, nogil=True)
def _late_stages(
    m: LatencyModel, device: Ints, order: Ints, for_latency: bool
) -> tuple[Ints, Ints]:
    """The stage of each operator, and the stages that the value hangs on, the last one first.

    For latency: those on the critical path, which waits on devices and links included, and those
    that send or read its transfers. For the period: all at the ends of the bottleneck.
    """
    at, targets, receives, sends, _ = moves(m, device, order)
    stage = group(len(m.memory_limit), device, order, receives, sends)
    count = stage.max() + 1
    late = np.zeros(count, np.bool_)
    if for_latency:
        _, end, stage_why, move_why, why = timeline(m, device, order, stage, at, targets)
        carried = np.empty(len(targets), np.int64)
        for t in range(len(m.bytes_)):
            carried[at[t] : at[t + 1]] = t
        while why != -1:
            if why >= 0:
                late[why] = True
                why = stage_why[why]
                continue
            k = -2 - why
            t = carried[k]
            if m.producer[t] >= 0:
                late[stage[m.producer[t]]] = True
            for q in range(m.readers_at[t], m.readers_at[t + 1]):
                if device[m.readers[q]] == targets[k]:
                    late[stage[m.readers[q]]] = True
            why = move_why[k]
    else:
        _, a, b = busy(m, device, order, stage, at, targets)
        end = np.arange(count) * 1.0
        for i in range(len(stage)):
            if device[i] in (a, b):
                late[stage[i]] = True
    found = np.flatnonzero(late)
    for k in range(1, len(found)):  # by insertion: np.argsort takes seconds to compile
        s, j = found[k], k
        while j > 0 and end[found[j - 1]] < end[s]:
            found[j] = found[j - 1]
            j -= 1
        found[j] = s
    return stage, found


@njit(cache=True, nogil=True)
def units(
    m: LatencyModel, device: Ints, order: Ints, chain: Ints, for_latency: bool
) -> tuple[Ints, Ints, Ints]:
    """What may move as one off the devices that the value hangs on, in the order to try it.

    Of each such stage: all of it, its ends and its beginnings, its chains, its operators.
    Returns (a pool of operators, where each unit begins in it, where it ends).
    """
    stage, late = _late_stages(m, device, order, for_latency)
    operators = len(order)
    pool = np.empty(2 * operators, np.int64)
    begin = np.empty(2 * len(late) * (_ENDS_TRIED + 1) + 2 * operators, np.int64)
    end = np.empty(len(begin), np.int64)
    members = np.zeros(operators, np.int64)  # of a chain, in this stage; −1 once it has its unit
    unit = np.zeros(operators, np.int64)
    size = found = 0
    for s in late:
        low = size
        for i in order:
            if stage[i] == s:
                pool[size] = i
                size += 1
        high = size
        begin[found], end[found] = low, high
        found += 1
        step = (high - low + _ENDS_TRIED - 1) // _ENDS_TRIED
        for k in range(low + step, high, step):
            begin[found], end[found] = k, high
            begin[found + 1], end[found + 1] = low, k
            found += 2
        for k in range(low, high):
            members[chain[pool[k]]] += 1
        for k in range(low, high):  # those of one operator are left out: it comes below
            c = chain[pool[k]]
            if members[c] > 1:
                begin[found], end[found] = size, size
                unit[c] = found
                size += members[c]
                found += 1
                members[c] = -1
            if members[c] < 0:
                pool[end[unit[c]]] = pool[k]
                end[unit[c]] += 1
        for k in range(low, high):
            members[chain[pool[k]]] = 0
        for k in range(low, high):
            begin[found], end[found] = k, k + 1
            found += 1
    return pool, begin[:found], end[:found]


@njit(cache=True, nogil=True)
def _targets(m: LatencyModel, device: Ints) -> Bools:
    """Devices worth trying: of those that are alike and unused, only the first."""
    devices = len(m.memory_limit)
    used = np.zeros(devices, np.bool_)
    for d in device:
        used[d] = True
    worth = np.ones(devices, np.bool_)
    spare = np.full(devices, -1, np.int64)
    for d in range(devices):
        if not used[d]:
            if spare[m.alike[d]] >= 0:
                worth[d] = False
            spare[m.alike[d]] = d
    return worth


@njit(cache=True, nogil=True)
def move(
    m: LatencyModel,
    device: Ints,
    order: Ints,
    pool: Ints,
    begin: Ints,
    end: Ints,
    first: int,
    tries: int,
    best: float,
    for_latency: bool,
) -> tuple[float, int, int]:
    """Move units, from unit `first` on, each to the device where the value falls most, if it does.

    A colocate group moves as one. Changes `device`; returns (value, where to go on: past the last
    unit at the end, evaluations made). A unit is not left half tried.
    """
    done = 0
    while first < len(begin) and done < tries:
        moved = pool[begin[first] : end[first]]
        first += 1
        grouped = False
        for i in moved:
            if m.group[i] >= 0:
                grouped = True
        if grouped:
            chosen = np.zeros(len(device), np.bool_)
            for i in moved:
                chosen[i] = True
                if m.group[i] >= 0:
                    for j in range(len(device)):
                        if m.group[j] == m.group[i]:
                            chosen[j] = True
            moved = np.flatnonzero(chosen)
        worth = _targets(m, device)
        trial = device.copy()
        where = -1
        for d in range(len(m.memory_limit)):
            if not worth[d]:
                continue
            able, stays = True, True
            for i in moved:
                if device[i] != d:
                    stays = False
                trial[i] = d
                if m.compute_s[d, i] == np.inf:
                    able = False
            if stays or not able:
                continue
            done += 1
            value = grouped_score(m, trial, order, for_latency)
            if value < best * (1 - 1e-9):
                best, where = value, d
        if where >= 0:
            for i in moved:
                device[i] = where
    return best, first, done
