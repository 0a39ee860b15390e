"""Changes of a cluster as people write them: `link:pi>server=5Mbit/s`, `device:server.cpu=0.5`.

Pure: text -> Change, and (Cluster, Change) -> Cluster. The lab applies them to the kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from cutset import units
from cutset.cluster import Cluster, Link
from cutset.errors import InvalidFileError, UsageError, choices, did_you_mean

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


_ATTRIBUTES: Final = ("cpu", "load", "egress", "ingress")


def parse_change(text: str, where: str = "CHANGE") -> Change:
    """The change that a text means. Raises UsageError, whose field begins with `where`: the
    argument or option that the text stood in."""
    what, colon, rest = text.partition(":")
    name, equals, value = rest.rpartition("=")

    def no_change(message: str, meant: str | None = None) -> UsageError:
        remedy = GRAMMAR if meant is None else f"{meant} {GRAMMAR}"
        return UsageError(message, field=where, value=text, remedy=remedy)

    if not colon or not equals or not name or not value:
        raise no_change("not a change")
    try:
        if what == "link":
            pair = name.removesuffix(".latency")
            source, arrow, target = pair.partition(">")
            if not arrow or not source or not target:
                raise no_change("not a link")
            return _link(source, target, pair != name, value)
        if what == "device":
            device, dot, attribute = name.rpartition(".")
            if not dot or not device or attribute not in _ATTRIBUTES:
                raise no_change("not a device's number", did_you_mean(attribute, _ATTRIBUTES))
            return _device(device, attribute, value)
    except InvalidFileError as error:  # from units, which read files' quantities as a rule
        field = f"{where} {what}:{name}"
        raise UsageError(error.message, field=field, value=value, remedy=error.remedy) from None
    raise no_change("not a change", did_you_mean(what, ("link", "device")))


def _link(source: str, target: str, latency: bool, value: str) -> LinkChange:
    if latency:
        return LinkChange(source, target, latency_s=units.parse_time(value))
    if value in ("up", "down"):
        return LinkChange(source, target, up=value == "up")
    bandwidth_bps = units.parse_rate(value, or_zero=True)
    if bandwidth_bps == 0:
        raise InvalidFileError(
            "a rate must be more than 0", remedy=f"take the link down: link:{source}>{target}=down"
        )
    return LinkChange(source, target, bandwidth_bps=bandwidth_bps)


def _device(device: str, attribute: str, value: str) -> DeviceChange:
    """Raises InvalidFileError without a field for a number that is none."""
    if attribute == "egress":
        return DeviceChange(device, egress_bps=units.parse_rate(value))
    if attribute == "ingress":
        return DeviceChange(device, ingress_bps=units.parse_rate(value))
    share = _number(value)
    if attribute == "load":
        if not 0 < share <= _HEAVIEST_LOAD:  # also refuses NaN
            raise InvalidFileError(
                f"a load must be above 0 and at most {_HEAVIEST_LOAD:g}",
                remedy="write how many times as long operators take there, such as 3",
            )
        return DeviceChange(device, load=share)
    if not 0 < share <= 1:  # also refuses NaN
        raise InvalidFileError(
            "the share of one core must be above 0 and at most 1",
            remedy="write a share such as 0.25",
        )
    return DeviceChange(device, cpu_share=share)


def _number(text: str) -> float:
    """NaN where the text is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def apply_change(cluster: Cluster, change: Change, where: str = "CHANGE") -> Cluster:
    """The cluster after a change; a link that comes up is as the cluster states it, and a load
    is no part of a cluster (`simulation.what_if` puts it into the costs).

    Raises UsageError for a device or a link that the cluster does not have; `where` is its field.
    """
    if isinstance(change, DeviceChange):
        _known(cluster, change.device, where)
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
        _known(cluster, name, where)
    link = cluster.link(change.source, change.target)
    if link is None:
        raise UsageError(
            "no such link",
            field=where,
            value=f"link:{change.source}>{change.target}",
            remedy=choices(
                f"{change.source}>{change.target}", [x.name for x in cluster.pairs()], "links"
            ),
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


def _known(cluster: Cluster, device: str, where: str) -> None:
    if device not in cluster.by_name:
        raise UsageError(
            "no such device",
            field=where,
            value=device,
            remedy=choices(device, cluster.by_name, "devices"),
        )
