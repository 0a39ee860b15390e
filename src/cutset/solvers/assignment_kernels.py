"""Depth-first search over placements, compiled. Imported only where it is called (numba)."""

from __future__ import annotations

import numpy as np
from numba import njit

from cutset.solvers.arrays import Floats, Ints
from cutset.solvers.period_kernels import busy
from cutset.solvers.period_model import PeriodModel


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
    is the device of unit k, and `state[0]` the depth: both are kept, so that the search goes on
    when called again for `nodes` more partial placements; the threshold may have become lower.
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
        period = busy(m, device_of, False, out)
        if period > limit:
            continue
        load = rest_s[depth + 1]
        for e in range(devices):
            load += weights[e] * out[0, e]
        if load > limit:
            continue
        if depth == count - 1:
            state[0] = depth
            return 1
        depth += 1
        choice[depth] = -1
    state[0] = depth
    return -1
