"""Generated traces: seeded Markov-modulated ones, and stairs for tests and demos.

Bandwidth and load are each a continuous-time Markov chain: a level holds for an exponentially
distributed time, then each of the others is as likely to follow (a Markov-modulated process, as
in W. Fischer, K. Meier-Hellstern, "The Markov-modulated Poisson process cookbook", Performance
Evaluation 18, 1993, of rates instead of arrivals).

A seed gives the same trace on every machine: Python promises the sequence of `Random(seed)
.random()` and not what its other distributions make of it, so that those are made here, and times
and values are rounded to where the last bits of a machine's logarithms do not show.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Final

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.traces import MAX_MOMENTS, Moment, Trace
from cutset.errors import UsageError

BANDWIDTHS_BPS: Final = (1e6, 2e6, 4e6, 8e6, 16e6, 32e6, 64e6)
LOADS: Final = (1.0, 2.0, 3.0)

_MAX_LEVELS: Final = 1000
_MOST_NOISE: Final = 3.0


def generate(
    seed: int,
    duration_s: float,
    base: Conditions,
    *,
    bandwidths_bps: Sequence[float] = BANDWIDTHS_BPS,
    loads: Sequence[float] = LOADS,
    dwell_s: float = 10.0,
    noise: float = 0.1,
    step_s: float = 0.5,
) -> Trace:
    """A trace of `duration_s` seconds in which bandwidth and load move between levels, each of
    which holds `dwell_s` seconds on average.

    Both links have the level's rate times lognormal noise of mean 1, each its own, with `noise`
    the standard deviation of its logarithm, drawn anew every `step_s` seconds. The load is noisy
    alike in what exceeds 1. All else is `base`'s. One level only stays. Raises UsageError.
    """
    _check(seed, duration_s, bandwidths_bps, loads, dwell_s, noise, step_s)
    draws = [random.Random(4 * seed + i) for i in range(4)]  # noise leaves the levels as they are
    rates = _chain(draws[0], bandwidths_bps, dwell_s, duration_s)
    factors = _chain(draws[1], loads, dwell_s, duration_s)
    steps = math.ceil(duration_s / step_s) if noise > 0 else 1
    grid_s = [at_s for i in range(steps) if (at_s := round(i * step_s, 6)) < duration_s]
    noises = [
        (_noise(draws[2], noise), _noise(draws[2], noise), _noise(draws[3], noise)) for _ in grid_s
    ]
    moments = []
    for at_s in sorted({*grid_s, *(t for t, _ in rates), *(t for t, _ in factors)}):
        up, down, load = noises[bisect_right(grid_s, at_s) - 1]
        rate_bps, factor = _level(rates, at_s), _level(factors, at_s)
        conditions = replace(
            base,
            up_bps=_rounded(rate_bps * up),
            down_bps=_rounded(rate_bps * down),
            load=_rounded(1 + (factor - 1) * load),
        )
        moments.append(Moment(at_s, conditions))
    return Trace(f"markov seed {seed}", tuple(moments), duration_s)


def steps(
    base: Conditions,
    *,
    step_s: float = 20.0,
    bandwidths_bps: Sequence[float] | None = None,
    loads: Sequence[float] = (2.0, 4.0),
) -> Trace:
    """Stairs: the links fall from `base` to each bandwidth in turn (default: to a quarter, to a
    sixteenth) and are back, then the server's load rises to each of `loads` and is back. Every
    step lasts `step_s` seconds. Raises UsageError.
    """
    _check_levels(loads, "loads", least=1.0)
    if bandwidths_bps is not None:
        _check_levels(bandwidths_bps, "bandwidths", least=0.0)
    elif not math.isfinite(base.up_bps) or not math.isfinite(base.down_bps):
        raise UsageError(
            "a link that nothing limits has no steps of its own",
            field="bandwidths",
            remedy="state bandwidths, such as 8Mbit/s;1Mbit/s",
        )
    _check_positive(step_s, "step")
    if bandwidths_bps is None:
        stairs = [
            replace(base, up_bps=base.up_bps * part, down_bps=base.down_bps * part)
            for part in (1 / 4, 1 / 16)
        ]
    else:
        stairs = [replace(base, up_bps=rate, down_bps=rate) for rate in bandwidths_bps]
    held = [base, *stairs, base, *(replace(base, load=load) for load in loads), base]
    moments = tuple(Moment(i * step_s, conditions) for i, conditions in enumerate(held))
    return Trace("steps", moments, len(held) * step_s)


def _chain(
    draw: random.Random, levels: Sequence[float], dwell_s: float, duration_s: float
) -> list[tuple[float, float]]:
    """When each level begins, and which: the first, equally likely, at 0."""
    index, at_s = int(draw.random() * len(levels)), 0.0
    held = [(at_s, levels[index])]
    while len(levels) > 1:
        dwells_s = -dwell_s * math.log1p(-draw.random())
        at_s = round(at_s + max(dwells_s, 1e-6), 6)  # no level begins with another
        if at_s >= duration_s:
            break
        other = int(draw.random() * (len(levels) - 1))
        index = other + (other >= index)
        held.append((at_s, levels[index]))
    return held


def _level(held: list[tuple[float, float]], at_s: float) -> float:
    return held[bisect_right(held, (at_s, math.inf)) - 1][1]


def _noise(draw: random.Random, deviation: float) -> float:
    """A lognormal factor of mean 1."""
    u = min(max(draw.random(), 2.0**-53), 1 - 2.0**-53)  # the normal has no value at 0
    return math.exp(deviation * NormalDist().inv_cdf(u) - deviation**2 / 2)


def _rounded(value: float) -> float:
    return float(f"{value:.9g}")


def _check(
    seed: int,
    duration_s: float,
    bandwidths_bps: Sequence[float],
    loads: Sequence[float],
    dwell_s: float,
    noise: float,
    step_s: float,
) -> None:
    if not 0 <= seed < 2**53:
        raise UsageError(
            "a seed is an integer from 0 to 2**53",
            field="seed",
            value=seed,
            remedy="write one, such as 3",
        )
    _check_levels(bandwidths_bps, "bandwidths", least=0.0)
    _check_levels(loads, "loads", least=1.0)
    for value, field in ((duration_s, "duration"), (dwell_s, "dwell"), (step_s, "step")):
        _check_positive(value, field)
    if not 0 <= noise <= _MOST_NOISE:  # false for NaN too
        raise UsageError(
            f"noise is a number from 0 to {_MOST_NOISE:g}",
            field="noise",
            value=noise,
            remedy="write the standard deviation of the rate's logarithm, such as 0.1",
        )
    # Twice the levels that are expected to begin, since they are drawn.
    moments = duration_s / step_s * (noise > 0) + 4 * duration_s / dwell_s
    if moments > MAX_MOMENTS:
        raise UsageError(
            f"the trace could have more than {MAX_MOMENTS} moments",
            field="duration",
            value=f"{duration_s:g} s",
            remedy="take a shorter duration, a longer step or a longer dwell",
        )


def _check_positive(value_s: float, field: str) -> None:
    if not 1e-3 <= value_s <= 1e9:  # false for NaN too
        raise UsageError(
            "the time is too short or too long for a trace",
            field=field,
            value=f"{value_s:g} s",
            remedy="write a time from 1ms to 1e9 s, such as 10s",
        )


def _check_levels(levels: Sequence[float], field: str, *, least: float) -> None:
    largest = 1e6 if field == "loads" else 1e18
    if not 0 < len(levels) <= _MAX_LEVELS:
        raise UsageError(
            f"there are from 1 to {_MAX_LEVELS} levels",
            field=field,
            value=len(levels),
            remedy="write some, with ; between them",
        )
    for level in levels:
        if not least <= level <= largest:  # false for NaN too
            raise UsageError(
                f"a level of {field} is from {least:g} to {largest:g}",
                field=field,
                value=level,
                remedy="write such as 1;2;3"
                if field == "loads"
                else "write such as 1Mbit/s;8Mbit/s",
            )
