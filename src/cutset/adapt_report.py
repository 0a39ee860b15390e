"""What an adaptive run did, and what adapting saved by what was observed; pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from cutset.adaptation.beside import Beside, nothing
from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.live import Line
from cutset.adaptation.observer import Seen, errors
from cutset.adaptation.probing import Probing
from cutset.adaptation.records import Switch
from cutset.report import LatencySummary, summarise, throughput_per_s
from cutset.run_report import VerifyDocument, dropped, verify_document
from cutset.runner import RunRecord
from cutset.runtime.session import SessionStats

#: Parts of a timeline that a person still reads.
MOST_SPANS = 20


class CutReport(msgspec.Struct):
    """A loaded cut: seconds on the device and on the unloaded server as timed where it is loaded,
    payload bytes each way, and the requests that took it. `predicted_s` is what a request by it
    takes by what was observed, mean over all answered requests; None where some could not have
    been answered."""

    name: str
    requests: int
    predicted_s: float | None
    device_s: float
    server_s: float
    up_bytes: float
    down_bytes: float


class LooksReport(msgspec.Struct):
    """What looking took: bytes, fractions of what the links could have carried meanwhile, seconds
    of the server."""

    up_bytes: int
    down_bytes: int
    up_share: float
    down_share: float
    server_s: float


class ObservedReport(msgspec.Struct):
    """What was believed at the end (units as in Conditions), and the relative standard error of
    each number that has one; None: too little was seen."""

    up_bps: float
    down_bps: float
    up_latency_s: float
    down_latency_s: float
    load: float
    queue_s: float
    slowdown: float
    lost: bool
    errors: dict[str, float | None]


class StaticReport(msgspec.Struct):
    """One cut for all requests. `mean_s` is None where `unanswered` requests, sent while the
    server could not be reached, would have had no answer. `saved` is 1 - measured/mean_s."""

    name: str
    cut: str
    mean_s: float | None
    saved: float | None
    unanswered: int


class SavedReport(msgspec.Struct):
    """Mean seconds a request: `measured_s` as it was, `by_observed_s` what the cuts that were in
    use take by what was observed, which is the number to hold beside the statics'. All are over
    the `requests` that the devices answered; a fallback's answers are not among them."""

    requests: int
    measured_s: float | None
    by_observed_s: float | None
    statics: list[StaticReport]


class AdaptDocument(msgspec.Struct):
    """What `run --adapt --json` and `record --json` print."""

    requests: int
    answered: int
    failed: int
    latency_s: LatencySummary | None
    throughput_per_s: float | None
    in_flight: int
    verify: VerifyDocument | None
    switches: list[Switch]
    epochs: int
    emulated: str
    interrupted: bool
    errors: dict[str, int]
    fallbacks: int
    dropped: dict[str, int]
    policy: str
    device: str
    server: str
    elapsed_s: float
    cut: str
    cuts: list[CutReport]
    left_out: list[str]
    worst_loss: float
    looks: LooksReport
    observed: ObservedReport
    ignored: dict[str, int]
    saved: SavedReport
    record: str | None = None
    latencies_s: list[float] | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True)
class Tally:
    """Sums over a run's lines; as long as the cuts, however long the run is.

    `up_bits` and `down_bits` are what the links could have carried until `until_s`; `cut` is the
    one in use then. Answers of the fallback took `fallbacks_s` in all.
    """

    beside: Beside
    until_s: float = 0.0
    up_bits: float = 0.0
    down_bits: float = 0.0
    cut: int | None = None
    fallbacks_s: float = 0.0


def begin(cuts: Cuts) -> Tally:
    """Nothing was told yet."""
    return Tally(nothing(cuts))


def add(tally: Tally, line: Line) -> Tally:
    """With the interval that a line ends."""
    lasted_s = max(0.0, line.at_s - tally.until_s)
    return Tally(
        tally.beside if line.beside is None else tally.beside + line.beside,
        max(tally.until_s, line.at_s),
        tally.up_bits + line.believed.up_bps * lasted_s,
        tally.down_bits + line.believed.down_bps * lasted_s,
        line.cut,
        tally.fallbacks_s + line.fallbacks_s,
    )


def saved(beside: Beside, cuts: Cuts, stated: Conditions, measured_s: float | None) -> SavedReport:
    """Beside all on the device, all on the server, the cut that was best for what was stated at
    the start, and the one cut that would have been best for the run (known only afterwards)."""
    means = [beside.mean_s(i) for i in range(len(cuts.cuts))]
    known = {i: mean for i, mean in enumerate(means) if mean is not None}
    named = (
        ("local", cuts.local),
        ("offload", cuts.offload),
        ("best at the start", cuts.best(stated)),
        ("best static", min(known, key=known.__getitem__) if known else None),
    )
    statics = [
        StaticReport(
            name,
            cuts.cuts[index].name,
            means[index],
            _saved(measured_s, means[index]),
            beside.unanswered[index],
        )
        for name, index in named
        if index is not None
    ]
    by_observed_s = beside.taken_s / beside.taken if beside.taken else None
    return SavedReport(beside.requests, measured_s, by_observed_s, statics)


def _saved(measured_s: float | None, other_s: float | None) -> float | None:
    return None if measured_s is None or not other_s else 1 - measured_s / other_s


def saves(report: SavedReport, static: StaticReport) -> bool | None:
    """Whether adapting took less than this cut alone, both as measured and by what was observed:
    one of them alone could be the prediction's error. None where nothing can be compared."""
    if not report.requests or report.measured_s is None or report.by_observed_s is None:
        return None
    if static.mean_s is None:
        return True  # it would have left requests without an answer
    return report.measured_s < static.mean_s and report.by_observed_s < static.mean_s * (1 - 1e-9)


