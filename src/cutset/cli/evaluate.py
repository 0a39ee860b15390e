"""`cutset evaluate`: scores any plan file, and re-checks what it claims."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from cutset.cli import output, targets
from cutset.errors import InvalidFileError, PlanningError


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
    from cutset.cli.claims import check_claims
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
        claims = check_claims(document, problem, scored, time_limit)
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
            for claim in claims:
                if claim.reason is not None:
                    console.print(f"{claim.field}: {claim.reason}")

    output.emit(json, result, show)
    if not result["holds"]:
        raise typer.Exit(1)
