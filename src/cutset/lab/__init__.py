"""Several emulated devices on one Linux machine, with kernel-shaped links and limits on processors.

Each device has a network namespace, a link into a star, a control group and a worker of its own,
so that workers and client run as on separate machines. Needs root; docs/lab.md says how its
numbers are made true and what it leaves out.
"""

from __future__ import annotations

from cutset.lab.lab import Lab, clean, find, up
from cutset.lab.requirements import unavailable
from cutset.lab.state import LabState

__all__ = ["Lab", "LabState", "clean", "find", "unavailable", "up"]
