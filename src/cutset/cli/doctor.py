"""`cutset doctor`: whether this machine can plan, run, and emulate."""

from __future__ import annotations

import platform
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutset.cli import output, targets

if TYPE_CHECKING:
    from rich.console import Console

    from cutset.cluster import Cluster
    from cutset.runtime.coordinator import DeviceStatus


@dataclass(frozen=True)
class Check:
    """`ok` None is a remark: something that only some commands need."""

    name: str
    ok: bool | None
    found: str
    remedy: str | None = None


def machine_checks() -> list[Check]:
    """What is here, and what to do about what is not. Opens no network."""
    from importlib.util import find_spec

    from cutset.engine import physical_cores
    from cutset.runtime import machine_info
    from cutset.units import format_bytes

    versions = machine_info.versions()
    providers = machine_info.providers()
    bits = 8 * struct.calcsize("P")
    arm32 = platform.machine().startswith("arm") and bits == 32
    checks = [
        Check(
            "python",
            sys.version_info >= (3, 11),
            f"{versions['python']}, {bits} bit, {versions['platform']}",
            None if sys.version_info >= (3, 11) else "install Python 3.11 or later",
        ),
        Check("cpu", True, f"{machine_info.cpu_name()}, {physical_cores()} physical cores"),
        Check("memory", True, format_bytes(machine_info.memory_bytes())),
        Check("cutset", "cutset" in versions, versions.get("cutset", "not installed")),
        Check(
            "zenoh",
            "eclipse-zenoh" in versions,
            versions.get("eclipse-zenoh", "not installed"),
            None if "eclipse-zenoh" in versions else "pip install eclipse-zenoh",
        ),
        Check(
            "engine",
            bool(providers),
            f"ONNX Runtime with {', '.join(providers)}" if providers else "no ONNX Runtime",
            None if providers else _engine_remedy(arm32),
        ),
    ]
    missing = [m for m in ("onnx", "onnx_ir", "onnxscript", "scipy", "ortools") if not find_spec(m)]
    checks.append(
        Check(
            "planner",
            None if missing else True,
            f"missing: {', '.join(missing)}" if missing else "complete",
            "pip install 'cutset[plan]' where models are planned; a worker needs none of it"
            if missing
            else None,
        )
    )
    checks.append(_lab())
    return checks


def _engine_remedy(arm32: bool) -> str:
    if arm32:
        return "ONNX Runtime has no wheel for 32-bit ARM: install a 64-bit system on this board"
    return "pip install 'cutset[cpu]' (or onnxruntime-gpu)"


def _lab() -> Check:
    """What kernel-shaped links need: tried in a scratch namespace."""
    from cutset.lab import unavailable

    lacks = unavailable()
    return Check(
        "lab",
        None if lacks else True,
        lacks or "possible",
        "devices without an endpoint are emulated in process instead" if lacks else None,
    )


def doctor(
    cluster: Annotated[
        Path | None, typer.Option("--cluster", help="Check this cluster file too.")
    ] = None,
    insecure: targets.InsecureOption = False,
    lab: targets.LabOption = False,
    json: output.JsonFlag = False,
) -> None:
    """Check this machine, and with a cluster its devices: versions, reachability, memory."""
    checks = machine_checks()
    if cluster is not None:
        with output.working("contacting the devices"):
            checks += cluster_checks(cluster, insecure, lab)
    document: dict[str, Any] = {
        "ok": all(c.ok is not False for c in checks),
        "checks": [
            {"name": c.name, "ok": c.ok, "found": c.found, "remedy": c.remedy} for c in checks
        ],
    }
    output.emit(json, document, lambda console: _show(console, checks))
    if not document["ok"]:
        raise typer.Exit(1)


def cluster_checks(path: Path, insecure: bool = False, lab: bool = False) -> list[Check]:
    """The cluster file, and every device of it: those without endpoint are started here for it.

    Raises InvalidFileError for a bad file.
    """
    from cutset.runtime.coordinator import Coordinator
    from cutset.serde import read_cluster

    cluster = read_cluster(path)
    others = [d for d in cluster.devices if d.name != cluster.source]
    ways = {
        "by endpoint": [d.name for d in others if d.endpoint],
        "by multicast": [d.name for d in others if d.interface and not d.endpoint],
        "emulated here": [d.name for d in others if not d.interface and not d.endpoint],
    }
    reached = "; ".join(
        [f"{cluster.source} is this", *(f"{', '.join(n)} {way}" for way, n in ways.items() if n)]
    )
    links = len(list(cluster.pairs()))
    found = [
        Check(
            "cluster",
            True,
            f"{len(cluster.devices)} devices ({reached}), {links} directed links",
        )
    ]
    with (
        targets.in_lab(cluster, lab) as entered,
        Coordinator(entered.cluster, insecure=insecure) as coordinator,
    ):
        states = coordinator.status()
    found += [_device(state, cluster) for state in states]
    if not lab:
        found += _shared_hosts(states)
    return found


def _shared_hosts(states: Sequence[DeviceStatus]) -> list[Check]:
    """Devices with endpoints of their own that are one machine: they share its cores and memory."""
    by_host: dict[str, list[str]] = {}
    for state in states:
        if state.status is not None and state.status.host_id and state.endpoint is not None:
            by_host.setdefault(state.status.host_id, []).append(state.name)
    return [
        Check(
            "one machine",
            None,
            f"{', '.join(names)} are workers of one machine",
            "their times and memory limits count as if each had it alone: use one worker there",
        )
        for names in by_host.values()
        if len(names) > 1
    ]


def _device(state: DeviceStatus, cluster: Cluster) -> Check:
    from cutset.units import format_bytes, format_time

    name = f"device {state.name}"
    status = state.status
    if status is None or state.round_trip_s is None:
        return Check(name, False, state.error or "it does not answer")  # which says what to do
    if state.name == cluster.source:
        where = "this process, as the source"
    elif state.endpoint is None:
        where = "emulated here"
    else:
        where = f"reachable at {state.endpoint}, round trip {format_time(state.round_trip_s)}"
    if state.path is not None:
        where += f", data {state.path}"
    limit = status.memory_limit_bytes
    memory = format_bytes(status.memory_bytes) + (f", limit {format_bytes(limit)}" if limit else "")
    there = status.versions.get("cutset", "unknown")
    here = version("cutset")
    text = f"{where}; cutset {there}; {memory}; {', '.join(status.providers) or 'no engine'}"
    if not status.providers:
        return Check(name, False, text, f"pip install 'cutset[cpu]' on {state.name}")
    if there != here:
        return Check(name, None, text, f"here it is cutset {here}: install the same on both")
    return Check(name, True, text)


def _show(console: Console, checks: list[Check]) -> None:
    signs = {True: "ok", False: "FAILED", None: "note"}
    width = max(len(check.name) for check in checks) + 1
    for check in checks:
        console.print(f"{signs[check.ok]:<8}{check.name:<{width}}{check.found}")
        if check.remedy:
            console.print(f"{'':<{8 + width}}{check.remedy}")
