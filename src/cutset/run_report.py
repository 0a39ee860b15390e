"""What `cutset run --json` prints: measured beside predicted (docs/formats.md)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from cutset.agreement import (
    Bottleneck,
    Busy,
    Disagreement,
    Part,
    bottleneck,
    busy_rows,
    device_reason,
    disagreement,
    link_reason,
)
from cutset.cluster import Cluster
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
    """Seconds per request: computing, and ready but waiting for the device.

    `lost`: its device gave no numbers, as it was lost.
    """

    name: str
    device: str
    predicted_s: float | None
    measured_s: float | None
    queue_s: float | None
    requests: int
    lost: bool = False


class LinkReport(msgspec.Struct):
    """Per request: bytes, and seconds from the start of each transfer to its arrival (measured:
    to its acknowledgement), added up. `bandwidth_bps` is what they come to without the link's
    latency, `stated_bps` what the cluster file says (None: nothing). `busy_s` is for how long the
    link was held: transfers under way together count once, and a latency occupies nothing. `path`
    is the way the data took: "direct", or "zenoh" and why; "" where it is lost."""

    name: str
    bytes: float
    predicted_s: float | None
    measured_s: float | None
    retries: int
    stated_bps: float | None
    bandwidth_bps: float | None
    busy_predicted_s: float | None = None
    busy_s: float | None = None
    lost: bool = False
    path: str = ""


class StageMemory(msgspec.Struct):
    """The enforced number, and the peak by which resident memory grew while the stage loaded and
    ran first."""

    name: str
    predicted_bytes: int
    measured_bytes: int


class MemoryReport(msgspec.Struct):
    """By the number that is enforced (docs/formats.md), and as resident memory grew by loading."""

    device: str
    predicted_bytes: int | None
    measured_bytes: int
    stages: list[StageMemory] = []


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
    memory: list[MemoryReport]
    plan: PlanDocument
    interrupted: bool
    errors: dict[str, int]
    fallbacks: int
    dropped: dict[str, int]
    busy: list[Busy]
    bottleneck: Bottleneck
    disagreement: Disagreement | None
    latencies_s: list[float] | msgspec.UnsetType = msgspec.UNSET


def run_document(
    record: RunRecord,
    stats: SessionStats,
    estimate: Estimate | None,
    plan: PlanDocument,
    cluster: Cluster,
    memory_bytes: Mapping[str, int],
    *,
    in_flight: int,
    emulated: bool,
    rtol: float,
    with_latencies: bool = False,
    stage_memory: Mapping[str, tuple[int, int]] = MappingProxyType({}),
) -> RunDocument:
    """The report of a run. `estimate` None: nothing was predicted. `memory_bytes` is what loading
    took on each device, `stage_memory` the enforced and the measured number of each stage.
    """
    stages = _stages(stats, estimate, plan)
    links = _links(stats, estimate, cluster, record.requests)
    busy = busy_rows(
        estimate.busy_s if estimate else {},
        _device_busy(stages),
        {x.name: x.busy_s for x in links if x.busy_s is not None},
        {
            name: device.egress_busy_s / max(record.requests, 1)
            for name, device in stats.devices.items()
            if device.links
        },
        {stage.device for stage in plan.stages if stage.device not in stats.devices},
    )
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
        stages=stages,
        links=links,
        memory=[
            _memory(name, measured, estimate, plan, stage_memory)
            for name, measured in memory_bytes.items()
        ],
        plan=plan,
        interrupted=record.interrupted,
        errors=record.errors,
        fallbacks=stats.fallbacks,
        dropped=dropped(stats),
        busy=busy,
        bottleneck=bottleneck(busy, estimate.bottleneck if estimate else None),
        # Where some requests went another way, means over all requests compare with nothing.
        disagreement=None
        if record.failed or stats.fallbacks
        else disagreement(_parts(links, busy, in_flight)),
        latencies_s=record.latencies_s if with_latencies else msgspec.UNSET,
    )


def dropped(stats: SessionStats) -> dict[str, int]:
    """Frames that the devices refused while the plan was deployed, by reason."""
    found: Counter[str] = Counter()
    for device in stats.devices.values():
        found.update(device.dropped)
    return dict(sorted(found.items()))


def _memory(
    device: str,
    measured: int,
    estimate: Estimate | None,
    plan: PlanDocument,
    stage_memory: Mapping[str, tuple[int, int]],
) -> MemoryReport:
    stages = [
        StageMemory(s.name, *stage_memory[s.name])
        for s in plan.stages
        if s.device == device and s.name in stage_memory
    ]
    predicted = estimate.memory_bytes.get(device) if estimate else None
    if stages:  # what was enforced, whatever a plan file claims
        predicted = sum(s.predicted_bytes for s in stages)
    return MemoryReport(device, predicted, measured, stages)


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
                bool(stats.devices) and stage.device not in stats.devices,
            )
        )
    return found


def _links(
    stats: SessionStats, estimate: Estimate | None, cluster: Cluster, requests: int
) -> list[LinkReport]:
    predicted: dict[str, float] = {}
    for t in estimate.transfers if estimate else ():
        name = f"{t.transfer.source_device}>{t.transfer.target_device}"
        predicted[name] = predicted.get(name, 0.0) + t.arrive_s - t.start_s
    stated = {link.name: link for link in cluster.pairs()}
    busy = estimate.busy_s if estimate else {}
    found = []
    for link in (link for device in stats.devices.values() for link in device.links):
        known = stated.get(link.name)
        found.append(
            LinkReport(
                link.name,
                link.bytes / max(requests, 1),
                predicted.get(link.name),
                link.transfer_s / max(requests, 1),
                link.retries,
                known.bandwidth_bps if known is not None else None,
                8 * link.bytes / link.busy_s if link.busy_s > 0 else None,
                busy.get(f"link:{link.name}"),
                link.busy_s / max(requests, 1),
                path=link.path,
            )
        )
    measured = {x.name for x in found}
    for resource, busy_s in busy.items():
        family, _, name = resource.partition(":")
        if (
            family == "link"
            and name not in measured
            and name.partition(">")[0] not in stats.devices
        ):
            known = stated.get(name)
            rate = known.bandwidth_bps if known is not None else None
            found.append(
                LinkReport(
                    name, 0.0, predicted.get(name), None, 0, rate, None, busy_s, None, lost=True
                )
            )
    return found


def _device_busy(stages: Sequence[StageReport]) -> dict[str, float]:
    """Seconds of compute per request by device; where a stage never ran, nothing is known."""
    found: dict[str, float] = {}
    for stage in stages:
        if stage.measured_s is not None:
            found[stage.device] = found.get(stage.device, 0.0) + stage.measured_s
    return found


def _parts(
    links: Sequence[LinkReport],
    busy: Sequence[Busy],
    in_flight: int,
) -> Iterator[Part]:
    """What was both predicted and measured. With several requests in flight a transfer waits
    behind others, so that links are compared by how long they are held."""
    for row in busy:
        family, _, device = row.resource.partition(":")
        if family == "device":
            # Not stage by stage: what transfers cost the processor is predicted beside the
            # stages, and is measured inside them.
            yield Part(
                f"device {device}",
                row.predicted_s,
                row.measured_s,
                device_reason(device, row.predicted_s, row.measured_s),
            )
    for link in links:
        predicted_bps = link.stated_bps
        if link.busy_predicted_s and link.bytes:
            predicted_bps = 8 * link.bytes / link.busy_predicted_s
        alone = in_flight == 1 and link.predicted_s is not None
        predicted_s, measured_s = (
            (link.predicted_s, link.measured_s) if alone else (link.busy_predicted_s, link.busy_s)
        )
        yield Part(
            f"link {link.name}",
            predicted_s,
            measured_s,
            link_reason(predicted_s, measured_s, link.bandwidth_bps, predicted_bps, link.retries),
        )
    shared = {link.name.partition(">")[0] for link in links}
    for name in sorted(shared):
        if sum(link.name.partition(">")[0] == name for link in links) > 1:
            row = next(x for x in busy if x.resource == f"egress:{name}")
            yield Part(f"egress of {name}", row.predicted_s, row.measured_s)
