"""Stages of a block and what the evaluator makes of an order of them, compiled.

`narrowing_kernels` says what a block is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from cutset.solvers.arrays import Floats, Ints
from cutset.solvers.latency.block_arrays import Moves, Net, Shape

INF = np.inf


class Stages(NamedTuple):
    """S stages, W reads of transfers by stages, L reads by a stage on the same device.

    Stage 0 is the entry's; `sink` is the one that stands for the results, or −1."""

    device: Ints  # [S]
    duration: Floats  # [S] seconds, overhead included
    real: Floats  # [S] 1 for those that hold operators of the block, but for the entry's
    sink: int
    read_move: Ints  # [W]
    read_stage: Ints  # [W]
    local_from: Ints  # [L]
    local_to: Ints  # [L]


@njit(cache=True, nogil=True)
def stage_order(label: Ints, stages: int, b: Shape) -> tuple[Ints, bool]:
    """The place [S] of each stage in a topological order, and whether there is one."""
    waiting = np.zeros((stages, stages), np.bool_)
    for v in range(len(label)):
        for k in range(b.in_at[v], b.in_at[v + 1]):
            if label[b.in_u[k]] != label[v]:
                waiting[label[v], label[b.in_u[k]]] = True
    place = np.full(stages, -1, np.int64)
    for at in range(stages):
        chosen = -1
        for s in range(stages):
            if place[s] >= 0:
                continue
            free = True
            for r in range(stages):
                if waiting[s, r] and place[r] < 0:
                    free = False
                    break
            if free:
                chosen = s
                break
        if chosen < 0:
            return place, False
        place[chosen] = at
    return place, True


@njit(cache=True, nogil=True)
def stages_of_labels(
    label: Ints, stages: int, device: Ints, c: Floats, b: Shape, net: Net, number: Ints
) -> Stages:
    """The stages of operators [K]; `number` [T, D] is that of each transfer."""
    count = len(device)
    on, duration, real = np.zeros(stages, np.int64), np.zeros(stages), np.zeros(stages)
    for v in range(count):
        s = label[v]
        if real[s] == 0 and b.real[v] > 0 and s > 0:
            duration[s] += net.ov[device[v]]
            real[s] = 1.0
        on[s] = device[v]
        duration[s] += c[v, device[v]]
    most = len(b.tin_t)
    read_move, read_stage = np.empty(most, np.int64), np.empty(most, np.int64)
    local_from, local_to = np.empty(most, np.int64), np.empty(most, np.int64)
    reads = local = 0
    for v in range(count):
        for k in range(b.tin_at[v], b.tin_at[v + 1]):
            t = b.tin_t[k]
            u = b.tprod[t]
            if device[u] == device[v]:
                if label[u] != label[v]:
                    local_from[local], local_to[local] = label[u], label[v]
                    local += 1
                continue
            m = number[t, device[v]]
            new = True
            for r in range(reads):
                if read_move[r] == m and read_stage[r] == label[v]:
                    new = False
                    break
            if new:
                read_move[reads], read_stage[reads] = m, label[v]
                reads += 1
    sink = stages - 1 if b.real[count - 1] == 0 else -1
    return Stages(
        on,
        duration,
        real,
        sink,
        read_move[:reads],
        read_stage[:reads],
        local_from[:local],
        local_to[:local],
    )


@njit(cache=True, nogil=True)
def sorted_stages(at: Floats, duration: Floats, topo: Ints) -> Ints:
    """Stages [S] by start `at` (s), then end, then topological order; the entry's first."""
    queue = np.zeros(len(at), np.int64)
    for s in range(len(queue)):
        k = s
        while k > 1 or (k == 1 and queue[0] != 0):
            r = queue[k - 1]
            if at[s] != at[r]:
                before = at[s] < at[r]
            elif duration[s] != duration[r]:
                before = at[s] + duration[s] < at[r] + duration[r]
            else:
                before = topo[s] < topo[r]
            if not before:
                break
            queue[k] = r
            k -= 1
        queue[k] = s
    return queue


@njit(cache=True, nogil=True)
def _next_move(moves: Moves, ready: Floats, taken: Ints, place: Ints, b: Shape, net: Net) -> int:
    """The transfer that the evaluator starts next: by time ready [M] (s), place of its stage in
    the plan, name of its tensor, name of its receiver; −1 for none."""
    n = -1
    for m in range(len(ready)):
        if taken[m] or ready[m] == INF:
            continue
        if n < 0:
            n = m
            continue
        if ready[m] != ready[n]:
            better = ready[m] < ready[n]
        elif place[moves.src[m]] != place[moves.src[n]]:
            better = place[moves.src[m]] < place[moves.src[n]]
        elif moves.tensor[m] != moves.tensor[n]:
            better = b.trank[moves.tensor[m]] < b.trank[moves.tensor[n]]
        else:
            better = net.rank[moves.to[m]] < net.rank[moves.to[n]]
        if better:
            n = m
    return n


@njit(cache=True, nogil=True)
def fifo(st: Stages, moves: Moves, queue: Ints, b: Shape, net: Net) -> float:
    """When the exit has ended (s), as the evaluator counts: transfers take turns by time ready.

    `queue` [S] lists the stages in the plan's order, stage 0 (the entry) first. inf where they wait
    for each other.
    """
    stages, devices = len(queue), len(net.send)
    place = np.empty(stages, np.int64)
    for k in range(stages):
        place[queue[k]] = k
    awaited = np.zeros(stages, np.int64)
    arrived = np.zeros(stages)
    for s in st.read_stage:
        awaited[s] += 1
    done = np.zeros(stages, np.bool_)
    end = np.zeros(stages)
    ready = np.full(len(moves.src), INF)
    taken = np.zeros(len(moves.src), np.int64)
    free, egress, ingress = np.zeros(devices), np.zeros(devices), np.zeros(devices)
    blocked = np.zeros(devices, np.bool_)
    while True:
        progress = True
        while progress:
            progress = False
            for d in range(devices):
                blocked[d] = False
            for k in range(stages):
                s = queue[k]
                if done[s] or s == st.sink or blocked[st.device[s]]:
                    continue
                if awaited[s] > 0:
                    blocked[st.device[s]] = True
                    continue
                done[s] = True
                end[s] = max(free[st.device[s]], arrived[s]) + st.duration[s]
                free[st.device[s]] = end[s]
                for m in range(len(ready)):
                    if moves.src[m] == s:
                        ready[m] = end[s] + moves.ready[m]
                progress = True
        first = _next_move(moves, ready, taken, place, b, net)
        if first < 0:
            break
        x = st.device[moves.src[first]]
        start = max(ready[first], egress[x])
        for m in range(len(ready)):
            if m == first or (net.multicast and moves.tensor[m] == moves.tensor[first]):
                start = max(start, ingress[moves.to[m]])
        for m in range(len(ready)):
            if m == first or (net.multicast and moves.tensor[m] == moves.tensor[first]):
                taken[m] = 1
                ingress[moves.to[m]] = start + moves.span[m]
                for k in range(len(st.read_move)):
                    if st.read_move[k] == m:
                        s = st.read_stage[k]
                        awaited[s] -= 1
                        arrived[s] = max(arrived[s], start + moves.span[m] + moves.after[m])
        egress[x] = start + moves.egress[first]
    for s in range(stages):
        if s != st.sink and not done[s]:
            return INF
    if st.sink < 0:
        return float(end[stages - 1])
    value = arrived[st.sink]
    for k in range(len(st.local_to)):
        if st.local_to[k] == st.sink:
            value = max(value, end[st.local_from[k]])
    return float(value)
