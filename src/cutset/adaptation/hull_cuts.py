"""The cuts of a device and a server that are ever best: what adaptation may choose from.

Source of the envelope: docs/planning.md. Two things are asked of it here that one plan does not
need. A slower device changes its compute and nothing else, so that the hull is taken in the seconds
of operators on the device alone: overheads and the costs of sending and receiving are set to 0
while the envelope is built, and put back as `Cut.other_s`. That loses nothing: those costs are
linear in the bytes up and down and the same for all cuts into two parts, so that what is cheapest
with them is cheapest without them at some dearer bytes. And what only two groups of cuts together
beat (the envelope's hulls are by direction used) is left out: see never_best.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cut, Cuts
from cutset.adaptation.never_best import sometimes_best
from cutset.graph import Graph
from cutset.plan import Plan
from cutset.problem import Problem
from cutset.solvers.two_way.envelope import build_envelope
from cutset.solvers.two_way.envelope_points import EnvelopePoint, single_points
from cutset.solvers.two_way.two_stage import two_stage_plan


def hull_cuts(problem: Problem, server: str | None = None) -> Cuts:
    """All cuts of the source device and `server` (default: the one other device) that are cheapest
    at some prices (Conditions.prices, none negative); no two of them cost the same everywhere.

    The first is "local" and the last "offload", where they can run and fit, whether they are ever
    cheapest or not; between them "cut 1", "cut 2" … by the seconds of the unloaded server, then by
    bytes. Each fits the devices' memory by itself: see choosing for what fits together.

    Raises UnsupportedProblemError where the server is not named and there are several, or where
    the sink is a third device; InfeasibleError where no plan is left.
    """
    free = replace(
        problem,
        cluster=replace(
            problem.cluster,
            devices=tuple(
                replace(d, stage_overhead_s=0.0, send_s_per_byte=0.0, recv_s_per_byte=0.0)
                for d in problem.cluster.devices
            ),
        ),
    )
    envelope = build_envelope(free, server)
    device, server = envelope.device, envelope.server
    # Without its overhead a plan of two parts may beat one of one part, which it does not with it.
    points = single_points(free, device, server)
    points += [point for point in envelope.points if point.first != point.second]
    cuts = sorted((_cut(problem, device, server, point) for point in points), key=_order)
    always = [i for i, cut in enumerate(cuts) if len(cut.plan.devices) == 1]
    kept = sometimes_best(np.array([cut.amounts for cut in cuts], dtype=np.float64), always)
    return Cuts(device, server, tuple(_named([cuts[i] for i in kept], device, server)))


def stated_conditions(problem: Problem, cuts: Cuts) -> Conditions:
    """What the cluster and the profile say holds between the cuts' device and server."""

    def link(source: str, target: str) -> tuple[float, float]:
        found = problem.cluster.link(source, target)
        if found is None:
            return 0.0, 0.0
        return problem.bandwidth_bps(found), found.latency_s or 0.0

    up_bps, up_latency_s = link(cuts.device, cuts.server)
    down_bps, down_latency_s = link(cuts.server, cuts.device)
    return Conditions(up_bps, down_bps, up_latency_s, down_latency_s)


def stage_memory_bytes(graph: Graph, plan: Plan) -> dict[str, int]:
    """Bytes that the plan's loaded stages take, by device: the sum that workers enforce."""
    taken = dict.fromkeys(plan.devices, 0)
    for stage in plan.stages:
        taken[stage.device] += graph.stage_memory_bytes + sum(
            graph.operators[graph.positions[name]].memory_bytes for name in stage.operators
        )
    return taken


def _cut(problem: Problem, device: str, server: str, point: EnvelopePoint) -> Cut:
    graph, near, far = problem.graph, problem.device(device), problem.device(server)
    alone = point.first == point.second
    part = range(len(graph.operators)) if alone else point.first_part
    plan = two_stage_plan(graph, point.first, point.second, part)
    overheads = (problem.device(stage.device).stage_overhead_s or 0.0 for stage in plan.stages)
    up_s_per_byte = (near.send_s_per_byte or 0.0) + (far.recv_s_per_byte or 0.0)
    down_s_per_byte = (far.send_s_per_byte or 0.0) + (near.recv_s_per_byte or 0.0)
    return Cut(
        name="",
        plan=plan,
        device_s=_compute_s(problem, plan, device),
        other_s=math.fsum(overheads)
        + up_s_per_byte * point.up_bytes
        + down_s_per_byte * point.down_bytes,
        up_bytes=point.up_bytes,
        down_bytes=point.down_bytes,
        server_s=_compute_s(problem, plan, server),
        uses_server=server in plan.devices,
        up_used=point.up_used,
        down_used=point.down_used,
        memory_bytes=stage_memory_bytes(graph, plan),
    )


def _compute_s(problem: Problem, plan: Plan, device: str) -> float:
    compute_s, positions = problem.compute_s(device), problem.graph.positions
    return math.fsum(
        compute_s[positions[name]]
        for stage in plan.stages
        if stage.device == device
        for name in stage.operators
    )


def _order(cut: Cut) -> tuple[object, ...]:
    """Local, by the server's seconds, offload; what decides last are operators' names."""
    where = 1 if len(cut.plan.devices) == 2 else 2 if cut.uses_server else 0
    stages = [(stage.device, stage.operators) for stage in cut.plan.stages]
    return (where, cut.server_s, cut.up_bytes, cut.down_bytes, cut.device_s, stages)


def _named(cuts: list[Cut], device: str, server: str) -> list[Cut]:
    alone: dict[tuple[str, ...], str] = {(device,): "local", (server,): "offload"}
    first = sum(cut.plan.devices == (device,) for cut in cuts)
    return [
        replace(cut, name=alone.get(cut.plan.devices, f"cut {i - first + 1}"))
        for i, cut in enumerate(cuts)
    ]
