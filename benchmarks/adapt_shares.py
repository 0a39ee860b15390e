"""What following the load would save on other devices, by the costs that were timed; pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapt_map import cuts_of

from cutset.adaptation.conditions import Conditions

SHARES = (0.1, 0.15, 0.2, 0.3, 0.5)
RATES_BPS = tuple(1e6 * 2.0**i for i in range(7))


def measured_loads(points: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """The median k of the grid's points, by the number of competing processes."""
    found: dict[int, list[float]] = {}
    for point in points:
        found.setdefault(point["competing"], []).append(point["measured_load"])
    return {n: statistics.median(loads) for n, loads in sorted(found.items())}


def by_share(
    cuts: Mapping[str, list[Mapping[str, Any]]], share: float, loads: Mapping[int, float]
) -> list[dict[str, Any]]:
    """For a device of each share: of the points of all models, rates and loads, those at which the
    load-aware policy takes another cut than the load-oblivious one, and what it saves there.

    `cuts` are the rows of adapt_grid.cut_rows by model, timed on a device of `share`; a device of
    another takes the longer, the smaller its share is. Both policies know all else exactly.
    """
    rows = []
    for other in SHARES:
        saved, count = [], 0
        for held in map(cuts_of, cuts.values()):
            for rate_bps in RATES_BPS:
                idle = Conditions(rate_bps, rate_bps, slowdown=share / other)
                blind = held.best(idle)
                for load in loads.values():
                    count += 1
                    values_s = held.values_s(replace(idle, load=load))
                    if values_s[blind] > values_s.min():
                        saved.append(float(1 - values_s.min() / values_s[blind]))
        rows.append(
            {
                "share": other,
                "points": count,
                "differ": len(saved),
                "mean": statistics.fmean(saved) if saved else None,
                "largest": max(saved, default=None),
            }
        )
    return rows
