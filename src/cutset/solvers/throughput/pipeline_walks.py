"""Walks of devices within a threshold: a relaxation of pipelines, made exact step by step.

In a walk devices may repeat, except for those that it remembers. What a walk remembers when it
comes to a device is the same for all walks (`memory`), so that a few labels stand for many walks
(dynamic ng-route relaxation: Roberti and Mingozzi 2014; Righini and Salani 2008).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cutset.problem import Budget
from cutset.solvers.arrays import Bools, Floats, Ints
from cutset.solvers.throughput.block_chain import Chain

if TYPE_CHECKING:
    from cutset.solvers.throughput import label_transfer_kernels, walk_kernels

REMEMBERED = 62  # devices that a walk can remember: bits of a word

_ROUNDING = 1e-11  # relative: sums in another order than the evaluator's
_ARCS = 6_000_000
_FEW_ARCS = 50_000  # as many are made room for at first
_FRONT = 100
_PIECE_S = 0.03
_AMPLE = 1.6  # times what is needed: then weights are not refined
_ROUNDS = 60

Path = tuple[list[int], list[int]]
"""Devices, and the cut where each one's stage ends."""


def loose(beta: float) -> float:
    """A threshold that no rounding keeps a pipeline from, nor bytes that stand for none."""
    return beta * (1 + _ROUNDING) + 1e-90


