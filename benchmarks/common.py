"""What all benchmarks share: the machine's description, and results as committed JSON."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

PACKAGES = ("numpy", "onnx", "onnxruntime", "eclipse-zenoh", "pyzmq", "ortools", "scipy")


def machine() -> dict[str, Any]:
    """The machine as figures must name it: processor, cores, memory, system, versions."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def write_result(name: str, kind: str, result: dict[str, Any]) -> Path:
    """Write results/NAME.json. `kind` is "measured", "lab", "emulated" or "simulated"."""
    document = {
        "benchmark": name,
        "kind": kind,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        **result,
    }
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles: what is quoted of times on a shared machine."""
    if len(values) == 1:
        return {"p25": values[0], "median": values[0], "p75": values[0]}
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"p25": low, "median": middle, "p75": high}
