"""The conditions that are expected: an interval for each number that may change."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cutset.adaptation.conditions import Conditions
from cutset.errors import UsageError

#: What any network and server may be expected to do, whatever was measured.
LEAST_BPS, MOST_BPS = 0.25e6, 1e9
MOST_LOAD, MOST_QUEUE_S, MOST_SLOWDOWN = 8.0, 0.5, 4.0

#: A rate that was stated beyond these is taken as these, so that a range stays finite.
_SLOWEST_BPS, _FASTEST_BPS = 1e3, 1e12


class Interval(NamedTuple):
    """Both ends are in it."""

    low: float
    high: float


_ONE, _NONE = Interval(1.0, 1.0), Interval(0.0, 0.0)


@dataclass(frozen=True)
class Range:
    """Intervals of what Conditions says, in its units; the latencies (one-way seconds) are fixed.

    Every combination of values is in the range. Raises UsageError where an interval is empty or
    not finite, or where a rate or a factor may be 0 or less.
    """

    up_bps: Interval
    down_bps: Interval
    load: Interval = _ONE
    queue_s: Interval = _NONE
    slowdown: Interval = _ONE
    up_latency_s: float = 0.0
    down_latency_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("up_bps", "down_bps", "load", "queue_s", "slowdown"):
            low, high = getattr(self, name)
            zero = name == "queue_s"
            if not (low > 0 or (zero and low == 0)) or not low <= high < math.inf:
                raise UsageError(
                    "not an interval that can be expected",
                    field=f"range.{name}",
                    value=f"{low:g}..{high:g}",
                    remedy=f"state two finite numbers, {'0' if zero else 'more than 0'} or more"
                    if zero
                    else "state two finite numbers of more than 0, the lower one first",
                )
        for name in ("up_latency_s", "down_latency_s"):
            latency_s = getattr(self, name)
            if not 0 <= latency_s < math.inf:
                raise UsageError(
                    "a latency must be finite and not negative",
                    field=f"range.{name}",
                    value=f"{latency_s:g} s",
                    remedy="state seconds, 0 or more",
                )

    def at(
        self, up_bps: float, down_bps: float, load: float, queue_s: float, slowdown: float
    ) -> Conditions:
        """Conditions with the range's latencies."""
        return Conditions(
            up_bps,
            down_bps,
            self.up_latency_s,
            self.down_latency_s,
            load=load,
            queue_s=queue_s,
            slowdown=slowdown,
        )

    def contains(self, conditions: Conditions) -> bool:
        """Whether all but the latencies are in their intervals; a lost server never is."""
        return not conditions.lost and all(
            getattr(self, name).low <= getattr(conditions, name) <= getattr(self, name).high
            for name in ("up_bps", "down_bps", "load", "queue_s", "slowdown")
        )

    def grid(
        self, up: int = 9, down: int = 5, load: int = 4, queue: int = 2, slowdown: int = 2
    ) -> tuple[Conditions, ...]:
        """So many values of each interval, its ends among them: rates and factors at equal ratios,
        queueing at equal steps. An interval of one value gives one."""
        axes = (
            _spaced(self.up_bps, up),
            _spaced(self.down_bps, down),
            _spaced(self.load, load),
            tuple(dict.fromkeys(np.linspace(*self.queue_s, queue).tolist())),
            _spaced(self.slowdown, slowdown),
        )
        return tuple(itertools.starmap(self.at, itertools.product(*axes)))


def expected_range(conditions: Conditions, factor: float = 32.0) -> Range:
    """What to expect around what was measured: rates from 1/`factor` to `factor` times the stated
    ones, and 0.25 Mbit/s to 1 Gbit/s at least; load 1 to 8, queueing 0 to 0.5 s, slow-down 1 to 4,
    wider where more or less was stated. Latencies stay.

    Raises UsageError where the factor is under 1, or what is stated is not a number.
    """
    if not 1 <= factor < math.inf:
        raise UsageError(
            "a range's factor must be finite and at least 1",
            field="factor",
            value=f"{factor:g}",
            remedy="state how many times the rate may rise and fall, such as 32",
        )

    def rates(bps: float) -> Interval:
        near = min(max(bps, _SLOWEST_BPS), _FASTEST_BPS)
        return Interval(min(near / factor, LEAST_BPS), max(near * factor, MOST_BPS))

    def around(value: float, low: float, high: float) -> Interval:
        return Interval(min(value, low), max(value, high))

    return Range(
        rates(conditions.up_bps),
        rates(conditions.down_bps),
        around(conditions.load, 1.0, MOST_LOAD),
        around(conditions.queue_s, 0.0, MOST_QUEUE_S),
        around(conditions.slowdown, 1.0, MOST_SLOWDOWN),
        conditions.up_latency_s,
        conditions.down_latency_s,
    )


def _spaced(interval: Interval, count: int) -> tuple[float, ...]:
    low, high = interval
    if low == high or count < 2:
        return (low,)
    inner = np.geomspace(low, high, count)[1:-1].tolist()
    return (low, *inner, high)  # the ends as they were stated, which logarithms would round
