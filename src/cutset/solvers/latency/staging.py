"""The stages of a block whose operators have devices: what the evaluator makes of a schedule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cutset.solvers.arrays import Floats, Ints
from cutset.solvers.latency.block_arrays import Net, Shape

#: Nodes in the order of all operators of a block.
LOOK = 3_000
_ORDERS = 500  # nodes in the order of given stages
_SMALL = 20  # operators of a block of which many sets of stages are tried
_TRIES, _FEW_TRIES = 20_000, 2_000
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Staged:
    """The best stages found: their value in seconds (inf: none below the cutoff), a lower bound on
    those not looked at, the work, and of each operator [K] its stage and that stage's place."""

    value_s: float
    open_s: float
    work: int
    label: Ints
    place: Ints


def staged(
    shape: Shape,
    c: Floats,
    net: Net,
    device: Ints,
    head: Floats,
    tail: Floats,
    orders: tuple[Floats, ...],
    cutoff: float,
    relaxed: float,
) -> Staged:
    """The best stages for devices [K] of all operators, below the cutoff.

    `c`, `head` and `tail` [K, D] in seconds; `relaxed` is a bound on all of them. `orders` are
    starts [K] of good schedules of single operators: where stages cost nothing and the evaluator
    makes of one what the bound says, stages need not be tried.
    """
    from cutset.solvers.latency.branching_kernels import realise
    from cutset.solvers.latency.staging_kernels import schedule_stages

    count = len(device)
    best = Staged(math.inf, math.inf, 1, *np.zeros((2, count), dtype=np.int64))
    if not net.ov.any():
        for starts in orders:
            label, place = np.arange(count), np.zeros(count, dtype=np.int64)
            value, _, _ = schedule_stages(
                label, count, device, c, shape, net, math.inf, 0, starts, place
            )
            if value < best.value_s:
                best = Staged(value, math.inf, 1, label, place)
            if best.value_s <= relaxed * (1 + _ROUNDING):
                return best
    label, place = np.zeros((2, count), dtype=np.int64)
    tries = _TRIES if count < _SMALL else _FEW_TRIES
    limit = min(cutoff, best.value_s)
    value, left, work = realise(
        device, shape, c, net, head, tail, limit, relaxed, tries, _ORDERS, label, place
    )
    left = max(left, relaxed)
    if value < best.value_s:
        return Staged(value, left, work, label, place)
    return Staged(best.value_s, left, work, best.label, best.place)


def staged_as_named(
    names: Sequence[tuple[Ints, Net]],
    shape: Shape,
    c: Floats,
    device: Ints,
    outs: tuple[Floats, Floats, Floats, Floats],
    cutoff: float,
    relaxed: float,
) -> Iterator[tuple[Ints, Staged]]:
    """`staged` under each of the names that `exchange.named` gives, with these.

    Of one that is not below the cutoff, only the work. `outs` are heads and tails [K, D] and two
    orders [K], in s, of any names.
    """
    from cutset.solvers.latency.ordering_kernels import schedule

    head, tail, starts, late = outs
    for to, net in names:
        bound = relaxed
        if len(names) > 1:
            value, proven, nodes = schedule(
                device, c, shape, head, tail, net, cutoff, LOOK, starts, late
            )
            if proven and value >= cutoff:
                yield to, Staged(math.inf, math.inf, nodes // 4, device, device)
                continue
            bound = max(bound, value) if proven else bound
        yield to, staged(shape, c, net, device, head, tail, (starts, late), cutoff, bound)
