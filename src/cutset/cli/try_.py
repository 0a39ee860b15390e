"""`cutset try`: would splitting pay for this model at all? No cluster needed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutset.cli import output, targets

if TYPE_CHECKING:
    from rich.console import Console

    from cutset.solvers.two_way.break_even import OffloadRow


def try_(
    model: targets.ModelArgument,
    input_shape: targets.ShapeOption = None,
    latency: Annotated[
        str, typer.Option("--latency", help="One-way latency of the link to imagine, such as 5ms.")
    ] = "2ms",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again what was measured before.")
    ] = False,
    json: output.JsonFlag = False,
) -> None:
    """Measure the model here with random input: from which bandwidth on would a server help?"""
    from cutset import api
    from cutset.errors import InvalidFileError, UsageError
    from cutset.solvers.two_way.break_even import offload_grid
    from cutset.units import parse_time

    try:
        latency_s = parse_time(latency, field="--latency")
    except InvalidFileError as error:
        raise UsageError(
            error.message, field=error.field, value=error.value, remedy=error.remedy
        ) from None
    with output.working("measuring"):
        loaded = api.load(model, targets.parse_shapes(input_shape))
        found = api.profile(loaded, kind="local", fresh=fresh)
        rows = offload_grid(loaded.graph, found.compute_s["local"], latency_s=latency_s)
    whole_s = found.whole[0].latency_s
    document = {
        "model": str(model),
        "graph_digest": loaded.graph.digest,
        "local_s": whole_s,
        "threads": found.whole[0].threads,
        "engine": found.whole[0].engine,
        "link_latency_s": latency_s,
        "rows": [_row(row) for row in rows],
    }
    output.emit(json, document, lambda console: _show(console, whole_s, latency, rows, model))


def _row(row: OffloadRow) -> dict[str, Any]:
    return {
        "server_speedup": row.speedup,
        "pays_above_bps": row.least_bandwidth_bps,
        "at": [
            {"bandwidth_bps": bps, "gain": gain, "best": best}
            for bps, (gain, best) in row.gain.items()
        ],
    }


def _show(
    console: Console, whole_s: float, latency: str, rows: tuple[OffloadRow, ...], model: Path
) -> None:
    from cutset.units import format_rate, format_time

    console.print(f"this machine alone takes {format_time(whole_s)} (median, random input)")
    paying = [row for row in rows if row.least_bandwidth_bps is not None]
    if paying:
        row = next((r for r in paying if r.speedup >= 5), paying[-1])
        assert row.least_bandwidth_bps is not None
        console.print(
            f"splitting pays above {format_rate(row.least_bandwidth_bps)} with a server"
            f" {row.speedup:g} times faster than this machine"
        )
    else:
        console.print(
            f"no server pays: even {rows[-1].speedup:g} times faster, and over a link of any"
            f" bandwidth with {latency} latency, it cannot make up for the way there and back"
        )
    console.print()
    bandwidths = list(rows[0].gain)
    output.table(
        console,
        (
            "server",
            "pays above",
            *(f"at {format_rate(b)}" for b in bandwidths),
        ),
        [
            (
                f"{row.speedup:g}x",
                "never"
                if row.least_bandwidth_bps is None
                else format_rate(row.least_bandwidth_bps),
                *(_cell(*row.gain[b]) for b in bandwidths),
            )
            for row in rows
        ],
    )
    console.print()
    console.print(
        f"Latency saved against this machine alone, link latency {latency} each way. Predicted from"
        " times measured here; no transfer costs but the wire's."
    )
    console.print(
        f"next: {output.program()} inspect {output.quoted(model)},"
        " or write a cluster.yaml and plan with it"
    )


def _cell(gain: float, best: str) -> str:
    if best == "local alone" or gain <= 0 or math.isnan(gain):
        return "stay local"
    return f"{'split' if best == 'split' else 'offload'} -{gain:.0%}"
