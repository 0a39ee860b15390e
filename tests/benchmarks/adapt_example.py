"""A small made-up result of the adaptive benchmark, as benchmarks/adapt.py assembles it."""

from __future__ import annotations

import random
from types import ModuleType
from typing import Any


def point(model: str, rate_bps: float, competing: int) -> dict[str, Any]:
    """A device of 100 ms, a server of 20 ms, 600 kB to send; the policies take the obvious."""
    draw = random.Random(f"{model} {rate_bps} {competing}")
    load = 1.0 + competing
    means = {0: 0.1, 1: 0.05 + 8 * 60e3 / rate_bps + 0.01 * load, 2: 4.8e6 / rate_bps + 0.02 * load}
    blind = {0: 0.1, 1: 0.06 + 8 * 60e3 / rate_bps, 2: 4.8e6 / rate_bps + 0.02}
    return {
        "model": model,
        "rate_bps": rate_bps,
        "competing": competing,
        "aware": min(means, key=lambda cut: means[cut]),
        "oblivious": min(blind, key=lambda cut: blind[cut]),
        "local": 0,
        "offload": 2,
        "believed_load": 1.1 * load,
        "measured_load": load,
        "latencies_s": {
            str(cut): [s * (1 + 0.02 * draw.random()) for _ in range(4)] for cut, s in means.items()
        },
        "segments": [
            {"cut": 1, "unloaded_s": 0.01, "predicted_s": 0.011 * load, "measured_s": 0.01 * load},
            {"cut": 9, "unloaded_s": 0.001, "predicted_s": 1.0, "measured_s": 0.001},
        ],
    }


def result(adapt_grid: ModuleType, models: tuple[str, ...] = ("alexnet 224", "vgg16 224")) -> Any:
    points = [
        point(model, rate, n)
        for model in models
        for rate in (1e6, 4e6, 16e6, 64e6)
        for n in (0, 2, 4)
    ]
    seconds = 60

    def traced(policy: str, mean_s: float) -> dict[str, Any]:
        return {
            "policy": policy,
            "requests": 600,
            "mean_s": mean_s,
            "p95_s": 2 * mean_s,
            "time_mean_s": 1.5 * mean_s,
            "switches": 7,
            "begun_anew": 1,
            "lost": 0,
            "wrong": 0,
            "latency_by_second_s": [
                None if i == 5 else mean_s * (1 + (i // 15) % 3) for i in range(seconds)
            ],
        }

    policies = ("load-aware", "load-oblivious", "oracle", "local", "offload", "cut 1", "cut 2")
    return {
        "kind": "lab",
        "grid": "two models",
        "device_share_of_a_core": 0.15,
        "latency_s": 0.0,
        "published": {"mean": 0.142, "largest": 0.323},
        "goals": {
            "regret": 0.03,
            "reduction": 0.142,
            "looks": 0.01,
            "load_error": 0.2,
            "step_s": 1.0,
            "step_requests": 3,
        },
        "points": adapt_grid.result(points),
        "by_share": [
            {"share": 0.1, "points": 84, "differ": 0, "mean": None, "largest": None},
            {"share": 0.3, "points": 84, "differ": 20, "mean": 0.26, "largest": 0.52},
        ],
        "trace": {
            "model": "alexnet 224",
            "duration_s": 60.0,
            "seed": 7,
            "dwell_s": 10.0,
            "noise": 0.1,
            "rows": [traced(name, 0.08 + 0.01 * i) for i, name in enumerate(policies)],
            "up_by_second_bps": [1e6 * 4.0 ** ((i // 12) % 4) for i in range(seconds)],
            "competing_by_second": [2 * ((i // 20) % 3) for i in range(seconds)],
        },
        "steps": {
            "model": "alexnet 224",
            "repeats": 2,
            "stays": 3,
            "goal": {"seconds": 1.0, "requests": 3},
            "rows": [
                {"step": step, "needless": False, "after_s": s, "requests": n, "reached": True}
                for step, s, n in (("16 → 1 Mbit/s", 0.5, 2), ("16 → 1 Mbit/s", 0.7, 3))
            ],
        },
        "steady": {
            "model": "alexnet 224",
            "rows": [
                {
                    "rate_bps": 4e6,
                    "pause_s": 0.0,
                    "up_share": 0.004,
                    "down_share": 0.009,
                    "server_share": 0.03,
                    "requests": 300,
                    "switches": 0,
                }
            ],
            "decision_us": 35.7,
            "cycle_us": 328.5,
            "observations": 4,
        },
        "count": {"answered": 1000, "lost": 0, "wrong": 0, "max_rel": 1.5e-7},
    }
