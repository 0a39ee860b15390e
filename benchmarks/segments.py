"""What cutting itself costs: chained submodels against the whole, one process, one thread.

CPU time, so that other processes hardly count. In each round these take turns in a new order: the
whole; a second session of it (the control: what noise does to a ratio that must be 1); the
prepared whole (shapes fixed, constants folded, uncut); chains of 2 and 4, cut at the articulations
nearest to equal times, and where the fewest bytes cross near them. A ratio is taken in each round,
and its median quoted.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from common import quartiles, write_result
from models import (
    ENTRIES,
    ONE_THREAD,
    Entry,
    crossing_bytes,
    cut_positions,
    measured_here,
    plan_at,
    prepared,
)

from cutset import engine
from cutset.feeds import random_feeds
from cutset.onnx_io import Model, submodels
from cutset.onnx_io import whole as prepared_whole
from cutset.ports import Array
from cutset.verify import compare

Feeds = Mapping[str, Array]

GOALS = {2: 1.05, 4: 1.10}
LEAST_S = 0.020  # the goals are for models that take at least this
ROUND_BUDGET_S = 8.0  # per model, for all rounds together
LEAST_ROUNDS, MOST_ROUNDS = 15, 60


class Chain:
    """Submodels one after another in this process, each in a session of its own."""

    def __init__(self, model: Model, positions: Sequence[int]) -> None:
        plan = plan_at(model.graph, positions, ["here"] * (len(positions) + 1))
        self._runnables = [engine.load(piece, ONE_THREAD) for piece in submodels(model, plan)]
        self._outputs = model.graph.outputs
        # A tensor is dropped after its last reader, as in one session.
        self._last = {name: i for i, r in enumerate(self._runnables) for name in r.input_names}

    def run(self, feeds: Feeds) -> dict[str, Array]:
        values = dict(feeds)
        for i, runnable in enumerate(self._runnables):
            values.update(runnable.run({name: values[name] for name in runnable.input_names}))
            for name in runnable.input_names:
                if self._last[name] == i and name not in self._outputs:
                    del values[name]
        return {name: values[name] for name in self._outputs}


def measure(entry: Entry, folder: Path, rounds: int | None) -> dict[str, Any]:
    model = prepared(entry, folder)
    feeds = random_feeds(model.ports, 1)[0]
    times = measured_here(model, feeds)
    whole, again = (engine.load(model.path, ONE_THREAD) for _ in range(2))
    uncut = engine.load(prepared_whole(model), ONE_THREAD)
    kinds = {"segments": False, "small_cuts": True}
    cuts = {
        (kind, n): cut_positions(model.graph, times, n, small=small)
        for kind, small in kinds.items()
        for n in GOALS
    }
    chains = {key: Chain(model, positions) for key, positions in cuts.items()}
    expected = whole.run(feeds)
    compared = {key: compare(chain.run(feeds), expected) for key, chain in chains.items()}
    runs: dict[str, Callable[[], object]] = {
        "whole": partial(whole.run, feeds),
        "control": partial(again.run, feeds),
        "prepared": partial(uncut.run, feeds),
        **{f"{kind} {n}": partial(chain.run, feeds) for (kind, n), chain in chains.items()},
    }
    spent = interleaved(runs, rounds)
    total = math.fsum(times)

    def chain(kind: str, n: int) -> dict[str, Any]:
        name, positions, comparison = f"{kind} {n}", cuts[kind, n], compared[kind, n]
        return {
            "segments": len(positions) + 1,
            "ratio": quartiles(ratios(spent, name)),
            "ratio_to_prepared": quartiles(ratios(spent, name, "prepared")),
            # The least of many rounds: what is left when the noise is not there.
            "ratio_of_minima": min(spent[name]) / min(spent["whole"]),
            "cuts": [
                {
                    "before": model.graph.operators[p].name,
                    "at_share_of_time": math.fsum(times[:p]) / total,
                    "tensors": len(model.graph.crossing(p)),
                    "bytes": crossing_bytes(model.graph, p),
                    "articulation": p in model.graph.articulations,
                }
                for p in positions
            ],
            "bit_equal": comparison.bit_equal,
            "max_rel": comparison.max_rel,
        }

    return {
        "model": entry.name,
        "source": entry.source,
        "operators": len(model.graph.operators),
        "whole_cpu_s": quartiles(spent["whole"]),
        "rounds": len(spent["whole"]),
        "control_ratio": quartiles(ratios(spent, "control")),
        "prepared_ratio": quartiles(ratios(spent, "prepared")),
        **{kind: {str(n): chain(kind, n) for n in GOALS} for kind in kinds},
    }


def interleaved(
    runs: Mapping[str, Callable[[], object]], rounds: int | None
) -> dict[str, list[float]]:
    """CPU seconds of each, by turns in a seeded random order."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    shuffler = random.Random(0)
    for run in runs.values():  # warm-up: the first runs allocate
        run()
        run()
    start_s = time.perf_counter()
    while True:
        shuffler.shuffle(order)
        for name in order:
            cpu_s = time.process_time()
            runs[name]()
            spent[name].append(time.process_time() - cpu_s)
        count = len(spent[order[0]])
        late = time.perf_counter() - start_s > ROUND_BUDGET_S
        if count >= (rounds or MOST_ROUNDS) or (late and count >= LEAST_ROUNDS):
            return spent


