"""Compares the families of plans and returns the best; "don't split" when that is best."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from cutset import strategies
from cutset.errors import InfeasibleError, PlanningError
from cutset.plan import Plan
from cutset.problem import Alternative, Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.few_plans import FewPlans, best_of_few
from cutset.solvers.fitting import fitting_plan, no_plan
from cutset.solvers.full_scope import full_bound_s
from cutset.solvers.latency.chain_plans import chain_plans
from cutset.solvers.one_stage import best_single, infeasible, value_of
from cutset.solvers.scopes import FULL, ONE_STAGE
from cutset.solvers.two_way.search import scope_of

_CLOSED = 1e-9  # relative: a bound this close to the value proves it


@dataclass(frozen=True)
class Family:
    """A family of plans, the strategy that searches it, and its share of what time is left."""

    name: str
    strategy: str
    share: float


FAMILIES: Mapping[Objective, tuple[Family, ...]] = {
    Objective.LATENCY: (
        Family("two-way split", "envelope", 0.3),
        Family("parallel branches", "makespan", 1.0),
    ),
    Objective.THROUGHPUT: (
        Family("two-way split", "envelope", 0.3),
        Family("pipeline", "bottleneck", 1.0),
    ),
}


@dataclass(frozen=True)
class _Found:
    """What a family gave: its plan, if any, and the plans that its bound holds for."""

    family: Family
    proposal: Proposal | None
    value_s: float
    elapsed_s: float
    error: PlanningError | None = None

    @property
    def alternative(self) -> Alternative:
        proposal = self.proposal
        return Alternative(
            self.family.name,
            self.family.strategy,
            None if proposal is None else self.value_s,
            0.0 if proposal is None else proposal.bound_s,
            "" if proposal is None else proposal.scope or "",
            self.elapsed_s,
            None if self.error is None else self.error.message,
            None if proposal is None else proposal.plan,
        )


@dataclass(frozen=True)
class Auto:
    """One device, a two-way split, and a pipeline (throughput) or parallel branches (latency).

    The families are searched one after another, the simpler first; of equal plans the simpler
    counts. Before them, in milliseconds and with nothing compiled: one device, and chains of stages
    where memory is short, or else whatever fits. The best of these is what stands in for what time
    kept from being found, and a family knows it. Where there are few plans in all, each is tried
    instead, which proves the best of every family. `effort_s` is the most that a family may take
    where no time limit is given. The bound is the highest of those for any plan, where that closes
    the gap; otherwise the least of the families' own, which holds for the plans of all of them
    together.
    """

    effort_s: float = 60.0

    info: ClassVar[StrategyInfo] = StrategyInfo(
        objectives=frozenset(Objective),
        exact="what its families' strategies are exact for",
        citation="cutset, docs/planning.md",
    )

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        full = full_bound_s(problem)
        single, single_s = best_single(problem, required=False)
        alone = Family("one device", "single_device", 0.0)
        found = [
            _Found(
                alone,
                None if single is None else Proposal(single, single_s, ONE_STAGE),
                single_s,
                0.0,
                None if single is not None else infeasible(problem),
            )
        ]
        if single is not None:
            budget.report(single, full, FULL)
        chain, chain_s = single, single_s
        for plan in chain_plans(problem, budget):
            value_s = value_of(problem, plan)
            if value_s < chain_s:
                chain, chain_s = plan, value_s
                budget.report(plan, full, FULL)
        if full < chain_s * (1 - _CLOSED) and (few := best_of_few(problem, budget)) is not None:
            return _of_few(problem, found[0], few)
        if chain is None and (chain := fitting_plan(problem)) is not None:
            chain_s = value_of(problem, chain)
            budget.report(chain, full, FULL)
        for family in FAMILIES[problem.objective]:
            best_s = min(f.value_s for f in found)
            if full >= best_s * (1 - _CLOSED) and math.isfinite(best_s):
                break
            if budget.exhausted():
                found.append(
                    _Found(
                        family,
                        None,
                        math.inf,
                        0.0,
                        PlanningError("no time was left", field="time_limit_s"),
                    )
                )
                continue
            found.append(self._search(family, problem, budget, chain))
            proposal = found[-1].proposal
            if proposal is not None:
                full = max(full, proposal.full_bound_s)
                if proposal.scope == FULL:
                    full = max(full, proposal.bound_s)
                budget.report(proposal.plan, full, FULL)
            if any(f.proposal is not None for f in found):
                sofar = _best(found, full)
                budget.report(sofar.plan, sofar.bound_s, sofar.scope, sofar.alternatives)
        best_s = min(f.value_s for f in found)
        if chain is not None and chain_s < best_s:
            bound_s = min(full, chain_s)
            return Proposal(chain, bound_s, FULL, bound_s, tuple(f.alternative for f in found))
        if math.isinf(best_s):
            raise _why_none(problem, found)
        return _best(found, full)

    def _search(
        self, family: Family, problem: Problem, budget: Budget, known: Plan | None
    ) -> _Found:
        """What the family's strategy finds in its share of the time, `known` being known."""
        left_s = budget.remaining_s()
        part = budget.part(self.effort_s if math.isinf(left_s) else left_s * family.share)
        if known is not None:
            part.report(known)
        begin_s = time.perf_counter()
        proposal: Proposal | None = None
        failure: PlanningError | None = None
        try:
            proposal = strategies.load(family.strategy)(problem, part)
        except InfeasibleError as error:
            failure = error
        except PlanningError as error:
            proposal, failure = part.best, error
            if proposal is not None and proposal.plan is known:
                proposal = None
        elapsed_s = time.perf_counter() - begin_s
        value_s = math.inf if proposal is None else value_of(problem, proposal.plan)
        return _Found(family, proposal, value_s, elapsed_s, failure)


