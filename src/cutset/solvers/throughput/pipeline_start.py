"""A greedy pipeline, before anything is compiled."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cutset.solvers.throughput.block_chain import Chain

Path = tuple[list[int], list[int]]


def greedy_path(ch: Chain) -> Path | None:
    """From the best start: fill each device, then follow its fastest link to one that can go on.

    Judged by the largest hop and stage; None where no start leads to the end.
    """
    crossing = [
        float(ch.bytes_[ch.crossing[ch.crossing_at[p] : ch.crossing_at[p + 1]]].sum())
        for p in range(len(ch.memory) + 1)
    ]
    best: tuple[float, Path] | None = None
    for start in range(len(ch.limit)):
        found = _greedy_from(ch, crossing, start)
        if found is not None and (best is None or found[0] < best[0]):
            best = found
    return None if best is None else best[1]


def _greedy_from(ch: Chain, crossing: Sequence[float], start: int) -> tuple[float, Path] | None:
    m = len(ch.memory)
    devices, cuts, worst, p = [start], [], 0.0, 0
    while True:
        d, q = devices[-1], p
        memory, busy = ch.stage_memory, float(ch.overhead[d])
        while q < m and memory + ch.memory[q] <= ch.limit[d]:
            if math.isinf(ch.compute_s[d, q]):
                break
            memory, busy, q = memory + ch.memory[q], busy + float(ch.compute_s[d, q]), q + 1
        if q == p:
            return None
        cuts.append(q)
        worst = max(worst, busy)
        if q == m:
            return worst, (devices, cuts)
        after = next(
            (
                int(f)
                for f in ch.nearest[d]
                if int(f) not in devices
                and math.isfinite(ch.wire[d, f])
                and math.isfinite(ch.compute_s[f, q])
                and ch.stage_memory + ch.memory[q] <= ch.limit[f]
            ),
            None,
        )
        if after is None:
            return None
        worst = max(worst, crossing[q] * float(ch.wire[d, after]))
        devices.append(after)
        p = q