@dataclass
class Walks:
    """Walks over one chain. Mutable: what the last threshold left, for the next step to use."""

    chain: Chain
    budget: Budget
    slack: Floats = field(init=False)
    hop: Floats = field(init=False)
    arcs: walk_kernels.Arcs = field(init=False)
    held: bool = False  # whether walks are told apart by where tensors are that are read later
    _labels: label_transfer_kernels.Labels | None = None
    beta: float = 0.0

    def __post_init__(self) -> None:
        ch = self.chain
        shape = (len(ch.makers), len(ch.limit))
        self.slack, self.hop = np.empty(shape), np.empty(shape)
        self.free = np.zeros(shape, dtype=np.bool_)
        self.cut_of = np.repeat(np.arange(len(ch.makers_at) - 1), np.diff(ch.makers_at))
        self.arcs = self._arcs(_FEW_ARCS)
        typical = np.median(np.where(np.isfinite(ch.compute_s), ch.compute_s, 0.0), axis=0)
        self.last = np.zeros((len(ch.memory) + 1, len(ch.limit)), dtype=np.int64)
        self.weight = np.array([typical, ch.memory, typical])
        self.reach = np.zeros((len(self.weight), *self.last.shape))

    def _arcs(self, room: int) -> walk_kernels.Arcs:
        from cutset.solvers.throughput import walk_kernels

        return walk_kernels.Arcs(
            head=np.empty(self.slack.shape, dtype=np.int64),
            next=np.empty(room, dtype=np.int64),
            end=np.empty(room, dtype=np.int64),
            limit=np.empty(room),
            room=np.empty(room),
            near=np.empty(room),
            total=np.zeros(1, dtype=np.int64),
        )

    def walk(self, beta: float) -> bool | None:
        """Whether a walk is within beta, and the devices together can run all blocks; None where
        time ran out. Fills slack, hop and arcs."""
        from cutset.solvers.throughput import walk_kernels

        ch = self.chain
        self.beta = beta
        n, m = ch.compute_s.shape
        self.arcs.total[0] = 0
        rows = max(1, 1_000_000 // (n * (m + n)))
        for high in range(m - 1, -1, -rows):
            if self.budget.exhausted():
                return None
            low = max(0, high - rows + 1)
            walk_kernels.backward(
                ch, loose(beta), high, low, self.slack, self.hop, self.last, self.arcs
            )
        return bool((self.slack[ch.makers_at[0]] >= 0).any()) and self._covered()

    def _covered(self) -> bool:
        """Whether the stages that are left could run all blocks together, one a device."""
        from cutset.solvers.throughput import walk_kernels

        walk_kernels.enter(self.chain, self.slack, self.last)
        ratio = walk_kernels.cover(self.last, self.weight, self.reach)
        if 1 <= ratio < _AMPLE and self.weight[2].sum() > 0:
            self.weight[2] /= self.weight[2].sum()
            walk_kernels.scarce(self.last, self.weight[2], _ROUNDS)
            ratio = walk_kernels.cover(self.last, self.weight, self.reach)
        return ratio >= 1

    @property
    def can_hold(self) -> bool:
        """Whether labels can tell apart where tensors are: by few makers at a cut, few devices."""
        from cutset.solvers.throughput.label_transfer_kernels import FAR

        return len(self.chain.limit) <= REMEMBERED and np.diff(self.chain.makers_at).max() <= FAR

    @property
    def behind(self) -> Floats:
        """[kinds, M + 1] the weight behind a cut."""
        total = np.zeros((len(self.weight), len(self.chain.memory) + 1))
        total[:, :-1] = self.weight[:, ::-1].cumsum(axis=1)[:, ::-1]
        return total

    @property
    def able(self) -> Bools:
        """[M + 1, N] whether a walk has a stage of the device that begins at the cut or later."""
        begins = self.last > np.arange(len(self.last))[:, None]
        return np.ascontiguousarray(np.logical_or.accumulate(begins[::-1])[::-1])

    def least(self, low: float, high: float, precision: float) -> tuple[float, float]:
        """Bounds on the least threshold with a walk, which `high` has and `low` may not reach."""
        if self.walk(low):
            return low, low
        while high - low > precision * high and high > 1e-15:
            middle = (low + high) / 2 if low > high / 32 else high / 16
            found = self.walk(middle)
            if found is None:
                break
            if found:
                high = middle
            else:
                low = middle
        return low, high

    def arranged(self, beta: float) -> bool | None:
        """`walk`, and all its stages listed; None also where there are too many."""
        from cutset.solvers.throughput import walk_kernels

        while True:
            found = self.walk(beta)
            if found is not True:
                return found
            needed = int(self.arcs.total[0])
            if needed <= len(self.arcs.end):
                break
            if needed > _ARCS:
                return None
            self.arcs = self._arcs(needed + needed // 4)
        walk_kernels.open_cuts(self.chain, loose(beta), self.slack, self.free)
        return True

    def labels(self, room: int) -> label_transfer_kernels.Labels:
        """An empty pool; the last one again where it has as much room."""
        from cutset.solvers.throughput import label_transfer_kernels

        old = self._labels
        if old is not None and len(old.state) == room:
            old.head.fill(-1)
            old.table.fill(-1)
            old.counts[:] = (0, -1, 0, -1)
            return old
        self._labels = label_transfer_kernels.Labels(
            state=np.empty(room, dtype=np.int64),
            device=np.empty(room, dtype=np.int64),
            visited=np.empty(room, dtype=np.int64),
            left=np.empty(room),
            parent=np.empty(room, dtype=np.int64),
            holders=np.empty(room, dtype=np.int64),
            spent=np.empty((room, label_transfer_kernels.FAR + 2)),
            after=np.empty(room, dtype=np.int64),
            alive=np.zeros(room, dtype=np.bool_),
            head=np.full(1 << (room - 1).bit_length(), -1, dtype=np.int64),
            front=np.empty(_FRONT, dtype=np.int64),
            table=np.full(1 << (2 * room - 1).bit_length(), -1, dtype=np.int64),
            counts=np.array([0, -1, 0, -1]),
        )
        return self._labels

    @property
    def labelled(self) -> int:
        """Labels that the last search made."""
        return 0 if self._labels is None else int(self._labels.counts[0])

    def _extend(
        self,
        memory: np.typing.NDArray[np.int64],
        lb: label_transfer_kernels.Labels,
        held: bool,
        steps: int,
    ) -> int:
        """Go on from `steps` labels: what `label_kernels.extend` says of the search."""
        from cutset.solvers.throughput import label_kernels

        free = np.zeros_like(self.free) if held else self.free  # there more counts
        return int(
            label_kernels.extend(
                self.chain,
                self.arcs,
                self.slack,
                free,
                self.cut_of,
                self.reach,
                self.behind,
                self.able,
                memory,
                lb,
                loose(self.beta),
                held,
                steps,
            )
        )

    def search(self, memory: np.typing.NDArray[np.int64], room: int) -> Path | bool | None:
        """After `arranged`: a walk to the end that goes to no device that it remembers; False
        where there is none, None where time or room for labels ended the search."""
        lb = self.labels(room)
        steps = 50
        while True:
            began_s = time.perf_counter()
            end = self._extend(memory, lb, self.held, steps)
            if end >= 0:
                return self.path(lb) if end else False
            if end == -2 or self.budget.exhausted():
                return None
            took_s = max(time.perf_counter() - began_s, 1e-6)
            steps = max(1, min(steps * 2, int(steps * _PIECE_S / took_s)))

    def beam(self, width: int, held: bool) -> Path | None:
        """After `arranged`: a simple path to the end, if one is among the best partial ones.

        Of the labels of as many stages, `width` are kept: those of which the devices left can hold
        the largest multiple of what is behind the cut, of the kind of which they can least.
        """
        n = min(len(self.chain.limit), REMEMBERED)
        lb = self.labels(width * len(self.chain.limit) * 20 + 5_000)
        memory = np.full(len(self.chain.limit), (1 << n) - 1, dtype=np.int64)
        bits, behind = np.arange(n), self.behind
        begin, steps = 0, 1
        for _ in range(len(self.chain.limit)):
            end = self._extend(memory, lb, held, steps)
            if end == 1:
                devices, cuts = self.path(lb)
                return (devices, cuts) if len(set(devices)) == len(devices) else None
            count = int(lb.counts[0])
            if end != -1 or self.budget.exhausted():
                return None
            layer = begin + np.flatnonzero(lb.alive[begin:count])
            if not len(layer):
                return None
            if len(layer) > width:
                unused = 1.0 - (lb.visited[layer, None] >> bits & 1)
                cuts_ = self.cut_of[lb.state[layer]]
                rest = np.einsum("iln,ln->il", self.reach[:, cuts_, :n], unused)
                share = (behind[:, cuts_] / np.maximum(rest, 1e-300)).max(axis=0)
                layer = np.sort(layer[np.argsort(share, kind="stable")[:width]])
            begin, steps = self._keep(lb, begin, layer), len(layer)
        return None

    def _keep(self, lb: label_transfer_kernels.Labels, begin: int, layer: Ints) -> int:
        """Forget the labels from `begin` on but those of `layer`, which come next; their begin."""
        end = begin + len(layer)
        for x in (lb.state, lb.device, lb.visited, lb.left, lb.parent, lb.holders, lb.spent):
            x[begin:end] = x[layer]
        lb.alive[begin:end] = True
        lb.head.fill(-1)
        lb.table.fill(-1)
        lb.counts[:] = (end, begin, 0, -1)
        return end

    def path(self, lb: label_transfer_kernels.Labels) -> Path:
        """The walk that came to the end."""
        x, devices, cuts = int(lb.counts[3]), [], []
        while x >= 0:
            row = int(lb.state[x])
            devices.append(int(lb.device[x]))
            cuts.append(int(self.cut_of[row]) if row < len(self.cut_of) else len(self.chain.memory))
            x = int(lb.parent[x])
        return devices[::-1], cuts[::-1]
