"""The least latency over any number of devices, block by block.

A plan's stages, run operator by operator, are a schedule: every operator on one device, one at a
time, a tensor's transfer after its producer and before its readers elsewhere, one at a time on
each link, egress and ingress. The search is over such schedules, with transfers in any order and
a stage's overhead counted once on a device that a block comes to, and after each arrival. So no
plan is better than the best schedule: the evaluator's order of transfers is one of the orders, and
stages only delay what their operators made.

Where only tensors of one operator cross a position (`latency_blocks`), all before has ended when
that operator ends, and all after begins later: the latency is the sum of what the blocks take, and
a block's time depends only on the devices of its entry and its exit. So the best schedule is a
shortest path over (block, device). A cell of a block (entry on d, exit on e) has a lower bound
first (critical path, each operator wherever it is best for each path); only cells on the shortest
path by bounds are solved, by branch and bound (`makespan_kernels`), until it has solved cells only.
The evaluator scores the plan it leads to; where both values agree it is proven best of all plans.
Early results, memory limits and colocation of operators in different blocks are left out of the
bound, which can only lower it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from cutset.errors import InfeasibleError
from cutset.plan import Plan, Stage
from cutset.problem import Budget, Problem, Proposal
from cutset.solvers import scopes
from cutset.solvers.arrays import Bools, ClusterArrays, Floats, Ints, cluster_arrays
from cutset.solvers.latency_blocks import LARGE, Block, latency_blocks, ranks
from cutset.solvers.list_schedule import list_schedule
from cutset.solvers.moving import moved
from cutset.solvers.search import infeasible, single_stage, value_of
from cutset.solvers.stages_of import stages_of

_CLOSED = 1e-10  # relative: bounds are sums in another order than the evaluator's
_PIECE = 2_000  # nodes between two looks at the clock


@dataclass
class Cell:
    """What is known of a block between two devices: `low` ≤ its time, `high` that of a schedule.

    Mutable: it gets better as the search goes on. `low` is inf where no schedule is of use.
    """

    low: float
    high: float = math.inf
    device: Ints | None = None  # of each operator, by its place in the block
    label: Ints | None = None  # its stage; 0 is the entry's
    place: Ints | None = None  # its stage's place in the plan
    solved: bool = False


@dataclass(eq=False)
class BlockSearch:
    """One block on the cluster: its cells, solved when asked. `compute_s` is [D, K]."""

    block: Block
    cluster: ClusterArrays
    compute_s: Floats  # [K, D]
    cells: dict[tuple[int, int], Cell] = field(default_factory=dict)

    def allowed(self, d: int, e: int | None) -> Floats:
        """Compute times with entry on d and exit on e (any, where None); inf forbids."""
        c = self.compute_s.copy()
        c[0, :] = np.inf
        c[0, d] = 0.0
        if e is not None:
            keep = c[-1, e]
            c[-1, :] = np.inf
            c[-1, e] = keep
        return c

    def release(self, d: int) -> Floats:
        """A stage's overhead on every device, but where the entry's stage may go on."""
        release = self.cluster.overhead_s.copy()
        if not self.block.first:
            release[d] = 0.0
        return release

    @cached_property
    def regions(self) -> list[BlockSearch]:
        """The searches of the block's regions."""
        found = []
        for u, v in self.block.regions:
            part = self.block.region(u, v)
            inside = np.flatnonzero(self.block.reach[u] & self.block.reach[:, v])
            search = BlockSearch(part, self.cluster, self.compute_s[[u, *inside, v]])
            search.open_cells()
            found.append(search)
        return found

    @cached_property
    def into(self) -> tuple[Ints, Ints, Ints]:
        """Regions by their last operator, in rows: where they begin, first operator, number."""
        return self._region_rows([v for _, v in self.block.regions], 0)

    @cached_property
    def from_(self) -> tuple[Ints, Ints, Ints]:
        return self._region_rows([u for u, _ in self.block.regions], 1)

    def _region_rows(self, keys: list[int], other: int) -> tuple[Ints, Ints, Ints]:
        at = np.zeros(self.block.count + 1, dtype=np.int64)
        np.cumsum(np.bincount(keys, minlength=self.block.count) if keys else at[1:], out=at[1:])
        number = np.argsort(np.array(keys, dtype=np.int64), kind="stable").astype(np.int64)
        ends = [self.block.regions[i][other] for i in number]
        return at, np.array(ends, dtype=np.int64), number

    @cached_property
    def table(self) -> Floats:
        """[R, D, D]: what is known of the time of each region; raised as the search goes on."""
        count = len(self.cluster.names)
        found = np.full((len(self.block.regions), count, count), np.inf)
        for i, search in enumerate(self.regions):
            for (d, e), cell in search.cells.items():
                found[i, d, e] = cell.low
        return found

    def open_cells(self) -> Floats:
        """Begin a cell wherever there is a way; their lower bounds."""
        low = self.bounds()
        for d, e in zip(*np.nonzero(np.isfinite(low)), strict=True):
            self.cells[int(d), int(e)] = Cell(float(low[d, e]))
        return low

    @cached_property
    def rank(self) -> Ints:
        """The devices' places in the order of their names."""
        return ranks(self.cluster.names)

    def _rates(self) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        a = self.cluster
        return a.wire_s_per_byte, a.latency_s, a.send_s_per_byte, a.recv_s_per_byte, a.overhead_s

    def bounds(self) -> Floats:
        """[D, D] lower bounds by critical paths."""
        from cutset.solvers.makespan_kernels import heads

        b, count = self.block, len(self.cluster.names)
        found = np.full((count, count), np.inf)
        head = np.empty((b.count, count))
        entries = [self.cluster.source] if b.first else range(count)
        for d in entries:
            c = self.allowed(d, None)
            args = (c, b.real, self.release(d), b.in_at, b.in_u, b.in_b)
            heads(*args, *self.into, self.table, *self._rates(), head)
            found[d] = head[-1] + c[-1]
        return found

    def gathered(self, d: int, e: int, on: int) -> Cell | None:
        """All of the block as one stage on a device; None where that cannot be."""
        from cutset.solvers.makespan_kernels import schedule_stages

        b, a = self.block, self.cluster
        device = np.full(b.count, on, dtype=np.int64)
        device[0] = d
        stays = on == d and not b.first
        label = np.full(b.count, 0 if stays else 1, dtype=np.int64)
        label[0] = 0
        if b.last:
            device[-1] = e
            label[-1] = label[-2] + 1
        elif on != e:
            return None
        c = self.allowed(d, None)
        if not np.isfinite(c[np.arange(b.count), device]).all():
            return None
        place = np.zeros(b.count, dtype=np.int64)
        nobody = np.full(len(a.names), -1, dtype=np.int64)
        value, _, _ = schedule_stages(
            label, label[-1] + 1, device, c, b.real, b.in_at, b.in_u, b.tin_at, b.tin_t, b.tprod,
            b.tbytes, b.trank, b.reach, *self._rates(), self.rank, nobody, a.multicast, np.inf,
            10, np.empty(0), place,
        )  # fmt: skip
        return Cell(0.0, float(value), device, label, place) if math.isfinite(value) else None

    def solve(self, d: int, e: int, cutoff: float, budget: Budget, max_nodes: int) -> None:
        """Make cell (d, e) exact, or raise its bound to `cutoff`, within the limits."""
        from cutset.solvers.makespan_kernels import probe

        b, a = self.block, self.cluster
        cell = self.cells[d, e]
        count = len(a.names)
        cutoff = min(cutoff, cell.high)
        head, tail = np.empty((2, b.count, count))
        release = self.release(d)
        if b.regions:
            self._raise_regions(d, e, cutoff, budget, max_nodes)
            cell.low = max(cell.low, self._least(d, e, cell.low, cutoff))
        c = self.allowed(d, e)
        low = self._narrowed(c, release, cutoff, head, tail)
        if math.isinf(low):
            cell.low = max(cell.low, cutoff)
            cell.solved = cell.low >= cell.high
            return
        cell.low = max(cell.low, low)
        kin = self._kin(c, d, e)
        state = np.array([1.0, 0.0, np.inf, np.inf])
        best = np.zeros((3, b.count), dtype=np.int64)
        spent, limit = 0, cutoff
        piece = max(1, _PIECE // b.count)
        depth = b.count * count + 2
        levels = np.empty((min(depth, 2 * b.count + 40), b.count, count))
        levels[0] = c
        done = np.zeros((len(levels), 3), dtype=np.int64)
        while not state[1] and spent < max_nodes and not budget.exhausted():
            limit = probe(
                levels, done, b.real, release, b.in_at, b.in_u, b.in_b, b.out_at, b.out_w,
                b.out_b, *self.into, *self.from_, self.table, b.tin_at, b.tin_t, b.tprod,
                b.tbytes, b.trank, b.reach, *self._rates(), self.rank, kin, a.multicast, limit,
                piece, state, b.first, best[0], best[1], best[2],
            )  # fmt: skip
            spent += piece
        if state[2] < cell.high:
            cell.high = float(state[2])
            cell.device, cell.label, cell.place = best
        if state[1]:
            cell.low = max(cell.low, min(float(state[3]), cell.high, cutoff))
        cell.solved = cell.low >= cell.high

    def _narrowed(
        self, c: Floats, release: Floats, cutoff: float, head: Floats, tail: Floats
    ) -> float:
        """Forbid in `c` what no schedule below the cutoff holds; a bound, inf where there is none."""
        from cutset.solvers.makespan_kernels import narrow

        b = self.block
        low = narrow(
            c, b.real, release, b.in_at, b.in_u, b.in_b, b.out_at, b.out_w, b.out_b, *self.into,
            *self.from_, self.table, *self._rates(), cutoff, head, tail,
        )  # fmt: skip
        return float(low)

    def _raise_regions(
        self, d: int, e: int, cutoff: float, budget: Budget, max_nodes: int
    ) -> None:
        """Solve the regions' cells that a schedule below the cutoff may come through."""
        head, tail = np.empty((2, self.block.count, len(self.cluster.names)))
        for _ in range(8):
            changed = False
            for i, (u, v) in enumerate(self.block.regions):
                c = self.allowed(d, e)
                if math.isinf(self._narrowed(c, self.release(d), cutoff, head, tail)):
                    return
                before = head[u] + c[u]
                through = before[:, None] + self.table[i] + tail[v][None, :]
                through[~np.isfinite(c[u]), :] = np.inf
                through[:, ~np.isfinite(c[v])] = np.inf
                for x, y in zip(*np.nonzero(through < cutoff), strict=True):
                    cell = self.regions[i].cells[int(x), int(y)]
                    if cell.solved or budget.exhausted():
                        continue
                    rest = cutoff - before[x] - tail[v, y]
                    self.regions[i].solve(int(x), int(y), rest, budget, max_nodes)
                    if cell.low > self.table[i, x, y]:
                        self.table[i, x, y] = cell.low
                        changed = True
            if not changed or budget.exhausted():
                return

    def _least(self, d: int, e: int, low: float, high: float) -> float:
        """The highest time found below which no schedule can be, by halving."""
        head, tail = np.empty((2, self.block.count, len(self.cluster.names)))
        if math.isinf(high):
            return low
        for _ in range(20):
            middle = (low + high) / 2
            if math.isinf(self._narrowed(self.allowed(d, e), self.release(d), middle, head, tail)):
                low = middle
            else:
                high = middle
        return low

    def _kin(self, c: Floats, d: int, e: int) -> Ints:
        """Classes of devices that can be exchanged without changing anything; −1: no other."""
        a = self.cluster
        count = len(a.names)
        kin = np.full(count, -1, dtype=np.int64)
        entry_exit = {d, e, a.sink if self.block.last else e}
        for i in range(count):
            if i in entry_exit or kin[i] >= 0:
                continue
            for j in range(i + 1, count):
                if j not in entry_exit and kin[j] < 0 and self._alike(c, i, j):
                    kin[i] = kin[j] = i
        return kin

    def _alike(self, c: Floats, i: int, j: int) -> bool:
        a = self.cluster
        if not np.array_equal(c[:, i], c[:, j]):
            return False
        for vector in (a.send_s_per_byte, a.recv_s_per_byte, a.overhead_s):
            if vector[i] != vector[j]:
                return False
        others = np.array([k not in (i, j) for k in range(len(a.names))])
        for m in (a.wire_s_per_byte, a.latency_s):
            if m[i, j] != m[j, i]:
                return False
            if not np.array_equal(m[i, others], m[j, others]):
                return False
            if not np.array_equal(m[others, i], m[others, j]):
                return False
        return True


@dataclass
class _Search:
    """The shortest path over blocks. Mutable: bounds rise and the best plan improves."""

    problem: Problem
    budget: Budget
    blocks: list[BlockSearch]
    low: list[Floats]  # [D, D] of each block
    plan: Plan | None = None
    value_s: float = math.inf
    bound_s: float = 0.0

    def offer(self, plan: Plan) -> None:
        """Keep the plan if it is the best so far; one that tears a group apart is none."""
        groups: dict[str, str] = {}
        positions, operators = self.problem.graph.positions, self.problem.graph.operators
        for stage in plan.stages:
            for name in stage.operators:
                group = operators[positions[name]].colocate
                if group is not None and groups.setdefault(group, stage.device) != stage.device:
                    return
        value = value_of(self.problem, plan)
        if value < self.value_s:
            self.plan, self.value_s = plan, value
            self.budget.report(plan)

    def raise_bound(self, bound_s: float) -> None:
        if bound_s > self.bound_s:
            self.bound_s = min(bound_s, self.value_s)
            if self.plan is not None:
                self.budget.report(self.plan, self.bound_s, scopes.FULL)

    def closed(self) -> bool:
        return self.bound_s >= self.value_s * (1 - _CLOSED)


def makespan(problem: Problem, budget: Budget, *, max_nodes: int = 2_000_000) -> Proposal:
    """The plan of least latency that was found, and a bound on any untiled plan.

    Raises InfeasibleError that says what is short.
    """
    cluster = cluster_arrays(problem)
    run = _Search(problem, budget, [], [])
    for name in cluster.names:
        run.offer(single_stage(problem, name))
    blocks = latency_blocks(problem.graph)
    _listed(run, max((b.count for b in blocks), default=0) > LARGE)
    if blocks:
        _prepare(run, blocks, cluster)
        _paths_of_gathered(run)
        _improve(run, max_nodes)
    else:
        run.raise_bound(0.0)
    if run.plan is None:
        raise infeasible(problem, None)
    bound = run.value_s if run.closed() else run.bound_s
    budget.report(run.plan, bound, scopes.FULL)
    return Proposal(run.plan, bound, scopes.FULL)


def _listed(run: _Search, large: bool) -> None:
    """A list schedule, and where blocks are too large to be solved, one improved by moves."""
    try:
        found = list_schedule(run.problem, contended=True)
    except InfeasibleError:
        return
    run.offer(stages_of(run.problem, found.device, found.order, join=False))
    if large:
        better = moved(run.problem, found, run.budget, effort=2e8)
        run.offer(stages_of(run.problem, better.device, better.order, run.budget))


def _prepare(run: _Search, blocks: Iterable[Block], cluster: ClusterArrays) -> None:
    known: dict[bytes, tuple[BlockSearch, Floats]] = {}
    for block in blocks:
        compute = np.zeros((block.count, len(cluster.names)))
        for k, position in enumerate(block.positions):
            if block.real[k]:
                compute[k] = cluster.compute_s[:, position]
        if block.last:
            compute[-1] = np.inf
            compute[-1, cluster.sink] = 0.0
        key = block.key + compute.tobytes()
        if key not in known:
            search = BlockSearch(block, cluster, compute)
            known[key] = search, search.open_cells()
        run.blocks.append(known[key][0])
        run.low.append(known[key][1])


def _forward(costs: list[Floats], source: int) -> list[Floats]:
    """found[k][d]: least time from the request's start to block k's entry on d."""
    at = np.full(len(costs[0]), np.inf)
    at[source] = 0.0
    found = [at]
    for cost in costs:
        found.append((found[-1][:, None] + cost).min(axis=0))
    return found


def _backward(costs: list[Floats], sink: int) -> list[Floats]:
    at = np.full(len(costs[0]), np.inf)
    at[sink] = 0.0
    found = [at]
    for cost in reversed(costs):
        found.append((cost + found[-1][None, :]).min(axis=1))
    return found[::-1]


def _path(costs: list[Floats], ahead: list[Floats], source: int) -> list[int]:
    """The devices at the ends of the blocks on a shortest path; ties to the first device."""
    devices = [source]
    for k, cost in enumerate(costs):
        devices.append(int(np.argmin(cost[devices[-1]] + ahead[k + 1])))
    return devices


def _paths_of_gathered(run: _Search) -> None:
    """The best plan that keeps every block together: a shortest path as well."""
    source, sink = _ends(run)
    count = len(run.low[0])
    for search in dict.fromkeys(run.blocks):
        for (d, e), cell in search.cells.items():
            for on in range(count) if search.block.last else (e,):
                found = search.gathered(d, e, on)
                if found is not None and found.high < cell.high:
                    cell.high, cell.device, cell.label = found.high, found.device, found.label
                    cell.place = found.place
    _offer_path(run, source, sink)


def _ends(run: _Search) -> tuple[int, int]:
    cluster = run.blocks[0].cluster
    return cluster.source, cluster.sink


def _highs(run: _Search) -> list[Floats]:
    found = []
    for search, low in zip(run.blocks, run.low, strict=True):
        high = np.full_like(low, np.inf)
        for (d, e), cell in search.cells.items():
            high[d, e] = cell.high
        found.append(high)
    return found


def _offer_path(run: _Search, source: int, sink: int) -> None:
    """Offer the plan of the best schedules known."""
    costs = _highs(run)
    ahead = _backward(costs, sink)
    if math.isfinite(ahead[0][source]):
        devices = _path(costs, ahead, source)
        run.offer(_plan(run, devices))


def _improve(run: _Search, max_nodes: int) -> None:
    """Solve the cells of the shortest path by bounds until it is proven or time is up."""
    source, sink = _ends(run)
    while True:
        behind, ahead = _forward(run.low, source), _backward(run.low, sink)
        run.raise_bound(float(ahead[0][source]))
        if run.closed() or run.budget.exhausted() or math.isinf(ahead[0][source]):
            return
        devices = _path(run.low, ahead, source)
        open_cells = False
        for k, (d, e) in enumerate(zip(devices, devices[1:], strict=False)):
            search = run.blocks[k]
            cell = search.cells[d, e]
            if cell.solved or run.budget.exhausted():
                continue
            before = cell.low
            rest = run.value_s - behind[k][d] - ahead[k + 1][e]
            search.solve(d, e, rest, run.budget, max_nodes)
            open_cells |= cell.low > before or cell.solved
            run.low[k][d, e] = cell.low
        _offer_path(run, source, sink)
        if not open_cells:
            return


def _plan(run: _Search, devices: list[int]) -> Plan:
    """The plan of the blocks' schedules along a path of devices."""
    names = run.blocks[0].cluster.names
    stages: list[tuple[str, list[int]]] = []
    for search, d, e in zip(run.blocks, devices, devices[1:], strict=False):
        cell = search.cells[d, e]
        assert cell.device is not None
        assert cell.label is not None
        assert cell.place is not None
        # The entry's operator is in the stage listed last: all stages before it lead to it.
        listed = {0: len(stages) - 1}
        steps = sorted((int(cell.place[k]), k) for k in range(1, search.block.count))
        for _, k in steps:
            if search.block.real[k]:
                label = int(cell.label[k])
                if label not in listed:
                    listed[label] = len(stages)
                    stages.append((names[int(cell.device[k])], []))
                stages[listed[label]][1].append(search.block.positions[k])
    return _named(run.problem, _with_dead(run.problem, stages))


def _with_dead(
    problem: Problem, stages: list[tuple[str, list[int]]]
) -> list[tuple[str, list[int]]]:
    """The stages, and at the end those of operators that no output needs.

    Each goes where its group is, or else where what it reads is made and it can run.
    """
    graph, cluster = problem.graph, problem.cluster
    device_of = {i: d for d, members in stages for i in members}
    groups = {graph.operators[i].colocate: d for i, d in device_of.items()}
    stages = list(stages)
    for i, op in enumerate(graph.operators):
        if i in device_of:
            continue
        near = [device_of[j] for j in graph.predecessors[i]]
        able = [
            d
            for d in (*near, cluster.source, *cluster.by_name)
            if math.isfinite(problem.compute_s(d)[i])
        ]
        device_of[i] = (able or [cluster.source])[0]
        if op.colocate is not None:
            device_of[i] = groups.setdefault(op.colocate, device_of[i])
        if stages and stages[-1][0] == device_of[i]:
            stages[-1] = (device_of[i], [*stages[-1][1], i])
        else:
            stages.append((device_of[i], [i]))
    return stages


def _named(problem: Problem, stages: list[tuple[str, list[int]]]) -> Plan:
    operators = problem.graph.operators
    return Plan(
        tuple(
            Stage(f"s{k}", d, tuple(operators[i].name for i in members))
            for k, (d, members) in enumerate(stages)
        ),
        problem.graph.digest,
    )
