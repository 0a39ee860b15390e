"""The least period of any untiled plan, by search over placements.

Whatever a plan's stages are, its period is at least that of its placement with one stage a device
(period_model.py); so a search that leaves no placement below a value proves that value for all
untiled plans. A placement below it that cannot be listed with as few stages as that takes
(stage_listing.py) is no plan below it either. Operators
that every better plan keeps together (merging.py) are placed as one, which makes this practical
where links are slow; the loads still to come (load_bound.py) cut the search off where they are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from cutset.plan import Plan
from cutset.problem import Budget, Problem
from cutset.solvers.arrays import Floats, Ints
from cutset.solvers.throughput.device_classes import twins
from cutset.solvers.throughput.load_bound import Loads, load_bound
from cutset.solvers.throughput.period_model import PeriodModel, period_model
from cutset.solvers.throughput.stage_listing import listed_plan, listing, most_stages

_CLOSED = 1e-10  # relative
_PIECE = 3_000_000
_MUCH = 0.98  # of the value: as much better, units are merged anew
_OFFERS = 2_000  # placements that are made plans; of further ones only the period is noted


def assignment_bound_s(
    problem: Problem,
    budget: Budget,
    value_s: float = math.inf,
    offer: Callable[[Plan], float] = lambda plan: math.inf,
    *,
    nodes: int = 300_000,
) -> float:
    """Seconds that no untiled plan can beat, at most `value_s` or what `offer` returns.

    `value_s` is the value of a known plan. `offer` is given plans of lower periods and returns the
    best value known after each. At most `nodes` partial placements are looked
    at; where that is not enough, the bound is what loads alone prove. inf: there is no plan.
    """
    m = period_model(problem)
    best, weak = value_s, load_bound(problem, value_s).bound_s
    while nodes > 0 and not budget.exhausted():
        loads = load_bound(problem, best)
        weak = max(weak, min(loads.bound_s, best))
        if weak >= best * (1 - _CLOSED):
            return best
        found, bound, used = _searched(problem, m, loads, budget, best, offer, nodes)
        nodes -= used
        if bound is not None:
            return min(found, max(bound, weak))
        if found >= best:
            break
        best = found
    return min(weak, best)


def _searched(
    problem: Problem,
    m: PeriodModel,
    loads: Loads,
    budget: Budget,
    value_s: float,
    offer: Callable[[Plan], float],
    nodes: int,
) -> tuple[float, float | None, int]:
    """(best value known, a bound or None where the search did not end, nodes used).

    Ends early when a plan is found that is so much better that units may be merged anew.
    """
    from cutset.solvers.throughput.assignment_kernels import place
    from cutset.solvers.throughput.period_kernels import busy

    count = loads.seconds.shape[1]
    lists = [np.flatnonzero(loads.unit == u) for u in range(count)]
    at = np.cumsum([0, *(len(x) for x in lists)]).astype(np.int64)
    units = np.concatenate(lists) if lists else np.empty(0, dtype=np.int64)
    rest = _rest_s(loads)
    choice = np.full(count, -1, dtype=np.int64)
    state = np.zeros(2, dtype=np.int64)
    device_of = np.full(len(loads.unit), -1, dtype=np.int64)
    twin = twins(m)
    work = len(m.op_memory) + len(m.readers) + len(m.bytes_)
    piece = max(_PIECE // (8 * work), 1)
    best, unrealised, used, offers = value_s, math.inf, 0, 0
    out = np.empty((3, len(m.overhead_s)))
    while used < nodes and not budget.exhausted():
        threshold = min(best, unrealised) * (1 - _CLOSED)
        outcome = place(
            m,
            at,
            units,
            loads.seconds,
            loads.weights,
            rest,
            twin,
            threshold if math.isfinite(threshold) else 1e300,
            choice,
            state,
            device_of,
            min(piece, nodes - used),
        )
        used = int(state[1]) + offers
        if outcome == 0:
            return best, min(best, unrealised), used
        if outcome == 1:
            period = float(busy(m, device_of, False, out))
            certain = False
            while offers < _OFFERS and not budget.exhausted():
                certain = period > best * (1 - _CLOSED)
                if certain:
                    break
                offers += 1
                plan, certain = _better_plan(problem, m, device_of, out[0], best)
                found = math.inf if plan is None else offer(plan)
                if found >= best:
                    break
                best = found
            if best < value_s * _MUCH:
                return best, None, used
            if not certain:
                unrealised = min(unrealised, period)
    return best, None, used


def _better_plan(
    problem: Problem, m: PeriodModel, device_of: Ints, load_s: Floats, value_s: float
) -> tuple[Plan | None, bool]:
    """(a plan of the placement below the value, whether it is certain that there is none)."""
    held = np.bincount(device_of, weights=m.op_memory, minlength=len(load_s))
    limit = value_s * (1 - _CLOSED)
    most = [
        most_stages(*map(float, (load, over, limit, own, m.stage_memory, room)))
        for load, over, own, room in zip(load_s, m.overhead_s, held, m.memory, strict=True)
    ]
    listed, certain = listing(problem, [int(d) for d in device_of], most)
    return (None, certain) if listed is None else (listed_plan(problem, listed), False)


def _rest_s(loads: Loads) -> Floats:
    """[U + 1] what units from each on add at least to the weighted mean of loads."""
    finite = np.where(np.isinf(loads.seconds), 0.0, loads.seconds)
    priced = np.where(np.isinf(loads.seconds), np.inf, loads.weights[:, None] * finite)
    each = priced.min(axis=0, initial=np.inf)
    return np.concatenate([np.cumsum(each[::-1])[::-1], [0.0]]) * (1 - 1e-12)
