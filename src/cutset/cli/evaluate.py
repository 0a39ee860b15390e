"""`cutset evaluate`: scores any plan file, and re-checks what it claims."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from cutset.cli import output, targets
from cutset.errors import InvalidFileError, PlanningError

if TYPE_CHECKING:
    from cutset.problem import Problem, Solution
    from cutset.serde.plan_file import PlanDocument

#: Relative; a file's numbers are exact copies of computed ones, up to the last digits.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Claim:
    """`holds` is None where it could be neither confirmed nor refuted."""

    field: str
    claimed: Any
    found: Any
    holds: bool | None


def evaluate(
    target: targets.TargetArgument,
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan file (JSON).")],
    cluster: targets.ClusterOption = targets.DEFAULT_CLUSTER,
    profile: targets.ProfileOption = None,
    time_limit: Annotated[
        float, typer.Option("--time-limit", min=0.0, help="Seconds for re-checking a proof.")
    ] = 60.0,
    input_shape: targets.ShapeOption = None,
    json: output.JsonFlag = False,
) -> None:
    """Score a plan file by the evaluator; say whether the value, bound and proof it claims hold."""
    from cutset.estimate import estimate
    from cutset.problem import Objective, check_memory
    from cutset.serde.plan_file import (
        check_transfers,
        estimate_document,
        plan_of,
        read_plan_document,
    )
    from cutset.units import format_bytes, format_time

    document = read_plan_document(plan)
    loaded = targets.load_target(target, targets.parse_shapes(input_shape))
    objective = Objective(document.objective or Objective.LATENCY)
    problem = targets.load_problem(loaded, cluster, profile, objective)
    try:
        scored = estimate(problem, plan_of(document))
        check_transfers(document, problem.graph)
        check_memory(problem, scored.memory_bytes)
    except (InvalidFileError, PlanningError) as error:
        raise error.located(file=str(plan)) from None
    value = scored.value_s(objective)
    with output.working("re-checking the claims"):
        claims = check_claims(document, problem, value, time_limit)
    result = {
        "graph_digest": loaded.graph.digest,
        "objective": objective.value,
        "value_s": value,
        "estimate": msgspec.to_builtins(estimate_document(scored)),
        "claims": [msgspec.to_builtins(claim) for claim in claims],
        "holds": all(claim.holds is not False for claim in claims),
    }

    def show(console: Any) -> None:
        console.print(f"latency    {format_time(scored.latency_s)}")
        console.print(f"period     {format_time(scored.period_s)}")
        console.print(f"bottleneck {scored.bottleneck}")
        for name, needed in scored.memory_bytes.items():
            limit = format_bytes(problem.device(name).memory_bytes)
            console.print(f"memory     {name} {format_bytes(needed)} of {limit}")
        if claims:
            console.print()
            words = {True: "holds", False: "WRONG", None: "not confirmed"}
            rows = [(c.field, c.claimed, c.found, words[c.holds]) for c in claims]
            output.table(console, ("claim", "in the file", "found", ""), rows)

    output.emit(json, result, show)
    if not result["holds"]:
        raise typer.Exit(1)


def check_claims(
    document: PlanDocument, problem: Problem, value_s: float, time_limit_s: float
) -> list[Claim]:
    """What the file claims, compared with what is computed here. Times in seconds."""
    claims: list[Claim] = []
    if document.value_s is not None:
        claims.append(Claim("value_s", document.value_s, value_s, _near(document.value_s, value_s)))
    if document.bound_s is None and document.proof is None:
        return claims
    bound = document.bound_s or 0.0
    gap = (value_s - bound) / value_s if value_s > 0 else 0.0
    if document.gap is not None:
        claims.append(
            Claim("gap", document.gap, gap, math.isclose(document.gap, gap, abs_tol=1e-6))
        )
    solution = _solve_again(document.strategy, problem, time_limit_s)
    found = None if solution is None else solution.value_s
    claims.append(Claim("bound_s", bound, found, _bound_holds(document, bound, value_s, solution)))
    if document.proof is not None:
        closed = _near(bound, value_s)
        own = "optimal" if closed else "bound" if bound > 0 else "none"
        holds = claims[-1].holds if document.proof == own else document.proof == "none"
        claims.append(Claim("proof", document.proof, own, holds))
    return claims


def _solve_again(strategy: str | None, problem: Problem, time_limit_s: float) -> Solution | None:
    """By the strategy that the file names, so that scopes are the same, where it is installed."""
    from cutset import strategies
    from cutset.planner import solve

    name = strategy if strategy in strategies.available() else "auto"
    try:
        return solve(problem, name, time_limit_s=time_limit_s)
    except PlanningError:
        return None


def _bound_holds(
    document: PlanDocument, bound_s: float, value_s: float, solution: Solution | None
) -> bool | None:
    """False where a plan beats the bound that covers it; True where our own bound is as high."""
    slack = TOLERANCE * abs(value_s)
    if bound_s > value_s + slack:
        return False
    if bound_s <= 0:
        return True
    if solution is None:
        return None
    comparable = document.proof_scope in ("full", solution.scope)
    if comparable and solution.value_s < bound_s - slack:
        return False
    same_or_wider = solution.scope in ("full", document.proof_scope)
    return True if same_or_wider and solution.bound_s >= bound_s - slack else None


def _near(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=1e-15)
