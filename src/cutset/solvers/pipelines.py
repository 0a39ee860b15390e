"""The best pipeline: a simple path of devices, each with a range of whole blocks.

Asked again and again: is there a pipeline within a threshold of seconds? `backward` answers for
walks, a relaxation, and so gives a lower bound; `descend` answers exactly.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cutset.plan import Plan
from cutset.problem import Budget, Problem, Proposal
from cutset.solvers.block_chain import BlockChain, block_chain
from cutset.solvers.scopes import PIPELINES
from cutset.solvers.search import infeasible, single_stage, value_of

if TYPE_CHECKING:
    from cutset.solvers import pipeline_kernels as kernels

_CLOSED = 5e-10  # relative: a proof that nothing is better by more than this is a proof
_ROUNDING = 1e-11  # relative: sums in another order than the evaluator's
_LABELS = 1_000_000
_FRONT = 100
_MAX_ARCS = 8_000_000
_BITS = 62
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
    forgot: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ch = self.chain.arrays
        n = len(self.chain.names)
        shape = (len(ch.makers), n)
        self.slack, self.hop = np.empty(shape), np.empty(shape)
        self.free = np.zeros(shape, dtype=np.bool_)
        self.cut_of = np.repeat(np.arange(len(ch.makers_at) - 1), np.diff(ch.makers_at))
        self.arcs = self._arcs(0)
        # What a walk that comes to a device remembers: at first, its ten nearest neighbours.
        self.memory = np.array(
            [sum(1 << int(f) for f in (d, *ch.nearest[d, :0]) if f < _BITS) for d in range(n)],
            dtype=np.int64,
        )

    def _arcs(self, room: int) -> kernels.Arcs:
        from cutset.solvers import pipeline_kernels as kernels

        return kernels.Arcs(
            head=np.empty((len(self.chain.arrays.makers), len(self.chain.names)), dtype=np.int64),
            next=np.empty(room, dtype=np.int64),
            end=np.empty(room, dtype=np.int64),
            limit=np.empty(room),
            room=np.empty(room),
            near=np.empty(room),
            count=np.zeros(1, dtype=np.int64),
        )

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
        """Whether a walk is within beta; None where time ran out. Fills slack, hop and arcs."""
        from cutset.solvers import pipeline_kernels as kernels

        ch = self.chain.arrays
        n, m = ch.compute_s.shape
        self.arcs.count[0] = 0
        rows = max(1, 5_000_000 // (n * (m + n) * 4))
        for high in range(m - 1, -1, -rows):
            if self.budget.exhausted():
                return None
            low = max(0, high - rows + 1)
            kernels.backward(ch, _loose(beta), high, low, self.slack, self.hop, self.arcs)
        return bool((self.slack[ch.makers_at[0]] >= 0).any())

    def paths(self, beta: float) -> tuple[list[int], list[int]] | bool | None:
        """Devices and cuts of a simple path within beta (of the relaxation, if anything comes from
        farther than the stage before); False where there is none, None where it is not known."""
        from cutset.solvers import pipeline_kernels as kernels

        ch = self.chain.arrays
        while True:
            if (found := self.walk(beta)) is not True:
                return found
            if self.arcs.count[0] <= len(self.arcs.end):
                break
            if self.arcs.count[0] > _MAX_ARCS:
                return None
            self.arcs = self._arcs(int(self.arcs.count[0]))
        kernels.open_cuts(ch, _loose(beta), self.slack, self.free)
        while True:
            walk = self._extended()
            if isinstance(walk, bool) or walk is None:
                return walk
            devices, cuts = walk
            if len(set(devices)) == len(devices):
                return devices, cuts
            last: dict[int, int] = {}
            for j, d in enumerate(devices):
                if d in last and d < _BITS:
                    self.memory[devices[last[d] : j]] |= 1 << d
                    self.forgot[d] = self.forgot.get(d, 0) + 1
                    if self.forgot[d] > 3:
                        self.memory |= 1 << d
                last[d] = j

    stats: dict = field(default_factory=dict)

    def _extended(self) -> tuple[list[int], list[int]] | bool | None:
        from cutset.solvers import pipeline_kernels as kernels

        ch = self.chain.arrays
        room = _LABELS
        lb = kernels.Labels(
            state=np.empty(room, dtype=np.int64),
            device=np.empty(room, dtype=np.int64),
            visited=np.empty(room, dtype=np.int64),
            left=np.empty(room),
            parent=np.empty(room, dtype=np.int64),
            after=np.empty(room, dtype=np.int64),
            alive=np.empty(room, dtype=np.bool_),
            head=np.full(self.slack.shape, -1, dtype=np.int64),
            front=np.empty(_FRONT, dtype=np.int64),
            table=np.full(1 << (2 * room - 1).bit_length(), -1, dtype=np.int64),
            counts=np.array([0, -1, 0, -1]),
        )
        steps = 100
        while True:
            began_s = time.perf_counter()
            end = kernels.extend(
                ch, self.arcs, self.slack, self.free, self.cut_of, self.memory, lb, steps
            )
            if end != -1:
                self.stats.setdefault("ext", []).append((end, int(lb.counts[0]), int(lb.counts[2])))
            if end == 0:
                return False
            if end == 1:
                break
            if end == -2 or self.budget.exhausted():
                return None
            took_s = time.perf_counter() - began_s
            steps = max(1, min(steps * 2, int(steps * 0.03 / max(took_s, 1e-6))))
        x, devices, cuts = int(lb.counts[3]), [], []
        while x >= 0:
            devices.append(int(lb.device[x]))
            row = int(lb.state[x])
            cuts.append(int(self.cut_of[row]) if row < len(self.cut_of) else len(ch.memory))
            x = int(lb.parent[x])
        return devices[::-1], cuts[::-1]

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

    def decide(self, beta: float) -> bool | None:
        """Whether a pipeline is within beta; a better one is kept. None where it is not known."""
        found = self.paths(beta)
        if not isinstance(found, tuple):
            return found
        v = self.offer(self.chain.plan(self.problem.graph, *found))
        self.stats.setdefault("dec", []).append((beta, v))
        if v <= _loose(beta):
            return True
        return self.exact(beta)

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
        found = search.decide(beta)
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
