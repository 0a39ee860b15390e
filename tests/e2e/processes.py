"""`cutset` as a process of its own: started, spoken to, and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

CUTSET = (
    sys.executable,
    "-c",
    # As from a shell: what starts tests may have Ctrl-C ignored.
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from cutset.cli.main import main; main()",
)


@contextlib.contextmanager
def started(arguments: Sequence[str], until: str) -> Iterator[subprocess.Popen[str]]:
    """A running command, once it has said a line that begins with `until`."""
    with subprocess.Popen(
        [*CUTSET, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            said = []
            for line in process.stderr:
                said.append(line)
                if line.startswith(until):
                    break
            assert said, "it ended without a word"
            assert said[-1].startswith(until), said
            yield process
        finally:
            process.kill()


def children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


@contextlib.contextmanager
def gone_afterwards(pids: Sequence[int]) -> Iterator[None]:
    handles = [os.pidfd_open(pid) for pid in pids]
    try:
        yield
        for handle in handles:
            assert select.select([handle], [], [], 20)[0], "a child outlived its parent"
    finally:
        for handle in handles:
            os.close(handle)
