"""`cutset record`: an adaptive run for its record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cutset.cli import adapt, output, targets


def record(
    model: targets.ModelArgument,
    out: Annotated[
        Path, typer.Option("-o", "--output", help="The record (JSON Lines); must not exist.")
    ],
    cluster: targets.ClusterOption = targets.DEFAULT_CLUSTER,
    profile: targets.ProfileOption = None,
    server: adapt.ServerOption = None,
    policy: adapt.PolicyOption = None,
    input_files: targets.InputOption = None,
    requests: Annotated[int | None, typer.Option("--requests", min=1)] = None,
    duration: Annotated[
        float | None,
        typer.Option("--duration", min=0.01, help="Seconds to send requests; default: 30."),
    ] = None,
    in_flight: Annotated[
        int, typer.Option("--in-flight", min=1, max=1024, help="Requests under way at once.")
    ] = 1,
    deadline: Annotated[
        float,
        typer.Option("--deadline", min=0.001, max=1e6, help="Seconds within which to answer each."),
    ] = 120.0,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every answer with the unsplit model's.")
    ] = False,
    rtol: Annotated[
        float, typer.Option("--rtol", min=0.0, help="Allowed relative difference.")
    ] = 1e-5,
    fallback: Annotated[
        targets.FallbackName | None,
        typer.Option("--fallback", help="local: this device answers when the others cannot."),
    ] = None,
    input_shape: targets.ShapeOption = None,
    insecure: targets.InsecureOption = False,
    lab: targets.LabOption = False,
    json: output.JsonFlag = False,
) -> int:
    """Run with the cut chosen for every request, and write what was seen; Ctrl-C ends it."""
    return adapt.run_adaptive(
        adapt.Wanted(
            model=model,
            cluster=cluster,
            profile=profile,
            server=server,
            policy=policy or adapt.DEFAULT_POLICY,
            input_files=tuple(input_files or ()),
            out=None,
            requests=requests,
            duration_s=duration,
            in_flight=in_flight,
            deadline_s=deadline,
            verify=verify,
            rtol=rtol,
            latencies=False,
            fallback=fallback,
            input_shape=tuple(input_shape or ()),
            insecure=insecure,
            lab=lab,
            record=out,
            json=json,
        )
    )
