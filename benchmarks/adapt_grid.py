"""The grid: at each rate and load, what the policies choose, and what every choice then takes."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, fields
from typing import Any

from adapt_lab import AWARE, LOADS, OBLIVIOUS, Bench, bench, say
from adapt_math import cross_fitted, grid_summary, median

from cutset.adaptation.cuts import Cut, Cuts
from cutset.adaptation.observations import ServerRun

MODELS = (
    "alexnet 224",
    "squeezenet 227",
    "vgg16 224",
    "resnet18 224",
    "resnet50 224",
    "xception 299",
)
#: Downwards: what a link carries is seen sooner where it gets slower, as looks at a slow one are
#: far apart, and both policies share them.
RATES_BPS = (64e6, 16e6, 4e6, 1e6)
SETTLE_S, SETTLE_REQUESTS = 3.0, 4
SETTLE_TRANSFERS, SETTLE_MOST_S = 2, 6.0
#: Held cuts that may be the oracle's: those predicted to cost at most so much more than the best.
CANDIDATES = 0.15
LEAST_ROUNDS, MOST_ROUNDS = 3, 6
#: After so long no further round begins, if there are LEAST_ROUNDS.
ROUNDS_S = 5.0
#: A cut that takes so long has so many rounds; one that is a baseline only, one of them.
SLOW_S, SLOW_ROUNDS = 4.0, 2


def model_grid(name: str, quick: bool) -> list[dict[str, Any]]:
    """All points of a model, on one deployment; the last one has its cuts and counts too."""
    rates = RATES_BPS[::3] if quick else RATES_BPS
    loads = LOADS[::2] if quick else LOADS
    with bench(name) as b:
        points = []
        for i, (rate, competing) in enumerate((r, n) for r in rates for n in loads):
            start_s = time.perf_counter()
            found = point(b, rate, competing, swapped=bool(i % 2))
            found = {"model": name, **found, "took_s": time.perf_counter() - start_s}
            points.append(found)
            say(_line(found))
        points[-1]["count"] = b.count.row()
        points[-1]["cuts"] = cut_rows(b.cuts)
    return points


def cut_rows(cuts: Cuts) -> list[dict[str, Any]]:
    """The held cuts' costs as timed where they are loaded; their operators are left out."""
    names = [f.name for f in fields(Cut) if f.name not in ("plan", "memory_bytes")]
    return [{name: getattr(cut, name) for name in names} for cut in cuts.cuts]


def point(b: Bench, rate_bps: float, competing: int, swapped: bool) -> dict[str, Any]:
    """Both policies settle (the load-oblivious one first where `swapped`), then all arms run."""
    b.set(rate_bps, rate_bps, competing)
    b.script.forget()
    settled: dict[str, int] = {}
    believed = b.stated
    for policy in (OBLIVIOUS, AWARE) if swapped else (AWARE, OBLIVIOUS):
        settled[policy] = b.settle(
            policy, SETTLE_S, SETTLE_REQUESTS, SETTLE_TRANSFERS, SETTLE_MOST_S
        )
        if policy == AWARE:
            believed = b.script.sent[-1].decision.believed
    load = b.measured_load(b.script.runs) or b.adapter.believed().load
    values_s = b.cuts.values_s(b.truth(rate_bps, rate_bps, load))
    least_s = float(values_s.min())
    candidates = [i for i, v in enumerate(values_s) if v <= (1 + CANDIDATES) * least_s]
    arms = sorted(
        {settled[AWARE], settled[OBLIVIOUS], *candidates}
        | {cut for cut in (b.cuts.local, b.cuts.offload) if cut is not None}
    )
    compared = {settled[AWARE], settled[OBLIVIOUS], *candidates}
    b.script.forget()
    latencies_s = rounds(b, arms, compared)
    return {
        "rate_bps": rate_bps,
        "competing": competing,
        "aware": settled[AWARE],
        "oblivious": settled[OBLIVIOUS],
        "local": b.cuts.local,
        "offload": b.cuts.offload,
        "candidates": candidates,
        "believed_load": believed.load,
        "believed": asdict(believed),
        "measured_load": load,
        "predicted_s": {str(arm): float(values_s[arm]) for arm in arms},
        "latencies_s": {str(arm): took for arm, took in latencies_s.items()},
        "slow": [arm for arm in arms if len(_answered(latencies_s[arm])) <= SLOW_ROUNDS],
        "segments": segments(b, b.script.runs, believed.load),
    }


def rounds(b: Bench, arms: list[int], compared: set[int]) -> dict[int, list[float | None]]:
    """Each round runs one request by each arm, in an order that rotates.

    Slow arms have fewer rounds, those that are not `compared` one.
    """
    took: dict[int, list[float | None]] = {arm: [] for arm in arms}
    start_s = time.perf_counter()
    for i in range(MOST_ROUNDS):
        if i >= LEAST_ROUNDS and time.perf_counter() - start_s > ROUNDS_S:
            break
        turn = i % len(arms)
        for arm in arms[turn:] + arms[:turn]:
            slow = max(_answered(took[arm]), default=0.0) > SLOW_S
            if slow and i >= (SLOW_ROUNDS if arm in compared else 1):
                continue
            found = b.request(arm)
            took[arm].append(None if found is None else found.latency_s)
    return took


def segments(b: Bench, runs: list[ServerRun], believed_load: float) -> list[dict[str, Any]]:
    """Of each cut that ran: its server's segment as predicted with the believed k, and measured."""
    by_cut: dict[int, list[float]] = {}
    for run in runs:
        if not run.look:
            by_cut.setdefault(run.cut, []).append(run.compute_s)
    return [
        {
            "cut": cut,
            "unloaded_s": b.cuts.cuts[cut].server_s,
            "predicted_s": believed_load * b.cuts.cuts[cut].server_s,
            "measured_s": statistics.fmean(found),
        }
        for cut, found in sorted(by_cut.items())
    ]


def _answered(rounds: list[float | None]) -> list[float]:
    return [x for x in rounds if x is not None]


def _line(p: dict[str, Any]) -> str:
    took = {int(arm): x for arm, x in p["latencies_s"].items()}

    def ms(cut: int | None) -> str:
        found = None if cut is None else median(took[cut])
        return "–" if found is None else f"{1e3 * found:.0f}"

    regret = cross_fitted(took, p["aware"])
    said = ", ".join(
        f"{name} {p[name]}: {ms(p[name])}" for name in ("aware", "oblivious", "local", "offload")
    )
    return (
        f"{p['model']} {p['rate_bps'] / 1e6:g} Mbit/s, {p['competing']} competing: {said} ms;"
        f" regret {'–' if regret is None else f'{regret:+.1%}'}, k believed"
        f" {p['believed_load']:.2f} measured {p['measured_load']:.2f}, {len(took)} arms,"
        f" {p['took_s']:.0f} s"
    )


def result(points: list[dict[str, Any]]) -> dict[str, Any]:
    names = list(dict.fromkeys(p["model"] for p in points))
    return {
        "summary": grid_summary(points),
        "models": {n: grid_summary([p for p in points if p["model"] == n]) for n in names},
        "points": points,
    }
