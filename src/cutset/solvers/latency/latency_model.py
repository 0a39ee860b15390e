"""A problem as one tuple of arrays that compiled code takes, in the evaluator's own arithmetic.

`LatencyModel` differs from ClusterArrays where rounding matters: rates are bits per second, as the
evaluator divides by them, so that compiled values equal `estimate`'s to the last bit but for sums.
Ties between transfers go by name, so names come as ranks.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from cutset.problem import Problem
from cutset.solvers.arrays import Bools, Floats, Ints, cluster_arrays, graph_arrays


class LatencyModel(NamedTuple):
    """O operators, T tensors, D devices, as in arrays.py; bits per second are 0 without a link."""

    compute_s: Floats  # [D, O]; inf where the operator cannot run
    bandwidth_bps: Floats  # [D, D]
    latency_s: Floats  # [D, D]
    send_s_per_byte: Floats  # [D]
    recv_s_per_byte: Floats  # [D]
    overhead_s: Floats  # [D] a stage
    overlap: Bools  # [D]
    memory_limit: Floats  # [D] bytes
    device_rank: Ints  # [D] by name
    alike: Ints  # [D] the first device that could take this one's part: equal costs and links
    source: int
    sink: int
    multicast: bool
    stage_memory: float  # bytes
    memory: Floats  # [O] bytes
    group: Ints  # [O] colocate group, −1 for none
    bytes_: Floats  # [T]
    tensor_rank: Ints  # [T] by name
    producer: Ints  # [T] −1 for graph inputs
    is_output: Bools  # [T]
    inputs_at: Ints  # [O + 1]
    inputs: Ints
    outputs_at: Ints  # [O + 1]
    outputs: Ints
    readers_at: Ints  # [T + 1]
    readers: Ints

    @property
    def devices(self) -> int:
        return len(self.memory_limit)

    @property
    def operators(self) -> int:
        return len(self.memory)

    @property
    def work(self) -> int:
        """What one evaluation takes, in visits: operators, tensors, and a tensor's readers once
        for each device that they may be on."""
        readers = np.diff(self.readers_at)
        arrivals = int((readers * np.minimum(readers, self.devices)).sum())
        return len(self.memory) + len(self.bytes_) + arrivals


@lru_cache(maxsize=8)
def latency_model(problem: Problem) -> LatencyModel:
    graph, cluster = graph_arrays(problem.graph), cluster_arrays(problem)
    names = cluster.names
    index = {name: i for i, name in enumerate(names)}
    bandwidth = np.zeros((len(names), len(names)))
    for link in problem.cluster.pairs():
        bandwidth[index[link.source], index[link.target]] = problem.bandwidth_bps(link)
    return LatencyModel(
        cluster.compute_s,
        bandwidth,
        cluster.latency_s,
        cluster.send_s_per_byte,
        cluster.recv_s_per_byte,
        cluster.overhead_s,
        cluster.overlap,
        cluster.memory,
        _ranks(names),
        _alike(problem, bandwidth),
        cluster.source,
        cluster.sink,
        cluster.multicast,
        cluster.stage_memory,
        graph.memory,
        graph.group,
        graph.bytes_,
        _ranks(graph.tensor_names),
        graph.producer,
        graph.is_output,
        graph.inputs_at,
        graph.inputs,
        graph.outputs_at,
        graph.outputs,
        graph.readers_at,
        graph.readers,
    )


def _ranks(names: tuple[str, ...]) -> Ints:
    """The place of each name among all of them, compared by code point."""
    found = np.empty(len(names), dtype=np.int64)
    found[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return found


def _alike(problem: Problem, bandwidth: Floats) -> Ints:
    """For each device the first one that it could change places with (itself, if none before)."""
    arrays = cluster_arrays(problem)
    count = len(arrays.names)
    own = np.column_stack(
        (
            arrays.send_s_per_byte,
            arrays.recv_s_per_byte,
            arrays.overhead_s,
            arrays.overlap,
            arrays.memory,
            arrays.compute_s,
        )
    )
    first = np.arange(count, dtype=np.int64)
    for b in range(count):
        if b in (arrays.source, arrays.sink):
            continue
        for a in range(b):
            if first[a] != a or a in (arrays.source, arrays.sink):
                continue
            swap = np.arange(count)
            swap[[a, b]] = b, a
            if np.array_equal(own[a], own[b]) and all(
                np.array_equal(table[swap[[a, b]]][:, swap], table[[a, b]])
                and np.array_equal(table[:, swap[[a, b]]][swap], table[:, [a, b]])
                for table in (bandwidth, arrays.latency_s)
            ):
                first[b] = a
                break
    return first
