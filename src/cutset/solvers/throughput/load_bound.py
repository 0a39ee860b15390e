"""A lower bound on the period of any untiled plan, from loads and memory alone.

Units of operators that every better plan keeps together (merging.py) are spread over the devices:
minimise T with Σ_d x[u, d] = 1, Σ_u c[u, d]·x[u, d] ≤ T, Σ_u memory[u]·x[u, d] ≤ what d has. Of the
linear program only the multipliers λ, μ ≥ 0 are taken, with Σ λ = 1; then
T ≥ Σ_u min_d (λ_d·c[u, d] + μ_d·memory[u]) − Σ_d μ_d·memory_d
holds for every plan whatever the solver's tolerances are (weak duality). Where a unit cannot be on
a device in a plan better than `value_s`, its cost there is infinite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cutset.problem import Problem
from cutset.solvers.arrays import Floats, Ints
from cutset.solvers.throughput.merging import together
from cutset.solvers.throughput.period_model import PeriodModel, period_model

_LARGEST = 6_000  # variables of the linear program; larger ones take the multipliers by sight


@dataclass(frozen=True, eq=False)
class Loads:
    """U units, D devices. `seconds` [D, U] is inf where a unit cannot be in a better plan."""

    unit: Ints  # [O]
    seconds: Floats
    memory: Floats  # [U] bytes
    room: Floats  # [D] bytes beside one stage; negative where not even that fits
    weights: Floats  # [D] λ
    bound_s: float


def load_bound(problem: Problem, value_s: float = math.inf) -> Loads:
    """The bound for all plans whose period is below `value_s`; `bound_s` is at most `value_s`."""
    return _load_bound(problem, value_s)


@lru_cache(maxsize=8)
def _load_bound(problem: Problem, value_s: float) -> Loads:
    m = period_model(problem)
    unit = together(problem, value_s)
    count = int(unit.max(initial=-1)) + 1
    member = np.zeros((len(unit), count))
    member[np.arange(len(unit)), unit] = 1.0
    finite = np.isfinite(m.compute_s)
    seconds = np.where(finite, m.compute_s, 0.0) @ member
    seconds[((~finite) @ member) > 0] = np.inf
    memory = m.op_memory @ member
    room = m.memory - m.stage_memory
    seconds[seconds + m.overhead_s[:, None] > value_s * (1 + 1e-12)] = np.inf
    seconds[memory[None, :] > room[:, None] * (1 + 1e-12)] = np.inf
    seconds[_far(m, unit, count) >= value_s] = np.inf
    seconds[room < 0] = np.inf
    cheapest = seconds.min(axis=0, initial=math.inf)
    if np.isinf(cheapest).any() or memory.sum() > np.maximum(room, 0.0).sum() * (1 + 1e-12):
        return Loads(unit, seconds, memory, room, np.full(len(room), 1 / len(room)), value_s)
    lam, mu = _multipliers(seconds, memory, room)
    bound = max(
        _dual(seconds, memory, room, lam, mu),
        _dual(seconds, memory, room, lam, np.zeros_like(mu)),
        float((seconds + m.overhead_s[:, None]).min(axis=0).max(initial=0.0)),
    )
    if count == 1:  # all on one device: its costs are those of the plan
        bound = max(bound, float((seconds[:, 0] + m.overhead_s).min()))
    return Loads(unit, seconds, memory, room, lam, min(bound * (1 - 1e-12), value_s))


def _far(m: PeriodModel, unit: Ints, count: int) -> Floats:
    """[D, U] the longest transfer that a unit on the device makes sure of: from the source what it
    reads of the graph's inputs, to the sink what it makes of the outputs; inf without a link."""
    found = np.zeros((len(m.overhead_s), count))
    for t, size in enumerate(m.bytes_):
        p = int(m.producer[t])
        if p < 0:
            rates = m.wire[m.source]
            units = {int(unit[r]) for r in m.readers[m.readers_at[t] : m.readers_at[t + 1]]}
        elif m.is_output[t]:
            rates, units = m.wire[:, m.sink], {int(unit[p])}
        else:
            continue
        seconds = np.where(np.isinf(rates), np.inf, np.where(np.isinf(rates), 0.0, rates) * size)
        for u in units:
            found[:, u] = np.maximum(found[:, u], seconds)
    return found


