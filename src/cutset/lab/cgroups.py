"""Control groups of the lab's devices: a guard on the processor and a limit on memory, v1 and v2.

The guard is a coarse brake beside the engine's pacing, which makes compute times true: it keeps a
device from taking more of a core than it has, also for what the engine does not see.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cutset.lab.state import DeviceSpec

#: Short, so that the brake is felt by short stages; the kernel refuses quotas under 1 ms.
PERIOD_S: Final = 0.005
LEAST_QUOTA_S: Final = 0.001
#: Resident memory of a worker process before it hosts anything, with room for what it has in
#: transit and for the engine's library (about 110 MiB when measured), as its own limit counts
#: stages only.
ALLOWANCE_BYTES: Final = 256 * 2**20


@dataclass(frozen=True)
class Hierarchy:
    """Where groups can be made: the folder for cpu and the one for memory (v2: the same)."""

    cpu: Path
    memory: Path | None
    version: int


def find(
    mounts: Path = Path("/proc/self/mounts"), own: Path = Path("/proc/self/cgroup")
) -> Hierarchy | None:
    """The hierarchy that this process may use; None where there is no cpu controller.

    Under v1 the folder of this process, so that limits above it go on to hold; under v2, where a
    group with processes can have no groups with controllers in it, the root.
    """
    found: dict[str, Path] = {}
    unified: Path | None = None
    for line in mounts.read_text().splitlines():
        parts = line.split()
        if len(parts) < 4:
            continue
        if parts[2] == "cgroup2":
            unified = Path(parts[1])
        elif parts[2] == "cgroup":
            for name in {"cpu", "memory"} & set(parts[3].split(",")):
                found[name] = Path(parts[1])
    if "cpu" in found:
        inside = _own_folders(own)
        places = {n: _below(path, inside.get(n, "/")) for n, path in found.items()}
        return Hierarchy(places["cpu"], places.get("memory"), 1)
    if unified is not None:
        with contextlib.suppress(OSError):
            controllers = (unified / "cgroup.controllers").read_text().split()
            if "cpu" in controllers:
                return Hierarchy(unified, unified if "memory" in controllers else None, 2)
    return None


def _own_folders(own: Path) -> dict[str, str]:
    folders = {}
    for line in own.read_text().splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        folders.update(dict.fromkeys(names.split(","), path))
    return folders


def _below(mount: Path, path: str) -> Path:
    inner = mount / path.lstrip("/")
    return inner if inner.is_dir() else mount  # a container sees paths of its host


def guard(share: float) -> float:
    """The most of a core that a device's processes get: what pacing needs, twice."""
    return min(1.0, 2 * share)


def quota_us(share: float) -> tuple[int, int]:
    """Quota and period of a guard, in microseconds."""
    allowed = guard(share)
    period_s = max(PERIOD_S, LEAST_QUOTA_S / allowed)
    return round(allowed * period_s * 1e6), round(period_s * 1e6)


def memory_limit(device: DeviceSpec) -> int | None:
    """Bytes that a device's processes may hold in all; None is unlimited."""
    return None if device.memory_bytes is None else device.memory_bytes + ALLOWANCE_BYTES


def folders(where: Hierarchy, lab: str, index: int) -> tuple[str, ...]:
    """The folders of a device, cpu first."""
    places = [where.cpu] + ([where.memory] if where.memory not in (None, where.cpu) else [])
    return tuple(str(place / lab / f"d{index}") for place in places if place is not None)


def all_folders(where: Hierarchy, lab: str, devices: int) -> tuple[str, ...]:
    """Every folder that a lab of so many devices makes, the deepest first."""
    inner = [f for i in range(devices) for f in folders(where, lab, i)]
    return (*inner, *dict.fromkeys(str(Path(f).parent) for f in inner))


def make(where: Hierarchy, lab: str, index: int, device: DeviceSpec, limited: bool) -> None:
    """Make a device's groups, without a guard yet; `limited` also holds its memory.

    Raises OSError.
    """
    for folder in map(Path, folders(where, lab, index)):
        folder.mkdir(parents=True, exist_ok=True)
        if where.version == 2:
            wanted = "+cpu" + (" +memory" if where.memory is not None else "")
            for above in (folder.parent.parent, folder.parent):
                (above / "cgroup.subtree_control").write_text(wanted)
    limit = memory_limit(device)
    if limited and limit is not None and where.memory is not None:
        name = "memory.limit_in_bytes" if where.version == 1 else "memory.max"
        (where.memory / lab / f"d{index}" / name).write_text(str(limit))


def set_share(where: Hierarchy, lab: str, index: int, share: float) -> None:
    """Change a device's guard at once. Raises OSError."""
    quota, period = quota_us(share)
    folder = where.cpu / lab / f"d{index}"
    if where.version == 2:
        (folder / "cpu.max").write_text(f"{quota} {period}")
        return
    # Each file is checked with the other as it is: the quota may not fall below its least.
    (folder / "cpu.cfs_quota_us").write_text("-1")
    (folder / "cpu.cfs_period_us").write_text(str(period))
    (folder / "cpu.cfs_quota_us").write_text(str(quota))


def memory_in_use(cgroups: tuple[str, ...]) -> int | None:
    """Bytes that a device's processes hold now; None where nobody counts."""
    for folder in cgroups:
        for name in ("memory.usage_in_bytes", "memory.current"):
            with contextlib.suppress(OSError, ValueError):
                return int((Path(folder) / name).read_text())
    return None


def join(cgroups: tuple[str, ...]) -> None:
    """Move this process, all threads of it, into groups. Raises OSError."""
    for folder in cgroups:
        (Path(folder) / "cgroup.procs").write_text(str(os.getpid()))


def own() -> tuple[str, ...]:
    """The folders of cpu and memory that this process is in, to go back to."""
    where = find()
    if where is None:
        return ()
    if where.version == 2:
        path = _own_folders(Path("/proc/self/cgroup")).get("", "/")
        return (str(_below(where.cpu, path)),)
    return tuple(str(place) for place in (where.cpu, where.memory) if place is not None)
