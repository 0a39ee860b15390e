"""The evaluator: what a plan costs, by the definitions of docs/formats.md.

One function scores every plan of every strategy, and every plan file written by hand.
"""

from __future__ import annotations

import heapq
import math
from itertools import groupby

from cutset.errors import InfeasibleError
from cutset.plan import Plan, Transfer, check_plan, check_untiled, transfers
from cutset.problem import Estimate, Problem, StageTiming, TransferTiming


def estimate(problem: Problem, plan: Plan) -> Estimate:
    """Latency, period, memory and busy times of a plan; seconds and bytes.

    Raises InvalidFileError where the plan does not fit the graph, InfeasibleError where an
    operator cannot run on its device or two devices that must talk have no link. Memory limits
    are reported, not enforced: see `problem.check_memory`.
    """
    graph, cluster = problem.graph, problem.cluster
    check_plan(plan, graph, cluster)
    check_untiled(plan)
    moves = transfers(plan, graph, cluster.source, cluster.sink)
    for move in moves:
        if cluster.link(move.source_device, move.target_device) is None:
            raise InfeasibleError(
                f"no link from {move.source_device!r} to {move.target_device!r}, which the plan"
                f" needs for tensor {move.tensor!r}",
                field="links",
                value=f"{move.source_device}>{move.target_device}",
                remedy="add the link or a default_link to the cluster file",
            )
    durations = {stage.name: _stage_s(problem, plan, i) for i, stage in enumerate(plan.stages)}
    stage_times, move_times, latency = _timeline(problem, plan, moves, durations)
    busy = _busy(problem, plan, moves, durations)
    period, bottleneck = 0.0, f"device:{plan.stages[0].device}" if plan.stages else ""
    for name, seconds in busy.items():
        if seconds > period:
            period, bottleneck = seconds, name
    memory = dict.fromkeys(plan.devices, 0)
    for stage in plan.stages:
        memory[stage.device] += graph.stage_memory_bytes + sum(
            graph.operators[graph.positions[name]].memory_bytes for name in stage.operators
        )
    return Estimate(latency, period, memory, busy, bottleneck, stage_times, move_times)


def _stage_s(problem: Problem, plan: Plan, index: int) -> float:
    stage = plan.stages[index]
    positions = problem.graph.positions
    compute = problem.compute_s(stage.device)
    device = problem.device(stage.device)
    total = math.fsum(
        (device.stage_overhead_s or 0.0, *(compute[positions[n]] for n in stage.operators))
    )
    if math.isinf(total):
        operator = next(n for n in stage.operators if math.isinf(compute[positions[n]]))
        raise InfeasibleError(
            f"operator {operator!r} cannot run on device {stage.device!r}: no cost is known for"
            f" kind {device.kind!r}",
            field=f"stages[{index}].operators",
            value=operator,
            remedy=f"profile the model on {stage.device!r}, or add {device.kind!r} to the"
            " operator's compute_s",
        )
    return total


def _duration_s(problem: Problem, move: Transfer) -> float:
    link = problem.cluster.link(move.source_device, move.target_device)
    assert link is not None
    return 8 * move.bytes / problem.bandwidth_bps(link)


