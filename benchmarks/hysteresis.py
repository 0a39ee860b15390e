"""How much calm costs: margins of the load-aware policy against regret, simulated.

Each setting plays the same seeded traces (Markov-modulated bandwidth and load, and a steady link
near a border between cuts) with noisy measurements; AlexNet's cuts as `adapt` found them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np
from adapt_map import MODEL, cuts_of
from common import RESULTS, write_result

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.generator import generate
from cutset.adaptation.policies import LoadAware
from cutset.adaptation.regret import score
from cutset.adaptation.simulated import Setting, play
from cutset.adaptation.traces import Trace

GAINS, MARGINS, DWELLS_S = (0.0, 0.03, 0.1), (0.0, 1.0, 2.0), (0.0, 1.0)
SEEDS, DURATION_S = (1, 2, 3), 120.0
NOISE = 0.2  # of each measurement, as a factor's logarithm
BASE = Conditions(16e6, 16e6, 1e-3, 1e-3)


def traces(cuts: Cuts, quick: bool) -> dict[str, list[Trace]]:
    """Changing ones, and a steady one whose two cheapest cuts cost the same within 1%."""
    seeds, seconds = (SEEDS[:1], 20.0) if quick else (SEEDS, DURATION_S)
    border = border_bps(cuts)
    level = {"loads": (1.0,), "bandwidths_bps": (border,), "noise": 0.1}
    return {
        "changing": [generate(seed, seconds, BASE) for seed in seeds],
        "border": [generate(seed, seconds, BASE, **level) for seed in seeds],  # type: ignore[arg-type]
    }


def border_bps(cuts: Cuts) -> float:
    """The rate from 1 to 64 Mbit/s at which the two cheapest cuts are nearest to each other."""
    rates = [float(1e6 * 64 ** (i / 600)) for i in range(601)]

    def apart(rate: float) -> float:
        values = np.sort(cuts.values_s(Conditions(rate, rate, 1e-3, 1e-3)))
        nearest: float = values[1] / values[0]
        return nearest

    return min(rates, key=apart)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small run that writes no result")
    quick = parser.parse_args().quick
    cuts = cuts_of(json.loads((RESULTS / "adapt.json").read_text())["cuts"][MODEL])
    played = traces(cuts, quick)
    rows: list[Mapping[str, Any]] = []
    for gain, margin, dwell_s in itertools.product(GAINS, MARGINS, DWELLS_S):
        policy = LoadAware(gain, dwell_s, margin)
        row: dict[str, Any] = {"min_gain": gain, "noise_margin": margin, "min_dwell_s": dwell_s}
        for kind, some in played.items():
            scores = [
                score(play(trace, cuts, policy, Setting(noise=NOISE, seed=seed)))
                for seed, trace in enumerate(some)
            ]
            minutes = sum(trace.duration_s for trace in some) / 60
            row[f"{kind}_regret"] = statistics.fmean(s.regret or 0.0 for s in scores)
            row[f"{kind}_switches_per_min"] = sum(s.switches for s in scores) / minutes
        rows.append(row)
        print(", ".join(f"{k} {v:.3g}" for k, v in row.items()), flush=True)
    if not quick:
        setting = {"noise": NOISE, "seeds": SEEDS, "duration_s": DURATION_S}
        write_result("hysteresis", "simulated", {**setting, "rows": rows})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
