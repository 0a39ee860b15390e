"""Down-sets of a graph, as stages of pipelines begin and end at them.

Plans of one stage a device are chains of down-sets: list the stages in topological order; what is
done after each is a down-set, and each stage is the difference of two neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cutset.problem import Problem
from cutset.solvers.arrays import Floats, Ints
from cutset.solvers.throughput.period_model import PeriodModel, period_model

Words = NDArray[np.uint64]


class IdealArrays(NamedTuple):
    """n down-sets, in the order of their sizes; the first is empty, the last is everything.

    A tensor is live at a down-set if it is made in it, or a graph input, and read outside.
    """

    member: NDArray[np.uint8]  # [n, O]
    words: Words  # [n, ceil(O / 64)] the same as bits
    work: Floats  # [D, n] compute seconds of the down-set, without operators that cannot run
    cannot: Ints  # [D, n] how many of its operators cannot run on the device
    memory: Floats  # [n] bytes
    results: Floats  # [n] bytes of graph outputs made in it
    live_at: Ints  # [n + 1]
    live: Ints


def all_ideals(problem: Problem, unit: Ints, most: int) -> tuple[list[int], bool]:
    """Down-sets as masks of operators, and whether these are all; at most about `most`.

    `unit` numbers operators that stay together, in a topological order of an acyclic quotient.
    """
    masks, before = _units(problem, unit)
    after = _after(before)
    first = sum(1 << u for u, mask in enumerate(before) if not mask)
    found = {0: 0}  # mask of units -> mask of operators
    layer = {0: first}  # mask of units -> mask of units that are ready
    while layer:
        following: dict[int, int] = {}
        for ideal, ready in layer.items():
            for u in _bits(ready):
                larger = ideal | 1 << u
                if larger in following:
                    continue
                found[larger] = found[ideal] | masks[u]
                now = ready & ~(1 << u)
                for v in after[u]:
                    if not before[v] & ~larger:
                        now |= 1 << v
                following[larger] = now
            if len(found) > most:
                return list(found.values()), False
        layer = following
    return list(found.values()), True


def prefixes(problem: Problem, unit: Ints, most: int) -> list[int]:
    """The down-sets that are prefixes of some linear orders: as given, depth first, and the one
    that keeps the fewest bytes live. Of more than `most`, evenly spread ones."""
    masks, before = _units(problem, unit)
    found: dict[int, None] = {0: None}
    given = list(range(len(masks)))
    orders = (given, _depth_first(before), _lightest(problem, masks, before, unit))
    for order in orders:
        step = max(math.ceil(len(orders) * len(order) / most), 1)
        done = 0
        for k, u in enumerate(order):
            done |= masks[u]
            if (k + 1) % step == 0:
                found.setdefault(done)
    return list(found)


def family(problem: Problem, ideals: Iterable[int]) -> IdealArrays:
    """The arrays of a family of down-sets; those of nothing and of everything are added."""
    m = period_model(problem)
    count = len(problem.graph.operators)
    masks = sorted({0, (1 << count) - 1, *ideals}, key=lambda mask: (mask.bit_count(), mask))
    width = max((count + 63) // 64, 1)
    raw = b"".join(mask.to_bytes(8 * width, "little") for mask in masks)
    words = np.frombuffer(raw, dtype="<u8").astype(np.uint64).reshape(len(masks), width)
    bits = np.unpackbits(np.frombuffer(raw, np.uint8).reshape(len(masks), -1), 1, None, "little")
    member = np.ascontiguousarray(bits[:, :count])
    finite = np.isfinite(m.compute_s)
    as_float = member.astype(np.float64)
    made = np.zeros(count)
    for t in np.flatnonzero(m.is_output & (m.producer >= 0)):
        made[m.producer[t]] += m.bytes_[t]
    live = [_live(m, row) for row in member]
    return IdealArrays(
        member,
        words,
        np.ascontiguousarray(np.where(finite, m.compute_s, 0.0) @ as_float.T),
        np.ascontiguousarray((~finite).astype(np.int64) @ member.T.astype(np.int64)),
        as_float @ m.op_memory,
        as_float @ made,
        np.concatenate([[0], np.cumsum([len(x) for x in live])]).astype(np.int64),
        np.concatenate([np.empty(0, np.int64), *live]).astype(np.int64),
    )


def _live(m: PeriodModel, row: NDArray[np.uint8]) -> Ints:
    inside = np.append(row, 1)[m.producer].astype(bool)  # graph inputs have producer −1
    outside = np.append(row, 0)[m.readers] == 0
    reads = np.concatenate([[0], np.cumsum(outside)])
    return np.flatnonzero(inside & (reads[m.readers_at[1:]] > reads[m.readers_at[:-1]]))


def _units(problem: Problem, unit: Ints) -> tuple[list[int], list[int]]:
    """Masks of operators, and masks of the units before, for each unit."""
    count = int(unit.max(initial=-1)) + 1
    masks, before = [0] * count, [0] * count
    for i, needs in enumerate(problem.graph.predecessors):
        u = int(unit[i])
        masks[u] |= 1 << i
        for j in needs:
            before[u] |= 1 << int(unit[j])
        before[u] &= ~(1 << u)
    return masks, before


def _after(before: Sequence[int]) -> list[list[int]]:
    after: list[list[int]] = [[] for _ in before]
    for u, mask in enumerate(before):
        for v in _bits(mask):
            after[v].append(u)
    return after


def _bits(mask: int) -> Iterable[int]:
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def _depth_first(before: Sequence[int]) -> list[int]:
    """Depth first: of the units that are ready, the one that became so last."""
    waiting = [mask.bit_count() for mask in before]
    after = _after(before)
    stack = [u for u in reversed(range(len(before))) if waiting[u] == 0]
    order: list[int] = []
    while stack:
        u = stack.pop()
        order.append(u)
        for v in reversed(after[u]):
            waiting[v] -= 1
            if waiting[v] == 0:
                stack.append(v)
    return order


def _lightest(
    problem: Problem, masks: Sequence[int], before: Sequence[int], unit: Ints
) -> list[int]:
    """Of the units that are ready, the one after which the fewest more bytes are live."""
    m = period_model(problem)
    readers = [
        {int(unit[r]) for r in m.readers[m.readers_at[t] : m.readers_at[t + 1]]}
        for t in range(len(m.bytes_))
    ]
    made: list[list[int]] = [[] for _ in masks]
    read: list[list[int]] = [[] for _ in masks]
    for t, p in enumerate(m.producer):
        if p >= 0:
            made[int(unit[p])].append(t)
        for u in readers[t]:
            read[u].append(t)
    left = [set(r) for r in readers]
    waiting = [mask.bit_count() for mask in before]
    after = _after(before)

    def change(u: int) -> float:
        gained = sum(m.bytes_[t] for t in made[u] if left[t] - {u})
        return float(gained - sum(m.bytes_[t] for t in read[u] if left[t] == {u}))

    ready = [u for u in range(len(masks)) if waiting[u] == 0]
    order: list[int] = []
    while ready:
        u = min(ready, key=lambda v: (change(v), v))
        ready.remove(u)
        order.append(u)
        for t in read[u]:
            left[t].discard(u)
        for v in after[u]:
            waiting[v] -= 1
            if waiting[v] == 0:
                ready.append(v)
    return order
