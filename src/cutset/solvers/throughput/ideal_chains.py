"""The best plan of one stage a device among chains of down-sets: bounds, and a search that proves.

Such a plan is a chain of down-sets, each step on another device (ideals.py). For a threshold T,
1. a step is allowed on a device if the stage alone costs no more than T there, at least;
2. a dynamic program says from which down-sets everything can be finished by allowed steps, with how
   many devices of each class (devices of one class are alike; where that gives too many states,
   classes are merged, and a step is allowed if it is for one of them: a relaxation);
3. if from nothing one cannot: no plan has a period of T or less. The next step's cost above T is a
   bound. Otherwise a depth-first search builds chains with the true loads so far, of which loads
   only grow, and leaves out what 2. rules out. If it ends without a plan, there is none.
With the family of all down-sets this is exact for all plans of one stage a device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from cutset.problem import Budget, Problem
from cutset.solvers.arrays import Floats, Ints
from cutset.solvers.throughput.device_classes import device_classes, twins
from cutset.solvers.throughput.ideals import IdealArrays, Words
from cutset.solvers.throughput.period_model import period_model

_ANY = 1e300  # seconds: a threshold that holds for every plan that can run
_KEPT_BYTES = 300_000_000
_PIECE = 3_000_000  # steps of a loop in one call of compiled code: some 20 ms


class _Stages(NamedTuple):
    """From which down-set to which, and seconds by kind; `above_s`: the least cost left out."""

    listed: tuple[Ints, Ints, Floats]
    above_s: float


class Chains:
    """The search in one family of down-sets. Mutable: it keeps the arrays of the last threshold.

    `bound_s` is a proven lower bound for the family's plans, in seconds; `ceiling_s` is what the
    thresholds to come stay below, as far as known.
    """

    def __init__(
        self,
        problem: Problem,
        arrays: IdealArrays,
        budget: Budget,
        report: Callable[[float], None] = lambda bound_s: None,
    ) -> None:
        """`report` is told each rise of the bound."""
        self.model = period_model(problem)
        self.arrays = arrays
        self.budget = budget
        self.classes = device_classes(self.model)
        self._twin = twins(self.model)
        self.bound_s = 0.0
        self._report = report
        self.ceiling_s = 0.0
        self._kept: tuple[float, list[_Stages]] | None = None
        self._threshold = -1.0
        n = len(arrays.member)
        self._ok: Words = np.zeros((len(self.classes.kinds), n, (n + 63) // 64), dtype=np.uint64)
        self._reached: Words = np.zeros((0, 0), dtype=np.uint64)

    @cached_property
    def _order(self) -> Ints:
        """Devices in the order in which the search tries them: fast ones first."""
        finite = np.where(np.isfinite(self.model.compute_s), self.model.compute_s, np.inf)
        return np.argsort(finite.sum(axis=1) + self.model.overhead_s, kind="stable")

    def possible(self, threshold_s: float) -> bool | None:
        """Whether the relaxation has a chain within the threshold; None when time is up.

        If it has none, `bound_s` rises to the next cost above the threshold.
        """
        from cutset.solvers.throughput import ideal_kernels as kernels

        c = self.classes
        _, n, width = self._ok.shape
        columns: Words = np.zeros((len(c.counts), n, width), dtype=np.uint64)
        self._ok[:] = 0
        self._threshold = -1.0
        above = math.inf
        within = threshold_s + self._tolerance(threshold_s)
        for stages in self._stages(within):
            if stages is None:
                return None
            found = kernels.mark(*stages.listed, within, self._ok, columns, c.class_of)
            above = min(above, stages.above_s, float(found))
        reached: Words = np.zeros((c.states, width), dtype=np.uint64)
        reached[0, (n - 1) >> 6] = np.uint64(1) << np.uint64((n - 1) & 63)
        step = max(_PIECE // (n * width * len(c.counts)), 1)
        for begin in range(0, c.states, step):
            if self.budget.exhausted():
                return None
            kernels.reach(columns, c.counts, c.strides, begin, min(begin + step, c.states), reached)
        self._threshold, self._reached = threshold_s, reached
        if int(reached[-1, 0]) & 1:
            return True
        self._raise(max(threshold_s, above - self._tolerance(above)))
        return False

    def _tolerance(self, threshold_s: float) -> float:
        """What differences of sums may be off by; steps count as allowed within it."""
        if math.isinf(threshold_s):
            return 0.0
        work = float(self.arrays.work[:, -1].max(initial=0.0))
        return max(1e-11 * threshold_s, 1e-15 * len(self.model.op_memory) * work)

    def _stages(self, limit_s: float) -> Iterator[_Stages | None]:
        """All stages that cost no more than the limit, in pieces; None when time is up.

        Kept for lower limits where memory allows.
        """
        if self._kept is not None and limit_s <= self._kept[0]:
            yield from self._kept[1]
            return
        self._kept = None
        limit = max(limit_s, self.ceiling_s + self._tolerance(self.ceiling_s))
        pieces: list[_Stages] | None = []
        size = 0
        for stages in self._made(limit if limit < _ANY else limit_s):
            yield stages
            if stages is None:
                return
            if pieces is not None:
                pieces.append(stages)
                size += stages.listed[2].nbytes + 2 * stages.listed[0].nbytes
                if size > _KEPT_BYTES:
                    pieces = None
        if pieces is not None:
            self._kept = limit, pieces

    def _made(self, limit_s: float) -> Iterator[_Stages | None]:
        from cutset.solvers.throughput.ideal_kernels import stage_costs

        n, kinds = len(self.arrays.member), self.classes.kinds
        step = min(max(_PIECE // (n * (4 + len(kinds))), 1), n)
        first, last = np.empty((2, step * n), dtype=np.int64)
        cost = np.empty((step * n + 1, len(kinds)))
        for begin in range(0, n, step):
            if self.budget.exhausted():
                yield None
                return
            end = min(begin + step, n)
            count, above = stage_costs(
                self.model, self.arrays, kinds, limit_s, begin, end, first, last, cost
            )
            listed = first[:count].copy(), last[:count].copy(), cost[:count].copy()
            yield _Stages(listed, float(above))

    def _raise(self, bound_s: float) -> None:
        if bound_s > self.bound_s:
            self.bound_s = bound_s
            self._report(bound_s)

    def search(self, threshold_s: float, nodes: int) -> tuple[Ints | None, bool]:
        """(a placement within the threshold or None, whether it is certain that there is none).

        At most `nodes` partial plans are looked at.
        """
        from cutset.solvers.throughput import ideal_kernels as kernels

        if self._threshold != threshold_s:
            possible = self.possible(threshold_s)
            if not possible:
                return None, possible is False
        m, c, arrays = self.model, self.classes, self.arrays
        devices, operators = m.compute_s.shape
        n = len(arrays.member)
        path, device = np.zeros((2, devices + 1), dtype=np.int64)
        candidate = np.full(devices + 1, n - 1, dtype=np.int64)
        state = np.array([0, c.states - 1], dtype=np.int64)
        device_of = np.full(operators, -1, dtype=np.int64)
        piece = max(_PIECE // (8 * (operators + len(m.readers) + len(m.bytes_))), 1)
        while nodes > 0 and not self.budget.exhausted():
            outcome = kernels.chains(
                m,
                arrays,
                self._ok,
                c.kind_of,
                c.class_of,
                c.strides,
                self._reached,
                self._order,
                self._twin,
                threshold_s,
                path,
                device,
                candidate,
                state,
                device_of,
                min(piece, nodes),
            )
            nodes -= piece
            if outcome == 1:
                return device_of, False
            if outcome == 0:
                self._raise(threshold_s if threshold_s < _ANY else math.inf)
                return None, True
        return None, False


Offer = Callable[[Ints], float]


def search_chains(
    chains: Chains, value_s: float, offer: Offer, rounds: Sequence[int], closed: float = 1e-10
) -> float:
    """Close the gap between `chains.bound_s` and the best value; returns the best value.

    `offer` is given each placement that is found, may improve on it, and returns the best value
    known, in seconds. `rounds` are numbers of partial plans to look at for each threshold.
    """
    budget = chains.budget
    best = value_s

    def just_below() -> float:
        return best * (1 - closed) if math.isfinite(best) else _ANY

    def is_open() -> bool:
        return chains.bound_s < just_below() and not budget.exhausted()

    chains.ceiling_s = just_below()
    if not is_open() or chains.possible(just_below()) is not True:
        return best
    for nodes in rounds:
        again = True
        while again and is_open():
            again = False
            _tighten(chains, just_below())
            for share in (2e-3, 2e-2, 0.1, 0.25, 0.5, 1.0):
                if not is_open():
                    break
                high = just_below()
                if math.isfinite(best):
                    threshold = min(chains.bound_s + share * (high - chains.bound_s), high)
                else:
                    threshold = _ANY if share == 1.0 else 2 * chains.bound_s * (1 + share)
                found, _ = chains.search(threshold, nodes)
                if found is not None:
                    value = offer(found)
                    again = value < best
                    best = min(best, value)
                    chains.ceiling_s = just_below()
                    break
    return best


def _tighten(chains: Chains, high_s: float) -> None:
    """Raise the bound to within 0.1% of what the relaxation can prove."""
    low = chains.bound_s
    if high_s >= _ANY:
        high_s = max(low, 1e-9)
        while chains.possible(high_s) is False:
            low = chains.bound_s
            high_s = 2 * max(low, high_s)
    while high_s - low > 1e-3 * high_s:
        possible = chains.possible((low + high_s) / 2)
        if possible is None:
            return
        if possible:
            high_s = (low + high_s) / 2
        else:
            low = chains.bound_s
