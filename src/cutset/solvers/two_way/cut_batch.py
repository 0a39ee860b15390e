"""Many cheapest cuts of one graph in one maximum flow.

For operators whose part is known, the network is contracted; what is left of all questions is put
side by side between one source and one target. So a question costs what is open in it, not the
graph, and the arrays of all are built together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from ortools.graph.python import max_flow

from cutset.errors import PlanningError
from cutset.solvers.two_way.min_cut import CutOracle
from cutset.solvers.two_way.roles import Floats, Members, Role

_FLOW_BITS = 61  # the sum of all capacities stays below 2 to this power
_FIRST, _SECOND, _OPEN = np.int8(1), np.int8(-1), np.int8(0)

Integers = NDArray[np.int64]


class CutBatch:
    """The network of a `CutOracle` for one pair of devices: seconds of operators in either part
    (inf where they must not be) and roles that no tensor may have."""

    def __init__(
        self,
        oracle: CutOracle,
        first_s: Floats,
        second_s: Floats,
        forbidden: frozenset[Role],
    ) -> None:
        self.oracle = oracle
        forced = oracle.forced_arcs
        # Prices of arcs: first, second, each role, and CUT with CUT_OUTPUT; the price of forced
        # arcs does not matter.
        both = oracle.output & (oracle.role == Role.CUT)
        kind = np.where(both, 2 + len(Role), 2 + oracle.role)
        self._kind = np.concatenate(
            (np.repeat((0, 1), oracle.count), kind, np.zeros(forced, np.int64))
        )
        base = np.concatenate((first_s, second_s, oracle.size, np.full(forced, np.inf)))
        banned = np.isin(oracle.role, [int(role) for role in forbidden])
        base[2 * oracle.count : 2 * oracle.count + len(banned)][banned] = np.inf
        self._endless = np.isinf(base)
        self._base = np.where(self._endless, 0.0, base)
        self._out = _Incidence(oracle.tails, oracle.vertices)
        self._into = _Incidence(oracle.heads, oracle.vertices)
        self._joints = _Joints(oracle)

    def minimise(
        self, first: Floats, second: Floats, per_byte: Floats, low: Members, high: Members
    ) -> Members:
        """For each question (a row), the cheapest cut between `low` and `high`, by members.

        `first` and `second` are the prices of a second in either part, `per_byte` has a column
        for each role. Between low and high there must be a cut of finite cost.
        """
        both = per_byte[:, Role.CUT] + per_byte[:, Role.CUT_OUTPUT]
        prices = np.maximum(np.column_stack((first, second, per_byte, both)), 0.0)
        size = self.oracle.vertices
        state = self._states(low, high)
        where = np.flatnonzero(state == _OPEN)
        found = low.copy()
        if not len(where):
            return found
        question, vertex = np.divmod(where, size)
        number = np.zeros(state.size, dtype=np.int32)
        number[where] = np.arange(len(where))
        source, target = len(where), len(where) + 1
        own, arcs = self._out.of(vertex)
        asked = question[own]
        far = self.oracle.heads[arcs]
        far_state = state[asked, far]
        kept = far_state != _FIRST
        heads = np.where(far_state == _SECOND, target, number[asked * size + far])[kept]
        own_in, arcs_in = self._into.of(vertex)
        near = state[question[own_in], self.oracle.tails[arcs_in]] == _FIRST
        own_in, arcs_in = own_in[near], arcs_in[near]
        tails = np.concatenate((own[kept], np.full(len(own_in), source)))
        heads = np.concatenate((heads, own_in))
        arcs = np.concatenate((arcs[kept], arcs_in))
        asked = np.concatenate((asked[kept], question[own_in]))
        cost = prices[asked, self._kind[arcs]] * self._base[arcs]
        endless = self._endless[arcs]
        worth = endless | (cost > 0)
        capacity = _capacities(cost[worth], endless[worth], asked[worth], len(low))
        flow = max_flow.SimpleMaxFlow()
        flow.add_arc_with_capacity(source, target, 0)  # both must be known to the solver
        flow.add_arcs_with_capacity(
            tails[worth].astype(np.int32), heads[worth].astype(np.int32), capacity
        )
        status = flow.solve(source, target)
        if status != flow.OPTIMAL:
            raise PlanningError(f"the maximum flow solver failed with status {status}")
        side = np.array(flow.get_source_side_min_cut(), dtype=np.int64)
        side = side[side < len(where)]
        side = side[vertex[side] < self.oracle.count]
        found[question[side], vertex[side]] = True
        return found

    def _states(self, low: Members, high: Members) -> NDArray[np.int8]:
        """For each question and vertex, the part that it is known to be in."""
        oracle = self.oracle
        state = np.zeros((len(low), oracle.vertices), dtype=np.int8)
        state[:, : oracle.count][low] = _FIRST
        state[:, : oracle.count][~high] = _SECOND
        state[:, oracle.source], state[:, oracle.target] = _FIRST, _SECOND
        self._joints.decide(state)
        return state


class _Incidence:
    """The arcs at each vertex."""

    def __init__(self, ends: NDArray[np.int32], vertices: int) -> None:
        self._arcs = np.argsort(ends, kind="stable")
        self._count = np.bincount(ends, minlength=vertices)
        self._start = np.cumsum(self._count) - self._count

    def of(self, vertices: Integers) -> tuple[Integers, Integers]:
        """Every arc at these vertices: the vertex's place in the argument, and the arc."""
        count = self._count[vertices]
        place = np.repeat(np.arange(len(vertices)), count)
        offset = np.arange(len(place)) - np.repeat(np.cumsum(count) - count, count)
        return place, np.asarray(self._arcs[self._start[vertices][place] + offset])


class _Joints:
    """The auxiliary vertices: each follows one part as soon as any reader is in it, and the other
    part where all readers are."""

    def __init__(self, oracle: CutOracle) -> None:
        self._any_first, self._any_second = (
            _Group([(v, readers) for v, first, readers in oracle.joints if first is wanted])
            for wanted in (True, False)
        )

    def decide(self, state: NDArray[np.int8]) -> None:
        """Fill in the vertices whose part follows from the readers'."""
        # The greatest state of the readers: any in the first part, all in the second, or open.
        self._any_first.fill(state, np.maximum)
        self._any_second.fill(state, np.minimum)


class _Group:
    def __init__(self, joints: list[tuple[int, tuple[int, ...]]]) -> None:
        self.vertices = np.array([v for v, _ in joints], dtype=np.int64)
        self.readers = np.array([r for _, readers in joints for r in readers], dtype=np.int64)
        amounts = np.array([len(readers) for _, readers in joints], dtype=np.int64)
        self.starts = np.cumsum(amounts) - amounts

    def fill(self, state: NDArray[np.int8], choose: np.ufunc) -> None:
        if len(self.vertices):
            readers = state[:, self.readers]
            state[:, self.vertices] = choose.reduceat(readers, self.starts, axis=1)


def _capacities(
    cost: Floats, endless: NDArray[np.bool_], question: Integers, questions: int
) -> NDArray[np.int64]:
    """Integers: each question's costs as fine as its sum allows, rounded down."""
    most = 2 ** (_FLOW_BITS - len(cost).bit_length())
    whole = np.bincount(question, np.where(endless, 0.0, cost), minlength=questions)
    with np.errstate(divide="ignore", over="ignore"):
        scale = (most - 1) / 2 / whole
    scale[~np.isfinite(scale)] = 1.0
    capacity = np.floor(cost * scale[question]).astype(np.int64)
    capacity[endless] = most
    return np.asarray(capacity)
