"""`cutset profile`: measures a model on this machine or on a cluster's devices."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cutset.cli import output, targets

if TYPE_CHECKING:
    from rich.console import Console

    from cutset.onnx_io import Model
    from cutset.profiles import Profile


def profile(
    model: targets.ModelArgument,
    cluster: Annotated[
        Path | None, typer.Option("--cluster", help="Measure its devices and links, not only here.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the profile here.")
    ] = None,
    kind: Annotated[
        str,
        typer.Option("--kind", help="Without --cluster: the kind that this machine stands for."),
    ] = "local",
    input_files: targets.InputOption = None,
    input_shape: targets.ShapeOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again what was measured before.")
    ] = False,
    insecure: targets.InsecureOption = False,
    lab: targets.LabOption = False,
    json: output.JsonFlag = False,
) -> None:
    """Measure every operator, and with a cluster its devices and links too."""
    from cutset import api
    from cutset.feeds import read_feeds
    from cutset.serde import profile_document, write_profile

    output.check_writable(out, (model, cluster, *(input_files or ())))
    with output.working("measuring") as note:
        loaded = api.load(model, targets.parse_shapes(input_shape))
        feeds = read_feeds(input_files, loaded.ports)[0] if input_files else None
        with contextlib.ExitStack() as stack:
            devices = None
            if cluster is not None:
                reached = stack.enter_context(targets.in_lab(api.as_cluster(cluster), lab))
                reached.join_cpu()
                devices = reached.cluster
            found = api.profile(
                loaded, devices, feeds=feeds, kind=kind, fresh=fresh, insecure=insecure, note=note
            )
    if out is not None:
        write_profile(out, found)
    output.emit(
        json,
        profile_document(found),
        lambda console: _show(console, loaded, found, model, cluster, out, lab),
    )


def _show(
    console: Console,
    model: Model,
    found: Profile,
    path: Path,
    cluster: Path | None,
    out: Path | None,
    lab: bool,
) -> None:
    from cutset.units import format_bytes, format_rate, format_time

    output.table(
        console,
        ("kind", "whole model", "p90", "runs", "threads", "engine"),
        [
            (w.kind, format_time(w.p50_s), format_time(w.p90_s), w.samples, w.threads, w.engine)
            for w in found.whole
        ],
    )
    for whole in found.whole:
        times = found.compute_s[whole.kind]
        console.print()
        output.table(
            console,
            (f"slowest on {whole.kind}", "operator", "takes", "share"),
            [
                (
                    i + 1,
                    name,
                    format_time(times[name]),
                    f"{times[name] / whole.latency_s:.1%}",
                )
                for i, name in enumerate(sorted(times, key=lambda n: -times[n])[:5])
            ],
        )
    if found.links:
        console.print()
        output.table(
            console,
            ("link", "bandwidth", "latency"),
            [
                (f"{x.source}>{x.target}", format_rate(x.bandwidth_bps), format_time(x.latency_s))
                for x in found.links
            ],
        )
    console.print()
    sizes = sum(op.weight_bytes for op in model.graph.operators)
    console.print(f"{len(model.graph.operators)} operators, weights {format_bytes(sizes)}")
    name, program = output.quoted(path), output.program()
    options = (f" --cluster {output.quoted(cluster)}" if cluster else "") + " --lab" * lab
    if out is None:
        step = f"profile {name}{options} -o profile.json (times are remembered)"
    elif cluster is not None:
        step = f"plan {name}{options} --profile {output.quoted(out)} -o plan.json"
    else:
        step = f"try {name}"
    console.print(f"next: {program} {step}")
