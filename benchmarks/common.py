"""What all benchmarks share: the machine's description, and results as committed JSON."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
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


def columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows that many problems make, with their columns' names once and numbers of six digits; null
    where a row has no such column."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {"columns": names, "values": [[_short(row.get(name)) for name in names] for row in rows]}


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def text(document: Mapping[str, Any]) -> str:
    """JSON with a line for each value, and for each list that holds no list or mapping."""
    return _text(document, "\n") + "\n"


def _text(value: Any, line: str) -> str:
    inner = line + " "
    if isinstance(value, Mapping) and value:
        parts = (f"{json.dumps(key)}: {_text(item, inner)}" for key, item in value.items())
        return f"{{{inner}{f',{inner}'.join(parts)}{line}}}"
    if isinstance(value, list | tuple) and any(
        isinstance(v, Mapping | list | tuple) for v in value
    ):
        return f"[{inner}{f',{inner}'.join(_text(item, inner) for item in value)}{line}]"
    return json.dumps(value)


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
    path.write_text(text(document))
    return path


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles: what is quoted of times on a shared machine."""
    if len(values) == 1:
        return {"p25": values[0], "median": values[0], "p75": values[0]}
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"p25": low, "median": middle, "p75": high}
