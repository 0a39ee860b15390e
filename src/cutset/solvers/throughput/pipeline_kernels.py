"""Compiled loops over pipelines of blocks; imported only where they are called.

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
def _times(amount: float, rate: float) -> float:
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
    ch: Chain, beta: float, high: int, low: int, slack: Floats, hop: Floats, arcs: Arcs
) -> None:
    """Walk relaxation for cuts high, high − 1, …, low, which must be called from M − 1 to 0.

    Devices may repeat, and what comes from farther than the stage before takes the best wire there
    is: every pipeline within `beta` is such a walk. slack[state, d] becomes the greatest wire
    (s/byte) into device d at the state's cut from which a walk reaches the end; −1: none. For cut 0
    it is ≥ 0 where a walk can begin, at row makers_at[0]. hop[state, d] becomes the least wire out
    of d to a device that can go on; inf: none. Where `arcs` has room, all stages on such walks are
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
                    hop_s = hop[state_of(ch, q, p), d]
                    if hop_s == np.inf:
                        continue
                    for i in range(ch.crossing_at[q], ch.crossing_at[q + 1]):
                        t = ch.crossing[i]
                        if ch.maker[t] >= p and not (ch.wanted[t] and d != ch.sink):
                            if ch.next_reader[i] == q:
                                next_s += ch.bytes_[t]
                            else:
                                later += ch.bytes_[t]
                first_s = 0.0
                if d == ch.source and p > 0:
                    first_s = ch.input_bytes
                out_s = (
                    _times(next_s, hop_s)
                    + _times(later + first_s, ch.wire_out[d])
                    + _times(results, to_sink)
                )
                if out_s > beta:
                    continue
                at_sink = _times(results, ch.recv[ch.sink])
                if ch.serial[ch.sink]:
                    at_sink += _times(results, to_sink)
                if at_sink > beta:
                    continue
                source_s = _times(from_source, ch.wire[ch.source, d])
                if p == 0:
                    at_source = _times(from_source, ch.send[ch.source])
                    if ch.serial[ch.source]:
                        at_source += source_s
                    if at_source > beta:
                        break
                sent = next_s + later + first_s + results
                busy = compute + sent * ch.send[d] + serial * out_s
                for k in range(states):
                    far_s = _times(far[k], ch.wire_in[d]) + source_s
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
                    a = arcs.total[0]
                    if a < len(arcs.end):
                        arcs.end[a] = state_of(ch, q, p) if q < m else len(ch.makers)
                        arcs.limit[a] = limit
                        arcs.room[a] = beta - own + serial * _times(next_s, hop_s)
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


class Labels(NamedTuple):
    """The state of `extend`, kept between calls: partial walks that nothing dominates."""

    state: Ints  # at the end of the last stage
    device: Ints
    visited: Ints  # bits of devices that the walk remembers
    left: Floats  # s of the last device, for the hop to come
    parent: Ints  # −1: none
    after: Ints  # linked lists by (state, device)
    alive: Bools
    head: Ints  # [states, N]
    front: Ints  # some labels at open cuts
    table: Ints  # hash table from `visited` with the device itself to the label at the farthest
    # open cut; −1: empty
    counts: Ints  # [4] labels, the next to extend, length of the front, the label at the end


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
def cover(ch: Chain, beta: float, weight: Floats, reach: Floats) -> bool:
    """reach[i, d]: the most of weight[i] that device d can run within `beta`. Whether that is
    enough of each for all blocks."""
    kinds, m = weight.shape
    n = len(ch.limit)
    reach[:] = 0.0
    for d in range(n):
        q = 0
        memory, compute = ch.stage_memory, ch.overhead[d]
        held = np.zeros(kinds)
        for p in range(m):
            if q < p:
                q = p
                memory, compute = ch.stage_memory, ch.overhead[d]
                held[:] = 0.0
            while (
                q < m
                and memory + ch.memory[q] <= ch.limit[d]
                and (compute + ch.compute_s[d, q]) * (1 - 1e-10) <= beta
            ):
                memory += ch.memory[q]
                compute += ch.compute_s[d, q]
                for i in range(kinds):
                    held[i] += weight[i, q]
                q += 1
            for i in range(kinds):
                reach[i, d] = max(reach[i, d], held[i] * (1 + 1e-12))
            if q > p:
                memory -= ch.memory[p]
                compute -= ch.compute_s[d, p]
                for i in range(kinds):
                    held[i] -= weight[i, p]
    enough = True
    for i in range(kinds):
        enough = enough and reach[i].sum() * (1 + 1e-9) >= weight[i].sum()
    return enough


