"""Lower bounds on the evaluator's value of a two-stage plan, for one ordered pair of devices.

`Pair` turns the columns of a cut table into bounds. All bounds are maxima of *rows*: linear
functions of the cut (seconds of each part's operators, bytes in each role), so that the same rows
serve the table (one matrix product) and a min-cut oracle (capacities). The rows drop only what may
overlap in the evaluator; `latency_bounds` then adds what a table knows exactly, such as the send
and receive costs of the first and the last tensor of a transfer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from cutset.cluster import Device, Link
from cutset.graph import Graph
from cutset.plan import Plan, Stage
from cutset.problem import Objective, Problem
from cutset.solvers.two_way.cut_table import CutTable
from cutset.solvers.two_way.roles import Floats, Role

# Above this send cost, tensors become ready in the order of their sizes also in floating point.
_ORDERED_SEND_S_PER_BYTE = 1e-12


@dataclass(frozen=True)
class Row:
    """constant_s + first·(seconds of the first part) + second·(…second part) + Σ role·bytes."""

    constant_s: float = 0.0
    first: float = 0.0
    second: float = 0.0
    roles: Mapping[Role, float] = field(default_factory=dict)


def mix(rows: Iterable[tuple[float, Row]]) -> Row:
    """The weighted sum of rows."""
    constant = first = second = 0.0
    roles: dict[Role, float] = {}
    for weight, row in rows:
        constant += weight * row.constant_s
        first += weight * row.first
        second += weight * row.second
        for role, value in row.roles.items():
            roles[role] = roles.get(role, 0.0) + weight * value
    return Row(constant, first, second, roles)


@dataclass(frozen=True)
class _Flow:
    """Bytes from one device to another: the sum of the roles, each times its sign."""

    source: str
    target: str
    roles: Mapping[Role, float]


@dataclass(frozen=True)
class Pair:
    """Plans of two stages: the first on `first`, the second on `second`."""

    problem: Problem
    first: str
    second: str

    @cached_property
    def first_s(self) -> Floats:
        return np.array(self.problem.compute_s(self.first), dtype=np.float64)

    @cached_property
    def second_s(self) -> Floats:
        return np.array(self.problem.compute_s(self.second), dtype=np.float64)

    @cached_property
    def flows(self) -> tuple[_Flow, ...]:
        """What moves between which devices; flows between the same two are added up.

        Graph inputs that are graph outputs too are left out: they are the same in every plan.
        """
        source, sink = self.problem.cluster.source, self.problem.cluster.sink
        found: dict[tuple[str, str], dict[Role, float]] = {}
        for start, end, roles in (
            (source, self.first, {Role.IN_FIRST: 1.0}),
            (source, self.second, {Role.IN_SECOND: 1.0}),
            (self.first, self.second, self._crossing),
            (self.first, sink, {Role.OUT_FIRST: 1.0} if sink != self.second else {}),
            (self.second, sink, {Role.OUT_SECOND: 1.0}),
        ):
            if start != end and roles:
                merged = found.setdefault((start, end), {})
                for role, sign in roles.items():
                    merged[role] = merged.get(role, 0.0) + sign
        return tuple(_Flow(start, end, roles) for (start, end), roles in found.items())

    @cached_property
    def _crossing(self) -> Mapping[Role, float]:
        """What moves from the first to the second device: the cut, and results wanted there."""
        if self.problem.cluster.sink == self.second:
            return {Role.CUT: 1.0, Role.OUT_FIRST: 1.0, Role.CUT_OUTPUT: -1.0}
        return {Role.CUT: 1.0}

    def link(self, start: str, end: str) -> Link | None:
        return self.problem.cluster.link(start, end)

    def per_byte_s(self, start: str, end: str) -> float:
        """Seconds a byte holds the link; inf where there is none."""
        if start == end:
            return 0.0
        link = self.link(start, end)
        return math.inf if link is None else 8 / self.problem.bandwidth_bps(link)

    def floor_s(self, objective: Objective) -> float:
        """A lower bound on all cuts of this pair at a glance: every operator where it is faster."""
        least = np.minimum(self.first_s, self.second_s).sum()
        shape = shape_of(self.problem.graph)
        if objective is Objective.LATENCY and shape.connected and not shape.dead:
            return float(least) + sum(self._overheads_s)
        return 0.0 if shape.dead else float(least) / 2  # at least half of it on either device

    def latency_s(self, start: str, end: str) -> float:
        link = None if start == end else self.link(start, end)
        return 0.0 if link is None else link.latency_s or 0.0

    def plan(self, first_part: Iterable[int]) -> Plan:
        """The plan of a cut; one stage where a part is empty."""
        return two_stage_plan(self.problem.graph, self.first, self.second, first_part)

    def rows(self, objective: Objective) -> tuple[Row, ...]:
        """Linear lower bounds, each valid for every cut whose bytes have links to take."""
        return self._latency_rows if objective is Objective.LATENCY else self._busy_rows

    @cached_property
    def _overheads_s(self) -> tuple[float, float]:
        device = self.problem.device
        return (
            device(self.first).stage_overhead_s or 0.0,
            device(self.second).stage_overhead_s or 0.0,
        )

    @cached_property
    def _latency_rows(self) -> tuple[Row, ...]:
        """Whole first, cut, whole second, way back; and the same from the inputs of the second.

        The latencies of links are constants here only where every cut uses them.
        """
        source, sink = self.problem.cluster.source, self.problem.cluster.sink
        shape = shape_of(self.problem.graph)
        over_first, over_second = self._overheads_s
        to_first = self.per_byte_s(source, self.first)
        to_second = self.per_byte_s(source, self.second)
        across = self.per_byte_s(self.first, self.second)
        home = self.per_byte_s(self.second, sink)
        lat_in = self.latency_s(source, self.first) if shape.sources_read_inputs else 0.0
        lat_cut = self.latency_s(self.first, self.second) if shape.connected else 0.0
        lat_home = 0.0 if shape.dead else self.latency_s(self.second, sink)
        main = Row(
            lat_in + over_first + lat_cut + over_second + lat_home,
            1.0,
            1.0,
            {Role.IN_FIRST: to_first, Role.CUT: across, Role.OUT_SECOND: home},
        )
        beside = Row(
            over_second + lat_home,
            0.0,
            1.0,
            {Role.IN_SECOND: to_second, Role.CUT: across, Role.OUT_SECOND: home},
        )
        before = Row(lat_in + over_first, 1.0, 0.0, {Role.IN_FIRST: to_first})
        if shape.dead:  # a part that makes no output does not count
            return (before,) if shape.connected else (Row(),)
        if not shape.connected:  # parts without a tensor between them run in parallel
            return (before, beside)
        if sink == self.first:
            return (main, beside)
        if sink == self.second:  # early results take the link as well as the cut does
            results = {role: across * sign for role, sign in self._crossing.items()}
            early = mix([(1.0, before), (1.0, Row(lat_cut, roles=results))])
        else:
            to_sink = self.per_byte_s(self.first, sink)
            early = mix([(1.0, before), (1.0, Row(roles={Role.OUT_FIRST: to_sink}))])
        return (main, beside, early)

    @cached_property
    def _busy_rows(self) -> tuple[Row, ...]:
        """Busy seconds of every device, link, egress and ingress: exact besides multicast."""
        problem = self.problem
        over_first, over_second = self._overheads_s
        devices = {self.first: [Row(over_first, 1.0, 0.0)]}
        devices[self.second] = [Row(over_second, 0.0, 1.0)]
        wires: dict[str, list[Row]] = {}
        for flow in self.flows:
            seconds = self.per_byte_s(flow.source, flow.target)
            wire = Row(roles={role: seconds * sign for role, sign in flow.roles.items()})
            wires[f"link:{flow.source}>{flow.target}"] = [wire]
            wires.setdefault(f"ingress:{flow.target}", []).append(wire)
            sender, receiver = problem.device(flow.source), problem.device(flow.target)
            receive = _busy_per_byte_s(receiver, receiver.recv_s_per_byte, seconds)
            devices.setdefault(receiver.name, []).append(
                Row(roles={role: receive * sign for role, sign in flow.roles.items()})
            )
            if problem.cluster.multicast:
                continue  # one tensor to two receivers holds the sender once
            wires.setdefault(f"egress:{flow.source}", []).append(wire)
            send = _busy_per_byte_s(sender, sender.send_s_per_byte, seconds)
            devices.setdefault(sender.name, []).append(
                Row(roles={role: send * sign for role, sign in flow.roles.items()})
            )
        groups = [*devices.values(), *wires.values()]
        found = [mix((1.0, row) for row in group) for group in groups]
        if problem.cluster.multicast:
            for flow in self.flows:
                seconds = self.per_byte_s(flow.source, flow.target)
                sender = problem.device(flow.source)
                send = _busy_per_byte_s(sender, sender.send_s_per_byte, seconds)
                row = Row(roles={role: send * sign for role, sign in flow.roles.items()})
                found.append(
                    mix([(1.0, row), *((1.0, own) for own in devices.get(sender.name, ()))])
                )
        return tuple(found)

    def bounds(
        self, table: CutTable, objective: Objective, *, enforce_memory: bool = True
    ) -> Floats:
        """A lower bound on the evaluator's value of each cut; inf where it cannot run."""
        first, second = table.sum_first(self.first_s), table.sum_second(self.second_s)
        bound = np.where(np.isinf(first) | np.isinf(second), np.inf, 0.0)
        for flow in self.flows:
            if self.link(flow.source, flow.target) is None:
                used = sum(table.count[role] * sign for role, sign in flow.roles.items())
                bound[np.asarray(used) > 0] = np.inf
        if enforce_memory:
            bound[self.memory_short(table) > 0] = np.inf
        alive = np.flatnonzero(np.isfinite(bound))
        for row in self.rows(objective):
            value = row.constant_s + row.first * first[alive] + row.second * second[alive]
            for role, weight in row.roles.items():
                if math.isfinite(weight):  # without a link, no bytes in any cut that is left
                    value += weight * table.bytes_[role, alive]
            bound[alive] = np.maximum(bound[alive], value)
        if objective is Objective.LATENCY:
            exact = self._latency_bounds(table, first, second)
            bound[alive] = np.maximum(bound[alive], exact[alive])
        return bound

    def memory_left(self) -> tuple[float, float]:
        """The least and the greatest sum of `memory_bytes` that the first part may have."""
        graph = self.problem.graph
        total = sum(op.memory_bytes for op in graph.operators)
        room = self.problem.device(self.second).memory_bytes - graph.stage_memory_bytes
        limit = self.problem.device(self.first).memory_bytes - graph.stage_memory_bytes
        return total - room, limit

    def memory_short(self, table: CutTable) -> Floats:
        """By how many bytes the device that lacks more of them is short, 0 where both parts fit."""
        least, most = self.memory_left()
        short = np.maximum(table.memory_first - most, least - table.memory_first)
        return np.maximum(short, 0.0)

    def _latency_bounds(self, table: CutTable, first: Floats, second: Floats) -> Floats:
        """The evaluator's latency, but for contention between flows that it may order either way.

        Of n tensors that leave one stage together, the smallest is ready first, the link carries
        them one after another, and the largest arrives last.
        """
        source, sink = self.problem.cluster.source, self.problem.cluster.sink
        over_first, over_second = self._overheads_s
        end_first = self._leg(table, source, self.first, Role.IN_FIRST) + over_first + first
        begin = np.maximum(
            np.where(
                table.count[Role.CUT] > 0,
                end_first + self._leg(table, self.first, self.second, Role.CUT),
                0.0,
            ),
            self._leg(table, source, self.second, Role.IN_SECOND),
        )
        into = self.per_byte_s(source, self.second), self.per_byte_s(self.first, self.second)
        if all(math.isfinite(s) for s in into):  # both kinds hold the second device's ingress
            arrivals = table.count[Role.CUT]
            if source != self.second:
                arrivals = arrivals + table.count[Role.IN_SECOND]
            shared = table.bytes_[Role.IN_SECOND] * into[0] + table.bytes_[Role.CUT] * into[1]
            links = [self.latency_s(self.first, self.second)]
            if source != self.second:
                links.append(self.latency_s(source, self.second))
            begin = np.maximum(begin, np.where(arrivals > 0, shared + min(links), 0.0))
        end_second = begin + over_second + second
        home = end_second + self._leg(table, self.second, sink, Role.OUT_SECOND)
        value = np.where(table.count[Role.OUT_SECOND] > 0, home, 0.0)
        early = end_first + self._leg(table, self.first, sink, Role.OUT_FIRST)
        early = np.where(table.count[Role.OUT_FIRST] > 0, early, 0.0)
        return np.asarray(np.maximum(value, early))

    def _leg(self, table: CutTable, start: str, end: str, role: Role) -> Floats:
        """Seconds from ready to the last arrival of the role's tensors, at least."""
        if start == end:
            return np.zeros(table.rows)
        per_byte = self.per_byte_s(start, end)
        if math.isinf(per_byte):
            return np.zeros(table.rows)
        send = self.problem.device(start).send_s_per_byte or 0.0
        receive = self.problem.device(end).recv_s_per_byte or 0.0
        used = table.count[role] > 0
        least = np.where(used, table.smallest[role], 0.0)
        most = table.largest[role]
        last = most if send >= _ORDERED_SEND_S_PER_BYTE else least
        serial = send * least + per_byte * table.bytes_[role] + receive * last
        alone = (send + per_byte + receive) * most
        return np.where(used, np.maximum(serial, alone) + self.latency_s(start, end), 0.0)