def _of_few(problem: Problem, alone: _Found, few: FewPlans) -> Proposal:
    """The best plan of all, with the best of each family beside it."""
    if few.best.plan is None:
        raise no_plan(problem, proven=True)
    two_way, last = (replace(f, strategy="brute_force") for f in FAMILIES[problem.objective])
    none = InfeasibleError("none of the plans of at most two stages fits")
    pair = _Found(two_way, None, math.inf, few.elapsed_s, none)
    if few.two_way.plan is not None:
        proposal = Proposal(few.two_way.plan, few.two_way.value_s, scope_of(problem))
        pair = _Found(two_way, proposal, few.two_way.value_s, few.elapsed_s)
    proposal = Proposal(few.best.plan, few.least_s, FULL)
    return _best(
        [alone, pair, _Found(last, proposal, few.best.value_s, few.elapsed_s)], few.least_s
    )


def _best(found: Sequence[_Found], full_s: float) -> Proposal:
    """The best plan of the families that have one, with the bound that says most about it."""
    alternatives = tuple(f.alternative for f in found)
    with_plan = [f for f in found if f.proposal is not None]
    best = min(with_plan, key=lambda f: f.value_s * (1 + _CLOSED if f is not found[0] else 1))
    assert best.proposal is not None
    plan, value_s = best.proposal.plan, best.value_s
    bound_s, scope = full_s, FULL
    if full_s < value_s * (1 - _CLOSED) and best.proposal.scope not in (None, FULL):
        scoped = [f.proposal for f in with_plan if f.proposal is not None]
        scoped = [p for p in scoped if p.scope not in (None, FULL)]
        own_s = min(p.bound_s for p in scoped)
        if own_s > full_s:
            words = [p.scope or "" for p in scoped if p.scope != ONE_STAGE] or [ONE_STAGE]
            bound_s, scope = own_s, "; ".join(dict.fromkeys(words))
    return Proposal(plan, min(bound_s, value_s), scope, min(full_s, value_s), alternatives)


def _why_none(problem: Problem, found: Sequence[_Found]) -> PlanningError:
    """What the last family says, which covers most; that time was over, where that kept it from
    looking. Two stages are too few to say anything of every plan."""
    return found[-1].error or no_plan(problem)
