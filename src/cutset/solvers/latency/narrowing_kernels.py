"""Bounds of a block by critical paths, compiled, and narrowing: which devices an operator has left.

A block is K operators in topological order. Operator 0 is its entry: it has ended at time 0 on the
device that `c` allows it. The last one is its exit: the value of a schedule is when that ends.
`c` [K, D] holds seconds of compute: inf where an operator may not run on a device. `real` [K] is 0
for the operators that stand for the request's entry and for its results; they cost nothing and
belong to no stage. `head` and `tail` [K, D] are seconds as `heads` and `tails` return them.

The searches are for values below a cutoff, strictly. A schedule here may order transfers freely and
counts a stage's overhead where it cannot be avoided: it is never worse than a plan.

Here as in the other kernels of blocks: literals are not handed to compiled functions, as numba
would compile these once more for each; slices of arrays are copied by loops, as assigning one
compiles its error messages. Imported inside functions only: importing this file loads numba.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cutset.solvers.arrays import Floats, Ints
from cutset.solvers.latency.block_arrays import Known, Net, Shape

INF = np.inf


@njit(cache=True, nogil=True)
def move_s(x: int, y: int, size: float, net: Net) -> float:
    """Seconds from "made on x" to "arrived on y" for `size` bytes, alone on the network."""
    wire, lat, send, recv = net.wire, net.lat, net.send, net.recv
    if x == y:
        return 0.0
    if wire[x, y] == INF:
        return INF
    return float(size * (send[x] + wire[x, y] + recv[y]) + lat[x, y])


@njit(cache=True, nogil=True)
def heads(c: Floats, b: Shape, known: Known, net: Net, found: Floats) -> None:
    """found[v, y] [K, D] = earliest start (s) of v on y if all it needs may run on any devices.

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
    """found[v, y] [K, D] = least seconds from the end of v on y to the end of the block's exit.

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
    """Forbid in `c` what cannot be part of a schedule below `cutoff` (s); the bound that is left.

    Changes `c`, `head` and `tail`, all [K, D]. inf where no schedule is left.
    """
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
    h, p, q = np.empty(2 * count), np.empty(2 * count), np.empty(2 * count)
    begun, before = np.empty(count, np.int64), np.empty(count, np.int64)
    for y in range(devices):
        if net.ov[y] > 0:
            _returns(y, c, b, begun, before)
        jobs = 0
        for v in range(count):
            if real[v] == 0 or c[v, y] == INF or not only(c, v):
                continue
            if net.ov[y] > 0 and begun[v] > 0:  # a stage of its own begins for it
                h[jobs] = _arrival(v, y, c, b, net, head)
                p[jobs], q[jobs] = net.ov[y], c[v, y] + tail[v, y]
                jobs += 1
            h[jobs], p[jobs], q[jobs] = head[v, y], c[v, y], tail[v, y]
            jobs += 1
        load = one_machine(h[:jobs], p[:jobs], q[:jobs])
        if load >= cutoff:
            return INF
        bound = max(bound, load)
    return bound


@njit(cache=True, nogil=True)
def _returns(y: int, c: Floats, b: Shape, begun: Ints, before: Ints) -> None:
    """Mark in `begun` [K] operators on device y that are in different stages, none the entry's.

    An operator that reads from one that cannot run on y begins a stage or shares one with others
    that do; it shares none with what leads to the one that it reads from, as stages are convex. So
    a chain of operators that each lead to what the next one reads from are in as many stages, whose
    overheads the device pays one after another. `before` [K] is room to work.
    """
    count = c.shape[0]
    for v in range(count):
        begun[v], before[v] = 0, -1
    last = -1
    for v in range(1, count):
        if b.real[v] == 0 or c[v, y] == INF or not only(c, v):
            continue
        for k in range(b.in_at[v], b.in_at[v + 1]):
            u = b.in_u[k]
            if c[u, y] < INF:
                continue
            begun[v] = max(begun[v], 1)
            for w in range(1, u):
                if begun[w] >= begun[v] and b.reach[w, u]:
                    begun[v], before[v] = begun[w] + 1, w
        if begun[v] > 0 and (last < 0 or begun[v] > begun[last]):
            last = v
    for v in range(count):
        begun[v] = 0
    while last >= 0:
        begun[last] = 1
        last = before[last]


@njit(cache=True, nogil=True)
def _arrival(v: int, y: int, c: Floats, b: Shape, net: Net, head: Floats) -> float:
    """The earliest (s) that what operator v reads from those that cannot run on y is there."""
    latest = 0.0
    for k in range(b.in_at[v], b.in_at[v + 1]):
        u = b.in_u[k]
        if c[u, y] < INF:
            continue
        best = INF
        for x in range(c.shape[1]):
            if c[u, x] < INF:
                best = min(best, head[u, x] + c[u, x] + move_s(x, y, b.in_b[k], net))
        latest = max(latest, best)
    return latest


@njit(cache=True, nogil=True)
def only(c: Floats, v: int) -> bool:
    """Whether one device is left for an operator."""
    left = 0
    for y in range(c.shape[1]):
        if c[v, y] < INF:
            left += 1
    return left == 1


@njit(cache=True, nogil=True)
def one_machine(h: Floats, p: Floats, t: Floats) -> float:
    """A lower bound in seconds on doing jobs one after another: head, time, tail of each, [jobs].

    For any set of jobs: the least head, all their times, the least tail. Of many jobs, only those
    up to one and those from one on are looked at; of a few, all that matter. Sorts in place.
    """
    count = len(h)
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
