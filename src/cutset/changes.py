"""Changes of a cluster as people write them: `link:pi>server=5Mbit/s`, `device:server.cpu=0.5`.

Pure: text -> Change, and (Cluster, Change) -> Cluster. The lab applies them to the kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from cutset import units
from cutset.cluster import Cluster, Link
from cutset.errors import InvalidFileError, UsageError

GRAMMAR: Final = (
    "write link:A>B=RATE, link:A>B.latency=TIME, link:A>B=down, link:A>B=up,"
    " device:D.cpu=SHARE (lab), device:D.load=FACTOR (simulation), device:D.egress=RATE or"
    " device:D.ingress=RATE"
)

#: Beyond it nothing is meant, and times would overflow.
_HEAVIEST_LOAD: Final = 1e6


@dataclass(frozen=True)
class LinkChange:
    """One directed link: what is None stays. `up` False: nothing passes until it is up again."""

    source: str
    target: str
    bandwidth_bps: float | None = None
    latency_s: float | None = None
    up: bool | None = None


@dataclass(frozen=True)
class DeviceChange:
    """One device: what is None stays. `cpu_share` is of one core, and for emulated devices only;
    `load` multiplies the time of its operators, and is for simulation only."""

    device: str
    cpu_share: float | None = None
    egress_bps: float | None = None
    ingress_bps: float | None = None
    load: float | None = None


Change = LinkChange | DeviceChange


def parse_change(text: str) -> Change:
    """The change that a text means. Raises UsageError."""
    what, colon, rest = text.partition(":")
    name, equals, value = rest.rpartition("=")
    if not colon or not equals or not name or not value:
        raise UsageError("not a change", field="CHANGE", value=text, remedy=GRAMMAR)
    try:
        if what == "link":
            return _link(name, value, text)
        if what == "device":
            return _device(name, value, text)
    except InvalidFileError as error:  # from units, which read files' quantities as a rule
        raise UsageError(
            error.message, field=text.rpartition("=")[0], value=value, remedy=error.remedy
        ) from None
    raise UsageError("not a change", field="CHANGE", value=text, remedy=GRAMMAR)


def _link(name: str, value: str, text: str) -> LinkChange:
    pair, latency = (name.removesuffix(".latency"), name.endswith(".latency"))
    source, arrow, target = pair.partition(">")
    if not arrow or not source or not target:
        raise UsageError("not a link", field="CHANGE", value=text, remedy=GRAMMAR)
    if latency:
        return LinkChange(source, target, latency_s=units.parse_time(value))
    if value in ("up", "down"):
        return LinkChange(source, target, up=value == "up")
    return LinkChange(source, target, bandwidth_bps=units.parse_rate(value))


def _device(name: str, value: str, text: str) -> DeviceChange:
    device, dot, attribute = name.rpartition(".")
    if not dot or not device or attribute not in ("cpu", "load", "egress", "ingress"):
        raise UsageError("not a device's number", field="CHANGE", value=text, remedy=GRAMMAR)
    if attribute == "egress":
        return DeviceChange(device, egress_bps=units.parse_rate(value))
    if attribute == "ingress":
        return DeviceChange(device, ingress_bps=units.parse_rate(value))
    share = _number(value)
    if attribute == "load":
        if not 0 < share <= _HEAVIEST_LOAD:  # also refuses NaN
            raise UsageError(
                f"a load must be above 0 and at most {_HEAVIEST_LOAD:g}",
                field=f"device:{name}",
                value=value,
                remedy="write how many times as long operators take there, such as 3",
            )
        return DeviceChange(device, load=share)
    if not 0 < share <= 1:  # also refuses NaN
        raise UsageError(
            "the share of one core must be above 0 and at most 1",
            field=f"device:{name}",
            value=value,
            remedy="write a share such as 0.25",
        )
    return DeviceChange(device, cpu_share=share)


def _number(text: str) -> float:
    """NaN where the text is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def apply_change(cluster: Cluster, change: Change) -> Cluster:
    """The cluster after a change; a link that comes up is as the cluster states it, and a load
    is no part of a cluster (`simulation.what_if` puts it into the costs).

    Raises UsageError for a device or a link that the cluster does not have.
    """
    if isinstance(change, DeviceChange):
        _known(cluster, change.device)
        stated = {
            field: value
            for field in ("cpu_share", "egress_bps", "ingress_bps")
            if (value := getattr(change, field)) is not None
        }
        devices = tuple(
            replace(d, **stated) if d.name == change.device else d for d in cluster.devices
        )
        return replace(cluster, devices=devices)
    for name in (change.source, change.target):
        _known(cluster, name)
    link = cluster.link(change.source, change.target)
    if link is None:
        raise UsageError(
            "no such link",
            field="CHANGE",
            value=f"link:{change.source}>{change.target}",
            remedy=f"links are {', '.join(x.name for x in cluster.pairs()) or 'none'}",
        )
    others = tuple(x for x in cluster.pairs() if x.name != link.name)
    if change.up is False:
        return replace(cluster, links=others, default_link=None)
    changed = Link(
        link.source,
        link.target,
        link.bandwidth_bps if change.bandwidth_bps is None else change.bandwidth_bps,
        link.latency_s if change.latency_s is None else change.latency_s,
    )
    listed = tuple(changed if x.name == link.name else x for x in cluster.links)
    return replace(cluster, links=listed if changed in listed else (*listed, changed))


def _known(cluster: Cluster, device: str) -> None:
    if device not in cluster.by_name:
        raise UsageError(
            "no such device",
            field="CHANGE",
            value=device,
            remedy=f"devices are {', '.join(cluster.by_name)}",
        )
