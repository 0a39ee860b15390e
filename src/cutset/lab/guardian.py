"""The one path by which a lab's folders and files are removed, however the lab ended.

A shell that waits for the end of its input, which the keeper holds: it comes when the keeper is
gone, killed or not. Namespaces, interfaces and workers need no cleaning: they end with the keeper.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

#: Arguments: state file, socket, then the folders, the deepest first. What still runs in a folder
#: after 3 s is asked to end, after 6 s killed. The state file stays while a folder does, so that
#: it is tried again.
_SCRIPT: Final = """
trap '' INT HUP TERM
read -r _
state=$1 socket=$2 tries=0
shift 2
while :; do
  left=
  for folder; do
    [ -d "$folder" ] && ! rmdir "$folder" 2>/dev/null && left=yes
  done
  [ -z "$left" ] && break
  tries=$((tries + 1))
  [ "$tries" -ge 180 ] && exit 1
  signal=
  [ "$tries" -eq 60 ] && signal=TERM
  [ "$tries" -ge 120 ] && signal=KILL
  if [ -n "$signal" ]; then
    for folder; do
      [ -f "$folder/cgroup.procs" ] && while read -r process; do
        kill -s "$signal" "$process" 2>/dev/null
      done < "$folder/cgroup.procs"
    done
  fi
  sleep 0.05
done
rm -f -- "$state" "$socket"
"""
#: Longer than the script may take.
PATIENCE_S: Final = 20.0


def _arguments(state: Path, socket: Path, folders: Sequence[str]) -> list[str]:
    return ["sh", "-c", _SCRIPT, "cutset-lab-guardian", str(state), str(socket), *folders]


def start(
    state: Path, socket: Path, folders: Sequence[str], held_fd: int
) -> subprocess.Popen[bytes]:
    """A guardian that begins when its input closes, and keeps `held_fd` open until it is done."""
    return subprocess.Popen(
        _arguments(state, socket, folders),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=(held_fd,),
    )


def clean(state: Path, socket: Path, folders: Sequence[str]) -> None:
    """Remove now what a lab left whose keeper and guardian were both killed."""
    subprocess.run(
        _arguments(state, socket, folders),
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE_S,
        check=False,
    )