def _dual(seconds: Floats, memory: Floats, room: Floats, lam: Floats, mu: Floats) -> float:
    """The bound that multipliers prove. λ of 0 makes an impossible place no cheaper than it is."""
    held = np.where(np.isinf(room), 0.0, room)
    priced = np.where(np.isinf(seconds), np.inf, 0.0)
    finite = np.where(np.isinf(seconds), 0.0, seconds)
    priced = priced + lam[:, None] * finite + mu[:, None] * memory[None, :]
    total = math.fsum(priced.min(axis=0))
    return total - math.fsum(mu[room >= 0] * held[room >= 0])


def _multipliers(seconds: Floats, memory: Floats, room: Floats) -> tuple[Floats, Floats]:
    """λ (sums to 1) and μ (0 for devices without a limit); any would prove a bound."""
    devices, units = seconds.shape
    largest = seconds.max(where=np.isfinite(seconds), initial=0.0)
    totals = np.maximum(np.where(np.isinf(seconds), largest, seconds).sum(axis=1), 1e-30)
    by_sight = (1 / totals) / (1 / totals).sum()  # right where devices differ in speed only
    none = np.zeros(devices)
    if devices * units > _LARGEST:
        return _descended(seconds, by_sight), none
    solved = _linear_program(seconds, memory, room)
    if solved is None:
        return by_sight, none
    lam, mu = solved
    return (lam / lam.sum(), mu / lam.sum()) if lam.sum() > 0 else (by_sight, none)


def _linear_program(seconds: Floats, memory: Floats, room: Floats) -> tuple[Floats, Floats] | None:
    from scipy.optimize import linprog
    from scipy.sparse import coo_array

    devices, units = seconds.shape
    d, u = np.nonzero(np.isfinite(seconds))
    places = np.arange(len(d))
    scale = max(float(seconds[d, u].max(initial=0.0)), 1e-30)
    limited = np.isfinite(room) & (room >= 0)
    heavy = limited[d] & (memory[u] > 0)
    share = memory[u[heavy]] / np.maximum(room[d[heavy]], 1.0)
    rows = np.concatenate([d, np.arange(devices), devices + d[heavy]])
    columns = np.concatenate([places, np.full(devices, len(d)), places[heavy]])
    values = np.concatenate([seconds[d, u] / scale, np.full(devices, -1.0), share])
    limits = np.concatenate([np.zeros(devices), np.where(room > 0, 1.0, 0.0)])
    # Devices without room for a byte still hold operators that need none.
    cost = np.zeros(len(d) + 1)
    cost[-1] = 1.0
    result = linprog(
        cost,
        A_ub=coo_array((values, (rows, columns)), shape=(2 * devices, len(d) + 1)).tocsr(),
        b_ub=limits,
        A_eq=coo_array((np.ones(len(d)), (u, places)), shape=(units, len(d) + 1)).tocsr(),
        b_eq=np.ones(units),
        bounds=(0, None),
        method="highs",
    )
    if result.status != 0:
        return None
    marginals = np.maximum(-np.asarray(result.ineqlin.marginals), 0.0)
    mu = np.where(limited, marginals[devices:] * scale / np.maximum(room, 1.0), 0.0)
    return marginals[:devices], mu


def _descended(seconds: Floats, start: Floats) -> Floats:
    """λ by multiplicative weights: devices that would get more than others become dearer."""
    finite = np.where(np.isinf(seconds), 0.0, seconds)
    lam, best, best_s = start, start, -math.inf
    for step in range(150):
        priced = np.where(np.isinf(seconds), np.inf, lam[:, None] * finite)
        value = float(priced.min(axis=0).sum())
        if value > best_s:
            best, best_s = lam, value
        where = priced.argmin(axis=0)
        load = np.bincount(where, weights=finite[where, np.arange(len(where))], minlength=len(lam))
        mean = load.sum() / len(lam)
        if mean <= 0:
            break
        lam = lam * np.exp((0.5 / (1 + step / 10)) * np.clip(load / mean - 1, -1, 1))
        lam = lam / lam.sum()
    return best
