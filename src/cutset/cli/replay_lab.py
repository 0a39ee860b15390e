"""`cutset replay --lab`: one deployment in the lab, over which each policy plays the trace."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cutset.cli import output, run_text, targets
from cutset.errors import CutsetError, UsageError

if TYPE_CHECKING:
    from cutset.adaptation.deploying import Adaptive
    from cutset.adaptation.lab_replay import Emulation
    from cutset.adaptation.replays import Replay
    from cutset.adaptation.simulated import Played
    from cutset.deployed import Deployed
    from cutset.lab import Lab
    from cutset.lab.competitors import Competitors
    from cutset.onnx_io import Model
    from cutset.ports import Array
    from cutset.problem import Problem
    from cutset.runner import Feeds, RunRecord

#: Options that are of simulated time.
_SIMULATED = {"interval": "--interval", "seed": "--seed", "noise": "--noise"}
DEADLINE_S = 120.0
BACK_S = 60.0  # how long a lost server is waited for before the next policy
RTOL = 1e-5


@dataclass(frozen=True)
class Wanted:
    """What was asked for on the command line."""

    trace: str
    model: Path | None
    cluster: Path
    profile: Path | None
    policies: str | None
    server: str | None
    duration_s: float | None
    deadline_s: float | None
    fallback: bool
    input_shape: tuple[str, ...]
    insecure: bool


@dataclass(frozen=True)
class InLab:
    """What policies did; `max_rel` of each is how much its answers differed from the unsplit
    model's, None where it has none. `loads` is k by the number of competitors."""

    loaded: Replay
    played: tuple[Played, ...]
    max_rel: tuple[float | None, ...]
    loads: dict[int, float]
    interrupted: bool

    def status(self) -> int:
        """The exit status, and on standard error why it is not 0."""
        if self.interrupted:
            output.note("interrupted")
            return 130
        worst = max((rel for rel in self.max_rel if rel is not None), default=0.0)
        if worst > RTOL:
            output.note(
                f"error: answers differ from the unsplit model's by {worst} of the largest value,"
                f" over {RTOL:g}"
            )
            return 1
        return 0


def check_options(context: typer.Context) -> None:
    """Refuse what means nothing in a lab. Raises UsageError."""
    for option in targets.stated(context, _SIMULATED):
        raise UsageError(
            "the lab has its own noise, and requests follow one another at once",
            field=option,
            remedy=f"leave {option} or --lab out",
        )


def play_in_lab(wanted: Wanted) -> InLab:
    """Bring a lab up (or use the one that is up), load all cuts, play each policy.

    Ctrl-C ends it with what was measured; raised where that is nothing. Raises what `run` raises.
    """
    from cutset import api, lab
    from cutset.feeds import random_feeds
    from cutset.runtime.coordinator import Coordinator

    path = _check(wanted)
    if (lacks := lab.unavailable()) is not None:
        raise UsageError(
            f"no lab can be had here: {lacks}",
            field="--lab",
            remedy="leave --lab out to simulate, or see `cutset lab --help`",
        )
    model = api.load(path, targets.parse_shapes(wanted.input_shape))
    devices = api.as_cluster(wanted.cluster)
    feeds = random_feeds(model.ports, run_text.RANDOM_INPUTS)
    doing = output.Doing()
    with (
        targets.in_lab(devices, True) as reached,
        Coordinator(reached.cluster, insecure=wanted.insecure, progress=doing.sent) as coordinator,
    ):
        assert reached.lab is not None
        devices = coordinator.cluster
        target = targets.Target(model.graph, model=model)
        with (
            output.working("measuring") as note,
            targets.naming_files(target, path, wanted.cluster),
        ):
            doing.to(note, changes=True)
            measured = (
                api.as_profile(wanted.profile)
                if wanted.profile is not None
                else api.profile(model, feeds=feeds[0], coordinator=coordinator, note=note)
            )
            loaded = _loaded(wanted, model, api.problem(model, devices, measured))
            note("running the unsplit model")
            whole = api.unsplit(model, devices.by_name[devices.source].engine)
            expected = [whole.run(request) for request in feeds]
            deployed = api.deploy(
                model,
                devices,
                profile=measured,
                fallback="local" if wanted.fallback else None,
                deadline_s=wanted.deadline_s or DEADLINE_S,
                adapt=True,
                server=loaded.cuts.server,
                coordinator=coordinator,
                note=doing,
            )
            doing.to(output.note)
        with deployed:
            assert deployed.adaptive is not None
            chosen = deployed.adaptive.chosen
            loaded = replace(loaded, cuts=deployed.adaptive.cuts, left_out=chosen.left_out, note="")
            return _play_all(
                wanted, loaded, deployed, reached.lab, reached.join_cpu, feeds, expected
            )


def _check(wanted: Wanted) -> Path:
    """The model's file. Raises UsageError, and InvalidFileError for a trace that is not there."""
    from cutset.adaptation.conditions import Conditions
    from cutset.adaptation.replays import is_record
    from cutset.adaptation.trace_words import is_generated, parse_generated
    from cutset.serde.common import read_text

    if wanted.model is None or targets.is_workload(wanted.model):
        what = "a record" if is_record(Path(wanted.trace)) else "a trace"
        if wanted.model is not None:
            what = "a workload file"
        raise UsageError(
            f"a lab runs the model itself, which {what} does not hold",
            field="TARGET",
            value=None if wanted.model is None else str(wanted.model),
            remedy=f"write cutset replay {wanted.trace} MODEL --cluster C --lab",
        )
    if is_generated(wanted.trace):
        parse_generated(wanted.trace, Conditions(1e6, 1e6))  # what is wrong is told at once
    elif ":" not in wanted.trace:
        read_text(Path(wanted.trace))
    return wanted.model


