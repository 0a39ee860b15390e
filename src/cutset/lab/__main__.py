"""`python -m cutset.lab keeper_main|relay|pacing`: the lab's own processes."""

from __future__ import annotations

import sys
from importlib import import_module

_PROCESSES = ("keeper_main", "relay", "pacing")

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in _PROCESSES:
        sys.exit(f"usage: python -m cutset.lab {'|'.join(_PROCESSES)}")
    sys.exit(import_module(f"cutset.lab.{sys.argv[1]}").main())
