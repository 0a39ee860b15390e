"""Regret where nobody can try all cuts at once: against the run of the oracle; pure.

In a lab policies follow one another, so that the best of a moment is known from another run only:
the oracle's, over the same trace. That is an approximation: two runs of the same thing differ by
the machine's noise, and the oracle takes the cut that the costs say, not the one that wins.
"""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

from cutset.adaptation.simulated import Played
from cutset.adaptation.traces import Trace


def with_best(played: Sequence[Played], trace: Trace, oracle: str = "oracle") -> list[Played]:
    """All that was played, with each request's `best_s` by the oracle's run.

    That is the median of what the oracle's requests took that began in the same moment of the
    trace; where none did, what that one took which was under way then; else None, as it is for all
    where the oracle did not play.
    """
    known = next((each for each in played if each.policy == oracle), None)
    best = _Best(known, trace)
    return [
        replace(each, requests=tuple(replace(r, best_s=best.at(r.at_s)) for r in each.requests))
        for each in played
    ]


class _Best:
    def __init__(self, known: Played | None, trace: Trace) -> None:
        answered = [r for r in known.requests if r.answered] if known is not None else []
        self._spans = [(r.at_s, r.latency_s) for r in answered]
        self._starts_s = [moment.at_s for moment in trace.moments]
        by_moment: dict[int, list[float]] = {}
        for at_s, latency_s in self._spans:
            by_moment.setdefault(self._moment(at_s), []).append(latency_s)
        self._medians = {i: statistics.median(found) for i, found in by_moment.items()}

    def _moment(self, at_s: float) -> int:
        return max(bisect_right(self._starts_s, at_s) - 1, 0)

    def at(self, at_s: float) -> float | None:
        found = self._medians.get(self._moment(at_s))
        if found is not None:
            return found
        before = bisect_right(self._spans, at_s, key=lambda span: span[0]) - 1
        if before >= 0 and sum(self._spans[before]) > at_s:
            return self._spans[before][1]
        return None
