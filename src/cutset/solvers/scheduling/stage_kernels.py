"""Stages of a schedule, compiled: those that delay nothing, and joining them.

Imported only where it is called: this module imports numba. Arguments as in latency_kernels.
"""

from __future__ import annotations

import heapq

import numpy as np
from numba import njit

from cutset.solvers.arrays import Bools, Ints
from cutset.solvers.latency.latency_kernels import (
    busy,
    memory_kept,
    memory_used,
    moves,
    timeline,
    value_s,
)
from cutset.solvers.latency.latency_model import LatencyModel


@njit(cache=True, nogil=True)
def group(devices: int, device: Ints, order: Ints, receives: Bools, sends: Bools) -> Ints:
    """Stages that delay nothing: the operators of a device in their order, cut before one that
    receives and after one that sends.

    Numbered by their first operators; that is a topological order, as what enters a stage enters
    at its first operator and what leaves it leaves at its last.
    """
    stage = np.empty(len(order), np.int64)
    current = np.full(devices, -1, np.int64)
    count = 0
    for i in order:
        d = device[i]
        if current[d] < 0 or receives[i]:
            current[d] = count
            count += 1
        stage[i] = current[d]
        if sends[i]:
            current[d] = -1
    return stage


@njit(cache=True, nogil=True)
def listed(m: LatencyModel, device: Ints, order: Ints, stage: Ints) -> tuple[Ints, bool]:
    """Stages numbered anew in a topological order that keeps each device's order (that of the
    numbers they have), and whether there is one."""
    operators, devices = len(order), len(m.memory_limit)
    count = 0
    for s in stage:
        count = max(count, s + 1)
    place = np.full(count, operators, np.int64)  # of its first operator; keeps numbers alike
    on = np.full(count, -1, np.int64)
    for k in range(operators - 1, -1, -1):
        place[stage[order[k]]] = k
        on[stage[order[k]]] = device[order[k]]
    begins = np.zeros(count + 1, np.int64)
    total = 0
    for t in range(len(m.bytes_)):
        if m.producer[t] >= 0:
            begins[stage[m.producer[t]] + 1] += m.readers_at[t + 1] - m.readers_at[t]
    following = np.full(count, -1, np.int64)
    upcoming = np.full(devices, -1, np.int64)
    needs = np.zeros(count, np.int64)
    used = 0
    for s in range(count - 1, -1, -1):
        if on[s] >= 0:
            used += 1
            following[s] = upcoming[on[s]]
            upcoming[on[s]] = s
            if following[s] >= 0:
                needs[following[s]] += 1
    for s in range(count):
        total += begins[s + 1]
        begins[s + 1] = total
    after = np.empty(total, np.int64)
    fill = begins[:count].copy()
    for t in range(len(m.bytes_)):
        if m.producer[t] < 0:
            continue
        a = stage[m.producer[t]]
        for k in range(m.readers_at[t], m.readers_at[t + 1]):
            b = stage[m.readers[k]]
            if b != a:
                after[fill[a]] = b
                fill[a] += 1
                needs[b] += 1
    heap = [(0, 0)]
    heap.pop()
    for s in range(count):
        if on[s] >= 0 and needs[s] == 0:
            heapq.heappush(heap, (place[s], s))
    number = np.full(count, -1, np.int64)
    done = 0
    while len(heap) > 0:
        _, s = heapq.heappop(heap)
        number[s] = done
        done += 1
        for k in range(begins[s], fill[s]):
            b = after[k]
            needs[b] -= 1
            if needs[b] == 0:
                heapq.heappush(heap, (place[b], b))
        b = following[s]
        if b >= 0:
            needs[b] -= 1
            if needs[b] == 0:
                heapq.heappush(heap, (place[b], b))
    return number[stage], done == used


@njit(cache=True, nogil=True)
def _joined(device: Ints, stage: Ints, first: int) -> tuple[Ints, int]:
    """The stages with the next one on the same device joined to `first`, and which one that is:
    −1 if there is none."""
    home = -1
    for i in range(len(stage)):
        if stage[i] == first:
            home = device[i]
            break
    partner = -1
    for i in range(len(stage)):
        if device[i] == home and stage[i] > first and (partner < 0 or stage[i] < partner):
            partner = stage[i]
    trial = stage.copy()
    for i in range(len(stage)):
        if partner >= 0 and trial[i] == partner:
            trial[i] = first
    return trial, partner


@njit(cache=True, nogil=True)
def fit(m: LatencyModel, device: Ints, order: Ints, stage: Ints) -> Ints:
    """Neighbouring stages joined on devices over their memory until they fit, or none can be."""
    used = memory_used(m, device, stage)
    if m.stage_memory == 0.0:
        return stage
    for d in range(len(m.memory_limit)):
        operators = 0.0
        for i in range(len(device)):
            if device[i] == d:
                operators += m.memory[i]
        if operators > 0 and operators + m.stage_memory > m.memory_limit[d]:
            return stage  # one stage is too much
        k = 0
        while used[d] > m.memory_limit[d] and k < len(order):
            i = order[k]
            if device[i] == d:
                trial, partner = _joined(device, stage, stage[i])
                if partner >= 0:
                    trial, acyclic = listed(m, device, order, trial)
                    if acyclic:
                        stage = trial
                        used[d] -= m.stage_memory
                        continue
            k += 1
    return stage


@njit(cache=True, nogil=True)
def join(
    m: LatencyModel,
    device: Ints,
    order: Ints,
    stage: Ints,
    best: float,
    for_latency: bool,
    first: int,
    tries: int,
) -> tuple[Ints, float, int, int]:
    """Join neighbouring stages of a device where the value stays or falls, from stage `first` on.

    Returns (stages, value, where to go on: −1 at the end, joins made) after `tries` evaluations.
    """
    made = 0
    for _ in range(tries):
        if first > stage.max():
            return stage, best, -1, made
        trial, partner = _joined(device, stage, first)
        value = np.inf
        if partner >= 0:
            trial, acyclic = listed(m, device, order, trial)
            if acyclic:
                value = value_s(m, device, order, trial, for_latency)
        if value < np.inf and value <= best * (1 + 1e-13):
            anchor = 0  # an operator of the stage that grew
            while stage[order[anchor]] != first:
                anchor += 1
            stage = trial
            best = min(best, value)
            first = stage[order[anchor]]
            made += 1
        else:
            first += 1
    return stage, best, first, made


@njit(cache=True, nogil=True)
def grouped_score(m: LatencyModel, device: Ints, order: Ints, for_latency: bool) -> float:
    """Seconds, of the stages of `group`, joined as `fit` does where memory asks for it."""
    at, targets, receives, sends, linked = moves(m, device, order)
    if not linked:
        return np.inf
    stage = group(len(m.memory_limit), device, order, receives, sends)
    if not memory_kept(m, device, stage):
        stage = fit(m, device, order, stage)
        if not memory_kept(m, device, stage):
            return np.inf
    if for_latency:
        return timeline(m, device, order, stage, at, targets)[0]
    return busy(m, device, order, stage, at, targets)[0]
