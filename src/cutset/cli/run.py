"""`cutset run`: deploy a plan, send requests, report measured beside predicted."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cutset.cli import output, targets
from cutset.errors import CutsetError

if TYPE_CHECKING:
    from rich.console import Console

    from cutset.cluster import Cluster
    from cutset.onnx_io import Model
    from cutset.plan import Plan
    from cutset.problem import Estimate
    from cutset.profiles import Profile
    from cutset.run_report import RunDocument
    from cutset.serde.plan_file import PlanDocument

DEFAULT_REQUESTS = 20
RANDOM_INPUTS = 16
SPREAD_INPUTS = 4  # enough to say how much the engine's own freedom amounts to


@dataclass(frozen=True)
class Chosen:
    """What is run. `estimate` None: nothing is known of the costs."""

    plan: Plan
    estimate: Estimate | None
    document: PlanDocument


def run(
    model: targets.ModelArgument,
    cluster: targets.ClusterOption = targets.DEFAULT_CLUSTER,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="A plan file; without it, plan first.")
    ] = None,
    profile: targets.ProfileOption = None,
    objective: targets.ObjectiveOption = targets.ObjectiveName.latency,
    strategy: targets.StrategyOption = "auto",
    time_limit: targets.TimeLimitOption = float("inf"),
    seed: targets.SeedOption = 0,
    input_files: targets.InputOption = None,
    out: Annotated[
        Path | None, typer.Option("--output", help="Write the answers here (.npz), one per input.")
    ] = None,
    requests: Annotated[int | None, typer.Option("--requests", min=1)] = None,
    duration: Annotated[
        float | None, typer.Option("--duration", min=0.01, help="Seconds to send requests.")
    ] = None,
    in_flight: Annotated[
        int | None, typer.Option("--in-flight", min=1, max=1024, help="Requests under way at once.")
    ] = None,
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
    latencies: Annotated[
        bool, typer.Option("--latencies", help="List every request's latency (with --json).")
    ] = False,
    fallback: Annotated[
        targets.FallbackName | None,
        typer.Option("--fallback", help="local: this device answers when the others cannot."),
    ] = None,
    input_shape: targets.ShapeOption = None,
    insecure: targets.InsecureOption = False,
    lab: targets.LabOption = False,
    json: output.JsonFlag = False,
) -> int:
    """Run the model split over the devices; with --verify, prove that nothing changed."""
    from cutset import api, strategies
    from cutset.feeds import random_feeds, read_feeds, write_feeds
    from cutset.report import in_flight_for
    from cutset.run_report import run_document
    from cutset.runner import run_requests
    from cutset.runtime.coordinator import Coordinator
    from cutset.serde import plan_document

    output.check_writable(out, (model, cluster, plan, profile, *(input_files or ())))
    chosen_strategy = strategies.load(strategy)
    if requests is None and duration is None:
        requests = DEFAULT_REQUESTS
    loaded = api.load(model, targets.parse_shapes(input_shape))
    devices = api.as_cluster(cluster)
    if input_files:
        feeds = read_feeds(input_files, loaded.ports)
    else:
        feeds = random_feeds(loaded.ports, RANDOM_INPUTS)
        output.note(f"no --input: {RANDOM_INPUTS} random inputs")
    with (
        targets.in_lab(devices, lab) as reached,
        Coordinator(reached.cluster, insecure=insecure) as coordinator,
    ):
        devices = coordinator.cluster  # with the endpoints of those that were found
        target = targets.Target(loaded.graph, model=loaded)
        with (
            output.working("planning") as note,
            targets.naming_files(target, model, cluster, strategy),
        ):
            measured: Profile | Path | None = profile
            if plan is not None:
                chosen = _read(loaded, devices, plan, profile)
            else:
                measured = profile or api.profile(
                    loaded, feeds=feeds[0], coordinator=coordinator, note=note
                )
                solution = api.solve(
                    loaded,
                    devices,
                    measured,
                    objective=objective.value,
                    strategy=chosen_strategy,
                    time_limit_s=time_limit,
                    seed=seed,
                )
                if solution.interrupted:
                    raise KeyboardInterrupt  # it was meant for the run: nothing is deployed
                chosen = Chosen(
                    solution.plan,
                    solution.estimate,
                    plan_document(solution, loaded.graph, devices),
                )
            predicted = chosen.estimate
            if in_flight is None:
                in_flight = 1
                throughput = "throughput" in (chosen.document.objective, objective.value)
                if predicted is not None and throughput:
                    in_flight = in_flight_for(predicted.latency_s, predicted.period_s, True)
            expected = None
            if verify:
                note("running the unsplit model")
                whole = api.unsplit(loaded, devices.by_name[devices.source].engine)
                expected = [whole.run(request) for request in feeds]
            session = api.deploy(
                loaded,
                devices,
                chosen.plan,
                profile=measured,
                in_flight=in_flight,
                fallback=None if fallback is None else "local",
                deadline_s=deadline,
                coordinator=coordinator,
                note=note,
            )
        reached.join_cpu()
        with session, output.progress("requests", requests or duration or 1) as bar:
            record = run_requests(
                session,
                feeds,
                requests=requests,
                duration_s=duration,
                in_flight=in_flight,
                deadline_s=deadline,
                expected=expected,
                keep_outputs=out is not None,
                first_sent=lambda: output.note(f"serving on {', '.join(chosen.plan.devices)}"),
                progress=lambda done, elapsed_s: bar(done if requests else elapsed_s),
            )
            stats = session.stats()
            memory_bytes, stage_memory = session.memory_bytes, session.stage_memory
            if record.interrupted:
                session.close(drain_s=0.0)
    if record.first_error is not None and record.answered == 0:
        raise record.first_error
    if out is not None:
        write_feeds(out, [record.outputs[i] for i in sorted(record.outputs)])
    document = run_document(
        record,
        stats,
        predicted,
        chosen.document,
        devices,
        memory_bytes,
        in_flight=in_flight,
        emulated=any(d.endpoint is None for d in devices.devices if d.name != devices.source)
        or devices.by_name[devices.source].cpu_share is not None,
        rtol=rtol,
        with_latencies=latencies,
        stage_memory=stage_memory,
    )
    if devices.by_name[devices.source].in_lab:
        document.emulated = "lab"
    output.emit(json, document, lambda console: _show(console, document))
    if record.interrupted:
        output.note("interrupted")
        return 130
    if record.first_error is not None:
        output.note(f"error: {record.first_error}")
        return record.first_error.exit_status
    if document.verify is not None and not document.verify.equal:
        output.note(
            f"error: the split model's output {document.verify.worst_output!r} differs from the"
            f" unsplit model's by {document.verify.max_rel} of its largest value, over {rtol:g}"
        )
        with contextlib.suppress(CutsetError):
            few = slice(0, SPREAD_INPUTS)
            spread = api.engine_spread(loaded, feeds[few], (expected or [])[few])
            output.note(
                f"for scale: with the engine's optimisations off, the unsplit model differs from"
                f" itself by {spread:.1e}; where that is near, the cut changed which kernels run,"
                " and --rtol allows for it"
            )
        return 1
    return 0


def _read(model: Model, cluster: Cluster, path: Path, profile: Path | None) -> Chosen:
    """A plan file; predicted by the profile where one is given, else as the file claims."""
    from cutset import api
    from cutset.errors import InvalidFileError, PlanningError
    from cutset.plan import check_plan, check_untiled
    from cutset.problem import Estimate
    from cutset.serde.plan_file import check_transfers, plan_of, read_plan_document

    document = read_plan_document(path)
    plan = plan_of(document)
    try:
        check_plan(plan, model.graph, cluster)
        check_untiled(plan)
        check_transfers(document, model.graph)
        if profile is not None:
            stated = api.problem(model, cluster, profile)
            return Chosen(plan, api.evaluate(stated, plan), document)
    except (InvalidFileError, PlanningError) as error:
        raise error.located(file=str(path)) from None
    claimed = document.estimate
    if claimed is None:
        return Chosen(plan, None, document)
    estimate = Estimate(
        claimed.latency_s,
        claimed.period_s,
        claimed.memory_bytes,
        claimed.busy_s,
        claimed.bottleneck,
    )
    return Chosen(plan, estimate, document)


def _show(console: Console, run: RunDocument) -> None:
    from cutset.units import format_bytes, format_time

    def time(seconds: float | None) -> str:
        return "–" if seconds is None else format_time(seconds)

    def off(measured: float | None, predicted: float | None) -> str:
        if not measured or not predicted:
            return "–"
        return f"{measured / predicted - 1:+.1%}"

    where = {
        "no": "on devices",
        "process": "emulated by processes of this machine",
        "lab": "in the lab on this machine",
    }
    console.print(
        f"{run.answered} of {run.requests} requests answered, {run.in_flight} in flight,"
        f" {where.get(run.emulated, run.emulated)}"
    )
    if run.fallbacks:
        console.print(f"{run.fallbacks} of them by this device alone, as others could not in time")
    if run.dropped:
        reasons = ", ".join(f"{count} wrong {name}" for name, count in run.dropped.items())
        console.print(f"frames dropped: {reasons}")
    latency = run.latency_s
    rows: list[tuple[str, str, str, str]] = []
    if latency is not None:
        if run.in_flight == 1:
            predicted = run.predicted.latency_s
            rows.append(
                ("latency p50", time(predicted), time(latency.p50), off(latency.p50, predicted))
            )
        else:
            rows.append(("latency p50", "–", time(latency.p50), "–"))
        rows.append(("latency p95", "–", time(latency.p95), "–"))
        rows.append(("latency p99", "–", time(latency.p99), "–"))
    if run.throughput_per_s is not None:
        # One at a time, the period is not what limits.
        period = run.predicted.period_s if run.in_flight > 1 else None
        rows.append(
            (
                "requests/s",
                f"{1 / period:.3g}" if period else "–",
                f"{run.throughput_per_s:.3g}",
                off(run.throughput_per_s, 1 / period if period else None),
            )
        )
    parts = [
        (f"stage {x.name} on {x.device}", x.predicted_s, x.measured_s, x.lost) for x in run.stages
    ]
    for x in run.links:
        alone = run.in_flight == 1 and x.predicted_s is not None
        expected, found = (x.predicted_s, x.measured_s) if alone else (x.busy_predicted_s, x.busy_s)
        parts.append((f"link {x.name}, {format_bytes(x.bytes)}", expected, found, x.lost))
    parts += [
        (f"busy: {x.resource.replace(':', ' ')}", x.predicted_s, x.measured_s, x.lost)
        for x in run.busy
        if x.resource.startswith(("device:", "egress:"))
    ]
    for name, expected, found, lost in parts:
        shown = "lost" if lost else time(found)
        rows.append((name, time(expected), shown, off(found, expected)))
    for m in run.memory:
        rows.append(
            (
                f"memory on {m.device}",
                "–" if m.predicted_bytes is None else format_bytes(m.predicted_bytes),
                format_bytes(m.measured_bytes),
                "–",
            )
        )
        for part in m.stages:
            enforced, grew = format_bytes(part.predicted_bytes), format_bytes(part.measured_bytes)
            rows.append((f"  peak of loading {part.name}", enforced, grew, "–"))
    output.table(console, ("", "predicted", "measured", "off by"), rows)
    for m in run.memory:
        for part in m.stages:
            if part.measured_bytes > part.predicted_bytes:
                console.print(
                    f"memory: loading {part.name} took {format_bytes(part.measured_bytes)} on"
                    f" {m.device}, more than the {format_bytes(part.predicted_bytes)} that a limit"
                    " counts: leave room for it"
                )
    for x in run.links:
        if x.path not in ("direct", "") and not x.lost:
            console.print(f"link {x.name}: data went over {x.path}")
    limit = run.bottleneck
    if limit.measured is not None:
        beside = f", as predicted ({time(limit.predicted_s)})"
        if limit.predicted is None:
            beside = ""
        elif limit.predicted != limit.measured:
            beside = f"; predicted was {limit.predicted}, {time(limit.predicted_s)}"
        console.print(f"bottleneck: {limit.measured}, {time(limit.measured_s)} per request{beside}")
    if run.failed or run.fallbacks:
        console.print(
            "some requests did not go the plan's way: figures per request are means over all, and"
            " compare with no prediction"
        )
    if run.disagreement is not None:
        console.print(f"largest disagreement: {run.disagreement.text}")
    if run.verify is not None:
        how = "bit-equal to" if run.verify.bit_equal else "equal to"
        if not run.verify.equal:
            how = "DIFFERENT from"
        console.print(
            f"outputs {how} the unsplit model's"
            + (
                ""
                if run.verify.bit_equal
                else f" (largest relative difference {run.verify.max_rel})"
            )
        )
    else:
        console.print("next: add --verify to compare the outputs with the unsplit model's")
