"""`cutset conformance`: does a strategy keep what every strategy must?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cutset.cli import output

if TYPE_CHECKING:
    from rich.console import Console

    from cutset.problem import Problem
    from cutset.testing.strategy_conformance import Check, Conformance


def conformance(
    strategy: Annotated[
        str, typer.Argument(metavar="STRATEGY", help="./FILE.py[:CLASS], or a strategy's name.")
    ],
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, max=100_000, help="How many random problems.")
    ] = 60,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write the first problem that fails to this folder."),
    ] = None,
    time_limit: Annotated[
        float,
        typer.Option(
            "--time-limit",
            min=0.01,
            max=86_400.0,
            help="Seconds for one problem, compiling included; who takes longer has no end.",
        ),
    ] = 60.0,
    json: output.JsonFlag = False,
) -> None:
    """Check a strategy on random problems: plans, bounds, proofs, limits, determinism."""
    import dataclasses

    from cutset import strategies
    from cutset.testing import strategy_conformance as suite

    output.check_folder(out)
    chosen = strategies.load(strategy)
    with output.progress("problems", seeds) as done:
        found = suite.conformance(chosen, range(seeds), done, time_limit)
    failing = [check for check in found.failed if check.shown]
    # Workload files are of one part: a problem of one is written, if one fails.
    failing.sort(key=lambda check: len(check.shown[0].graph.parts) > 1)
    first = failing[0] if failing else None
    commands = [] if first is None or out is None else _write(out, first.shown, strategy)
    checks = [
        {name: value for name, value in dataclasses.asdict(bare).items() if name != "shown"}
        for bare in (dataclasses.replace(check, shown=()) for check in found.checks)
    ]
    document = {
        "strategy": found.strategy,
        "problems": sum(found.outcomes.values()),
        "outcomes": dict(found.outcomes),
        "checks": checks,
        "ok": not found.failed,
        "reproduce": commands,
    }
    again = None
    if first is not None and out is None:
        again = f"{output.program()} conformance {output.quoted(Path(strategy))}"
        again += f" --seeds {seeds} -o FOLDER   # writes the first problem that fails"
    output.emit(json, document, lambda console: _show(console, found, commands, again))
    if found.failed:
        raise typer.Exit(1)


def _write(folder: Path, shown: tuple[Problem, ...], strategy: str) -> list[str]:
    """Problems as files: the one that fails, then its variation. The commands that plan them."""
    from cutset.serde import to_json, workload_document, write_cluster
    from cutset.serde.common import write_text
    from cutset.testing.variations import by_device

    folder.mkdir(exist_ok=True)
    commands = []
    for prefix, problem in zip(("", "varied-"), map(by_device, shown), strict=False):
        workload, cluster = folder / f"{prefix}workload.json", folder / f"{prefix}cluster.yaml"
        names = [op.name for op in problem.graph.operators]
        seconds = {
            d.kind: dict(zip(names, problem.compute_s(d.name), strict=True))
            for d in problem.cluster.devices
        }
        write_text(workload, to_json(workload_document(problem.graph, seconds)))
        write_cluster(cluster, problem.cluster)
        commands.append(
            f"{output.program()} plan {output.quoted(workload)} --cluster {output.quoted(cluster)}"
            f" --objective {problem.objective.value} --strategy {output.quoted(Path(strategy))}"
        )
    return commands


def _show(console: Console, found: Conformance, commands: list[str], again: str | None) -> None:
    total = sum(found.outcomes.values())
    counts = ", ".join(f"{count} {outcome}" for outcome, count in found.outcomes.items())
    console.print(f"{found.strategy}: {total} random problems{': ' * bool(counts)}{counts}")
    for check in found.checks:
        console.print(f"{check.result:<5} {check.name}{_details(check)}")
    console.print()
    if not found.failed:
        console.print(
            "it conforms"
            if found.outcomes.get("solved")
            else "it found no plan: little was checked"
        )
    for command in commands:
        console.print(f"next: {command}")
    if again is not None:
        console.print(f"next: {again}")


def _details(check: Check) -> str:
    if check.result == "pass":
        return f" ({check.times} times)" if check.times > 1 else ""
    where = "" if check.seed is None else f"random_problem({check.seed}): "
    return f": {where}{check.message}"
