"""What the held cuts' segments take where they are loaded, before the first request.

A profile has an operator's time inside the whole model; a segment of it takes a little more or
less by itself, and choosing between two near cuts rests on just that difference. So every segment
is timed once it is loaded, some times in rounds, and costs are corrected. A machine that is faster
for a second makes a segment seem to take less than a part of it: such are made to agree.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cutset.adaptation import nested
from cutset.adaptation.cuts import Cut, Cuts

#: Of segments of some milliseconds three runs are not enough: one of 13 ms came out as 10.
MOST_ROUNDS: Final = 9
BUDGET_S: Final = 3.0  # of a device, after the first round; a slow device has one round
#: Where all segments together take so many times what the profile says, or less than its inverse,
#: that is a load (or a slow device) and no error of single segments.
LOADED: Final = 1.3
#: What differs from the profile by so much more than segments usually do is run again on a slow
#: device too, up to ODD_ROUNDS times in all: one run may have been disturbed.
ODD: Final = 1.1
ODD_ROUNDS: Final = 3

#: Seconds of one run of a cut's segment; None where it cannot be timed.
TimeSegment = Callable[[int], float | None]


def timed(
    segments: Mapping[int, float],
    time_segment: TimeSegment,
    clock: Callable[[], float] = time.perf_counter,
    chains: Sequence[Sequence[int]] = (),
) -> tuple[dict[int, float], float]:
    """Each segment's seconds as to be expected without load, and the factor of load that holds now.

    `segments` has the profiled seconds of the cuts' segments on one device, by the cut's index.
    The median of some rounds counts, as a request takes the usual time and not the least. Of
    `chains`, each segment holds the one before, and takes no less.
    """
    found_s: dict[int, list[float]] = {}

    def time_again(index: int) -> None:
        found = time_segment(index)
        if found is not None and math.isfinite(found) and found > 0:
            found_s.setdefault(index, []).append(found)

    start_s, rounds = clock(), 0
    while rounds < MOST_ROUNDS and (rounds == 0 or clock() - start_s <= BUDGET_S):
        for index in segments:
            time_again(index)
        rounds += 1
    for index in _odd(segments, found_s):
        for _ in range(ODD_ROUNDS - rounds):
            time_again(index)
    usual = {index: statistics.median(found) for index, found in found_s.items()}
    for chain in chains:
        known = [i for i in chain if i in found_s and segments[i] > 0]
        agreeing = nested.agreeing([segments[i] for i in known], [found_s[i] for i in known])
        usual |= zip(known, agreeing, strict=True)
    profiled = math.fsum(segments[i] for i in usual)
    load = math.fsum(usual.values()) / profiled if profiled > 0 else 1.0
    if 1 / LOADED <= load <= LOADED:
        load = 1.0
    return {i: usual[i] / load if i in usual else s for i, s in segments.items()}, load


def _odd(segments: Mapping[int, float], found_s: Mapping[int, list[float]]) -> list[int]:
    ratios = {i: statistics.median(s) / segments[i] for i, s in found_s.items() if segments[i] > 0}
    if not ratios:
        return []
    usual = statistics.median(ratios.values())
    return [i for i, ratio in ratios.items() if max(ratio / usual, usual / ratio) > ODD]


def _operators(cut: Cut) -> Mapping[str, frozenset[str]]:
    """A cut's operators by device: it has one stage on each."""
    return {stage.device: frozenset(stage.operators) for stage in cut.plan.stages}


def corrected(
    cuts: Cuts, time_device: TimeSegment, time_server: TimeSegment
) -> tuple[Cuts, float, float]:
    """The cuts with timed segments, the device's slow-down and the server's load as they are."""
    on_device = {i: c.device_s for i, c in enumerate(cuts.cuts) if c.device_s > 0}
    on_server = {i: c.server_s for i, c in enumerate(cuts.cuts) if c.server_s > 0}
    parts = [_operators(cut) for cut in cuts.cuts]
    here = nested.chains({i: parts[i].get(cuts.device, frozenset()) for i in on_device})
    there = nested.chains({i: parts[i].get(cuts.server, frozenset()) for i in on_server})
    device_s, slowdown = timed(on_device, time_device, chains=here)
    server_s, load = timed(on_server, time_server, chains=there)
    for i, cut in enumerate(cuts.cuts):
        cuts = cuts.timed(
            i, device_s=device_s.get(i, cut.device_s), server_s=server_s.get(i, cut.server_s)
        )
    return cuts, slowdown, load
