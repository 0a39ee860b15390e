"""List schedules of any problem: operators by upward rank, each where it ends first.

What a list schedule cannot see is repaired here: links that only some devices have (a consumer
must be reachable from all its producers at once), and memory, of which stages take some too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cutset.plan import Plan
from cutset.problem import Objective, Problem
from cutset.solvers.arrays import Bools, Floats, Ints
from cutset.solvers.fitting import fitting_plan, no_plan
from cutset.solvers.latency.latency_model import LatencyModel, latency_model
from cutset.solvers.one_stage import best_single

#: Shares of the memory limits that operators may take, tried in turn: stages take the rest.
_SHARES = (1.0, 0.8, 0.6, 0.4)


@dataclass(frozen=True, eq=False)
class Schedule:
    """A device for each operator (index into the cluster's devices), and the order they run in."""

    device: Ints
    order: Ints


def schedule_of(problem: Problem, plan: Plan) -> Schedule:
    """The schedule that a plan's stages are of, each in the order of the graph."""
    positions = problem.graph.positions
    at = {d.name: k for k, d in enumerate(problem.cluster.devices)}
    device = np.zeros(len(positions), dtype=np.int64)
    order: list[int] = []
    for stage in plan.stages:
        members = sorted(positions[name] for name in stage.operators)
        device[members] = at[stage.device]
        order += members
    return Schedule(device, np.array(order, dtype=np.int64))


def rank_order(ranks: Floats) -> Ints:
    """Operators by falling rank, ties as in the graph: topological, as ranks never rise."""
    return np.argsort(-ranks, kind="stable")


def list_schedule(problem: Problem, *, contended: bool) -> Schedule:
    """The first schedule whose plan can run and fits; `contended` as in list_kernels.schedule.

    Tried in turn: all devices; those that can all talk with each other; less memory for
    operators; the other rule for transfers; the devices filled one after another; one device;
    what filling them by memory finds.
    Raises what `search.no_plan` returns.
    """
    for found in _attempts(problem, contended):
        if math.isfinite(value_s(problem, found)):
            return found
    single, _ = best_single(problem, required=False)
    fitting = single or fitting_plan(problem)
    if fitting is None:
        raise no_plan(problem)
    return schedule_of(problem, fitting)


def value_s(problem: Problem, schedule: Schedule) -> float:
    """The schedule's value in stages that delay nothing, or, where memory asks, in fewer."""
    from cutset.solvers.scheduling import stage_kernels as kernels

    latency = problem.objective is Objective.LATENCY
    model = latency_model(problem)
    return float(kernels.grouped_score(model, schedule.device, schedule.order, latency))


def _attempts(problem: Problem, contended: bool) -> Iterator[Schedule]:
    from cutset.solvers.scheduling import list_kernels as kernels

    m = latency_model(problem)
    ranks = kernels.upward_ranks(m)
    if np.isinf(ranks).any():
        return  # an operator can run nowhere
    order = rank_order(ranks)
    everyone = np.ones(m.devices, dtype=np.bool_)
    circle = _circle(m)
    limited = bool(np.isfinite(m.memory_limit).any())
    shares = _SHARES if limited else _SHARES[:1]
    circles = (everyone,) if circle.all() else (everyone, circle)
    for waits in (contended, not contended):
        for share, allowed in itertools.product(shares, circles):
            limit = share * m.memory_limit
            device, start, _, stuck = kernels.schedule(m, order, allowed, limit, waits)
            if stuck < 0:
                yield Schedule(device, np.lexsort((np.arange(m.operators), start)))
    yield from _filled(m)


def _circle(m: LatencyModel) -> Bools:
    """Devices that all have links to each other, from the source and to the sink: the fastest
    first, as long as they do."""
    linked = m.bandwidth_bps > 0
    np.fill_diagonal(linked, True)
    able = np.isfinite(m.compute_s)
    speed = np.where(able, m.compute_s, 0.0).sum(axis=1)
    chosen = np.zeros(m.devices, dtype=np.bool_)
    for d in sorted(range(m.devices), key=lambda d: (-int(able[d].sum()), speed[d], d)):
        if linked[m.source, d] and linked[d, m.sink]:
            chosen[d] = bool(linked[d, chosen].all() and linked[chosen, d].all())
    return chosen


def _filled(m: LatencyModel) -> Iterator[Schedule]:
    """Devices filled one after another in the graph's order: few stages, for tight memory."""
    numbers = range(m.devices)
    seconds = np.where(np.isfinite(m.compute_s), m.compute_s, 1e9).sum(axis=1)
    ends = {m.source: -1, m.sink: 1}
    for ranking in (
        sorted(numbers, key=lambda d: (-m.memory_limit[d], seconds[d], d)),
        sorted(numbers, key=lambda d: (seconds[d], d)),
        sorted(numbers, key=lambda d: (ends.get(d, 0), -m.memory_limit[d], d)),
    ):
        device = _fill(m, ranking)
        if device is not None:
            yield Schedule(device, np.arange(m.operators, dtype=np.int64))


def _fill(m: LatencyModel, ranking: list[int]) -> Ints | None:
    device = np.full(m.operators, -1, dtype=np.int64)
    left = m.memory_limit - m.stage_memory
    members = {g: np.flatnonzero(m.group == g) for g in set(m.group.tolist()) if g >= 0}
    linked = m.bandwidth_bps > 0
    np.fill_diagonal(linked, True)
    current = 0
    for i in range(m.operators):
        if device[i] >= 0:
            continue  # its group is placed
        part = members.get(int(m.group[i]), np.array([i]))
        need = float(m.memory[part].sum())
        homes = [
            m.source if m.producer[t] < 0 else int(device[m.producer[t]])
            for t in m.inputs[m.inputs_at[i] : m.inputs_at[i + 1]]
        ]
        while current < len(ranking):
            d = ranking[current]
            fits = need <= left[d] and np.isfinite(m.compute_s[d, part]).all()
            if fits and all(linked[home, d] for home in homes):
                break
            current += 1
        else:
            return None
        device[part] = ranking[current]
        left[ranking[current]] -= need
    return device
