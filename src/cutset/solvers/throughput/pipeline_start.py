"""What is known of pipelines before anything is compiled: a greedy one, and why there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cutset.errors import InfeasibleError
from cutset.problem import Budget, Problem
from cutset.solvers.search import infeasible
from cutset.solvers.throughput.block_chain import Chain

Path = tuple[list[int], list[int]]
_RELAX_S = 5.0  # what looking for a relaxation may take


def greedy_path(ch: Chain) -> Path | None:
    """From the best start: fill each device, then follow its fastest link to one that can go on.

    Judged by the largest hop and stage; None where no start leads to the end.
    """
    crossing = [
        float(ch.bytes_[ch.crossing[ch.crossing_at[p] : ch.crossing_at[p + 1]]].sum())
        for p in range(len(ch.memory) + 1)
    ]
    best: tuple[float, Path] | None = None
    for start in range(len(ch.limit)):
        found = _greedy_from(ch, crossing, start)
        if found is not None and (best is None or found[0] < best[0]):
            best = found
    return None if best is None else best[1]


def _greedy_from(ch: Chain, crossing: Sequence[float], start: int) -> tuple[float, Path] | None:
    m = len(ch.memory)
    devices, cuts, worst, p = [start], [], 0.0, 0
    while True:
        d, q = devices[-1], p
        memory, busy = ch.stage_memory, float(ch.overhead[d])
        while q < m and memory + ch.memory[q] <= ch.limit[d]:
            if math.isinf(ch.compute_s[d, q]):
                break
            memory, busy, q = memory + ch.memory[q], busy + float(ch.compute_s[d, q]), q + 1
        if q == p:
            return None
        cuts.append(q)
        worst = max(worst, busy)
        if q == m:
            return worst, (devices, cuts)
        after = next(
            (
                int(f)
                for f in ch.nearest[d]
                if int(f) not in devices
                and math.isfinite(ch.wire[d, f])
                and math.isfinite(ch.compute_s[f, q])
                and ch.stage_memory + ch.memory[q] <= ch.limit[f]
            ),
            None,
        )
        if after is None:
            return None
        worst = max(worst, crossing[q] * float(ch.wire[d, after]))
        devices.append(after)
        p = q


def infeasible_pipeline(problem: Problem) -> InfeasibleError:
    """Names what makes a pipeline possible: an operator's cost, links, or bytes on one device (the
    device that needs the fewest, as far as a few seconds of looking show)."""
    devices, graph = problem.cluster.devices, problem.graph
    compute = np.array([problem.compute_s(d.name) for d in devices])
    if np.isinf(compute).all(axis=0).any():
        return infeasible(problem, None)
    total = sum(op.memory_bytes for op in graph.operators) + graph.stage_memory_bytes
    budget = Budget(_RELAX_S)
    unlimited = {d.name: float(total) for d in devices}
    if not _fits(problem, unlimited, budget):
        return InfeasibleError(
            "no path of devices can run the model, whatever their memory",
            field="links",
            value=f"{len(list(problem.cluster.pairs()))} links",
            remedy="add links between the devices, or a default_link, or costs for the operators",
        )
    best: tuple[float, str] | None = None
    for device in devices:
        have = device.memory_bytes
        limit = min(float(total), math.inf if best is None else have + best[0] - 1)
        if limit <= have or not _fits(problem, {device.name: limit}, budget):
            continue
        low, high = have, limit
        while high - low > 1:
            middle = math.floor((low + high) / 2)
            if _fits(problem, {device.name: middle}, budget):
                high = middle
            else:
                low = middle
        best = (high - have, device.name)
    if best is not None:
        more, name = best
        have = problem.device(name).memory_bytes
        return InfeasibleError(
            f"the model fits in no pipeline; it would if device {name!r} had {have + more:.0f}"
            " bytes",
            field=f"devices.{name}.memory",
            value=f"{have:.0f} bytes",
            remedy=f"it is {more:.0f} bytes short: state more memory, or add a device",
        )
    low, high = 0.0, float(total)
    while high - low > 1:
        middle = math.floor((low + high) / 2)
        if _fits(problem, {d.name: d.memory_bytes + middle for d in devices}, budget):
            high = middle
        else:
            low = middle
    return InfeasibleError(
        f"the model fits in no pipeline; it would if each device had {high:.0f} bytes more",
        field="devices",
        value=f"{math.fsum(d.memory_bytes for d in devices):.0f} bytes in all",
        remedy=f"the model takes {total} bytes on one device: state more memory, or add devices",
    )


def _fits(problem: Problem, memory: dict[str, float], budget: Budget) -> bool:
    """Whether a pipeline is found when these devices have this much memory."""
    from cutset.solvers.throughput.pipelines import fits

    devices = tuple(
        replace(d, memory_bytes=memory.get(d.name, d.memory_bytes)) for d in problem.cluster.devices
    )
    cluster = replace(problem.cluster, devices=devices)
    return fits(replace(problem, cluster=cluster), Budget(budget.remaining_s() / 2))
