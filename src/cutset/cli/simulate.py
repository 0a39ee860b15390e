"""`cutset simulate`: a plan played by discrete events, as it is and after changes."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutset.cli import output, targets
from cutset.errors import InfeasibleError, InvalidFileError, PlanningError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from cutset.cluster import Cluster
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
    requests: Annotated[
        int, typer.Option("--requests", min=1, help="Requests of the stream.")
    ] = 200,
    in_flight: Annotated[
        int | None,
        typer.Option(
            "--in-flight", min=1, help="Requests at a time; default: until more hardly helps."
        ),
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
    from cutset.serde.plan_file import check_transfers, plan_of, read_plan_document
    from cutset.simulation import simulate as play
    from cutset.simulation import what_if

    output.check_writable(trace, (target, plan, cluster, profile))
    texts = changes or []
    parsed = [parse_change(text, "--set") for text in texts]
    document = read_plan_document(plan)
    loaded = targets.load_target(target, targets.parse_shapes(input_shape))
    objective = Objective(document.objective or Objective.LATENCY)
    problem = targets.load_problem(loaded, cluster, profile, objective)
    final = what_if(problem, parsed, "--set")
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
            check_transfers(document, problem.graph)
        except (InvalidFileError, PlanningError) as error:
            raise error.located(file=str(plan)) from None
        after = None
        if parsed:
            try:
                after = judge(final)
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

            events = trace_document((after or before)[1], final.cluster)
            write_text(trace, msgspec.json.encode(events).decode())
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
    asked = [*texts, _next_change((after or before)[1], final.cluster)]
    options += [f"--set {shlex.quote(text)}" for text in asked]

    def show(console: Console) -> None:
        why = "it waits for other work, as transfers hold both their ends at once"
        if not all(device.overlap for device in final.cluster.devices):
            why = "it waits for other work, as devices do not compute while they transfer"
        if in_flight is not None:
            why = f"it idles with {in_flight} in flight"
        _show(console, before, after, texts, lambda e, s: _remark(e, s, why))
        if trace is not None:
            console.print(f"trace: {trace} (open it in https://ui.perfetto.dev)")
        console.print(f"next: {output.program()} simulate {' '.join(options)}")

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


def _next_change(found: Simulation, cluster: Cluster) -> str:
    """A change of the bottleneck worth asking about: twice the rate, or half the load."""
    from cutset.units import format_rate

    family, _, name = found.bottleneck.partition(":")
    source, _, target = name.partition(">")
    if family != "device":
        sender, receiver = cluster.by_name.get(source), cluster.by_name.get(target or name)
        rates = {}
        if family in ("link", "egress") and sender is not None:
            rates[f"device:{source}.egress"] = sender.egress_bps
        if family in ("link", "ingress") and receiver is not None:
            rates[f"device:{target or name}.ingress"] = receiver.ingress_bps
        link = cluster.link(source, target)
        if link is not None and link.bandwidth_bps is not None:
            rates[f"link:{name}"] = link.bandwidth_bps
        slowest = min(rates, key=lambda key: rates[key])
        if math.isfinite(rates[slowest]):
            rate = format_rate(2 * rates[slowest]).replace(" ", "")
            return f"{slowest}={rate}"
    device = name if family == "device" else cluster.source
    return f"device:{device}.load=0.5"


_BAR = 20  # characters, at most
_LEAST_BAR = 5


def _bar(fraction: float, blocks: bool, width: int) -> Text:
    """A bar in eighths of a character (or of # where the terminal has no blocks), and percent."""
    from rich.text import Text

    full, part = divmod(round(fraction * width * 8), 8)
    drawn = "█" * full + (" ▏▎▍▌▋▊▉"[part] if part else "") if blocks else "#" * full
    colour = "red" if fraction > 0.9995 else "yellow" if fraction > 0.8 else "green"
    return Text.assemble((f"{drawn:<{width}}", colour), f" {fraction:>4.0%}")


def _show(
    console: Console,
    before: tuple[Estimate, Simulation],
    after: tuple[Estimate, Simulation] | None,
    changes: list[str],
    remark: Callable[[Estimate, Simulation], str],
) -> None:
    from cutset.units import format_time

    both = [before] if after is None else [before, after]
    if after is None:
        scored, found = before
        rows = [
            ("latency", format_time(found.latency_s), format_time(scored.latency_s)),
            ("period", _about(found), format_time(scored.period_s)),
            ("throughput", _rate(found.period_s), _rate(scored.period_s)),
        ]
        output.table(console, ("", "simulated", "evaluator"), rows)
    else:
        console.print(f"what if: {', '.join(changes)}")
        console.print()
        lines: list[tuple[str, Callable[[Estimate, Simulation], str], float | None]] = [
            ("latency", lambda _, s: format_time(s.latency_s), _change(both, "latency_s")),
            ("by the evaluator", lambda e, _: format_time(e.latency_s), None),
            ("period", lambda _, s: _about(s), _change(both, "period_s")),
            ("by the evaluator", lambda e, _: format_time(e.period_s), None),
            ("throughput", lambda _, s: _rate(s.period_s), None),
        ]
        output.table(
            console,
            ("", "unchanged", "changed", ""),
            [
                (name, *(cell(*one) for one in both), "" if by is None else f"{by:+.1%}")
                for name, cell, by in lines
            ],
        )
    console.print()
    _show_busy(console, both)
    console.print()
    for words, (scored, found) in zip(("unchanged", "changed"), both, strict=False):
        if after is not None:
            console.print(f"{words}:")
        summary = found.latency_summary
        console.print(
            f"{found.requests} requests, {found.in_flight} in flight: all in"
            f" {format_time(found.makespan_s)}; each takes {format_time(summary.p50)} (p50),"
            f" {format_time(summary.p95)} (p95) with waiting"
        )
        console.print(f"bottleneck {found.bottleneck}: {remark(scored, found)}")


def _about(found: Simulation) -> str:
    """The period; "about" where no state recurred, so that it is measured on a sample."""
    from cutset.units import format_time

    return "about " * (not found.exact) + format_time(found.period_s)


def _show_busy(console: Console, both: list[tuple[Estimate, Simulation]]) -> None:
    """What is held for which part of the time, the busiest first.

    An interface that carries one link only is left out: it is held whenever that link is.
    """
    names = list(dict.fromkeys(name for _, found in both for name in found.utilisation))
    links = [name.removeprefix("link:").split(">") for name in names if name.startswith("link:")]
    senders, receivers = [pair[0] for pair in links], [pair[1] for pair in links]

    def tells(name: str) -> bool:
        family, _, device = name.partition(":")
        ends = {"egress": senders, "ingress": receivers}.get(family)
        return ends is None or ends.count(device) > 1

    shown = [name for name in names if tells(name)]
    shown.sort(key=lambda n: -max(found.utilisation.get(n, 0.0) for _, found in both))
    blocks = console.encoding.lower().startswith("utf")
    labels = ["busy"] if len(both) == 1 else ["busy, unchanged", "busy, changed"]
    room = (console.width - max(map(len, ["resource", *shown]))) // len(both)
    width = max(_LEAST_BAR, min(_BAR, room - len("   100%")))  # beside the gap between columns
    rows = [
        (name, *(_bar(found.utilisation.get(name, 0.0), blocks, width) for _, found in both))
        for name in shown
    ]
    output.table(console, ("resource", *labels), rows)


def _rate(period_s: float) -> str:
    return f"{1 / period_s:.3g}/s" if period_s > 0 else "unlimited"


def _change(both: list[tuple[Estimate, Simulation]], name: str) -> float | None:
    before_s, after_s = (float(getattr(found, name)) for _, found in both)
    return after_s / before_s - 1 if before_s > 0 else None


def _remark(scored: Estimate, found: Simulation, why: str) -> str:
    """How the simulated period compares with the evaluator's; `why` it may be above."""
    excess = found.period_s / scored.period_s - 1 if scored.period_s > 0 else 0.0
    if excess > 1e-6:
        return f"{why}, so that the period is {excess:.2%} above the evaluator's"
    return "busy all the time, so that the period is the evaluator's"
