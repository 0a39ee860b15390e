"""No segment takes less than a part of it: measurements of nested ones, made to agree; pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass


def chains(segments: Mapping[int, Set[str]]) -> list[list[int]]:
    """Segments (sets of operators, by index) in sequences in which each holds the one before, and
    more; each in one of them."""
    found: list[list[int]] = []
    for index in sorted(segments, key=lambda i: len(segments[i])):
        for chain in found:
            if segments[chain[-1]] < segments[index]:
                chain.append(index)
                break
        else:
            found.append([index])
    return found


@dataclass(frozen=True)
class _Pool:
    """Segments that take `expected_s` (seconds each, more than 0) times one factor."""

    expected_s: tuple[float, ...]
    factors: tuple[float, ...]

    @property
    def seconds(self) -> list[float]:
        factor = statistics.median(self.factors)
        return [factor * s for s in self.expected_s]


def agreeing(expected_s: Sequence[float], measured_s: Sequence[Sequence[float]]) -> list[float]:
    """Seconds of segments of which each holds the one before, by all that was measured of each.

    Each takes the median of its own, but where one would take less than the one before, both take
    what is expected of them times the median factor of both: pooling adjacent violators, as for
    isotonic regression by least absolute differences (Ayer et al. 1955; Robertson and Waltman
    1968). So one that was measured in a fast moment is outvoted by those next to it.
    """
    pools: list[_Pool] = []
    for expected, found in zip(expected_s, measured_s, strict=True):
        pools.append(_Pool((expected,), tuple(s / expected for s in found)))
        while len(pools) > 1 and pools[-2].seconds[-1] > pools[-1].seconds[0]:
            last, before = pools.pop(), pools.pop()
            pools.append(_Pool(before.expected_s + last.expected_s, before.factors + last.factors))
    return [s for pool in pools for s in pool.seconds]
