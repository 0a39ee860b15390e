"""The period of a placement, compiled, and local search over placements.

Imported only where it is called: this module imports numba.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cutset.solvers.arrays import Floats, Ints
from cutset.solvers.throughput.period_model import PeriodModel, Units


@njit(cache=True, nogil=True)
def busy(m: PeriodModel, device_of: Ints, closed: bool, out: Floats) -> float:
    """Fills out[0:3, D] with busy seconds of devices, egresses and ingresses; returns the period.

    inf where a cost, a link or memory is missing. Links are left out, as a link is never busier
    than the ingress it leads to. Operators on device −1 are not placed yet: then the period is a
    lower bound for any completion; with `closed`, for those that put no more operators on devices
    that have some: what others read leaves these at least once, over the best link.
    """
    devices, operators = m.compute_s.shape
    memory = np.zeros(devices)
    used = np.zeros(devices, np.bool_)
    for row in range(3):
        for d in range(devices):
            out[row, d] = 0.0
    for i in range(operators):
        d = device_of[i]
        if d < 0:
            continue
        if not used[d]:
            used[d] = True
            out[0, d] += m.overhead_s[d]
            memory[d] += m.stage_memory
        out[0, d] += m.compute_s[d, i]
        memory[d] += m.op_memory[i]
    for d in range(devices):
        if used[d] and memory[d] > m.memory[d]:
            return np.inf
    seen = np.full(devices, -1, np.int64)
    for t in range(len(m.bytes_)):
        p = m.producer[t]
        a = m.source if p < 0 else device_of[p]
        if a < 0:
            continue
        size = m.bytes_[t]
        total, longest, copies, pending = 0.0, 0.0, 0, False
        for k in range(m.readers_at[t], m.readers_at[t + 1] + 1):
            if k < m.readers_at[t + 1]:
                b = device_of[m.readers[k]]
            elif m.is_output[t]:
                b = m.sink
            else:
                break
            if b < 0:
                pending = True
                continue
            if b == a or seen[b] == t:
                continue
            seen[b] = t
            if m.wire[a, b] == np.inf:
                return np.inf
            seconds = m.wire[a, b] * size
            total += seconds
            longest = max(longest, seconds)
            copies += 1
            out[2, b] += seconds
            out[0, b] += size * m.recv[b]
            if not m.overlap[b]:
                out[0, b] += seconds
        if closed and copies == 0 and pending and used[a] and m.best_out[a] < np.inf:
            total = longest = m.best_out[a] * size
            copies = 1
        if copies > 0:
            if m.multicast:
                total, copies = longest, 1
            out[1, a] += total
            out[0, a] += copies * size * m.send[a]
            if not m.overlap[a]:
                out[0, a] += total
    period = 0.0
    for row in range(3):
        for d in range(devices):
            period = max(period, out[row, d])
    return period


@njit(cache=True, nogil=True)
def acyclic(m: PeriodModel, device_of: Ints) -> bool:
    """Whether the devices' parts form an acyclic quotient: then they are stages."""
    devices = m.compute_s.shape[0]
    edge = np.zeros((devices, devices), np.bool_)
    for i in range(len(device_of)):
        for k in range(m.before_at[i], m.before_at[i + 1]):
            edge[device_of[m.before[k]], device_of[i]] = True
    waiting = np.zeros(devices, np.int64)
    for a in range(devices):
        for b in range(devices):
            if a != b and edge[a, b]:
                waiting[b] += 1
    done = np.zeros(devices, np.bool_)
    for _ in range(devices):
        found = -1
        for d in range(devices):
            if not done[d] and waiting[d] == 0:
                found = d
                break
        if found < 0:
            return False
        done[found] = True
        for b in range(devices):
            if b != found and edge[found, b]:
                waiting[b] -= 1
    return True


@njit(cache=True, nogil=True)
def score(m: PeriodModel, device_of: Ints, cyclic: bool, out: Floats) -> tuple[float, float]:
    """(period, sum of squared busy seconds); inf where it cannot run. The second breaks ties."""
    period = busy(m, device_of, True, out)
    if period == np.inf or not (cyclic or acyclic(m, device_of)):
        return np.inf, np.inf
    squares = 0.0
    for row in range(3):
        for d in range(out.shape[1]):
            squares += out[row, d] * out[row, d]
    return period, squares


@njit(cache=True, nogil=True)
def better(new: tuple[float, float], old: tuple[float, float]) -> bool:
    """Lower period, or as low with more even loads; by more than rounding."""
    if new[0] == np.inf:
        return False
    if new[0] < old[0] * (1 - 1e-12):
        return True
    return new[0] <= old[0] * (1 + 1e-12) and new[1] < old[1] * (1 - 1e-9)


@njit(cache=True, nogil=True)
def improve(
    m: PeriodModel,
    units: Units,
    device_of: Ints,
    cyclic: bool,
    far: bool,
    begin: int,
    tries: int,
) -> tuple[int, int]:
    """Local search in place, from move `begin` on; (where to go on, or −1 at the end; how many
    moves were made).

    Moves, in this order: a unit to the device of one that it gives to or takes from, or to one
    without operators, with `far` to any; with it, those before it, or behind it, on its device;
    two devices change parts; a whole part to another device. Moves that help are kept; `tries` of
    them are scored.
    """
    devices, operators = m.compute_s.shape
    count = len(units.at) - 1
    out = np.empty((3, devices))
    best = score(m, device_of, cyclic, out)
    trial = np.empty(operators, np.int64)
    held = np.zeros(devices, np.int64)
    for i in range(operators):
        held[device_of[i]] += 1
    made = 0
    moves = 3 * count * devices + 2 * devices * devices
    for move in range(begin, moves):
        if tries == 0:
            return move, made
        if move < 3 * count * devices:
            kind = move // (count * devices)
            u = move // devices % count
            b = move % devices
            a = device_of[units.operators[units.at[u]]]
            if a == b:
                continue
            near = far or held[b] == 0
            for k in range(units.near_at[u], units.near_at[u + 1]):
                if near:
                    break
                near = device_of[units.operators[units.at[units.near[k]]]] == b
            if kind == 0 and not near:
                continue
            trial[:] = device_of
            changed = 0
            touches = far or held[b] == 0
            for v in range(count):
                if device_of[units.operators[units.at[v]]] != a:
                    continue
                if v == u or (kind == 1 and units.above[v, u]) or (kind == 2 and units.above[u, v]):
                    changed += 1
                    for k in range(units.at[v], units.at[v + 1]):
                        trial[units.operators[k]] = b
                    for k in range(units.near_at[v], units.near_at[v + 1]):
                        if device_of[units.operators[units.at[units.near[k]]]] == b:
                            touches = True
            if not touches or (kind > 0 and changed == 1):
                continue
        else:
            rest = move - 3 * count * devices
            kind = 3 + rest // (devices * devices)
            a, b = rest // devices % devices, rest % devices
            if a == b or held[a] == 0 or (kind == 3 and a > b and held[b] > 0):
                continue
            for i in range(operators):
                d = device_of[i]
                if d == a:
                    d = b
                elif d == b and kind == 3:
                    d = a
                trial[i] = d
        tries -= 1
        found = score(m, trial, cyclic, out)
        if better(found, best):
            best = found
            device_of[:] = trial
            made += 1
            held[:] = 0
            for i in range(operators):
                held[device_of[i]] += 1
    return -1, made
