"""The cut follows the network and the load by itself: adaptation in the lab, against baselines.

A device with a share of a core and a server hold all cuts of a model that are ever best; links are
shaped by the kernel, and competing processes run inference in the server's control group.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import adapt_grid
import adapt_lab
import adapt_shares
import adapt_steady
import adapt_steps
import adapt_trace
from common import text, write_result

GRID = "grid:"
MOVING, MOVING_MODEL = "moving", "alexnet 224"
PARTS = (*(f"{GRID}{name}" for name in adapt_grid.MODELS), MOVING)
QUICK = (f"{GRID}{MOVING_MODEL}", MOVING)
PUBLISHED = {"mean": 0.142, "largest": 0.323}


def part(name: str, quick: bool) -> Any:
    """One part's result. This process joins the lab for it."""
    if name == MOVING:
        return moving(quick)
    return adapt_grid.model_grid(name.removeprefix(GRID), quick)


def moving(quick: bool) -> dict[str, Any]:
    """Steps, a steady link and the trace, of one model on one deployment."""
    with adapt_lab.bench(MOVING_MODEL) as b:
        factors = b.load_factors()
        adapt_lab.say(f"k by competing processes: {factors}")
        about = {
            "model": MOVING_MODEL,
            "load_factors": {str(n): k for n, k in factors.items()},
            "cuts": [cut.name for cut in b.cuts.cuts],
        }
        steps = adapt_steps.result(b, factors, quick)
        rows = adapt_steady.result(b, quick)
        warm = adapt_steady.warmed(b)
        trace = adapt_trace.result(b, factors, quick)
        count = b.count.row()
    # With all threads of the deployment ended and outside of the device's group.
    cost = adapt_steady.cost_us(*warm)
    adapt_lab.say(f"decision {cost['decision_us']:.1f} µs, cycle {cost['cycle_us']:.1f} µs")
    return {
        "steps": {**about, **steps},
        "steady": {"model": MOVING_MODEL, "rows": rows, **cost},
        "trace": {**about, **trace},
        "count": count,
    }


def run_part(name: str, quick: bool, folder: Path) -> Any:
    """The part's result, from `folder` where it is there already; else by a process of its own,
    as what has pinned itself and entered a namespace is of no use for the next."""
    path = folder / f"{name.replace(':', '_').replace(' ', '_')}.json"
    if not path.exists():
        command = [sys.executable, __file__, "--part", name, "--into", str(path)]
        subprocess.run([*command, *(["--quick"] if quick else [])], check=True)
    return json.loads(path.read_text())


def assembled(parts: dict[str, Any]) -> dict[str, Any]:
    """The result of all parts; those that did not run are missing."""
    found: dict[str, Any] = {
        "grid": (
            "AlexNet, SqueezeNet, VGG16, ResNet18, ResNet50, Xception; 1, 4, 16, 64 Mbit/s both"
            " ways; 0, 2, 4 competing processes"
        ),
        "device_share_of_a_core": adapt_lab.SHARE,
        "latency_s": adapt_lab.LATENCY_S,
        "published": PUBLISHED,
        "goals": {
            "regret": 0.03,
            "reduction": 0.142,
            "looks": 0.01,
            "load_error": 0.2,
            "step_s": adapt_steps.GOAL_S,
            "step_requests": adapt_steps.GOAL_REQUESTS,
        },
    }
    points = [p for name, rows in parts.items() if name.startswith(GRID) for p in rows]
    if points:
        found["cuts"] = {p["model"]: p.pop("cuts") for p in points if "cuts" in p}
        found["points"] = adapt_grid.result(points)
        found["by_share"] = adapt_shares.by_share(
            found["cuts"], adapt_lab.SHARE, adapt_shares.measured_loads(points)
        )
    moved = parts.get(MOVING)
    if moved is not None:
        found.update({name: moved[name] for name in ("trace", "steps", "steady")})
    found["count"] = total_count([*points, *([] if moved is None else [moved])])
    return found


def total_count(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Requests of all parts: answered, lost, wrong; of points, where one has its model's."""
    counts = [each["count"] for each in found if "count" in each]
    return {
        **{key: sum(c[key] for c in counts) for key in ("answered", "lost", "wrong")},
        "max_rel": max((c["max_rel"] for c in counts), default=0.0),
    }


def main(quick: bool, folder: Path) -> None:
    """All parts, and the result; `quick` runs a little of each, and only prints."""
    start_s = time.perf_counter()
    parts = {}
    names = QUICK if quick else PARTS
    for i, name in enumerate(names):
        print(f"part {i + 1}/{len(names)}: {name}", flush=True)
        parts[name] = run_part(name, quick, folder)
        print(f"{name} done at {time.perf_counter() - start_s:.0f} s", flush=True)
    found = assembled(parts)
    print(text(found["points"]["summary"]), found["count"], flush=True)
    if not quick:
        write_result("adapt", "lab", found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a little of each; writes no result")
    parser.add_argument("--part", choices=PARTS, metavar="NAME", help=f"one of {', '.join(PARTS)}")
    parser.add_argument("--into", type=Path, metavar="FILE", help="with --part: write it there")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="parts that are there are not run again"
    )
    o = parser.parse_args()
    if o.part:
        done = part(o.part, o.quick)
        if o.into is not None:
            o.into.write_text(json.dumps(done))
    elif o.keep is not None:
        o.keep.mkdir(parents=True, exist_ok=True)
        main(o.quick, o.keep)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(o.quick, Path(temporary))
