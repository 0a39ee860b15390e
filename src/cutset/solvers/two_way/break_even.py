"""What break-evens are made of: a problem with another link, and when a server would pay at all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cutset.cluster import Cluster, Device, Link
from cutset.cost import TableCost
from cutset.graph import Graph
from cutset.problem import Problem
from cutset.solvers.two_way.envelope import Envelope, build_envelope


def with_bandwidth(problem: Problem, link: Link, bandwidth_bps: float) -> Problem:
    """The problem with another bandwidth on one link; egress and ingress stay."""
    changed = replace(link, bandwidth_bps=bandwidth_bps)
    links = [x for x in problem.cluster.links if (x.source, x.target) != (link.source, link.target)]
    return replace(problem, cluster=replace(problem.cluster, links=(*links, changed)))


@dataclass(frozen=True)
class OffloadRow:
    """With a server `speedup` times faster, offloading all or a part beats staying local above
    `least_bandwidth_bps` (None: never). `gain` is by bandwidth (bits per second): the fraction of
    the local latency that the best plan saves, and the family of that plan."""

    speedup: float
    least_bandwidth_bps: float | None
    gain: Mapping[float, tuple[float, str]]


def offload_grid(
    graph: Graph,
    compute_s: Mapping[str, float],
    *,
    latency_s: float = 0.0,
    speedups: Sequence[float] = (1.5, 2, 3, 5, 10, 20, 50),
    bandwidths_bps: Sequence[float] = (10e6, 50e6, 100e6, 1e9),
) -> tuple[OffloadRow, ...]:
    """When it would pay to have a server, from this device's operator seconds alone.

    The server runs every operator `speedup` times faster; the link has the same bandwidth both ways
    and the given one-way latency.
    """
    link = {"bandwidth_bps": 1e9, "latency_s": latency_s}
    cluster = Cluster(
        (Device("local", "local"), Device("server", "local")),
        (Link("local", "server", **link), Link("server", "local", **link)),
        "local",
        "local",
    )
    envelope = build_envelope(Problem(graph, cluster, TableCost({"local": compute_s})))
    local = next(i for i, p in enumerate(envelope.points) if p.first == p.second == "local")
    local_s = envelope.points[local].fixed_s
    rows = []
    for speedup in speedups:
        free = Envelope.prices(
            math.inf,
            math.inf,
            load=1 / speedup,
            up_latency_s=latency_s,
            down_latency_s=latency_s,
        )
        saved_s = local_s - envelope.values_s(free)
        bits = envelope.matrix[:, 1] + envelope.matrix[:, 2]
        paying = [float(b / s) for b, s in zip(bits, saved_s, strict=True) if s > 0]
        gain = {}
        for bps in bandwidths_bps:
            prices = free + np.array((0.0, 1 / bps, 1 / bps, 0.0, 0.0, 0.0))
            best = envelope.best(prices)
            value = float(envelope.values_s(prices)[best])
            point = envelope.points[best]
            family = f"{point.first} alone" if point.first == point.second else "split"
            gain[bps] = (1 - value / local_s if local_s > 0 else 0.0, family)
        rows.append(OffloadRow(speedup, min(paying, default=None), gain))
    return tuple(rows)
