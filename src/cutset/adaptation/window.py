"""Recent measurements of one quantity: a mean that ignores outliers and follows steps at once.

The mean over a window of whole segments is LoADPart's (Liu et al., ICDCS 2022); what tells a step
from an outlier is this file's own.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace

MOST_SAMPLES = 8
OLDEST_S = 10.0
#: A sample that is more than this factor slower or faster than the value deviates from it ...
QUIET_FACTOR = 1.3
#: ... and one by this factor always does, however noisy the quantity is.
NOISY_FACTOR = 2.0
#: In between, a sample deviates beyond so many standard deviations of the samples' noise.
NOISE_DEVIATIONS = 2.5
#: More noise than this (a standard deviation of ln(sample)) is not believed: it is what a few odd
#: samples make of a link that was looked at, and would keep a step of any size from counting.
MOST_NOISE = 0.35
#: From how many latest changes between consecutive samples the noise is known.
LEAST_JUMPS, MOST_JUMPS = 4, 31
#: Samples until a step is followed.
LAG_SAMPLES = 2

# The median of |ln(a/b)|, for a and b of the same lognormal distribution, in its deviations.
_MEDIAN_JUMP = 0.6745 * math.sqrt(2)


@dataclass(frozen=True)
class Sample:
    """`amount` expected units (bits, or expected seconds; more than 0) took `seconds` (more than
    0), as seen at `at_s`.

    `bound`: no whole measurement, so that it shows slowness only; `unfinished`: such a bound, of
    something that goes on; `at_most`: it took no longer, so that it shows speed only. `long`: it
    is a mean by itself, over so much time that no moment makes an outlier of it. A difference to
    what was expected of at most `dead_band_s` is none.
    """

    amount: float
    seconds: float
    at_s: float
    bound: bool = False
    unfinished: bool = False
    at_most: bool = False
    long: bool = False
    dead_band_s: float = 0.0

    @property
    def per_unit(self) -> float:
        return self.seconds / self.amount


@dataclass(frozen=True)
class Window:
    """The last samples of one quantity, in seconds per expected unit.

    `stated` is the value before there are samples; inf: nothing is known. A sample that deviates
    from the value is set aside as `suspect`. If the next one deviates to the same side, it was a
    step and the window starts anew from them; if to the other, both are noise and belong into the
    mean; if not at all, the suspect was an outlier and is dropped. A long one that differs by
    NOISY_FACTOR needs no other: it was a step.
    """

    stated: float
    samples: tuple[Sample, ...] = ()
    suspect: Sample | None = None
    #: |ln| of the factors between consecutive samples: what a step adds is one of many.
    jumps: tuple[float, ...] = ()
    last: float | None = None
    #: The value before bounds alone made it slower (None: they did not), and how many of them since
    #: said that it may hold again.
    before_bounds: float | None = None
    relieved: int = 0

    @property
    def value(self) -> float:
        """Seconds per expected unit; inf where nothing is known."""
        if not self.samples:
            return self.stated
        return sum(s.seconds for s in self.samples) / sum(s.amount for s in self.samples)

    @property
    def noise(self) -> float:
        """The standard deviation of ln(sample), by the median change between consecutive ones;
        0 while these are too few, MOST_NOISE at most."""
        if len(self.jumps) < LEAST_JUMPS:
            return 0.0
        return min(MOST_NOISE, statistics.median(self.jumps) / _MEDIAN_JUMP)

    @property
    def error(self) -> float | None:
        """The value's relative standard error; None where too little is known to say.

        That of a ratio of sums, and no less than what the noise makes of as many samples: those
        that confirmed a step were chosen for being alike.
        """
        count = len(self.samples)
        floor = self.noise / math.sqrt(max(1, count))
        if count < 2:
            return floor if count and len(self.jumps) >= LEAST_JUMPS else None
        ratio = self.value
        mean = sum(s.amount for s in self.samples) / count
        squares = sum((s.seconds - ratio * s.amount) ** 2 for s in self.samples)
        spread = math.sqrt(squares / (count - 1) / count) / mean / ratio
        return max(spread, floor)

    @property
    def suspicion(self) -> float:
        """The factor (at least 1) by which the suspect differs from the value; 1 without one."""
        if self.suspect is None or not 0 < self.value < math.inf:
            return 1.0
        return self._factor(self.suspect)

    def add(self, sample: Sample) -> Window:
        """The window after a sample; itself where that says nothing."""
        if not (sample.amount > 0 and 0 < sample.seconds < math.inf):
            return self
        side = self._side(sample)
        if sample.at_most:
            if side >= 0 and self.value < math.inf:
                return self
            return replace(self._placed(sample, side), before_bounds=None, relieved=0)
        if sample.bound or sample.unfinished:
            # Faster than a bound would be consistent with it: it says nothing then.
            slower = side > 0 or (self._is_bound and sample.per_unit > self.value)
            return self._slowed(sample, side) if slower else self._relieved(sample)
        placed = replace(self._placed(sample, side), before_bounds=None, relieved=0)
        return replace(placed, jumps=self._with_jump(sample), last=sample.per_unit)

    def _slowed(self, bound: Sample, side: int) -> Window:
        placed = self._placed(bound, side)
        alone = bool(placed.samples) and all(s.bound for s in placed.samples)
        if alone and self.before_bounds is None:
            placed = replace(placed, before_bounds=self.value)
        return replace(placed, relieved=0)

    def _relieved(self, bound: Sample) -> Window:
        """What only bounds have made slow is as it was when as many of them deny it: they are few
        bytes, and whatever held up two of them was no link."""
        if self.before_bounds is None or bound.unfinished:
            return self
        if bound.seconds - self.before_bounds * bound.amount > bound.dead_band_s:
            return replace(self, relieved=0)
        if self.relieved + 1 < LAG_SAMPLES:
            return replace(self, relieved=self.relieved + 1)
        return self.restated(self.before_bounds)

    def faded(self, value: float, sample: Sample) -> Window:
        """Restated for a sample that comes some time after the last. By now it is believed to have
        come back to `value`; how far it did, the sample tells. A suspect still waits for it, as
        they may be seconds apart. What was seen more than OLDEST_S before is too old for both."""
        since_s = sample.at_s - OLDEST_S
        if self.samples and self.samples[-1].at_s >= since_s:
            low, high = sorted((value, self.value))
            value = min(max(sample.per_unit, low), high)
        suspect = self.suspect
        if suspect is not None and suspect.at_s < since_s:
            suspect = None
        return replace(self.restated(value), suspect=suspect)

    def restated(self, value: float) -> Window:
        """Without samples, but with their noise: `value` is believed instead of theirs."""
        return replace(self, stated=value, samples=(), suspect=None, before_bounds=None, relieved=0)

    @property
    def _is_bound(self) -> bool:
        """Whether the value is a lower bound itself."""
        return bool(self.samples) and all(s.unfinished for s in self.samples)

    def _placed(self, sample: Sample, side: int) -> Window:
        if self._is_bound and sample.per_unit >= self.value:
            return self._anew(sample)  # what was at least so slow is now known to be slower
        if side == 0:
            return replace(self, samples=_recent((*self.samples, sample)), suspect=None)
        if sample.long and self._factor(sample) >= NOISY_FACTOR:
            return self._anew(sample)
        if self.suspect is None:
            return replace(self, suspect=sample)
        if self._side(self.suspect) == -side:
            both = (*self.samples, self.suspect, sample)
            return replace(self, samples=_recent(both), suspect=None)
        # Where the two differ, the change came while the first was under way, or the first was
        # more of an outlier, or a bound only: the second is nearer to what holds now.
        if _differ(sample, self.suspect) or self.suspect.unfinished:
            return self._anew(sample)
        return self._anew(self.suspect, sample)

    def _anew(self, *samples: Sample) -> Window:
        return replace(self, samples=_recent(samples), suspect=None)

    def _factor(self, sample: Sample) -> float:
        """By which it differs from the value, at least 1."""
        factor = sample.per_unit / self.value
        return max(factor, 1 / factor)

    def _side(self, sample: Sample) -> int:
        """1 where it is slower than the value, -1 where faster, 0 where it does not deviate."""
        expected_s = self.value * sample.amount
        if not 0 < expected_s < math.inf:
            return 0
        if abs(sample.seconds - expected_s) <= sample.dead_band_s:
            return 0
        factor = sample.seconds / expected_s
        noisy = min(NOISE_DEVIATIONS * self.noise, math.log(NOISY_FACTOR))
        tolerance = max(QUIET_FACTOR, math.exp(noisy))
        return (factor > tolerance) - (factor < 1 / tolerance)

    def _with_jump(self, sample: Sample) -> tuple[float, ...]:
        if self.last is None:
            return self.jumps
        expected_s = self.last * sample.amount
        near = abs(sample.seconds - expected_s) <= sample.dead_band_s or expected_s <= 0
        jump = 0.0 if near else abs(math.log(sample.seconds / expected_s))
        return (*self.jumps, jump)[-MOST_JUMPS:]


def _recent(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
    newest = samples[-1].at_s
    return tuple(s for s in samples[-MOST_SAMPLES:] if s.at_s >= newest - OLDEST_S)


def _differ(one: Sample, other: Sample) -> bool:
    factor = one.per_unit / other.per_unit
    return max(factor, 1 / factor) > QUIET_FACTOR
