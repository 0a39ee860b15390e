"""Devices that are alike, and classes of them: what keeps searches over devices small."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from cutset.solvers.arrays import Ints
from cutset.solvers.throughput.period_model import PeriodModel

_STATES = 20_000  # numbers of devices left by class, that a dynamic program may tell apart


@dataclass(frozen=True, eq=False)
class Classes:
    """`kinds`: devices that stand for those alike; `kind_of` each device; `class_of` each kind."""

    kinds: Ints
    kind_of: Ints
    class_of: Ints
    counts: Ints  # devices of each class
    strides: Ints

    @property
    def states(self) -> int:
        return int(np.prod(self.counts + 1))


def device_classes(m: PeriodModel, most: int = _STATES) -> Classes:
    """Devices alike in what a stage costs at least; classes of similar speed merged to `most`
    states."""
    devices = len(m.overhead_s)
    keys = [_kind(m, d) for d in range(devices)]
    first: dict[tuple[object, ...], int] = {}
    kind_of = np.array([first.setdefault(key, len(first)) for key in keys], dtype=np.int64)
    kinds = np.array([keys.index(key) for key in first], dtype=np.int64)
    finite = np.where(np.isfinite(m.compute_s), m.compute_s, 0.0)
    speed = [(float(finite[d].sum() + m.overhead_s[d]), f) for f, d in enumerate(kinds)]
    groups = [[f] for _, f in sorted(speed)]
    size = np.bincount(kind_of, minlength=len(kinds))
    pace = {f: seconds for seconds, f in speed}

    def states() -> int:
        return math.prod(1 + sum(int(size[f]) for f in group) for group in groups)

    while states() > most and len(groups) > 1:
        gaps = [
            (max(pace[f] for f in b) - min(pace[f] for f in a), k)
            for k, (a, b) in enumerate(itertools.pairwise(groups))
        ]
        _, k = min(gaps)
        groups[k : k + 2] = [groups[k] + groups[k + 1]]
    class_of = np.zeros(len(kinds), dtype=np.int64)
    for c, group in enumerate(groups):
        class_of[group] = c
    counts = np.array([sum(int(size[f]) for f in group) for group in groups], dtype=np.int64)
    strides = np.concatenate([[1], np.cumprod(counts + 1)[:-1]]).astype(np.int64)
    return Classes(kinds, kind_of, class_of, counts, strides)


def twins(m: PeriodModel) -> Ints:
    """Of each device, the first that is the same in every way, links too."""
    devices = len(m.overhead_s)
    keys = [_kind(m, d) for d in range(devices)]
    twin = np.arange(devices)
    for b in range(devices):
        for a in range(b):
            if keys[a] == keys[b] and twin[a] == a and _same_links(m, a, b):
                twin[b] = a
                break
    return twin


def _kind(m: PeriodModel, d: int) -> tuple[object, ...]:
    return (
        m.compute_s[d].tobytes(),
        *(float(x[d]) for x in (m.send, m.recv, m.overhead_s, m.memory, m.best_in, m.best_out)),
        bool(m.overlap[d]),
        float(m.wire[m.source, d]),
        float(m.wire[d, m.sink]),
        d == m.source,
        d == m.sink,
    )


def _same_links(m: PeriodModel, a: int, b: int) -> bool:
    """Whether a and b may change names."""
    swap = np.arange(len(m.overhead_s))
    swap[[a, b]] = b, a
    return bool(np.array_equal(m.wire[np.ix_(swap, swap)], m.wire))
