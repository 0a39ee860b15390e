"""The published two-way decisions: they minimise a cost that adds everything up."""

from __future__ import annotations

import math

import numpy as np

from cutset.plan import Plan
from cutset.problem import Problem, Proposal
from cutset.solvers.one_stage import best_single, none_found, value_of
from cutset.solvers.two_way.cut_table import CutTable
from cutset.solvers.two_way.min_cut import CutOracle
from cutset.solvers.two_way.roles import Floats, Role
from cutset.solvers.two_way.search import pairs
from cutset.solvers.two_way.two_stage import Pair


def scan(problem: Problem, table: CutTable, name: str) -> Proposal:
    """The cut with the least additive cost from the source to another device, or a single device.

    Raises InfeasibleError where the strategy `name` finds none that fits.
    """
    best: Plan | None
    best, value = best_single(problem, required=False)
    for pair in pairs(problem) if table.rows else ():
        if pair.first != problem.cluster.source:
            continue
        costs = additive_costs(pair, table)
        row = int(np.argmin(costs))
        if math.isfinite(costs[row]):
            plan = pair.plan(table.first_part(row))
            found = value_of(problem, plan)
            if found < value:
                best, value = plan, found
    if best is None:
        raise none_found(problem, name)
    return Proposal(best)


def additive_costs(pair: Pair, table: CutTable) -> Floats:
    """Seconds of each cut when nothing overlaps; inf where it cannot run or does not fit."""
    costs = pair.bounds(table, pair.problem.objective)
    alive = np.isfinite(costs)
    total = table.sum_first(pair.first_s) + table.sum_second(pair.second_s)
    for name in (pair.first, pair.second):
        total = total + (pair.problem.device(name).stage_overhead_s or 0.0)
    for flow in pair.flows:
        price = _price(pair, flow.source, flow.target)
        if math.isinf(price):
            continue  # no bytes in any cut that is left
        count = np.asarray(sum(table.count[r] * sign for r, sign in flow.roles.items()))
        moved = np.asarray(sum(table.bytes_[r] * sign for r, sign in flow.roles.items()))
        total = total + price * moved
        total = total + np.where(count > 0, pair.latency_s(flow.source, flow.target), 0.0)
    return np.where(alive, total, np.inf)


def additive_cut(pair: Pair, oracle: CutOracle) -> tuple[int, ...] | None:
    """The first part of the least additive cost by min-cut, latencies of links left out.

    None where it is empty or everything, or no cut can run.
    """
    per_byte: dict[Role, float] = {}
    forbidden: set[Role] = set()
    for flow in pair.flows:
        price = _price(pair, flow.source, flow.target)
        for role, sign in flow.roles.items():
            if math.isinf(price):
                forbidden.add(role)
            else:
                per_byte[role] = per_byte.get(role, 0.0) + sign * price
    cut = oracle.minimise(pair.first_s, pair.second_s, per_byte, forbidden=frozenset(forbidden))
    if cut is None or cut.first_part.all() or not cut.first_part.any():
        return None
    return tuple(np.flatnonzero(cut.first_part).tolist())


def _price(pair: Pair, start: str, end: str) -> float:
    """Seconds a byte costs from one device to another, all told."""
    send = pair.problem.device(start).send_s_per_byte or 0.0
    receive = pair.problem.device(end).recv_s_per_byte or 0.0
    return pair.per_byte_s(start, end) + send + receive
