"""Compiled: what a partial walk over devices is, and whether tensors can come to its next stage."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from cutset.solvers.arrays import Bools, Floats, Ints
from cutset.solvers.throughput.block_chain import Chain
from cutset.solvers.throughput.walk_kernels import times

FAR = 8  # makers at a cut, at most, whose devices a label can tell apart


class Labels(NamedTuple):
    """The state of `extend`, kept between calls: partial walks that nothing dominates."""

    state: Ints  # at the end of the last stage
    device: Ints
    visited: Ints  # bits of devices that the walk remembers
    left: Floats  # s of the last device, for the hop to come
    parent: Ints  # −1: none
    after: Ints  # linked lists by a hash of state, device and holders
    alive: Bools
    head: Ints  # a power of two of them
    holders: Ints  # where tensors are that the next stage is not the first chance to read
    spent: Floats  # [labels, FAR + 2] s: see `arrives`
    front: Ints  # some labels at open cuts
    table: Ints  # hash table from `visited` with the device itself to the label at the farthest
    # open cut; −1: empty
    counts: Ints  # [4] labels, the next to extend, length of the front, the label at the end


@njit(cache=True, nogil=True)
def holder(lb: Labels, cut_of: Ints, x: int, block: int) -> int:
    """The label on the way to x whose stage has the block."""
    while lb.parent[x] >= 0 and cut_of[lb.state[lb.parent[x]]] > block:
        x = lb.parent[x]
    return int(x)


@njit(cache=True, nogil=True)
def begin_of(lb: Labels, cut_of: Ints, x: int) -> int:
    """The cut where the last stage of label x begins."""
    return int(cut_of[lb.state[lb.parent[x]]]) if lb.parent[x] >= 0 else 0


@njit(cache=True, nogil=True)
def _results_s(ch: Chain, home: int, begin: int, end: int) -> float:
    """Seconds of the egress of `home` for graph outputs that blocks [begin, end) make there."""
    seconds = 0.0
    if home != ch.sink:
        for i in range(ch.made_at[begin], ch.made_at[end]):
            t = ch.made[i]
            if ch.wanted[t]:
                seconds += times(ch.bytes_[t], ch.wire[home, ch.sink])
    return seconds


@njit(cache=True, nogil=True)
def _reads(ch: Chain, t: int, begin: int, end: int) -> bool:
    """Whether a block of [begin, end), of which none makes it, reads the tensor."""
    for c in range(ch.crossing_at[begin], ch.crossing_at[begin + 1]):
        if ch.crossing[c] == t:
            return bool(ch.next_reader[c] < end)
    return False


@njit(cache=True, nogil=True)
def arrives(
    ch: Chain, lb: Labels, cut_of: Ints, beta: float, x: int, g: int, p: int, q: int, spent: Floats
) -> bool:
    """Whether what a stage [p, q) on g reads can come there from where walk x has it: neither its
    ingress nor the egress of one that sends is busy for more than `beta` seconds.

    For each maker of what crosses cut q, `spent` becomes the seconds of its device's egress, as far
    as they are due to stages up to this one; then those of the source for graph inputs, and of the
    sink's ingress. Other reasons for any to be busy are left out.
    """
    first, past = ch.makers_at[q], ch.makers_at[q + 1]
    spent[:] = 0.0
    total = inputs = 0.0
    for c in range(ch.crossing_at[p], ch.crossing_at[p + 1]):
        t = ch.crossing[c]
        if ch.next_reader[c] >= q:
            break
        home = ch.source
        if ch.maker[t] >= 0:
            home = lb.device[holder(lb, cut_of, x, ch.maker[t])]
        if home != g and not (ch.wanted[t] and g == ch.sink):
            seconds = times(ch.bytes_[t], ch.wire[home, g])
            total += seconds
            if ch.maker[t] < 0:
                inputs += seconds
    results = _results_s(ch, g, p, q)
    at_sink = total if g == ch.sink else results
    if x >= 0:
        inputs += lb.spent[x, FAR]
        at_sink += lb.spent[x, FAR + 1]
    if max(total, at_sink) > beta:
        return False
    spent[FAR + 1] = at_sink
    if ch.multicast:
        return True
    spent[FAR] = inputs
    if (results + inputs if g == ch.source else results) > beta:
        return False
    for i in range(first, past):
        if ch.makers[i] >= p:
            spent[i - first] = results
    far = first < past and ch.makers[first] < p  # something goes on from before this stage
    far = far or (x >= 0 and ch.makers[ch.makers_at[p]] < begin_of(lb, cut_of, x))
    y = x
    while y >= 0:
        home, begin, end = lb.device[y], begin_of(lb, cut_of, y), cut_of[lb.state[y]]
        sends = y == x
        for i in range(ch.makers_at[p], ch.makers_at[p + 1]):
            sends = sends or begin <= ch.makers[i] < end
        if not sends:  # its egress is what it was
            y = lb.parent[y]
            continue
        seconds = _results_s(ch, home, begin, end)
        if home == ch.source:
            seconds += inputs
        for c in range(ch.crossing_at[end], ch.crossing_at[end + 1]):
            t = ch.crossing[c]
            if ch.maker[t] < begin:
                continue
            z, to, start, stop = x, g, p, q
            while True:  # this stage, the one before, … up to the one after y
                if (
                    to != home
                    and not (ch.wanted[t] and to == ch.sink)
                    and _reads(ch, t, start, stop)
                ):
                    seconds += times(ch.bytes_[t], ch.wire[home, to])
                if z == y:
                    break
                to, stop, start = lb.device[z], start, begin_of(lb, cut_of, z)
                z = lb.parent[z]
        if seconds > beta:
            return False
        if not far:
            break  # the devices before the last one send nothing more
        for i in range(first, past):
            if begin <= ch.makers[i] < end:
                spent[i - first] = seconds
        y = lb.parent[y]
    return True


@njit(cache=True, nogil=True)
def stuck(
    ch: Chain,
    lb: Labels,
    cut_of: Ints,
    able: Bools,
    beta: float,
    x: int,
    g: int,
    p: int,
    q: int,
    seen: int,
    spent: Floats,
) -> bool:
    """Whether what crosses cut q cannot leave the devices that have it within `beta`, at best to
    the nearest that can still have a stage, after walk x and a stage [p, q) on g (`spent` of it).

    A device of a pipeline has one stage, so what is read later is read elsewhere.
    """
    if ch.multicast:
        return False  # it may have been sent already
    first, past = ch.makers_at[q], ch.makers_at[q + 1]
    k = first
    while k < past:
        home, own_s = g, spent[k - first]
        if ch.makers[k] < p:
            home = lb.device[holder(lb, cut_of, x, ch.makers[k])]
        begin = k
        k += 1
        while k < past:
            other = g if ch.makers[k] >= p else lb.device[holder(lb, cut_of, x, ch.makers[k])]
            if other != home:
                break
            k += 1
        amount = 0.0
        for c in range(ch.crossing_at[q], ch.crossing_at[q + 1]):
            t = ch.crossing[c]
            if ch.maker[t] >= 0 and begin <= first + ch.rank[c] < k and not ch.wanted[t]:
                amount += ch.bytes_[t]
        if amount == 0.0:
            continue
        wire = np.inf
        for i in range(len(ch.limit)):
            f = ch.nearest[home, i]
            if f not in (home, g) and able[q, f] and not (f < 62 and seen >> f & 1):
                wire = ch.wire[home, f]
                break
        if own_s + times(amount, wire) > beta:
            return True
    return False
