"""A cluster for a lab on this machine, and what tests ask about it and about what it leaves."""

from __future__ import annotations

import contextlib
import json
import os
import select
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cutset.cluster import Cluster
from cutset.lab import Lab, traffic
from cutset.lab.state import LabState
from cutset.serde.cluster_file import parse_cluster

CUTSET = (
    sys.executable,
    "-c",
    # As from a shell: what starts tests may have Ctrl-C ignored.
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from cutset.cli.main import main; main()",
)
CLUSTER: dict[str, Any] = {
    "schema": "cutset/cluster/1",
    "source": "pi",
    "devices": {
        "pi": {"egress": "40Mbit/s"},
        "server": {"memory": "64MiB"},
        "mid": {"ingress": "30Mbit/s"},
    },
    "links": [
        {"from": "pi", "to": "server", "bandwidth": "20Mbit/s", "both": True},
        {"from": "pi", "to": "mid", "bandwidth": "50Mbit/s", "latency": "20ms", "both": True},
        {"from": "mid", "to": "server", "both": True},
    ],
    "lab": {"pi": {"cpu": 0.25}, "server": {"cpu": 0.9}, "mid": {"cpu": 0.5}},
}


def cluster(**fields: Any) -> Cluster:
    return parse_cluster({**CLUSTER, **fields})


def cutset(*arguments: str, status: int = 0) -> Any:
    """The one JSON document that the command prints."""
    done = subprocess.run(
        [*CUTSET, *arguments, "--json"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == status, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


@contextlib.contextmanager
def ends(made: Lab, *names: str) -> Iterator[list[traffic.End]]:
    found = [traffic.End(made.open_namespace(n), made.place(n).address) for n in names]
    try:
        yield found
    finally:
        for end in found:
            os.close(end.namespace_fd)


def rate_bps(made: Lab, source: str, target: str, size_bytes: int) -> float:
    """The median of five transfers: other guests of this machine stall single ones."""
    with ends(made, source, target) as (a, b):
        return statistics.median(traffic.payload_bps(a, b, size_bytes, 5))


class Traces:
    """All that a lab could leave: its processes, namespaces, interfaces, groups and files."""

    def __init__(self, state: LabState) -> None:
        self.state = state
        keeper = state.keeper_pid
        self.pids = {keeper, *descendants(keeper)}
        self.guardian = next(pid for pid in self.pids if "guardian" in command_line(pid))
        self.handles = {pid: os.pidfd_open(pid) for pid in self.pids}
        self.namespaces = {
            os.stat(f"/proc/{keeper}/fd/{place.namespace_fd}").st_ino for place in state.places
        }
        assert len(self.pids) >= 5  # keeper, guardian, relay and two workers
        assert all(Path(folder).is_dir() for folder in state.folders)

    def assert_gone(self, folder: Path) -> None:
        for pid, handle in self.handles.items():
            assert select.select([handle], [], [], 20)[0], command_line(pid)
            os.close(handle)
        assert not [f for f in self.state.folders if Path(f).exists()]
        assert not self.namespaces & set(namespaces_in_use())
        assert not (folder / "lab.json").exists()
        assert not (folder / "lab.sock").exists()
        assert not {"hub", "d0", "d1", "delay0"} & set(os.listdir("/sys/class/net"))


def descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield child
            yield from descendants(child)


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def namespaces_in_use() -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield os.stat(process / "ns" / "net").st_ino
