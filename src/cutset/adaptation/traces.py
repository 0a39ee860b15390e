"""What holds over time: conditions, each from its moment to the next. Replays run on these."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

from cutset.adaptation.conditions import Conditions
from cutset.errors import UsageError

#: More moments than this are refused wherever a trace is read or made.
MAX_MOMENTS: Final = 1_000_000

#: How long the only moment of a trace that states no other time holds, seconds.
LONE_MOMENT_S: Final = 1.0


@dataclass(frozen=True)
class Moment:
    """From `at_s` (seconds since the trace began) until the next moment, `conditions` hold."""

    at_s: float
    conditions: Conditions


@dataclass(frozen=True)
class Trace:
    """Conditions over `duration_s` seconds.

    The first moment is at 0, each is later than the one before, and all are before `duration_s`.
    Raises UsageError where that is not so.
    """

    name: str
    moments: tuple[Moment, ...]
    duration_s: float

    def __post_init__(self) -> None:
        times = [*self._times_s, self.duration_s]
        ordered = all(a < b for a, b in pairwise(times))  # false for NaN too
        if not self.moments or times[0] != 0 or not ordered or not math.isfinite(self.duration_s):
            raise UsageError(
                "the moments of a trace begin at 0 and follow one another until its end",
                field=f"trace {self.name}",
                value=f"{len(self.moments)} moments in {self.duration_s:g} s",
                remedy="give moments in order of time, the first at 0",
            )
        if len(self.moments) > MAX_MOMENTS:
            raise UsageError(
                f"a trace has at most {MAX_MOMENTS} moments",
                field=f"trace {self.name}",
                value=len(self.moments),
                remedy="take a shorter trace or a coarser step",
            )

    @cached_property
    def _times_s(self) -> tuple[float, ...]:
        return tuple(moment.at_s for moment in self.moments)

    def at(self, at_s: float) -> Conditions:
        """What holds at a time; before 0 what holds at 0, after the end what held last."""
        return self.moments[max(bisect_right(self._times_s, at_s) - 1, 0)].conditions

    def cut_to(self, duration_s: float) -> Trace:
        """The trace of that length: the rest is left out; where it is shorter, what held last
        goes on. Raises UsageError for a length that is none."""
        if not 0 < duration_s < math.inf:  # false for NaN too
            raise UsageError(
                "a trace lasts more than 0 seconds",
                field="duration",
                value=f"{duration_s:g} s",
                remedy="give a length such as 60s",
            )
        kept = self.moments[: bisect_right(self._times_s, duration_s)]
        if kept[-1].at_s >= duration_s:  # intervals are half-open: it would hold for no time
            kept = kept[:-1]
        return Trace(self.name, kept, duration_s)


def trace_of_times(
    name: str, by_time: Mapping[float, Conditions], before: Conditions | None = None
) -> Trace:
    """The trace of conditions by the time they begin at, in order of time, at least one.

    Until the first of them `before` holds, where it is None what holds first. The last hold as
    long as those before them did, as nothing says when they end.
    """
    times = list(by_time)
    lasts_s = times[-1] - times[-2] if len(times) > 1 else LONE_MOMENT_S
    moments: Iterable[tuple[float, Conditions]] = by_time.items()
    if times[0] > 0 and before is not None:
        moments = ((0.0, before), *moments)
    elif times[0] > 0:
        moments = ((0.0, by_time[times[0]]), *list(moments)[1:])
    return Trace(name, tuple(Moment(t, c) for t, c in moments), times[-1] + lasts_s)
