"""Where the points of an envelope come from: plans of one device, listed cuts, open blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cutset.problem import Problem
from cutset.solvers.two_way.cut_table import CutTable
from cutset.solvers.two_way.hull import lower_hull
from cutset.solvers.two_way.min_cut import CutOracle
from cutset.solvers.two_way.open_blocks import Rivals, block_cuts
from cutset.solvers.two_way.roles import Floats, Role
from cutset.solvers.two_way.two_stage import Pair, Row


@dataclass(frozen=True)
class EnvelopePoint:
    """One plan and its cost vector; seconds and bytes.

    `first` and `second` are devices; where they are the same, it runs all. `first_part` names the
    first part's operators by position.
    """

    first: str
    second: str
    first_part: tuple[int, ...]
    fixed_s: float
    up_bytes: float
    down_bytes: float
    server_s: float
    up_used: bool
    down_used: bool


def vectors_of(points: Iterable[EnvelopePoint]) -> Floats:
    """A row for each point: fixed_s, up, down, server_s, up_used, down_used."""
    rows = [
        (p.fixed_s, p.up_bytes, p.down_bytes, p.server_s, p.up_used, p.down_used) for p in points
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 6)


def coordinates(pair: Pair, device: str, server: str) -> tuple[Row, Row, Row, Row]:
    """fixed seconds, bytes up, bytes down, server seconds: each linear in the cut."""
    problem = pair.problem
    fixed: dict[Role, float] = {}
    wires: dict[str, dict[Role, float]] = {device: {}, server: {}}
    for flow in pair.flows:
        cost = problem.device(flow.source).send_s_per_byte or 0.0
        cost += problem.device(flow.target).recv_s_per_byte or 0.0
        for role, sign in flow.roles.items():
            fixed[role] = fixed.get(role, 0.0) + sign * cost
            wire = wires[flow.source]
            wire[role] = wire.get(role, 0.0) + sign
    overhead = sum(problem.device(name).stage_overhead_s or 0.0 for name in (device, server))
    on_first = float(pair.first == device)
    return (
        Row(overhead, on_first, 1 - on_first, fixed),
        Row(roles=wires[device]),
        Row(roles=wires[server]),
        Row(0.0, 1 - on_first, on_first),
    )


def single_points(problem: Problem, device: str, server: str) -> list[EnvelopePoint]:
    """All on the device, and all on the server, where they fit."""
    graph, cluster = problem.graph, problem.cluster
    memory = graph.stage_memory_bytes + sum(op.memory_bytes for op in graph.operators)
    made = [t for t in graph.outputs if t in graph.producers]
    read = [t for t in graph.inputs if graph.consumers[t]]
    found = []
    for name in (device, server):
        compute = math.fsum(problem.compute_s(name))
        up = (read if name == server else []) + (
            made if name == device and cluster.sink == server else []
        )
        down = made if name == server and cluster.sink == device else []
        blocked = (up and cluster.link(device, server) is None) or (
            down and cluster.link(server, device) is None
        )
        if math.isinf(compute) or blocked or memory > problem.device(name).memory_bytes:
            continue
        up_bytes = sum(graph.tensors[t].size_bytes for t in up)
        down_bytes = sum(graph.tensors[t].size_bytes for t in down)
        near, far = problem.device(device), problem.device(server)
        fixed = (problem.device(name).stage_overhead_s or 0.0) + (
            up_bytes * ((near.send_s_per_byte or 0.0) + (far.recv_s_per_byte or 0.0))
            + down_bytes * ((far.send_s_per_byte or 0.0) + (near.recv_s_per_byte or 0.0))
        )
        local = name == device
        found.append(
            EnvelopePoint(
                name,
                name,
                (),
                fixed + (compute if local else 0.0),
                up_bytes,
                down_bytes,
                0.0 if local else compute,
                bool(up),
                bool(down),
            )
        )
    return found


def listed_points(pair: Pair, table: CutTable, rows: tuple[Row, ...]) -> list[EnvelopePoint]:
    """The hull points among the listed cuts of one pair."""
    if not table.rows:
        return []
    first, second = table.sum_first(pair.first_s), table.sum_second(pair.second_s)
    usable = np.isfinite(first) & np.isfinite(second) & (pair.memory_short(table) == 0)
    used = {}
    device = pair.problem.cluster.source
    for flow in pair.flows:
        count = np.asarray(sum(table.count[role] * sign for role, sign in flow.roles.items()))
        used[flow.source == device] = count > 0
        if pair.link(flow.source, flow.target) is None:
            usable &= count <= 0
    up = used.get(True, np.zeros(table.rows, dtype=np.bool_))
    down = used.get(False, np.zeros(table.rows, dtype=np.bool_))
    alive = np.flatnonzero(usable)
    if not len(alive):
        return []
    columns = []
    for row in rows:
        value = np.full(len(alive), row.constant_s)
        value += row.first * first[alive] + row.second * second[alive]
        for role, weight in row.roles.items():
            value += weight * table.bytes_[role, alive]
        columns.append(value)
    points = np.stack(columns, axis=1)
    kept: list[EnvelopePoint] = []
    for flags in ((False, False), (False, True), (True, False), (True, True)):
        group = np.flatnonzero((up[alive] == flags[0]) & (down[alive] == flags[1]))
        if len(group):
            for i in group[lower_hull(points[group])]:
                part = table.first_part(int(alive[i]))
                kept.append(cut_point(pair, part, points[i], flags))
    return kept


def open_points(
    pair: Pair,
    oracle: CutOracle,
    begin: int,
    end: int,
    others: list[EnvelopePoint],
    max_calls: int,
) -> tuple[list[EnvelopePoint], bool]:
    """Hull points inside a block that cannot be listed, and whether none is missing.

    Points that `others` beat may be left out. With memory limits the cheapest cuts may not fit,
    and then it is not proven that none is missing.
    """
    device = pair.problem.cluster.source
    server = pair.second if pair.first == device else pair.first
    vectors = vectors_of(others)
    rivals = Rivals(vectors[:, :4], vectors[:, 4:] > 0)
    rows = coordinates(pair, device, server)
    found = block_cuts(pair, oracle, rows, begin, end, rivals, max_calls)
    memory = np.array([float(op.memory_bytes) for op in pair.problem.graph.operators])
    least, most = pair.memory_left()
    needed = found.members @ memory
    whole, empty = found.members.all(axis=1), ~found.members.any(axis=1)
    two_parts = ~whole & ~empty
    fits = two_parts & (least <= needed) & (needed <= most)
    kept = [
        cut_point(
            pair,
            tuple(np.flatnonzero(found.members[i]).tolist()),
            found.points[i],
            (bool(found.used[i, 0]), bool(found.used[i, 1])),
        )
        for i in np.flatnonzero(fits)
    ]
    alone = {p.first for p in others if p.first == p.second}
    runs = fits | (whole & (pair.first in alone)) | (empty & (pair.second in alone))
    return kept, found.complete and bool(runs.all())


def cut_point(
    pair: Pair, part: tuple[int, ...], vector: Floats, used: tuple[bool, bool]
) -> EnvelopePoint:
    fixed, up, down, server = (float(x) for x in vector)
    return EnvelopePoint(pair.first, pair.second, part, fixed, up, down, server, *used)
