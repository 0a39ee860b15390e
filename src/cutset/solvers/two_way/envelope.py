"""All two-device plans that are ever best, for every bandwidth, latency and server load at once.

The additive cost of a plan is a vector: seconds that nothing here changes (the device's compute,
overheads, send and receive costs), bytes up, bytes down, seconds of the unloaded server, and
whether each direction is used at all. Its price is (1, 8/bandwidth up, 8/bandwidth down, load,
latency up, latency down). Only points of the lower convex hull are ever the cheapest, so choosing
is one matrix-vector product.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cutset.errors import (
    InfeasibleError,
    InvalidFileError,
    UnsupportedProblemError,
    choices,
)
from cutset.graph import Graph
from cutset.plan import Plan
from cutset.problem import Problem
from cutset.solvers.two_way.cut_table import all_cuts
from cutset.solvers.two_way.envelope_points import (
    EnvelopePoint,
    coordinates,
    listed_points,
    open_points,
    single_points,
    vectors_of,
)
from cutset.solvers.two_way.min_cut import CutOracle
from cutset.solvers.two_way.roles import Floats
from cutset.solvers.two_way.two_stage import Pair, Row, mix, two_stage_plan

MAX_ORACLE_CALLS = 8_000


@dataclass(frozen=True)
class Envelope:
    """The plans of a device and a server that are best for some prices.

    `exact` is False where the search for them ended before all were found.
    """

    graph_digest: str
    device: str
    server: str
    points: tuple[EnvelopePoint, ...]
    cuts: int
    exact: bool = True

    @cached_property
    def matrix(self) -> Floats:
        """A row for each point: fixed_s, 8·up, 8·down, server_s, up_used, down_used."""
        return vectors_of(self.points) * (1, 8, 8, 1, 1, 1)

    @staticmethod
    def prices(
        up_bps: float,
        down_bps: float,
        *,
        load: float = 1.0,
        up_latency_s: float = 0.0,
        down_latency_s: float = 0.0,
    ) -> Floats:
        """Bits per second, the server's load factor, and one-way latencies in seconds."""
        return np.array((1.0, 1 / up_bps, 1 / down_bps, load, up_latency_s, down_latency_s))

    def best(self, prices: Floats) -> int:
        """The index of the cheapest point: the look-up at run time."""
        return int((self.matrix @ prices).argmin())

    def values_s(self, prices: Floats) -> Floats:
        """The additive cost of every point."""
        return np.asarray(self.matrix @ prices)

    def plan(self, graph: Graph, index: int) -> Plan:
        point = self.points[index]
        if point.first == point.second:
            return two_stage_plan(graph, point.first, point.second, range(len(graph.operators)))
        return two_stage_plan(graph, point.first, point.second, point.first_part)

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return {
            "graph_digest": self.graph_digest,
            "device": self.device,
            "server": self.server,
            "cuts": self.cuts,
            "exact": self.exact,
            "points": [
                {
                    "first": p.first,
                    "second": p.second,
                    "first_part": list(p.first_part),
                    "fixed_s": p.fixed_s,
                    "up_bytes": p.up_bytes,
                    "down_bytes": p.down_bytes,
                    "server_s": p.server_s,
                    "up_used": p.up_used,
                    "down_used": p.down_used,
                }
                for p in self.points
            ],
        }

    @staticmethod
    def from_json(document: dict[str, Any]) -> Envelope:
        """The inverse of `to_json`. Raises InvalidFileError."""
        try:
            points = tuple(
                EnvelopePoint(**{**p, "first_part": tuple(p["first_part"])})
                for p in document["points"]
            )
            return Envelope(
                document["graph_digest"],
                document["device"],
                document["server"],
                points,
                document["cuts"],
                document["exact"],
            )
        except (KeyError, TypeError) as error:
            raise InvalidFileError("not an envelope", value=error) from None


def build_envelope(
    problem: Problem,
    server: str | None = None,
    *,
    max_cuts_per_block: int = 100_000,
    max_oracle_calls: int = MAX_ORACLE_CALLS,
) -> Envelope:
    """The envelope of the source device and a server (default: the one other device).

    Plans that do not fit the devices' memory, tear colocate groups or need a missing link are left
    out. Raises UnsupportedProblemError where the sink is a third device or the server is none of
    the others, and InfeasibleError where no plan is left.
    """
    device = problem.cluster.source
    others = [d.name for d in problem.cluster.devices if d.name != device]
    if server is None:
        if len(others) != 1:
            raise UnsupportedProblemError(
                "an envelope is for one device and one server",
                field="devices",
                value=f"{len(others) + 1} devices",
                remedy="name the server",
            )
        server = others[0]
    if server not in others:
        raise UnsupportedProblemError(
            f"no other device than {device!r} has this name",
            field="server",
            value=server,
            remedy=choices(server, others, "other devices"),
        )
    if problem.cluster.sink not in (device, server):
        raise UnsupportedProblemError(
            "an envelope needs the sink on one of its two devices",
            field="sink",
            value=problem.cluster.sink,
        )
    graph = problem.graph
    table = all_cuts(graph, max_cuts_per_block)
    points = single_points(problem, device, server)
    exact = True
    pairs = [Pair(problem, *names) for names in ((device, server), (server, device))]
    for pair in pairs:
        points += listed_points(pair, table, coordinates(pair, device, server))
    if table.open_blocks:
        oracle = CutOracle(graph)
        for pair, (begin, end) in itertools.product(pairs, table.open_blocks):
            found, complete = open_points(pair, oracle, begin, end, points, max_oracle_calls)
            points += found
            exact &= complete
    if not points:
        raise InfeasibleError(
            f"no plan on {device!r} and {server!r} fits their memory, links and operators",
            field="devices",
        )
    kept = _prune(points)
    return Envelope(
        graph.digest, device, server, tuple(kept), table.rows + 2 * bool(graph.operators), exact
    )


def prices_of(problem: Problem, envelope: Envelope) -> Floats:
    """The envelope's prices for the problem's own links; a missing link is never used."""

    def numbers(start: str, end: str) -> tuple[float, float]:
        link = problem.cluster.link(start, end)
        if link is None:
            return math.inf, 0.0
        return problem.bandwidth_bps(link), link.latency_s or 0.0

    up_bps, up_latency_s = numbers(envelope.device, envelope.server)
    down_bps, down_latency_s = numbers(envelope.server, envelope.device)
    return Envelope.prices(
        up_bps, down_bps, up_latency_s=up_latency_s, down_latency_s=down_latency_s
    )


def additive_row(pair: Pair, device: str, server: str, prices: Floats) -> Row:
    """The additive cost of the pair's cuts at these prices, besides the links' latencies."""
    bits = (float(prices[0]), 8 * float(prices[1]), 8 * float(prices[2]), float(prices[3]))
    return mix(zip(bits, coordinates(pair, device, server), strict=True))


def _prune(points: list[EnvelopePoint]) -> list[EnvelopePoint]:
    """Drop points that another point beats or equals in all six coordinates; keep the order."""
    vectors = vectors_of(points)
    kept: list[EnvelopePoint] = []
    for i, point in enumerate(points):
        no_worse = (vectors <= vectors[i]).all(axis=1)
        better = no_worse & (vectors < vectors[i]).any(axis=1)
        twin = no_worse & ~better
        if not better.any() and not twin[:i].any():
            kept.append(point)
    return kept
