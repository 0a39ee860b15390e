"""A program ends that forgot to close what it opened, and leaves nothing running."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
import threading
from cutset.cluster import Cluster, Device, Link
from cutset.runtime.coordinator import Coordinator
from cutset.runtime.messages import GetStatus

links = tuple(Link(a, b, 1e8, 1e-3) for a, b in (("pi", "server"), ("server", "pi")))
devices = tuple(Device(name, name) for name in ("pi", "server"))
coordinator = Coordinator(Cluster(devices, links, "pi", "pi"))
coordinator.connect("server")
def goes_on():
    threading.main_thread().join()
    print(coordinator.ask("server", GetStatus()).pid, flush=True)
threading.Thread(target=goes_on).start()
"""


@pytest.mark.parametrize(("end", "status"), [("sys.exit(3)", 3), ("1 / 0", 1), ("", 0)])
def test_a_program_that_closes_nothing_ends(end: str, status: int) -> None:
    """After its other threads, which may still use what is open."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM + end], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == status, ran.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(ran.stdout), 0)
