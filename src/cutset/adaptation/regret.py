"""What a policy's requests took, beside the best that each could have taken: pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from cutset.adaptation.simulated import Played
from cutset.report import summarise

_RESAMPLES: Final = 2000
_BLOCKS: Final = 40
#: Of a resampling's means: what lies between is the interval of 95%.
_INTERVAL: Final = (2.5, 97.5)


@dataclass(frozen=True)
class Score:
    """A policy over one trace. Latencies are seconds, of the requests that were answered; None
    where none was.

    `regret` is the mean of latency/best − 1 over the answered requests whose best is known,
    `regret_low` and `regret_high` its 95% interval. `fallback_share` is the part of all requests
    that the device answered alone because the other answer would have come too late.
    """

    policy: str
    requests: int
    unanswered: int
    fallbacks: int
    switches: int
    mean_s: float | None
    p50_s: float | None
    p95_s: float | None
    regret: float | None
    regret_low: float | None
    regret_high: float | None

    @property
    def fallback_share(self) -> float:
        return self.fallbacks / self.requests if self.requests else 0.0


def score(played: Played, seed: int = 0) -> Score:
    """`seed` is the resampling's: the same one gives the same interval."""
    answered = [request for request in played.requests if request.answered]
    summary = summarise([request.latency_s for request in answered])
    known = [(r.latency_s, r.best_s) for r in answered if r.best_s is not None]
    regrets = np.array([_regret(*each) for each in known])
    low, high = interval(regrets, seed)
    return Score(
        played.policy,
        len(played.requests),
        len(played.requests) - len(answered),
        sum(request.fallback for request in played.requests),
        len(played.switches),
        None if summary is None else summary.mean,
        None if summary is None else summary.p50,
        None if summary is None else summary.p95,
        float(regrets.mean()) if known else None,
        low,
        high,
    )


def interval(values: np.ndarray, seed: int) -> tuple[float | None, float | None]:
    """The 95% interval of the values' mean by bootstrap; None where there are no values.

    Neighbouring requests meet the same conditions, so that single ones, drawn alone, would give too
    narrow an interval: runs of consecutive ones are drawn instead (blocks that do not overlap;
    Carlstein, Annals of Statistics 14, 1986), at most 40 of them.
    """
    if not len(values):
        return None, None
    parts = np.array_split(values, min(_BLOCKS, len(values)))
    sums = np.array([part.sum() for part in parts])
    sizes = np.array([len(part) for part in parts])
    drawn = np.random.default_rng(seed).integers(len(parts), size=(_RESAMPLES, len(parts)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(means, _INTERVAL)
    return float(low), float(high)


def _regret(latency_s: float, best_s: float) -> float:
    """latency/best − 1. What takes no time at all is regretted by nobody, or without limit."""
    if best_s > 0:
        return latency_s / best_s - 1
    return math.inf if latency_s > 0 else 0.0
