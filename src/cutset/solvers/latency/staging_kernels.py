"""The best order of given stages in a block, and the evaluator's value of it, compiled.

As `ordering_kernels` does for operators: stages and transfers are joined by arcs, and which of two
that share something comes first is branched on. `fifo` says what the evaluator makes of an order.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from cutset.solvers.arrays import Floats, Ints
from cutset.solvers.latency.block_arrays import Moves, Net, Shape
from cutset.solvers.latency.ordering_kernels import (
    first_clash,
    fixed_before,
    lengthen,
    move_clash,
    moves_of,
    settle,
    swapped,
)

INF = np.inf
_DEPTH = 200  # pairs that one branch decides at most


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
def _stage_order(label: Ints, stages: int, b: Shape) -> tuple[Ints, bool]:
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
def _stages(
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
def _sorted_stages(at: Floats, duration: Floats, topo: Ints) -> Ints:
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
def _fifo(st: Stages, moves: Moves, queue: Ints, b: Shape, net: Net) -> float:
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


@njit(cache=True, nogil=True)
def _arcs(st: Stages, moves: Moves, b: Shape, net: Net) -> tuple[Ints, Ints, Floats, int]:
    """Arcs (from, to, lag in s) between stages and then transfers; how many are set, as room for
    branches is left."""
    stages, total = len(st.device), len(moves.src)
    limit = len(st.local_to) + len(st.read_move) + total * (total + 1) + 2 * _DEPTH + 2
    tail, to, lag = np.empty(limit, np.int64), np.empty(limit, np.int64), np.empty(limit)
    arcs = 0
    for k in range(len(st.local_to)):
        tail[arcs], to[arcs] = st.local_from[k], st.local_to[k]
        lag[arcs] = st.duration[st.local_from[k]]
        arcs += 1
    for m in range(total):
        tail[arcs], to[arcs] = moves.src[m], stages + m
        lag[arcs] = st.duration[moves.src[m]] + moves.ready[m]
        arcs += 1
    for r in range(len(st.read_move)):
        m = st.read_move[r]
        tail[arcs], to[arcs] = stages + m, st.read_stage[r]
        lag[arcs] = moves.span[m] + moves.after[m]
        arcs += 1
    for m in range(total):
        for n in range(total):
            if m != n and moves.src[m] == moves.src[n] and fixed_before(m, n, moves, b, net):
                tail[arcs], to[arcs], lag[arcs] = stages + m, stages + n, moves.egress[m]
                arcs += 1
    return tail, to, lag, arcs


@njit(cache=True, nogil=True)
def _pairs(st: Stages, moves: Moves, label: Ints, b: Shape, net: Net) -> tuple[Ints, Floats]:
    """Pairs [P, 2] of stages or of transfers that may not overlap, and for how long (s) each holds
    what they share."""
    stages, total, count = len(st.device), len(moves.src), len(label)
    linked = np.zeros((stages, stages), np.bool_)
    for u in range(count):
        for v in range(count):
            if b.reach[u, v] and label[u] != label[v]:
                linked[label[u], label[v]] = True
    most = (stages * (stages - 1) + total * (total - 1)) // 2
    pair, hold = np.empty((most, 2), np.int64), np.empty((most, 2))
    pairs = 0
    for r in range(stages):
        for s in range(r + 1, stages):
            both = st.real[r] > 0 and st.real[s] > 0
            if both and st.device[r] == st.device[s] and not (linked[r, s] or linked[s, r]):
                pair[pairs, 0], pair[pairs, 1] = r, s
                hold[pairs, 0], hold[pairs, 1] = st.duration[r], st.duration[s]
                pairs += 1
    for m in range(total):
        for n in range(m + 1, total):
            clash, one, other = move_clash(m, n, moves, st.device, net)
            if clash:
                pair[pairs, 0], pair[pairs, 1] = stages + m, stages + n
                hold[pairs, 0], hold[pairs, 1] = one, other
                pairs += 1
    return pair[:pairs], hold[:pairs]


@njit(cache=True, nogil=True)
def _place(label: Ints, queue: Ints, best_place: Ints) -> None:
    """best_place[v] [K] = place of operator v's stage in `queue` [S]."""
    for k in range(len(queue)):
        for v in range(len(label)):
            if label[v] == queue[k]:
                best_place[v] = k


