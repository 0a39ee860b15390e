"""What a plan file claims, held against what is found here: `cutset evaluate`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cutset.errors import PlanningError

if TYPE_CHECKING:
    from cutset.problem import Estimate, Problem, Solution
    from cutset.serde.plan_file import PlanDocument

#: Relative; a file's numbers are exact copies of computed ones, up to the last digits.
TOLERANCE = 1e-9

#: At most so many placements, and so many plans, are all tried: some seconds' work.
MOST_PLANS = 30_000


@dataclass(frozen=True)
class Claim:
    """`holds` is None where it could be neither confirmed nor refuted; `reason` says why not."""

    field: str
    claimed: Any
    found: Any
    holds: bool | None
    reason: str | None = None


@dataclass(frozen=True)
class _Known:
    """What is known of the plans of one scope, in seconds: no plan takes less than `bound_s`, and
    one takes `best_s` (inf: none was seen)."""

    bound_s: float = 0.0
    best_s: float = math.inf
    plan: str = ""  # in words, what takes `best_s`

    def of(self, other: _Known) -> _Known:
        """With what is known of these plans from elsewhere."""
        better = other if other.best_s < self.best_s else self
        return _Known(max(self.bound_s, other.bound_s), better.best_s, better.plan)

    def holds(self, bound_s: float, slack_s: float) -> bool | None:
        """False where a plan takes less; True where as much is proven here."""
        if bound_s > self.best_s + slack_s:
            return False
        return True if bound_s <= self.bound_s + slack_s else None


def check_claims(
    document: PlanDocument, problem: Problem, scored: Estimate, time_limit_s: float
) -> list[Claim]:
    """What the file claims, compared with what is computed here. Times in seconds.

    A bound is wrong where any plan that it is about takes less: the file's own, those that solving
    again finds, and where they are few enough to be tried, all there are.
    """
    value_s = scored.value_s(problem.objective)
    claims = [
        Claim(field, claimed, found, _near(claimed, found))
        for field, claimed, found in _numbers(document, problem, scored)
        if claimed is not None
    ]
    if document.bound_s is None and document.proof is None and document.full_bound_s is None:
        return claims
    bound_s, full_s = document.bound_s or 0.0, document.full_bound_s
    if document.gap is not None:
        gap = (value_s - bound_s) / value_s if value_s > 0 else 0.0
        close = math.isclose(document.gap, gap, abs_tol=1e-6)
        claims.append(Claim("gap", document.gap, gap, close))
    own, full = _known(document, problem, value_s, time_limit_s)
    slack_s = TOLERANCE * abs(value_s)
    if document.bound_s is not None or document.proof is not None:
        claims.append(_bound_claim("bound_s", bound_s, own, slack_s))
    if document.proof is not None:
        stated = _proof(bound_s, value_s)
        holds = claims[-1].holds if document.proof == stated else document.proof == "none"
        found = _proof(claims[-1].found, value_s)
        claims.append(Claim("proof", document.proof, found, holds))
    if full_s is not None:
        claims.append(_bound_claim("full_bound_s", full_s, full, slack_s))
    return claims


def _numbers(
    document: PlanDocument, problem: Problem, scored: Estimate
) -> Iterator[tuple[str, float | None, float]]:
    """What the evaluator says at once: field, claimed and found, in seconds."""
    yield "value_s", document.value_s, scored.value_s(problem.objective)
    if document.estimate is not None:
        yield "estimate.latency_s", document.estimate.latency_s, scored.latency_s
        yield "estimate.period_s", document.estimate.period_s, scored.period_s
    if document.verdict is not None:
        from cutset.solvers.one_stage import best_single

        alone_s = document.verdict.best_single_value_s
        yield "verdict.best_single_value_s", alone_s, best_single(problem, required=False)[1]


def _bound_claim(field: str, claimed_s: float, known: _Known, slack_s: float) -> Claim:
    from cutset.units import format_time

    holds, reason = known.holds(claimed_s, slack_s), None
    if holds is False:
        reason = f"{known.plan} takes {format_time(known.best_s)}, less than that bound"
    elif holds is None:
        reason = "no plan that takes less was found, and no bound as high was proven, in the time"
    return Claim(field, claimed_s, min(known.bound_s, known.best_s), holds, reason)


def _proof(bound_s: float, value_s: float) -> str:
    return "optimal" if _near(bound_s, value_s) else "bound" if bound_s > 0 else "none"


def _known(
    document: PlanDocument, problem: Problem, value_s: float, time_limit_s: float
) -> tuple[_Known, _Known]:
    """What is known of the plans that the file's `proof_scope` is about, and of all untiled ones:
    by the cheaper ways first, and no more of them once both claims are settled.
    """
    from cutset.solvers.full_scope import full_bound_s
    from cutset.solvers.scopes import FULL
    from cutset.testing.plans import known_scope

    ends_s = time.monotonic() + time_limit_s
    scope, slack_s = document.proof_scope, TOLERANCE * abs(value_s)
    full = _Known(full_bound_s(problem), value_s, "this plan")
    own = _Known(full.bound_s, value_s, "this plan")
    full = full.of(_tried(problem, FULL, ends_s))
    # A bound on all plans is one on some of them; a plan is one of those only if it is known to be.
    own = own.of(full if scope == FULL else _Known(full.bound_s))
    if own.holds(document.bound_s or 0.0, slack_s) is None:
        words = None if scope is None else known_scope(scope)
        if words is not None and words != FULL:
            own = own.of(_tried(problem, words, ends_s))
    claims = (own, document.bound_s or 0.0), (full, document.full_bound_s or 0.0)
    if all(known.holds(bound_s, slack_s) is not None for known, bound_s in claims):
        return own, full
    solution = _solve_again(document.strategy, problem, max(ends_s - time.monotonic(), 0.0))
    if solution is not None:
        again = f"the plan of {solution.strategy}"
        # Its own plan is one of the plans that its bound is about.
        full = full.of(_Known(solution.full_bound_s, solution.value_s, again))
        same = scope == solution.scope
        own = own.of(_Known(solution.bound_s, solution.value_s, again) if same else _Known())
        own = own.of(full if scope == FULL else _Known(full.bound_s))
    return own, full


def _tried(problem: Problem, scope: str, ends_s: float) -> _Known:
    """By trying every plan of a scope that has few enough; nothing is known where it has more."""
    from cutset.solvers.all_plans import placement_count
    from cutset.testing.plans import plans_of, value_s

    plans = plans_of(problem, scope)
    if plans is None or placement_count(problem) > MOST_PLANS:
        return _Known()
    best_s, all_of_them = math.inf, True
    for count, plan in enumerate(plans):
        if count >= MOST_PLANS or time.monotonic() > ends_s:
            all_of_them = False
            break
        best_s = min(best_s, value_s(problem, plan))
    bound_s = best_s if all_of_them and math.isfinite(best_s) else 0.0
    return _Known(bound_s, best_s, "the best of all plans" if all_of_them else "another plan")


def _solve_again(strategy: str | None, problem: Problem, time_limit_s: float) -> Solution | None:
    """By the strategy that the file names, so that scopes are the same, where it is installed."""
    from cutset import strategies
    from cutset.planner import solve

    name = strategy if strategy in strategies.available() else "auto"
    try:
        solution = solve(problem, name, time_limit_s=time_limit_s, explain=False)
    except PlanningError:
        return None
    if solution.interrupted:
        raise KeyboardInterrupt
    return solution


def _near(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=1e-15)
