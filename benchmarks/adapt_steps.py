"""Steps of bandwidth and load: how soon the load-aware policy takes a good cut for what holds."""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from dataclasses import dataclass
from typing import Any

from adapt_lab import AWARE, MOST_LOAD, Bench, say
from adapt_math import STAYS, Followed, followed, good_cuts

SEED = 3
REPEATS = 4
BEFORE_S, BEFORE_REQUESTS = 4.0, 8
#: A step comes at a random time in this span after the steady requests, so in a request's midst.
SPAN_S = 0.4
GIVE_UP_S = 12.0
GOAL_S, GOAL_REQUESTS = 1.0, 3
#: Where load changes, the rate is that of these at which it matters most which cut is taken.
LOAD_RATES_BPS = (4e6, 16e6, 64e6)


@dataclass(frozen=True)
class State:
    rate_bps: float
    competing: int


@dataclass(frozen=True)
class Step:
    name: str
    before: State
    after: State


def steps(load_rate_bps: float) -> tuple[Step, ...]:
    rates = ((16, 1), (1, 16), (64, 4), (4, 64))
    loads = ((0, MOST_LOAD), (MOST_LOAD, 0))
    return (
        *(Step(f"{a} → {b} Mbit/s", State(a * 1e6, 0), State(b * 1e6, 0)) for a, b in rates),
        *(
            Step(
                f"{a} → {b} competing, {load_rate_bps / 1e6:g} Mbit/s",
                State(load_rate_bps, a),
                State(load_rate_bps, b),
            )
            for a, b in loads
        ),
    )


def load_rate_bps(b: Bench, factors: dict[int, float]) -> float:
    """The rate at which keeping the cut loses most: in the direction in which that loses less, as
    both are measured."""

    def loss(rate_bps: float) -> float:
        idle, full = (
            b.cuts.values_s(b.truth(rate_bps, rate_bps, factors[n])) for n in (0, MOST_LOAD)
        )
        loaded, recovered = full[idle.argmin()] / full.min(), idle[full.argmin()] / idle.min()
        return float(min(loaded, recovered))

    return max(LOAD_RATES_BPS, key=loss)


def good(b: Bench, state: State, factors: dict[int, float]) -> frozenset[int]:
    truth = b.truth(state.rate_bps, state.rate_bps, factors[state.competing])
    return good_cuts(b.cuts.values_s(truth).tolist())


def one(b: Bench, step: Step, factors: dict[int, float], wait_s: float) -> dict[str, Any]:
    """The step from steady state, and what followed it."""
    b.set(step.before.rate_bps, step.before.rate_bps, step.before.competing)
    held = b.settle(AWARE, BEFORE_S, BEFORE_REQUESTS)
    wanted = good(b, step.after, factors)
    stepped: list[float] = []
    failures: list[BaseException] = []

    def change() -> None:
        try:
            time.sleep(wait_s)
            b.set(step.after.rate_bps, step.after.rate_bps, step.after.competing)
            stepped.append(time.monotonic())  # from here on it holds
        except BaseException as error:  # told by the main thread
            failures.append(error)

    thread = threading.Thread(target=change, name="step", daemon=True)
    start_s = time.monotonic()
    b.script.forget()
    thread.start()
    found: Followed | None = None
    while time.monotonic() - start_s < GIVE_UP_S + wait_s:
        b.request()
        if failures:
            raise failures[0]
        if stepped:
            sent = [(s.at_s, s.decision.cut in wanted) for s in b.script.sent]
            found = followed(sent, stepped[0])
            if found is not None:
                break
    thread.join()
    after_s = [s.decision.cut for s in b.script.sent if stepped and s.at_s >= stepped[0]]
    return {
        "step": step.name,
        "held": held,
        "good": sorted(wanted),
        "needless": held in wanted,
        "cuts_after": after_s[:20],
        "after_s": None if found is None else found.after_s,
        "requests": None if found is None else found.requests,
        "reached": found is not None and reached(found),
    }


def reached(found: Followed) -> bool:
    """Within the requests or the time of the goal, whichever is later."""
    return found.requests <= GOAL_REQUESTS or found.after_s <= GOAL_S


def result(b: Bench, factors: dict[int, float], quick: bool) -> dict[str, Any]:
    draw = random.Random(SEED)
    rows = []
    chosen = steps(load_rate_bps(b, factors))
    for step in chosen[2:6:2] if quick else chosen:
        for _ in range(1 if quick else REPEATS):
            row = one(b, step, factors, draw.random() * SPAN_S)
            rows.append(row)
            say(
                f"step {step.name}: held {row['held']}, good {row['good']}: "
                + (
                    f"not followed, {row['cuts_after']}"
                    if row["after_s"] is None
                    else f"after {row['after_s']:.2f} s and {row['requests']} requests"
                )
            )
    return {
        "repeats": REPEATS,
        "stays": STAYS,
        "goal": {"seconds": GOAL_S, "requests": GOAL_REQUESTS},
        "steps": [dataclasses.asdict(step) for step in chosen],
        "rows": rows,
    }
