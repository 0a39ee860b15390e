"""Best two-stage plans where cuts are too many to list: min-cut bounds, and branching.

A subproblem fixes some operators to the first and some to the second part. Its bound is the best
min-cut over convex combinations of the pair's rows (the evaluator takes their maximum; this is
Lagrangian relaxation, by cutting planes), and where the cheapest cut does not fit the memory, of a
multiplier on memory too. Branching decides an operator at the cheapest cut.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from cutset.graph import Graph
from cutset.problem import Budget, Objective
from cutset.solvers.two_way.min_cut import CutOracle
from cutset.solvers.two_way.roles import Floats, Members, moving
from cutset.solvers.two_way.two_stage import Pair, Row, mix

_ROUNDS = 24  # of cutting planes for a subproblem with several rows
_PATIENCE = 50
_MEMORY_ROUNDS = 24  # of bisection on the multiplier of memory
_ROUGHLY = 1e-4  # relative: where cutting planes stop
_CLOSED = 1e-10  # relative: a subproblem this close to the best plan is done


@dataclass(frozen=True)
class _Subproblem:
    """Masks of operators that are fixed to the first or to the second part."""

    first: int
    second: int


class BranchAndBound:
    """Searches the cuts of one pair inside one range of operators.

    `offer` is given each promising cut, evaluates its plan, keeps the best of all and returns the
    best value known, in seconds. `run` returns a lower bound on every cut of the range.
    """

    def __init__(
        self,
        pair: Pair,
        oracle: CutOracle,
        objective: Objective,
        offer: Callable[[Pair, tuple[int, ...]], float],
    ) -> None:
        self.pair = pair
        self.graph: Graph = pair.problem.graph
        self.oracle = oracle
        self.rows = pair.rows(objective)
        self.offer = offer
        self.memory = np.array([float(op.memory_bytes) for op in self.graph.operators])
        self.least_memory, self.most_memory = pair.memory_left()
        self.forbidden = frozenset(
            role
            for flow in pair.flows
            if pair.link(flow.source, flow.target) is None
            for role, sign in flow.roles.items()
            if sign > 0
        )
        self._descendants = _descendants(self.graph)

    def run(self, begin: int, end: int, best: float, budget: Budget, max_subproblems: int) -> float:
        """Lower bound on all cuts whose prefix is [0, begin) and whose rest is [end, …)."""
        root = self._decided(begin, end)
        order = itertools.count()
        open_: list[tuple[float, int, _Subproblem, int | None]] = []
        bound, best, choice = self._solve(root, best)
        heapq.heappush(open_, (bound, next(order), root, choice))
        solved = 1
        while open_:
            bound, _, subproblem, choice = open_[0]
            if bound >= best * (1 - _CLOSED):
                return bound  # subproblems come in the order of their bounds
            if choice is None:  # one cut, and it has been evaluated
                heapq.heappop(open_)
                continue
            patience = 1 if math.isfinite(best) else _PATIENCE  # without any plan, look longer
            if solved >= max_subproblems * patience or budget.exhausted():
                return bound
            heapq.heappop(open_)
            bit = 1 << choice
            for child in (
                _Subproblem(
                    subproblem.first | bit | self.graph.ancestors[choice], subproblem.second
                ),
                _Subproblem(subproblem.first, subproblem.second | bit | self._descendants[choice]),
            ):
                if child.first & child.second:
                    continue
                child_bound, best, child_choice = self._solve(child, best)
                solved += 1
                child_bound = max(bound, child_bound)
                heapq.heappush(open_, (child_bound, next(order), child, child_choice))
        return math.inf

    def _solve(self, subproblem: _Subproblem, best: float) -> tuple[float, float, int | None]:
        """Bound of a subproblem, the best value known after it, and the operator to decide next.

        The bound is inf where the subproblem holds no cut that is cheaper than the best.
        """
        rows, count = self.rows, len(self.graph.operators)
        fixed = (_members(subproblem.first, count), _members(subproblem.second, count))
        shares = np.full(len(rows), 0.1 / len(rows))
        shares[0] += 0.9  # the first row is the one that usually decides
        bound, closest, lowest = 0.0, None, math.inf
        seen: list[Floats] = []
        for _ in range(_ROUNDS):
            value, members = self._cheapest(self._mixed(shares), 0.0, fixed, best)
            if members is None:
                return math.inf, best, None
            bound = max(bound, value)
            values = np.array([self._value(row, members) for row in rows])
            seen.append(values)
            if closest is None or float(values.max()) < lowest:
                closest, lowest = members, float(values.max())
            if float(values.max()) < best and self._fits(members):
                best = min(best, self.offer(self.pair, _positions(members)))
            if bound >= best * (1 - _CLOSED) or len(rows) == 1:
                break
            shares, reachable = _best_shares(seen)
            if bound >= reachable * (1 - _ROUGHLY):
                break
        assert closest is not None
        if not self._fits(closest) and bound < best:
            bound, best = self._with_memory(self._mixed(shares), fixed, bound, best)
        return bound, best, self._to_decide(closest, subproblem)

    def _mixed(self, shares: Floats) -> Row:
        return mix(zip(shares.tolist(), self.rows, strict=True))

    def _with_memory(
        self, row: Row, fixed: tuple[Members, Members], bound: float, best: float
    ) -> tuple[float, float]:
        """Bisection on the multiplier of memory; feasible cuts on the way are offered."""
        low, high = 0.0, math.inf
        total = float(self.memory.sum()) or 1.0
        sign = 0.0
        multiplier = 0.0
        for _ in range(_MEMORY_ROUNDS):
            value, members = self._cheapest(row, multiplier * sign, fixed, best)
            if members is None:
                return math.inf, best
            bound = max(bound, value)
            used = float(self.memory[members].sum())
            if self._fits(members):
                best = min(best, self.offer(self.pair, _positions(members)))
                high = multiplier
            elif sign == 0.0:
                sign = 1.0 if used > self.most_memory else -1.0
            elif (used > self.most_memory) == (sign > 0):
                low = multiplier
            else:
                high = multiplier
            if math.isinf(high):
                multiplier = max(multiplier * 4, best / total / 64 if math.isfinite(best) else 1e-9)
            else:
                multiplier = (low + high) / 2
            if bound >= best * (1 - _CLOSED):
                break
        return bound, best

    def _cheapest(
        self, row: Row, multiplier: float, fixed: tuple[Members, Members], best: float
    ) -> tuple[float, Members | None]:
        """min over cuts of row + multiplier·(memory of the first part − its limit).

        A positive multiplier presses on the first device's memory, a negative on the second's.
        """
        first = _times(row.first, self.pair.first_s)
        second = _times(row.second, self.pair.second_s)
        constant = row.constant_s
        if multiplier > 0:
            first = first + multiplier * self.memory
            constant -= multiplier * self.most_memory
        elif multiplier < 0:
            second = second - multiplier * self.memory
            constant -= -multiplier * (float(self.memory.sum()) - self.least_memory)
        first = np.where(np.isinf(self.pair.first_s) | fixed[1], np.inf, first)
        second = np.where(np.isinf(self.pair.second_s) | fixed[0], np.inf, second)
        ceiling = (best - constant) * 1.01 if math.isfinite(best) else math.inf
        if ceiling <= 0:
            return math.inf, None
        cut = self.oracle.minimise(
            first, second, row.roles, forbidden=self.forbidden, ceiling=ceiling
        )
        if cut is None:
            return math.inf, None
        return cut.value + constant, cut.first_part

    def _decided(self, begin: int, end: int) -> _Subproblem:
        """What every cut inside the range has in common.

        Both parts hold some of its operators: the first then holds the one without predecessors in
        the range, the second the one without successors, where there is only one.
        """
        inside = range(begin, end)
        heads = [i for i in inside if all(j < begin for j in self.graph.predecessors[i])]
        tails = [i for i in inside if all(j >= end for j in self.graph.successors[i])]
        first, second = (1 << begin) - 1, ((1 << len(self.graph.operators)) - 1) >> end << end
        if len(heads) == 1:
            first |= 1 << heads[0]
        if len(tails) == 1:
            second |= 1 << tails[0]
        return _Subproblem(first, second)

    def _value(self, row: Row, members: Members) -> float:
        return row.constant_s + row_value(self.pair, row, members)

    def _fits(self, members: Members) -> bool:
        """Whether both parts hold operators and both devices hold their part."""
        if members.all() or not members.any():
            return False
        return self.least_memory <= float(self.memory[members].sum()) <= self.most_memory

    def _to_decide(self, members: Members, subproblem: _Subproblem) -> int | None:
        """An undecided operator at the cut: next to its largest tensor; else any undecided one."""
        decided = subproblem.first | subproblem.second
        graph = self.graph
        found: list[tuple[int, int]] = []
        for name, readers in graph.consumers.items():
            producer = graph.producers.get(name)
            if producer is not None and not members[producer]:
                continue
            ends = [r for r in readers if not members[r]]
            if ends:
                size = graph.tensors[name].size_bytes
                if producer is not None:
                    ends.append(producer)
                found += [(-size, i) for i in ends if not decided >> i & 1]
        if found:
            return min(found)[1]
        free = [i for i in range(len(graph.operators)) if not decided >> i & 1]
        return free[len(free) // 2] if free else None


def _best_shares(seen: list[Floats]) -> tuple[Floats, float]:
    """The convex combination of rows whose least value over the cuts seen is greatest, and it."""
    table = np.array(seen)
    scale = float(table.max()) or 1.0
    count = table.shape[1]
    solved = linprog(
        np.array([*[0.0] * count, -1.0]),
        A_ub=np.hstack((-table / scale, np.ones((len(table), 1)))),
        b_ub=np.zeros(len(table)),
        A_eq=np.array([[*[1.0] * count, 0.0]]),
        b_eq=np.ones(1),
        bounds=[*[(0.0, 1.0)] * count, (None, None)],
        method="highs",
    )
    shares = np.clip(solved.x[:count], 0.0, 1.0)
    return shares / shares.sum(), -float(solved.fun) * scale


def row_value(pair: Pair, row: Row, members: Members) -> float:
    """A row at one cut, without its constant."""
    total = _times(row.first, pair.first_s)[members].sum()
    total += _times(row.second, pair.second_s)[~members].sum()
    for role, size in moving(pair.problem.graph, members):
        if size:  # without a link a byte costs inf, but no byte costs nothing
            total += row.roles.get(role, 0.0) * size
    return float(total)


def _times(weight: float, seconds: Floats) -> Floats:
    """weight·seconds, where 0·inf is 0: what must not run there is fixed elsewhere."""
    return np.where(np.isinf(seconds), 0.0, seconds) * weight


def _members(mask: int, count: int) -> Members:
    raw = np.frombuffer(mask.to_bytes((count + 7) // 8, "little"), dtype=np.uint8)
    return np.unpackbits(raw, bitorder="little")[:count].astype(np.bool_)


def _positions(members: Members) -> tuple[int, ...]:
    return tuple(np.flatnonzero(members).tolist())


def _descendants(graph: Graph) -> tuple[int, ...]:
    masks = [0] * len(graph.operators)
    for i in range(len(masks) - 1, -1, -1):
        for j in graph.successors[i]:
            masks[i] |= masks[j] | 1 << j
    return tuple(masks)
