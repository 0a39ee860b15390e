"""The best plan of at most two stages, exactly as the evaluator scores it.

Every cut gets a lower bound (two_stage.py); in the order of their bounds, cuts are evaluated until
the next bound reaches the best value. Blocks with too many cuts to list are searched by min-cut
and branching instead. What is left open when the budget ends is the gap.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import overload

import numpy as np

from cutset.errors import InfeasibleError, PlanningError, UnsupportedProblemError
from cutset.estimate import estimate
from cutset.plan import Plan, Stage
from cutset.problem import Budget, Objective, Problem, Proposal, check_memory
from cutset.solvers import relaxation, scopes
from cutset.solvers.filling import filled_plans
from cutset.solvers.full_scope import full_bound_s
from cutset.solvers.two_way.branch_and_bound import BranchAndBound
from cutset.solvers.two_way.cut_table import CutTable, all_cuts
from cutset.solvers.two_way.min_cut import CutOracle
from cutset.solvers.two_way.two_stage import Pair

_FEW_CUTS = 2_000  # of a block, where only memory is asked about
_CLOSED = 1e-12  # relative: bounds are sums in another order than the evaluator's


def single_stage(problem: Problem, device: str) -> Plan:
    """The whole graph on one device."""
    return Plan(
        (Stage("s0", device, tuple(op.name for op in problem.graph.operators)),),
        problem.graph.digest,
    )


def value_of(problem: Problem, plan: Plan) -> float:
    """The evaluator's value in seconds; inf where the plan cannot run or does not fit."""
    try:
        scored = estimate(problem, plan)
        check_memory(problem, scored.memory_bytes)
    except InfeasibleError:
        return math.inf
    return scored.value_s(problem.objective)


@overload
def best_single(problem: Problem) -> tuple[Plan, float]: ...
@overload
def best_single(problem: Problem, *, required: bool) -> tuple[Plan | None, float]: ...
def best_single(problem: Problem, *, required: bool = True) -> tuple[Plan | None, float]:
    """The best plan of one stage and its value in seconds; ties go to the first device.

    Where none can run: raises InfeasibleError if one is required, else returns (None, inf).
    """
    best = _best_single(problem)
    if best[0] is None and required:
        raise infeasible(problem, None)
    return best


@lru_cache(maxsize=8)
def _best_single(problem: Problem) -> tuple[Plan | None, float]:
    """Kept, as the search and the verdict both ask: with many devices it takes a while."""
    best: tuple[Plan | None, float] = (None, math.inf)
    for device in problem.cluster.devices:
        plan = single_stage(problem, device.name)
        value = value_of(problem, plan)
        if value < best[1]:
            best = (plan, value)
    return best


@lru_cache(maxsize=8)
def fitting_plan(problem: Problem) -> Plan | None:
    """A plan that can run and fits, judged by memory only; None where none is known.

    It finds every plan that `no_plan` names more memory for, once there is that much.
    """
    two_stages = (
        pair.plan(table.first_part(int(row)))
        for table in _few_cuts(problem)
        for pair in pairs(problem)
        for row in np.flatnonzero(np.isfinite(pair.bounds(table, problem.objective)))[:1]
    )
    found = itertools.chain((plan for _, plan in filled_plans(problem)), two_stages)
    return next((plan for plan in found if value_of(problem, plan) < math.inf), None)


def _few_cuts(problem: Problem) -> tuple[CutTable, ...]:
    """The cuts of blocks that have few, where there are two devices to cut for."""
    if len(problem.cluster.devices) < 2 or len(problem.graph.operators) < 2:
        return ()
    return (all_cuts(problem.graph, _FEW_CUTS),)


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
        raise PlanningError(
            "the search ended before it found a plan, or proved that there is none",
            field="time_limit_s",
            value=f"{budget.time_limit_s:g} s",
            remedy="give it more time, or the devices more memory",
        )
    if best.plan is None:
        raise infeasible(problem, table)
    bound = min(bound, best.value_s)
    scope = scope_of(problem)
    full = full_bound_s(problem, best.value_s)
    if full >= best.value_s * (1 - 1e-9):
        bound, scope = min(full, best.value_s), "full"
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


def no_plan(problem: Problem, *, proven: bool = False) -> PlanningError:
    """The error of every method that looks at plans of any kind, the same for all of them.

    An InfeasibleError where no plan exists (`proven`, or shown here), else a NoPlanFoundError.
    """
    table = next(iter(_few_cuts(problem)), None)
    ways, blocked = _ways(problem, table)
    return relaxation.no_plan(problem, ways, blocked, proven=proven)


def infeasible(problem: Problem, table: CutTable | None) -> InfeasibleError:
    """What stands in the way of every plan of one stage, or with a table of two (relaxation.py)."""
    ways, blocked = _ways(problem, table)
    return relaxation.infeasible(
        problem,
        scopes.ONE_STAGE if table is None else "plans of at most two stages",
        ways,
        blocked,
        tried_all=table is None or not table.open_blocks,
    )


def _ways(
    problem: Problem, table: CutTable | None
) -> tuple[list[relaxation.Way], InfeasibleError | None]:
    """The least that each device, and each pair with the table, is short of; what stops plans of
    one stage whatever the memory."""
    graph = problem.graph
    total = sum(op.memory_bytes for op in graph.operators) + graph.stage_memory_bytes
    ways: list[relaxation.Way] = []
    blocked: InfeasibleError | None = None
    for device in problem.cluster.devices:
        try:
            estimate(problem, single_stage(problem, device.name))
            ways.append(relaxation.way(problem, {device.name: total}))
        except InfeasibleError as error:
            blocked = error
    for pair in pairs(problem) if table is not None else ():
        assert table is not None
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
    return ways, blocked


def none_found(problem: Problem, name: str) -> InfeasibleError:
    """What a method that does not look at every plan says where it finds none."""
    ways, blocked = _ways(problem, None)
    return relaxation.infeasible(problem, f"plans that {name} looks at", ways, blocked)


def check_objective(problem: Problem, supported: frozenset[Objective], name: str) -> None:
    """Raise UnsupportedProblemError unless the strategy covers the problem's objective."""
    if problem.objective not in supported:
        raise UnsupportedProblemError(
            f"strategy {name!r} does not cover this objective",
            field="objective",
            value=problem.objective.value,
            remedy="it covers " + ", ".join(sorted(o.value for o in supported)),
        )
