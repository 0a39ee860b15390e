"""The best plan of at most two stages, exactly as the evaluator scores it.

Every cut gets a lower bound (two_stage.py); in the order of their bounds, cuts are evaluated until
the next bound reaches the best value. Blocks with too many cuts to list are searched by min-cut
and branching instead. What is left open when the budget ends is the gap.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from cutset.errors import InfeasibleError
from cutset.plan import Plan
from cutset.problem import Budget, Problem, Proposal
from cutset.solvers import one_stage, relaxation
from cutset.solvers.full_scope import full_bound_s
from cutset.solvers.one_stage import single_stage, value_of
from cutset.solvers.relaxation import out_of_time
from cutset.solvers.scopes import FULL
from cutset.solvers.two_way.branch_and_bound import BranchAndBound
from cutset.solvers.two_way.cut_table import CutTable, all_cuts
from cutset.solvers.two_way.min_cut import CutOracle
from cutset.solvers.two_way.two_stage import Pair

_CLOSED = 1e-12  # relative: bounds are sums in another order than the evaluator's


def pairs(problem: Problem) -> tuple[Pair, ...]:
    """Every ordered pair of devices, the source's first."""
    source = problem.cluster.source
    names = sorted((d.name for d in problem.cluster.devices), key=lambda name: name != source)
    return tuple(
        sorted(
            (Pair(problem, a, b) for a, b in itertools.permutations(names, 2)),
            key=lambda pair: (source not in (pair.first, pair.second), pair.first != source),
        )
    )


def scope_of(problem: Problem) -> str:
    """The words for the plans that `search` covers."""
    names = [d.name for d in problem.cluster.devices]
    if len(names) == 1:
        return f"plans of one stage on {names[0]}"
    if len(names) == 2:
        return (
            f"plans of at most two stages: all on {names[0]} or on {names[1]}, or a part on one"
            " and then the rest on the other"
        )
    return (
        "plans of at most two stages: all on one device, or a part on one and the rest on another"
    )


@dataclass
class _Incumbent:
    """The best plan so far. Mutable: what the parts of one search share."""

    problem: Problem
    budget: Budget
    plan: Plan | None = None
    value_s: float = math.inf

    def offer(self, plan: Plan) -> float:
        value = value_of(self.problem, plan)
        if value < self.value_s:
            self.plan, self.value_s = plan, value
            self.budget.report(plan)
        return self.value_s

    def offer_cut(self, pair: Pair, first_part: tuple[int, ...]) -> float:
        return self.offer(pair.plan(first_part))


def search(
    problem: Problem,
    budget: Budget,
    *,
    max_cuts_per_block: int = 100_000,
    max_evaluations: int = 2_000,
    max_subproblems: int = 200,
) -> Proposal:
    """The best plan of at most two stages, with a lower bound on all of them.

    The bound equals the value unless a limit or the budget ended the search first. Raises
    InfeasibleError that says what is short.
    """
    best = _Incumbent(problem, budget)
    for device in problem.cluster.devices:
        best.offer(single_stage(problem, device.name))
    bound = math.inf
    table = None
    if len(problem.cluster.devices) > 1 and len(problem.graph.operators) > 1:
        table = all_cuts(problem.graph, max_cuts_per_block)
        bound = _listed(best, table, max_evaluations)
        bound = min(bound, _open(best, table, max_subproblems))
    if best.plan is None and math.isfinite(bound):
        raise out_of_time(budget)
    if best.plan is None:
        raise _infeasible(problem, table)
    bound = min(bound, best.value_s)
    scope = scope_of(problem)
    full = full_bound_s(problem, best.value_s)
    if full >= best.value_s * (1 - 1e-9):
        bound, scope = min(full, best.value_s), FULL
    budget.report(best.plan, bound, scope)
    return Proposal(best.plan, bound, scope, min(full, best.value_s))


def _listed(best: _Incumbent, table: CutTable, max_evaluations: int) -> float:
    """Evaluate listed cuts in the order of their bounds; returns the bound of the rest."""
    problem = best.problem
    found: list[tuple[float, int, int]] = []
    tried = pairs(problem)
    rest = math.inf
    for p, pair in enumerate(tried):
        floor = pair.floor_s(problem.objective)
        if floor >= best.value_s:
            continue
        if best.budget.exhausted():
            rest = min(rest, floor)
            continue
        bounds = pair.bounds(table, problem.objective)
        rows = np.flatnonzero(bounds < best.value_s * (1 - _CLOSED))
        if len(rows) > max_evaluations:
            order = np.argpartition(bounds[rows], max_evaluations)
            rest = min(rest, float(bounds[rows[order[max_evaluations]]]))
            rows = rows[order[:max_evaluations]]
        found += [(float(bounds[row]), p, int(row)) for row in rows]
        if len(rows):  # a good plan early spares the pairs to come
            row = int(rows[np.argmin(bounds[rows])])
            best.offer_cut(pair, table.first_part(row))
    found.sort()
    for done, (bound, p, row) in enumerate(found):
        if bound >= min(rest, best.value_s * (1 - _CLOSED)):
            return min(bound, rest)
        if done >= max_evaluations or best.budget.exhausted():
            return bound
        best.offer_cut(tried[p], table.first_part(row))
    return rest


def _open(best: _Incumbent, table: CutTable, max_subproblems: int) -> float:
    """Search the blocks that the table leaves out; returns a lower bound on their cuts."""
    if not table.open_blocks:
        return math.inf
    problem, bound = best.problem, math.inf
    oracle = CutOracle(problem.graph)
    for pair in pairs(problem):
        floor = pair.floor_s(problem.objective)
        if floor >= best.value_s:
            continue
        if best.budget.exhausted():
            bound = min(bound, floor)
            continue
        inside = BranchAndBound(pair, oracle, problem.objective, best.offer_cut)
        for begin, end in table.open_blocks:
            left = inside.run(begin, end, best.value_s, best.budget, max_subproblems)
            bound = min(bound, left)
    return bound


def short_of(problem: Problem, table: CutTable) -> list[relaxation.Way]:
    """The least that each pair of devices is short of for one of the cuts."""
    graph = problem.graph
    total = sum(op.memory_bytes for op in graph.operators) + graph.stage_memory_bytes
    ways: list[relaxation.Way] = []
    for pair in pairs(problem):
        bounds = pair.bounds(table, problem.objective, enforce_memory=False)
        rows = np.flatnonzero(np.isfinite(bounds))
        if not len(rows):
            continue
        first = table.memory_first[rows] + graph.stage_memory_bytes
        second = total - table.memory_first[rows]
        limits = (problem.device(name).memory_bytes for name in (pair.first, pair.second))
        short = sum(
            np.maximum(part - limit, 0.0)
            for part, limit in zip((first, second), limits, strict=True)
        )
        row = int(np.argmin(short))
        needs = {pair.first: float(first[row]), pair.second: float(second[row])}
        ways.append(relaxation.way(problem, needs))
    return ways


def _infeasible(problem: Problem, table: CutTable | None) -> InfeasibleError:
    """What stands in the way of every plan of one stage, or with a table of two (relaxation.py)."""
    if table is None:
        return one_stage.infeasible(problem)
    ways, blocked = one_stage.short_of(problem)
    return relaxation.infeasible(
        problem,
        "plans of at most two stages",
        [*ways, *short_of(problem, table)],
        blocked,
        tried_all=not table.open_blocks,
    )
