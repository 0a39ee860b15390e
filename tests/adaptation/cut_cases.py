"""Four cuts of a small network, and streams of observations of requests over them."""

import math
import random
from collections.abc import Callable, Iterator

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cut, Cuts
from cutset.adaptation.observations import Asked, DeviceRun, ServerRun, Transfer
from cutset.adaptation.policy import Decision, Policy
from cutset.plan import Plan, Stage


def a_cut(name: str, device_s: float, server_s: float, up_bytes: int, down_bytes: int) -> Cut:
    stages = []
    if device_s:
        stages.append(Stage("d", "pi", ("first",)))
    if server_s:
        stages.append(Stage("s", "server", ("second",)))
    return Cut(
        name=name,
        plan=Plan(tuple(stages)),
        device_s=device_s,
        other_s=0.001,
        up_bytes=up_bytes,
        down_bytes=down_bytes,
        server_s=server_s,
        uses_server=server_s > 0,
        up_used=up_bytes > 0,
        down_used=down_bytes > 0,
    )


LOCAL, EARLY, LATE, OFFLOAD = range(4)
CUTS = Cuts(
    "pi",
    "server",
    (
        a_cut("local", 0.23, 0, 0, 0),
        a_cut("early", 0.06, 0.03, 100_000, 4000),
        a_cut("late", 0.14, 0.012, 30_000, 4000),
        a_cut("offload", 0, 0.05, 600_000, 4000),
    ),
)
STATED = Conditions(20e6, 20e6, 0.002, 0.002)


def served(
    policy: Policy,
    holds: Callable[[int], Conditions],
    requests: int,
    *,
    noise: float = 0.0,
    outliers: float = 0.0,
    seed: int = 1,
) -> Iterator[Decision]:
    """The decision for each request, five a second. Links are observed with lognormal noise of
    that deviation; a fraction of all measurements are ten times too slow. What a cut does not use
    is looked at."""
    rng = random.Random(seed)
    state = policy.start(CUTS, holds(0), 0.0)
    since_outlier: dict[str, int] = {}

    def measured(what: str, seconds: float) -> float:
        since_outlier[what] = since_outlier.get(what, 0) + 1
        if outliers and since_outlier[what] * outliers >= 1:
            since_outlier[what] = 0
            return 10 * seconds
        return seconds * math.exp(rng.gauss(0, noise if what in ("up", "down") else 0))

    for i in range(requests):
        at_s, truth = i / 5, holds(i)
        state, decision = policy.step(state, Asked(at_s))
        yield decision
        at_s += 0.1
        cut = CUTS.cuts[decision.cut]
        for up in (True, False):
            rate = truth.up_bps if up else truth.down_bps
            big = (cut.up_bytes if up else cut.down_bytes) >= 8000
            sent = int(cut.up_bytes if up else cut.down_bytes) if big else 3000
            took_s = measured("up" if up else "down", 8 * sent / rate)
            state, _ = policy.step(state, Transfer(at_s, up, sent, took_s, look=not big))
        ran = decision.cut if cut.uses_server else LATE
        run_s = measured("load", CUTS.cuts[ran].server_s * truth.load)
        state, _ = policy.step(state, ServerRun(at_s, ran, run_s, truth.queue_s))
        if cut.device_s:
            run_s = measured("slowdown", cut.device_s * truth.slowdown)
            state, _ = policy.step(state, DeviceRun(at_s, decision.cut, run_s))
