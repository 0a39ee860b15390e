"""What `cutset run --json` prints: measured beside predicted (docs/formats.md)."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from cutset.problem import Estimate
from cutset.report import LatencySummary, summarise, throughput_per_s
from cutset.runner import RunRecord
from cutset.runtime.session import SessionStats
from cutset.serde.plan_file import PlanDocument
from cutset.verify import Comparison


class PredictedDocument(msgspec.Struct):
    """Seconds; None where the plan came without measured costs."""

    latency_s: float | None
    period_s: float | None


class VerifyDocument(msgspec.Struct):
    """`equal` is within `rtol`, `bit_equal` to the last bit; inf is null."""

    equal: bool
    max_abs: float | None
    max_rel: float | None
    bit_equal: bool
    rtol: float
    worst_output: str


class StageReport(msgspec.Struct):
    """Seconds per request: computing, and ready but waiting for the device."""

    name: str
    device: str
    predicted_s: float | None
    measured_s: float | None
    queue_s: float | None
    requests: int


class LinkReport(msgspec.Struct):
    """Per request: bytes, and seconds from the start of each transfer to its arrival (measured:
    to its acknowledgement), added up."""

    name: str
    bytes: float
    predicted_s: float | None
    measured_s: float | None
    retries: int


class RunDocument(msgspec.Struct, omit_defaults=False):
    requests: int
    answered: int
    failed: int
    latency_s: LatencySummary | None
    throughput_per_s: float | None
    in_flight: int
    predicted: PredictedDocument
    verify: VerifyDocument | None
    switches: list[Any]
    epochs: int
    emulated: str
    stages: list[StageReport]
    links: list[LinkReport]
    plan: PlanDocument
    errors: dict[str, int]
    fallbacks: int
    latencies_s: list[float] | msgspec.UnsetType = msgspec.UNSET


def run_document(
    record: RunRecord,
    stats: SessionStats,
    estimate: Estimate | None,
    plan: PlanDocument,
    *,
    in_flight: int,
    emulated: bool,
    rtol: float,
    with_latencies: bool = False,
) -> RunDocument:
    """The report of a run. `estimate` None: nothing was predicted."""
    return RunDocument(
        requests=record.requests,
        answered=record.answered,
        failed=record.failed,
        latency_s=summarise(record.latencies_s),
        throughput_per_s=throughput_per_s(record.answered_at_s),
        in_flight=in_flight,
        predicted=PredictedDocument(
            estimate.latency_s if estimate else None, estimate.period_s if estimate else None
        ),
        verify=verify_document(record.comparison, rtol),
        switches=[],
        epochs=1,
        emulated="process" if emulated else "no",
        stages=_stages(stats, estimate, plan),
        links=_links(stats, estimate, record.requests),
        plan=plan,
        errors=record.errors,
        fallbacks=stats.fallbacks,
        latencies_s=record.latencies_s if with_latencies else msgspec.UNSET,
    )


def verify_document(comparison: Comparison | None, rtol: float) -> VerifyDocument | None:
    if comparison is None:
        return None
    return VerifyDocument(
        comparison.equal(rtol),
        _finite(comparison.max_abs),
        _finite(comparison.max_rel),
        comparison.bit_equal,
        rtol,
        comparison.worst,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _stages(
    stats: SessionStats, estimate: Estimate | None, plan: PlanDocument
) -> list[StageReport]:
    predicted = {t.name: t.end_s - t.start_s for t in estimate.stages} if estimate else {}
    measured = {s.name: s for device in stats.devices.values() for s in device.stages}
    found = []
    for stage in plan.stages:
        m = measured.get(stage.name)
        ran = m is not None and m.requests > 0
        found.append(
            StageReport(
                stage.name,
                stage.device,
                predicted.get(stage.name),
                m.compute_s / m.requests if m is not None and ran else None,
                m.queue_s / m.requests if m is not None and ran else None,
                m.requests if m is not None else 0,
            )
        )
    return found


def _links(stats: SessionStats, estimate: Estimate | None, requests: int) -> list[LinkReport]:
    predicted: dict[str, float] = {}
    for t in estimate.transfers if estimate else ():
        name = f"{t.transfer.source_device}>{t.transfer.target_device}"
        predicted[name] = predicted.get(name, 0.0) + t.arrive_s - t.start_s
    return [
        LinkReport(
            link.name,
            link.bytes / max(requests, 1),
            predicted.get(link.name),
            link.transfer_s / max(requests, 1),
            link.retries,
        )
        for device in stats.devices.values()
        for link in device.links
    ]
