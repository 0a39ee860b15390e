"""`cutset demo`: the main job on this machine, with a real model and a real page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutset.cli import output

if TYPE_CHECKING:
    from rich.console import Console

    from cutset.demo.main_job import Outcome, Ran


def demo(
    folder: Annotated[
        Path, typer.Option("--folder", help="Where its models, cluster file and page are put.")
    ] = Path("demo-output"),
    json: output.JsonFlag = False,
) -> int:
    """Read a page with the networks split over two emulated devices, predicted beside measured."""
    from cutset.demo.main_job import play

    with output.working("preparing") as status:

        def note(text: str) -> None:
            status(text)
            output.note(f"· {text}")

        outcome = play(folder, note)
    output.emit(json, _document(outcome), lambda console: _show(console, outcome))
    if not outcome.equal:
        output.note("error: the split models' output differs from the unsplit models'")
        return 1
    return 0


def _document(outcome: Outcome) -> dict[str, Any]:
    return {
        "emulated": "process",
        "networks": [
            {
                "name": section.network.title,
                "verdict": section.solution.verdict,
                "proof": section.solution.proof,
                "proof_scope": section.solution.scope,
                "bound_s": section.solution.bound_s,
                "break_even": section.solution.break_even,
                "stays_best": section.solution.stays_best,
                "plans": [_row(row) for row in section.rows],
            }
            for section in outcome.sections
        ],
        "followed": {
            "phases": outcome.followed.phases,
            "switches": [
                {"at_s": at_s, "from": before, "to": after, "reason": reason}
                for at_s, before, after, reason in outcome.followed.switches
            ],
            "requests": outcome.followed.requests,
            "failed": outcome.followed.failed,
        },
        "text": outcome.text,
        "text_equal": outcome.text == outcome.text_unsplit,
        "equal": outcome.equal,
        "folder": str(outcome.folder),
    }


def _row(row: Ran) -> dict[str, Any]:
    return {
        "plan": row.name,
        "where": row.where,
        "predicted_s": row.predicted_s,
        "measured_p50_s": row.measured_s,
        "off": row.off,
        "bound_s": row.bound_s,
        "gap": row.gap,
        "requests": row.requests,
        "max_rel": row.comparison.max_rel,
    }


def _show(console: Console, outcome: Outcome) -> None:
    from cutset.explanation import flip_in_words, proof_in_words, verdict_in_words
    from cutset.units import format_rate, format_time

    console.print()
    console.print(
        "Emulated on this machine: pi is this process at a quarter of a core, server is another"
        " process;"
    )
    console.print("they talk over a link of 20 Mbit/s and 2 ms. Latency of one request, median.")
    for section in outcome.sections:
        console.print()
        console.print(section.network.title)
        output.table(
            console,
            ("plan", "operators", "predicted", "measured", "off by", "gap", "outputs"),
            [
                (
                    row.name,
                    row.where,
                    format_time(row.predicted_s),
                    format_time(row.measured_s),
                    f"{row.off:+.1%}",
                    f"{row.gap:.1%}",
                    _sameness(row),
                )
                for row in section.rows
            ],
        )
        solution = section.solution
        console.print(f"verdict: {verdict_in_words(solution)}")
        console.print(
            f"bound {format_time(solution.bound_s)}, gap {solution.gap:.2%}:"
            f" {proof_in_words(solution.proof, solution.scope)}"
        )
        for flip in solution.break_even:
            console.print(f"verdict flips: {flip_in_words(flip)}")
    console.print()
    console.print("The link changes while the recogniser runs, and the cut follows by itself")
    output.table(
        console,
        ("link", "requests", "measured", "last cut", "the first cut would take", "the best cut"),
        [
            (
                format_rate(phase.bandwidth_bps),
                str(phase.requests),
                format_time(phase.measured_s),
                phase.cut,
                format_time(phase.kept_s),
                format_time(phase.best_s),
            )
            for phase in outcome.followed.phases
        ],
    )
    for at_s, before, after, reason in outcome.followed.switches:
        console.print(f"{at_s:5.1f} s  {before} -> {after}: {reason}")
    console.print()
    console.print("The page, as the split models read it")
    for line in outcome.text:
        console.print(f"  {line}")
    same = outcome.text == outcome.text_unsplit
    console.print(
        "Same text as the unsplit models." if same else "NOT the text of the unsplit models."
    )
    folder = output.quoted(outcome.folder)
    console.print()
    console.print("What to try next:")
    program = output.program()
    for line in (
        f"{program} try {folder}/recogniser.onnx",
        f"{program} plan {folder}/recogniser.onnx --cluster {folder}/cluster.yaml"
        f" --profile {folder}/recogniser-profile.json -o plan.json",
        f"{program} run {folder}/recogniser.onnx --cluster {folder}/cluster.yaml --plan plan.json"
        f" --input {folder}/lines.npy --verify",
        f"{program} try YOUR-MODEL.onnx",
    ):
        console.print(f"  {line}")


def _sameness(row: Ran) -> str:
    if row.comparison.bit_equal:
        return "bit-equal"
    return "equal" if row.comparison.equal() else f"DIFFER by {row.comparison.max_rel:.1g}"
