"""The best order of operators and transfers in a block whose operators have devices, compiled.

Activities are joined by arcs ("b starts at least `lag` seconds after a starts"); which of two that
share a device, link, egress or ingress comes first is what is branched on. What `staging_kernels`
does for stages is done here for single operators. `narrowing_kernels` says what a block is.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cutset.solvers.arrays import Floats, Ints
from cutset.solvers.latency.block_arrays import Moves, Net, Shape

INF = np.inf
_DEPTH = 400  # pairs that one branch decides at most


@njit(cache=True, nogil=True)
def moves_of(device: Ints, source: Ints, b: Shape, net: Net) -> tuple[Moves, Ints, bool]:
    """The transfers of operators on devices [K] (−1: none yet, left out), and their number.

    `source[v]` is what stands for operator v in `Moves.src`. Returns (moves, number [T, D] of the
    transfer of a tensor to a device or −1, whether every link exists).
    """
    number = np.full((len(b.tprod), len(net.send)), -1, np.int64)
    most = len(b.tin_t)
    src, tensor, to = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    ready, span, after = np.empty(most), np.empty(most), np.empty(most)
    count = 0
    for v in range(len(device)):
        y = device[v]
        for k in range(b.tin_at[v], b.tin_at[v + 1]):
            t = b.tin_t[k]
            u = b.tprod[t]
            x = device[u]
            if y < 0 or x < 0 or x == y or number[t, y] >= 0:
                continue
            number[t, y] = count
            src[count], tensor[count], to[count] = source[u], t, y
            ready[count] = b.tbytes[t] * net.send[x]
            span[count] = b.tbytes[t] * net.wire[x, y]
            after[count] = net.lat[x, y] + b.tbytes[t] * net.recv[y]
            if net.wire[x, y] == INF:
                span[count] = INF
            count += 1
    egress = np.empty(most)
    linked = True
    for m in range(count):
        egress[m] = span[m]
        if span[m] == INF:
            linked = False
        if net.multicast:
            for n in range(count):
                if tensor[n] == tensor[m]:
                    egress[m] = max(egress[m], span[n])
    found = Moves(
        src[:count],
        tensor[:count],
        to[:count],
        ready[:count],
        span[:count],
        egress[:count],
        after[:count],
    )
    return found, number, linked


@njit(cache=True, nogil=True)
def free_pair(m: int, n: int, moves: Moves, net: Net) -> bool:
    """Whether two transfers of one tensor go to devices whose names' order exchanging alike devices
    may reverse: what is proven is to hold for those as well, so the order is not fixed."""
    return bool(moves.tensor[m] == moves.tensor[n] and net.loose[moves.to[m], moves.to[n]])


@njit(cache=True, nogil=True)
def fixed_before(m: int, n: int, moves: Moves, b: Shape, net: Net) -> bool:
    """Whether transfer m comes before n of the same source, by the evaluator's rule: time ready,
    then name of the tensor, then name of the receiver."""
    if free_pair(m, n, moves, net):
        return False
    tm, tn = moves.tensor[m], moves.tensor[n]
    if tm == tn:
        return not net.multicast and net.rank[moves.to[m]] < net.rank[moves.to[n]]
    if moves.ready[m] != moves.ready[n]:
        return bool(moves.ready[m] < moves.ready[n])
    return bool(b.trank[tm] < b.trank[tn])


@njit(cache=True, nogil=True)
def settle(
    start: Floats, tail: Floats, cutoff: float, arc_from: Ints, arc_to: Ints, arc_lag: Floats
) -> bool:
    """Starts [N] (s) raised to longest paths over the arcs [A]; False where one and its `tail`
    [N] reach the cutoff, or in a cycle."""
    for _ in range(len(start) + 2):
        changed = False
        for k in range(len(arc_from)):
            value = start[arc_from[k]] + arc_lag[k]
            j = arc_to[k]
            if value > start[j]:
                if value + tail[j] >= cutoff:
                    return False
                start[j] = value
                changed = True
        if not changed:
            return True
    return False


@njit(cache=True, nogil=True)
def lengthen(tail: Floats, arc_from: Ints, arc_to: Ints, arc_lag: Floats) -> None:
    """Tails [N] (s from an activity's start to the exit's end) raised to longest paths."""
    for _ in range(len(tail) + 1):
        changed = False
        for k in range(len(arc_from)):
            value = tail[arc_to[k]] + arc_lag[k]
            if value > tail[arc_from[k]]:
                tail[arc_from[k]] = value
                changed = True
        if not changed:
            return


@njit(cache=True, nogil=True)
def first_clash(at: Floats, pair: Ints, hold: Floats) -> int:
    """The pair [P, 2] that overlaps earliest when activities start `at` [N] s and hold what they
    share for `hold` [P, 2] s; −1 for none."""
    worst, when = -1, INF
    for k in range(len(pair)):
        i, j = pair[k, 0], pair[k, 1]
        if at[i] < at[j] + hold[k, 1] and at[j] < at[i] + hold[k, 0]:
            early = max(at[i], at[j])
            if early < when:
                worst, when = k, early
    return worst


@njit(cache=True, nogil=True)
def in_turn(
    k: int, turn: int, pair: Ints, hold: Floats, at: Floats, tail: Floats
) -> tuple[int, int, float]:
    """Pair k in the order to try in this turn (0 or 1), first that which delays less: (the first,
    the second, how long in s the first holds what they share)."""
    i, j = pair[k, 0], pair[k, 1]
    one, other = hold[k, 0], hold[k, 1]
    swapped = at[j] + other - at[i] < at[i] + one - at[j]
    if at[i] + tail[i] < at[j] + tail[j] and at[i] == at[j]:
        swapped = True
    if swapped != (turn == 1):
        return j, i, other
    return i, j, one


@njit(cache=True, nogil=True)
def descend(
    starts: Floats,
    depth: int,
    tail: Floats,
    cutoff: float,
    arc_from: Ints,
    arc_to: Ints,
    arc_lag: Floats,
) -> bool:
    """Settle the level below `depth` of `starts` [levels, N], which begins as this one ends."""
    below = starts[depth + 1]
    for n in range(len(below)):
        below[n] = starts[depth, n]
    return bool(settle(below, tail, cutoff, arc_from, arc_to, arc_lag))


@njit(cache=True, nogil=True)
def _arcs(
    device: Ints, c: Floats, b: Shape, net: Net, moves: Moves, number: Ints
) -> tuple[Ints, Ints, Floats, int]:
    """Arcs (from, to, lag in s) between operators, tensors' readiness and transfers, in this order
    of numbers; room for branches is left at the end. Returns how many are set, too."""
    count, tensors, total = len(device), len(b.tprod), len(moves.src)
    limit = 2 * len(b.tin_t) + len(b.in_u) + total * (total + 1) + tensors + 8 + 2 * _DEPTH
    tail, to, lag = np.empty(limit, np.int64), np.empty(limit, np.int64), np.empty(limit)
    arcs = 0
    for v in range(count):
        if device[v] < 0:
            continue
        for k in range(b.in_at[v], b.in_at[v + 1]):
            u = b.in_u[k]
            if device[u] >= 0:
                tail[arcs], to[arcs], lag[arcs] = u, v, c[u, device[u]]
                arcs += 1
        for k in range(b.tin_at[v], b.tin_at[v + 1]):
            m = number[b.tin_t[k], device[v]]
            if m >= 0:
                tail[arcs], to[arcs] = count + tensors + m, v
                lag[arcs] = moves.span[m] + moves.after[m] + net.ov[device[v]] * b.real[v]
                arcs += 1
    for t in range(tensors):
        u = b.tprod[t]
        if device[u] >= 0:
            tail[arcs], to[arcs] = u, count + t
            lag[arcs] = c[u, device[u]] + b.tbytes[t] * net.send[device[u]]
            arcs += 1
    for m in range(total):
        tail[arcs], to[arcs], lag[arcs] = count + moves.tensor[m], count + tensors + m, 0.0
        arcs += 1
    for m in range(total):
        for n in range(total):
            if m != n and moves.src[m] == moves.src[n] and fixed_before(m, n, moves, b, net):
                tail[arcs], to[arcs] = count + tensors + m, count + tensors + n
                lag[arcs] = moves.egress[m]
                arcs += 1
    return tail, to, lag, arcs


@njit(cache=True, nogil=True)
def move_clash(m: int, n: int, moves: Moves, on: Ints, net: Net) -> tuple[bool, float, float]:
    """Whether two transfers may not overlap, and how long (s) each holds what they share.

    `on[s]` is the device of their source s."""
    if moves.src[m] != moves.src[n]:
        if on[moves.src[m]] == on[moves.src[n]]:
            return True, moves.egress[m], moves.egress[n]
        return moves.to[m] == moves.to[n], moves.span[m], moves.span[n]
    return not net.multicast and free_pair(m, n, moves, net), moves.span[m], moves.span[n]


@njit(cache=True, nogil=True)
def _pairs(device: Ints, c: Floats, b: Shape, net: Net, moves: Moves) -> tuple[Ints, Floats]:
    """Pairs of activities [P, 2] that may not overlap, and how long (s) each holds what they
    share."""
    count, total = len(device), len(moves.src)
    base = count + len(b.tprod)
    most = total * (total - 1) // 2
    for v in range(count):
        for w in range(v + 1, count):
            if device[v] >= 0 and device[v] == device[w] and not b.reach[v, w]:
                most += 1
    pair, hold = np.empty((most, 2), np.int64), np.empty((most, 2))
    pairs = 0
    for v in range(count):
        for w in range(v + 1, count):
            y = device[v]
            if y < 0 or y != device[w] or b.reach[v, w] or b.real[v] == 0 or b.real[w] == 0:
                continue
            pair[pairs, 0], pair[pairs, 1] = v, w
            hold[pairs, 0], hold[pairs, 1] = c[v, y], c[w, y]
            pairs += 1
    for m in range(total):
        for n in range(m + 1, total):
            clash, one, other = move_clash(m, n, moves, device, net)
            if clash:
                pair[pairs, 0], pair[pairs, 1] = base + m, base + n
                hold[pairs, 0], hold[pairs, 1] = one, other
                pairs += 1
    return pair[:pairs], hold[:pairs]


@njit(cache=True, nogil=True)
def _ends(
    at: Floats,
    device: Ints,
    c: Floats,
    b: Shape,
    moves: Moves,
    arc_from: Ints,
    arc_to: Ints,
    best_start: Floats,
    best_late: Floats,
) -> None:
    """Starts [K] (s) of the schedule `at`, and those as late as tensors were counted ready."""
    count = len(device)
    for v in range(count):
        best_start[v] = at[v]
        best_late[v] = at[v]
    for m in range(len(moves.src)):
        u = moves.src[m]
        made = at[count + moves.tensor[m]] - moves.ready[m]
        best_late[u] = max(best_late[u], made - c[u, device[u]])
    for k in range(len(arc_from) - 1, -1, -1):  # but no later than what reads it
        i, j = arc_from[k], arc_to[k]
        if i < count and j < count:
            best_late[i] = min(best_late[i], best_late[j])


@njit(cache=True, nogil=True)
def schedule(
    device: Ints,
    c: Floats,
    b: Shape,
    head: Floats,
    later: Floats,
    net: Net,
    cutoff: float,
    max_nodes: int,
    best_start: Floats,
    best_late: Floats,
) -> tuple[float, bool, int]:
    """The best schedule of the operators of a block that have devices [K] (−1: none, left out).

    `head[v, y]` and `later[v, y]` [K, D]: no earlier start, no less time from the end to the
    exit's end, in seconds. Returns (value in s, proven, nodes): inf where nothing below `cutoff`
    was found; `proven` says whether the search came to its end. `best_start` [K] gets the
    operators' starts, `best_late` [K] those that are as late as their tensors were counted ready.

    Branches on which of two activities that share a resource and overlap comes first. A transfer
    can come before another only if its tensor is ready no later; those of one producer have a
    fixed order, but where exchanging devices of one class would reverse it (`fixed_before`).
    """
    count, tensors = len(device), len(b.tprod)
    every = np.arange(count)
    moves, number, linked = moves_of(device, every, b, net)
    if not linked:
        return INF, True, 0
    base_move = count + tensors  # operators, then each tensor's readiness, then transfers
    size = base_move + len(moves.src)
    arc_from, arc_to, arc_lag, base = _arcs(device, c, b, net, moves, number)
    starts = np.empty((_DEPTH + 1, size))  # of each level; few are ever touched
    for i in range(size):
        starts[0, i] = 0.0
    tail = np.full(size, -INF)
    for v in range(count):
        if device[v] >= 0:
            starts[0, v] = head[v, device[v]]
            tail[v] = c[v, device[v]] + later[v, device[v]]
    lengthen(tail, arc_from[:base], arc_to[:base], arc_lag[:base])
    for i in range(size):
        if starts[0, i] + tail[i] >= cutoff:
            return INF, True, 0
    pair, hold = _pairs(device, c, b, net, moves)
    chosen = np.zeros(_DEPTH + 1, np.int64)  # the pair that a level branches on
    turn = np.zeros(_DEPTH + 1, np.int64)  # how many of its two orders were tried
    if not settle(starts[0], tail, cutoff, arc_from[:base], arc_to[:base], arc_lag[:base]):
        return INF, True, 0
    best = INF
    depth = 0
    nodes = 0
    proven = True
    fresh = True
    while depth >= 0:
        at = starts[depth]
        if fresh:
            nodes += 1
            worst = first_clash(at, pair, hold)
            if worst < 0 or depth + 1 >= _DEPTH:
                if worst < 0:
                    best = 0.0
                    for v in range(count):
                        if device[v] >= 0:
                            best = max(best, at[v] + tail[v])
                    cutoff = min(cutoff, best)
                    arcs_from, arcs_to = arc_from[:base], arc_to[:base]
                    _ends(at, device, c, b, moves, arcs_from, arcs_to, best_start, best_late)
                else:
                    proven = False
                depth -= 1
                fresh = False
                continue
            chosen[depth] = worst
            turn[depth] = 0
        if nodes > max_nodes:
            proven = False
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
        if i >= base_move:
            i, j = count + moves.tensor[i - base_move], count + moves.tensor[j - base_move]
        else:
            i, j = 0, 1  # the entry is before all
        arc_from[arcs + 1], arc_to[arcs + 1], arc_lag[arcs + 1] = i, j, 0.0
        arcs += 2
        now = arc_from[:arcs], arc_to[:arcs], arc_lag[:arcs]
        fresh = descend(starts, depth, tail, cutoff, *now)
        if fresh:
            depth += 1
    return best, proven, nodes