@dataclass(frozen=True)
class Span:
    """From `begin_s` to `end_s` (seconds from the start) requests took `cut`; where `switches` fell
    into a part that was not made by them, it is the cut that was in use longest."""

    begin_s: float
    end_s: float
    cut: str
    switches: int = 0


def timeline(
    switches: Sequence[Switch], cut: str, end_s: float, most: int = MOST_SPANS
) -> list[Span]:
    """Which cut was in use when, from 0 to `end_s`, in at most `most` parts.

    `cut` is the one in use at the end. Where there are more parts than that, it is divided into
    `most` equal ones, and neighbours with the same cut become one.
    """
    end_s = max([end_s, *(s.at_s for s in switches[-1:])])
    cuts = [switches[0].source, *(s.target for s in switches)] if switches else [cut]
    edges = [0.0, *(s.at_s for s in switches), end_s]
    spans = [Span(edges[i], edges[i + 1], name) for i, name in enumerate(cuts)]
    if len(spans) <= most:
        return spans
    merged: list[Span] = []
    for slot in _slots(spans, end_s, most):
        if merged and merged[-1].cut == slot.cut:
            before = merged.pop()
            slot = Span(before.begin_s, slot.end_s, slot.cut, before.switches + slot.switches)
        merged.append(slot)
    return merged


def _slots(spans: Sequence[Span], end_s: float, count: int) -> Iterator[Span]:
    """Equal parts, each with the cut longest in use and the switches that fell into it."""
    at_s = [span.begin_s for span in spans[1:]]
    told = 0
    for k in range(count):
        low, high = end_s * k / count, end_s * (k + 1) / count
        last = k + 1 == count
        until = len(at_s) if last else bisect_left(at_s, high)
        held: dict[str, float] = {}
        for span in spans[told : until + 1]:
            part_s = min(span.end_s, end_s if last else high) - max(span.begin_s, low)
            held[span.cut] = held.get(span.cut, 0.0) + max(0.0, part_s)
        yield Span(low, end_s if last else high, max(held, key=held.__getitem__), until - told)
        told = until


@dataclass(frozen=True)
class Adapted:
    """What is asked of the adapter when a run has ended. `requests` by cut; `left_out` and
    `worst_loss` are those of choosing.Chosen."""

    policy: str
    cuts: Cuts
    switches: tuple[Switch, ...]
    requests: tuple[int, ...]
    seen: Seen
    believed: Conditions
    looked: Probing
    left_out: tuple[str, ...]
    worst_loss: float


def adapt_document(
    record: RunRecord,
    stats: SessionStats,
    adapted: Adapted,
    tally: Tally,
    *,
    in_flight: int,
    emulated: str,
    rtol: float,
    with_latencies: bool = False,
    file: str | None = None,
) -> AdaptDocument:
    """The report of an adaptive run; `file` is where its record was written."""
    cuts, looked = adapted.cuts, adapted.looked
    names = [cut.name for cut in cuts.cuts]
    by_devices = record.answered - stats.fallbacks
    by_devices_s = None
    if by_devices > 0:
        by_devices_s = (math.fsum(record.latencies_s) - tally.fallbacks_s) / by_devices
    return AdaptDocument(
        requests=record.requests,
        answered=record.answered,
        failed=record.failed,
        latency_s=summarise(record.latencies_s),
        throughput_per_s=throughput_per_s(record.answered_at_s),
        in_flight=in_flight,
        verify=verify_document(record.comparison, rtol),
        switches=list(adapted.switches),
        epochs=len(names),
        emulated=emulated,
        interrupted=record.interrupted,
        errors=record.errors,
        fallbacks=stats.fallbacks,
        dropped=dropped(stats),
        policy=adapted.policy,
        device=cuts.device,
        server=cuts.server,
        elapsed_s=tally.until_s,
        cut=names[tally.cut or 0],
        cuts=[
            CutReport(
                cut.name,
                adapted.requests[i],
                tally.beside.mean_s(i),
                cut.device_s,
                cut.server_s,
                cut.up_bytes,
                cut.down_bytes,
            )
            for i, cut in enumerate(cuts.cuts)
        ],
        left_out=list(adapted.left_out),
        worst_loss=adapted.worst_loss,
        looks=LooksReport(
            looked.up_bytes,
            looked.down_bytes,
            _share(looked.up_bytes, tally.up_bits),
            _share(looked.down_bytes, tally.down_bits),
            looked.server_s,
        ),
        observed=_observed(adapted.believed, errors(adapted.seen)),
        ignored=dict(sorted(adapted.seen.ignored)),
        saved=saved(tally.beside, cuts, adapted.seen.stated, by_devices_s),
        record=file,
        latencies_s=record.latencies_s if with_latencies else msgspec.UNSET,
    )


def _share(size_bytes: int, bits: float) -> float:
    return 8 * size_bytes / bits if 0 < bits < math.inf else 0.0


def _observed(now: Conditions, uncertain: Mapping[str, float | None]) -> ObservedReport:
    stated = {
        name: error if error is not None and math.isfinite(error) else None
        for name, error in uncertain.items()
    }
    return ObservedReport(
        now.up_bps,
        now.down_bps,
        now.up_latency_s,
        now.down_latency_s,
        now.load,
        now.queue_s,
        now.slowdown,
        now.lost,
        stated,
    )
