"""What was measured: operators on devices, whole runs, links."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from cutset.cluster import Cluster
from cutset.errors import InvalidFileError


@dataclass(frozen=True)
class Measurement:
    """One operator on one kind of device; seconds. `latency_s` is scaled to the whole's median."""

    kind: str
    engine: str
    threads: int
    operator: str
    latency_s: float
    stdev_s: float = 0.0
    samples: int = 1


@dataclass(frozen=True)
class WholeMeasurement:
    """The unsplit model on one kind of device, paced or loaded as that device is; seconds."""

    kind: str
    latency_s: float
    p50_s: float
    p90_s: float
    samples: int
    engine: str = ""
    threads: int = 0


@dataclass(frozen=True)
class LinkMeasurement:
    """`bandwidth_bps` is payload bits per second; `latency_s` is one way."""

    source: str
    target: str
    bandwidth_bps: float
    latency_s: float
    samples: int = 1


@dataclass(frozen=True)
class MemoryMeasurement:
    """What the model's loading took on one kind of device: bytes for a stage beside its operators,
    and bytes for each byte of weights (cutset.memory)."""

    kind: str
    engine: str
    stage_bytes: int
    weight_factor: float
    samples: int = 1


@dataclass(frozen=True)
class DeviceMeasurement:
    name: str
    stage_overhead_s: float = 0.0
    send_s_per_byte: float = 0.0
    recv_s_per_byte: float = 0.0
    cpu: str = ""
    memory_bytes: int = 0


@dataclass(frozen=True)
class Profile:
    graph_digest: str
    measurements: tuple[Measurement, ...] = ()
    whole: tuple[WholeMeasurement, ...] = ()
    links: tuple[LinkMeasurement, ...] = ()
    devices: tuple[DeviceMeasurement, ...] = ()
    memory: tuple[MemoryMeasurement, ...] = ()

    @cached_property
    def compute_s(self) -> Mapping[str, Mapping[str, float]]:
        """Kind -> operator -> seconds."""
        table: dict[str, dict[str, float]] = {}
        for m in self.measurements:
            table.setdefault(m.kind, {})[m.operator] = m.latency_s
        return table


def resolve(cluster: Cluster, profile: Profile | None, *, require: bool = True) -> Cluster:
    """The cluster with measured values wherever the file states none.

    Stated values win. A link whose bandwidth is neither stated nor measured raises
    InvalidFileError (unless `require` is False); an unmeasured latency or overhead counts as 0.
    """
    links = {(m.source, m.target): m for m in profile.links} if profile else {}
    measured = {m.name: m for m in profile.devices} if profile else {}
    resolved_devices = []
    for device in cluster.devices:
        m = measured.get(device.name, DeviceMeasurement(device.name))

        def pick(stated: float | None, found: float) -> float:
            return found if stated is None else stated

        resolved_devices.append(
            replace(
                device,
                stage_overhead_s=pick(device.stage_overhead_s, m.stage_overhead_s),
                send_s_per_byte=pick(device.send_s_per_byte, m.send_s_per_byte),
                recv_s_per_byte=pick(device.recv_s_per_byte, m.recv_s_per_byte),
            )
        )
    resolved_links = []
    for link in cluster.pairs():
        found = links.get((link.source, link.target))
        bandwidth = link.bandwidth_bps
        if bandwidth is None and found is not None:
            bandwidth = found.bandwidth_bps
        if bandwidth is None and require:
            raise InvalidFileError(
                "the link's bandwidth is neither stated nor measured",
                field=f"links.{link.name}.bandwidth",
                remedy="state it (such as 20Mbit/s), or measure it with `cutset profile MODEL"
                " --cluster FILE -o FILE` and plan with `--profile FILE`",
            )
        latency = link.latency_s
        if latency is None:
            latency = found.latency_s if found is not None else 0.0
        resolved_links.append(replace(link, bandwidth_bps=bandwidth, latency_s=latency))
    return replace(
        cluster, devices=tuple(resolved_devices), links=tuple(resolved_links), default_link=None
    )
