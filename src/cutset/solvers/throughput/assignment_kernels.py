"""Depth-first search over placements, compiled. Imported only where it is called (numba)."""

from __future__ import annotations

import numpy as np
from numba import njit

from cutset.solvers.arrays import Floats, Ints
from cutset.solvers.throughput.period_kernels import busy
from cutset.solvers.throughput.period_model import PeriodModel


@njit(cache=True, nogil=True)
def torn(m: PeriodModel, device_of: Ints, load: Floats, limit: float) -> bool:
    """Whether devices that have seconds and bytes for one stage only stand in a cycle.

    Such a device is one vertex, every other operator is one of its own; a cycle means that some
    device needs a second stage, also when the operators on device −1 are placed.
    """
    devices, operators = m.compute_s.shape
    free = m.memory - 2 * m.stage_memory
    for i in range(operators):
        if device_of[i] >= 0:
            free[device_of[i]] -= m.op_memory[i]
    alone = np.zeros(devices, np.bool_)
    count = 0
    for d in range(devices):
        alone[d] = free[d] < 0 or load[d] + m.overhead_s[d] > limit * (1 + 1e-12)
        if alone[d]:
            count += 1
    if count < 1:
        return False
    vertices = devices + operators
    vertex = np.empty(operators, np.int64)
    size = np.zeros(vertices, np.int64)
    for i in range(operators):
        d = device_of[i]
        vertex[i] = d if d >= 0 and alone[d] else devices + i
        size[vertex[i]] += 1
    # Operators are in topological order: pass over them until no more of them is ready.
    blocked = np.zeros(vertices, np.int64)
    done = np.zeros(operators, np.bool_)
    left = operators
    moved = True
    while moved and left > 0:
        moved = False
        blocked[:] = 0
        for i in range(operators):
            if done[i]:
                continue
            v = vertex[i]
            ready = True
            for k in range(m.before_at[i], m.before_at[i + 1]):
                j = m.before[k]
                if not done[j] and vertex[j] != v:
                    ready = False
                    break
            if not ready:
                blocked[v] += 1
            elif v >= devices:
                done[i] = True
                left -= 1
                moved = True
        for d in range(devices):
            if alone[d] and size[d] > 0 and blocked[d] == 0:
                for i in range(operators):
                    if vertex[i] == d and not done[i]:
                        done[i] = True
                        left -= 1
                        moved = True
    return bool(left > 0)


@njit(cache=True, nogil=True)
def place(
    m: PeriodModel,
    units_at: Ints,
    units: Ints,
    seconds: Floats,
    weights: Floats,
    rest_s: Floats,
    twin: Ints,
    threshold: float,
    choice: Ints,
    state: Ints,
    device_of: Ints,
    nodes: int,
) -> int:
    """Looks for a placement of all units with a period within the threshold.

    Unit k is placed at depth k; `seconds` [D, U] is inf where it must not be. `rest_s[k]`: what
    units from k on add at least to the loads weighted with `weights` (which sum to 1); so the
    weighted mean of the loads, and with it the largest, is at least that much more. `choice[k]`
    is the device of unit k, `state[0]` the depth, `state[1]` counts partial placements: all are
    kept, so that the search goes on when called again for `nodes` more of them; the threshold may
    have become lower.
    Returns 1 where one is found (in `device_of`), 0 where none is left, −1 to be called again.
    """
    devices, _ = m.compute_s.shape
    count = len(units_at) - 1
    out = np.empty((3, devices))
    limit = threshold * (1 + 1e-13)
    depth = state[0]
    while nodes > 0:
        choice[depth] += 1
        d = choice[depth]
        if d >= devices:
            for k in range(units_at[depth], units_at[depth + 1]):
                device_of[units[k]] = -1
            depth -= 1
            if depth < 0:
                state[0] = 0
                choice[0] = -1
                return 0
            continue
        if seconds[d, depth] == np.inf:
            continue
        if twin[d] != d:  # of devices that are the same, the first without operators comes first
            skip = False
            for e in range(twin[d], d):
                if twin[e] == twin[d]:
                    empty = True
                    for k in range(depth):
                        if choice[k] == e:
                            empty = False
                            break
                    if empty:
                        skip = True
                        break
            if skip:
                continue
        for k in range(units_at[depth], units_at[depth + 1]):
            device_of[units[k]] = d
        nodes -= 1
        state[1] += 1
        period = busy(m, device_of, False, out)
        if period > limit:
            continue
        load = rest_s[depth + 1]
        for e in range(devices):
            load += weights[e] * out[0, e]
        if load > limit:
            continue
        if torn(m, device_of, out[0], limit):
            continue
        if depth == count - 1:
            state[0] = depth
            return 1
        depth += 1
        choice[depth] = -1
    state[0] = depth
    return -1
