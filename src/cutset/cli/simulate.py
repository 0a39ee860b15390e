"""`cutset simulate`: a plan played by discrete events, as it is and after changes."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutset.cli import output, targets
from cutset.errors import InfeasibleError, InvalidFileError, PlanningError

if TYPE_CHECKING:
    from rich.console import Console

    from cutset.problem import Estimate
    from cutset.simulation import Simulation


class DispatchName(StrEnum):
    oldest = "oldest"
    listed = "listed"


def simulate(
    target: targets.TargetArgument,
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan file (JSON).")],
    cluster: targets.ClusterOption = targets.DEFAULT_CLUSTER,
    profile: targets.ProfileOption = None,
    requests: Annotated[int, typer.Option("--requests", help="Requests of the stream.")] = 200,
    in_flight: Annotated[
        int | None,
        typer.Option("--in-flight", help="Requests at a time; default: until more hardly helps."),
    ] = None,
    dispatch: Annotated[
        DispatchName,
        typer.Option(
            "--dispatch", help="What a device takes up: of the oldest request, or one by one."
        ),
    ] = DispatchName.oldest,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="CHANGE",
            help="What if? Such as link:pi>server=5Mbit/s or device:server.load=3; repeatable.",
        ),
    ] = None,
    trace: Annotated[
        Path | None, typer.Option("--trace", help="Write a trace for ui.perfetto.dev here.")
    ] = None,
    input_shape: targets.ShapeOption = None,
    json: output.JsonFlag = False,
) -> None:
    """Play a plan without touching hardware: latency, period, what is busy; and what if?"""
    from cutset.changes import parse_change
    from cutset.estimate import estimate
    from cutset.problem import Objective, Problem, check_memory
    from cutset.serde.common import write_text
    from cutset.serde.plan_file import plan_of, read_plan_document
    from cutset.simulation import simulate as play
    from cutset.simulation import what_if

    output.check_writable(trace)
    texts = changes or []
    parsed = [parse_change(text) for text in texts]
    document = read_plan_document(plan)
    loaded = targets.load_target(target, targets.parse_shapes(input_shape))
    objective = Objective(document.objective or Objective.LATENCY)
    problem = targets.load_problem(loaded, cluster, profile, objective)
    stages = plan_of(document)

    def judge(stated: Problem) -> tuple[Estimate, Simulation]:
        scored = estimate(stated, stages)
        check_memory(stated, scored.memory_bytes)
        return scored, play(
            stated, stages, requests=requests, in_flight=in_flight, dispatch=dispatch.value
        )

    with output.working("simulating"):
        try:
            before = judge(problem)
        except (InvalidFileError, PlanningError) as error:
            raise error.located(file=str(plan)) from None
        after = None
        if parsed:
            changed = what_if(problem, parsed)
            try:
                after = judge(changed)
            except InfeasibleError as error:
                raise InfeasibleError(
                    f"the plan cannot run after this: {error.message}",
                    field="--set",
                    value=", ".join(texts),
                    remedy="plan again with these numbers in the cluster file",
                ) from None
        if trace is not None:
            import msgspec

            from cutset.trace import trace_document

            shown, shape = (before[1], problem) if after is None else (after[1], changed)
            text = msgspec.json.encode(trace_document(shown, shape.cluster)).decode()
            write_text(trace, text)
    result = {
        "graph_digest": loaded.graph.digest,
        "requests": requests,
        "dispatch": dispatch.value,
        "changes": texts,
        "unchanged": _document(*before),
        "changed": None if after is None else _document(*after),
        "trace": None if trace is None else str(trace),
    }
    options = [output.quoted(target), output.quoted(plan), "--cluster", output.quoted(cluster)]
    options += ["--profile", output.quoted(profile)] if profile else []
    again = f"{output.program()} simulate {' '.join(options)}"

    def show(console: Console) -> None:
        _show(console, before, after, texts)
        if trace is not None:
            console.print(f"trace: {trace} (open it in https://ui.perfetto.dev)")
        console.print(f"next: {again} {_next_change(before[1], problem)}")

    output.emit(json, result, show)


def _document(scored: Estimate, found: Simulation) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "latency_s": found.latency_s,
        "period_s": found.period_s,
        "evaluator": {"latency_s": scored.latency_s, "period_s": scored.period_s},
        "in_flight": found.in_flight,
        "exact": found.exact,
        "cycle": found.cycle,
        "saturated": found.saturated,
        "utilisation": dict(found.utilisation),
        "bottleneck": found.bottleneck,
        "stream": {"latency_s": asdict(found.latency_summary), "makespan_s": found.makespan_s},
    }


def _next_change(found: Simulation, problem: Any) -> str:
    """A change of the bottleneck worth asking about."""
    from cutset.units import format_rate

    family, _, name = found.bottleneck.partition(":")
    if family == "link":
        link = problem.cluster.link(*name.split(">"))
        rate = format_rate(2 * link.bandwidth_bps).replace(" ", "")
        return f'--set "link:{name}={rate}"'
    if family in ("egress", "ingress") and math.isfinite(
        limit := getattr(problem.device(name), f"{family}_bps")
    ):
        return f'--set "device:{name}.{family}={format_rate(2 * limit).replace(" ", "")}"'
    device = name if family == "device" else problem.cluster.source
    return f'--set "device:{device}.load=0.5"'


_BAR = 24


def _bar(fraction: float) -> str:
    """A bar of eighths of a character, and the percentage."""
    eighths = round(fraction * _BAR * 8)
    full, part = divmod(eighths, 8)
    drawn = "█" * full + (" ▏▎▍▌▋▊▉"[part] if part else "")
    return f"{drawn:<{_BAR}} {fraction:>4.0%}"


def _show(
    console: Console,
    before: tuple[Estimate, Simulation],
    after: tuple[Estimate, Simulation] | None,
    changes: list[str],
) -> None:
    from cutset.units import format_time

    both = [before] if after is None else [before, after]
    columns = ["", "simulated", "evaluator"]
    if after is not None:
        console.print(f"what if: {', '.join(changes)}")
        console.print()
        columns = ["", "unchanged", "evaluator", "changed", "evaluator", "change"]
    rows = []
    for name in ("latency", "period"):
        row = [name]
        for scored, found in both:
            row += [format_time(getattr(x, f"{name}_s")) for x in (found, scored)]
            row[-2] = "≈ " * (name == "period" and not found.exact) + row[-2]
        if after is not None:
            row.append(_change(getattr(before[1], f"{name}_s"), getattr(after[1], f"{name}_s")))
        rows.append(row)
    rates = ["throughput"]
    for scored, found in both:
        rates += [_rate(x.period_s) for x in (found, scored)]
    rows.append([*rates, *[""] * (len(columns) - len(rates))])
    output.table(console, columns, rows)
    console.print()
    _show_busy(console, both)
    console.print()
    for words, (scored, found) in zip(("unchanged", "changed"), both, strict=False):
        head = f"{words}: " if after is not None else ""
        summary = found.latency_summary
        console.print(
            f"{head}{found.requests} requests, {found.in_flight} in flight: latency"
            f" p50 {format_time(summary.p50)}, p95 {format_time(summary.p95)},"
            f" all answered in {format_time(found.makespan_s)}"
        )
        console.print(f"{head}bottleneck {found.bottleneck}; {_in_words(scored, found)}")


def _show_busy(console: Console, both: list[tuple[Estimate, Simulation]]) -> None:
    """What is held for which part of the time, the busiest first."""
    names = dict.fromkeys(name for _, found in both for name in found.utilisation)
    order = sorted(names, key=lambda n: -max(f.utilisation.get(n, 0.0) for _, f in both))
    labels = ["busy"] if len(both) == 1 else ["unchanged", "changed"]
    rows = [
        (name, *(_bar(found.utilisation.get(name, 0.0)) for _, found in both)) for name in order
    ]
    output.table(console, ("resource", *labels), rows)


def _rate(period_s: float) -> str:
    return f"{1 / period_s:.3g}/s" if period_s > 0 else "unlimited"


def _change(before_s: float, after_s: float) -> str:
    return f"{after_s / before_s - 1:+.1%}" if before_s > 0 else ""


def _in_words(scored: Estimate, found: Simulation) -> str:
    """How the simulated period compares with the evaluator's, and why."""
    excess = found.period_s / scored.period_s - 1 if scored.period_s > 0 else 0.0
    if excess < 1e-6:
        return "it is never idle, so that the period is the evaluator's"
    return (
        f"the period is {excess:.2%} above the evaluator's, which no resource alone prevents:"
        " activities wait for one another"
    )