@njit(cache=True, nogil=True)
def _slot(lb: Labels, seen: int) -> int:
    """Where `seen` stands in the table, or would."""
    mask = len(lb.table) - 1
    mixed = seen ^ (seen >> 29)
    mixed = (mixed * 0x5851F42D4C957F2D) ^ (mixed >> 17)
    slot = (mixed ^ (mixed >> 32)) & mask
    while lb.table[slot] >= 0 and lb.visited[lb.table[slot]] != seen:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def _add(
    ch: Chain,
    lb: Labels,
    free: Bools,
    cut_of: Ints,
    reach: Floats,
    behind: Floats,
    row: int,
    d: int,
    seen: int,
    left: float,
    parent: int,
) -> bool:
    """Keep a label unless one is no worse, or the devices left are too few; False where there is
    no room."""
    cut = cut_of[row]
    for i in range(len(reach)):
        rest = 0.0
        for e in range(len(ch.limit)):
            if e > 61 or not seen >> e & 1:
                rest += reach[i, e]
        if rest * (1 + 1e-9) < behind[i, cut]:
            return True
    for i in range(lb.counts[2]):
        x = lb.front[i]
        if (
            cut_of[lb.state[x]] >= cut
            and lb.visited[x] & ~seen == 0
            and (lb.device[x] == d or lb.visited[x] >> lb.device[x] & 1)
        ):
            return True
    own = seen >> d & 1 == 1
    slot = _slot(lb, seen)
    x = lb.table[slot]
    if x >= 0 and cut_of[lb.state[x]] >= cut:
        return True
    before = -1
    x = lb.head[row, d]
    while x >= 0:
        after = lb.after[x]
        if lb.visited[x] & ~seen == 0 and lb.left[x] >= left:
            return True
        if seen & ~lb.visited[x] == 0 and left >= lb.left[x]:
            lb.alive[x] = False
            if before < 0:
                lb.head[row, d] = after
            else:
                lb.after[before] = after
        else:
            before = x
        x = after
    x = lb.counts[0]
    if x >= len(lb.state):
        return False
    lb.counts[0] = x + 1
    lb.state[x], lb.device[x], lb.visited[x], lb.left[x] = row, d, seen, left
    lb.parent[x] = parent
    lb.alive[x] = True
    lb.after[x] = lb.head[row, d]
    lb.head[row, d] = x
    if free[row, d]:
        if own:
            if lb.table[slot] >= 0:
                lb.alive[lb.table[slot]] = False
            lb.table[slot] = x
        size = 0  # those that it makes needless leave the front
        for i in range(lb.counts[2]):
            y = lb.front[i]
            if (
                cut_of[lb.state[y]] <= cut
                and seen & ~lb.visited[y] == 0
                and (lb.device[y] == d or seen >> d & 1)
            ):
                lb.alive[y] = False
            else:
                lb.front[size] = y
                size += 1
        if size < len(lb.front):
            lb.front[size] = x
            size += 1
        lb.counts[2] = size
    return True


@njit(cache=True, nogil=True)
def extend(
    ch: Chain,
    arcs: Arcs,
    slack: Floats,
    free: Bools,
    cut_of: Ints,
    reach: Floats,
    behind: Floats,
    memory: Ints,
    lb: Labels,
    steps: int,
) -> int:
    """Extend partial walks by stages, breadth first, at most about `steps` times.

    A walk that comes to device d keeps of the devices it remembers those of bit mask memory[d],
    and d if it is one of them, and never goes to one that it remembers: every simple path is such a
    walk. What is behind a cut (`behind`) must be within the `reach` of devices not remembered.
    Returns 1 where one reaches the end (counts[3] is its label), 0 where none does, −1 to be
    called again, −2 where there is no room for more.
    """
    n = len(ch.limit)
    end = len(ch.makers)
    while lb.counts[1] < lb.counts[0] or lb.counts[1] < 0:
        x = lb.counts[1]
        lb.counts[1] = x + 1
        if x >= 0 and not lb.alive[x]:
            continue
        steps -= 1
        for i in range(n):
            hop, left, seen = 0.0, 0.0, 0
            if x < 0:
                g, row = i, ch.makers_at[0]
            else:
                d, row, seen, left = lb.device[x], lb.state[x], lb.visited[x], lb.left[x]
                g = ch.nearest[d, i]
                hop = ch.path[d, g]
                if g == d or seen >> g & 1 or hop > slack[row, g]:
                    continue
                if ch.serial[d]:
                    sent = 0.0
                    q = cut_of[row]
                    for c in range(ch.crossing_at[q], ch.crossing_at[q + 1]):
                        t = ch.crossing[c]
                        made = ch.rank[c] >= row - ch.makers_at[q]  # by the last stage
                        if made and ch.next_reader[c] == q and not (ch.wanted[t] and d != ch.sink):
                            sent += ch.bytes_[t]
                    if _times(sent, hop) > left:
                        continue
            kept = (seen | 1 << g) & memory[g]
            a = arcs.head[row, g]
            while a >= 0:
                if hop <= arcs.limit[a]:
                    room = arcs.room[a] - _times(arcs.near[a], hop)
                    if not ch.serial[g]:
                        room = 0.0
                    to = arcs.end[a]
                    if to == end:
                        y = lb.counts[0]
                        if y >= len(lb.state):
                            return -2
                        lb.state[y], lb.device[y], lb.parent[y] = end, g, x
                        lb.counts[3] = y
                        return 1
                    if room >= 0.0:
                        if not _add(ch, lb, free, cut_of, reach, behind, to, g, kept, room, x):
                            return -2
                        if free[to, g]:
                            break
                a = arcs.next[a]
        if steps <= 0:
            return -1
    return 0


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
    depth: Ints  # [1]
    clock: Ints  # [1]


@njit(cache=True, nogil=True)
def _move(ch: Chain, tr: Trail, j: int, t: int, home: int, to: int) -> None:
    """Add tensor t from device `home` to device `to`, as the evaluator counts it."""
    amount = ch.bytes_[t]
    seconds = _times(amount, ch.wire[home, to])
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
def descend(ch: Chain, tr: Trail, beta: float, slack: Floats, hop: Floats, steps: int) -> int:
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
        steps -= 1
        if append(ch, tr, j, d, p, q) <= beta:
            if q == m:
                return int(j)
            if j < n:
                tr.depth[0] = j + 1
                tr.begin[j + 1] = q
                tr.end[j + 1] = q
                tr.choice[j + 1] = -1
        if steps <= 0:
            return -1
    return 0
