"""Chains of down-sets on distinct devices: a relaxation by dynamic programming, and the search.

Imported only where it is called: this module imports numba.

`ok[f, i, w]` are bits over j: the operators of down-set j that are not in down-set i can be a stage
of a device of kind f within the threshold, as far as the stage alone tells. It counts what a stage
costs at least: every tensor that it takes or gives travels once, over the best link there is (to
the sink and from the source: over the very link).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cutset.solvers.arrays import Floats, Ints
from cutset.solvers.throughput.ideals import IdealArrays, Words
from cutset.solvers.throughput.period_kernels import busy
from cutset.solvers.throughput.period_model import PeriodModel

_ONE = np.uint64(1)
_LOW = np.uint64(63)


@njit(cache=True, nogil=True)
def times(rate: float, size: float) -> float:
    """Seconds for bytes at seconds a byte; nothing takes none, also where there is no link."""
    return rate * size if size > 0 else 0.0


@njit(cache=True, nogil=True)
def stage_costs(
    m: PeriodModel,
    ideals: IdealArrays,
    kinds: Ints,
    limit: float,
    begin: int,
    end: int,
    first: Ints,
    last: Ints,
    cost: Floats,
) -> tuple[int, float]:
    """Writes the stages that start at down-sets [begin, end) and cost no more than the limit on a
    device of some kind: from down-set `first[k]` to `last[k]`, `cost[k, f]` seconds for kind f (inf
    where it does not fit). `kinds` are the devices that stand for each. Returns how many, and the
    least cost of those left out."""
    count, width = ideals.words.shape
    results = ideals.results[count - 1]
    above = np.inf
    filled = 0
    for i in range(begin, end):
        for j in range(i + 1, count):
            quick = False
            for f in range(len(kinds)):
                d = kinds[f]
                if (
                    ideals.cannot[d, i] == ideals.cannot[d, j]
                    and ideals.work[d, j] - ideals.work[d, i] <= limit
                ):
                    quick = True
                    break
            inside = True
            for w in range(width):
                if ideals.words[i, w] & ~ideals.words[j, w]:
                    inside = False
                    break
            if not inside:
                continue
            if not quick:
                for f in range(len(kinds)):
                    d = kinds[f]
                    if ideals.cannot[d, i] == ideals.cannot[d, j]:
                        above = min(above, ideals.work[d, j] - ideals.work[d, i])
                continue
            asked, taken, taken_results = 0.0, 0.0, 0.0
            for k in range(ideals.live_at[i], ideals.live_at[i + 1]):
                t = ideals.live[k]
                for q in range(m.readers_at[t], m.readers_at[t + 1]):
                    r = m.readers[q]
                    if ideals.member[j, r] and not ideals.member[i, r]:
                        if m.producer[t] < 0:
                            asked += m.bytes_[t]
                        elif m.is_output[t]:
                            taken_results += m.bytes_[t]
                        else:
                            taken += m.bytes_[t]
                        break
            given, given_results = 0.0, 0.0
            for k in range(ideals.live_at[j], ideals.live_at[j + 1]):
                t = ideals.live[k]
                p = m.producer[t]
                if p >= 0 and not ideals.member[i, p]:
                    if m.is_output[t]:
                        given_results += m.bytes_[t]
                    else:
                        given += m.bytes_[t]
            own = ideals.results[j] - ideals.results[i]
            memory = ideals.memory[j] - ideals.memory[i] + m.stage_memory
            least = np.inf
            for f in range(len(kinds)):
                d = kinds[f]
                cost[filled, f] = np.inf
                if ideals.cannot[d, i] != ideals.cannot[d, j]:
                    continue
                if memory > m.memory[d] * (1 + 1e-12) + 0.5:
                    continue
                received, sent = taken + taken_results, given + own
                ingress = times(m.best_in[d], taken)
                egress = times(m.best_out[d], given)
                if d == m.sink:
                    received = taken + results - own
                    ingress += times(m.best_in[d], results - own)
                    sent = given + given_results
                    egress += times(m.best_out[d], given_results)
                else:
                    ingress += times(m.best_in[d], taken_results)
                    egress += times(m.wire[d, m.sink], own)
                if d == m.source:
                    for t in range(len(m.bytes_)):
                        if m.producer[t] >= 0:
                            continue
                        for q in range(m.readers_at[t], m.readers_at[t + 1]):
                            r = m.readers[q]
                            if not ideals.member[j, r] or ideals.member[i, r]:
                                sent += m.bytes_[t]
                                egress += times(m.best_out[d], m.bytes_[t])
                                break
                else:
                    received += asked
                    ingress += times(m.wire[m.source, d], asked)
                total = ideals.work[d, j] - ideals.work[d, i] + m.overhead_s[d]
                total += received * m.recv[d] + sent * m.send[d]
                if not m.overlap[d]:
                    total += ingress + egress
                total = max(total, ingress, egress)
                cost[filled, f] = total
                least = min(least, total)
            if least < np.inf and least <= limit:
                first[filled], last[filled] = i, j
                filled += 1
            else:
                above = min(above, least)
    return filled, above


@njit(cache=True, nogil=True)
def mark(
    first: Ints,
    last: Ints,
    cost: Floats,
    threshold: float,
    ok: Words,
    columns: Words,
    class_of: Ints,
) -> float:
    """Sets the bits of the stages within the threshold: in `ok`, and in `columns[class, j]` (bits
    over i) for all kinds of a class together. Returns the least cost above the threshold."""
    above = np.inf
    for k in range(len(first)):
        i, j = first[k], last[k]
        for f in range(cost.shape[1]):
            if cost[k, f] > threshold:
                above = min(above, cost[k, f])
            elif cost[k, f] < np.inf:
                ok[f, i, j >> 6] |= _ONE << (np.uint64(j) & _LOW)
                columns[class_of[f], j, i >> 6] |= _ONE << (np.uint64(i) & _LOW)
    return above


@njit(cache=True, nogil=True)
def reach(
    columns: Words, counts: Ints, strides: Ints, begin: int, end: int, reached: Words
) -> None:
    """`reached[s]`: bits of the down-sets from which everything can be finished with the devices
    of state s, which is Σ devices left of a class × its stride. Fills states [begin, end), after
    those before them; reached[0] holds everything's bit.

    A down-set that fewer devices can finish needs no second look with more.
    """
    classes, _, width = columns.shape
    inherited = np.empty(width, np.uint64)
    for s in range(begin, end):
        inherited[:] = 0
        for c in range(classes):
            if s // strides[c] % (counts[c] + 1) > 0:
                for w in range(width):
                    inherited[w] |= reached[s - strides[c], w]
        for w in range(width):
            new = reached[s, w] & ~inherited[w]
            reached[s, w] |= inherited[w]
            while new:
                low = new & (~new + _ONE)
                new ^= low
                j = w << 6
                while low > _ONE:
                    low >>= _ONE
                    j += 1
                for c in range(classes):
                    if s // strides[c] % (counts[c] + 1) < counts[c]:
                        for v in range(width):
                            reached[s + strides[c], v] |= columns[c, j, v]


@njit(cache=True, nogil=True)
def chains(
    m: PeriodModel,
    ideals: IdealArrays,
    ok: Words,
    kind_of: Ints,
    class_of: Ints,
    strides: Ints,
    reached: Words,
    order: Ints,
    twin: Ints,
    threshold: float,
    path: Ints,
    device: Ints,
    candidate: Ints,
    state: Ints,
    device_of: Ints,
    nodes: int,
) -> int:
    """Depth-first search for a chain of down-sets on distinct devices within the threshold.

    `path[k]`, `device[k]`: the down-set and the index into `order` of step k; `candidate[k]`: the
    next down-set to try; `state[0]`: the depth; `state[1]`: the devices left. All are kept, so that
    the search can be called again and again for `nodes` more partial plans each time.
    Returns 1 where a plan is found (in `device_of`), 0 where there is none, −1 to be called again.
    """
    n = ideals.words.shape[0]
    devices, operators = m.compute_s.shape
    out = np.empty((3, devices))
    limit = threshold * (1 + 1e-13)
    used = np.zeros(devices, np.bool_)
    depth = state[0]
    for k in range(depth):
        used[order[device[k]]] = True
    while nodes > 0:
        if candidate[depth] < 0:  # this device is done: the next one
            device[depth] += 1
            candidate[depth] = n - 1
        if device[depth] >= devices:  # no device is left here: one step back
            if depth == 0:
                state[0] = 0
                return 0
            depth -= 1
            d = order[device[depth]]
            used[d] = False
            state[1] += strides[class_of[kind_of[d]]]
            i, j = path[depth], path[depth + 1]
            for o in range(operators):
                if ideals.member[j, o] and not ideals.member[i, o]:
                    device_of[o] = -1
            continue
        d = order[device[depth]]
        skip = used[d]
        for k in range(device[depth]):
            if twin[order[k]] == twin[d] and not used[order[k]]:
                skip = True  # the same as one before that is free
        if skip:
            candidate[depth] = -1
            continue
        i = path[depth]
        f = kind_of[d]
        rest = state[1] - strides[class_of[f]]
        j = candidate[depth]
        word = j >> 6
        found = -1
        while word >= 0:
            bits = ok[f, i, word] & reached[rest, word]
            if bits:
                top = min(j, (word << 6) + 63)
                while top >= word << 6:
                    if bits >> (np.uint64(top) & _LOW) & _ONE:
                        found = top
                        break
                    top -= 1
                if found >= 0:
                    break
            word -= 1
            j = (word << 6) + 63
        if found < 0:
            candidate[depth] = -1
            continue
        candidate[depth] = found - 1
        nodes -= 1
        for o in range(operators):
            if ideals.member[found, o] and not ideals.member[i, o]:
                device_of[o] = d
        if busy(m, device_of, True, out) > limit:
            for o in range(operators):
                if ideals.member[found, o] and not ideals.member[i, o]:
                    device_of[o] = -1
            continue
        if found == n - 1:
            state[0] = depth
            return 1
        used[d] = True
        state[1] = rest
        depth += 1
        path[depth] = found
        device[depth] = 0
        candidate[depth] = n - 1
    state[0] = depth
    return -1
