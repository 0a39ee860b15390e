"""What requests would have taken by each single cut, by what was believed as each was answered."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts


@dataclass(frozen=True)
class Beside:
    """Sums over `requests`, each valued (Cuts.values_s) as it was answered.

    `static_s` and `unanswered` have an element for each cut: seconds, had these requests taken it,
    and those of them that it could not have answered then. `taken_s` are the seconds of the cuts
    that they did take, of the `taken` requests for which these are finite.
    """

    static_s: tuple[float, ...]
    unanswered: tuple[int, ...]
    requests: int = 0
    taken: int = 0
    taken_s: float = 0.0

    def __add__(self, other: Beside) -> Beside:
        return Beside(
            tuple(a + b for a, b in zip(self.static_s, other.static_s, strict=True)),
            tuple(a + b for a, b in zip(self.unanswered, other.unanswered, strict=True)),
            self.requests + other.requests,
            self.taken + other.taken,
            self.taken_s + other.taken_s,
        )

    def mean_s(self, cut: int) -> float | None:
        """Seconds of a request, had all taken this cut; None where that is no number."""
        if not self.requests or self.unanswered[cut]:
            return None
        return self.static_s[cut] / self.requests


def nothing(cuts: Cuts) -> Beside:
    """No request yet."""
    return Beside((0.0,) * len(cuts.cuts), (0,) * len(cuts.cuts))


def of_request(cuts: Cuts, believed: Conditions, cut: int) -> Beside:
    """One request that took `cut`."""
    values = cuts.values_s(believed)
    finite = np.isfinite(values)
    static_s = tuple(np.where(finite, values, 0.0).tolist())
    known = math.isfinite(values[cut])
    return Beside(
        static_s, tuple((~finite).astype(int).tolist()), 1, int(known), static_s[cut] * known
    )
