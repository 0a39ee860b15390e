"""Plans of low latency for devices with little memory: a chain of stages over a path of devices.

The operators' order is cut into stages, each on a device of its own that holds it. The least sum of
compute, overhead and transfers is found by dynamic programming over (set of devices used, last
device, position): exact in that sum for few devices, and within a beam of such sets for more.
What crosses a cut is counted as sent by the stage before it, also where an earlier one made it, so
the sum is an estimate; whoever takes a plan asks the evaluator. Nothing is compiled for this.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cutset.plan import Plan, Stage
from cutset.problem import Budget, Problem
from cutset.solvers.arrays import Floats, Ints, cluster_arrays
from cutset.solvers.latency.latency_model import latency_model

_CUTS = 96  # positions between operators that are tried, at most
_BEAM = 400  # sets of devices, with the last one, of as many stages
_WORK = 40_000_000  # pairs of positions tried with as many stages: some 0.1 s
_PLANS = 4  # returned at most: the estimate may be wrong about which is best


@dataclass(frozen=True, eq=False)
class _Chain:
    """N devices, K + 1 positions; seconds and bytes."""

    at: tuple[int, ...]  # [K + 1] positions of operators, from the first to past the last
    stage_s: Floats  # [N, K + 1, K + 1] from one position to another; inf where it does not fit
    hop_s: Floats  # [N, N, K + 1] from device to device at a position
    first_s: Floats  # [N] the request's inputs
    last_s: Floats  # [N] the result
    rest_s: Floats  # [K + 1] of compute from a position to the end, by the mean of the devices
    rest_bytes: Floats  # [K + 1]
    room: Floats  # [N] bytes for operators
    alike: Ints  # [N]


@dataclass(frozen=True, eq=False)
class _State:
    """The devices used as a mask and the last one; seconds to each position, and from where."""

    seconds: Floats  # [K + 1]
    begin: Ints  # [K + 1] where the last stage begins
    before: Ints  # [K + 1] the device before, −1 for none


def chain_plans(problem: Problem, budget: Budget | None = None) -> list[Plan]:
    """Plans of one stage a device, in the order of the graph, that fit; the best estimate first.

    Empty where no such chain is found. Deterministic unless an exhausted budget ends it.
    """
    if len(problem.cluster.devices) < 2 or len(problem.graph.operators) < 2:
        return []
    chain = _chain(problem)
    return [_plan(problem, chain, ends) for ends in _search(chain, budget)]


def _search(ch: _Chain, budget: Budget | None) -> list[tuple[tuple[int, int], ...]]:
    """The chains of least estimate: (device, position where its stage ends) in order."""
    devices, last = len(ch.room), len(ch.at) - 1
    beam = min(_BEAM, max(_WORK // (devices * len(ch.at) ** 2), 8))
    layers: list[dict[tuple[int, int], _State]] = [_begun(ch)]
    ended: list[tuple[float, int, tuple[int, int]]] = []
    worst = math.inf  # of the best few that have ended
    while layers[-1]:
        layer = len(layers) - 1
        for key, state in layers[-1].items():
            total = float(state.seconds[last] + ch.last_s[key[1]])
            if math.isfinite(total):
                ended.append((total, layer, key))
        ended = sorted(ended)[:_PLANS]
        if len(ended) == _PLANS:
            worst = ended[-1][0]
        if len(layers) == devices or (budget is not None and budget.exhausted()):
            break
        layers.append(_extended(ch, _narrowed(ch, layers[-1], worst, beam)))
    return [_traced(layers, layer, key, last) for _, layer, key in ended]


def _begun(ch: _Chain) -> dict[tuple[int, int], _State]:
    size = len(ch.at)
    found = {}
    for d in range(len(ch.room)):
        if not _first_unused(ch, 0, d):
            continue
        seconds = _within_room(ch, 1 << d, ch.first_s[d] + ch.stage_s[d, 0])
        if np.isfinite(seconds).any():
            nowhere = np.full(size, -1, dtype=np.int64)
            found[1 << d, d] = _State(seconds, np.zeros(size, dtype=np.int64), nowhere)
    return found


def _extended(ch: _Chain, layer: dict[tuple[int, int], _State]) -> dict[tuple[int, int], _State]:
    """One stage more on each device that is not used yet."""
    by_mask: dict[int, list[int]] = {}
    for mask, d in layer:
        by_mask.setdefault(mask, []).append(d)
    found: dict[tuple[int, int], _State] = {}
    for mask, lasts in by_mask.items():
        seconds = np.array([layer[mask, d].seconds for d in lasts])
        for e in range(len(ch.room)):
            if mask >> e & 1 or not _first_unused(ch, mask, e):
                continue
            arrived = seconds + ch.hop_s[lasts, e]
            best = arrived.argmin(axis=0)
            arrival = arrived[best, np.arange(len(best))]
            starts = np.flatnonzero(np.isfinite(arrival))
            if not len(starts):
                continue
            until = arrival[starts, None] + ch.stage_s[e, starts]
            row = until.argmin(axis=0)
            ends = _within_room(ch, mask | 1 << e, until[row, np.arange(len(row))])
            if np.isfinite(ends).any():
                begin = starts[row]
                found[mask | 1 << e, e] = _State(ends, begin, np.array(lasts)[best[begin]])
    return found


def _first_unused(ch: _Chain, mask: int, device: int) -> bool:
    """Whether no device before it that is alike is unused too."""
    same = np.flatnonzero(ch.alike[:device] == ch.alike[device])
    return all(mask >> int(d) & 1 for d in same)


def _within_room(ch: _Chain, mask: int, seconds: Floats) -> Floats:
    """The seconds, inf where the devices that are left cannot hold what is left."""
    unused = [d for d in range(len(ch.room)) if not mask >> d & 1]
    return np.where(ch.rest_bytes <= ch.room[unused].sum(), seconds, np.inf)


def _narrowed(
    ch: _Chain, layer: dict[tuple[int, int], _State], worst: float, beam: int
) -> dict[tuple[int, int], _State]:
    """The states that promise most, if there are more than the beam is wide."""
    ranked = []
    for key, state in layer.items():
        open_s = state.seconds[:-1]
        if open_s.min(initial=np.inf) < worst:
            ranked.append((float((open_s + ch.rest_s[:-1]).min()), key))
    return {key: layer[key] for _, key in sorted(ranked)[:beam]}


def _traced(
    layers: list[dict[tuple[int, int], _State]], layer: int, key: tuple[int, int], end: int
) -> tuple[tuple[int, int], ...]:
    found = []
    while True:
        mask, d = key
        state = layers[layer][key]
        found.append((d, end))
        before = int(state.before[end])
        end = int(state.begin[end])
        if before < 0:
            return tuple(reversed(found))
        layer, key = layer - 1, (mask & ~(1 << d), before)


def _plan(problem: Problem, ch: _Chain, ends: tuple[tuple[int, int], ...]) -> Plan:
    names = [d.name for d in problem.cluster.devices]
    stages, begin = [], 0
    for k, (d, end) in enumerate(ends):
        part = problem.graph.operators[ch.at[begin] : ch.at[end]]
        stages.append(Stage(f"s{k}", names[d], tuple(op.name for op in part)))
        begin = end
    return Plan(tuple(stages), problem.graph.digest)


def _chain(problem: Problem) -> _Chain:
    graph, cluster, model = problem.graph, cluster_arrays(problem), latency_model(problem)
    crossing = _crossing_bytes(problem)
    at = np.array(_positions(problem, crossing, model.memory), dtype=np.int64)
    able = np.isfinite(cluster.compute_s)
    compute = _until(np.where(able, cluster.compute_s, 0.0))[:, at]
    unable = _until((~able).astype(np.float64))[:, at]
    memory = _until(model.memory[None, :])[0, at]
    room = cluster.memory - cluster.stage_memory
    needed = memory[None, :] - memory[:, None]
    stage_s = compute[:, None, :] - compute[:, :, None] + cluster.overhead_s[:, None, None]
    fits = needed[None] <= room[:, None, None]
    runs = unable[:, None, :] == unable[:, :, None]
    later = at[None, :] > at[:, None]
    per_byte = cluster.wire_s_per_byte + cluster.send_s_per_byte[:, None] + cluster.recv_s_per_byte
    linked = np.isfinite(cluster.wire_s_per_byte)

    def travel_s(moved: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            seconds = cluster.latency_s[..., None] + per_byte[..., None] * moved
        there = np.eye(len(room), dtype=np.bool_)[..., None]
        needs_link = np.where(linked[..., None], seconds, np.inf)
        return np.where(there | (moved < 0), 0.0, needs_link)

    inputs = {t for op in graph.operators for t in op.inputs if t in graph.inputs}
    outputs = [t for t in graph.outputs if t in graph.producers]

    def total(tensors: object) -> Floats:
        sizes = [graph.tensors[t].size_bytes for t in tensors]  # type: ignore[attr-defined]
        return np.array([float(sum(sizes)) if sizes else -1.0])

    mean = np.where(able, cluster.compute_s, 0.0).sum(axis=0) / np.maximum(able.sum(axis=0), 1)
    done = _until(mean[None, :])[0, at]
    return _Chain(
        tuple(at.tolist()),
        np.where(fits & runs & later, stage_s, np.inf),
        travel_s(crossing[at]),
        travel_s(total(inputs))[cluster.source, :, 0],
        travel_s(total(outputs))[:, cluster.sink, 0],
        done[-1] - done,
        memory[-1] - memory,
        np.maximum(room, 0.0),
        model.alike,
    )


def _until(rows: Floats) -> Floats:
    """Sums of each row up to each position: one column more."""
    return np.concatenate([np.zeros((len(rows), 1)), rows.cumsum(axis=1)], axis=1)


def _crossing_bytes(problem: Problem) -> Floats:
    """Bytes made before each position and read from there on; −1 where nothing is."""
    graph = problem.graph
    count = len(graph.operators)
    size, number = np.zeros(count + 1), np.zeros(count + 1)
    for t, i in graph.producers.items():
        last = max(graph.consumers[t], default=i)
        if last > i:
            for table, step in ((size, graph.tensors[t].size_bytes), (number, 1)):
                table[i + 1] += step
                table[last + 1 : last + 2] -= step
    return np.where(number.cumsum() > 0, size.cumsum(), -1.0)


def _positions(problem: Problem, crossing: Floats, memory: Floats) -> list[int]:
    """Where to cut: all positions that part no colocate group, or of many those that the fewest
    bytes cross, one in each of as many slices of the memory and of the operators."""
    count = len(problem.graph.operators)
    found = list(problem.graph.cut_positions[1:-1])
    if len(found) > _CUTS:
        done = memory.cumsum() / max(float(memory.sum()), 1.0) + np.arange(1, count + 1) / count
        slices: dict[int, int] = {}
        for p in found:
            slice_ = int(done[p - 1] / 2 * _CUTS)
            if slice_ not in slices or crossing[p] < crossing[slices[slice_]]:
                slices[slice_] = p
        found = sorted(slices.values())
    return [0, *found, count]
