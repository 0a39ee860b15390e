"""The best pipeline: a simple path of devices, each with a range of whole blocks.

Asked again and again: is there a pipeline within a threshold of seconds? `backward` answers for
walks, a relaxation, and so gives a lower bound; `descend` answers exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from cutset.plan import Plan
from cutset.problem import Budget, Problem, Proposal
from cutset.solvers.arrays import Floats
from cutset.solvers.block_chain import BlockChain, block_chain
from cutset.solvers.scopes import PIPELINES
from cutset.solvers.search import infeasible, single_stage, value_of

_CLOSED = 5e-10  # relative: a proof that nothing is better by more than this is a proof
_ROUNDING = 1e-11  # relative: sums in another order than the evaluator's
_STEPS = 20_000  # of a search between two looks at the clock


def _loose(beta: float) -> float:
    """A threshold that no rounding keeps a pipeline from, nor bytes that stand for none."""
    return beta * (1 + _ROUNDING) + 1e-90


@dataclass
class Search:
    """One search for the best pipeline. Mutable: the best plan and the bound so far."""

    problem: Problem
    budget: Budget
    chain: BlockChain
    plan: Plan | None = None
    value_s: float = math.inf
    bound_s: float = 0.0
    slack: Floats = field(init=False)
    hop: Floats = field(init=False)

    def __post_init__(self) -> None:
        shape = (len(self.chain.arrays.makers), len(self.chain.names))
        self.slack, self.hop = np.empty(shape), np.empty(shape)

    def offer(self, plan: Plan) -> float:
        value = value_of(self.problem, plan)
        if value < self.value_s:
            self.plan, self.value_s = plan, value
            self.budget.report(plan)
        return value

    def raise_bound(self, bound_s: float) -> None:
        if bound_s > self.bound_s:
            self.bound_s = bound_s
            if self.plan is not None:
                self.budget.report(self.plan, min(bound_s, self.value_s), PIPELINES)

    def walk(self, beta: float) -> bool | None:
        """Whether a walk is within beta; None where time ran out. Fills slack and hop."""
        from cutset.solvers import pipeline_kernels as kernels

        ch = self.chain.arrays
        n, m = ch.compute_s.shape
        rows = max(1, 5_000_000 // (n * (m + n) * 4))
        for high in range(m - 1, -1, -rows):
            if self.budget.exhausted():
                return None
            low = max(0, high - rows + 1)
            kernels.backward(ch, _loose(beta), high, low, self.slack, self.hop)
        return bool((self.slack[ch.makers_at[0]] >= 0).any())

    def walk_bound(self, high: float) -> None:
        """Raise the bound to the least threshold with a walk; `high` has one."""
        low = 0.0
        if self.walk(0.0):
            return
        while high - low > 1e-12 * high and high > 1e-15:
            middle = (low + high) / 2 if low > high / 32 else high / 16
            found = self.walk(middle)
            if found is None:
                break
            if found:
                high = middle
            else:
                low = middle
                self.raise_bound(low)

    def exact(self, beta: float) -> bool | None:
        """Whether a pipeline is within beta; a better one is kept. None where time ran out."""
        from cutset.solvers import pipeline_kernels as kernels

        if not self.walk(beta):
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
            stages = kernels.descend(ch, trail, _loose(beta), self.slack, self.hop, _STEPS)
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
    if not search.walk(high):
        raise infeasible(problem, None)
    search.walk_bound(high)
    beta = search.bound_s * (1 + 1e-9)
    done = False
    while not done and search.bound_s < search.value_s * (1 - _CLOSED):
        last = top if search.plan is None else search.value_s * (1 - _CLOSED)
        beta = min(beta, last)
        found = search.exact(beta)
        if found is None:
            break
        if not found:
            search.raise_bound(beta)
            done = beta == last
            beta = last
    if search.plan is None:
        raise infeasible(problem, None)
    if done:
        search.raise_bound(search.value_s)
    return Proposal(search.plan, min(search.bound_s, search.value_s), PIPELINES)
