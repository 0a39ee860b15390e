"""The cheapest cut by maximum flow, for any linear cost of operators and crossing tensors.

The construction of DADS (Hu et al., INFOCOM 2019): the source's side is the first part. A tensor
with several readers gets an auxiliary vertex, so that it is paid once; reverse arcs of infinite
capacity keep the parts in order (no path may leave the second part). Capacities are 64-bit
integers, rounded down, so that the flow is a proven lower bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from ortools.graph.python import max_flow

from cutset.errors import PlanningError
from cutset.graph import Graph
from cutset.solvers.two_way.roles import Floats, Role

_ABOVE = 1 + 1e-9
_FLOW_BITS = 61  # the sum of all capacities stays below 2 to this power


@dataclass(frozen=True)
class Cut:
    """`value` is at most the cost of the cheapest cut, and below it by rounding only."""

    value: float
    first_part: NDArray[np.bool_]


class CutOracle:
    """Finds cheapest cuts of one graph; the network of arcs is built once.

    Its arcs: operators to the target (they run in the first part), the source to operators (in the
    second), tensors by `role` and `size` bytes (CUT_OUTPUT too if `output`), and `forced_arcs` of
    infinite capacity. `joints` are the auxiliary vertices: which one, whether the first of its
    readers decides or the last, and the readers.
    """

    def __init__(self, graph: Graph) -> None:
        self.count = len(graph.operators)
        self.source, self.target = self.count, self.count + 1
        vertices = self.count + 2
        priced: list[tuple[int, int, Role, int, bool]] = []
        fixed: list[tuple[int, int]] = []
        joints: list[tuple[int, bool, tuple[int, ...]]] = []
        outputs = set(graph.outputs)
        for name, tensor in graph.tensors.items():
            readers = graph.consumers[name]
            producer = graph.producers.get(name)
            size, is_output = tensor.size_bytes, name in outputs
            if producer is not None and is_output:
                priced.append((producer, self.target, Role.OUT_FIRST, size, False))
                priced.append((self.source, producer, Role.OUT_SECOND, size, False))
            if not readers:
                continue
            reader = readers[0]
            if len(readers) > 1:  # second part if any reader is
                reader, vertices = vertices, vertices + 1
                fixed += [(reader, q) for q in readers]
                joints.append((reader, False, readers))
            if producer is not None:
                priced.append((producer, reader, Role.CUT, size, is_output))
                continue
            priced.append((self.source, reader, Role.IN_SECOND, size, False))
            if len(readers) > 1:  # first part if any reader is
                reader, vertices = vertices, vertices + 1
                fixed += [(q, reader) for q in readers]
                joints.append((reader, True, readers))
            priced.append((reader, self.target, Role.IN_FIRST, size, False))
        fixed += [(j, i) for j, before in enumerate(graph.predecessors) for i in before]
        together: dict[str, int] = {}
        for i, op in enumerate(graph.operators):
            if op.colocate is not None:
                j = together.setdefault(op.colocate, i)
                if i != j:
                    fixed += [(i, j), (j, i)]
        table = np.array(priced, dtype=np.int64).reshape(-1, 5)
        self.role, self.size, self.output = table[:, 2], table[:, 3], table[:, 4] > 0
        forced = np.array(fixed, dtype=np.int64).reshape(-1, 2)
        own = np.arange(self.count)
        to = np.full(self.count, self.target)
        at = np.full(self.count, self.source)
        self.tails = np.concatenate((own, at, table[:, 0], forced[:, 0])).astype(np.int32)
        self.heads = np.concatenate((to, own, table[:, 1], forced[:, 1])).astype(np.int32)
        self.forced_arcs = len(forced)
        self.vertices, self.joints = vertices, joints

    def minimise(
        self,
        first_cost: Floats,
        second_cost: Floats,
        per_byte: Mapping[Role, float],
        *,
        forbidden: frozenset[Role] = frozenset(),
        ceiling: float = math.inf,
    ) -> Cut | None:
        """The cheapest cut, or None where every cut has infinite cost or costs over `ceiling`.

        `first_cost` and `second_cost` are what each operator costs in either part, inf where it
        must not be there. `per_byte` prices the roles; tensors must not be in `forbidden` roles.
        Costs are not negative. Either part may come out empty.
        """
        weights = np.array([per_byte.get(role, 0.0) for role in Role])
        with np.errstate(invalid="ignore"):  # what has no link is banned below
            each = weights[self.role] + np.where(self.output, weights[Role.CUT_OUTPUT], 0.0)
            moved = np.where(self.size > 0, each * self.size, 0.0)
        if forbidden:
            banned = np.isin(self.role, [int(role) for role in forbidden])
            moved = np.where(banned, np.inf, moved)
        costs = np.concatenate((first_cost, second_cost, np.maximum(moved, 0.0)))
        # Nothing dearer than a cut that is known needs telling apart from infinity, and the lower
        # that is, the finer are the steps of the capacities.
        with np.errstate(invalid="ignore"):
            whole = first_cost.sum() + self._sum(moved, Role.IN_FIRST, Role.OUT_FIRST)
            empty = second_cost.sum() + self._sum(moved, Role.IN_SECOND, Role.OUT_SECOND)
        finite = costs[np.isfinite(costs)]
        most = min(float(finite.sum()), ceiling, float(whole) * _ABOVE, float(empty) * _ABOVE)
        arcs = len(costs) + self.forced_arcs
        endless = 2 ** (_FLOW_BITS - max(arcs, 1).bit_length())
        scale = (endless - 1) / 2 / most if most > 0 else 1.0
        if not math.isfinite(scale):
            scale = 1.0
        capacity = np.full(arcs, endless, dtype=np.int64)
        affordable = costs <= most
        capacity[: len(costs)][affordable] = np.floor(costs[affordable] * scale).astype(np.int64)
        flow = max_flow.SimpleMaxFlow()
        flow.add_arcs_with_capacity(self.tails, self.heads, capacity)
        status = flow.solve(self.source, self.target)
        if status != flow.OPTIMAL:
            raise PlanningError(f"the maximum flow solver failed with status {status}")
        if flow.optimal_flow() >= endless:
            return None
        side = np.array(flow.get_source_side_min_cut(), dtype=np.int64)
        first_part = np.zeros(self.count, dtype=np.bool_)
        first_part[side[side < self.count]] = True
        return Cut(flow.optimal_flow() / scale, first_part)

    def _sum(self, moved: Floats, *roles: Role) -> float:
        return float(moved[np.isin(self.role, [int(role) for role in roles])].sum())
