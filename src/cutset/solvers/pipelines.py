"""The best pipeline: a simple path of devices, each with a range of whole blocks.

Asked again and again: is there a pipeline within a threshold of seconds? Where no walk is, there is
none (the bound); a simple path is one, once the evaluator has confirmed it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from cutset.plan import Plan
from cutset.problem import Budget, Problem, Proposal
from cutset.solvers.arrays import Floats, Ints
from cutset.solvers.block_chain import BlockChain, block_chain, in_order
from cutset.solvers.pipeline_walks import REMEMBERED, Path, Walks, loose
from cutset.solvers.scopes import PIPELINES
from cutset.solvers.search import infeasible, single_stage, value_of

_CLOSED = 5e-10  # relative: a proof that nothing is better by more than this is a proof
_STEPS = 20_000  # of a descent between two looks at the clock


@dataclass
class Search:
    """One search for the best pipeline. Mutable: the best plan and the bound so far."""

    problem: Problem
    budget: Budget
    chain: BlockChain
    plan: Plan | None = None
    value_s: float = math.inf
    bound_s: float = 0.0
    walks: Walks = field(init=False)
    memory: Ints = field(init=False)
    forgotten: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        ch = self.chain.arrays
        n = len(ch.limit)
        self.walks = Walks(ch, self.budget)
        bits = [1 << d if d < REMEMBERED else 0 for d in range(n)]
        self.memory = np.array([sum(bits) if n <= 10 else bits[d] for d in range(n)])

    @property
    def closed_s(self) -> float:
        """A pipeline must be within this to be worth finding."""
        return self.value_s * (1 - _CLOSED)

    def offer(self, plan: Plan) -> float:
        value = value_of(self.problem, plan)
        if value < self.value_s:
            self.plan, self.value_s = plan, value
            self.budget.report(plan)
        return value

    def offer_path(self, path: Path) -> float:
        """Also with its devices' best cuts, and without some of them."""
        value = self.offer(self.chain.plan(self.problem.graph, *path))
        walks = Walks(in_order(self.chain.arrays, path[0]), self.budget)
        high = min(value, self.value_s)
        if not walks.walk(high * (1 - 1e-6)):
            return value
        _, high = walks.least(self.bound_s, high, 1e-9)
        if walks.arranged(high) and isinstance(better := walks.search(0 * self.memory, 20_000), tuple):
            value = min(value, self.offer(self.chain.plan(self.problem.graph, *better)))
        return value

    def raise_bound(self, bound_s: float) -> None:
        if bound_s > self.bound_s:
            self.bound_s = bound_s
            if self.plan is not None:
                self.budget.report(self.plan, min(bound_s, self.value_s), PIPELINES)

    def decide(self, beta: float, room: int, width: int) -> bool | None:
        """Whether a pipeline is within beta; a better one is kept. None where it is not known."""
        if (found := self.walks.arranged(beta)) is not True:
            return found
        path = self.walks.beam(self._score, self._weight, width)
        if path is not None and self.offer_path(path) <= loose(beta):
            return True
        while True:
            walk = self.walks.search(self.memory, room)
            if not isinstance(walk, tuple):
                return walk
            if len(set(walk[0])) == len(walk[0]):
                return True if self.offer_path(walk) <= loose(beta) else None
            self._remember(walk[0])

    def _remember(self, devices: list[int]) -> None:
        """Make the walk impossible: what comes again is remembered in between."""
        last: dict[int, int] = {}
        for j, d in enumerate(devices):
            if d in last and d < REMEMBERED:
                bit = 1 << d
                if d in self.forgotten:
                    self.memory |= bit
                else:
                    self.memory[devices[last[d] : j]] |= bit
                    self.forgotten.add(d)
            last[d] = j

    @property
    def _weight(self) -> Floats:
        """[2, N] speed and memory of the devices."""
        ch = self.chain.arrays
        total = np.where(np.isfinite(ch.compute_s), ch.compute_s, 1e30).sum(axis=1)
        memory = np.minimum(ch.limit - ch.stage_memory, ch.memory.sum() + 1)
        return np.array([1 / np.maximum(total, 1e-30), np.maximum(memory, 0.0)])

    @property
    def _score(self) -> Floats:
        """[2, M + 1] compute and memory behind a cut, in the units of `_weight`."""
        ch = self.chain.arrays
        typical = np.median(np.where(np.isfinite(ch.compute_s), ch.compute_s, 0.0), axis=0)
        behind = [np.append(x[::-1].cumsum()[::-1], 0.0) for x in (typical, ch.memory)]
        return np.array([behind[0] / max(behind[0][0], 1e-300) / self.bound_or_one, behind[1]])

    @property
    def bound_or_one(self) -> float:
        return self.bound_s or 1.0

    def exact(self, beta: float) -> bool | None:
        """Whether a pipeline is within beta; a better one is kept. None where time ran out."""
        from cutset.solvers import pipeline_kernels as kernels

        if not self.walks.walk(beta):
            return None if self.budget.exhausted() else False
        ch = self.chain.arrays
        n, m = ch.compute_s.shape
        t = len(ch.maker)
        trail = kernels.Trail(
            device=np.zeros(n + 1, dtype=np.int64),
            begin=np.zeros(n + 1, dtype=np.int64),
            end=np.zeros(n + 1, dtype=np.int64),
            choice=np.zeros(n + 1, dtype=np.int64),
            used=np.zeros(n, dtype=np.bool_),
            holder=np.zeros(m, dtype=np.int64),
            busy=np.zeros((n + 1, n)),
            egress=np.zeros((n + 1, n)),
            ingress=np.zeros((n + 1, n)),
            slowest=np.zeros((n + 1, t)),
            at_sink=np.zeros((n + 1, t), dtype=np.bool_),
            stamp=np.zeros(t, dtype=np.int64),
            depth=np.zeros(1, dtype=np.int64),
            clock=np.zeros(1, dtype=np.int64),
        )
        kernels.start(ch, trail)
        stages = -1
        while stages < 0:
            if self.budget.exhausted():
                return None
            stages = kernels.descend(
                ch, trail, loose(beta), self.walks.slack, self.walks.hop, _STEPS
            )
        if stages == 0:
            return False
        self.offer(
            self.chain.plan(
                self.problem.graph,
                trail.device[1 : stages + 1].tolist(),
                trail.end[1 : stages + 1].tolist(),
            )
        )
        return True


