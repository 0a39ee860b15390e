"""Whether the operators fit into the devices' memory at all, wherever they are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cutset.problem import Problem
from cutset.solvers.arrays import Bools
from cutset.solvers.filling import parts_of, room, runs

_NODES = 2_000  # of branch and bound: work, not time, so that it ends alike everywhere
_TIME_LIMIT_S = 20.0  # a guard only
_PROVEN = 1e-5  # of the largest room: well above the solver's tolerances
_LARGE = 20_000  # choices or constraints: more are not looked at
_INFEASIBLE = 2  # scipy's status


@dataclass(frozen=True)
class Packing:
    """A placement (a device for each operator) with little memory added in all, if one was found;
    `short_bytes` is proven: no plan is short of less in all (inf: none can run)."""

    short_bytes: float = 0.0
    placement: tuple[int, ...] | None = None


def packed(problem: Problem) -> Packing:
    """The placement for which the least memory is to be added to the devices.

    An integer program: every part (an operator or a colocate group) on one device that can run it,
    with the least memory added in all, and links where tensors must move. Each device is charged
    one stage, which only makes it easier: where even this needs more memory, no plan fits.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    devices, parts = problem.cluster.devices, parts_of(problem)
    total = sum(op.memory_bytes for op in problem.graph.operators)
    rooms = np.array([min(room(problem, d), float(total)) for d in devices])
    scale = float(rooms.max(initial=0.0)) or 1.0
    count, width = len(parts), len(devices)
    if count * width > _LARGE:
        return Packing()
    memory = np.array(
        [sum(problem.graph.operators[i].memory_bytes for i in operators) for _, operators in parts]
    )
    able = np.array([[runs(problem, d.name, operators) for d in devices] for _, operators in parts])
    chosen = count * width
    row, column = np.divmod(np.arange(chosen), width)
    extra = chosen + np.arange(width)
    able &= _reached(problem, parts)
    apart = _apart(problem, parts)
    if apart is None:
        return Packing()
    once = csr_array((np.ones(chosen), (row, np.arange(chosen))), shape=(count, chosen + width))
    held = csr_array(
        (
            np.concatenate([memory[row] / scale, -np.ones(width)]),
            (np.concatenate([column, np.arange(width)]), np.append(np.arange(chosen), extra)),
        ),
        shape=(width, chosen + width),
    )
    rows = np.repeat(np.arange(len(apart)), 2)
    together = csr_array(
        (np.ones(2 * len(apart)), (rows, np.array(apart, dtype=np.int64).ravel())),
        shape=(len(apart), chosen + width),
    )
    limits = [LinearConstraint(together, -np.inf, 1)] if apart else []
    found = milp(
        np.append(np.zeros(chosen), np.ones(width)),
        constraints=[
            LinearConstraint(once, 1, 1),
            LinearConstraint(held, -np.inf, rooms / scale),
            *limits,
        ],
        integrality=np.append(np.ones(chosen), np.zeros(width)),
        bounds=Bounds(0, np.append(able.ravel().astype(np.float64), np.full(width, np.inf))),
        options={"node_limit": _NODES, "time_limit": _TIME_LIMIT_S, "mip_rel_gap": 0.0},
    )
    if found.status == _INFEASIBLE:
        return Packing(math.inf)
    bound = 0.0 if found.mip_dual_bound is None else float(found.mip_dual_bound)
    short = bound * scale if bound > _PROVEN else 0.0
    if found.x is None:
        return Packing(short)
    device_of = np.argmax(found.x[:chosen].reshape(count, width), axis=1)
    placement = {i: int(d) for (_, part), d in zip(parts, device_of, strict=True) for i in part}
    return Packing(short, tuple(placement[i] for i in range(len(placement))))


def _reached(problem: Problem, parts: Sequence[tuple[str, Sequence[int]]]) -> Bools:
    """[parts, devices] whether inputs that a part reads, and results that it makes, can travel."""
    graph, cluster = problem.graph, problem.cluster
    inputs, results = set(graph.inputs), set(graph.outputs)
    found = np.ones((len(parts), len(cluster.devices)), dtype=np.bool_)
    for p, (_, operators) in enumerate(parts):
        asks = any(t in inputs for i in operators for t in graph.operators[i].inputs)
        gives = any(t in results for i in operators for t in graph.operators[i].outputs)
        for d, device in enumerate(cluster.devices):
            here = device.name
            if asks and here != cluster.source and cluster.link(cluster.source, here) is None:
                found[p, d] = False
            if gives and here != cluster.sink and cluster.link(here, cluster.sink) is None:
                found[p, d] = False
    return found


def _apart(
    problem: Problem, parts: Sequence[tuple[str, Sequence[int]]]
) -> list[tuple[int, int]] | None:
    """Choices (part × devices + device) of which only one can be: a tensor would move where there
    is no link. None where there are too many to list."""
    names = [d.name for d in problem.cluster.devices]
    missing = [
        (a, b)
        for a, b in itertools.permutations(range(len(names)), 2)
        if problem.cluster.link(names[a], names[b]) is None
    ]
    part_of = {i: p for p, (_, operators) in enumerate(parts) for i in operators}
    readers = {
        (part_of[j], part_of[i]) for i, js in enumerate(problem.graph.predecessors) for j in js
    }
    if len(missing) * len(readers) > _LARGE:
        return None
    width = len(names)
    return [
        (u * width + a, v * width + b) for u, v in sorted(readers) for a, b in missing if u != v
    ]
