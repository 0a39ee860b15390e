"""`cutset replay`: what policies would have done over a record or a trace, by simulation; with
`--lab`, what they do on real processes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cutset.cli import output, targets
from cutset.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from cutset.adaptation.cuts import Cuts
    from cutset.adaptation.policy import Policy
    from cutset.adaptation.replay_document import PolicyDocument, ReplayDocument
    from cutset.adaptation.replays import Replay
    from cutset.adaptation.simulated import Played, Setting


def replay(
    context: typer.Context,
    trace: Annotated[
        str,
        typer.Argument(
            metavar="TRACE",
            help="A record, a CSV or mahimahi file, or markov:seed=3,duration=180s or steps:.",
        ),
    ],
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="[TARGET]",
            help="An ONNX model or a workload file (JSON); a record needs none.",
        ),
    ] = None,
    cluster: targets.ClusterOption = targets.DEFAULT_CLUSTER,
    profile: targets.ProfileOption = None,
    policies: Annotated[
        str | None,
        typer.Option(
            "--policies",
            metavar="A,B",
            help="Of load-aware, load-oblivious, local, offload, cut:N, oracle.",
        ),
    ] = None,
    server: Annotated[
        str | None, typer.Option("--server", help="The device to offload to, where are several.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option("--duration", help="Seconds of the trace; default: all.")
    ] = None,
    interval: Annotated[
        float, typer.Option("--interval", help="Seconds between requests, at least.")
    ] = 0.0,
    deadline: Annotated[
        float | None, typer.Option("--deadline", help="Seconds that a request may take.")
    ] = None,
    fallback: Annotated[
        targets.FallbackName | None,
        typer.Option("--fallback", help="local: the device answers what would be too late."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of noise and of the intervals of regret.")
    ] = 0,
    noise: Annotated[
        float, typer.Option("--noise", help="Spread of what is measured, such as 0.1.")
    ] = 0.0,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write a timeline (SVG) here.")
    ] = None,
    lab: Annotated[
        bool,
        typer.Option("--lab", help="Play it on real processes in the lab; each policy takes all."),
    ] = False,
    input_shape: targets.ShapeOption = None,
    insecure: targets.InsecureOption = False,
    json: output.JsonFlag = False,
) -> int:
    """Compare policies over a record or a trace, by simulation: latency, switches, regret."""
    from dataclasses import replace

    from cutset.adaptation.regret import score
    from cutset.adaptation.replay_document import policy_document, replay_document
    from cutset.adaptation.replays import is_record, policies_of
    from cutset.adaptation.simulated import Setting
    from cutset.cli.replay_lab import InLab, Wanted, check_options, play_in_lab

    _check_number(duration, "--duration", "s", more=True)
    _check_number(deadline, "--deadline", "s", more=True)
    _check_number(interval, "--interval", "s")
    _check_number(noise, "--noise", "", most=_MOST_NOISE)
    if fallback is not None and deadline is None:
        raise UsageError(
            "a fallback needs a deadline", field="--fallback", remedy="state --deadline SECONDS"
        )
    output.check_writable(
        out, (Path(trace) if os.path.exists(trace) else None, target, cluster, profile)
    )
    if out is not None and out.suffix.lower() != ".svg":
        raise UsageError(
            "a timeline is an SVG picture",
            field="--output",
            value=str(out),
            remedy="name a file that ends in .svg",
        )
    if target is None and is_record(Path(trace)):
        _check_unread(context, trace)
    setting = Setting(interval, deadline, fallback is not None, noise, seed)
    real: InLab | None = None
    if lab:
        check_options(context)
        real = play_in_lab(
            Wanted(
                trace,
                target,
                cluster,
                profile,
                policies,
                server,
                duration,
                deadline,
                fallback is not None,
                tuple(input_shape or ()),
                insecure,
            )
        )
        loaded, played = real.loaded, list(real.played)
    else:
        with output.working("reading") as note:
            loaded = _loaded(trace, target, cluster, profile, server, input_shape, insecure, note)
        if duration is not None:
            loaded = replace(loaded, trace=loaded.trace.cut_to(duration))
        if loaded.note:
            output.note(loaded.note)
        check_fallback(fallback is not None, loaded.cuts)
        played = _play(loaded, policies_of(policies, loaded.cuts, "--policies"), setting)
    names = [cut.name for cut in loaded.cuts.cuts]
    if out is not None:
        _draw(out, loaded, played, names, "simulated" if real is None else "lab")
    worst = [None] * len(played) if real is None else real.max_rel
    document = replay_document(
        loaded.trace.name,
        loaded.trace.duration_s,
        loaded.cuts,
        loaded.left_out,
        loaded.graph_digest,
        setting,
        tuple(
            policy_document(each, score(each, seed), names, rel)
            for each, rel in zip(played, worst, strict=True)
        ),
        None if out is None else str(out),
        loads=None if real is None else real.loads,
        interrupted=real is not None and real.interrupted,
    )
    given: list[tuple[str, object]] = [
        ("--profile", profile),
        ("--policies", policies),
        ("--server", server),
        ("--duration", duration),
        ("--interval", interval or None),
        ("--deadline", deadline),
        ("--fallback", fallback and fallback.value),
        ("--seed", seed or None),
        ("--noise", noise or None),
        *([("--lab", "")] if lab else []),
        *(("--input-shape", shape) for shape in input_shape or ()),
    ]
    again = _again(trace, target, cluster, given)
    output.emit(json, document, lambda console: _show(console, document, again))
    return 0 if real is None else real.status()


_HEAD = (
    "policy",
    "requests",
    "mean",
    "p50",
    "p95",
    "switches",
    "regret (95%)",
    "fallbacks",
    "unanswered",
)
_ORACLES_RUN = "the oracle's run in that moment (an approximation: two runs differ by themselves)"
_NO_ANSWER = (
    "no request was answered by any of these: the server is lost all along, or the deadline is"
    " shorter than what the fastest cut takes"
)
_MOST_NOISE = 3.0
#: What a model is read with; a record alone has its own cuts.
_OF_MODELS = {
    "cluster": "--cluster",
    "profile": "--profile",
    "server": "--server",
    "input_shape": "--input-shape",
}
_MOST_S = 1e9


def _check_number(
    value: float | None, option: str, unit: str, *, more: bool = False, most: float = _MOST_S
) -> None:
    """Raise UsageError for a number that is negative (or 0, with `more`), too large, or none."""
    if value is None or (0 <= value <= most and not (more and value == 0)):  # false for NaN too
        return
    least = "more than 0" if more else "0 or more"
    raise UsageError(
        f"not a number of {least} and at most {most:g}",
        field=option,
        value=f"{value:g} {unit}".rstrip(),
        remedy="write such as 0.5",
    )


def _check_unread(context: typer.Context, trace: str) -> None:
    """Refuse options that a record without a model would ignore. Raises UsageError."""
    for option in targets.stated(context, _OF_MODELS):
        raise UsageError(
            "a record has its own cuts, so that nothing would read this",
            field=option,
            remedy=f"leave it out, or write cutset replay {trace} MODEL {option} … to check that"
            " the record is of that model",
        )


def check_fallback(fallback: bool, cuts: Cuts) -> None:
    """Raise UsageError where no loaded cut could answer instead."""
    if fallback and cuts.local is None:
        raise UsageError(
            f"no loaded cut runs all on {cuts.device}",
            field="--fallback",
            remedy="leave it out, or let the device have more memory",
        )


def _loaded(
    trace: str,
    target: Path | None,
    cluster: Path,
    profile: Path | None,
    server: str | None,
    input_shape: Sequence[str] | None,
    insecure: bool,
    note: Callable[[str], None],
) -> Replay:
    """The trace and the cuts. Raises InputError, and what measuring and planning raise."""
    from cutset.adaptation.replays import check_same, is_record, of_problem, of_record
    from cutset.adaptation.trace_words import is_generated
    from cutset.problem import Objective
    from cutset.serde import read_cluster
    from cutset.serde.common import read_text

    path = Path(trace)
    if is_record(path):
        found = of_record(path)
        if target is not None:
            graph = targets.load_target(target, targets.parse_shapes(input_shape)).graph
            names = [device.name for device in read_cluster(cluster).devices]
            check_same(found, path, graph, names)
        return found
    if not is_generated(trace) and ":" not in trace:
        read_text(path)  # a file that is not there is told before a model is asked for
    if target is None:
        raise UsageError(
            "this trace says nothing about cuts, so that a model is needed",
            field="TARGET",
            remedy=f"write cutset replay {trace} MODEL --cluster C --profile F, or replay a record",
        )
    model = targets.load_target(target, targets.parse_shapes(input_shape))
    problem = targets.load_problem(model, cluster, profile, Objective.LATENCY, note, insecure)
    with targets.naming_files(model, target, cluster):
        return of_problem(trace, problem, server)


def _play(
    loaded: Replay,
    policies: Sequence[Policy[object]],
    setting: Setting,
) -> list[Played]:
    """Each policy over the same trace, by simulated time."""
    from dataclasses import replace
    from functools import partial

    from cutset.adaptation.policies import Oracle
    from cutset.adaptation.simulated import play

    trace = loaded.trace
    played: list[Played] = []
    with output.progress("simulating", trace.duration_s * len(policies)) as done:
        for i, policy in enumerate(policies):
            # The oracle knows what comes, too.
            own = replace(setting, foresight=isinstance(policy, Oracle))
            progress = partial(_progress, done, i * trace.duration_s)
            played.append(play(trace, loaded.cuts, policy, own, loaded.stated, progress))
    return played


def _progress(done: Callable[[float], None], before_s: float, at_s: float) -> None:
    done(before_s + at_s)


def _draw(
    out: Path, loaded: Replay, played: Sequence[Played], names: Sequence[str], kind: str
) -> None:
    from cutset.page.adaptation_drawing import draw_adaptation, track_of
    from cutset.serde.common import write_text

    tracks = [track_of(each, names) for each in played]
    heading = f"{kind}: {loaded.trace.name}"
    trace = loaded.trace
    write_text(out, draw_adaptation(heading, names, tracks, trace.duration_s, trace))


def _again(
    trace: str, target: Path | None, cluster: Path, options: Sequence[tuple[str, object]]
) -> str:
    """The command that draws what this one has told; options that are None were not given."""
    words = ["replay", trace]
    if target is not None:
        words += [str(target), "--cluster", str(cluster)]
    for option, value in options:
        words += [option, *([str(value)] if value != "" else [])] if value is not None else []
    return f"{output.program()} {shlex.join([*words, '-o', 'timeline.svg'])}"


def _show(console: Console, document: ReplayDocument, again: str) -> None:
    from cutset.units import format_time

    count = len(document.cuts)
    simulated = document.kind == "simulated"
    how = "simulated, nothing was run" if simulated else "in the lab on this machine"
    if document.interrupted:
        how += ", interrupted"
    console.print(
        f"{how}: {document.trace}, {format_time(document.duration_s)},"
        f" {count} cut{'s' * (count != 1)} of {document.device} and {document.server}"
    )
    if document.left_out:
        console.print(f"left out, for want of memory: {', '.join(document.left_out)}")
    console.print()
    output.table(console, _HEAD, [_row(policy) for policy in document.policies])
    console.print()
    beside = "the best cut of that moment, known in hindsight"
    console.print(
        f"regret: how much longer than {beside if simulated else _ORACLES_RUN}, on average"
    )
    if beaten := _oracle_beaten(document.policies):
        console.print(beaten)
    if document.policies and all(policy.mean_s is None for policy in document.policies):
        console.print(_NO_ANSWER)
    if document.competitors:
        loads = ", ".join(f"{x.processes}: {x.load:.2f}" for x in document.competitors)
        console.print(f"server's load by competing processes, as measured: {loads}")
    if document.picture is not None:
        console.print(f"timeline: {document.picture} (open it in a browser)")
    else:
        console.print(f"next: {again}")


def _oracle_beaten(policies: Sequence[PolicyDocument]) -> str:
    """What to say where a policy was faster than the oracle by more than chance; "" elsewhere."""
    gains = [(-p.regret, p.policy) for p in policies if p.regret is not None and _is_negative(p)]
    if not gains:
        return ""
    gain, policy = max(gains)
    return (
        f"{policy} beat the oracle by {gain:.1%}: the oracle knows what holds, but"
        " goes by what the cuts' segments took when they were timed, which is off by about as much"
        " here; so are the costs that load-aware chooses by"
    )


def _is_negative(found: PolicyDocument) -> bool:
    return found.regret_high is not None and found.regret_high < 0


def _row(found: PolicyDocument) -> tuple[object, ...]:
    from cutset.units import format_time

    def seconds(value_s: float | None) -> str:
        return "–" if value_s is None else format_time(value_s)

    regret = "–"
    if found.regret is not None:
        regret = f"{found.regret:.1%}"
        if found.regret_low is not None and found.regret_high is not None:
            regret += f" ({found.regret_low:.1%} to {found.regret_high:.1%})"
    return (
        found.policy,
        found.requests,
        seconds(found.mean_s),
        seconds(found.p50_s),
        seconds(found.p95_s),
        len(found.switches),
        regret,
        found.fallbacks,
        found.unanswered,
    )
