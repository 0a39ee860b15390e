"""Throughput on any graph, one stage a device: upper bounds, and proof by down-sets where few.

Works on graphs of any shape: skip connections, branches on several devices, colocate groups.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from cutset.plan import Plan
from cutset.problem import Budget, Problem, Proposal
from cutset.solvers import scopes
from cutset.solvers.arrays import Ints
from cutset.solvers.fitting import fitting_plan, no_plan
from cutset.solvers.full_scope import full_bound_s
from cutset.solvers.one_stage import best_single, value_of
from cutset.solvers.relaxation import out_of_time
from cutset.solvers.throughput.assignment_bound import assignment_bound_s
from cutset.solvers.throughput.device_classes import device_classes
from cutset.solvers.throughput.ideal_chains import Chains, search_chains
from cutset.solvers.throughput.ideals import all_ideals, family, prefixes
from cutset.solvers.throughput.merging import convex, together
from cutset.solvers.throughput.period_model import PeriodModel, Units, period_model, placement_plan

_CLOSED = 1e-10  # relative
_FEW_IDEALS = 2_000
_FAR = 5_000  # units × devices; of more, only moves between neighbours are tried
_USUAL_WORK = 400  # operators and readers; of larger graphs fewer placements are looked at
_ARRAY_BYTES = 250_000_000
_PIECE = 4_000_000  # visits of operators and readers in one call of compiled code: some 20 ms


def _that_fit(model: PeriodModel, most: int) -> int:
    """As many down-sets as the arrays of the search have room for, at most `most`."""
    c = device_classes(model)
    rows = len(c.kinds) + len(c.counts)
    return min(most, math.isqrt(8 * _ARRAY_BYTES // rows), 8 * _ARRAY_BYTES // c.states)


def best_dag_plan(
    problem: Problem,
    budget: Budget,
    incumbent: Plan | None = None,
    *,
    max_ideals: int = 12_000,
    kicks: int = 200,
    rounds: tuple[int, ...] = (2_000, 50_000, 1_000_000),
    nodes: int = 200_000,
) -> Proposal:
    """The best plan of one stage a device for throughput, with a bound on all of them.

    The bound equals the value unless the graph has more than `max_ideals` down-sets (of operators
    that a better plan can tear apart), or the budget or the limits of `rounds` (partial plans
    looked at) ended the search. Where at most `nodes` partial placements suffice, it is proven for
    all untiled plans. A plan of several stages a device is taken where one is found that is better.
    Raises InfeasibleError where it is proven that there is no plan, PlanningError where none was
    found.
    """
    best = _Best(problem, budget, period_model(problem))
    single, _ = best_single(problem, required=False)
    for plan in (single, incumbent or (None if single else fitting_plan(problem))):
        if plan is not None:
            best.offer_plan(plan)
    full = full_bound_s(problem, best.value_s)
    bound, scope = full, scopes.FULL
    if best.plan is not None:
        budget.report(best.plan, bound, scope)
        best.improve()
    for most in (min(_FEW_IDEALS, max_ideals), max_ideals):
        if full >= best.value_s * (1 - _CLOSED):
            break
        unit = convex(problem, together(problem, best.value_s))
        ideals, complete = all_ideals(problem, unit, _that_fit(best.model, most))
        if not complete and most == max_ideals:
            break
        if not complete:  # a better plan leaves fewer down-sets
            ideals = prefixes(problem, unit, _FEW_IDEALS // 2)

        def report(bound_s: float, complete: bool = complete) -> None:
            if complete and best.plan is not None:
                budget.report(best.plan, min(bound_s, best.value_s), scopes.STAGE_PER_DEVICE)

        chains = Chains(problem, family(problem, ideals), budget, report)
        search_chains(chains, best.value_s, best.offer_improved, rounds if complete else rounds[:1])
        if complete:
            if chains.bound_s > bound:
                bound, scope = chains.bound_s, scopes.STAGE_PER_DEVICE
            break
    if best.plan is not None and bound < best.value_s * (1 - _CLOSED):
        best.kick(kicks)
    if full < best.value_s * (1 - _CLOSED):
        work = len(best.placement) + len(best.model.readers)  # of one partial placement
        few = min(nodes, nodes * _USUAL_WORK // max(work, 1))
        full = assignment_bound_s(problem, budget, best.value_s, best.offer_whole, nodes=few)
    if best.plan is None:
        if not budget.exhausted() or math.isinf(full):
            raise no_plan(problem, proven=math.isinf(full))
        raise out_of_time(budget)
    if full >= min(bound, best.value_s) * (1 - _CLOSED):
        bound, scope = max(full, bound), scopes.FULL
    if bound >= best.value_s * (1 - _CLOSED):
        bound = best.value_s
    budget.report(best.plan, bound, scope)
    return Proposal(best.plan, bound, scope, full_bound_s=min(full, best.value_s))


@dataclass(eq=False)
class _Best:
    """The best plan so far. Mutable: what the parts of one search share."""

    problem: Problem
    budget: Budget
    model: PeriodModel
    plan: Plan | None = None
    value_s: float = math.inf
    placement: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def offer_plan(self, plan: Plan) -> None:
        value = value_of(self.problem, plan)
        if value < self.value_s:
            index = {d.name: k for k, d in enumerate(self.problem.cluster.devices)}
            device = {name: index[s.device] for s in plan.stages for name in s.operators}
            self.plan, self.value_s = plan, value
            self.placement = np.array(
                [device[op.name] for op in self.problem.graph.operators], dtype=np.int64
            )
            self.budget.report(plan)

    def offer(self, placement: Ints) -> None:
        from cutset.solvers.throughput.period_kernels import score

        out = np.empty((3, len(self.model.overhead_s)))
        if score(self.model, placement, True, out)[0] < self.value_s:
            self.offer_plan(placement_plan(self.problem, placement))

    def offer_whole(self, plan: Plan) -> float:
        """Take in a plan as it is; the best value known."""
        self.offer_plan(plan)
        return self.value_s

    def offer_improved(self, placement: Ints) -> float:
        """Take in a placement, and what local search makes of it; the best value known."""
        self.offer(placement)
        self.offer(self._local_optimum(placement))
        return self.value_s

    def improve(self) -> None:
        self.offer_improved(self.placement)

    def kick(self, times: int) -> None:
        """Local search from random changes to the best placement: units moved, devices swapped."""
        rng = random.Random(f"dag {self.budget.seed}")
        units = self._units[1]
        devices = len(self.model.overhead_s)
        for _ in range(times):
            if self.budget.exhausted():
                return
            placement = self.placement.copy()
            for _ in range(rng.randint(1, 3)):
                a, b = rng.randrange(devices), rng.randrange(devices)
                if rng.random() < 0.5:
                    on_a, on_b = placement == a, placement == b
                    placement[on_a], placement[on_b] = b, a
                else:
                    placement[units[rng.randrange(len(units))]] = a
            self.offer(self._local_optimum(placement))

    @cached_property
    def _units(self) -> tuple[Units, list[Ints]]:
        """Colocated operators, for local search and as lists."""
        unit = together(self.problem)
        lists = [np.flatnonzero(unit == u) for u in range(int(unit.max(initial=-1)) + 1)]
        at = np.cumsum([0, *(len(x) for x in lists)]).astype(np.int64)
        above = np.zeros((len(lists), len(lists)), dtype=np.bool_)
        count = len(unit)
        for i, mask in enumerate(self.problem.graph.ancestors):
            raw = np.frombuffer(mask.to_bytes((count + 7) // 8, "little"), np.uint8)
            before = np.unpackbits(raw, bitorder="little", count=count).astype(np.bool_)
            above[unit[before], unit[i]] = True
        near: list[set[int]] = [set() for _ in lists]
        for i, others in enumerate(self.problem.graph.predecessors):
            for j in others:
                near[unit[i]].add(int(unit[j]))
                near[unit[j]].add(int(unit[i]))
        near_at = np.cumsum([0, *(len(x) for x in near)]).astype(np.int64)
        listed = np.array([v for x in near for v in sorted(x)], dtype=np.int64)
        return Units(at, np.concatenate(lists), above, near_at, listed), lists

    def _local_optimum(self, placement: Ints) -> Ints:
        from cutset.solvers.throughput.period_kernels import acyclic, improve

        units, _ = self._units
        found = placement.copy()
        cyclic = not acyclic(self.model, found)
        tries = max(_PIECE // (len(found) + len(self.model.readers)), 1)
        far = made = 0
        while not self.budget.exhausted():
            begin = made = 0
            while begin >= 0 and not self.budget.exhausted():
                begin, more = improve(self.model, units, found, cyclic, far > 0, begin, tries)
                made += more
            if not made:
                far += 1
                if far > 1 or len(units.at) * len(self.model.overhead_s) > _FAR:
                    break
        return found
