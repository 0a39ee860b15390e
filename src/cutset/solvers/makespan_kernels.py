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

INF = np.inf


@njit(cache=True, nogil=True)
def move_s(x, y, size, wire, lat, send, recv):
    """Seconds from "made on x" to "arrived on y", alone on the network."""
    if x == y:
        return 0.0
    if wire[x, y] == INF:
        return INF
    return size * (send[x] + wire[x, y] + recv[y]) + lat[x, y]


@njit(cache=True, nogil=True)
def heads(c, real, release, in_at, in_u, in_b, wire, lat, send, recv, ov, found):
    """found[v, y] = earliest start of v on y if every operator it needs may run on any devices."""
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
                        at += move_s(x, y, in_b[k], wire, lat, send, recv) + extra
                    if at < best:
                        best = at
                if best > start:
                    start = best
            found[v, y] = start


@njit(cache=True, nogil=True)
def tails(c, real, out_at, out_w, out_b, wire, lat, send, recv, ov, found):
    """found[v, y] = least time from the end of v on y to the end of the block's exit."""
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
                        at += move_s(y, z, out_b[k], wire, lat, send, recv) + ov[z] * real[w]
                    if at < best:
                        best = at
                if best > worst:
                    worst = best
            found[v, y] = worst


@njit(cache=True, nogil=True)
def narrow(
    c, real, release, in_at, in_u, in_b, out_at, out_w, out_b, wire, lat, send, recv, ov, cutoff,
    head, tail,
):  # fmt: skip
    """Forbid in `c` what cannot be part of a schedule below `cutoff`; the bound that is left."""
    count, devices = c.shape
    while True:
        heads(c, real, release, in_at, in_u, in_b, wire, lat, send, recv, ov, head)
        tails(c, real, out_at, out_w, out_b, wire, lat, send, recv, ov, tail)
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
            return bound


