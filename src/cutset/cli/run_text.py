"""What `cutset run` says to a person, and how it ends."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cutset.cli import output, targets
from cutset.errors import CutsetError, TransportError, WorkerLostError

if TYPE_CHECKING:
    from rich.console import Console

    from cutset.adapt_report import AdaptDocument
    from cutset.run_report import RunDocument, VerifyDocument
    from cutset.runner import RunRecord

RANDOM_INPUTS = 16
SPREAD_INPUTS = 4  # enough to say how much the engine's own freedom amounts to


@contextlib.contextmanager
def measuring_for(fallback: str | None) -> Iterator[None]:
    """What is raised here where a device to measure is not there says how a fallback does without:
    what it takes on both is in a profile, and nowhere else."""
    try:
        yield
    except (TransportError, WorkerLostError) as error:
        if fallback is not None:
            error.remedy = (
                f"{error.remedy or 'start its worker'}; with --profile FILE of a time when it was"
                " there, this device answers alone meanwhile"
            )
        raise


def ending(record: RunRecord) -> None:
    """After Ctrl-C the report follows, which a second one would lose: it is not heard any more."""
    if record.interrupted and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        output.note("interrupted: asking the devices what they did, for the report")


def write_answers(record: RunRecord, file: Path | None, as_json: bool) -> None:
    """The first answer to each input, where a file is named for them.

    Raises the first error where there is no answer and the one document is to be that error;
    InvalidFileError where the file cannot be written.
    """
    from cutset.feeds import write_feeds

    if record.first_error is not None and record.answered == 0 and as_json:
        raise record.first_error
    if file is not None and record.outputs:
        write_feeds(file, [record.outputs[i] for i in sorted(record.outputs)])


def ends(record: RunRecord, verify: VerifyDocument | None, spread: Callable[[], float]) -> int:
    """The exit status, and on standard error why it is not 0. `spread` is by how much the unsplit
    model differs from itself, asked for only where it differs from the split one."""
    if record.interrupted:
        return 130
    if record.first_error is not None:
        output.note(f"error: {record.first_error}")
        return record.first_error.exit_status
    if verify is not None and not verify.equal:
        output.note(
            f"error: the split model's output {verify.worst_output!r} differs from the"
            f" unsplit model's by {verify.max_rel} of its largest value, over {verify.rtol:g}"
        )
        with contextlib.suppress(CutsetError):
            output.note(
                f"for scale: with the engine's optimisations off, the unsplit model differs from"
                f" itself by {spread():.1e}; where that is near, the cut changed which kernels run,"
                " and --rtol allows for it"
            )
        return 1
    return 0


def show_verify(console: Console, verify: VerifyDocument | None) -> None:
    """Whether the outputs were the unsplit model's, or how to know."""
    if verify is None:
        console.print("next: add --verify to compare the outputs with the unsplit model's")
        return
    how = "bit-equal to" if verify.bit_equal else "equal to"
    if not verify.equal:
        how = "DIFFERENT from"
    difference = "" if verify.bit_equal else f" (largest relative difference {verify.max_rel})"
    console.print(f"outputs {how} the unsplit model's{difference}")


def show_counts(console: Console, run: RunDocument | AdaptDocument) -> None:
    """How many requests were answered, and how."""
    console.print(
        f"{run.answered} of {run.requests} requests answered, {run.in_flight} in flight,"
        f" {targets.EMULATED.get(run.emulated, run.emulated)}"
    )
    if run.interrupted and (left := run.requests - run.answered - run.failed):
        were = "was" if left == 1 else "were"
        console.print(f"interrupted: {left} that {were} under way {were} given up")
    if run.fallbacks:
        console.print(f"{run.fallbacks} of them by this device alone, as others could not in time")
    if run.dropped:
        reasons = ", ".join(f"{count} wrong {name}" for name, count in run.dropped.items())
        console.print(f"frames dropped: {reasons}")


def show(console: Console, run: RunDocument) -> None:
    """Measured beside predicted."""
    from cutset.units import format_bytes, format_time

    def time(seconds: float | None) -> str:
        return "–" if seconds is None else format_time(seconds)

    def off(measured: float | None, predicted: float | None) -> str:
        if not measured or not predicted:
            return "–"
        return f"{measured / predicted - 1:+.1%}"

    show_counts(console, run)
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
    if run.answered:
        show_verify(console, run.verify)