@njit(cache=True, nogil=True)
def schedule_stages(
    label: Ints,
    stages: int,
    device: Ints,
    c: Floats,
    b: Shape,
    net: Net,
    cutoff: float,
    max_nodes: int,
    given: Floats,
    best_place: Ints,
) -> tuple[float, float, int]:
    """The best schedule of given stages: (value, open bound, nodes), inf where none is below.

    `label[v]` [K] is the operator's stage: 0 is that of the entry, which pays no overhead,
    stages - 1 that of the exit. A value (s) is the evaluator's for the order of the stages found;
    where it is above what the search counted (transfers ready in another order than assumed), or a
    limit ended the search, that lower value is the open bound. With `given` (starts of the
    operators [K], or empty) only that order is scored. best_place[v] [K] = place of the operator's
    stage in the plan.
    """
    count = len(device)
    topo, acyclic = _stage_order(label, stages, b)
    moves, number, linked = moves_of(device, label, b, net)
    if not acyclic or not linked:
        return INF, INF, 0
    st = _stages(label, stages, device, c, b, net, number)
    if len(given) > 0:
        latest = np.zeros(stages)
        for v in range(count):
            latest[label[v]] = max(latest[label[v]], given[v])
        queue = _sorted_stages(latest, st.duration, topo)
        _place(label, queue, best_place)
        return _fifo(st, moves, queue, b, net), INF, 1
    arc_from, arc_to, arc_lag, base = _arcs(st, moves, b, net)
    exit_ = stages - 1
    size = stages + len(moves.src)
    starts = np.empty((_DEPTH + 1, size))  # of each level; few are ever touched
    for i in range(size):
        starts[0, i] = 0.0
    tail = np.full(size, -INF)
    tail[exit_] = st.duration[exit_]
    lengthen(tail, arc_from[:base], arc_to[:base], arc_lag[:base])
    for i in range(size):
        if tail[i] >= cutoff:
            return INF, INF, 0
    pair, hold = _pairs(st, moves, label, b, net)
    # The entry's stage ends before any other begins on its device.
    for s in range(1, stages):
        if st.real[s] > 0 and st.device[s] == st.device[0]:
            starts[0, s] = st.duration[0]
    if not settle(starts[0], tail, cutoff, arc_from[:base], arc_to[:base], arc_lag[:base]):
        return INF, INF, 0
    chosen = np.zeros(_DEPTH + 1, np.int64)  # the pair that a level branches on
    turn = np.zeros(_DEPTH + 1, np.int64)  # how many of its two orders were tried
    best, open_ = INF, INF
    depth, nodes = 0, 0
    fresh = True
    while depth >= 0:
        at = starts[depth]
        if fresh:
            nodes += 1
            worst = first_clash(at, pair, hold)
            if worst < 0 or depth + 1 >= _DEPTH:
                counted = at[exit_] + st.duration[exit_]
                queue = _sorted_stages(at[:stages], st.duration, topo)
                value = _fifo(st, moves, queue, b, net)
                if value < best:
                    best = value
                    _place(label, queue, best_place)
                if worst >= 0 or value > counted * (1 + 1e-12):
                    open_ = min(open_, counted)
                cutoff = min(cutoff, value)
                depth -= 1
                fresh = False
                continue
            chosen[depth] = worst
            turn[depth] = 0
        if nodes > max_nodes:
            for k in range(depth + 1):
                if turn[k] < 2:
                    open_ = min(open_, starts[k, exit_] + st.duration[exit_])
            break
        if turn[depth] == 2:
            depth -= 1
            fresh = False
            continue
        k = chosen[depth]
        i, j = pair[k, 0], pair[k, 1]
        one, other = hold[k, 0], hold[k, 1]
        if swapped(at, tail, i, j, one, other) != (turn[depth] == 1):
            i, j, one = j, i, other
        turn[depth] += 1
        arcs = base + 2 * depth
        arc_from[arcs], arc_to[arcs], arc_lag[arcs] = i, j, one
        arc_from[arcs + 1], arc_to[arcs + 1], arc_lag[arcs + 1] = 0, exit_, 0.0
        if i >= stages:  # only what is ready no later comes first
            m, n = i - stages, j - stages
            r, s = moves.src[m], moves.src[n]
            arc_from[arcs + 1], arc_to[arcs + 1] = r, s
            arc_lag[arcs + 1] = st.duration[r] + moves.ready[m] - st.duration[s] - moves.ready[n]
            if r == s:
                arc_lag[arcs + 1] = 0.0
        arcs += 2
        below = starts[depth + 1]
        for n in range(size):
            below[n] = at[n]
        fresh = settle(below, tail, cutoff, arc_from[:arcs], arc_to[:arcs], arc_lag[:arcs])
        if fresh:
            depth += 1
    return best, open_, nodes