def ratios(spent: Mapping[str, Sequence[float]], name: str, to: str = "whole") -> list[float]:
    return [a / b for a, b in zip(spent[name], spent[to], strict=True)]


def main(quick: bool = False) -> None:
    """Run all and write the result; `quick` takes two models and few rounds, and only prints."""
    names = ("squeezenet 640", "ppocr_rec 48x864") if quick else tuple(ENTRIES)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for i, name in enumerate(names):
            row = measure(ENTRIES[name], Path(folder), 5 if quick else None)
            rows.append(row)
            print(f"{i + 1}/{len(names)} {_line(row)}", flush=True)
    counted = [row for row in rows if row["whole_cpu_s"]["median"] >= LEAST_S]
    summary: dict[str, Any] = {
        str(n): {"goal": goal, "models": len(counted), **_met(counted, "segments", n)}
        for n, goal in GOALS.items()
    }
    summary["small_cuts"] = {str(n): _met(counted, "small_cuts", n) for n in GOALS}
    chains = [r[kind][str(n)] for r in rows for kind in ("segments", "small_cuts") for n in GOALS]
    summary["chains"] = len(chains)
    summary["bit_equal"] = sum(c["bit_equal"] for c in chains)
    summary["largest_max_rel"] = max(c["max_rel"] for c in chains)
    print(summary)
    if not quick:
        write_result(
            "segments",
            "measured",
            {
                "baseline": "the model's own file in one session; one thread, CPU time",
                "summary": summary,
                "models": rows,
            },
        )


def _met(rows: Sequence[Mapping[str, Any]], kind: str, n: int) -> dict[str, float]:
    found = [row[kind][str(n)]["ratio"]["median"] for row in rows]
    return {"met": sum(x <= GOALS[n] for x in found), **quartiles(found), "worst": max(found)}


def _line(row: Mapping[str, Any]) -> str:
    parts = [
        f"{n}: x{s['ratio']['median']:.3f} (small cuts"
        f" x{row['small_cuts'][n]['ratio']['median']:.3f}, max_rel {s['max_rel']:.1e})"
        for n, s in row["segments"].items()
    ]
    return (
        f"{row['model']}: {1e3 * row['whole_cpu_s']['median']:.1f} ms,"
        f" control x{row['control_ratio']['median']:.3f},"
        f" prepared x{row['prepared_ratio']['median']:.3f}, {', '.join(parts)}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two models, few rounds")
    main(parser.parse_args().quick)
