"""Control groups of both versions, on folders that look like theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutset.lab import cgroups
from cutset.lab.state import DeviceSpec

DEVICE = DeviceSpec("pi", 2**20, None, None, 0.25)


def mounts(tmp_path: Path, version: int) -> tuple[Path, Path]:
    """Files as /proc/self/mounts and /proc/self/cgroup."""
    table, own = tmp_path / "mounts", tmp_path / "own"
    if version == 1:
        for name in ("cpu", "memory/pod/x"):
            (tmp_path / name).mkdir(parents=True)
        table.write_text(
            f"cgroup {tmp_path}/cpu cgroup rw,relatime,cpu 0 0\n"
            f"cgroup {tmp_path}/memory cgroup rw,relatime,memory 0 0\n"
            f"cgroup2 {tmp_path}/unified cgroup2 rw 0 0\n"
        )
        own.write_text("4:memory:/pod/x\n1:cpu:/not/visible/here\n0::/\n")
    else:
        (tmp_path / "v2").mkdir()
        (tmp_path / "v2" / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
        table.write_text(f"cgroup2 {tmp_path}/v2 cgroup2 rw,relatime 0 0\n")
        own.write_text("0::/user.slice\n")
    return table, own


def test_version_1_keeps_to_the_groups_above(tmp_path: Path) -> None:
    where = cgroups.find(*mounts(tmp_path, 1))
    assert where is not None
    assert (where.cpu, where.memory) == (tmp_path / "cpu", tmp_path / "memory/pod/x")
    cgroups.make(where, "lab", 0, DEVICE, limited=True)
    cgroups.set_share(where, "lab", 0, DEVICE.cpu_share)
    cpu = where.cpu / "lab" / "d0"
    assert (cpu / "cpu.cfs_quota_us").read_text() == "2500"
    assert (cpu / "cpu.cfs_period_us").read_text() == "5000"
    memory = tmp_path / "memory/pod/x/lab/d0/memory.limit_in_bytes"
    assert int(memory.read_text()) == 2**20 + cgroups.ALLOWANCE_BYTES


def test_version_2_has_one_group_for_both(tmp_path: Path) -> None:
    where = cgroups.find(*mounts(tmp_path, 2))
    assert where is not None
    cgroups.make(where, "lab", 0, DEVICE, limited=True)
    cgroups.set_share(where, "lab", 0, DEVICE.cpu_share)
    assert cgroups.folders(where, "lab", 0) == (str(tmp_path / "v2/lab/d0"),)
    assert (tmp_path / "v2/lab/d0/cpu.max").read_text() == "2500 5000"
    assert int((tmp_path / "v2/lab/d0/memory.max").read_text()) > 2**20
    for folder in ("v2", "v2/lab"):
        assert (tmp_path / folder / "cgroup.subtree_control").read_text() == "+cpu +memory"


@pytest.mark.parametrize("version", [1, 2])
def test_folders_are_removed_from_the_deepest(tmp_path: Path, version: int) -> None:
    where = cgroups.find(*mounts(tmp_path, version))
    assert where is not None
    found = cgroups.all_folders(where, "lab", 2)
    assert len(set(found)) == len(found) == (6 if version == 1 else 3)
    for i, folder in enumerate(found):
        assert not any(later.startswith(f"{folder}/") for later in found[i + 1 :])


def test_no_controller_is_none(tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_text("proc /proc proc rw 0 0\n")
    assert cgroups.find(table, tmp_path / "own") is None
