"""Where the verdict flips: the bandwidth, load or speed at which another family of plans is best.

The envelope gives, for nothing, the first flip in each direction of one parameter: along one price
all its points are straight lines. The evaluator then corrects the place (it overlaps what the
envelope adds up), and a flip that the evaluator does not confirm is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cutset.cluster import Cluster, Device, Link
from cutset.cost import LoadedCost, TableCost
from cutset.errors import PlanningError
from cutset.graph import Graph
from cutset.plan import Plan
from cutset.problem import BreakEven, Objective, Problem
from cutset.solvers.one_stage import value_of
from cutset.solvers.two_way.envelope import Envelope, build_envelope, prices_of, with_plan
from cutset.solvers.two_way.roles import Floats

_BISECTIONS = 24
_MARGIN = 1e-3  # relative: on both sides of a flip the verdict is looked at again
_EVALUATED = 8  # of the additively cheapest plans are evaluated to confirm a flip
_ORACLE_CALLS = 100  # for blocks with too many cuts to list
_FARTHEST = 1e6  # relative to today: flips beyond are of no use to anyone


def break_evens(problem: Problem, plan: Plan) -> tuple[BreakEven, ...]:
    """Flips of the latency verdict around a plan on the source, one other device, or both.

    Each parameter is moved alone: the bandwidth of either link (bits per second), and the load or
    speed of either device (factors on today's). Empty for other plans and objectives.
    """
    server = _server(problem, plan)
    if server is None or problem.objective is not Objective.LATENCY:
        return ()
    try:
        envelope = build_envelope(problem, server, max_oracle_calls=_ORACLE_CALLS)
    except PlanningError:
        return ()
    if len(plan.stages) == 2 and len(plan.devices) == 2:
        envelope = with_plan(problem, envelope, plan)
    elif len(plan.stages) != 1:
        return ()
    around = _Around(problem, envelope)
    found: list[BreakEven] = []
    device = envelope.device
    for start, end in ((device, server), (server, device)):
        link = problem.cluster.link(start, end)
        if link is None:
            continue
        today = problem.bandwidth_bps(link)
        lines = around.lines_of_link(start == device)

        def at_bandwidth(slowness: float, link: Link = link, today: float = today) -> Problem:
            return with_bandwidth(problem, link, today / slowness)

        name = f"link:{link.name}"
        for slowness, then in around.flips(lines, at_bandwidth):
            if slowness > 1:
                found.append(BreakEven(name, then, below=today / slowness))
            else:
                found.append(BreakEven(name, then, above=today / slowness))
    for loaded in (device, server):

        def at_load(load: float, loaded: str = loaded) -> Problem:
            return replace(problem, cost=LoadedCost(problem.cost, {loaded: load}))

        for load, then in around.flips(around.lines_of_load(loaded), at_load):
            if load > 1:
                found.append(BreakEven(f"device:{loaded}.load", then, above=load))
            else:
                found.append(BreakEven(f"device:{loaded}.speed", then, above=1 / load))
    return tuple(found)


def with_bandwidth(problem: Problem, link: Link, bandwidth_bps: float) -> Problem:
    """The problem with another bandwidth on one link; egress and ingress stay."""
    changed = replace(link, bandwidth_bps=bandwidth_bps)
    links = [x for x in problem.cluster.links if (x.source, x.target) != (link.source, link.target)]
    return replace(problem, cluster=replace(problem.cluster, links=(*links, changed)))


def _server(problem: Problem, plan: Plan) -> str | None:
    """The device that the source is compared with; None where the plan involves others."""
    source = problem.cluster.source
    used = [name for name in plan.devices if name != source]
    if len(used) > 1 or (used and len(plan.devices) == 1 and source == used[0]):
        return None
    if used:
        return used[0]
    others = [d.name for d in problem.cluster.devices if d.name != source]
    return min(others, key=lambda name: math.fsum(problem.compute_s(name)), default=None)


@dataclass(frozen=True)
class _Around:
    """The envelope's plans around today's parameters."""

    problem: Problem
    envelope: Envelope

    def today(self) -> Floats:
        return prices_of(self.problem, self.envelope)

    def lines_of_link(self, up: bool) -> tuple[Floats, Floats]:
        """Each point's cost as constant + slope·x; x multiplies the seconds of a byte."""
        prices = self.today()
        values = self.envelope.values_s(prices)
        column = 1 if up else 2
        slope = self.envelope.matrix[:, column] * prices[column]
        return values - slope, slope

    def lines_of_load(self, loaded: str) -> tuple[Floats, Floats]:
        """As above; x multiplies the compute seconds of a device."""
        values = self.envelope.values_s(self.today())
        if loaded == self.envelope.server:
            slope = self.envelope.matrix[:, 3].copy()
        else:
            seconds = np.array(self.problem.compute_s(loaded))
            slope = np.array([self._device_s(i, seconds) for i in range(len(values))])
        return values - slope, slope

    def _device_s(self, index: int, seconds: Floats) -> float:
        point = self.envelope.points[index]
        if point.first == point.second:
            return float(seconds.sum()) if point.first == self.envelope.device else 0.0
        first = np.zeros(len(seconds), dtype=np.bool_)
        first[list(point.first_part)] = True
        here = first if point.first == self.envelope.device else ~first
        return float(seconds[here].sum())

    def family(self, index: int) -> str:
        point = self.envelope.points[index]
        return f"{point.first} alone" if point.first == point.second else "split"

    def flips(
        self, lines: tuple[Floats, Floats], changed: Callable[[float], Problem]
    ) -> list[tuple[float, str]]:
        """The first flip above 1 and the first below, each with the family that is best then."""
        found = []
        for upward in (True, False):
            flip = self._first_flip(*lines, upward)
            if flip is not None:
                confirmed = self._confirmed(lines, *flip, changed)
                if confirmed is not None:
                    found.append(confirmed)
        return found

    def _first_flip(
        self, constant: Floats, slope: Floats, upward: bool
    ) -> tuple[float, int, int] | None:
        """Walk along the lower envelope of lines from 1 to the first change of family."""
        x = 1.0
        current = int((constant + slope).argmin())
        while True:
            steps = slope - slope[current]
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                meets = np.where(
                    steps < 0 if upward else steps > 0,
                    (constant[current] - constant) / steps,
                    math.nan,
                )
            ahead = meets >= x if upward else (meets <= x) & (meets > 0)
            if not ahead.any():
                return None
            places = np.where(ahead, meets, math.inf if upward else -math.inf)
            following = int(places.argmin() if upward else places.argmax())
            x = float(places[following])
            if not 1 / _FARTHEST < x < _FARTHEST:
                return None
            if self.family(following) != self.family(current):
                return x, current, following
            current = following

    def _confirmed(
        self,
        lines: tuple[Floats, Floats],
        x: float,
        before: int,
        after: int,
        changed: Callable[[float], Problem],
    ) -> tuple[float, str] | None:
        """The place where the evaluator sees the two plans tie, if it sees the families flip."""
        graph = self.problem.graph
        plans = (self.envelope.plan(graph, before), self.envelope.plan(graph, after))

        def pays(at: float) -> bool:
            """Whether the plan behind the flip is better."""
            problem = changed(at)
            return value_of(problem, plans[1]) < value_of(problem, plans[0])

        near = 1.0
        far = x * x if abs(math.log(x)) > 0.1 else x * (1.25 if x >= 1 else 0.8)
        if pays(near) or not pays(far):
            return None
        for _ in range(_BISECTIONS):
            middle = math.sqrt(near * far)
            if pays(middle):
                far = middle
            else:
                near = middle
        step = 1 + _MARGIN if far > 1 else 1 / (1 + _MARGIN)
        behind, ahead = (
            self._best_family(lines[0] + lines[1] * at, changed(at))
            for at in (far / step, far * step)
        )
        if behind != self.family(before) or ahead != self.family(after):
            return None
        return far, ahead

    def _best_family(self, additive_s: Floats, problem: Problem) -> str:
        """The family of the plan that the evaluator likes best of the additively cheapest."""
        families = [self.family(i) for i in range(len(additive_s))]
        order: list[int] = np.argsort(additive_s, kind="stable").tolist()
        tried = order[:_EVALUATED] + [
            next((i for i in order if families[i] == name), order[0]) for name in set(families)
        ]
        values = {i: value_of(problem, self.envelope.plan(self.problem.graph, i)) for i in tried}
        best: int = min(sorted(values), key=values.__getitem__)
        return families[best]


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