def _timeline(
    problem: Problem, plan: Plan, moves: tuple[Transfer, ...], durations: dict[str, float]
) -> tuple[tuple[StageTiming, ...], tuple[TransferTiming, ...], float]:
    """One request on an idle cluster.

    Transfers are taken from a heap in their turn order. That is exact: whatever a transfer waits
    for is ready no later and stands no later in the plan, so nothing earlier can still appear.
    """
    cluster = problem.cluster
    position = {stage.name: i for i, stage in enumerate(plan.stages)}
    queue_of: dict[str, list[int]] = {}
    for i, stage in enumerate(plan.stages):
        queue_of.setdefault(stage.device, []).append(i)
    awaited: list[int] = [0] * len(plan.stages)  # transfers that a stage still waits for
    waiters: dict[tuple[str, str], list[int]] = {}  # (tensor, device) -> stages there
    operators, positions = problem.graph.operators, problem.graph.positions
    reads = [
        {t for n in stage.operators for t in operators[positions[n]].inputs}
        for stage in plan.stages
    ]
    for move in moves:
        stages = [i for i in queue_of.get(move.target_device, ()) if move.tensor in reads[i]]
        waiters[move.tensor, move.target_device] = stages
        for i in stages:
            awaited[i] += 1
    outgoing: dict[str | None, list[list[Transfer]]] = {}
    for source_stage, group in groupby(moves, key=lambda m: m.source_stage):
        for _, same in groupby(group, key=lambda m: m.tensor):
            batch = list(same)
            outgoing.setdefault(source_stage, []).extend(
                [batch] if cluster.multicast else [[move] for move in batch]
            )
    heap: list[tuple[float, int, str, str, int, list[Transfer]]] = []

    def offer(source_stage: str | None, made_s: float) -> None:
        for batch in outgoing.get(source_stage, ()):
            first = batch[0]
            cost = problem.device(first.source_device).send_s_per_byte or 0.0
            place = -1 if source_stage is None else position[source_stage]
            heapq.heappush(
                heap,
                (
                    made_s + first.bytes * cost,
                    place,
                    first.tensor,
                    first.target_device,
                    len(heap),
                    batch,
                ),
            )

    arrived: list[float] = [0.0] * len(plan.stages)
    device_free: dict[str, float] = {}
    next_on: dict[str, int] = dict.fromkeys(queue_of, 0)
    stage_times: dict[int, StageTiming] = {}
    latest = 0.0

    def advance(device: str) -> None:
        queue = queue_of.get(device, [])
        while next_on.get(device, 0) < len(queue) and not awaited[queue[next_on[device]]]:
            i = queue[next_on[device]]
            next_on[device] += 1
            start = max(device_free.get(device, 0.0), arrived[i])
            end = start + durations[plan.stages[i].name]
            device_free[device] = end
            stage_times[i] = StageTiming(plan.stages[i].name, device, start, end)
            offer(plan.stages[i].name, end)

    free: dict[str, float] = {}
    move_times: list[TransferTiming] = []
    offer(None, 0.0)
    for device in queue_of:
        advance(device)
    while heap:
        ready, _, _, _, _, batch = heapq.heappop(heap)
        sender = batch[0].source_device
        held = [f"egress:{sender}"]
        for move in batch:
            held += [f"link:{sender}>{move.target_device}", f"ingress:{move.target_device}"]
        start = max(ready, *(free.get(name, 0.0) for name in held))
        slowest = 0.0
        for move in batch:
            duration = _duration_s(problem, move)
            slowest = max(slowest, duration)
            link = cluster.link(sender, move.target_device)
            assert link is not None
            receive = problem.device(move.target_device).recv_s_per_byte or 0.0
            arrive = start + duration + (link.latency_s or 0.0) + move.bytes * receive
            free[f"link:{sender}>{move.target_device}"] = start + duration
            free[f"ingress:{move.target_device}"] = start + duration
            move_times.append(TransferTiming(move, ready, start, start + duration, arrive))
            if move.tensor in problem.graph.outputs and move.target_device == cluster.sink:
                latest = max(latest, arrive)
            for i in waiters[move.tensor, move.target_device]:
                awaited[i] -= 1
                arrived[i] = max(arrived[i], arrive)
        free[f"egress:{sender}"] = start + slowest
        for move in batch:
            advance(move.target_device)
    for tensor in problem.graph.outputs:  # those made at the sink need no transfer
        producer = problem.graph.producers.get(tensor)
        if producer is not None:
            name = problem.graph.operators[producer].name
            i = next(i for i, stage in enumerate(plan.stages) if name in stage.operators)
            if plan.stages[i].device == cluster.sink:
                latest = max(latest, stage_times[i].end_s)
    ordered = tuple(stage_times[i] for i in range(len(plan.stages)))
    return ordered, tuple(move_times), latest


def _busy(
    problem: Problem, plan: Plan, moves: tuple[Transfer, ...], durations: dict[str, float]
) -> dict[str, float]:
    """Seconds per request by resource: devices, then links, egresses and ingresses."""
    device_s = dict.fromkeys(plan.devices, 0.0)
    wire: dict[str, dict[str, float]] = {"link": {}, "egress": {}, "ingress": {}}

    def add(table: dict[str, float], key: str, seconds: float) -> None:
        table[key] = table.get(key, 0.0) + seconds

    for stage in plan.stages:
        device_s[stage.device] += durations[stage.name]
    for (sender_name, _tensor), group in groupby(moves, key=lambda m: (m.source_device, m.tensor)):
        sender = problem.device(sender_name)
        batch = list(group)
        # Multicast holds the sender once for a tensor; unicast once for each receiver.
        times = [_duration_s(problem, move) for move in batch]
        egress = max(times) if problem.cluster.multicast else sum(times)
        copies = 1 if problem.cluster.multicast else len(batch)
        add(wire["egress"], sender_name, egress)
        add(device_s, sender_name, copies * batch[0].bytes * (sender.send_s_per_byte or 0.0))
        if not sender.overlap:
            add(device_s, sender_name, egress)
        for move, seconds in zip(batch, times, strict=True):
            receiver = problem.device(move.target_device)
            add(wire["link"], f"{sender_name}>{receiver.name}", seconds)
            add(wire["ingress"], receiver.name, seconds)
            add(device_s, receiver.name, move.bytes * (receiver.recv_s_per_byte or 0.0))
            if not receiver.overlap:
                add(device_s, receiver.name, seconds)
    return {f"device:{name}": seconds for name, seconds in device_s.items()} | {
        f"{family}:{name}": table[name] for family, table in wire.items() for name in sorted(table)
    }
