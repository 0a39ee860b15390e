"""`cutset compare`: every strategy that applies, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutset.cli import output, targets

if TYPE_CHECKING:
    from rich.console import Console

    from cutset.comparison import Comparison, Row

_BAR_CLIP = 5.0  # values this many times the best one end the scale
_LEAST_BAR = 6  # characters; where there is no room for them, there are no bars
_NAME = 16  # characters of a strategy's name for which other columns may have to go
_MARKS = "¹²³⁴⁵⁶⁷⁸⁹"


def compare(
    target: targets.TargetArgument,
    cluster: targets.ClusterOption = targets.DEFAULT_CLUSTER,
    profile: targets.ProfileOption = None,
    objective: targets.ObjectiveOption = targets.ObjectiveName.latency,
    strategies: Annotated[
        str | None,
        typer.Option("--strategies", metavar="A,B", help="Only these; default: all there are."),
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option("--strategy", help="One more, such as ./FILE.py[:CLASS]; repeatable."),
    ] = None,
    time_limit: Annotated[
        float, typer.Option("--time-limit", min=0.0, help="Seconds for each strategy.")
    ] = 30.0,
    seed: targets.SeedOption = 0,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write a page (HTML) here.")
    ] = None,
    input_shape: targets.ShapeOption = None,
    insecure: targets.InsecureOption = False,
    lab: targets.LabOption = False,
    json: output.JsonFlag = False,
) -> None:
    """Plan with every strategy; show value, bound, gap, proof and planning time side by side."""
    from cutset import comparison
    from cutset.problem import Objective

    output.check_writable(out, (target, cluster, profile))
    names = _names(strategies)
    comparison.check_names([*(names or ()), *(strategy or ())])
    with output.working("comparing") as note:
        loaded = targets.load_target(target, targets.parse_shapes(input_shape))
        problem = targets.load_problem(
            loaded, cluster, profile, Objective(objective.value), note, insecure, lab
        )
        with targets.naming_files(loaded, target, cluster):
            found = comparison.compare(
                problem, names, added=strategy or (), time_limit_s=time_limit, seed=seed, note=note
            )
            if found.best is None and not found.interrupted:
                raise found.failure
        if out is not None:
            from cutset.page import write_page

            note("writing the page")
            write_page(out, found)
    best = found.best.given if found.best is not None else ""
    again = targets.options_again(input_shape, objective.value, best if out else "auto")
    step = _next_step(target, cluster, profile, out, lab, again)
    output.emit(json, document(found), lambda console: _show(console, found, step))
    if found.interrupted:
        raise typer.Exit(130)
    if any(row.outcome is comparison.Outcome.FAILED for row in found.rows):
        raise typer.Exit(1)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def document(found: Comparison) -> dict[str, Any]:
    """What `--json` prints (docs/formats.md, What `compare --json` prints)."""
    best = found.best
    return {
        "graph_digest": found.problem.graph.digest,
        "objective": found.problem.objective.value,
        "best": None if best is None else best.strategy,
        "value_s": None if best is None else best.value_s,
        "proven_s": found.proven_s,
        "time_limit_s": found.time_limit_s,
        "seed": found.seed,
        "interrupted": found.interrupted,
        "strategies": [_row(found, row) for row in found.rows],
    }


def _row(found: Comparison, row: Row) -> dict[str, Any]:
    from cutset.serde import plan_document

    solution = row.solution
    plan = None
    if solution is not None:
        plan = plan_document(solution, found.problem.graph, found.problem.cluster)
    return {
        "strategy": row.strategy,
        "outcome": row.outcome.value,
        "value_s": None if solution is None else solution.value_s,
        "ratio": None if solution is None else found.ratio(row),
        "bound_s": None if solution is None else solution.bound_s,
        "gap": None if solution is None else solution.gap,
        "proof": None if solution is None else solution.proof,
        "proof_scope": None if solution is None else solution.scope,
        "elapsed_s": row.elapsed_s,
        "finished": solution is not None and solution.finished,
        "devices": None if solution is None else list(solution.plan.devices),
        "reason": row.reason,
        "plan": plan,
    }


def _next_step(
    target: Path, cluster: Path, profile: Path | None, page: Path | None, lab: bool, again: str
) -> str:
    quoted = output.quoted
    options = f" --cluster {quoted(cluster)}" + (f" --profile {quoted(profile)}" if profile else "")
    options += again + " --lab" * lab
    if page is None:
        return f"{output.program()} compare {quoted(target)}{options} -o report.html"
    return f"{output.program()} plan {quoted(target)}{options} -o plan.json"


def _show(console: Console, found: Comparison, next_step: str) -> None:
    from cutset.explanation import (
        any_plan_in_words,
        bottleneck_in_words,
        flips_in_words,
        value_in_words,
        verdict_in_words,
    )

    best = found.best
    objective = found.problem.objective
    if best is None:
        console.print("interrupted before there was a plan")
    else:
        assert best.solution is not None
        console.print(verdict_in_words(best.solution))
        value = value_in_words(objective, best.value_s)
        console.print(
            f"best {'latency' if objective.value == 'latency' else 'period'} {value};"
            f" {any_plan_in_words(found.proven_s, best.value_s)}"
        )
        console.print(f"bottleneck: {bottleneck_in_words(best.solution.estimate, objective)}")
        console.print()
        _table(console, found)
    _footnotes(console, found)
    if best is not None and best.solution is not None:
        said = flips_in_words(best.solution.break_even, best.solution.stays_best, most=4)
        if said:
            console.print()
        for name, text in said:
            console.print(f"{name:<13} {text}")
    console.print()
    if found.interrupted:
        console.print("interrupted: this is what there was")
    console.print(f"next: {next_step}")


def _table(console: Console, found: Comparison) -> None:
    from rich.table import Table

    from cutset.cli.console import cell
    from cutset.explanation import gap_in_words
    from cutset.units import format_time

    planned = [row for row in found.rows if row.solution is not None]
    wide = console.width >= 110
    scopes = _scopes(planned)
    solutions = [row.solution for row in planned if row.solution is not None]
    columns = {
        "strategy": [row.strategy for row in planned],
        "value": [format_time(s.value_s) for s in solutions],
        "": [],  # the bars, for which the others leave room
        "× best": [f"{found.ratio(row):.2f}" for row in planned],
        "bound": [format_time(s.bound_s) if s.bound_s > 0 else "–" for s in solutions],
        "gap": [gap_in_words(s.gap) if s.bound_s > 0 else "–" for s in solutions],
        "proof": [s.proof + _mark(scopes, s.scope, s.proof) for s in solutions],
        "planned in" if wide else "took": [
            format_time(row.elapsed_s) + ("" if s.finished else " *")
            for row, s in zip(planned, solutions, strict=True)
        ],
        "devices" if wide else "on": [
            _devices(s.plan.devices) if wide else str(len(s.plan.devices)) for s in solutions
        ],
    }
    widths = {name: max(map(len, [name, *cells])) + 1 for name, cells in columns.items()}
    widths["strategy"] = min(widths["strategy"], _NAME)  # a longer one is folded where it must
    widths[""] = _LEAST_BAR + 1
    for name in ("", "bound", "on", "took"):
        if name in columns and sum(widths.values()) - 1 > console.width:
            del columns[name], widths[name]
    if "" in columns:
        most = max(map(len, columns["strategy"])) - widths["strategy"] + 1
        bar = _LEAST_BAR + console.width - sum(widths.values()) + 1 - max(most, 0)
        columns[""] = [
            _bar(found.ratio(row), _scale(found), max(_LEAST_BAR, min(30, bar)), console.encoding)
            for row in planned
        ]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        left = name in ("strategy", "", "proof", "devices", "on")
        table.add_column(
            cell(name, style="bold"),
            justify="left" if left else "right",
            no_wrap=name not in ("strategy", "devices"),
            overflow="fold",
        )
    for row, cells in zip(planned, zip(*columns.values(), strict=True), strict=True):
        style = "bold" if row is found.best else ""
        table.add_row(*(cell(text, style=style) for text in cells))
    console.print(table)
    for scope, mark in scopes.items():
        plans = "any untiled plan" if scope == "full" else f"these only: {scope}"
        console.print(f"{mark} bound, gap and proof are for {plans}")
    if any(row.solution is not None and not row.solution.finished for row in planned):
        console.print("* ended by its time limit or by Ctrl-C: its best plan until then")


def _scale(found: Comparison) -> float:
    ratios = [found.ratio(row) for row in found.rows if row.solution is not None]
    return min(max(ratios), _BAR_CLIP)


def _bar(ratio: float, scale: float, width: int, encoding: str) -> str:
    """A bar of the value, from 0; one that is longer than the scale ends in an arrow."""
    plain = not encoding.lower().startswith("utf")
    full, over = ("#", ">") if plain else ("█", "▶")
    if ratio > scale * (1 + 1e-9):
        return full * (width - 1) + over
    eighths = round(8 * width * ratio / scale)
    part = "" if plain or eighths % 8 == 0 else " ▏▎▍▌▋▊▉"[eighths % 8]
    return full * max(eighths // 8, 0 if part else 1) + part


def _scopes(rows: Sequence[Row]) -> dict[str, str]:
    """Scope -> its mark, in the order of the table; bounds of 0 claim nothing."""
    found = [r.solution.scope for r in rows if r.solution is not None and r.solution.bound_s > 0]
    return {
        scope: _MARKS[i] if i < len(_MARKS) else f"({i + 1})"
        for i, scope in enumerate(dict.fromkeys(found))
    }


def _mark(scopes: dict[str, str], scope: str, proof: str) -> str:
    return "" if proof == "none" else scopes.get(scope, "")


def _devices(names: Sequence[str], most: int = 4) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} +{len(names) - most}"


def _footnotes(console: Console, found: Comparison) -> None:
    """Those without a plan, and those that claim what cannot be, a line for each reason."""
    for said, names, why in found.left_out:
        console.print(f"{said}: {', '.join(names)} ({why})")
