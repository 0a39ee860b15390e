"""What a run measured, beside what was predicted: pure arithmetic on times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LatencySummary:
    """Seconds per request; percentiles by the nearest rank, so each is a latency that occurred."""

    mean: float
    p50: float
    p95: float
    p99: float


def percentile(values: Sequence[float], fraction: float) -> float:
    """The nearest-rank percentile: the least value with at least `fraction` at or below it."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]


def summarise(latencies_s: Sequence[float]) -> LatencySummary | None:
    if not latencies_s:
        return None
    return LatencySummary(
        math.fsum(latencies_s) / len(latencies_s),
        percentile(latencies_s, 0.5),
        percentile(latencies_s, 0.95),
        percentile(latencies_s, 0.99),
    )


def throughput_per_s(answered_at_s: Sequence[float]) -> float | None:
    """(answered − 1)/(last − first answer); None where fewer than two answers came."""
    if len(answered_at_s) < 2:
        return None
    span = max(answered_at_s) - min(answered_at_s)
    return (len(answered_at_s) - 1) / span if span > 0 else None


def in_flight_for(latency_s: float, period_s: float, throughput: bool) -> int:
    """How many requests to keep in flight: 1 for latency, ⌈latency/period⌉ + 1 for throughput."""
    if not throughput:
        return 1
    return (math.ceil(latency_s / period_s) if period_s > 0 else 1) + 1
