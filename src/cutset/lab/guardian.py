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
#: is asked to end after 3 s where the keeper said that it goes down, else after 20 s, in which a
#: run sees by itself that its devices are lost and says so; 3 s later it is killed. The state file
#: stays while a folder does, so that it is tried again.
_SCRIPT: Final = """
trap '' INT HUP TERM
how= patience=400
read -r how
[ "$how" = down ] && patience=60
state=$1 socket=$2 tries=0
shift 2
while :; do
  left=
  for folder; do
    [ -d "$folder" ] && ! rmdir "$folder" 2>/dev/null && left=yes
  done
  [ -z "$left" ] && break
  tries=$((tries + 1))
  [ "$tries" -ge $((patience + 120)) ] && exit 1
  signal=
  [ "$tries" -eq "$patience" ] && signal=TERM
  [ "$tries" -ge $((patience + 60)) ] && signal=KILL
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
PATIENCE_S: Final = 45.0
#: What the keeper writes before it ends in order.
DOWN: Final = b"down\n"


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