def best_pipeline(problem: Problem, budget: Budget) -> Proposal:
    """The pipeline of least period, with a lower bound on all of them.

    The bound equals the value unless the budget ended the search first. Raises InfeasibleError that
    names a relaxation.
    """
    search = Search(problem, budget, block_chain(problem))
    for device in problem.cluster.devices:
        search.offer(single_stage(problem, device.name))
    ch = search.chain.arrays
    finite = ch.wire[np.isfinite(ch.wire)]
    rate = finite.max(initial=0.0) + ch.send.max() + ch.recv.max()
    compute = np.where(np.isfinite(ch.compute_s), ch.compute_s, 0.0).max(axis=0).sum()
    top = (ch.overhead.max() + compute + 2 * len(ch.limit) * rate * ch.bytes_.sum()) * 2 + 1e-9
    high = min(search.value_s, float(top))
    if not search.walks.walk(high):
        raise infeasible(problem, None)
    search.raise_bound(search.walks.least(0.0, high, 1e-12)[0])
    _close(search, float(top))
    if search.plan is None:
        raise infeasible(problem, None)
    return Proposal(search.plan, min(search.bound_s, search.value_s), PIPELINES)


def _close(search: Search, top: float) -> None:
    """Bring bound and value together, by thresholds between them.

    What is not decided within an effort is left for later, when nothing else is open.
    """
    effort = 0
    low = high = math.nan  # between these, this effort decides nothing
    beta = search.bound_s * (1 + 1e-9)
    while search.bound_s < search.closed_s and not search.budget.exhausted():
        last = min(search.closed_s, top)
        beta = min(max(beta, search.bound_s), last)
        if effort < 4:
            found = search.decide(beta, 20_000 * 5**effort, 50 * 3**effort)
        else:
            found = search.exact(beta)
        if found is False:
            search.raise_bound(beta)
            if beta == last:
                search.raise_bound(search.value_s)
                return
        elif found is None:
            low = beta if math.isnan(low) else min(low, beta)
            high = beta if math.isnan(high) else max(high, beta)
        last = min(search.closed_s, top)
        beta, stuck = _next(search.bound_s, last, low, high)
        if stuck:
            effort += 1
            low = high = math.nan
            beta, _ = _next(search.bound_s, last, low, high)


def _next(bound: float, last: float, low: float, high: float) -> tuple[float, bool]:
    """The next threshold to decide, and whether what is not known leaves none."""
    near = 1.002
    if math.isnan(low):
        return (last if last <= bound * near else math.sqrt(max(bound, last / 1e6) * last)), False
    if high * near < last:
        return math.sqrt(high * last), False
    if high < last:
        return last, False
    if bound * near < low:
        return math.sqrt(bound * low), False
    return last, True
