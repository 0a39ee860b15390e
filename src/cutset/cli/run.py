"""`cutset run`: deploy a plan, send requests, report measured beside predicted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cutset.cli import adapt, output, run_text, targets

if TYPE_CHECKING:
    from cutset.cluster import Cluster
    from cutset.onnx_io import Model
    from cutset.plan import Plan
    from cutset.problem import Estimate
    from cutset.profiles import Profile
    from cutset.serde.plan_file import PlanDocument

DEFAULT_REQUESTS = 20
RANDOM_INPUTS = run_text.RANDOM_INPUTS
SPREAD_INPUTS = run_text.SPREAD_INPUTS


@dataclass(frozen=True)
class Chosen:
    """What is run. `estimate` None: nothing is known of the costs."""

    plan: Plan
    estimate: Estimate | None
    document: PlanDocument


def run(
    context: typer.Context,
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
    adaptive: Annotated[
        bool, typer.Option("--adapt", help="Choose the cut anew for every request.")
    ] = False,
    server: adapt.ServerOption = None,
    policy: adapt.PolicyOption = None,
    record_file: Annotated[
        Path | None, typer.Option("--record", help="Write what was seen and done here, by line.")
    ] = None,
    json_lines: Annotated[
        bool,
        typer.Option("--json-lines", help="Print a record's lines as it runs, one each second."),
    ] = False,
    input_shape: targets.ShapeOption = None,
    insecure: targets.InsecureOption = False,
    lab: targets.LabOption = False,
    json: output.JsonFlag = False,
) -> int:
    """Run the model split over the devices; with --verify, prove that nothing changed."""
    from cutset import api, strategies
    from cutset.feeds import random_feeds, read_feeds
    from cutset.report import in_flight_for
    from cutset.run_report import run_document
    from cutset.runner import run_requests
    from cutset.runtime.coordinator import Coordinator
    from cutset.serde import plan_document

    wanted = adapt.Wanted(
        model=model,
        cluster=cluster,
        profile=profile,
        server=server,
        policy=policy or adapt.DEFAULT_POLICY,
        input_files=tuple(input_files or ()),
        out=out,
        requests=requests,
        duration_s=duration,
        in_flight=in_flight or 1,
        deadline_s=deadline,
        verify=verify,
        rtol=rtol,
        latencies=latencies,
        fallback=fallback,
        input_shape=tuple(input_shape or ()),
        insecure=insecure,
        lab=lab,
        record=record_file,
        json=json,
        json_lines=json_lines,
    )
    adapt.check_options(context, adaptive)
    if adaptive:
        return adapt.run_adaptive(wanted)
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
    doing = output.Doing()
    with (
        targets.in_lab(devices, lab) as reached,
        Coordinator(reached.cluster, insecure=insecure, progress=doing.sent) as coordinator,
    ):
        devices = coordinator.cluster  # with the endpoints of those that were found
        target = targets.Target(loaded.graph, model=loaded)
        with (
            output.working("planning") as note,
            targets.naming_files(target, model, cluster, strategy),
        ):
            doing.to(note, changes=True)
            measured: Profile | Path | None = profile
            if plan is not None:
                chosen = _read(loaded, devices, plan, profile)
            else:
                with run_text.measuring_for(fallback):
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
                note=doing,
            )
        serving = f"serving on {', '.join(chosen.plan.devices)}"
        if session.missing is not None:
            output.note(f"this device answers alone: {session.missing}")
            serving = f"serving on {devices.source} alone"
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
                first_sent=lambda: output.note(serving),
                progress=lambda done, elapsed_s: bar(done if requests else elapsed_s),
            )
            run_text.ending(record)
            stats = session.stats()
            memory_bytes, stage_memory = session.memory_bytes, session.stage_memory
            if record.interrupted:
                session.close(drain_s=0.0)
    run_text.write_answers(record, out, json)
    emulation = targets.emulation(devices)
    document = run_document(
        record,
        stats,
        predicted,
        chosen.document,
        devices,
        memory_bytes,
        in_flight=in_flight,
        emulated=emulation != "no",
        rtol=rtol,
        with_latencies=latencies,
        stage_memory=stage_memory,
    )
    document.emulated = emulation
    output.emit(json, document, lambda console: run_text.show(console, document))
    few = slice(0, SPREAD_INPUTS)
    return run_text.ends(
        record,
        document.verify,
        lambda: api.engine_spread(loaded, feeds[few], (expected or [])[few]),
    )


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
