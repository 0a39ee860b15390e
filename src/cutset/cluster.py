"""The machines and the links between them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from cutset.errors import InvalidFileError, choices


@dataclass(frozen=True)
class Engine:
    """What runs operators on a device: part of the device, and of a profile's key.

    `threads` None means the machine's physical cores. `options` are passed to the provider.
    """

    provider: str = "cpu"
    threads: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Device:
    """A machine. `kind` is the key of its costs.

    None in `stage_overhead_s`, `send_s_per_byte` and `recv_s_per_byte` means: as measured in the
    profile, and 0 where nothing was measured. `egress_bps` and `ingress_bps` (bits per second) are
    what the network interface carries over all links; inf is unlimited. `endpoint` None means that
    the device is found by multicast on this machine's network interface `interface`, or, without
    one, is emulated by a process on this machine, slowed to `cpu_share` of one core. So is one
    that is `in_lab`, where `endpoint` leads to a network namespace of this machine; any other
    device with an endpoint is real, and as fast as it is.
    """

    name: str
    kind: str
    memory_bytes: float = math.inf
    egress_bps: float = math.inf
    ingress_bps: float = math.inf
    overlap: bool = True
    stage_overhead_s: float | None = None
    send_s_per_byte: float | None = None
    recv_s_per_byte: float | None = None
    engine: Engine = Engine()
    endpoint: str | None = None
    interface: str | None = None
    cpu_share: float | None = None
    in_lab: bool = False


@dataclass(frozen=True)
class Link:
    """A directed link. `bandwidth_bps` is application payload, bits per second.

    None means: as measured in the profile.
    """

    source: str
    target: str
    bandwidth_bps: float | None = None
    latency_s: float | None = None

    @property
    def name(self) -> str:
        return f"{self.source}>{self.target}"


@dataclass(frozen=True)
class Cluster:
    """Devices and links. Requests enter at `source`; results are wanted at `sink`.

    `default_link` (its names are empty) serves the pairs that `links` does not list; without it
    they cannot talk.
    """

    devices: tuple[Device, ...]
    links: tuple[Link, ...]
    source: str
    sink: str
    multicast: bool = False
    default_link: Link | None = None

    def __post_init__(self) -> None:
        names = [device.name for device in self.devices]
        for name in names:
            if names.count(name) > 1:
                raise InvalidFileError("two devices have this name", field="devices", value=name)
        for role, name in (("source", self.source), ("sink", self.sink)):
            if name not in names:
                raise InvalidFileError(
                    "no such device",
                    field=role,
                    value=name,
                    remedy=choices(name, names, "devices"),
                )
        seen: set[tuple[str, str]] = set()
        for link in self.links:
            for end in (link.source, link.target):
                if end not in names:
                    raise InvalidFileError(
                        "a link names an unknown device",
                        field=f"links.{link.name}",
                        value=end,
                        remedy=choices(end, names, "devices"),
                    )
            if link.source == link.target:
                raise InvalidFileError(
                    "a link joins a device to itself",
                    field=f"links.{link.name}",
                    remedy="leave it out: within a device everything is free",
                )
            if (link.source, link.target) in seen:
                raise InvalidFileError(
                    "the link is listed twice",
                    field=f"links.{link.name}",
                    remedy="keep one (`both: true` writes the way back too)",
                )
            seen.add((link.source, link.target))

    @cached_property
    def by_name(self) -> Mapping[str, Device]:
        return {device.name: device for device in self.devices}

    @cached_property
    def _links(self) -> Mapping[tuple[str, str], Link]:
        return {(link.source, link.target): link for link in self.links}

    def link(self, source: str, target: str) -> Link | None:
        """The link from one device to another; None where they cannot talk."""
        found = self._links.get((source, target))
        if found is None and self.default_link is not None and source != target:
            default = self.default_link
            found = Link(source, target, default.bandwidth_bps, default.latency_s)
        return found

    def pairs(self) -> Iterable[Link]:
        """Every usable directed link, in the order of the devices."""
        for a in self.devices:
            for b in self.devices:
                link = self.link(a.name, b.name) if a is not b else None
                if link is not None:
                    yield link
