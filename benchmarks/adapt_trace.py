"""Bandwidth and load that change by a seeded trace with noise: policies one after another."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from adapt_lab import AWARE, LOADS, OBLIVIOUS, ORACLE, Bench, Request, say
from adapt_math import by_second, time_mean_s

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.generator import generate
from cutset.adaptation.policies import Static
from cutset.report import percentile

SEED = 7
DURATION_S, QUICK_S = 180.0, 20.0
DWELL_S = 10.0
NOISE, NOISE_STEP_S = 0.1, 0.5


@dataclass(frozen=True)
class Change:
    """From `at_s` (seconds since the trace began) these rates and so many competitors."""

    at_s: float
    up_bps: float
    down_bps: float
    competing: int


def schedule(duration_s: float, seed: int = SEED) -> tuple[Change, ...]:
    """The trace as changes of the lab: noise on the rates, whole numbers of competitors."""
    base = Conditions(1e6, 1e6)
    levels = [1.0 + n for n in LOADS]
    noisy, plain = (
        generate(
            seed,
            duration_s,
            base,
            loads=levels,
            dwell_s=DWELL_S,
            noise=noise,
            step_s=NOISE_STEP_S,
        )
        for noise in (NOISE, 0.0)  # a seed's levels do not depend on the noise
    )
    return tuple(
        Change(
            moment.at_s,
            moment.conditions.up_bps,
            moment.conditions.down_bps,
            round(plain.at(moment.at_s).load - 1),
        )
        for moment in noisy.moments
    )


def best_statics(
    b: Bench, changes: tuple[Change, ...], duration_s: float, factors: dict[int, float]
) -> list[int]:
    """The best cut, beside local and offload, by the mean latency that is predicted for
    requests one after another over the trace."""
    ends_s = [*(c.at_s for c in changes[1:]), duration_s]
    requests = np.zeros(len(b.cuts.cuts))
    for change, end_s in zip(changes, ends_s, strict=True):
        truth = b.truth(change.up_bps, change.down_bps, factors[change.competing])
        requests += (end_s - change.at_s) / b.cuts.values_s(truth)
    others = [i for i in range(len(requests)) if i not in (b.cuts.local, b.cuts.offload)]
    return sorted(others, key=lambda i: -requests[i])[:1]


class Player(threading.Thread):
    """Changes the lab as the trace says, and tells the oracle what holds."""

    def __init__(self, b: Bench, changes: tuple[Change, ...], factors: dict[int, float]) -> None:
        super().__init__(name="trace", daemon=True)
        self._bench, self._changes, self._factors = b, changes, factors
        self._start_s = time.monotonic()
        self.stopping = threading.Event()
        self.failure: BaseException | None = None
        self.latest_s = 0.0  # by how much a change came late at most

    def run(self) -> None:
        try:
            for change in self._changes:
                wait_s = self._start_s + change.at_s - time.monotonic()
                if self.stopping.wait(max(0.0, wait_s)):
                    return
                b = self._bench
                b.set(change.up_bps, change.down_bps, change.competing)
                load = self._factors[change.competing]
                b.script.truth = b.truth(change.up_bps, change.down_bps, load)
                late_s = time.monotonic() - self._start_s - change.at_s
                self.latest_s = max(self.latest_s, late_s)
        except BaseException as error:  # told by the main thread
            self.failure = error


def play(
    b: Bench,
    name: str,
    changes: tuple[Change, ...],
    duration_s: float,
    factors: dict[int, float],
) -> dict[str, Any]:
    """One policy over the whole trace, one request after another."""
    first = changes[0]
    b.set(first.up_bps, first.down_bps, first.competing)
    b.script.truth = b.truth(first.up_bps, first.down_bps, factors[first.competing])
    b.begin(name)
    before, anew = b.count.row(), b.adapter.begun_anew
    player = Player(b, changes, factors)
    start_s = time.monotonic()
    player.start()
    took: list[Request] = []
    try:
        while time.monotonic() - start_s < duration_s:
            found = b.request()
            if found is not None:
                took.append(found)
    finally:
        player.stopping.set()
        player.join()
    if player.failure is not None:
        raise player.failure
    after = b.count.row()
    latencies_s = [r.latency_s for r in took]
    seconds = int(duration_s)
    row = {
        "policy": name,
        "requests": len(took),
        "mean_s": statistics.fmean(latencies_s),
        "p95_s": percentile(latencies_s, 0.95),
        "time_mean_s": time_mean_s(latencies_s),
        "switches": sum(a.cut != c.cut for a, c in itertools.pairwise(took)),
        "begun_anew": b.adapter.begun_anew - anew,
        "lost": after["lost"] - before["lost"],
        "wrong": after["wrong"] - before["wrong"],
        "late_s": player.latest_s,
        "latency_by_second_s": [
            None if x is None else float(f"{x:.4g}")
            for x in by_second(
                [(r.at_s - start_s, r.latency_s) for r in took], seconds, statistics.fmean
            )
        ],
        "cut_by_second": by_second(
            [(r.at_s - start_s, r.cut) for r in took], seconds, lambda cuts: cuts[-1]
        ),
    }
    say(
        f"trace, {name}: {row['requests']} requests, mean {1e3 * row['mean_s']:.1f} ms, p95"
        f" {1e3 * row['p95_s']:.1f} ms, over time {1e3 * row['time_mean_s']:.1f} ms,"
        f" {row['switches']} switches, {row['lost']} lost, {row['wrong']} wrong"
    )
    return row


def result(b: Bench, factors: dict[int, float], quick: bool) -> dict[str, Any]:
    """All policies over the same trace, each from its beginning."""
    duration_s = QUICK_S if quick else DURATION_S
    changes = schedule(duration_s)
    names = [AWARE, OBLIVIOUS, ORACLE]
    for cut in best_statics(b, changes, duration_s, factors):
        name = b.cuts.cuts[cut].name
        b.script.policies[name] = Static(cut)
        names.append(name)
    if b.cuts.local is not None:
        names.append("local")
    if b.cuts.offload is not None:
        names.append("offload")
    rows = [play(b, n, changes, duration_s, factors) for n in names[: 3 if quick else None]]
    return {
        "seed": SEED,
        "duration_s": duration_s,
        "dwell_s": DWELL_S,
        "noise": NOISE,
        "rows": rows,
        "up_by_second_bps": [at(changes, s).up_bps for s in range(int(duration_s))],
        "competing_by_second": [at(changes, s).competing for s in range(int(duration_s))],
    }


def at(changes: tuple[Change, ...], at_s: float) -> Change:
    """What holds at a time of the trace."""
    return [c for c in changes if c.at_s <= at_s][-1]
