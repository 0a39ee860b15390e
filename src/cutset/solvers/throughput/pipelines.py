"""The best pipeline: a simple path of devices, each with a range of whole blocks.

Asked again and again: is there a pipeline within a threshold of seconds? Where no walk is, there is
none (the bound); a simple path is one, once the evaluator has confirmed it.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from cutset.plan import Plan
from cutset.problem import Budget, Problem, Proposal
from cutset.solvers.arrays import Ints
from cutset.solvers.one_stage import single_stage, value_of
from cutset.solvers.relaxation import out_of_time
from cutset.solvers.scopes import PIPELINES
from cutset.solvers.throughput.block_chain import BlockChain, block_chain, coarse, in_order
from cutset.solvers.throughput.pipeline_start import greedy_path
from cutset.solvers.throughput.pipeline_walks import REMEMBERED, Path, Walks, loose

_CLOSED = 5e-10  # relative: a proof that nothing is better by more than this is a proof
_STEPS = 5_000  # of a descent between two looks at the clock
_FEW_DESCENTS = 2_400_000  # stages tried, times the blocks
_HELD_ARCS = 100_000  # of more, a beam that tells apart where tensors are takes seconds
_NEAR = 1.02  # times the bound: beams look no closer
_POOR = 1.1  # times the bound: a first plan that is improved before anything is proven
_IMPROVED = 40  # descents in a row, at most
_GAIN = 0.02  # relative: looked for by the first of them, an eighth of it by the next that must, …
_LEAST_GAIN = 1e-3
_FEW = 6  # devices whose orders can all be tried
_EFFORTS = 4
_ORDER_PRECISIONS = (1e-3, 1e-6, 1e-9)  # of the best cuts for an order of devices, in turn
_COARSE = 72  # blocks, about, of the chain that is annealed: the best cuts are found afterwards
_WALK_PRECISION = 1e-3
_ROUNDS = 5  # as many labels as this times the room for them, until a threshold is left open


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

    @cached_property
    def top_s(self) -> float:
        """No pipeline that can run takes longer than this."""
        ch = self.chain.arrays
        finite = ch.wire[np.isfinite(ch.wire)]
        rate = finite.max(initial=0.0) + ch.send.max() + ch.recv.max()
        compute = np.where(np.isfinite(ch.compute_s), ch.compute_s, 0.0).max(axis=0).sum()
        moved = 2 * len(ch.limit) * rate * ch.bytes_.sum()
        return float(2 * (ch.overhead.max() + compute + moved) + 1e-9)

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
        return min(value, self._offer_order(path[0]))

    def raise_bound(self, bound_s: float) -> None:
        if bound_s > self.bound_s:
            self.bound_s = bound_s
            if self.plan is not None:
                self.budget.report(self.plan, min(bound_s, self.value_s), PIPELINES)

    def decide(self, beta: float, room: int, width: int) -> bool | None:
        """Whether a pipeline is within beta; a better one is kept. None where it is not known."""
        if (found := self.walks.arranged(beta)) is not True:
            return found
        if self.beam(width):
            return True
        steps = 16 * room if len(self.memory) <= _FEW else room / 4
        work = 0
        while work < _ROUNDS * room:
            walk = self.walks.search(self.memory, room)
            work += self.walks.labelled + room // 100
            if walk is None and self.walks.held:
                return self.exact(beta, steps)
            if not isinstance(walk, tuple):
                return walk
            if len(set(walk[0])) < len(walk[0]):
                self._remember(walk[0])
                continue
            if self.offer_path(walk) <= loose(beta):
                return True
            if self.walks.held or not self.walks.can_hold:
                return self.exact(beta, steps)
            self.walks.held = True
            self.walks.arranged(beta)
        return None

    def beam(self, width: int, *, quick: bool = False) -> bool:
        """After `arranged`: whether a pipeline within the threshold is among the best `width`
        partial ones; it is kept. Unless `quick`, no matter how long that takes."""
        cheap = self.walks.can_hold and self.walks.arcs.total[0] <= _HELD_ARCS
        for held in (False, True)[: 1 + (cheap or (self.walks.held and not quick))]:
            if (path := self.walks.beam(width, held)) is None:
                continue
            value = self.offer(self.chain.plan(self.problem.graph, *path))
            if value > loose(self.walks.beta) and not (quick and cheap):
                value = self._offer_order(path[0])
            if value <= loose(self.walks.beta):
                return True
        return False

    def dive(self, width: int) -> None:
        """Better pipelines by beams within ever closer thresholds between bound and value."""
        low = self.bound_s
        while True:
            high = min(self.value_s, self.top_s)
            if high <= low * _NEAR or self.budget.exhausted():
                return
            beta = math.sqrt(max(low, high / 1e4) * high)
            if self.walks.arranged(beta) is not True or not self.beam(width, quick=True):
                low = beta

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

    def anneal(self, steps: int, seed: int, *, anew: bool = False) -> None:
        """Offer the path in the best order of devices found from the incumbent's, or `anew`."""
        from cutset.solvers.throughput import order_kernels as kernels

        ch, cuts = coarse(self.chain.arrays, _COARSE)
        n, m = ch.compute_s.shape
        at = {name: d for d, name in enumerate(self.chain.names)}
        used = [at[name] for name in self.plan.devices] if self.plan is not None else [ch.source]
        if anew:
            used = random.Random(seed).sample(range(n), n)
        while len(used) < n:  # the others by their links
            order = ch.nearest[used[-1]]
            used.append(next(int(d) for d in order if int(d) not in used))
        count = len(self.plan.devices) if self.plan is not None else n
        count = min(n, count + 2) if anew else count
        crossing = [
            ch.bytes_[ch.crossing[ch.crossing_at[p] : ch.crossing_at[p + 1]]].sum() for p in cuts
        ]
        behind = np.append(ch.memory[::-1].cumsum()[::-1], 0.0) + np.arange(m, -1, -1)
        orders = kernels.Orders(
            order=np.array(used),
            best=np.array(used),
            sums=np.empty((n + 1, m + 1)),
            trial=np.empty((n + 1, m + 1)),
            crossing_bytes=np.array(crossing),
            behind=behind / behind[0],
            counts=np.array([count, count, 0]),
            values=np.zeros(2),
            random=np.array([(self.budget.seed * 1009 + seed) % 2**31 + 1]),
        )
        piece = max(1, 200_000 // (n * m))
        for _ in range(0, steps, piece):
            if self.budget.exhausted():
                return
            kernels.anneal(ch, orders, self.bound_s or 1.0, 3.0, 0.1, steps, piece)
        self._offer_order([int(d) for d in orders.best[: orders.counts[1]]])

    def _offer_order(self, devices: list[int]) -> float:
        """The best cuts for these devices in this order, of which some may be left out."""
        within, named = in_order(self.chain.arrays, devices)
        walks = Walks(within, self.budget)
        own = np.array([1 << d if d < REMEMBERED else 0 for d in range(len(named))])
        best_s, low = math.inf, self.bound_s
        for precision in _ORDER_PRECISIONS:
            high = min(self.value_s * (1 - 1e-9), self.top_s)
            if not walks.walk(high):
                break
            low, high = walks.least(low, high, precision)
            if not walks.arranged(high):
                break
            better = walks.search(own, 50_000)
            if not isinstance(better, tuple):
                break
            path = [named[d] for d in better[0]], better[1]
            best_s = min(best_s, self.offer(self.chain.plan(self.problem.graph, *path)))
            if best_s > loose(high):  # walks tell too little of this order
                break
        return best_s

    def improve(self, steps: float) -> bool:
        """Better pipelines by depth-first search, about `steps` tried stages each; whether it is
        proven that there is none better than the last."""
        gain = _GAIN
        for _ in range(_IMPROVED):
            if self.plan is None or self.budget.exhausted():
                break
            closed_s = min(self.closed_s, self.top_s)
            beta = closed_s * (1 - gain)
            found = self.exact(beta, steps / 4 if gain else steps)
            if found is False:
                self.raise_bound(beta if gain else self.value_s)
                if not gain and closed_s == self.closed_s:
                    return True
            if found is not True:
                if not gain:
                    break
                gain = gain / 8 if gain > _LEAST_GAIN else 0.0
        return False

    def exact(self, beta: float, steps: float = math.inf) -> bool | None:
        """Whether a pipeline is within beta; a better one is kept. None where time or about `steps`
        tried stages ended the search."""
        from cutset.solvers.throughput import descent_kernels as kernels

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
            passed=np.zeros((n + 1, m + 1), dtype=np.bool_),
            later=np.zeros(n + 1, dtype=np.int64),
            depth=np.zeros(1, dtype=np.int64),
            clock=np.zeros(1, dtype=np.int64),
        )
        kernels.start(ch, trail)
        behind, able = self.walks.behind, self.walks.able
        stages = -1
        while stages < 0:
            if self.budget.exhausted():
                return None
            if steps <= 0:
                return None
            steps -= _STEPS
            stages = kernels.descend(
                ch,
                trail,
                loose(beta),
                self.walks.slack,
                self.walks.hop,
                self.walks.reach,
                behind,
                able,
                _STEPS,
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


def best_pipeline(
    problem: Problem, budget: Budget, *, descents: float = math.inf
) -> Proposal | None:
    """The pipeline of least period, with a lower bound on all of them; None where there is none.

    The bound equals the value unless the budget, or about `descents` stages tried by the last
    resort, ended the search first. Raises PlanningError where none was found, though there may be.
    """
    search = Search(problem, budget, block_chain(problem))
    for device in problem.cluster.devices:
        search.offer(single_stage(problem, device.name))
    if (path := greedy_path(search.chain.arrays)) is not None:
        search.offer(search.chain.plan(problem.graph, *path))
    high = min(search.value_s, search.top_s)
    found = search.walks.walk(high)
    if found:
        low, high = search.walks.least(0.0, high, _WALK_PRECISION)
        search.raise_bound(low)
        found = _close(search, descents, high)
    if search.plan is None and found is False:
        return None
    if search.plan is None:
        raise out_of_time(budget)
    return Proposal(search.plan, min(search.bound_s, search.value_s), PIPELINES)


def _close(search: Search, descents: float, beta: float) -> bool | None:
    """Bring bound and value together, by thresholds between them, the first of which is `beta`;
    False where no plan exists.

    What is not decided within an effort is left for later, when nothing else is open. Efforts are
    counted in work, not time, so that the same problem gives the same plan on every machine.
    """
    effort = 0
    few = _FEW_DESCENTS // len(search.chain.arrays.memory)
    low = high = math.nan  # between these, this effort decides nothing
    found = search.decide(beta, 3_000, 30)
    if found is None or search.value_s > search.bound_s * _POOR:
        search.dive(30)
        search.anneal(1_000, 0)
        if search.improve(few):
            return True
    if found is False:
        search.raise_bound(beta)
    while search.bound_s < search.closed_s and not search.budget.exhausted():
        last = min(search.closed_s, search.top_s)
        beta = min(max(beta, search.bound_s), last)
        if effort < _EFFORTS:
            found = search.decide(beta, 5_000 * 8**effort, 30 * 3**effort)
        else:
            found = search.exact(beta, descents)
            if found is None:
                break
        if found is False:
            search.raise_bound(beta)
            if beta == last:
                search.raise_bound(search.value_s)
                return search.plan is not None
        elif found is None:
            low = beta if math.isnan(low) else min(low, beta)
            high = beta if math.isnan(high) else max(high, beta)
        last = min(search.closed_s, search.top_s)
        if not (search.bound_s < high and low <= last):
            low = high = math.nan
        elif low <= search.bound_s:
            low = high
        near = 1 + 0.05 / 4**effort
        beta, stuck = _next(search.bound_s, last, low, high, near)
        if stuck:
            steps = 4_000 * 4**effort
            search.anneal(steps, effort + 1)
            for start in range(2):
                search.anneal(steps, 10 * effort + start, anew=True)
            if search.improve(few * 4**effort):
                return True
            effort += 1
            low = high = math.nan
            last = min(search.closed_s, search.top_s)
            beta, _ = _next(search.bound_s, last, low, high, near)
    return True if search.plan is not None else None


def _next(bound: float, last: float, low: float, high: float, near: float) -> tuple[float, bool]:
    """The next threshold to decide, and whether what is not known leaves none."""
    if math.isnan(low):
        return (last if last <= bound * near else math.sqrt(max(bound, last / 1e6) * last)), False
    if bound * near < low:
        return math.sqrt(bound * low), False
    if high * near < last:
        return math.sqrt(high * last), False
    return last, not high < last
