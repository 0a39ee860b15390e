"""Compiled parts of the block search: bounds by critical paths, and branch and bound in a block.

A block is K operators in topological order. Operator 0 is its entry: it has ended at time 0 on the
device that `c` allows it. The last one is its exit: the value of a schedule is when that ends.
`c[v, y]` is inf where v may not run on y. `real[v]` is 0 for the operators that stand for the
request's entry and for its results; they cost nothing and belong to no stage.

The searches are for values below a cutoff, strictly. A schedule here may order transfers freely and
counts a stage's overhead where it cannot be avoided: it is never worse than a plan.

Imported inside functions only: importing this file loads numba.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cutset.solvers.arrays import Floats, Ints
from cutset.solvers.latency.block_arrays import Known, Net, Shape

INF = np.inf


@njit(cache=True, nogil=True)
def move_s(x: int, y: int, size: float, net: Net) -> float:
    """Seconds from "made on x" to "arrived on y", alone on the network."""
    wire, lat, send, recv = net.wire, net.lat, net.send, net.recv
    if x == y:
        return 0.0
    if wire[x, y] == INF:
        return INF
    return float(size * (send[x] + wire[x, y] + recv[y]) + lat[x, y])


@njit(cache=True, nogil=True)
def heads(c: Floats, b: Shape, known: Known, net: Net, found: Floats) -> None:
    """found[v, y] = earliest start of v on y if every operator it needs may run on any devices.

    `table[i, x, y]` is known time from the end of an operator on x to the end of another on y:
    rows `into` list them by the later operator.
    """
    real, release, in_at, in_u, in_b = b.real, b.release, b.in_at, b.in_u, b.in_b
    into_at, into_u, into_i, table = known.into_at, known.into_u, known.into_i, known.table
    ov = net.ov
    count, devices = c.shape
    for v in range(count):
        for y in range(devices):
            if c[v, y] == INF:
                found[v, y] = INF
                continue
            start = release[y] * real[v]
            extra = ov[y] * real[v]
            for k in range(in_at[v], in_at[v + 1]):
                u = in_u[k]
                best = INF
                for x in range(devices):
                    if c[u, x] == INF:
                        continue
                    at = found[u, x] + c[u, x]
                    if x != y:
                        at += move_s(x, y, in_b[k], net) + extra
                    if at < best:
                        best = at
                if best > start:
                    start = best
            for k in range(into_at[v], into_at[v + 1]):
                u = into_u[k]
                best = INF
                for x in range(devices):
                    if c[u, x] < INF:
                        best = min(best, found[u, x] + c[u, x] + table[into_i[k], x, y])
                start = max(start, best - c[v, y])
            found[v, y] = start


@njit(cache=True, nogil=True)
def tails(c: Floats, b: Shape, known: Known, net: Net, found: Floats) -> None:
    """found[v, y] = least time from the end of v on y to the end of the block's exit.

    `table` as in `heads`, rows `from` list it by the earlier operator.
    """
    real, out_at, out_w, out_b = b.real, b.out_at, b.out_w, b.out_b
    from_at, from_w, from_i, table = known.from_at, known.from_w, known.from_i, known.table
    ov = net.ov
    count, devices = c.shape
    for v in range(count - 1, -1, -1):
        for y in range(devices):
            if c[v, y] == INF:
                found[v, y] = INF
                continue
            worst = 0.0
            for k in range(out_at[v], out_at[v + 1]):
                w = out_w[k]
                best = INF
                for z in range(devices):
                    if c[w, z] == INF:
                        continue
                    at = c[w, z] + found[w, z]
                    if z != y:
                        at += move_s(y, z, out_b[k], net) + ov[z] * real[w]
                    if at < best:
                        best = at
                if best > worst:
                    worst = best
            for k in range(from_at[v], from_at[v + 1]):
                w = from_w[k]
                best = INF
                for z in range(devices):
                    if c[w, z] < INF:
                        best = min(best, table[from_i[k], y, z] + found[w, z])
                worst = max(worst, best)
            found[v, y] = worst


@njit(cache=True, nogil=True)
def narrow(
    c: Floats, b: Shape, known: Known, net: Net, cutoff: float, head: Floats, tail: Floats
) -> float:
    """Forbid in `c` what cannot be part of a schedule below `cutoff`; the bound that is left."""
    real = b.real
    count, devices = c.shape
    while True:
        heads(c, b, known, net, head)
        tails(c, b, known, net, tail)
        changed = False
        bound = 0.0
        for v in range(count):
            least = INF
            for y in range(devices):
                if c[v, y] == INF:
                    continue
                through = head[v, y] + c[v, y] + tail[v, y]
                if through >= cutoff:
                    c[v, y] = INF
                    changed = True
                elif through < least:
                    least = through
            if least == INF:
                return INF
            if least > bound:
                bound = least
        if not changed:
            break
    h, p, q = np.empty((3, count))
    for y in range(devices):
        jobs = 0
        for v in range(count):
            if real[v] > 0 and c[v, y] < INF and only(c, v):
                h[jobs], p[jobs], q[jobs] = head[v, y], c[v, y], tail[v, y]
                jobs += 1
        load = one_machine(jobs, h, p, q)
        if load >= cutoff:
            return INF
        bound = max(bound, load)
    return bound


@njit(cache=True, nogil=True)
def only(c: Floats, v: int) -> bool:
    """Whether one device is left for an operator."""
    left = 0
    for y in range(c.shape[1]):
        if c[v, y] < INF:
            left += 1
    return left == 1


@njit(cache=True, nogil=True)
def one_machine(count: int, h: Floats, p: Floats, t: Floats) -> float:
    """A lower bound on doing `count` jobs one after another: head, time, tail of each.

    For any set of jobs: the least head, all their times, the least tail. Of many jobs, only those
    up to one and those from one on are looked at; of a few, all that matter. Sorts in place.
    """
    if count > 40:
        bound = 0.0
        least, done, rest = INF, 0.0, INF
        for i in range(count):
            least, done, rest = min(least, h[i]), done + p[i], min(rest, t[i])
            bound = max(bound, least + done + rest)
        least, done, rest = INF, 0.0, INF
        for i in range(count - 1, -1, -1):
            least, done, rest = min(least, h[i]), done + p[i], min(rest, t[i])
            bound = max(bound, least + done + rest)
        return bound
    for i in range(1, count):  # by tail, longest first
        a, b, z = h[i], p[i], t[i]
        j = i - 1
        while j >= 0 and t[j] < z:
            h[j + 1], p[j + 1], t[j + 1] = h[j], p[j], t[j]
            j -= 1
        h[j + 1], p[j + 1], t[j + 1] = a, b, z
    bound = 0.0
    for i in range(count):
        done = h[i]
        for j in range(count):
            if h[j] >= h[i]:
                done += p[j]
                if done + t[j] > bound:
                    bound = done + t[j]
    return bound


@njit(cache=True, nogil=True)
def settle(
    start: Floats,
    tail: Floats,
    cutoff: float,
    arcs: int,
    arc_from: Ints,
    arc_to: Ints,
    arc_lag: Floats,
) -> bool:
    """Longest paths by passes over the arcs; False where the cutoff is reached or in a cycle."""
    for _ in range(len(start) + 2):
        changed = False
        for k in range(arcs):
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
    """The best schedule of the operators of a block that have devices (−1: none, left out).

    `head[v, y]` and `later[v, y]`: no earlier start, no less time from the end to the exit's end.
    `best_late` gets starts that are as late as an operator's tensors were counted ready.

    Returns (value, proven, nodes): inf where nothing below `cutoff` was found; `proven` says
    whether the search came to its end. `best_start` gets the operators' starts. Branches on which
    of two activities that share a resource and overlap comes first. A transfer can come before
    another only if its tensor is ready no later; those of one producer have a fixed order (time
    ready, `trank` of the tensor, `rank` of the receiver), but where exchanging devices of one class
    `kin` would reverse it.
    """
    real, in_at, in_u, tin_at, tin_t = b.real, b.in_at, b.in_u, b.tin_at, b.tin_t
    tprod, tbytes, trank, reach = b.tprod, b.tbytes, b.trank, b.reach
    wire, lat, send, recv, ov = net.wire, net.lat, net.send, net.recv, net.ov
    rank, kin, multicast = net.rank, net.kin, net.multicast
    count = len(device)
    tensors = len(tprod)
    devices = len(send)
    number = np.full((tensors, devices), -1, np.int64)
    moves = 0
    most = 0
    for v in range(count):
        most += tin_at[v + 1] - tin_at[v]
    move_t = np.empty(most, np.int64)
    move_y = np.empty(most, np.int64)
    for v in range(count):
        for k in range(tin_at[v], tin_at[v + 1]):
            t = tin_t[k]
            y = device[v]
            if y < 0 or device[tprod[t]] < 0:
                continue
            if device[tprod[t]] != y and number[t, y] < 0:
                if wire[device[tprod[t]], y] == INF:
                    return INF, True, 0
                number[t, y] = moves
                move_t[moves] = t
                move_y[moves] = y
                moves += 1
    base_move = count + tensors  # first the operators, then each tensor's readiness, then transfers
    size = base_move + moves
    start = np.zeros(size)
    span = np.zeros(size)  # how long it holds its device, link, egress, ingress
    limit = 2 * most + len(in_u) + moves * (moves + 1) + tensors + 8
    depth_limit = 400
    arc_from = np.empty(limit + 2 * depth_limit, np.int64)
    arc_to = np.empty(limit + 2 * depth_limit, np.int64)
    arc_lag = np.empty(limit + 2 * depth_limit)
    arcs = 0
    for v in range(count):
        if device[v] < 0:
            continue
        start[v] = head[v, device[v]]
        span[v] = c[v, device[v]]
        for k in range(in_at[v], in_at[v + 1]):
            if device[in_u[k]] < 0:
                continue
            arc_from[arcs], arc_to[arcs], arc_lag[arcs] = in_u[k], v, c[in_u[k], device[in_u[k]]]
            arcs += 1
        for k in range(tin_at[v], tin_at[v + 1]):
            t = tin_t[k]
            x, y = device[tprod[t]], device[v]
            if x >= 0 and x != y:
                m = number[t, y]
                span[base_move + m] = tbytes[t] * wire[x, y]
                after = span[base_move + m] + lat[x, y] + tbytes[t] * recv[y] + ov[y] * real[v]
                arc_from[arcs], arc_to[arcs], arc_lag[arcs] = base_move + m, v, after
                arcs += 1
    for t in range(tensors):
        u = tprod[t]
        if device[u] < 0:
            continue
        arc_from[arcs], arc_to[arcs] = u, count + t
        arc_lag[arcs] = c[u, device[u]] + tbytes[t] * send[device[u]]
        arcs += 1
    for m in range(moves):
        arc_from[arcs], arc_to[arcs], arc_lag[arcs] = count + move_t[m], base_move + m, 0.0
        arcs += 1
    egress = np.zeros(moves)  # how long a sender is held: in a multicast for the slowest receiver
    for m in range(moves):
        egress[m] = span[base_move + m]
        if multicast:
            for n in range(moves):
                if move_t[n] == move_t[m]:
                    egress[m] = max(egress[m], span[base_move + n])
    # Transfers of one producer: their order is fixed.
    for m in range(moves):
        for n in range(moves):
            tm, tn = move_t[m], move_t[n]
            if m == n or tprod[tm] != tprod[tn] or (multicast and tm == tn):
                continue
            if kin[move_y[m]] >= 0 and kin[move_y[m]] == kin[move_y[n]] and tm == tn:
                continue
            x = device[tprod[tm]]
            one, other = tbytes[tm] * send[x], tbytes[tn] * send[x]
            if tm == tn:
                earlier = rank[move_y[m]] < rank[move_y[n]]
            else:
                earlier = one < other or (one == other and trank[tm] < trank[tn])
            if earlier:
                arc_from[arcs], arc_to[arcs] = base_move + m, base_move + n
                arc_lag[arcs] = egress[m]
                arcs += 1
    tail = np.full(size, -INF)
    for v in range(count):
        if device[v] >= 0:
            tail[v] = c[v, device[v]] + later[v, device[v]]
    for _ in range(size + 1):
        changed = False
        for k in range(arcs):
            value = tail[arc_to[k]] + arc_lag[k]
            if value > tail[arc_from[k]]:
                tail[arc_from[k]] = value
                changed = True
        if not changed:
            break
    for i in range(size):
        if start[i] + tail[i] >= cutoff:
            return INF, True, 0
    # Pairs that may not overlap, and how long each holds what they share.
    room = 64
    pair = np.empty((room, 2), np.int64)
    hold = np.empty((room, 2))
    pairs = 0
    for i in range(size):
        for j in range(i + 1, size):
            one, other = 0.0, 0.0
            clash = False
            if i < count and j < count:
                if (
                    device[i] >= 0
                    and device[i] == device[j]
                    and real[i] > 0
                    and real[j] > 0
                    and not reach[i, j]
                ):
                    clash, one, other = True, span[i], span[j]
            elif i >= base_move and j >= base_move:
                m, n = i - base_move, j - base_move
                tm, tn = move_t[m], move_t[n]
                if tprod[tm] != tprod[tn]:
                    if move_y[m] == move_y[n]:
                        clash, one, other = True, span[i], span[j]
                    if device[tprod[tm]] == device[tprod[tn]]:
                        clash, one, other = True, egress[m], egress[n]
                elif tm == tn and not multicast:
                    clash = kin[move_y[m]] >= 0 and kin[move_y[m]] == kin[move_y[n]]
                    one, other = span[i], span[j]
            if clash:
                if pairs == room:
                    wider = np.empty((2 * room, 2), np.int64)
                    wider[:room] = pair
                    pair = wider
                    longer = np.empty((2 * room, 2))
                    longer[:room] = hold
                    hold = longer
                    room *= 2
                pair[pairs, 0], pair[pairs, 1] = i, j
                hold[pairs, 0], hold[pairs, 1] = one, other
                pairs += 1
    starts = np.zeros((2, size))
    starts[0] = start
    chosen = np.zeros(depth_limit + 1, np.int64)  # the pair that a level branches on
    turn = np.zeros(depth_limit + 1, np.int64)  # how many of its two orders were tried
    base = arcs
    if not settle(starts[0], tail, cutoff, arcs, arc_from, arc_to, arc_lag):
        return INF, True, 0
    best = INF
    depth = 0
    nodes = 0
    proven = True
    fresh = True
    while depth >= 0:
        if fresh:
            nodes += 1
            at = starts[depth]
            worst = -1
            when = INF
            for k in range(pairs):
                i, j = pair[k, 0], pair[k, 1]
                if at[i] < at[j] + hold[k, 1] and at[j] < at[i] + hold[k, 0]:
                    early = max(at[i], at[j])
                    if early < when:
                        worst, when = k, early
            if worst < 0:
                best = 0.0
                for v in range(count):
                    if device[v] >= 0:
                        best = max(best, at[v] + tail[v])
                cutoff = min(cutoff, best)
                for v in range(count):
                    best_start[v] = at[v]
                    best_late[v] = at[v]
                for m in range(moves):
                    u = tprod[move_t[m]]
                    made = at[count + move_t[m]] - tbytes[move_t[m]] * send[device[u]]
                    best_late[u] = max(best_late[u], made - span[u])
                for k in range(base):  # but no later than what reads it
                    i, j = arc_from[base - 1 - k], arc_to[base - 1 - k]
                    if i < count and j < count:
                        best_late[i] = min(best_late[i], best_late[j])
                depth -= 1
                fresh = False
                continue
            if depth + 1 >= depth_limit:
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
        at = starts[depth]
        k = chosen[depth]
        i, j = pair[k, 0], pair[k, 1]
        one = hold[k, 0]
        # the order that delays less comes first
        swap = at[j] + hold[k, 1] - at[i] < at[i] + hold[k, 0] - at[j]
        if at[i] + tail[i] < at[j] + tail[j] and at[i] == at[j]:
            swap = True
        if turn[depth] == 1:
            swap = not swap
        if swap:
            i, j = j, i
            one = hold[k, 1]
        turn[depth] += 1
        arcs = base + 2 * depth
        arc_from[arcs], arc_to[arcs], arc_lag[arcs] = i, j, one
        if i >= base_move:
            i, j = count + move_t[i - base_move], count + move_t[j - base_move]
        else:
            i, j = 0, 1  # the entry is before all
        arc_from[arcs + 1], arc_to[arcs + 1], arc_lag[arcs + 1] = i, j, 0.0
        if depth + 1 >= len(starts):
            grown = np.zeros((2 * len(starts), size))
            grown[: len(starts)] = starts
            starts = grown
        starts[depth + 1] = starts[depth]
        fresh = settle(starts[depth + 1], tail, cutoff, arcs + 2, arc_from, arc_to, arc_lag)
        if fresh:
            depth += 1
    return best, proven, nodes


@njit(cache=True, nogil=True)
def stage_order(label: Ints, stages: int, device: Ints, b: Shape, rank_of: Ints) -> bool:
    """rank_of[s] = place of stage s in a topological order; False where the stages form a cycle."""
    in_at, in_u = b.in_at, b.in_u
    count = len(label)
    waiting = np.zeros((stages, stages), np.bool_)
    for v in range(count):
        for k in range(in_at[v], in_at[v + 1]):
            if label[in_u[k]] != label[v]:
                waiting[label[v], label[in_u[k]]] = True
    placed = np.zeros(stages, np.bool_)
    for place in range(stages):
        chosen = -1
        for s in range(stages):
            if placed[s]:
                continue
            free = True
            for r in range(stages):
                if waiting[s, r] and not placed[r]:
                    free = False
                    break
            if free:
                chosen = s
                break
        if chosen < 0:
            return False
        placed[chosen] = True
        rank_of[chosen] = place
    return True


@njit(cache=True, nogil=True)
def fifo(
    stages: int,
    sdev: Ints,
    sdur: Floats,
    queue: Ints,
    sink_stage: int,
    moves: int,
    msrc: Ints,
    mdst: Ints,
    mtensor: Ints,
    my: Ints,
    mready: Floats,
    mspan: Floats,
    mafter: Floats,
    reads: int,
    reads_move: Ints,
    reads_stage: Ints,
    waits: int,
    waits_from: Ints,
    trank: Ints,
    rank: Ints,
    multicast: bool,
    devices: int,
) -> float:
    """When the exit has ended, as the evaluator counts: transfers take turns by time ready.

    `queue` lists the stages in the plan's order, stage 0 (the entry) first. `sink_stage` is the
    stage that stands for the results, or −1. mready: seconds from the source stage's end to ready;
    mspan: how long it holds links; mafter: from the end of that to its arrival.
    """
    place = np.empty(stages, np.int64)
    for k in range(stages):
        place[queue[k]] = k
    awaited = np.zeros(stages, np.int64)
    arrived = np.zeros(stages)
    for k in range(reads):
        awaited[reads_stage[k]] += 1
    done = np.zeros(stages, np.bool_)
    end = np.zeros(stages)
    ready = np.full(moves, INF)
    taken = np.zeros(moves, np.bool_)
    free = np.zeros(devices)
    egress = np.zeros(devices)
    ingress = np.zeros(devices)
    done[0] = True
    end[0] = sdur[0]
    free[sdev[0]] = sdur[0]
    for m in range(moves):
        if msrc[m] == 0:
            ready[m] = end[0] + mready[m]
    blocked = np.zeros(devices, np.bool_)
    while True:
        progress = True
        while progress:
            progress = False
            blocked[:] = False
            for k in range(stages):
                s = queue[k]
                if done[s] or s == sink_stage or blocked[sdev[s]]:
                    continue
                if awaited[s] > 0:
                    blocked[sdev[s]] = True
                    continue
                done[s] = True
                end[s] = max(free[sdev[s]], arrived[s]) + sdur[s]
                free[sdev[s]] = end[s]
                for m in range(moves):
                    if msrc[m] == s:
                        ready[m] = end[s] + mready[m]
                progress = True
        next_m = -1
        for m in range(moves):
            if taken[m] or ready[m] == INF:
                continue
            if next_m < 0:
                next_m = m
                continue
            n = next_m
            if ready[m] != ready[n]:
                better = ready[m] < ready[n]
            elif place[msrc[m]] != place[msrc[n]]:
                better = place[msrc[m]] < place[msrc[n]]
            elif mtensor[m] != mtensor[n]:
                better = trank[mtensor[m]] < trank[mtensor[n]]
            else:
                better = rank[my[m]] < rank[my[n]]
            if better:
                next_m = m
        if next_m < 0:
            break
        x = sdev[msrc[next_m]]
        start = max(ready[next_m], egress[x])
        slowest = 0.0
        for m in range(moves):
            if m == next_m or (multicast and mtensor[m] == mtensor[next_m]):
                start = max(start, ingress[my[m]])
                slowest = max(slowest, mspan[m])
        for m in range(moves):
            if m == next_m or (multicast and mtensor[m] == mtensor[next_m]):
                taken[m] = True
                ingress[my[m]] = start + mspan[m]
                for k in range(reads):
                    if reads_move[k] == m:
                        s = reads_stage[k]
                        awaited[s] -= 1
                        arrived[s] = max(arrived[s], start + mspan[m] + mafter[m])
        egress[x] = start + slowest
    for s in range(stages):
        if s != sink_stage and not done[s]:
            return INF
    if sink_stage < 0:
        return float(end[stages - 1])
    value = arrived[sink_stage]
    for k in range(waits):
        value = max(value, end[waits_from[k]])
    return float(value)


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

    `label[v]` is the operator's stage: 0 is that of the entry, which pays no overhead, stages - 1
    that of the exit. A value is the evaluator's for the order of the stages found; where it is
    above what the search counted (transfers ready in another order than assumed), or a limit
    ended the search, that lower value is the open bound. With `given` (starts of the operators)
    only that order is scored. best_place[v] = place of the operator's stage in the plan.
    """
    real, tin_at, tin_t, tprod, tbytes = b.real, b.tin_at, b.tin_t, b.tprod, b.tbytes
    trank, reach = b.trank, b.reach
    wire, lat, send, recv, ov = net.wire, net.lat, net.send, net.recv, net.ov
    rank, kin, multicast = net.rank, net.kin, net.multicast
    count = len(device)
    tensors = len(tprod)
    devices = len(send)
    topo = np.empty(stages, np.int64)
    if not stage_order(label, stages, device, b, topo):
        return INF, INF, 0
    sdev = np.zeros(stages, np.int64)
    sdur = np.zeros(stages)
    sreal = np.zeros(stages)
    for v in range(count):
        s = label[v]
        if sreal[s] == 0 and real[v] > 0 and s > 0:
            sdur[s] += ov[device[v]]
            sreal[s] = 1.0
        sdev[s] = device[v]
        sdur[s] += c[v, device[v]]
    sreal[0] = 0.0
    exit_ = stages - 1
    sink_stage = exit_ if real[count - 1] == 0 else -1
    number = np.full((tensors, devices), -1, np.int64)
    most = len(tin_t)
    msrc = np.empty(most, np.int64)
    mtensor = np.empty(most, np.int64)
    my = np.empty(most, np.int64)
    mready = np.empty(most)
    mspan = np.empty(most)
    mafter = np.empty(most)
    reads_move = np.empty(most, np.int64)
    reads_stage = np.empty(most, np.int64)
    waits_from = np.empty(most, np.int64)
    moves, reads, waits = 0, 0, 0
    local = np.empty((most, 2), np.int64)  # stages of one device that read from each other
    locals_ = 0
    for v in range(count):
        y = device[v]
        for k in range(tin_at[v], tin_at[v + 1]):
            t = tin_t[k]
            u = tprod[t]
            x = device[u]
            if x == y:
                if label[u] != label[v]:
                    local[locals_, 0], local[locals_, 1] = label[u], label[v]
                    locals_ += 1
                    if label[v] == sink_stage:
                        waits_from[waits] = label[u]
                        waits += 1
                continue
            m = number[t, y]
            if m < 0:
                if wire[x, y] == INF:
                    return INF, INF, 0
                m = moves
                number[t, y] = m
                msrc[m], mtensor[m], my[m] = label[u], t, y
                mready[m] = tbytes[t] * send[x]
                mspan[m] = tbytes[t] * wire[x, y]
                mafter[m] = lat[x, y] + tbytes[t] * recv[y]
                moves += 1
            new = True
            for r in range(reads):
                if reads_move[r] == m and reads_stage[r] == label[v]:
                    new = False
                    break
            if new:
                reads_move[reads], reads_stage[reads] = m, label[v]
                reads += 1
    size = stages + moves
    depth_limit = 200
    limit = locals_ + reads + moves * (moves + 1) + 2 * depth_limit + 2
    arc_from = np.empty(limit, np.int64)
    arc_to = np.empty(limit, np.int64)
    arc_lag = np.empty(limit)
    arcs = locals_
    for k in range(locals_):
        arc_from[k], arc_to[k], arc_lag[k] = local[k, 0], local[k, 1], sdur[local[k, 0]]
    for m in range(moves):
        arc_from[arcs], arc_to[arcs] = msrc[m], stages + m
        arc_lag[arcs] = sdur[msrc[m]] + mready[m]
        arcs += 1
    for r in range(reads):
        m = reads_move[r]
        arc_from[arcs], arc_to[arcs] = stages + m, reads_stage[r]
        arc_lag[arcs] = mspan[m] + mafter[m]
        arcs += 1
    queue = np.empty(stages, np.int64)
    if len(given) > 0:
        at = np.zeros(stages)
        for v in range(count):
            at[label[v]] = max(at[label[v]], given[v])
        sort_stages(at, sdur, topo, queue)
        value = fifo(
            stages,
            sdev,
            sdur,
            queue,
            sink_stage,
            moves,
            msrc,
            my,
            mtensor,
            my,
            mready,
            mspan,
            mafter,
            reads,
            reads_move,
            reads_stage,
            waits,
            waits_from,
            trank,
            rank,
            multicast,
            devices,
        )
        for k in range(stages):
            for v in range(count):
                if label[v] == queue[k]:
                    best_place[v] = k
        return value, INF, 1
    egress = np.empty(moves)
    for m in range(moves):
        egress[m] = mspan[m]
        if multicast:
            for n in range(moves):
                if mtensor[n] == mtensor[m]:
                    egress[m] = max(egress[m], mspan[n])
    for m in range(moves):
        for n in range(moves):
            tm, tn = mtensor[m], mtensor[n]
            if m == n or msrc[m] != msrc[n] or (multicast and tm == tn):
                continue
            if tm == tn and kin[my[m]] >= 0 and kin[my[m]] == kin[my[n]]:
                continue
            if tm == tn:
                earlier = rank[my[m]] < rank[my[n]]
            else:
                earlier = mready[m] < mready[n] or (
                    mready[m] == mready[n] and trank[tm] < trank[tn]
                )
            if earlier:
                arc_from[arcs], arc_to[arcs] = stages + m, stages + n
                arc_lag[arcs] = egress[m]
                arcs += 1
    start = np.zeros(size)
    tail = np.full(size, -INF)
    tail[exit_] = sdur[exit_]
    for _ in range(size + 1):
        changed = False
        for k in range(arcs):
            value = tail[arc_to[k]] + arc_lag[k]
            if value > tail[arc_from[k]]:
                tail[arc_from[k]] = value
                changed = True
        if not changed:
            break
    for i in range(size):
        if tail[i] >= cutoff:
            return INF, INF, 0
    linked = np.zeros((stages, stages), np.bool_)
    for u in range(count):
        for v in range(count):
            if reach[u, v] and label[u] != label[v]:
                linked[label[u], label[v]] = True
    pair = np.empty((size * (size - 1) // 2 + 1, 2), np.int64)
    hold = np.empty((len(pair), 2))
    pairs = 0
    for i in range(size):
        for j in range(i + 1, size):
            one, other = 0.0, 0.0
            clash = False
            if i < stages and j < stages:
                if sdev[i] == sdev[j] and sreal[i] > 0 and sreal[j] > 0:
                    clash = not (linked[i, j] or linked[j, i])
                    one, other = sdur[i], sdur[j]
            elif i >= stages:
                m, n = i - stages, j - stages
                if msrc[m] != msrc[n]:
                    if my[m] == my[n]:
                        clash, one, other = True, mspan[m], mspan[n]
                    if sdev[msrc[m]] == sdev[msrc[n]]:
                        clash, one, other = True, egress[m], egress[n]
                elif mtensor[m] == mtensor[n] and not multicast:
                    clash = kin[my[m]] >= 0 and kin[my[m]] == kin[my[n]]
                    one, other = mspan[m], mspan[n]
            if clash:
                pair[pairs, 0], pair[pairs, 1] = i, j
                hold[pairs, 0], hold[pairs, 1] = one, other
                pairs += 1
    # The entry's stage ends before any other begins on its device.
    for s in range(1, stages):
        if sreal[s] > 0 and sdev[s] == sdev[0]:
            start[s] = sdur[0]
    starts = np.zeros((2, size))
    starts[0] = start
    chosen = np.zeros(depth_limit + 1, np.int64)
    turn = np.zeros(depth_limit + 1, np.int64)
    base = arcs
    if not settle(starts[0], tail, cutoff, arcs, arc_from, arc_to, arc_lag):
        return INF, INF, 0
    best, open_ = INF, INF
    depth, nodes = 0, 0
    fresh = True
    while depth >= 0:
        at = starts[depth]
        if fresh:
            nodes += 1
            worst = -1
            when = INF
            for k in range(pairs):
                i, j = pair[k, 0], pair[k, 1]
                if at[i] < at[j] + hold[k, 1] and at[j] < at[i] + hold[k, 0]:
                    early = max(at[i], at[j])
                    if early < when:
                        worst, when = k, early
            if worst < 0 or depth + 1 >= depth_limit:
                counted = at[exit_] + sdur[exit_]
                sort_stages(at, sdur, topo, queue)
                value = fifo(
                    stages,
                    sdev,
                    sdur,
                    queue,
                    sink_stage,
                    moves,
                    msrc,
                    my,
                    mtensor,
                    my,
                    mready,
                    mspan,
                    mafter,
                    reads,
                    reads_move,
                    reads_stage,
                    waits,
                    waits_from,
                    trank,
                    rank,
                    multicast,
                    devices,
                )
                if value < best:
                    best = value
                    for k in range(stages):
                        for v in range(count):
                            if label[v] == queue[k]:
                                best_place[v] = k
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
                    open_ = min(open_, starts[k][exit_] + sdur[exit_])
            break
        if turn[depth] == 2:
            depth -= 1
            fresh = False
            continue
        k = chosen[depth]
        i, j = pair[k, 0], pair[k, 1]
        one = hold[k, 0]
        swap = at[j] + hold[k, 1] - at[i] < at[i] + hold[k, 0] - at[j]
        if at[i] + tail[i] < at[j] + tail[j] and at[i] == at[j]:
            swap = True
        if turn[depth] == 1:
            swap = not swap
        if swap:
            i, j = j, i
            one = hold[k, 1]
        turn[depth] += 1
        arcs = base + 2 * depth
        arc_from[arcs], arc_to[arcs], arc_lag[arcs] = i, j, one
        arc_from[arcs + 1], arc_to[arcs + 1], arc_lag[arcs + 1] = 0, exit_, 0.0
        if i >= stages:  # only what is ready no later comes first
            m, n = i - stages, j - stages
            arc_from[arcs + 1], arc_to[arcs + 1] = msrc[m], msrc[n]
            arc_lag[arcs + 1] = sdur[msrc[m]] + mready[m] - sdur[msrc[n]] - mready[n]
            if msrc[m] == msrc[n]:
                arc_lag[arcs + 1] = 0.0
        if depth + 1 >= len(starts):
            grown = np.zeros((2 * len(starts), size))
            grown[: len(starts)] = starts
            starts = grown
        starts[depth + 1] = starts[depth]
        fresh = settle(starts[depth + 1], tail, cutoff, arcs + 2, arc_from, arc_to, arc_lag)
        if fresh:
            depth += 1
    return best, open_, nodes


@njit(cache=True, nogil=True)
def sort_stages(at: Floats, sdur: Floats, topo: Ints, queue: Ints) -> None:
    """Stages by start, then end, then topological order; the entry's first."""
    for s in range(len(queue)):
        k = s
        while k > 1 or (k == 1 and queue[0] != 0):
            r = queue[k - 1]
            if at[s] != at[r]:
                before = at[s] < at[r]
            elif sdur[s] != sdur[r]:
                before = at[s] + sdur[s] < at[r] + sdur[r]
            else:
                before = topo[s] < topo[r]
            if not before:
                break
            queue[k] = r
            k -= 1
        queue[k] = s


@njit(cache=True, nogil=True)
def realise(
    device: Ints,
    b: Shape,
    c: Floats,
    net: Net,
    tail: Floats,
    cutoff: float,
    bound: float,
    max_tries: int,
    best_label: Ints,
    best_place: Ints,
) -> tuple[float, float, int]:
    """The best stages for operators that have devices: (value, open bound, tries).

    Every operator begins a stage or joins one on its device, such that stages stay convex; what is
    tried first has fewer overheads. `bound` is known for all of them.
    """
    first, real, in_at, in_u, in_b = b.first, b.real, b.in_at, b.in_u, b.in_b
    reach = b.reach
    ov = net.ov
    count = len(device)
    label = np.zeros(count, np.int64)
    option = np.full(count + 1, -2, np.int64)  # stage joined; -1: a new one; -2: none tried yet
    stages_at = np.zeros(count + 1, np.int64)  # stages before the operator is placed
    stage_end = np.zeros((count + 1, count + 1))
    stage_work = np.zeros((count + 1, count + 1))
    place = np.zeros(count, np.int64)
    nothing = np.empty(0)
    paid = False
    for y in range(len(ov)):
        if ov[y] > 0:
            paid = True
    best, open_ = INF, INF
    tries = 0
    stages_at[1] = 1
    v = 1
    option[1] = -2
    while v > 0:
        if tries > max_tries:
            open_ = min(open_, bound)
            break
        y = device[v]
        n = stages_at[v]
        # Options in order: with overheads, the newest stage first and a new one at the end.
        if paid:
            nxt = n - 1 if option[v] == -2 else option[v] - 1
            if option[v] == -1:
                nxt = -2
        else:
            nxt = -1 if option[v] == -2 else option[v] + 1
            if nxt >= n:
                nxt = -2
        found = False
        while nxt != -2:
            if nxt == -1:
                found = True
                break
            fits = real[v] > 0 and (nxt > 0 or not first)
            if fits:
                some = nxt == 0 and device[0] == y
                for u in range(1, v):
                    if label[u] == nxt:
                        some = device[u] == y
                fits = some
            if fits:  # no path that leaves the stage and comes back
                for u in range(1, v):
                    if label[u] != nxt and reach[u, v]:
                        for w in range(u):
                            if label[w] == nxt and reach[w, u]:
                                fits = False
                                break
                    if not fits:
                        break
            if fits:
                found = True
                break
            if paid:
                nxt -= 1
            else:
                nxt += 1
                if nxt >= n:
                    nxt = -2
        if not found:
            option[v] = -2
            v -= 1
            continue
        option[v] = nxt
        s = n if nxt == -1 else nxt
        label[v] = s
        stage_end[v + 1] = stage_end[v]
        stage_work[v + 1] = stage_work[v]
        if nxt == -1:
            stage_work[v + 1, s] = ov[y] * real[v] if s > 0 else 0.0
            stage_end[v + 1, s] = stage_work[v + 1, s]
        before = stage_end[v + 1, s]
        begin = 0.0
        local = before
        for k in range(in_at[v], in_at[v + 1]):
            u = in_u[k]
            if label[u] == s:
                continue
            at = stage_end[v, label[u]]
            if device[u] != y:
                at += move_s(device[u], y, in_b[k], net)
            begin = max(begin, at)
        done = max(local, begin + stage_work[v + 1, s]) + c[v, y]
        stage_work[v + 1, s] += c[v, y]
        stage_end[v + 1, s] = done
        if done + tail[v, y] >= cutoff:
            tries += 1 if v > count - 3 else 0
            continue
        stages_at[v + 1] = n + 1 if nxt == -1 else n
        if v < count - 1:
            v += 1
            option[v] = -2
            continue
        tries += 1
        stages = stages_at[v + 1]
        # The exit's stage gets the last number.
        shown = np.empty(count, np.int64)
        for w in range(count):
            if label[w] == label[count - 1]:
                shown[w] = stages - 1
            elif label[w] > label[count - 1]:
                shown[w] = label[w] - 1
            else:
                shown[w] = label[w]
        if label[count - 1] == 0 and stages > 1:
            continue  # the entry's stage holds the exit, so it holds all
        value, left, nodes = schedule_stages(
            shown, stages, device, c, b, net, cutoff, 500, nothing, place
        )
        tries += nodes // 8
        open_ = min(open_, left)
        if value < best:
            best = value
            best_label[:] = shown
            best_place[:] = place
            cutoff = min(cutoff, value)
            if best <= bound * (1 + 1e-12):
                open_ = INF
                break
    return best, open_, tries


@njit(cache=True, nogil=True)
def leaf(
    device: Ints,
    b: Shape,
    free: bool,
    c: Floats,
    net: Net,
    head: Floats,
    tail: Floats,
    cutoff: float,
    least: float,
    best_label: Ints,
    best_place: Ints,
) -> tuple[float, float, int]:
    """The best stages for devices of all operators: (value, open bound, work), as `realise`.

    `least` is known of them. Where stages cost nothing (`free`) and the best schedule of single
    operators is what the evaluator makes of it, stages need not be tried.
    """
    count = len(device)
    starts = np.empty(count)
    late = np.empty(count)
    label = np.empty(count, np.int64)
    place = np.empty(count, np.int64)
    value, proven, taken = schedule(device, c, b, head, tail, net, cutoff, 3000, starts, late)
    work = 1 + taken // 4
    if value >= cutoff:
        return INF, INF if proven else least, work
    relaxed = value if proven else least
    found = INF
    if free:  # every operator a stage, in the order of that schedule
        for w in range(count):
            label[w] = w
        found, _, _ = schedule_stages(label, count, device, c, b, net, INF, 0, starts, place)
        best_label[:] = label
        best_place[:] = place
        if found > relaxed * (1 + 1e-12):
            later, _, _ = schedule_stages(label, count, device, c, b, net, INF, 0, late, place)
            if later < found:
                found = later
                best_place[:] = place
    if found <= relaxed * (1 + 1e-12):
        return found, INF, work
    staged, left, tries = realise(
        device,
        b,
        c,
        net,
        tail,
        min(cutoff, found),
        relaxed,
        20_000 if count < 20 else 30,
        label,
        place,
    )
    if staged < found:
        found = staged
        best_label[:] = label
        best_place[:] = place
    return found, max(left, relaxed), work + tries


@njit(cache=True, nogil=True)
def alike_here(c: Floats, y: int, z: int) -> bool:
    """Whether two devices are allowed to the same operators at the same times."""
    return np.array_equal(c[:, y], c[:, z])


@njit(cache=True, nogil=True)
def probe(
    levels: Floats,
    done: Ints,
    b: Shape,
    known: Known,
    net: Net,
    cutoff: float,
    max_nodes: int,
    state: Floats,
    best_device: Ints,
    best_label: Ints,
    best_place: Ints,
) -> float:
    """Search by narrowing, in pieces: fix the heaviest operator on its best device, then forbid it.

    `state` = [depth + 1, finished, best value, least bound of what a limit left out]; call again
    until state[1] is 1. `kin[y]` numbers classes of devices that are alike. `levels[k]` are the
    compute times allowed at depth k; `done[k]`: 0 not looked at, or 1 + the number of branches
    taken, then the operator and its device. Every bound is that of `narrow`; of the operators that
    have one device left, the best schedule must be below the cutoff as well.
    """
    ov, kin = net.ov, net.kin
    count, devices = levels.shape[1], levels.shape[2]
    depth = int(state[0]) - 1
    best = state[2]
    cutoff = min(cutoff, best)
    head = np.empty((count, devices))
    tail = np.empty((count, devices))
    device = np.empty(count, np.int64)
    starts = np.empty(count)
    label = np.empty(count, np.int64)
    place = np.empty(count, np.int64)
    free = True
    for y in range(devices):
        if ov[y] > 0:
            free = False
    nodes = 0
    while depth >= 0 and nodes < max_nodes:
        c = levels[depth]
        if done[depth, 0] == 2:
            done[depth, 0] = 0
            depth -= 1
            continue
        if done[depth, 0] == 1:  # the second branch: not on that device, nor on one like it
            v, y = done[depth, 1], done[depth, 2]
            done[depth, 0] = 2
            below = levels[depth + 1]
            below[:] = c
            for z in range(devices):
                if z == y or (kin[y] >= 0 and kin[z] == kin[y] and alike_here(c, y, z)):
                    below[v, z] = INF
            depth += 1
            done[depth, 0] = 0
            continue
        nodes += 1
        bound = narrow(c, b, known, net, cutoff, head, tail)
        if bound >= cutoff:
            depth -= 1
            continue
        open_ = 0
        chosen = -1
        weight = -1.0
        for v in range(count):
            device[v] = -1
            if only(c, v):
                device[v] = np.argmin(c[v])
                continue
            open_ += 1
            through, lightest = INF, INF
            for y in range(devices):
                if c[v, y] < INF:
                    through = min(through, head[v, y] + c[v, y] + tail[v, y])
                    lightest = min(lightest, c[v, y])
            if through >= bound * (1 - 1e-9):
                lightest += cutoff
            if lightest > weight:
                weight, chosen = lightest, v
        if open_ == 0:
            value, left, work = leaf(
                device, b, free, c, net, head, tail, cutoff, bound, label, place
            )
            nodes += work
            state[3] = min(state[3], left)
            if value < cutoff:
                cutoff = best = value
                best_device[:] = device
                best_label[:] = label
                best_place[:] = place
            depth -= 1
            continue
        value, proven, taken = schedule(device, c, b, head, tail, net, cutoff, 100, starts, starts)
        nodes += taken // 4
        if proven and value >= cutoff:
            depth -= 1
            continue
        if depth + 1 >= len(levels):  # no room to go deeper
            state[3] = min(state[3], bound)
            depth -= 1
            continue
        y = -1
        through = INF
        for z in range(devices):
            if c[chosen, z] < INF and head[chosen, z] + c[chosen, z] + tail[chosen, z] < through:
                y = z
                through = head[chosen, z] + c[chosen, z] + tail[chosen, z]
        done[depth, 0], done[depth, 1], done[depth, 2] = 1, chosen, y
        below = levels[depth + 1]
        below[:] = c
        for z in range(devices):
            if z != y:
                below[chosen, z] = INF
        depth += 1
        done[depth, 0] = 0
    state[0] = depth + 1
    state[1] = 1.0 if depth < 0 else 0.0
    state[2] = best
    return cutoff
