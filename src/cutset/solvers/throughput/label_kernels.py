"""Compiled loops over partial walks, of which those that another is no worse than are left out."""

from __future__ import annotations

import numpy as np
from numba import njit

from cutset.solvers.arrays import Bools, Floats, Ints
from cutset.solvers.throughput.block_chain import Chain
from cutset.solvers.throughput.label_transfer_kernels import (
    FAR,
    Labels,
    arrives,
    begin_of,
    holder,
    stuck,
)
from cutset.solvers.throughput.walk_kernels import Arcs, times


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
def _bucket(lb: Labels, row: int, d: int, holders: int) -> int:
    """The list of labels of a state, device and holders; others may be on it."""
    mixed = (row * 64 + d) * 0x5851F42D4C957F2D + holders
    mixed = (mixed ^ (mixed >> 29)) * 0x14057B7EF767814F
    return int((mixed ^ (mixed >> 32)) & (len(lb.head) - 1))


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
    holders: int,
    spent: Floats,
) -> bool:
    """Keep a label unless one is no worse, or the devices left are too few; False where there is
    no room."""
    cut = cut_of[row]
    for i in range(len(reach)):
        rest = 0.0
        for e in range(len(ch.limit)):
            if e > 61 or not seen >> e & 1:
                rest += reach[i, cut, e]
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
    bucket = _bucket(lb, row, d, holders)
    before = -1
    x = lb.head[bucket]
    while x >= 0:
        after = lb.after[x]
        no_more = no_less = False
        if lb.state[x] == row and lb.device[x] == d and lb.holders[x] == holders:
            no_more = lb.left[x] >= left and lb.visited[x] & ~seen == 0
            no_less = left >= lb.left[x] and seen & ~lb.visited[x] == 0
            if no_more or no_less:
                for i in range(FAR + 2):
                    no_more = no_more and lb.spent[x, i] <= spent[i]
                    no_less = no_less and lb.spent[x, i] >= spent[i]
        if no_more:
            return True
        if no_less:
            lb.alive[x] = False
            if before < 0:
                lb.head[bucket] = after
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
    lb.holders[x] = holders
    lb.spent[x] = spent
    lb.alive[x] = True
    lb.after[x] = lb.head[bucket]
    lb.head[bucket] = x
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
def _better_end(ch: Chain, arcs: Arcs, lb: Labels, cut_of: Ints, x: int) -> int:
    """A cut behind the end p of label x where its last stage could end as well, handing on no more
    bytes; M where there is none.

    Let d run [b, p) and f [p, r), and let s > p be such a cut, where all that crosses p was made
    by d, none of it, nor what is made from p to s, is a result, and all that crosses r is made
    behind s. With s for p d takes no more in, f gets less to do and no more bytes, all from d, and
    nobody else notices: what is feasible with p is so with s. So where r is such a cut, stages
    [p, r) need not be tried. (Of feasible walks the one with the latest cuts, compared from the
    end, is never left out. Devices busy with transfers are left alone.)
    """
    m = len(ch.memory)
    d, p, y = lb.device[x], cut_of[lb.state[x]], lb.parent[x]
    best = m
    if ch.serial[d] or ch.oldest[p] < begin_of(lb, cut_of, x):
        return best
    hop, row = 0.0, ch.makers_at[0]
    if y >= 0:
        hop, row = ch.path[lb.device[y], d], lb.state[y]
    a = arcs.head[row, d]
    while a >= 0:
        if arcs.end[a] < len(ch.makers):
            s = cut_of[arcs.end[a]]
            if s <= p:
                break
            if s <= ch.clean[p] and ch.amount[s] <= ch.amount[p] and hop <= arcs.limit[a]:
                best = s
        a = arcs.next[a]
    return best


@njit(cache=True, nogil=True)
def extend(
    ch: Chain,
    arcs: Arcs,
    slack: Floats,
    free: Bools,
    cut_of: Ints,
    reach: Floats,
    behind: Floats,
    able: Bools,
    memory: Ints,
    lb: Labels,
    beta: float,
    held: bool,
    steps: int,
) -> int:
    """Extend partial walks by stages, breadth first, at most about `steps` times.

    A walk that comes to device d keeps of the devices it remembers those of bit mask memory[d],
    and d if it is one of them, and never goes to one that it remembers: every simple path is such a
    walk. What is behind a cut (`behind`) must be within the `reach` there of the devices that are
    not remembered. With `held`, what comes from before the last stage is charged from where it is,
    and labels of unlike holders are told apart; without, at the best wire there is.
    Returns 1 where one reaches the end (counts[3] is its label), 0 where none does, −1 to be
    called again, −2 where there is no room for more.
    """
    n = len(ch.limit)
    end = len(ch.makers)
    spent = np.zeros(FAR + 2)
    while lb.counts[1] < lb.counts[0] or lb.counts[1] < 0:
        x = lb.counts[1]
        lb.counts[1] = x + 1
        if x >= 0 and not lb.alive[x]:
            continue
        steps -= 1
        later = len(ch.memory)
        if x >= 0:
            later = _better_end(ch, arcs, lb, cut_of, x)
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
                    if times(sent, hop) > left:
                        continue
            kept = (seen | 1 << g) & memory[g]
            a = arcs.head[row, g]
            while a >= 0:
                holders = 0
                q = len(ch.memory)
                if arcs.end[a] != end:
                    q = cut_of[arcs.end[a]]
                possible = hop <= arcs.limit[a] and (q <= later or ch.oldest[q] < later)
                if held and possible:
                    p = cut_of[row]
                    possible = arrives(ch, lb, cut_of, beta, x, g, p, q, spent)
                    for k in range(ch.makers_at[q], ch.makers_at[q + 1]):
                        maker = ch.makers[k]
                        if maker >= p:
                            break
                        holders = 64 * holders + lb.device[holder(lb, cut_of, x, maker)] + 1
                    if possible and q < len(ch.memory):
                        possible = not stuck(ch, lb, cut_of, able, beta, x, g, p, q, kept, spent)
                if possible:
                    room = arcs.room[a] - times(arcs.near[a], hop)
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
                        if not _add(
                            ch,
                            lb,
                            free,
                            cut_of,
                            reach,
                            behind,
                            to,
                            g,
                            kept,
                            room,
                            x,
                            holders,
                            spent,
                        ):
                            return -2
                        if free[to, g]:
                            break
                a = arcs.next[a]
        if steps <= 0:
            return -1
    return 0
