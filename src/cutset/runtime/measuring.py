"""Measuring through workers: raw times of a model on a device, and what the links carry.

Durations are taken on one side only, as devices' clocks differ; what they mean for a model is
`cutset.profiler`'s.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cutset.engine import TINY, KernelTimes, Submodel
from cutset.errors import RemoteProtocolError, UsageError
from cutset.ports import Array
from cutset.profiles import DeviceMeasurement, LinkMeasurement
from cutset.runtime import routing
from cutset.runtime.cache import pack
from cutset.runtime.codec import pack_tensors
from cutset.runtime.coordinator import Coordinator
from cutset.runtime.deployment import LOAD_TIMEOUT_S
from cutset.runtime.growth import Grown
from cutset.runtime.measuring_messages import (
    ConfigureLinks,
    Measure,
    Measured,
    Profiled,
    RunProfile,
)
from cutset.runtime.messages import GetStatus, Status
from cutset.runtime.upload import upload

PROFILE_TIMEOUT_S = 1800.0
PROBE_S = 0.3  # how long one probe of a link's bandwidth should take
IDLE_S = 0.05  # how long a device idles before it is measured as one that waits for a request
IDLE_RUNS = 15


@dataclass(frozen=True)
class RawProfile:
    """Raw times of a submodel on a device: per kernel (unpaced), and of whole (paced) runs."""

    kernels: tuple[KernelTimes, ...]
    whole_s: tuple[float, ...]
    threads: int
    grown: Grown


@dataclass(frozen=True)
class Probes:
    """Submodels that any device is measured with, and their inputs.

    `small` is about the smallest stage that anyone would place. `twice` does what `once` does two
    times over, on a tensor in and a tensor out of `edge_bytes` each.
    """

    small: Submodel
    small_feeds: Mapping[str, Array]
    once: Submodel
    twice: Submodel
    edge_feeds: Mapping[str, Array]

    @property
    def edge_bytes(self) -> int:
        return sum(array.nbytes for array in self.edge_feeds.values())


@dataclass(frozen=True)
class LinkReport:
    """A measured link, and the CPU seconds per byte that its two ends spend on a transfer.

    `handover_s` is what a message to an idle device costs one way beside the link: threads, codec
    and transport. Where the link is real and its latency is not stated, it is part of the latency.
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
    pause_s: float = 0.0,
) -> RawProfile:
    """Raw times of a submodel on a device: kernels unpaced, whole runs paced as it is.

    The device idles for `pause_s` before each whole run.
    """
    container = pack(submodel)
    coordinator.connect(device)
    upload(container, lambda body, data: coordinator.ask(device, body, data, timeout_s=60.0))
    spec = routing.engine_spec(coordinator.cluster.by_name[device])
    body = RunProfile(container.content_hash, spec, kernel_runs, whole_runs, pause_s)
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
    # What the processors spend overlaps with the transfer on a link that is slower than they are,
    # and is not the link's on a faster one: of that, at most half of the time is taken off.
    spent_s = size * (send + recv)
    transfer_s = max(moved_s - 2 * spent_s**2 / max(moved_s, 1e-9), moved_s / 2, 1e-9)
    emulated = routing.emulated(coordinator.cluster, source, target)
    idle = _probe(coordinator, source, address, 0, IDLE_RUNS, not emulated, IDLE_S)
    one_way_s = statistics.median(idle.round_trip_s) / 2
    stated = coordinator.cluster.link(source, target)
    if emulated:
        handover_s = one_way_s
        latency_s = max(0.0, base_s / 2 - statistics.median(small.round_trip_s) / 2)
    elif stated is not None and stated.latency_s is not None:
        handover_s, latency_s = max(0.0, one_way_s - stated.latency_s), base_s / 2
    else:
        handover_s, latency_s = 0.0, one_way_s
    measured = LinkMeasurement(source, target, 8 * size / transfer_s, latency_s, repeats)
    return LinkReport(measured, send, recv, handover_s)


def _median_run_s(
    coordinator: Coordinator,
    device: str,
    piece: Submodel,
    feeds: Mapping[str, Array],
    pause_s: float,
) -> float:
    found = profile(
        coordinator, device, piece, feeds, kernel_runs=0, whole_runs=IDLE_RUNS, pause_s=pause_s
    )
    return statistics.median(found.whole_s)


def stage_overhead(coordinator: Coordinator, device: str, probes: Probes) -> float:
    """Seconds that a stage takes beside its operators, on a device that waited for the request.

    That is a call of the engine, and what a small submodel takes longer after a pause than at
    once: what the processor held of it is gone.
    """
    call_s = _median_run_s(coordinator, device, TINY, {"x": np.zeros(1, np.float32)}, 0.0)
    small = probes.small, probes.small_feeds
    longer_s = _median_run_s(coordinator, device, *small, IDLE_S) - _median_run_s(
        coordinator, device, *small, 0.0
    )
    return call_s + max(0.0, longer_s)


def edge_s_per_byte(coordinator: Coordinator, device: str, probes: Probes) -> float:
    """Seconds per byte that a tensor costs the engine where it enters or leaves a stage.

    Two stages of one operator have an output and an input more than one stage of two, and the
    engine takes them out of the layout and the memory that its kernels share.
    """
    once_s, twice_s = (
        _median_run_s(coordinator, device, piece, probes.edge_feeds, IDLE_S)
        for piece in (probes.once, probes.twice)
    )
    return max(0.0, 2 * once_s - twice_s) / (2 * probes.edge_bytes)


def measure_links(
    coordinator: Coordinator, probes: Probes
) -> tuple[tuple[LinkMeasurement, ...], tuple[DeviceMeasurement, ...]]:
    """Every link of the cluster, one at a time, and what its devices spend on transfers and stages.

    The devices' `stage_overhead_s` is the median hand-over of their incoming links, as a stage
    starts so much later than the evaluator's link says, and `stage_overhead`. Sending and receiving
    cost what the two ends of a link spend on a byte, and `edge_s_per_byte`.
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
        edge = edge_s_per_byte(coordinator, device.name, probes)
        devices.append(
            DeviceMeasurement(
                device.name,
                _median([r.handover_s for r in incoming])
                + stage_overhead(coordinator, device.name, probes),
                _median(sends) + edge,
                _median([r.recv_s_per_byte for r in incoming]) + edge,
                status.cpu,
                status.memory_bytes,
            )
        )
    return tuple(r.link for r in reports), tuple(devices)


def _configure_links(coordinator: Coordinator, source: str, target: str) -> None:
    coordinator.connect(source)
    coordinator.connect(target)
    for a, b in ((source, target), (target, source)):
        spec = routing.link_spec(coordinator.cluster, a, b, coordinator.connect(b))
        if spec is not None:
            coordinator.ask(a, ConfigureLinks((spec,), coordinator.peers(a, (b,))))
        elif (a, b) == (source, target):
            raise UsageError("no such link", field="link", value=f"{a}>{b}")


def _probe(
    coordinator: Coordinator,
    source: str,
    address: str,
    size: int,
    count: int,
    shaped: bool,
    pause_s: float = 0.0,
) -> Measured:
    answer = coordinator.ask(
        source, Measure(address, size, count, shaped, pause_s), timeout_s=LOAD_TIMEOUT_S
    )
    if not isinstance(answer, Measured):
        raise RemoteProtocolError("Measured is expected", value=type(answer).__name__)
    return answer


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0


def _per_byte(large_s: float, large_n: int, small_s: float, small_n: int, size: int) -> float:
    return max(0.0, large_s / large_n - small_s / small_n) / size
