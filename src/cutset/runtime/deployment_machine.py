"""A deployment as its coordinator sees it: a pure state machine, receive(event) -> effects.

PLANNED -> LOADING -> READY -> ACTIVE -> DRAINING -> RETIRED; any live state -> FAILED when a device
reports a fault or is lost. A phase ends when every device has reported. Loading goes to all
devices at once; a deployment that fails while loading is unloaded where it was loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from cutset.errors import LocalProtocolError


class Phase(StrEnum):
    PLANNED = "planned"
    LOADING = "loading"
    READY = "ready"
    ACTIVE = "active"
    DRAINING = "draining"
    RETIRED = "retired"
    FAILED = "failed"


@dataclass(frozen=True)
class Begin:
    """Load on all devices."""


@dataclass(frozen=True)
class DeviceLoaded:
    device: str


@dataclass(frozen=True)
class Activate:
    """Begin to admit requests."""


@dataclass(frozen=True)
class Retire:
    """Let what was admitted end, then unload."""


@dataclass(frozen=True)
class DeviceDrained:
    device: str


@dataclass(frozen=True)
class DeviceFailed:
    """A device reported a fault, or is lost (`lost`)."""

    device: str
    lost: bool = False


Event = Begin | DeviceLoaded | Activate | Retire | DeviceDrained | DeviceFailed


@dataclass(frozen=True)
class SendLoad:
    device: str


@dataclass(frozen=True)
class SendStart:
    device: str


@dataclass(frozen=True)
class SendDrain:
    device: str


@dataclass(frozen=True)
class SendUnload:
    device: str


@dataclass(frozen=True)
class Announce:
    """The phase has changed."""

    phase: Phase


Effect = SendLoad | SendStart | SendDrain | SendUnload | Announce

# Which phase takes which event; devices' reports also count what is still awaited.
TRANSITIONS: dict[tuple[Phase, type[Event]], Phase] = {
    (Phase.PLANNED, Begin): Phase.LOADING,
    (Phase.LOADING, DeviceLoaded): Phase.READY,
    (Phase.READY, Activate): Phase.ACTIVE,
    (Phase.READY, Retire): Phase.RETIRED,
    (Phase.ACTIVE, Retire): Phase.DRAINING,
    (Phase.DRAINING, DeviceDrained): Phase.RETIRED,
    **{
        (phase, DeviceFailed): Phase.FAILED
        for phase in (Phase.LOADING, Phase.READY, Phase.ACTIVE, Phase.DRAINING)
    },
}

_ENDED = frozenset({Phase.RETIRED, Phase.FAILED})


class DeploymentMachine:
    """The phase of one deployment on `devices` (in the plan's order)."""

    def __init__(self, devices: Iterable[str]) -> None:
        self.phase = Phase.PLANNED
        self.devices = tuple(devices)
        self._awaited: set[str] = set()
        self._held: list[str] = []  # devices that may hold the epoch

    def receive(self, event: Event) -> tuple[Effect, ...]:
        """Raises LocalProtocolError where the event does not fit the phase."""
        if self.phase in _ENDED and isinstance(
            event, DeviceFailed | DeviceLoaded | DeviceDrained | Retire
        ):
            return ()  # late news of what has ended already
        target = TRANSITIONS.get((self.phase, type(event)))
        if target is None:
            raise LocalProtocolError(
                f"a deployment that is {self.phase.value} cannot take {type(event).__name__}"
            )
        if isinstance(event, DeviceLoaded | DeviceDrained):
            self._awaited.discard(event.device)
            if self._awaited:
                return ()
        if isinstance(event, DeviceFailed) and event.lost:
            self._held = [d for d in self._held if d != event.device]
        self.phase = target
        return (*self._effects(target), Announce(target))

    def _effects(self, phase: Phase) -> tuple[Effect, ...]:
        if phase is Phase.LOADING:
            self._held = list(self.devices)
            self._awaited = set(self.devices)
            return tuple(SendLoad(d) for d in self.devices)
        if phase is Phase.ACTIVE:
            # Receivers first, so that no tensor finds a device that does not admit it yet.
            return tuple(SendStart(d) for d in reversed(self.devices))
        if phase is Phase.DRAINING:
            self._awaited = set(self.devices)
            return tuple(SendDrain(d) for d in self.devices)
        if phase in _ENDED:
            return tuple(SendUnload(d) for d in self._held)
        return ()
