"""Cost models: how long an operator takes on a device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cutset.cluster import Device
from cutset.graph import Operator


class CostModel(Protocol):
    def compute_s(self, operator: Operator, device: Device) -> float:
        """Seconds of the operator on the device; inf where it cannot run there."""
        ...


@dataclass(frozen=True)
class TableCost:
    """Seconds by kind and operator name: from a profile or a workload file."""

    seconds: Mapping[str, Mapping[str, float]]

    def compute_s(self, operator: Operator, device: Device) -> float:
        return self.seconds.get(device.kind, {}).get(operator.name, math.inf)


@dataclass(frozen=True)
class LoadedCost:
    """Another model with some devices slowed: `load` is device name -> factor k (LoADPart's k)."""

    base: CostModel
    load: Mapping[str, float]

    def compute_s(self, operator: Operator, device: Device) -> float:
        return self.base.compute_s(operator, device) * self.load.get(device.name, 1.0)
