"""The hull points of a block that has too many cuts to list, by asking for cheapest cuts.

The cheapest cut is asked for at the prices of each facet of the hull known so far; a facet that no
cut undercuts is final, and when all are, the hull is complete. What is known narrows each question:
the cheapest first part grows when seconds become cheaper in it and dearer in the second, all
per byte of what crosses (parametric cuts: Gallo, Grigoriadis and Tarjan, SIAM J. Comput. 1989). By
submodularity, if A is a cheapest part at lower prices, B one at these and C at higher ones, then
(B or A) and C is a cheapest one too; so operators of A and C are in, and those outside C are out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cutset.graph import Graph
from cutset.solvers.two_way.cut_batch import CutBatch
from cutset.solvers.two_way.hull import lower_facets
from cutset.solvers.two_way.min_cut import CutOracle
from cutset.solvers.two_way.roles import Floats, Members, Role, TensorRoles
from cutset.solvers.two_way.two_stage import Pair, Row, shape_of

_SAME = 1e-13  # relative: a cut that is cheaper by less is no cheaper
_CELLS = 2_000_000  # questions times vertices that are asked at once


@dataclass(frozen=True)
class BlockCuts:
    """Cuts that are best for some prices: a row each of members, of coordinates in the rows, and of
    whether anything moves from the cluster's source, and to it. `complete` where none is missing.
    """

    members: Members
    points: Floats
    used: Members
    complete: bool


@dataclass(frozen=True)
class Rivals:
    """Other plans: coordinates in the rows, and whether anything moves up, and down (columns)."""

    points: Floats
    used: Members


def block_cuts(
    pair: Pair,
    oracle: CutOracle,
    rows: tuple[Row, ...],
    begin: int,
    end: int,
    rivals: Rivals,
    max_questions: int,
) -> BlockCuts:
    """The cuts inside the operators [begin, end) that are best for some prices of the rows.

    Cuts that are never better than the rivals at any latencies of the links are left out, and
    memory limits are the caller's to check.
    """
    block = _Block(pair, oracle, rows, begin, end)
    if not block.any_cut():
        return block.found(complete=True)
    scale = np.array([_size(row, pair) for row in rows])
    axes = np.eye(len(rows))
    prices = np.concatenate((axes + 1e-4, axes)) / scale
    block.ask(prices)
    block.compete(rivals)
    asked = len(prices)
    proven: set[frozenset[int]] = set()
    while True:
        # A facet that was asked for is final, or lies above a point that was found since.
        facets = lower_facets(np.concatenate((block.rivals, block.points)))
        if facets is None:
            return block.found(complete=False)
        prices = np.array([price for price, ends in facets if ends not in proven])
        proven.update(ends for _, ends in facets)
        if not len(prices) or asked + len(prices) > max_questions:
            return block.found(complete=not len(prices))
        block.ask(prices)
        asked += len(prices)


class _Block:
    """What is known of one block. Mutable: answers are added."""

    def __init__(
        self, pair: Pair, oracle: CutOracle, rows: tuple[Row, ...], begin: int, end: int
    ) -> None:
        graph = pair.problem.graph
        self._pair, self._oracle = pair, oracle
        self._constant = np.array([row.constant_s for row in rows])
        self._first = np.array([row.first for row in rows])
        self._second = np.array([row.second for row in rows])
        self._roles = np.array([[row.roles.get(role, 0.0) for role in Role] for row in rows])
        self._forbidden = frozenset(
            role
            for flow in pair.flows
            if pair.link(flow.source, flow.target) is None
            for role in flow.roles
        )
        self._seconds = [np.where(np.isinf(s), 0.0, s) for s in (pair.first_s, pair.second_s)]
        self._tensors = TensorRoles(graph)
        self._batch = CutBatch(oracle, pair.first_s, pair.second_s, self._forbidden)
        self._low, self._high = _limits(graph, begin, end)
        self.members = np.zeros((0, len(graph.operators)), np.bool_)
        self.points = np.zeros((0, len(rows)))
        self.rivals = self.points
        self._known: set[bytes] = set()
        self._levels = np.zeros((0, len(Role) + 2))
        self._answers = _packed(self.members)

    def any_cut(self) -> bool:
        """Whether any cut may run."""
        first = np.where(np.isinf(self._pair.first_s) | ~self._high, np.inf, 0.0)
        second = np.where(np.isinf(self._pair.second_s) | self._low, np.inf, 0.0)
        return self._oracle.minimise(first, second, {}, forbidden=self._forbidden) is not None

    def compete(self, rivals: Rivals) -> None:
        """From now on, look only for cuts that are better than these for some prices.

        A rival that uses no link that some cut does not use is no dearer by latencies. In no
        coordinate need a rival be better than every cut: where that decides, it would win at any
        price of the coordinate, so that cuts show at a price of 0. Rivals that vary in a coordinate
        where the cuts do not are left out: in more dimensions there are many more facets.
        """
        able = (rivals.used <= self._surely_used()).all(axis=1)
        least, most = self.points.min(axis=0), self.points.max(axis=0)
        able &= (rivals.points <= np.where(least == most, least, np.inf)).all(axis=1)
        self.rivals = np.maximum(rivals.points[able], least)

    def _surely_used(self) -> Members:
        """Whether every cut moves something up, and down."""
        graph = self._pair.problem.graph
        _, least = self._tensors.sums(np.stack((self._low, self._high)))
        sure = {
            Role.IN_FIRST: least[0, Role.IN_FIRST] > 0,
            Role.IN_SECOND: least[1, Role.IN_SECOND] > 0,
            Role.CUT: shape_of(graph).connected,
            Role.OUT_FIRST: least[0, Role.OUT_FIRST] > 0,
            Role.OUT_SECOND: least[1, Role.OUT_SECOND] > 0,
        }
        used = np.zeros(2, np.bool_)
        for flow in self._pair.flows:
            used[self._column(flow.source)] |= any(
                bool(sure.get(role, False)) for role, sign in flow.roles.items() if sign > 0
            )
        return used

    def _column(self, start: str) -> int:
        """0 for what moves up, 1 for what moves down."""
        return int(start != self._pair.problem.cluster.source)

    def ask(self, prices: Floats) -> None:
        """Add the cheapest cuts at these prices (rows)."""
        step = max(1, _CELLS // self._oracle.vertices)
        # Few questions first: their answers narrow the others.
        for few in (prices[7::8], prices[3::8], prices[1::4], prices[::2]):
            for begin in range(0, len(few), step):
                asked = few[begin : begin + step]
                first, second = asked @ self._first, asked @ self._second
                per_byte = asked @ self._roles
                levels = _levels(first, second, per_byte)
                low, high = self._narrowed(levels)
                members = self._batch.minimise(first, second, per_byte, low, high)
                self._levels = np.concatenate((self._levels, levels))
                self._answers = np.concatenate((self._answers, _packed(members)))
                self._add(members, asked)

    def _narrowed(self, levels: Floats) -> tuple[Members, Members]:
        """For each question, operators that are in, and operators that may be."""
        count = len(self._low)
        low, high = np.tile(self._low, (len(levels), 1)), np.tile(self._high, (len(levels), 1))
        told = np.ascontiguousarray(self._levels.T)
        for i, level in enumerate(levels):
            alike = (told[-2] == level[-2]) & (told[-1] == level[-1])
            above, below = alike.copy(), alike
            for column, value in zip(told[:-2], level[:-2], strict=True):
                above &= column >= value
                below &= column <= value
            if above.any():
                within = np.bitwise_and.reduce(self._answers[above], axis=0)
                high[i] &= _unpacked(within, count)
            if below.any():
                holds = np.bitwise_or.reduce(self._answers[below], axis=0)
                low[i] |= _unpacked(holds, count) & high[i]
        return low, high

    def _add(self, members: Members, prices: Floats) -> None:
        """Add those cuts that are cheaper than any known at the prices that they answer."""
        bytes_, _ = self._tensors.sums(members)
        points = (
            self._constant
            + np.outer(members @ self._seconds[0], self._first)
            + np.outer(~members @ self._seconds[1], self._second)
            + bytes_ @ self._roles.T
        )
        new = np.ones(len(members), np.bool_)
        rivals = np.concatenate((self.rivals, self.points))
        if len(rivals):
            best = (prices @ rivals.T).min(axis=1)
            new = (prices * points).sum(axis=1) < best * (1 - _SAME)
        keys = [row.tobytes() for row in _packed(members)]
        for i, key in enumerate(keys):
            new[i] &= key not in self._known
            if new[i]:
                self._known.add(key)
        self.members = np.concatenate((self.members, members[new]))
        self.points = np.concatenate((self.points, points[new]))

    def found(self, *, complete: bool) -> BlockCuts:
        used = np.zeros((len(self.members), 2), np.bool_)
        _, count = self._tensors.sums(self.members)
        for flow in self._pair.flows:
            amount = sum(count[:, role] * sign for role, sign in flow.roles.items())
            used[:, self._column(flow.source)] |= np.asarray(amount) > 0
        # A cut that moves nothing one way has the least bytes that way, and shows where they are
        # dear; but one that moves tensors of no bytes may hide it, and pays the link's latency.
        tensors = self._pair.problem.graph.tensors.values()
        told = bool(self._surely_used().all()) or all(t.size_bytes > 0 for t in tensors)
        return BlockCuts(self.members, self.points, used, complete and told)


def _limits(graph: Graph, begin: int, end: int) -> tuple[Members, Members]:
    """Operators that every cut inside the block has in its first part, and those it may have.

    With the block's one last operator the whole block is in, and without its one first operator
    none of it: those cuts are prefixes, which are listed.
    """
    count = len(graph.operators)
    low, high = np.zeros(count, np.bool_), np.ones(count, np.bool_)
    low[:begin], high[end:] = True, False
    first = [i for i in range(begin, end) if all(j < begin for j in graph.predecessors[i])]
    last = [i for i in range(begin, end) if all(j >= end for j in graph.successors[i])]
    if len(first) == 1:
        low[first] = True
    if len(last) == 1:
        high[last] = False
    return low, high


def _levels(first: Floats, second: Floats, per_byte: Floats) -> Floats:
    """Prices per byte that crosses (where that is free, per second in the first part), such that
    where the last two columns are the same and no other is lower, a cheapest first part holds no
    less."""
    signs = {Role.IN_FIRST: -1, Role.IN_SECOND: 1, Role.OUT_FIRST: -1, Role.OUT_SECOND: 1}
    columns = [-first, second, *(sign * per_byte[:, role] for role, sign in signs.items())]
    fixed = per_byte[:, [Role.CUT, Role.CUT_OUTPUT]]
    unit = np.where(fixed[:, 0] > 0, fixed[:, 0], np.where(first > 0, first, 1.0))
    return np.asarray(np.column_stack((*columns, fixed)) / unit[:, None])


def _packed(members: Members) -> NDArray[np.uint64]:
    """Rows of bits; whole words, for speed."""
    count = members.shape[1]
    padded = np.zeros((len(members), -(-count // 64) * 64), np.bool_)
    padded[:, :count] = members
    return np.packbits(padded, axis=1).view(np.uint64)


def _unpacked(words: NDArray[np.uint64], count: int) -> Members:
    return np.unpackbits(words.view(np.uint8), count=count).astype(np.bool_)


def _size(row: Row, pair: Pair) -> float:
    """What a row may at most amount to: its scale."""
    first = pair.first_s[np.isfinite(pair.first_s)].sum() * row.first
    second = pair.second_s[np.isfinite(pair.second_s)].sum() * row.second
    tensors = sum(t.size_bytes for t in pair.problem.graph.tensors.values())
    return float(first + second + tensors * max(row.roles.values(), default=0.0)) or 1.0
