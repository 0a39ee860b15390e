"""Measuring through workers: raw times of a model on a device, and what the links carry.

Durations are taken on one side only, as devices' clocks differ; what they mean for a model is
`cutset.profiler`'s.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cutset.engine import KernelTimes, Submodel
from cutset.errors import RemoteProtocolError, UsageError
from cutset.ports import Array
from cutset.profiles import DeviceMeasurement, LinkMeasurement
from cutset.runtime import routing
from cutset.runtime.cache import pack
from cutset.runtime.codec import pack_tensors
from cutset.runtime.coordinator import Coordinator
from cutset.runtime.deployment import LOAD_TIMEOUT_S
from cutset.runtime.growth import Grown
from cutset.runtime.messages import (
    ConfigureLinks,
    GetStatus,
    Measure,
    Measured,
    Profiled,
    RunProfile,
    Status,
)
from cutset.runtime.upload import upload

PROFILE_TIMEOUT_S = 1800.0
PROBE_S = 0.3  # how long one probe of a link's bandwidth should take


@dataclass(frozen=True)
class RawProfile:
    """Raw times of a submodel on a device: per kernel (unpaced), and of whole (paced) runs."""

    kernels: tuple[KernelTimes, ...]
    whole_s: tuple[float, ...]
    threads: int
    grown: Grown


@dataclass(frozen=True)
class LinkReport:
    """A measured link, and the CPU seconds per byte that its two ends spend on a transfer.

    `handover_s` is what a message costs one way beside the link: threads, codec and transport. It
    can be told from the link's latency on emulated links only, and is 0 on others.
    """

    link: LinkMeasurement
    send_s_per_byte: float
    recv_s_per_byte: float
    handover_s: float


def profile(
    coordinator: Coordinator,
    device: str,
    submodel: Submodel,
    feeds: Mapping[str, Array],
    *,
    kernel_runs: int = 8,
    whole_runs: int = 8,
) -> RawProfile:
    """Raw times of a submodel on a device: kernels unpaced, whole runs paced as it is."""
    container = pack(submodel)
    coordinator.connect(device)
    upload(container, lambda body, data: coordinator.ask(device, body, data, timeout_s=60.0))
    spec = routing.engine_spec(coordinator.cluster.by_name[device])
    body = RunProfile(container.content_hash, spec, kernel_runs, whole_runs)
    answer = coordinator.ask(device, body, pack_tensors(feeds), timeout_s=PROFILE_TIMEOUT_S)
    assert isinstance(answer, Profiled)
    grown = Grown(answer.stage_bytes, answer.load_bytes, answer.run_bytes)
    kernels = tuple(KernelTimes(k.node, k.op_type, k.seconds) for k in answer.kernels)
    return RawProfile(kernels, answer.whole_s, answer.threads, grown)


def measure_link(
    coordinator: Coordinator,
    source: str,
    target: str,
    *,
    repeats: int = 5,
    probe_s: float = PROBE_S,
) -> LinkReport:
    """Bandwidth, latency and CPU costs of a link, by transfers of known size.

    All durations are taken at `source`: a probe goes there and a small answer back, so that
    `latency_s` is half of the smallest round trip. Raises UsageError where there is no link.
    """
    _configure_links(coordinator, source, target)
    address = coordinator.connect(target)
    small = _probe(coordinator, source, address, 0, 20, shaped=False)
    size = 2**19
    large = _probe(coordinator, source, address, size, 2 * repeats, shaped=False)
    send = _per_byte(large.sender_cpu_s, 2 * repeats, small.sender_cpu_s, 20, size)
    recv = _per_byte(large.receiver_cpu_s, 2 * repeats, small.receiver_cpu_s, 20, size)
    base_s = statistics.median(
        _probe(coordinator, source, address, 0, 2 * repeats, True).round_trip_s
    )
    size = 2**14
    took_s = statistics.median(_probe(coordinator, source, address, size, 2, True).round_trip_s)
    rate = size / max(took_s - base_s, 1e-4)
    size = min(2**23, max(2**14, int(rate * probe_s)))
    found = _probe(coordinator, source, address, size, repeats, shaped=True)
    moved_s = statistics.median(found.round_trip_s) - base_s
    # What the processors spend is not the link's; on a link faster than they are it overlaps
    # with the transfer, so that at most half of the time is taken off.
    transfer_s = max(moved_s - size * (send + recv), moved_s / 2, 1e-9)
    handover_s = 0.0
    if routing.emulated(coordinator.cluster, source, target):
        handover_s = statistics.median(small.round_trip_s) / 2
    latency_s = max(0.0, base_s / 2 - handover_s)
    measured = LinkMeasurement(source, target, 8 * size / transfer_s, latency_s, repeats)
    return LinkReport(measured, send, recv, handover_s)


def measure_links(
    coordinator: Coordinator,
) -> tuple[tuple[LinkMeasurement, ...], tuple[DeviceMeasurement, ...]]:
    """Every link of the cluster, one at a time, and what its devices spend on transfers.

    The devices' `stage_overhead_s` is the median hand-over of their incoming links: a stage
    starts so much later than the evaluator's link says.
    """
    reports = [
        measure_link(coordinator, link.source, link.target) for link in coordinator.cluster.pairs()
    ]
    devices = []
    for device in coordinator.cluster.devices:
        status = coordinator.ask(device.name, GetStatus())
        assert isinstance(status, Status)
        sends = [r.send_s_per_byte for r in reports if r.link.source == device.name]
        incoming = [r for r in reports if r.link.target == device.name]
        devices.append(
            DeviceMeasurement(
                device.name,
                _median([r.handover_s for r in incoming]),
                _median(sends),
                _median([r.recv_s_per_byte for r in incoming]),
                status.cpu,
                status.memory_bytes,
            )
        )
    return tuple(r.link for r in reports), tuple(devices)


def _configure_links(coordinator: Coordinator, source: str, target: str) -> None:
    coordinator.connect(source)
    for a, b in ((source, target), (target, source)):
        spec = routing.link_spec(coordinator.cluster, a, b, coordinator.connect(b))
        if spec is not None:
            coordinator.ask(a, ConfigureLinks((spec,)))
        elif (a, b) == (source, target):
            raise UsageError("no such link", field="link", value=f"{a}>{b}")


def _probe(
    coordinator: Coordinator, source: str, address: str, size: int, count: int, shaped: bool
) -> Measured:
    answer = coordinator.ask(
        source, Measure(address, size, count, shaped), timeout_s=LOAD_TIMEOUT_S
    )
    if not isinstance(answer, Measured):
        raise RemoteProtocolError("Measured is expected", value=type(answer).__name__)
    return answer


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0


def _per_byte(large_s: float, large_n: int, small_s: float, small_n: int, size: int) -> float:
    return max(0.0, large_s / large_n - small_s / small_n) / size
