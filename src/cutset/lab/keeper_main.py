"""The keeper's process: its settings come as one JSON line on standard input, and it answers with
one line when the lab is up, or says why it is not. Then it serves until it is told to end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from cutset.errors import CutsetError, UsageError
from cutset.lab import places, requirements
from cutset.lab.keeper import Answer, Keeper, Settings
from cutset.runtime.failures import to_failure


def _listen(path: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(8)
    return listener


def main() -> int:
    settings = msgspec.json.decode(_first_line(), type=Settings)
    if not settings.tied and os.fork():  # nobody's child; no thread and no Zenoh is there yet
        os._exit(0)
    files = places.files(settings.folder)
    held_fd = places.lock(files)
    keeper: Keeper | None = None

    def say(answer: Answer) -> bool:
        """Whether who started us is still there to hear it."""
        with contextlib.suppress(OSError):
            os.write(1, msgspec.json.encode(answer) + b"\n")
            return True
        return False

    if held_fd is None:
        say(Answer(to_failure(in_use(files))))
        return 1
    wake: list[Callable[[], None]] = []
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: [call() for call in wake])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the command's that started us
    try:
        keeper = Keeper(settings, held_fd, requirements.probe())
        wake.append(keeper.wake)
        keeper.build()
        keeper.write()
        listener = _listen(files.socket)
    except (CutsetError, OSError) as error:
        if keeper is not None:
            keeper.close()
        say(Answer(to_failure(error)))
        return 1
    if not say(Answer()):
        keeper.close()
        return 1
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # nobody reads any more
    try:
        keeper.serve(listener, 0 if settings.tied else None)
    finally:
        keeper.close()
    return 0


def in_use(files: places.Files) -> UsageError:
    """The refusal of a second lab."""
    return UsageError(
        "a lab is up on this machine already, and there is one at a time",
        field="lab",
        value=str(files.folder),
        remedy="see `cutset lab status`; end it with `cutset lab down`",
    )


def _first_line() -> bytes:
    """One line of standard input, unbuffered, so that `serve` sees its end."""
    line = b""
    while not line.endswith(b"\n"):
        if not (piece := os.read(0, 1 << 16)):
            break
        line += piece
    return line
