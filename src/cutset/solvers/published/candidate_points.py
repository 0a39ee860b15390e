"""Where pipelines of spans may be cut, and what a cut there costs.

The points are the operators alone at their depth that no path bypasses (Parthasarathy and
Krishnamachari, arXiv 2210.12219): the graph's articulations that no tensor bypasses, such as a skip
connection does. Small side tensors (a mask that later blocks read too) may, and are paid; points
inside a colocate group are left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cutset.graph import Graph
from cutset.plan import Plan, Stage
from cutset.solvers.arrays import Floats

#: Tensors that bypass a point are side tensors up to this share of what its operator hands on.
_SIDE_SHARE = 1 / 16


@dataclass(frozen=True, eq=False)
class CandidatePoints:
    """`positions` are 0, the points, and the number of operators; the arrays belong to them.

    `crossing_bytes` is what operators make before a point and others read after it, side tensors
    included; 0 at both ends. `memory_bytes` sums the operators before a point.
    """

    positions: tuple[int, ...]
    crossing_bytes: Floats
    memory_bytes: Floats

    @property
    def last(self) -> int:
        """The index of the graph's end in `positions`."""
        return len(self.positions) - 1

    def reach(self, begin: int, capacity_bytes: float) -> int:
        """The furthest end of a span from `begin` that fits; `begin` where not even one does."""
        limit = float(self.memory_bytes[begin]) + capacity_bytes
        return int(np.searchsorted(self.memory_bytes, limit, side="right")) - 1


def candidate_points(graph: Graph) -> CandidatePoints:
    count = len(graph.operators)
    whole = set(graph.cut_positions)
    own = np.zeros(count + 2)  # bytes that the operator before a position hands on
    steps = np.zeros(count + 2)  # of all bytes that operators before hand on
    for tensor, producer in graph.producers.items():
        readers, size = graph.consumers[tensor], graph.tensors[tensor].size_bytes
        if readers:
            own[producer + 1] += size
            steps[producer + 1] += size
            steps[readers[-1] + 1] -= size
    crossing = np.cumsum(steps)
    memory = np.array([0.0, *itertools.accumulate(float(o.memory_bytes) for o in graph.operators)])
    points = [
        p
        for p in graph.articulations
        if p in whole and crossing[p] - own[p] <= _SIDE_SHARE * own[p]
    ]
    positions = (0, *points, count)
    at = np.array(positions)
    return CandidatePoints(positions, crossing[at], memory[at])


def pipeline(
    graph: Graph, points: CandidatePoints, ends: Iterable[int], devices: Sequence[str]
) -> Plan:
    """The spans that end at the points `ends` (indices into `positions`), one on each device."""
    names = [op.name for op in graph.operators]
    edges = [points.positions[i] for i in (0, *ends)]
    spans = zip(itertools.pairwise(edges), devices, strict=True)
    return Plan(
        tuple(
            Stage(f"s{i}", device, tuple(names[begin:end]))
            for i, ((begin, end), device) in enumerate(spans)
        ),
        graph.digest,
    )
