"""What following the load would save on other devices, by the costs that were timed; pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

SHARES = (0.1, 0.15, 0.2, 0.3, 0.5)
RATES_BPS = tuple(1e6 * 2.0**i for i in range(7))


def measured_loads(points: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """The median k of the grid's points, by the number of competing processes."""
    found: dict[int, list[float]] = {}
    for point in points:
        found.setdefault(point["competing"], []).append(point["measured_load"])
    return {n: statistics.median(loads) for n, loads in sorted(found.items())}


def by_share(
    cuts: Mapping[str, Sequence[Mapping[str, Any]]], share: float, loads: Mapping[int, float]
) -> list[dict[str, Any]]:
    """For a device of each share: of the points of all models, rates and loads, those at which the
    load-aware policy takes another cut than the load-oblivious one, and what it saves there.

    `cuts` are the rows of adapt_grid.cut_rows by model, timed on a device of `share`; a device of
    another takes the longer, the smaller its share is. Both policies know all else exactly.
    """
    rows = []
    for other in SHARES:
        saved, count = [], 0
        for held in cuts.values():
            for rate_bps in RATES_BPS:
                blind_s = [_value_s(c, share / other, rate_bps, 1.0) for c in held]
                for load in loads.values():
                    count += 1
                    values_s = [_value_s(c, share / other, rate_bps, load) for c in held]
                    least_s, taken_s = min(values_s), values_s[blind_s.index(min(blind_s))]
                    if taken_s > least_s:
                        saved.append(1 - least_s / taken_s)
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


def _value_s(cut: Mapping[str, Any], slower: float, rate_bps: float, load: float) -> float:
    sent_bytes: float = sum(cut[f"{way}_bytes"] for way in ("up", "down") if cut[f"{way}_used"])
    compute_s: float = slower * cut["device_s"] + cut["other_s"] + load * cut["server_s"]
    return compute_s + 8 * sent_bytes / rate_bps
