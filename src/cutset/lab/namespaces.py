"""Network namespaces without names: made by a thread, held by a descriptor, gone with it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from cutset.errors import RuntimeFault

_CLONE_NEWNET: Final = 0x40000000
COMMAND_TIMEOUT_S: Final = 60.0

T = TypeVar("T")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def enter(namespace_fd: int) -> None:
    """This thread, and what it starts from now on, joins a namespace. Raises OSError."""
    _check(_libc().setns(namespace_fd, _CLONE_NEWNET), "setns")


def make() -> int:
    """A descriptor of a new namespace. Raises OSError where that is not allowed."""

    def unshared() -> int:
        _check(_libc().unshare(_CLONE_NEWNET), "unshare")
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    return in_thread(unshared)


def inside(namespace_fd: int, call: Callable[[], T]) -> T:
    """What `call` returns when a thread in the namespace calls it."""

    def entered() -> T:
        enter(namespace_fd)
        return call()

    return in_thread(entered)


def in_thread(call: Callable[[], T]) -> T:
    """Call in a thread of its own, whose namespace ends with it; raises what the call raises."""
    result: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            result.append(call())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body, name="cutset-namespace", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def batch(tool: str, lines: Sequence[str]) -> None:
    """Give lines to `ip` or `tc` in this thread's namespace. Raises RuntimeFault that names one."""
    if not lines:
        return
    done = subprocess.run(
        [tool, "-batch", "-"],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        complaint = " ".join(done.stderr.split())
        number = complaint.rpartition(":")[2].strip()
        line = lines[int(number) - 1] if number.isdigit() and 0 < int(number) <= len(lines) else ""
        raise RuntimeFault(
            f"{tool} refused {line!r}: {complaint[:300]}" if line else f"{tool}: {complaint[:300]}",
            remedy="run `cutset doctor`, which says what the lab needs",
        )


def set_sysctls(values: dict[str, str]) -> None:
    """Write settings below /proc/sys/net in this thread's namespace; absent ones are left out."""
    for name, value in values.items():
        path = Path("/proc/sys/net") / name
        if path.exists():
            path.write_text(value)
