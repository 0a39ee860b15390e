"""One block of the least-latency search: bounds of its cells, and exact solutions.

`makespan` says what a cell is and why the bounds hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from cutset.problem import Budget
from cutset.solvers.arrays import ClusterArrays, Floats, Ints
from cutset.solvers.latency.block_arrays import Known, Net, Shape
from cutset.solvers.latency.exchange import alike_classes, loose_order, merged, named
from cutset.solvers.latency.latency_blocks import Block, ranks
from cutset.solvers.latency.staging import LOOK, staged_as_named

_BELOW = 1 - 1e-12  # a schedule of the same value is no better, whatever the order of its sums
_PIECE = 2_000  # nodes between two looks at the clock, in blocks of one operator

#: Larger blocks get bounds only: a search would not end, and its memory grows with the square.
SEARCHED = 400


_GLANCE = 100  # nodes in the order of some operators of a block


@dataclass(frozen=True, eq=False)
class Found:
    """A schedule of a block: of each operator by its place there its device, its stage (0 is the
    entry's), and its stage's place in the plan."""

    device: Ints
    label: Ints
    place: Ints


@dataclass(eq=False)
class BlockSearch:
    """One block on the cluster: its cells (entry on d, exit on e), solved when asked.

    Mutable: `low` ≤ a cell's time rises, `high` of a schedule that is known falls.
    """

    block: Block
    cluster: ClusterArrays
    compute_s: Floats  # [K, D]; inf where the operator cannot run
    low: Floats = field(init=False)  # [D, D]
    high: Floats = field(init=False)  # [D, D]
    on: Ints = field(init=False)  # [D, D] the device of the block as one stage
    found: dict[tuple[int, int], Found] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.low = self.bounds()
        self.high, self.on = self.gathered()
        self.high[np.isinf(self.low)] = np.inf

    def solved(self, d: int, e: int) -> bool:
        return bool(self.low[d, e] >= self.high[d, e] * _BELOW)

    def schedule(self, d: int, e: int) -> Found:
        """The best one known of a cell."""
        if (d, e) in self.found:
            return self.found[d, e]
        return self._gathered(d, int(self.on[d, e]), e)

    def _gathered(self, d: int, on: int, e: int) -> Found:
        """All operators in one stage on a device."""
        b = self.block
        device = np.full(b.count, on, dtype=np.int64)
        device[0] = d
        label = np.full(b.count, 0 if on == d and not b.first else 1, dtype=np.int64)
        label[0] = 0
        if b.last:
            device[-1] = e
            label[-1] = label[-2] + 1
        return Found(device, label, label)

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
        return np.array([r.low for r in self.regions]).reshape(-1, count, count)

    @cached_property
    def rank(self) -> Ints:
        """The devices' places in the order of their names."""
        return ranks(self.cluster.names)

    def _shape(self, d: int) -> Shape:
        b = self.block
        rows = b.in_at, b.in_u, b.in_b, b.out_at, b.out_w, b.out_b, b.tin_at, b.tin_t
        tensors = b.tprod, b.tbytes, b.trank
        return Shape(b.first, b.real, self.release(d), *rows, *tensors, b.reach)

    def _known(self) -> Known:
        return Known(*self.into, *self.from_, self.table)

    def _net(self, kin: Ints | None = None) -> Net:
        a = self.cluster
        rates = a.wire_s_per_byte, a.latency_s, a.send_s_per_byte, a.recv_s_per_byte, a.overhead_s
        if kin is None:
            kin = np.full(len(a.names), -1, dtype=np.int64)
        loose = loose_order(merged([self.alike, kin], len(a.names)), self.rank)
        return Net(*rates, self.rank, kin, loose, a.multicast)

    @cached_property
    def alike(self) -> Ints:
        """[D] classes of devices that can be exchanged in the whole block; −1: no other."""
        apart = {self.cluster.source} if self.block.first else set()
        return alike_classes(self.cluster, self.compute_s, apart)

    def bounds(self) -> Floats:
        """[D, D] lower bounds by critical paths."""
        from cutset.solvers.latency.narrowing_kernels import heads

        b, count = self.block, len(self.cluster.names)
        found = np.full((count, count), np.inf)
        head = np.empty((b.count, count))
        entries = [self.cluster.source] if b.first else range(count)
        for d in entries:
            c = self.allowed(d, None)
            heads(c, self._shape(d), self._known(), self._net(), head)
            found[d] = head[-1] + c[-1]
        return found

    def gathered(self) -> tuple[Floats, Ints]:
        """[D, D] the time of the block as one stage, and [D, D] on which device that is.

        Up to rounding, as what is moved at once goes to one device.
        """
        b, a = self.block, self.cluster
        count = len(a.names)
        ran = slice(1, b.count - 1 if b.last else b.count)
        work = self.compute_s[ran].sum(axis=0)
        read = {int(t) for v in range(1, b.count) if b.real[v] for t in b.reads(v)}
        arrives = np.array([self._moved(sorted(read), 0, x) for x in range(count)])
        high = arrives + (work + a.overhead_s)[None, :]
        if not b.first:
            np.fill_diagonal(high, work)
        on = np.tile(np.arange(count), (count, 1))
        if b.last:
            results = b.reads(b.count - 1)
            out = [t for t in results if b.tprod[t] > 0]
            back = np.array([self._moved(out, None, x)[a.sink] for x in range(count)])
            whole = high + back[None, :]
            passed = [t for t in results if b.tprod[t] == 0]
            if passed:  # the entry's own results go to the sink as well, from where it is
                whole = self._with_passed(whole)
            high, on = np.full((count, count), np.inf), np.zeros((count, count), dtype=np.int64)
            high[:, a.sink] = whole.min(axis=1)
            on[:, a.sink] = whole.argmin(axis=1)
        return high, on

    def _with_passed(self, whole: Floats) -> Floats:
        """`whole` [D, D] (entry, device of all) as the evaluator scores such plans, in seconds."""
        found = np.full(whole.shape, np.inf)
        for d, x in zip(*np.nonzero(np.isfinite(whole)), strict=True):
            found[d, x] = self._scored(self._gathered(int(d), int(x), self.cluster.sink), int(d))
        return found

    def _scored(self, found: Found, d: int) -> float:
        """What the evaluator makes of a schedule with entry on d, in seconds."""
        from cutset.solvers.latency.staging_kernels import schedule_stages

        c, place = self.compute_s.copy(), np.zeros(self.block.count, dtype=np.int64)
        c[0] = 0.0
        starts = found.place.astype(np.float64)
        stages = int(found.label.max()) + 1
        value, _, _ = schedule_stages(
            found.label,
            stages,
            found.device,
            c,
            self._shape(d),
            self._net(),
            np.inf,
            0,
            starts,
            place,
        )
        return float(value)

    def _moved(self, tensors: list[int], producer: int | None, x: int) -> Floats:
        """[D] when tensors (of one producer, if given) made on x at 0 have come to each device."""
        b, a = self.block, self.cluster
        count = len(a.names)
        free, arrived = np.zeros(count), np.zeros(count)
        mine = [t for t in tensors if producer is None or b.tprod[t] == producer]
        for t in sorted(mine, key=lambda t: (b.tbytes[t] * a.send_s_per_byte[x], b.trank[t])):
            size = b.tbytes[t]
            wire = np.where(np.isinf(a.wire_s_per_byte[x]), np.inf, 0.0)
            near = np.isfinite(a.wire_s_per_byte[x])
            wire[near] = size * a.wire_s_per_byte[x][near]
            free = np.maximum(free, size * a.send_s_per_byte[x]) + wire
            arrived = np.maximum(arrived, free + a.latency_s[x] + size * a.recv_s_per_byte)
        arrived[x] = 0.0
        return arrived

    def solve(self, d: int, e: int, cutoff: float, budget: Budget, max_nodes: int) -> None:
        """Make cell (d, e) exact, or raise its bound to `cutoff`, within the limits; and those that
        are this one but for devices that are alike."""
        shared = self._solve(d, e, cutoff, budget, max_nodes)
        kind = self.alike
        for x, y in np.ndindex(self.low.shape):
            same = (x == d or kind[x] == kind[d] >= 0) and (y == e or kind[y] == kind[e] >= 0)
            if not same or (x == y) != (d == e) or (x, y) == (d, e):
                continue
            self._raise(x, y, shared)
            if self.high[d, e] < self.high[x, y] and (d, e) in self.found:
                other = self._exchanged(self.found[d, e], {d: x, e: y})
                value = self._scored(other, x)
                if value < self.high[x, y]:
                    self.high[x, y], self.found[x, y] = value, other

    def _exchanged(self, found: Found, to: dict[int, int]) -> Found:
        """The schedule with devices exchanged for such as are alike, as `to` says of some."""
        for x in range(len(self.alike)):
            if x not in to:
                like = [
                    y
                    for y in range(len(self.alike))
                    if y == x or self.alike[y] == self.alike[x] >= 0
                ]
                to[x] = next(y for y in [x, *like] if y not in to.values())
        device = np.array([to[int(x)] for x in found.device], dtype=np.int64)
        return Found(device, found.label, found.place)

    def _solve(self, d: int, e: int, cutoff: float, budget: Budget, max_nodes: int) -> float:
        """As `solve` does; a bound (s) on this cell and on those that are alike, if it has one."""
        b, count = self.block, len(self.cluster.names)
        cutoff = min(cutoff, float(self.high[d, e])) * _BELOW
        if self.low[d, e] >= cutoff:
            return 0.0
        head, tail = np.empty((2, b.count, count))
        if b.regions:
            self._raise_regions(d, e, cutoff, budget, max_nodes)
            self._raise(d, e, self._least(d, e, float(self.low[d, e]), cutoff))
        c = self.allowed(d, e)
        low = self._narrowed(c, d, cutoff, head, tail)
        if math.isinf(low):
            self._raise(d, e, cutoff)
            return cutoff
        self._raise(d, e, low)
        if b.count > SEARCHED or budget.exhausted():
            return low
        value, left, shared = self._searched(d, e, c, cutoff, budget, max_nodes)
        if value < self.high[d, e]:
            self.high[d, e] = value
        least = min(float(self.high[d, e]), cutoff)
        self._raise(d, e, min(left, least))
        return max(low, min(shared, least))

    def _searched(
        self, d: int, e: int, c: Floats, cutoff: float, budget: Budget, max_nodes: int
    ) -> tuple[float, float, float]:
        """The best value below the cutoff, and bounds on what was not searched, of this cell and of
        those that are alike, in seconds."""
        from cutset.solvers.latency import branching_kernels as kernels

        b, count = self.block, len(self.cluster.names)
        shape, net = self._shape(d), self._net(self._kin(c, d, e))
        block = shape, self._known(), net
        depth = min(b.count * count + 2, 2 * b.count + 40)
        levels = np.empty((depth, b.count, count))
        levels[0] = c
        done = np.zeros((depth, 3), dtype=np.int64)
        state = np.array([1.0, kernels.LEFT, np.inf, np.inf, 0.0])
        device = np.zeros(b.count, dtype=np.int64)
        head, tail = np.empty((2, b.count, count))
        starts, late = np.zeros((2, b.count))
        outs = head, tail, starts, late
        best, spent, shared = math.inf, 0.0, math.inf
        piece = max(1, _PIECE // b.count)
        while spent < max_nodes and not budget.exhausted():
            kernels.probe(levels, done, *block, cutoff, piece, _GLANCE, LOOK, state, device, *outs)
            spent += state[4]
            if state[1] == kernels.ENDED:
                return best, float(state[2]), min(shared, float(state[2]))
            if state[1] != kernels.ASSIGNED:
                continue
            assigned = levels[int(state[0])]
            names = named(device, net, self.alike, shape)
            found = staged_as_named(names, shape, assigned, device, outs, cutoff, float(state[3]))
            for to, leaf in found:
                spent += leaf.work
                if (to[d], to[e]) != (d, e):
                    shared = min(shared, leaf.open_s, leaf.value_s)
                    continue
                state[2] = min(state[2], leaf.open_s)
                if leaf.value_s < best:
                    best = leaf.value_s
                    self.found[d, e] = Found(to[device], leaf.label, leaf.place)
                    cutoff = min(cutoff, best * _BELOW)
                if budget.exhausted():
                    return best, -math.inf, -math.inf
        return best, -math.inf, -math.inf

    def _raise(self, d: int, e: int, low: float) -> None:
        self.low[d, e] = max(self.low[d, e], low)

    def _narrowed(self, c: Floats, d: int, cutoff: float, head: Floats, tail: Floats) -> float:
        """Forbid in `c` what no schedule below the cutoff holds; a bound, inf where none is."""
        from cutset.solvers.latency.narrowing_kernels import narrow

        return float(narrow(c, self._shape(d), self._known(), self._net(), cutoff, head, tail))

    def _raise_regions(self, d: int, e: int, cutoff: float, budget: Budget, max_nodes: int) -> None:
        """Solve the regions' cells that a schedule below the cutoff may come through."""
        head, tail = np.empty((2, self.block.count, len(self.cluster.names)))
        for _ in range(8):
            changed = False
            for i, (u, v) in enumerate(self.block.regions):
                c = self.allowed(d, e)
                if math.isinf(self._narrowed(c, d, cutoff, head, tail)):
                    return
                before = head[u] + c[u]
                through = before[:, None] + self.table[i] + tail[v][None, :]
                through[~np.isfinite(c[u]), :] = np.inf
                through[:, ~np.isfinite(c[v])] = np.inf
                for x, y in zip(*np.nonzero(through < cutoff), strict=True):
                    region = self.regions[i]
                    if region.solved(x, y) or budget.exhausted():
                        continue
                    rest = float(cutoff - before[x] - tail[v, y])
                    region.solve(int(x), int(y), rest, budget, max_nodes)
                    if region.low[x, y] > self.table[i, x, y]:
                        self.table[i, x, y] = region.low[x, y]
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
            if math.isinf(self._narrowed(self.allowed(d, e), d, middle, head, tail)):
                low = middle
            else:
                high = middle
        return low

    def _kin(self, c: Floats, d: int, e: int) -> Ints:
        """Classes of devices that can be exchanged without changing anything; −1: no other."""
        return alike_classes(self.cluster, c, {d, e, self.cluster.sink if self.block.last else e})
