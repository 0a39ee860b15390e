"""A problem as arrays, for compiled loops. Operators, tensors and devices are indices.

Lists of indices are in compressed rows: those of i are `x[x_at[i]:x_at[i + 1]]`. Tensors are in
the order of `graph.tensors`, so ties by name need `tensor_names`, not the index.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cutset.graph import Graph
from cutset.problem import Problem

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class GraphArrays:
    """O operators, T tensors. `producer` is −1 for graph inputs, `group` −1 without colocation."""

    tensor_names: tuple[str, ...]
    bytes_: Floats  # [T]
    producer: Ints  # [T]
    is_output: Bools  # [T]
    memory: Floats  # [O] bytes
    group: Ints  # [O] colocate group
    inputs_at: Ints  # [O + 1] into inputs
    inputs: Ints  # tensors that an operator reads, each once
    outputs_at: Ints  # [O + 1] into outputs
    outputs: Ints
    readers_at: Ints  # [T + 1] into readers
    readers: Ints  # operators that read a tensor, in order
    before_at: Ints  # [O + 1] into before
    before: Ints  # predecessors
    after_at: Ints  # [O + 1] into after
    after: Ints  # successors


@dataclass(frozen=True, eq=False)
class ClusterArrays:
    """D devices, in the order of the cluster. Seconds and bytes; inf where there is no link."""

    names: tuple[str, ...]
    source: int
    sink: int
    compute_s: Floats  # [D, O]; inf where the operator cannot run
    wire_s_per_byte: Floats  # [D, D] of the slowest of link, egress, ingress; 0 within a device
    latency_s: Floats  # [D, D]
    send_s_per_byte: Floats  # [D]
    recv_s_per_byte: Floats  # [D]
    overhead_s: Floats  # [D] a stage
    overlap: Bools  # [D]
    memory: Floats  # [D] bytes
    stage_memory: float  # bytes
    multicast: bool


@lru_cache(maxsize=8)
def cluster_arrays(problem: Problem) -> ClusterArrays:
    cluster = problem.cluster
    names = tuple(d.name for d in cluster.devices)
    count = len(names)
    wire = np.full((count, count), np.inf)
    latency = np.full((count, count), np.inf)
    np.fill_diagonal(wire, 0.0)
    np.fill_diagonal(latency, 0.0)
    index = {name: i for i, name in enumerate(names)}
    for link in cluster.pairs():
        a, b = index[link.source], index[link.target]
        wire[a, b] = 8 / problem.bandwidth_bps(link)
        latency[a, b] = link.latency_s or 0.0

    def column(values: Iterable[float | None]) -> Floats:
        return np.array([v or 0.0 for v in values], dtype=np.float64)

    return ClusterArrays(
        names,
        index[cluster.source],
        index[cluster.sink],
        np.array([problem.compute_s(name) for name in names], dtype=np.float64).reshape(count, -1),
        wire,
        latency,
        column(d.send_s_per_byte for d in cluster.devices),
        column(d.recv_s_per_byte for d in cluster.devices),
        column(d.stage_overhead_s for d in cluster.devices),
        np.array([d.overlap for d in cluster.devices]),
        column(d.memory_bytes for d in cluster.devices),
        float(problem.graph.stage_memory_bytes),
        cluster.multicast,
    )


def graph_arrays(graph: Graph) -> GraphArrays:
    names = tuple(graph.tensors)
    index = {name: i for i, name in enumerate(names)}
    operators = graph.operators
    named = sorted({op.colocate for op in operators if op.colocate is not None})
    groups = {name: i for i, name in enumerate(named)}
    inputs = _rows([index[t] for t in dict.fromkeys(op.inputs)] for op in operators)
    outputs = _rows([index[t] for t in op.outputs] for op in operators)
    readers = _rows(graph.consumers[t] for t in names)
    before, after = _rows(graph.predecessors), _rows(graph.successors)
    wanted = set(graph.outputs)
    return GraphArrays(
        names,
        np.array([float(graph.tensors[t].size_bytes) for t in names]),
        np.array([graph.producers.get(t, -1) for t in names], dtype=np.int64),
        np.array([t in wanted for t in names], dtype=np.bool_),
        np.array([float(op.memory_bytes) for op in operators]),
        np.array([-1 if op.colocate is None else groups[op.colocate] for op in operators]),
        *inputs,
        *outputs,
        *readers,
        *before,
        *after,
    )


def _rows(rows: Iterable[Iterable[int]]) -> tuple[Ints, Ints]:
    """Lists as compressed rows: where each begins, and all of them."""
    listed = [list(row) for row in rows]
    at = np.zeros(len(listed) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in listed], out=at[1:])
    return at, np.array([i for row in listed for i in row], dtype=np.int64)
