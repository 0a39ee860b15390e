"""What adaptation costs where nothing changes: looks on the links, processor time, switches."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from adapt_lab import AWARE, Bench, say

from cutset.adaptation import probing
from cutset.adaptation.live import Adapter
from cutset.adaptation.observations import Asked, Observation
from cutset.adaptation.observer import Observer
from cutset.adaptation.policy import Policy

RATES_BPS = (4e6, 16e6)
PAUSES_S = (0.0, 0.5)  # between an answer and the next request
SETTLE_S = 5.0
DURATION_S, QUICK_S = 30.0, 8.0
CALLS = 10_000
#: What a request of a cut in the midst of a model shows: its stage, two transfers, the server's.
OF_A_REQUEST = 4


def one(b: Bench, rate_bps: float, pause_s: float, duration_s: float) -> dict[str, Any]:
    """A link that was steady since the beginning, after the policy has settled: what looks did
    not use of a faster link before is no part of it."""
    b.set(rate_bps, rate_bps, 0)
    b.adapter.renew(b.adapter.policy)
    b.settle(AWARE, SETTLE_S, 8)
    b.script.forget()
    before, start_s = b.adapter.looked, time.monotonic()
    requests = 0
    while time.monotonic() - start_s < duration_s:
        b.request()
        requests += 1
        time.sleep(pause_s)
    after, took_s = b.adapter.looked, time.monotonic() - start_s
    sent = [s.decision.cut for s in b.script.sent]
    row = {
        "rate_bps": rate_bps,
        "pause_s": pause_s,
        "duration_s": took_s,
        "requests": requests,
        "switches": sum(a != c for a, c in itertools.pairwise(sent)),
        "cuts": sorted(set(sent)),
        "up_share": probing.share(after.up_bytes - before.up_bytes, rate_bps, took_s),
        "down_share": probing.share(after.down_bytes - before.down_bytes, rate_bps, took_s),
        "server_share": (after.server_s - before.server_s) / took_s,
    }
    say(
        f"steady {rate_bps / 1e6:g} Mbit/s, pause {pause_s:g} s: {requests} requests,"
        f" {row['switches']} switches, looks {row['up_share']:.2%} up, {row['down_share']:.2%}"
        f" down, {row['server_share']:.2%} of the server"
    )
    return row


def cost_us(
    adapter: Adapter, policy: Policy[Any], state: Any, latest: Sequence[Observation]
) -> dict[str, Any]:
    """Processor time of a decision, and of all that a request makes the loop do: its observations
    are folded into what is believed and into the policy's state, then it is asked."""
    at_s = state.seen.at_s

    def decisions() -> None:
        for i in range(CALLS):
            policy.step(state, Asked(at_s + 1e-4 * i))

    decision_us = _cpu_us(decisions)
    observer, seen = Observer(adapter.cuts), adapter.seen
    shown = tuple(latest)[-OF_A_REQUEST:]
    later = [
        tuple(replace(o, at_s=at_s + 0.05 * i) for o in (*shown, Asked(0.0)))
        for i in range(CALLS // 10)
    ]

    def cycles() -> None:
        nonlocal state, seen
        for observations in later:
            for observation in observations[:-1]:
                seen = observer.see(seen, observation)
                state, _ = policy.step(state, observation)
            state, _ = policy.step(state, observations[-1])

    cycle_us = 10 * _cpu_us(cycles)
    return {"decision_us": decision_us, "cycle_us": cycle_us, "observations": len(shown)}


def _cpu_us(work: Any) -> float:
    """Of CALLS calls, each."""
    start_s = time.process_time()
    work()
    return 1e6 * (time.process_time() - start_s) / CALLS


def result(b: Bench, quick: bool) -> list[dict[str, Any]]:
    """A steady link, with and without pauses between requests."""
    duration_s = QUICK_S if quick else DURATION_S
    return [one(b, rate, pause, duration_s) for rate in RATES_BPS for pause in PAUSES_S]


def warmed(b: Bench) -> tuple[Any, Any, Any, Any]:
    """What `cost_us` takes, in a state that was warmed by requests over the links."""
    b.set(64e6, 64e6, 0)
    b.settle(AWARE, SETTLE_S, 8)
    return b.adapter, b.script.policies[AWARE], b.script.states[AWARE], tuple(b.script.latest)