def _busy_per_byte_s(device: Device, cost: float | None, wire_s: float) -> float:
    return (cost or 0.0) + (0.0 if device.overlap else wire_s)


@dataclass(frozen=True)
class Shape:
    """Facts that decide which latencies every cut pays."""

    connected: bool  # every cut into two parts has a tensor that crosses it
    sources_read_inputs: bool  # every operator without predecessors reads a graph input
    dead: bool  # some operator leads to no graph output


def shape_of(graph: Graph) -> Shape:
    root = list(range(len(graph.operators)))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for i, before in enumerate(graph.predecessors):
        for j in before:
            root[find(i)] = find(j)
    inputs, outputs = set(graph.inputs), set(graph.outputs)
    operators = graph.operators
    return Shape(
        connected=len({find(i) for i in range(len(root))}) <= 1,
        sources_read_inputs=all(
            any(t in inputs for t in op.inputs)
            for op, before in zip(operators, graph.predecessors, strict=True)
            if not before
        ),
        dead=any(
            not any(t in outputs for t in op.outputs)
            for op, after in zip(operators, graph.successors, strict=True)
            if not after
        ),
    )


def two_stage_plan(graph: Graph, first: str, second: str, first_part: Iterable[int]) -> Plan:
    """The first part on one device, the rest on another; one stage where a part is empty."""
    members = set(first_part)
    before = tuple(op.name for i, op in enumerate(graph.operators) if i in members)
    after = tuple(op.name for i, op in enumerate(graph.operators) if i not in members)
    parts = [(device, part) for device, part in ((first, before), (second, after)) if part]
    return Plan(
        tuple(Stage(f"s{i}", device, part) for i, (device, part) in enumerate(parts)),
        graph.digest,
    )
