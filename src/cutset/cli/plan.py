"""`cutset plan`: the best split of a model or workload over a cluster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutset.cli import output, targets

if TYPE_CHECKING:
    from rich.console import Console

    from cutset.problem import Problem, Solution


_MOST_ROWS = 24  # of stages and of transfers; the plan file has them all


def plan(
    target: targets.TargetArgument,
    cluster: targets.ClusterOption = targets.DEFAULT_CLUSTER,
    profile: targets.ProfileOption = None,
    objective: targets.ObjectiveOption = targets.ObjectiveName.latency,
    strategy: targets.StrategyOption = "auto",
    time_limit: targets.TimeLimitOption = math.inf,
    seed: targets.SeedOption = 0,
    out: Annotated[Path | None, typer.Option("-o", "--output", help="Write the plan here.")] = None,
    input_shape: targets.ShapeOption = None,
    insecure: targets.InsecureOption = False,
    lab: targets.LabOption = False,
    json: output.JsonFlag = False,
) -> None:
    """Find the best split, with its bound, its proof, and where the verdict would flip."""
    import msgspec

    from cutset import strategies
    from cutset.planner import solve
    from cutset.problem import Objective
    from cutset.serde import plan_document, write_plan

    output.check_writable(
        out, (target, cluster, profile, Path(strategy.rpartition(":")[0] or strategy))
    )
    chosen = strategies.load(strategy)
    with output.working("planning") as note:
        loaded = targets.load_target(target, targets.parse_shapes(input_shape))
        problem = targets.load_problem(
            loaded, cluster, profile, Objective(objective.value), note, insecure, lab
        )
        with targets.naming_files(loaded, target, cluster, strategy):
            solution = solve(
                problem,
                chosen,
                time_limit_s=time_limit,
                seed=seed,
                note=lambda text: note(f"{text} (Ctrl-C: enough)"),
            )
        others = alternatives(problem)
    if out is not None:
        write_plan(out, solution, problem.graph, problem.cluster)
    document = msgspec.to_builtins(plan_document(solution, problem.graph, problem.cluster))
    document["alternatives"] = others
    document["families"] = families(solution)
    again = targets.options_again(input_shape, objective.value, strategy)
    step = _next_step(target, cluster, profile, out, loaded.model is not None, lab, again)
    output.emit(json, document, lambda console: _show(console, problem, solution, others, step))
    if solution.interrupted:
        output.note("interrupted: planning was cut short, and this is the best plan until then")
        raise typer.Exit(130)


def alternatives(problem: Problem) -> list[dict[str, Any]]:
    """Every device alone: its value in seconds, or why it cannot."""
    from cutset.errors import PlanningError
    from cutset.estimate import estimate
    from cutset.plan import Plan, Stage
    from cutset.problem import check_memory

    names = tuple(op.name for op in problem.graph.operators)
    found: list[dict[str, Any]] = []
    for device in problem.cluster.devices:
        try:
            scored = estimate(problem, Plan((Stage("s0", device.name, names),)))
            check_memory(problem, scored.memory_bytes)
            value: float | None = scored.value_s(problem.objective)
            reason = None
        except PlanningError as error:
            value, reason = None, error.message
        found.append({"device": device.name, "value_s": value, "reason": reason})
    return found


def families(solution: Solution) -> list[dict[str, Any]]:
    """What each other family of plans would give, where the strategy looked at several."""
    return [
        {
            "family": other.family,
            "strategy": other.strategy,
            "value_s": other.value_s,
            "bound_s": other.bound_s,
            "scope": other.scope,
            "elapsed_s": other.elapsed_s,
            "reason": other.reason,
        }
        for other in solution.alternatives
    ]


def _next_step(
    target: Path,
    cluster: Path,
    profile: Path | None,
    out: Path | None,
    model: bool,
    lab: bool,
    again: str,
) -> str:
    quoted = output.quoted
    options = f" --cluster {quoted(cluster)}" + (f" --profile {quoted(profile)}" if profile else "")
    name = quoted(target)
    if out is None:
        return f"{output.program()} plan {name}{options}{again}{' --lab' * lab} -o plan.json"
    if model:
        options += " --lab" * lab
        return f"{output.program()} run {name}{options} --plan {quoted(out)} --input FILE --verify"
    return f"{output.program()} evaluate {name} {quoted(out)}{options}"


def _more(console: Console, count: int, what: str) -> None:
    if count > _MOST_ROWS:
        console.print(f"and {count - _MOST_ROWS} {what} more")


def _reasons(console: Console, said: str, given: Sequence[tuple[str, str | None]]) -> None:
    """Why there is no number in a table, below it: a line for each reason."""
    names: dict[str, list[str]] = {}
    for name, reason in given:
        if reason is not None:
            names.setdefault(reason, []).append(name)
    for reason, those in names.items():
        console.print(f"{said}: {', '.join(those)} ({reason})")


def _bound(solution: Solution) -> str:
    from cutset.units import format_time

    if solution.bound_s <= 0:
        return "none"
    return f"{format_time(solution.bound_s)}, gap {solution.gap:.2%}"


def _show(
    console: Console,
    problem: Problem,
    solution: Solution,
    others: list[dict[str, Any]],
    next_step: str,
) -> None:
    from cutset.explanation import (
        any_plan_in_words,
        bottleneck_in_words,
        critical_path,
        flips_in_words,
        path_in_words,
        proof_in_words,
        value_in_words,
        verdict_in_words,
    )
    from cutset.problem import Objective
    from cutset.units import format_bytes, format_time

    estimate = solution.estimate
    console.print(verdict_in_words(solution))
    console.print()
    latency = problem.objective is Objective.LATENCY
    value = value_in_words(problem.objective, solution.value_s)
    rows = [
        ("latency" if latency else "period", value),
        ("bound", _bound(solution)),
        ("proof", proof_in_words(solution.proof, solution.scope)),
        ("bottleneck", bottleneck_in_words(estimate, problem.objective)),
        ("strategy", f"{solution.strategy}, planned in {format_time(solution.elapsed_s)}"),
    ]
    if solution.scope != "full" and max(solution.bound_s, solution.full_bound_s) > 0:
        said = any_plan_in_words(solution.full_bound_s, solution.value_s)
        rows.insert(3, ("any plan", said))
    if not solution.finished:
        what = "Ctrl-C" if solution.interrupted else "its time limit"
        rows.append(
            ("", f"cut short by {what}: the best plan until then, with what is proven of it")
        )
    path = critical_path(problem, solution) if latency else ()
    if len(path) > 1:
        rows.insert(-1, ("waits for", path_in_words(path)))
    for name, text in rows:
        console.print(f"{name:<11} {text}")
    console.print()
    sizes = {op.name: i for i, op in enumerate(problem.graph.operators)}
    timing = {t.name: t for t in estimate.stages}
    output.table(
        console,
        ("stage", "device", "operators", "first", "last", "compute"),
        [
            (
                s.name,
                s.device,
                len(s.operators),
                min(s.operators, key=sizes.__getitem__),
                max(s.operators, key=sizes.__getitem__),
                format_time(timing[s.name].end_s - timing[s.name].start_s),
            )
            for s in solution.plan.stages[:_MOST_ROWS]
        ],
    )
    _more(console, len(solution.plan.stages), "stages")
    if estimate.transfers:
        console.print()
        output.table(
            console,
            ("tensor", "from", "to", "size", "wire"),
            [
                (
                    t.transfer.tensor,
                    t.transfer.source_device,
                    t.transfer.target_device,
                    format_bytes(t.transfer.bytes),
                    format_time(t.end_s - t.start_s),
                )
                for t in estimate.transfers[:_MOST_ROWS]
            ],
        )
        _more(console, len(estimate.transfers), "transfers")
    console.print()
    output.table(
        console,
        ("alone on", "takes", "memory limit", "needed by the plan"),
        [
            (
                o["device"],
                "cannot" if o["value_s"] is None else format_time(o["value_s"]),
                format_bytes(problem.device(o["device"]).memory_bytes),
                format_bytes(estimate.memory_bytes.get(o["device"], 0)),
            )
            for o in others
        ],
    )
    _reasons(console, "cannot", [(o["device"], o["reason"]) for o in others])
    if solution.alternatives:
        console.print()
        output.table(
            console,
            ("family of plans", "strategy", "takes", "at least", "planned in"),
            [
                (
                    other.family,
                    other.strategy,
                    "no plan" if other.value_s is None else format_time(other.value_s),
                    format_time(other.bound_s) if other.bound_s > 0 else "–",
                    format_time(other.elapsed_s),
                )
                for other in solution.alternatives
            ],
        )
        without = [o for o in solution.alternatives if o.value_s is None]
        _reasons(console, "no plan", [(o.family, o.reason) for o in without])
    flips = flips_in_words(solution.break_even, solution.stays_best)
    if flips:
        console.print()
    for name, text in flips:
        console.print(f"{name:<13} {text}")
    console.print()
    console.print(f"next: {next_step}")
