"""Cuts that are held loaded on a device and a server, and what each costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from cutset.adaptation.conditions import Conditions
from cutset.plan import Plan
from cutset.solvers.two_way.roles import Floats


@dataclass(frozen=True)
class Cut:
    """A plan of the device and the server, and what it takes of each; seconds and bytes.

    `device_s` is compute on the device, `server_s` on the unloaded server, `other_s` what neither
    load nor rate changes (overheads, costs of sending and receiving). `memory_bytes` by device.
    """

    name: str
    plan: Plan
    device_s: float
    other_s: float
    up_bytes: float
    down_bytes: float
    server_s: float
    uses_server: bool
    up_used: bool
    down_used: bool
    memory_bytes: Mapping[str, int] = field(default_factory=dict)

    @property
    def amounts(self) -> tuple[float, ...]:
        """In the order of Conditions.prices."""
        return (
            self.device_s,
            self.other_s,
            8 * self.up_bytes,
            8 * self.down_bytes,
            self.server_s,
            float(self.uses_server),
            float(self.up_used),
            float(self.down_used),
        )


@dataclass(frozen=True)
class Cuts:
    """The cuts of `device` and `server` that are loaded. `local` is the one that runs all on the
    device, None where that does not fit."""

    device: str
    server: str
    cuts: tuple[Cut, ...]

    @cached_property
    def local(self) -> int | None:
        return next((i for i, cut in enumerate(self.cuts) if not cut.uses_server), None)

    @cached_property
    def offload(self) -> int | None:
        """The one that runs all on the server."""
        return next((i for i, c in enumerate(self.cuts) if c.plan.devices == (self.server,)), None)

    @cached_property
    def amounts(self) -> Floats:
        """A row for each cut."""
        return np.array([cut.amounts for cut in self.cuts], dtype=np.float64)

    def values_s(self, conditions: Conditions) -> Floats:
        """Seconds of one request by each cut; inf where it cannot be answered."""
        prices, amounts = conditions.prices(), self.amounts
        if np.isfinite(prices).all():
            return np.asarray(amounts @ prices)
        # 0 bytes over a link that carries nothing cost nothing, where inf times 0 would be NaN.
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(amounts > 0, amounts * prices, 0.0).sum(axis=1))

    def best(self, conditions: Conditions) -> int:
        """The cheapest cut; of equals the first."""
        return int(self.values_s(conditions).argmin())

    def timed(self, index: int, *, device_s: float, server_s: float) -> Cuts:
        """With other seconds of one cut's segments, as measured where they are loaded."""
        cut = replace(self.cuts[index], device_s=device_s, server_s=server_s)
        return replace(self, cuts=(*self.cuts[:index], cut, *self.cuts[index + 1 :]))
