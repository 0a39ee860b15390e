"""`cutset export`: a model and its measured costs as a workload file, without ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cutset.cli import output, targets

if TYPE_CHECKING:
    from rich.console import Console

    from cutset.serde import WorkloadDocument


def export(
    model: targets.ModelArgument,
    profile: targets.ProfileOption = None,
    cluster: Annotated[
        Path | None,
        typer.Option(
            "--cluster", help="Costs of its devices' kinds only; measured without PROFILE."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write the workload here, not to standard output."),
    ] = None,
    input_shape: targets.ShapeOption = None,
    insecure: targets.InsecureOption = False,
    lab: targets.LabOption = False,
    json: output.JsonFlag = False,
) -> None:
    """Write the graph with its costs as a workload file: for other planners, or to share.

    Without --profile the model is measured now, on the cluster's devices or on this machine.
    """
    from cutset import api

    output.check_writable(out, (model, cluster, profile))
    with output.working("exporting") as note:
        loaded = api.load(model, targets.parse_shapes(input_shape))
        devices = None if cluster is None else api.as_cluster(cluster)
        if profile is not None:
            document = api.export(loaded, profile, out, cluster=devices)
        else:
            note("measuring; --profile FILE takes measured times instead")
            measured = targets.measure(loaded, devices, note, insecure, lab)
            document = api.export(loaded, measured, out, cluster=devices)
    plain = json or out is None
    output.emit(plain, document, lambda console: _show(console, document, out, cluster, profile))


def _show(
    console: Console,
    document: WorkloadDocument,
    out: Path | None,
    cluster: Path | None,
    profile: Path | None,
) -> None:
    from cutset.units import format_bytes, format_time

    seconds: dict[str, list[float]] = {}
    for op in document.operators:
        for kind, value in op.compute_s.items():
            seconds.setdefault(kind, []).append(value)
    memory = sum(op.memory_bytes for op in document.operators)
    console.print(
        f"{len(document.operators)} operators, {len(document.tensors)} tensors,"
        f" {format_bytes(memory)} of memory"
    )
    output.table(
        console,
        ("kind", "operators with a cost", "in all"),
        [(kind, len(found), format_time(sum(found))) for kind, found in sorted(seconds.items())],
    )
    options = f" --cluster {output.quoted(cluster)}" if cluster is not None else ""
    if profile is not None:  # links and devices are measured there, not in a workload
        options += f" --profile {output.quoted(profile)}"
    elif cluster is not None:
        console.print(
            "links and devices' overheads were measured too, and are not kept in a workload:"
            " `cutset profile` first, then --profile, keeps them"
        )
    assert out is not None
    console.print(f"next: {output.program()} compare {output.quoted(out)}{options}")
