"""What a lab is made to hold for each of a trace's moments: two links, competitors; pure.

A lab keeps rates, latencies and links that are down. A load is other work on the server
(lab.competitors). A server that is lost is one that no link leads to. What a trace says of
queueing and of a slow device is not emulated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.traces import Trace
from cutset.errors import UsageError
from cutset.lab.competitors import MOST_COMPETITORS, count_for
from cutset.lab.requirements import LEAST_BPS, MOST_BPS
from cutset.lab.state import LabSpec, LinkSpec


def links_of(spec: LabSpec, device: str, server: str) -> tuple[LinkSpec, LinkSpec]:
    """The link up and the link down. Raises UsageError where the lab has none."""
    up, down = spec.link(device, server), spec.link(server, device)
    if up is None or down is None:
        raise UsageError(
            "the lab has no link both ways between device and server",
            field="links",
            value=f"{device}>{server}" if up is None else f"{server}>{device}",
            remedy="add it to the cluster file, with `both: true`",
        )
    return up, down


def links_at(conditions: Conditions, links: tuple[LinkSpec, LinkSpec]) -> tuple[LinkSpec, LinkSpec]:
    """The links (up, down) as conditions want them, from what they are.

    A rate of 0, or a lost server, is a link that is down, whose numbers stay. Rates that a lab
    cannot keep become the nearest that it can.
    """
    up, down = links
    return (
        _link_at(up, conditions.up_bps, conditions.up_latency_s, conditions.lost),
        _link_at(down, conditions.down_bps, conditions.down_latency_s, conditions.lost),
    )


def changes(before: tuple[LinkSpec, LinkSpec], after: tuple[LinkSpec, LinkSpec]) -> tuple[str, ...]:
    """What Lab.set is to be told, so that links that are `before` become `after`.

    A link that had no limit gets the highest rate that a lab keeps.
    """
    found: list[str] = []
    for old, new in zip(before, after, strict=True):
        if new.bandwidth_bps != old.bandwidth_bps:
            rate_bps = MOST_BPS if new.bandwidth_bps is None else new.bandwidth_bps
            found.append(f"link:{new.name}={rate_bps!r}bit/s")
        if new.latency_s != old.latency_s:
            found.append(f"link:{new.name}.latency={new.latency_s!r}s")
        if new.up != old.up:
            found.append(f"link:{new.name}={'up' if new.up else 'down'}")
    return tuple(found)


def truth(
    spec: LabSpec, links: tuple[LinkSpec, LinkSpec], load: float, slowdown: float
) -> Conditions:
    """What holds in a lab `spec` whose two links are these, with the factors as measured.

    Where one link is down nothing passes on the other either, for want of acknowledgements.
    """
    up, down = links
    return Conditions(
        _rate_bps(spec, up),
        _rate_bps(spec, down),
        up.latency_s,
        down.latency_s,
        load,
        0.0,
        slowdown,
        lost=not (up.up and down.up),
    )


def counts(trace: Trace, share: float) -> tuple[int, ...]:
    """How many competitors a trace ever asks for on a server with a share of a core, each number
    once, in order. Raises UsageError for more than a lab has."""
    found = sorted({count_for(moment.conditions.load, share) for moment in trace.moments})
    if found[-1] > MOST_COMPETITORS:
        most = max(moment.conditions.load for moment in trace.moments)
        raise UsageError(
            f"the lab emulates a load by at most {MOST_COMPETITORS} processes",
            field=f"trace {trace.name}",
            value=f"load {most:g}, {found[-1]} processes",
            remedy="take a trace with lower loads, or leave --lab out",
        )
    return tuple(found)


def load_at(count: int, measured: Mapping[int, float]) -> float:
    """k with so many competitors: as it was measured, else one more for each."""
    return measured.get(count, 1.0 + count)


def not_emulated(trace: Trace) -> str:
    """What of a trace is left out in a lab, in words; "" where nothing is."""
    found = []
    if any(moment.conditions.queue_s > 0 for moment in trace.moments):
        found.append("queueing at the server")
    if any(moment.conditions.slowdown != 1 for moment in trace.moments):
        found.append("the device's slow-down")
    return f"not emulated by the lab: {' and '.join(found)}" if found else ""


def _link_at(link: LinkSpec, rate_bps: float, latency_s: float, lost: bool) -> LinkSpec:
    if lost or not rate_bps > 0:
        return msgspec.structs.replace(link, up=False)
    kept_bps = min(max(rate_bps, LEAST_BPS), MOST_BPS)
    return msgspec.structs.replace(link, bandwidth_bps=kept_bps, latency_s=latency_s, up=True)


def _rate_bps(spec: LabSpec, link: LinkSpec) -> float:
    if not link.up:
        return 0.0
    rate_bps = spec.rate_bps(link)
    return math.inf if rate_bps is None else rate_bps