@njit(cache=True, nogil=True)
def one_machine(count, h, p, t):
    """A lower bound on doing `count` jobs one after another: head, time, tail of each.

    For any set of jobs: the least head, all their times, the least tail. Sorts in place.
    """
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
def settle(start, tail, cutoff, arcs, arc_from, arc_to, arc_lag):
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
    device, c, real, release, in_at, in_u, tin_at, tin_t, tprod, tbytes, trank, reach,
    wire, lat, send, recv, ov, rank, kin, multicast, cutoff, max_nodes, best_start,
):  # fmt: skip
    """The best schedule of a block whose operators have devices.

    Returns (value, proven, nodes): inf where nothing below `cutoff` was found; `proven` says
    whether the search came to its end. `best_start` gets the operators' starts. Branches on which
    of two activities that share a resource and overlap comes first. A transfer can come before
    another only if its tensor is ready no later; those of one producer have a fixed order (time
    ready, `trank` of the tensor, `rank` of the receiver), but where exchanging devices of one class
    `kin` would reverse it.
    """
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
        start[v] = release[device[v]] * real[v]
        span[v] = c[v, device[v]]
        for k in range(in_at[v], in_at[v + 1]):
            arc_from[arcs], arc_to[arcs], arc_lag[arcs] = in_u[k], v, c[in_u[k], device[in_u[k]]]
            arcs += 1
        for k in range(tin_at[v], tin_at[v + 1]):
            t = tin_t[k]
            m = number[t, device[v]]
            x, y = device[tprod[t]], device[v]
            if x != y:
                span[base_move + m] = tbytes[t] * wire[x, y]
                after = span[base_move + m] + lat[x, y] + tbytes[t] * recv[y] + ov[y] * real[v]
                arc_from[arcs], arc_to[arcs], arc_lag[arcs] = base_move + m, v, after
                arcs += 1
    for t in range(tensors):
        u = tprod[t]
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
            a, b = tbytes[tm] * send[x], tbytes[tn] * send[x]
            if tm == tn:
                earlier = rank[move_y[m]] < rank[move_y[n]]
            else:
                earlier = a < b or (a == b and trank[tm] < trank[tn])
            if earlier:
                arc_from[arcs], arc_to[arcs] = base_move + m, base_move + n
                arc_lag[arcs] = egress[m]
                arcs += 1
    last = count - 1
    tail = np.full(size, -INF)
    tail[last] = c[last, device[last]]
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
            a, b = 0.0, 0.0
            clash = False
            if i < count and j < count:
                if device[i] == device[j] and real[i] > 0 and real[j] > 0 and not reach[i, j]:
                    clash, a, b = True, span[i], span[j]
            elif i >= base_move and j >= base_move:
                m, n = i - base_move, j - base_move
                tm, tn = move_t[m], move_t[n]
                if tprod[tm] != tprod[tn]:
                    if move_y[m] == move_y[n]:
                        clash, a, b = True, span[i], span[j]
                    if device[tprod[tm]] == device[tprod[tn]]:
                        clash, a, b = True, egress[m], egress[n]
                elif tm == tn and not multicast:
                    clash = kin[move_y[m]] >= 0 and kin[move_y[m]] == kin[move_y[n]]
                    a, b = span[i], span[j]
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
                hold[pairs, 0], hold[pairs, 1] = a, b
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
                best = at[last] + c[last, device[last]]
                cutoff = min(cutoff, best)
                for v in range(count):
                    best_start[v] = at[v]
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
        a = hold[k, 0]
        # the order that delays less comes first
        swap = at[j] + hold[k, 1] - at[i] < at[i] + hold[k, 0] - at[j]
        if at[i] + tail[i] < at[j] + tail[j] and at[i] == at[j]:
            swap = True
        if turn[depth] == 1:
            swap = not swap
        if swap:
            i, j = j, i
            a = hold[k, 1]
        turn[depth] += 1
        arcs = base + 2 * depth
        arc_from[arcs], arc_to[arcs], arc_lag[arcs] = i, j, a
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
def search(
    c, real, release, in_at, in_u, in_b, tin_at, tin_t, tprod, tbytes, trank, reach,
    wire, lat, send, recv, ov, rank, kin, multicast, tail, cutoff, max_nodes,
    state, place, order, options, device, end, used, best_device, best_start,
):  # fmt: skip
    """Depth-first search over the operators' devices, in pieces of `max_nodes`.

    `state` = [depth, finished, best value, least bound of what a limit left out]; `place`, `order`,
    `options`, `device`, `end`, `used` are the search's position. `kin[y]` numbers classes of
    devices that are alike: of those not yet used, only the first is tried. Call again until
    state[1] is 1.
    """
    count, devices = c.shape
    depth = int(state[0])
    best = state[2]
    if best < cutoff:
        cutoff = best
    nodes = 0
    h = np.empty(2 * count + len(tin_t))
    p = np.empty(2 * count + len(tin_t))
    q = np.empty(2 * count + len(tin_t))
    starts = np.empty(count)
    at_y = np.empty(devices)
    while depth > 0:
        if nodes >= max_nodes:
            break
        v = depth
        if place[v] < 0:  # new here: which devices, in which order
            nodes += 1
            number = 0
            for y in range(devices):
                if c[v, y] == INF:
                    continue
                if used[y] == 0 and kin[y] >= 0:
                    alike = False
                    for z in range(y):
                        if kin[z] == kin[y] and used[z] == 0:
                            alike = True
                            break
                    if alike:
                        continue
                begin = release[y] * real[v]
                for k in range(in_at[v], in_at[v + 1]):
                    u = in_u[k]
                    at = end[u]
                    if device[u] != y:
                        at += move_s(device[u], y, in_b[k], wire, lat, send, recv)
                        at += ov[y] * real[v]
                    if at > begin:
                        begin = at
                whole = begin + c[v, y] + tail[v, y]
                if whole >= cutoff:
                    continue
                at_y[y] = whole
                i = number
                while i > 0 and at_y[order[v, i - 1]] > whole:
                    order[v, i] = order[v, i - 1]
                    i -= 1
                order[v, i] = y
                number += 1
            options[v] = number
            place[v] = 0
        else:
            used[device[v]] -= 1
            place[v] += 1
        if place[v] >= options[v]:
            place[v] = -1
            depth -= 1
            continue
        y = order[v, place[v]]
        device[v] = y
        used[y] += 1
        begin = release[y] * real[v]
        for k in range(in_at[v], in_at[v + 1]):
            u = in_u[k]
            at = end[u]
            if device[u] != y:
                at += move_s(device[u], y, in_b[k], wire, lat, send, recv) + ov[y] * real[v]
            if at > begin:
                begin = at
        end[v] = begin + c[v, y]
        if end[v] + tail[v, y] >= cutoff:
            continue
        # What the device has to do, one after another.
        jobs = 0
        for w in range(v + 1):
            if device[w] == y and real[w] > 0:
                h[jobs], p[jobs], q[jobs] = end[w] - c[w, y], c[w, y], tail[w, y]
                jobs += 1
        if jobs > 1 and one_machine(jobs, h, p, q) >= cutoff:
            continue
        # What reaches it, one transfer after another.
        jobs = 0
        for w in range(v + 1):
            if device[w] != y:
                continue
            for k in range(tin_at[w], tin_at[w + 1]):
                t = tin_t[k]
                u = tprod[t]
                x = device[u]
                if x == y:
                    continue
                first = True
                for w2 in range(w):
                    if device[w2] == y:
                        for k2 in range(tin_at[w2], tin_at[w2 + 1]):
                            if tin_t[k2] == t:
                                first = False
                if first:
                    h[jobs] = end[u] + tbytes[t] * send[x]
                    p[jobs] = tbytes[t] * wire[x, y]
                    q[jobs] = lat[x, y] + tbytes[t] * recv[y] + ov[y] * real[w]
                    q[jobs] += c[w, y] + tail[w, y]
                    jobs += 1
        if jobs > 1 and one_machine(jobs, h, p, q) >= cutoff:
            continue
        if v < count - 1:
            depth += 1
            place[depth] = -1
            continue
        value, proven, taken = schedule(
            device, c, real, release, in_at, in_u, tin_at, tin_t, tprod, tbytes, trank, reach,
            wire, lat, send, recv, ov, rank, kin, multicast, cutoff, 3000, starts,
        )  # fmt: skip
        nodes += 1 + taken // 4
        if not proven and end[v] < state[3]:
            state[3] = end[v]
        if value < cutoff:
            cutoff = value
            best = value
            best_device[:] = device
            best_start[:] = starts
    state[0] = depth
    state[1] = 1.0 if depth <= 0 else 0.0
    state[2] = best
    return cutoff