def _loaded(wanted: Wanted, model: Model, problem: Problem) -> Replay:
    """The trace, and the cuts as far as they are known before they are loaded. Raises what reading
    raises, UsageError for policies that are none."""
    from cutset.adaptation.lab_moments import not_emulated
    from cutset.adaptation.replays import check_same, is_record, of_problem, of_record, policies_of
    from cutset.cli.replay import check_fallback

    path = Path(wanted.trace)
    if is_record(path):
        found = of_record(path)
        names = [device.name for device in problem.cluster.devices]
        check_same(found, path, model.graph, names)
        if found.cuts.device != problem.cluster.source:
            raise UsageError(
                "the record is of another device than the cluster's source",
                field="--cluster",
                value=problem.cluster.source,
                remedy=f"use a cluster file whose source is {found.cuts.device}",
            )
    else:
        found = of_problem(wanted.trace, problem, wanted.server)
        policies_of(wanted.policies, found.cuts, "--policies")
    check_fallback(wanted.fallback, found.cuts)
    if wanted.duration_s is not None:
        found = replace(found, trace=found.trace.cut_to(wanted.duration_s))
    for text in (found.note, not_emulated(found.trace)):
        if text:
            output.note(text)
    return found


def _play_all(
    wanted: Wanted,
    loaded: Replay,
    deployed: Deployed,
    lab: Lab,
    join_cpu: Callable[[], None],
    feeds: Sequence[Feeds],
    expected: Sequence[dict[str, Array]],
) -> InLab:
    from cutset.adaptation import lab_moments
    from cutset.adaptation.lab_regret import with_best
    from cutset.adaptation.lab_replay import Emulation, play_live
    from cutset.adaptation.replays import policies_of
    from cutset.lab.competitors import competitors

    adaptive = deployed.adaptive
    assert adaptive is not None
    cuts, trace, spec = loaded.cuts, loaded.trace, lab.state.spec
    policies = policies_of(wanted.policies, cuts, "--policies")
    counts = lab_moments.counts(trace, spec.devices[spec.index(cuts.server)].cpu_share)
    played: list[Played] = []
    records: list[RunRecord] = []
    interrupted = False
    with contextlib.ExitStack() as last:
        core = _own_core(lab, cuts.server, last) if counts[-1] else None
        load = last.enter_context(competitors(counts[-1], lab.place(cuts.server).cgroups, core))
        stated = adaptive.adapter.seen.stated
        emulation = Emulation(lab, spec, (cuts.device, cuts.server), load, stated=stated)
        join_cpu()
        try:
            _measure(adaptive, emulation, load, counts)
            output.note(
                f"playing {trace.name} with {len(policies)} policies,"
                f" {trace.duration_s:g} s each: {len(cuts.cuts)} cuts are loaded"
            )
            with output.progress("in the lab", trace.duration_s * len(policies)) as done:
                for i, policy in enumerate(policies):
                    _wait_whole(adaptive)
                    found, record = play_live(
                        trace,
                        policy,
                        deployed.session,
                        adaptive.adapter,
                        emulation,
                        feeds,
                        expected,
                        deadline_s=wanted.deadline_s or DEADLINE_S,
                        progress=partial(_progress, done, i * trace.duration_s),
                    )
                    played.append(found)
                    records.append(record)
                    emulation.put_back()
                    if record.interrupted:
                        interrupted = True
                        break
        except KeyboardInterrupt:
            if not played:
                raise
            interrupted = True
        finally:
            emulation.put_back()
        loads = dict(emulation.loads)
    _check_answered(records)
    worst = tuple(
        r.comparison.max_rel if r.comparison is not None and r.answered else None for r in records
    )
    return InLab(loaded, tuple(with_best(played, trace)), worst, loads, interrupted)


def _own_core(lab: Lab, server: str, last: contextlib.ExitStack) -> int | None:
    """Have the server's worker run on one core and this process on the others, so that what
    competes with the server competes with nothing else; that core. None where there is one only,
    or no worker is known."""
    from cutset.lab.competitors import pinned

    cores = sorted(os.sched_getaffinity(0))
    pid = lab.place(server).pid
    if len(cores) < 2 or pid is None:
        return None
    last.enter_context(pinned(os.getpid(), cores[:-1]))
    last.enter_context(pinned(pid, cores[-1:]))
    return cores[-1]


def _progress(done: Callable[[float], None], before_s: float, at_s: float) -> None:
    done(before_s + at_s)


def _measure(
    adaptive: Adaptive, emulation: Emulation, load: Competitors, counts: Sequence[int]
) -> None:
    """Learn what load so many competitors are, by the server's longest segment."""
    cuts = adaptive.cuts.cuts
    longest = max(range(len(cuts)), key=lambda i: cuts[i].server_s)
    if counts[-1] == 0 or not cuts[longest].uses_server:
        return
    with output.working("measuring the load of competitors"):
        emulation.measure(counts, lambda: adaptive.looks.run(longest)[1])


def _wait_whole(adaptive: Adaptive) -> None:
    """Until all cuts can be taken again, should the policy before have lost the server."""
    end_s = time.monotonic() + BACK_S
    while len(adaptive.held.usable()) < len(adaptive.cuts.cuts):
        if time.monotonic() > end_s:
            output.note(f"the server's cuts are not back after {BACK_S:g} s: going on without")
            return
        time.sleep(0.1)


def _check_answered(records: Sequence[RunRecord]) -> None:
    """Raise the first error where no policy got any answer."""
    errors: list[CutsetError] = [r.first_error for r in records if r.first_error is not None]
    if errors and not any(record.answered for record in records):
        raise errors[0]
