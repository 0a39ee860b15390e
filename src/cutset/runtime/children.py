"""Worker processes of this machine: spawned, never forked, and gone when their parent is."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cutset.errors import TransportError

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 1.0  # it exits at once, unless it stands still


@dataclass
class Child:
    """A spawned worker: the process, and where it is reached."""

    name: str
    process: subprocess.Popen[str]
    address: str

    def pace(self, cpu_share: float) -> None:
        """Slow its stages to a share of one core from now on; nothing where it is gone."""
        with contextlib.suppress(OSError, ValueError):
            if self.process.stdin is not None:
                self.process.stdin.write(json.dumps({"cpu_share": cpu_share}) + "\n")
                self.process.stdin.flush()

    def stop(self) -> None:
        """Close its input, upon which it exits; end it where it does not."""
        with contextlib.suppress(OSError):
            if self.process.stdin is not None:
                self.process.stdin.close()
        try:
            self.process.wait(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def spawn(
    name: str,
    *,
    listen: Sequence[str],
    connect: Sequence[str],
    memory_bytes: int | None,
    cache_dir: Path | str | None,
    log: bool = False,
    ended: Callable[[str], None] = lambda name: None,
    prefix: Sequence[str] = (),
) -> Child:
    """Start a worker process. `ended` is called with its name when it exits, whoever ended it.

    `prefix` is a command that runs the rest of its arguments in its own place.

    Raises TransportError where it does not come up.
    """
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", "cutset.runtime.worker_main"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert process.stdin is not None
    settings = {
        "name": name,
        "listen": list(listen),
        "connect": list(connect),
        "memory_bytes": memory_bytes,
        "cache_dir": None if cache_dir is None else str(cache_dir),
        "log": log,
    }
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def watch() -> None:
        assert process.stdout is not None
        lines.put(process.stdout.readline())
        process.wait()
        ended(name)

    child = Child(name, process, "")
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(settings) + "\n")
            process.stdin.flush()
        threading.Thread(target=watch, name=f"cutset-child-{name}", daemon=True).start()
        try:
            line = lines.get(timeout=START_TIMEOUT_S)
            answer = json.loads(line) if line else {"error": "it exited at once"}
        except queue.Empty:
            answer = {"error": f"it did not answer within {START_TIMEOUT_S:g} s"}
        except ValueError:
            answer = {"error": "it answered in words we cannot read"}
        if "address" not in answer:
            raise TransportError(
                f"the worker process of device {name!r} did not start: {answer.get('error')}",
                field=f"devices.{name}",
                remedy="run `cutset doctor`",
            )
    except BaseException:
        child.stop()
        raise
    child.address = str(answer["address"])
    return child
