"""Where the lab's files are: one lab a machine, so one folder that only root may read."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from cutset.errors import InvalidFileError, RuntimeFault, UsageError
from cutset.lab.guardian import PATIENCE_S, clean
from cutset.lab.state import MAX_STATE_BYTES, SCHEMA, LabState
from cutset.serde.common import decode, read_text, write_text

#: Another folder than /run/cutset, for a second lab beside the first (its figures then share one
#: machine).
VARIABLE: Final = "CUTSET_LAB_DIR"
_POLL_S: Final = 0.02


@dataclass(frozen=True)
class Files:
    """The files of a lab."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "lab.json"

    @property
    def socket(self) -> Path:
        return self.folder / "lab.sock"

    @property
    def lock(self) -> Path:
        return self.folder / "lab.lock"

    @property
    def log(self) -> Path:
        return self.folder / "lab.log"

    def make(self) -> None:
        """Raises UsageError where the folder cannot be made, or is not this user's alone."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"the lab's folder cannot be made: {error.strerror}",
                field=VARIABLE,
                value=str(self.folder),
                remedy="be root, or name another folder",
            ) from None
        self.check()

    def check(self) -> None:
        """Raise UsageError where others could write what is believed of the folder's files."""
        found = self.folder.stat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise UsageError(
                "the lab's folder must belong to this user, who alone may write to it",
                field=VARIABLE,
                value=str(self.folder),
                remedy="chmod 700, or name another folder",
            )


def files(folder: Path | str | None = None) -> Files:
    return Files(Path(folder or os.environ.get(VARIABLE) or "/run/cutset"))


def read_state(where: Files) -> LabState | None:
    """The state that the folder's file tells; None without one, or with one of another version."""
    if not where.state.exists():
        return None
    try:
        data = read_text(where.state, MAX_STATE_BYTES)
        return decode(data, LabState, SCHEMA, str(where.state))
    except InvalidFileError:
        return None


def write_state(where: Files, state: LabState) -> None:
    write_text(where.state, msgspec.json.encode(state).decode())


def lock(where: Files) -> int | None:
    """A descriptor that locks the folder, also for those who inherit it; None while it is locked.

    The keeper holds it, and the guardian until everything is removed.
    """
    held = os.open(where.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return None
    return held


def wait_gone(where: Files, clock: Callable[[], float] = time.monotonic) -> None:
    """Wait until nothing of a lab is left, and remove what nobody else will.

    Raises RuntimeFault where something stays.
    """
    if not where.folder.is_dir():
        return
    where.check()
    end_s = clock() + PATIENCE_S
    while (held := lock(where)) is None:
        if clock() > end_s:
            raise RuntimeFault(
                "the lab does not end",
                field="lab",
                value=str(where.folder),
                remedy="look which of its processes still run (`cutset lab status`)",
            )
        threading.Event().wait(_POLL_S)
    try:
        state = read_state(where)
        if state is not None:
            clean(where.state, where.socket, state.folders)
            if where.state.exists():
                raise RuntimeFault(
                    "control groups of an earlier lab cannot be removed",
                    field="lab",
                    value=state.folders[-1] if state.folders else None,
                    remedy="end what runs in them",
                )
        with contextlib.suppress(FileNotFoundError):
            where.state.unlink()
    finally:
        os.close(held)
