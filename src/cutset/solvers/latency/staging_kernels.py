"""The best order of given stages in a block, and the evaluator's value of it, compiled.

As `ordering_kernels` does for operators: stages and transfers are joined by arcs, and which of two
that share something comes first is branched on. `fifo` says what the evaluator makes of an order.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cutset.solvers.arrays import Floats, Ints
from cutset.solvers.latency.block_arrays import Moves, Net, Shape
from cutset.solvers.latency.fifo_kernels import (
    Stages,
    fifo,
    sorted_stages,
    stage_order,
    stages_of_labels,
)
from cutset.solvers.latency.ordering_kernels import (
    descend,
    first_clash,
    fixed_before,
    in_turn,
    lengthen,
    move_clash,
    moves_of,
    settle,
)

INF = np.inf
_DEPTH = 200  # pairs that one branch decides at most


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
    topo, acyclic = stage_order(label, stages, b)
    moves, number, linked = moves_of(device, label, b, net)
    if not acyclic or not linked:
        return INF, INF, 0
    st = stages_of_labels(label, stages, device, c, b, net, number)
    if len(given) > 0:
        latest = np.zeros(stages)
        for v in range(count):
            latest[label[v]] = max(latest[label[v]], given[v])
        queue = sorted_stages(latest, st.duration, topo)
        _place(label, queue, best_place)
        return fifo(st, moves, queue, b, net), INF, 1
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
                queue = sorted_stages(at[:stages], st.duration, topo)
                value = fifo(st, moves, queue, b, net)
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
        i, j, one = in_turn(k, turn[depth], pair, hold, at, tail)
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
        now = arc_from[:arcs], arc_to[:arcs], arc_lag[:arcs]
        fresh = descend(starts, depth, tail, cutoff, *now)
        if fresh:
            depth += 1
    return best, open_, nodes
