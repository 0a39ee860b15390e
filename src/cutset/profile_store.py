"""Profiles kept between commands, so that a model is measured once on a device, not every time.

One file per (graph digest, what was measured): the key names device, processor, engine, threads and
emulated share, so that a change of any measures again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from cutset.errors import InvalidFileError
from cutset.profiles import Profile
from cutset.runtime.cache import default_folder
from cutset.serde import read_profile, write_profile

KEPT_FILES = 500
CONTENT_VERSION = 3  # of what a kept profile holds: 2 has memory, 3 kernels that are "fused NAME"


def profile_path(graph_digest: str, key: Iterable[object]) -> Path:
    """Where the profile of this graph for this key is kept, whether or not it is there."""
    text = "\0".join(map(str, (CONTENT_VERSION, *key)))
    name = f"{graph_digest[:24]}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"
    return default_folder().parent / "profiles" / name


def recall(path: Path) -> Profile | None:
    """The stored profile; None where there is none, or a damaged one."""
    if not path.exists():
        return None
    try:
        return read_profile(path)
    except InvalidFileError:
        return None


def keep(path: Path, profile: Profile) -> None:
    """Store a profile; the oldest give way to it. A cache that cannot be written is no error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_profile(path, profile)
        stored = sorted(path.parent.glob("*.json"), key=os.path.getmtime)
        for old in stored[:-KEPT_FILES]:
            old.unlink(missing_ok=True)
    except (OSError, InvalidFileError):
        return
