"""What looks may still spend: a token bucket, in bytes of a link or seconds of a server; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Allowance:
    """`left` may be spent at `at_s`; below 0 it is owed. What is earned meanwhile is added by
    `earned`, so that all that was ever spent is at most the first `left`, what was earned since,
    and what is owed."""

    left: float
    at_s: float

    def earned(self, per_s: float, most: float, at_s: float) -> Allowance:
        """With what came in since, at `per_s`; more than `most` is not kept."""
        at_s = max(self.at_s, at_s)
        return Allowance(max(self.left, min(most, self.left + per_s * (at_s - self.at_s))), at_s)

    def spent(self, amount: float) -> Allowance:
        return replace(self, left=self.left - amount)

    def reaches_s(self, amount: float, per_s: float) -> float:
        """When so much is left, if nothing is spent until then; inf: never."""
        if self.left >= amount:
            return self.at_s
        return self.at_s + (amount - self.left) / per_s if per_s > 0 else math.inf
