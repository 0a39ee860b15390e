"""Competing work on a device of the lab: processes in its own group of the processor.

Load as LoADPart (Liu et al., ICDCS 2022) means it: other processes compute on the server, and the
scheduler gives each its part. Each multiplies matrices in one thread, as inference does. They are
started once and work when told to, so that the load changes at once; each ends when its parent
does, however that ends, as its standard input closes then.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from cutset.errors import RuntimeFault
from cutset.lab.cgroups import guard
from cutset.lab.keeper import joining

#: Each takes about 40 MB and a part of a core; more are no load that a small machine can emulate.
MOST_COMPETITORS: Final = 16
READY_S: Final = 60.0
#: A piece of work takes about a millisecond: between two of them a process can be told to rest.
SIDE, CHANNELS = 256, 256
_WORK, _REST = b"w", b"r"
_ENDING_S = 5.0


def count_for(load: float, share: float = 1.0) -> int:
    """How many competitors make a device's work take about `load` times as long.

    On a whole core that is load − 1. A device with a `share` of a core has up to twice that before
    its group is braked (cgroups.guard), and its pacing hides what fits in: more are needed.
    """
    if not load > 1:  # also NaN
        return 0
    wanted = min(load * guard(share) / share - 1, 1e6)
    return math.floor(wanted + 0.5)


class Competitors:
    """Processes of which `set(count)` lets so many work. Raises RuntimeFault where one is gone."""

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        self._processes = tuple(processes)
        self._working = 0

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(process.pid for process in self._processes)

    @property
    def working(self) -> int:
        return self._working

    def set(self, count: int) -> None:
        """Have so many work from now on (at most as many as there are), and the others rest."""
        count = min(count, len(self._processes))
        for i in range(min(count, self._working), max(count, self._working)):
            _tell(self._processes[i], _WORK if i < count else _REST)
        self._working = count


@contextlib.contextmanager
def pinned(pid: int, cores: Collection[int]) -> Iterator[None]:
    """All threads of a process, and those that they start, run on these cores until the end.

    A group's guard alone shares a core poorly: the kernel hands its quota to a whole core at a
    time, so that what runs on another one waits for it or not, by chance.
    """
    before = os.sched_getaffinity(pid)
    _move(pid, cores)
    try:
        yield
    finally:
        _move(pid, before)


def _move(pid: int, cores: Collection[int]) -> None:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), cores)


@contextlib.contextmanager
def competitors(
    most: int, cgroups: Sequence[str], core: int | None = None
) -> Iterator[Competitors]:
    """So many processes at rest in a device's group of the processor; ended at the end.

    With a `core` they run on that one only, which the device's worker should do too (pinned).
    `cgroups` are the device's folders (state.Place); the first is the processor's, which they join.
    Under cgroup v2 that is the one for memory too, so that they count there (about 40 MB each).
    Raises RuntimeFault where one does not start.
    """
    command = [*joining(cgroups[:1]), sys.executable, "-m", "cutset.lab.competitors"]
    command += [] if core is None else [str(core)]
    one_thread = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(most):
            processes.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, **one_thread},
                    start_new_session=True,  # Ctrl-C is for us, who end them
                )
            )
        for process in processes:
            _wait_ready(process)
        yield Competitors(processes)
    finally:
        _end(processes)


def _tell(process: subprocess.Popen[bytes], word: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(word)
        process.stdin.flush()
    except OSError:
        raise RuntimeFault(
            "a competing process is gone",
            field="pid",
            value=process.pid,
            remedy="is there memory enough? `cutset lab status` says what devices hold",
        ) from None


def _wait_ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], READY_S)
    if not ready or not process.stdout.read(1):
        raise RuntimeFault(
            f"a competing process did not start within {READY_S:g} s",
            field="pid",
            value=process.pid,
            remedy="is there memory enough? `cutset lab status` says what devices hold",
        )


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
    for process in processes:
        try:
            process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> int:
    """One competitor: works or rests as standard input says, and ends with it. The argument is
    the core to run on, if any."""
    if len(sys.argv) > 1:
        os.sched_setaffinity(0, {int(sys.argv[1])})
    weights = np.full((SIDE, SIDE), 1 / SIDE, np.float32)
    features = np.ones((SIDE, CHANNELS), np.float32)
    work = threading.Event()
    np.maximum(weights @ features, 0)  # the first one allocates
    threading.Thread(target=_listen, args=(work,), daemon=True).start()
    sys.stdout.write("r")
    sys.stdout.flush()
    while True:
        work.wait()
        features = np.maximum(weights @ features, 0)


def _listen(work: threading.Event) -> None:
    while word := os.read(0, 1):
        if word == _WORK:
            work.set()
        else:
            work.clear()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
