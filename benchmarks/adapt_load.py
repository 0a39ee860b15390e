"""Competing inference: processes in the server's own control group that run a model in a loop.

As a program: one of them. They are started once and stopped or continued by signals, so that the
load changes at once; each ends with its parent, however that ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from cutset import zoo
from cutset.lab.keeper import joining

#: What competes: a small network, one inference of which takes some milliseconds.
MODEL, SIDE = "squeezenet", 227
READY_S = 60.0
_PR_SET_PDEATHSIG = 1


class Competitors:
    """Processes of which the first `set(count)` run, and the others are stopped."""

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        self._processes = tuple(processes)
        self.running = 0
        for process in self._processes:
            process.send_signal(signal.SIGSTOP)

    def set(self, count: int) -> None:
        """Have so many run from now on. Raises RuntimeError where one has ended."""
        for i, process in enumerate(self._processes):
            if process.poll() is not None:
                raise RuntimeError(f"competitor {process.pid} ended: {process.returncode}")
            process.send_signal(signal.SIGCONT if i < count else signal.SIGSTOP)
        self.running = count


@contextlib.contextmanager
def competitors(
    most: int, cgroups: Sequence[str], core: int | None, folder: Path
) -> Iterator[Competitors]:
    """So many processes, stopped, in the control groups and on the core; ended at the end."""
    path = folder / "competitor.onnx"
    onnx.save(zoo.build(MODEL, side=SIDE), str(path))
    command = [
        *joining(cgroups),
        *(sys.executable, str(Path(__file__).absolute()), str(path), str(os.getpid())),
        "" if core is None else str(core),
    ]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(most):
            processes.append(
                # In a session of its own: a process group that a shell leaves behind is
                # continued by the kernel, with all that is stopped in it.
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    start_new_session=True,
                )
            )
        for process in processes:
            _wait_ready(process)
        yield Competitors(processes)
    finally:
        for process in processes:
            process.kill()  # a stopped one ends as well
        for process in processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _wait_ready(process: subprocess.Popen[bytes]) -> None:
    timer = threading.Timer(READY_S, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError("a competing process did not start")
    finally:
        timer.cancel()


def compete(path: str, parent: int, core: int | None) -> None:
    """Run the model until the parent is gone."""
    # Standard input closes with the parent, but a stopped process reads nothing.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if core is not None:
        os.sched_setaffinity(0, {core})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    feeds = {entry.name: np.ones(entry.shape, np.float32)}
    session.run(None, feeds)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    print("ready", flush=True)
    while True:
        session.run(None, feeds)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    compete(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if sys.argv[3] else None)
