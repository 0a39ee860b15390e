"""What a lab is (LabSpec) and where its parts are (LabState): plain data, kept in a JSON file.

The file names everything that could be left behind, so that whoever comes next can remove it.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import msgspec

from cutset.changes import Change, DeviceChange, LinkChange, apply_change
from cutset.cluster import Cluster, Device, Link
from cutset.errors import InfeasibleError, UsageError

SCHEMA: Final = "cutset/lab/1"
MAX_DEVICES: Final = 200
MAX_STATE_BYTES: Final = 16 * 2**20


class DeviceSpec(msgspec.Struct, frozen=True):
    """An emulated device; None is unlimited. `cpu_share` is of one core."""

    name: str
    memory_bytes: int | None
    egress_bps: float | None
    ingress_bps: float | None
    cpu_share: float


class LinkSpec(msgspec.Struct, frozen=True):
    """A directed link: application payload in bits per second; None is unlimited."""

    source: str
    target: str
    bandwidth_bps: float | None
    latency_s: float
    up: bool = True

    @property
    def name(self) -> str:
        return f"{self.source}>{self.target}"


class LabSpec(msgspec.Struct, frozen=True):
    """What is emulated. Devices are numbered in this order; links are all that exist."""

    source: str
    devices: tuple[DeviceSpec, ...]
    links: tuple[LinkSpec, ...]

    def index(self, device: str) -> int:
        """The number of a device. Raises UsageError for an unknown one."""
        for i, spec in enumerate(self.devices):
            if spec.name == device:
                return i
        raise UsageError(
            "no such device in the lab",
            field="device",
            value=device,
            remedy=f"devices are {', '.join(d.name for d in self.devices)}",
        )

    def link(self, source: str, target: str) -> LinkSpec | None:
        return next((x for x in self.links if (x.source, x.target) == (source, target)), None)

    def rate_bps(self, link: LinkSpec) -> float | None:
        """The least of link, egress and ingress; None where none is stated."""
        stated = (
            link.bandwidth_bps,
            self.devices[self.index(link.source)].egress_bps,
            self.devices[self.index(link.target)].ingress_bps,
        )
        return min((rate for rate in stated if rate is not None), default=None)


class Place(msgspec.Struct, frozen=True):
    """Where a device is: its address, its namespace (a descriptor of the keeper), its processes.

    `pid` None: it has no worker (the source), or none yet. `cgroups` are folders that may be left.
    """

    address: str
    endpoint: str
    namespace_fd: int
    pid: int | None
    cgroups: tuple[str, ...]


class LabState(msgspec.Struct, frozen=True):
    """A lab that is up (or was, when its file is found without its keeper).

    `built` is what was asked for, `spec` what holds now; `places` are in the devices' order.
    `folders` are control groups to remove, the deepest first.
    """

    schema: Literal["cutset/lab/1"]
    keeper_pid: int
    built: LabSpec
    spec: LabSpec
    places: tuple[Place, ...]
    folders: tuple[str, ...]
    notes: tuple[str, ...] = ()


def spec_of(cluster: Cluster) -> LabSpec:
    """What of a cluster the lab emulates. A device without a share counts as one core.

    Raises InfeasibleError for more devices than addresses.
    """
    if len(cluster.devices) > MAX_DEVICES:
        raise InfeasibleError(
            f"the lab has room for {MAX_DEVICES} devices",
            field="devices",
            value=len(cluster.devices),
            remedy="use a smaller cluster",
        )
    return LabSpec(
        cluster.source,
        tuple(_device(device) for device in cluster.devices),
        tuple(_link(link) for link in cluster.pairs()),
    )


def _device(device: Device) -> DeviceSpec:
    return DeviceSpec(
        device.name,
        int(device.memory_bytes) if math.isfinite(device.memory_bytes) else None,
        device.egress_bps if math.isfinite(device.egress_bps) else None,
        device.ingress_bps if math.isfinite(device.ingress_bps) else None,
        1.0 if device.cpu_share is None else device.cpu_share,
    )


def _link(link: Link) -> LinkSpec:
    return LinkSpec(link.source, link.target, link.bandwidth_bps, link.latency_s or 0.0)


def changed(spec: LabSpec, change: Change) -> LabSpec:
    """The lab after a change. Raises UsageError for a device or link that it does not have, and
    for a load, which is no number of the kernel's."""
    if isinstance(change, DeviceChange) and change.load is not None:
        raise UsageError(
            "a load is for simulation; the lab emulates by shares of a core",
            field=f"device:{change.device}.load",
            value=f"{change.load:g}",
            remedy=f"write device:{change.device}.cpu=SHARE, or `cutset simulate … --set` for the"
            " load",
        )
    after = spec_of(apply_change(_as_cluster(spec), change))
    up = {link.name: link.up for link in spec.links}
    if isinstance(change, LinkChange) and change.up is not None:
        up[f"{change.source}>{change.target}"] = change.up
    # A link that is down stays listed, with its numbers, so that it can come up again.
    numbers = {link.name: link for link in (*spec.links, *after.links)}
    links = tuple(
        msgspec.structs.replace(numbers[link.name], up=up[link.name]) for link in spec.links
    )
    return msgspec.structs.replace(after, links=links)


def _as_cluster(spec: LabSpec) -> Cluster:
    return Cluster(
        tuple(
            Device(
                d.name,
                d.name,
                math.inf if d.memory_bytes is None else d.memory_bytes,
                math.inf if d.egress_bps is None else d.egress_bps,
                math.inf if d.ingress_bps is None else d.ingress_bps,
                cpu_share=d.cpu_share,
            )
            for d in spec.devices
        ),
        tuple(Link(x.source, x.target, x.bandwidth_bps, x.latency_s) for x in spec.links),
        spec.source,
        spec.source,
    )


def difference(built: LabSpec, wanted: LabSpec) -> str | None:
    """The first thing in which two labs differ, in words; None where they are equal."""
    if built.source != wanted.source:
        return f"source is {built.source}, not {wanted.source}"
    names = [d.name for d in built.devices]
    if names != [d.name for d in wanted.devices]:
        return f"devices are {', '.join(names)}"
    for device, other in zip(built.devices, wanted.devices, strict=True):
        for field in DeviceSpec.__struct_fields__:
            if getattr(device, field) != getattr(other, field):
                return f"devices.{device.name}: {field} is {getattr(device, field)}"
    theirs = {link.name: link for link in wanted.links}
    for link in built.links:
        if link.name not in theirs:
            return f"links.{link.name} is not in the cluster file"
        other_link = theirs.pop(link.name)
        for field in ("bandwidth_bps", "latency_s"):
            if getattr(link, field) != getattr(other_link, field):
                return f"links.{link.name}: {field} is {getattr(link, field)}"
    return f"links.{next(iter(theirs))} is missing" if theirs else None
