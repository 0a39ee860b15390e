"""The adaptive run behind `cutset run --adapt` and `cutset record`: every request's cut anew."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cutset.cli import output, run_text, targets
from cutset.errors import CutsetError, InvalidFileError, UsageError, choices

if TYPE_CHECKING:
    from cutset.adapt_report import AdaptDocument, Adapted
    from cutset.adaptation.cuts import Cuts
    from cutset.adaptation.policy import Policy
    from cutset.cli.adapt_watch import Watch
    from cutset.cluster import Cluster
    from cutset.deployed import Deployed

DEFAULT_POLICY = "load-aware"
DEFAULT_DURATION_S = 30.0

ServerOption = Annotated[
    str | None,
    typer.Option("--server", help="The other device, where the cluster has more than one."),
]
PolicyOption = Annotated[
    str | None,
    typer.Option(
        "--policy",
        help="What chooses the cut: load-aware (default), load-oblivious, local, offload, cut:N.",
    ),
]

#: Options of `run` that say which plan, which an adaptive run has not.
_OF_PLANS = {
    "plan": "--plan",
    "objective": "--objective",
    "strategy": "--strategy",
    "time_limit": "--time-limit",
    "seed": "--seed",
}
_OF_ADAPTING = {
    "server": "--server",
    "policy": "--policy",
    "record_file": "--record",
    "json_lines": "--json-lines",
}


@dataclass(frozen=True)
class Wanted:
    """What was asked for on the command line."""

    model: Path
    cluster: Path
    profile: Path | None
    server: str | None
    policy: str
    input_files: tuple[Path, ...]
    out: Path | None
    requests: int | None
    duration_s: float | None
    in_flight: int
    deadline_s: float
    verify: bool
    rtol: float
    latencies: bool
    fallback: str | None
    input_shape: tuple[str, ...]
    insecure: bool
    lab: bool
    record: Path | None
    json: bool
    json_lines: bool = False


def check_options(context: typer.Context, adaptive: bool) -> None:
    """Refuse options of `run` that mean nothing together. Raises UsageError."""
    refused = _OF_PLANS if adaptive else _OF_ADAPTING
    for option in targets.stated(context, refused):
        if adaptive:
            raise UsageError(
                "an adaptive run plans nothing: it chooses among all cuts for every request",
                field=option,
                remedy=f"leave {option} or --adapt out",
            )
        raise UsageError("only an adaptive run takes this", field=option, remedy="add --adapt")


def run_adaptive(wanted: Wanted) -> int:
    """Load all cuts, send requests, report; the exit status. Raises what `run` raises."""
    from cutset import api
    from cutset.adapt_report import adapt_document
    from cutset.adaptation.deploying import alone_in_words
    from cutset.cli.adapt_watch import Screen, Watch
    from cutset.feeds import random_feeds, read_feeds
    from cutset.runner import run_requests
    from cutset.runtime.coordinator import Coordinator

    _check(wanted)
    if wanted.requests is None and wanted.duration_s is None:
        wanted = replace(wanted, duration_s=DEFAULT_DURATION_S)
    loaded = api.load(wanted.model, targets.parse_shapes(wanted.input_shape))
    devices = api.as_cluster(wanted.cluster)
    _check_server(devices, wanted)
    if wanted.input_files:
        feeds = read_feeds(wanted.input_files, loaded.ports)
    else:
        feeds = random_feeds(loaded.ports, run_text.RANDOM_INPUTS)
        output.note(f"no --input: {run_text.RANDOM_INPUTS} random inputs")
    screen = Screen()
    watch = Watch(screen, json_lines=wanted.json_lines)
    doing = output.Doing()
    with (
        targets.in_lab(devices, wanted.lab) as reached,
        Coordinator(reached.cluster, insecure=wanted.insecure, progress=doing.sent) as coordinator,
    ):
        devices = coordinator.cluster  # with the endpoints of those that were found
        target = targets.Target(loaded.graph, model=loaded)
        with (
            output.working("measuring") as note,
            targets.naming_files(target, wanted.model, wanted.cluster),
        ):
            doing.to(note, changes=True)
            expected = None
            with run_text.measuring_for(wanted.fallback):
                measured = wanted.profile or api.profile(
                    loaded, feeds=feeds[0], coordinator=coordinator, note=note
                )
            if wanted.verify:
                note("running the unsplit model")
                whole = api.unsplit(loaded, devices.by_name[devices.source].engine)
                expected = [whole.run(request) for request in feeds]
            session = api.deploy(
                loaded,
                devices,
                profile=measured,
                in_flight=wanted.in_flight,
                fallback=None if wanted.fallback is None else "local",
                deadline_s=wanted.deadline_s,
                adapt=lambda cuts: _policy(wanted.policy, cuts),
                server=wanted.server,
                on_line=watch.line,
                coordinator=coordinator,
                note=doing,
            )
        doing.to(screen.stays)
        reached.join_cpu()
        emulation = targets.emulation(devices)
        with screen.shown(), contextlib.closing(watch), session:
            if session.missing is not None:
                screen.stays(alone_in_words(session.missing))
            cuts = _begin(watch, session, loaded.graph.digest, emulation, wanted)
            if slow := too_slow(cuts, wanted.deadline_s):
                screen.stays(slow)
            if session.missing is None:
                names = f"{cuts.device} and {cuts.server}, {len(cuts.cuts)} cuts loaded"
            else:
                names = f"{cuts.device} alone"
            record = run_requests(
                session,
                feeds,
                requests=wanted.requests,
                duration_s=wanted.duration_s,
                in_flight=wanted.in_flight,
                deadline_s=wanted.deadline_s,
                expected=expected,
                keep_outputs=wanted.out is not None,
                first_sent=lambda: screen.stays(f"serving on {names}"),
                progress=lambda done, elapsed_s: watch.check(),
            )
            run_text.ending(record)
            stats, adapted = session.stats(), _adapted(session)
            if record.interrupted:
                session.close(drain_s=0.0)
    run_text.write_answers(record, wanted.out, wanted.json)
    document = adapt_document(
        record,
        stats,
        adapted,
        watch.tally,
        in_flight=wanted.in_flight,
        emulated=emulation,
        rtol=wanted.rtol,
        with_latencies=wanted.latencies,
        file=None if wanted.record is None else str(wanted.record),
    )
    _emit(wanted, document)
    few = slice(0, run_text.SPREAD_INPUTS)
    return run_text.ends(
        record,
        document.verify,
        lambda: api.engine_spread(loaded, feeds[few], (expected or [])[few]),
    )


def _begin(
    watch: Watch,
    session: Deployed,
    digest: str,
    emulation: Literal["no", "process", "lab"],
    wanted: Wanted,
) -> Cuts:
    from cutset.adaptation.records import RecordWriter, header_of

    assert session.adaptive is not None
    cuts = session.adaptive.cuts
    header = header_of(cuts, digest, emulation)
    writer = None if wanted.record is None else RecordWriter(wanted.record, header)
    watch.begin(cuts, header, writer)
    return cuts


def too_slow(cuts: Cuts, deadline_s: float) -> str:
    """What to say of a deadline that the device alone cannot meet; "" where it can."""
    from cutset.units import format_time

    if cuts.local is None:
        return ""
    local = cuts.cuts[cuts.local]
    alone_s = local.device_s + local.other_s
    if alone_s <= deadline_s:
        return ""
    return (
        f"{cuts.device} alone takes {format_time(alone_s)}, longer than the --deadline of"
        f" {format_time(deadline_s)}: where the server does not answer in time, requests fail"
    )


def _adapted(session: Deployed) -> Adapted:
    from cutset.adapt_report import Adapted
    from cutset.cli.adapt_watch import recorded

    adaptive = session.adaptive
    assert adaptive is not None
    adapter, chosen = adaptive.adapter, adaptive.chosen
    return Adapted(
        adapter.policy.name,
        adaptive.cuts,
        recorded(adaptive.cuts, adapter.switches),
        adapter.requests,
        adapter.seen,
        adapter.believed(),
        adapter.looked,
        chosen.left_out,
        chosen.worst_loss,
    )


def _emit(wanted: Wanted, document: AdaptDocument) -> None:
    from cutset.cli import adapt_text

    if not wanted.json_lines:
        output.emit(wanted.json, document, lambda console: adapt_text.show(console, document))
        return
    # Standard output is a record, whole; the report is for a person beside it.
    from cutset.cli.console import PlainConsole

    adapt_text.show(PlainConsole(stderr=True, markup=False, highlight=False, emoji=False), document)


# --- what is refused before anything starts


def _check(wanted: Wanted) -> None:
    if wanted.json and wanted.json_lines:
        raise UsageError(
            "standard output is either one document or a record's lines",
            field="--json-lines",
            remedy="leave one out; --json with --record FILE gives both",
        )
    inputs = (wanted.model, wanted.cluster, wanted.profile, *wanted.input_files)
    output.check_writable(wanted.out, inputs)
    if wanted.record is not None:
        output.check_writable(wanted.record, inputs)
        if wanted.record.is_file():
            raise InvalidFileError(
                "the file exists, and a record would replace it",
                file=str(wanted.record),
                remedy="name another file, or remove it",
            )
        if wanted.out is not None and wanted.out.absolute() == wanted.record.absolute():
            raise UsageError(
                "the answers would replace the record",
                field="--output",
                value=str(wanted.out),
                remedy="name two files",
            )
    from cutset.adaptation.policies import NAMES

    live = tuple(name for name in NAMES if name != "oracle")
    name = wanted.policy.strip().lower().removeprefix("static ")
    if name == "oracle":
        raise UsageError(
            "the oracle knows what nobody can observe: it is for replays",
            field="--policy",
            value=wanted.policy,
            remedy=f"policies are {', '.join(live)}",
        )
    if name not in live[:-1] and not re.fullmatch("cut:[0-9]{1,9}", name):
        raise UsageError(
            "no policy has this name",
            field="--policy",
            value=wanted.policy,
            remedy=choices(name, live, "policies"),
        )


def _check_server(cluster: Cluster, wanted: Wanted) -> None:
    others = [d.name for d in cluster.devices if d.name != cluster.source]
    if wanted.server is not None and wanted.server not in others:
        raise UsageError(
            f"no other device than {cluster.source!r} has this name",
            field="--server",
            value=wanted.server,
            remedy=choices(wanted.server, others, "other devices"),
        )
    if wanted.server is None and len(others) != 1:
        raise UsageError(
            f"an adaptive run has one server, and {cluster.source!r} has"
            f" {len(others) or 'no'} other devices beside it",
            field="--server",
            remedy=f"take --server with one of {', '.join(others)}"
            if others
            else f"add a device to {wanted.cluster}",
        )


def _policy(text: str, cuts: Cuts) -> Policy[Any]:
    from cutset.adaptation.policies import by_name

    try:
        return by_name(text, cuts)
    except CutsetError as error:
        if error.field == "policy":
            error.field = "--policy"
        raise
