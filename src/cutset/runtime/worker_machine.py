"""One epoch on a worker: a pure state machine, receive(event) -> effects.

States and what moves between them stand in TRANSITIONS; whatever is not in the table is misuse by
the peer and changes nothing. Only RUNNING admits new requests; DRAINING lets the admitted ones
end; a fault is left only by unloading.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from cutset.errors import RemoteProtocolError


class State(StrEnum):
    IDLE = "idle"
    LOADING = "loading"
    READY = "ready"
    RUNNING = "running"
    DRAINING = "draining"
    FAILED = "failed"


class Event(StrEnum):
    LOAD = "load"
    LOADED = "loaded"
    CANCEL = "cancel"
    START = "start"
    DRAIN = "drain"
    DRAINED = "drained"
    UNLOAD = "unload"
    FAULT = "fault"


class Effect(StrEnum):
    LOAD_STAGES = "load stages"
    REPORT_READY = "report ready"
    ADMIT = "admit requests"
    REFUSE = "refuse new requests"
    REPORT_DRAINED = "report drained"
    FREE = "free everything"
    REPORT_FAULT = "report fault"


Transitions = dict[tuple[State, Event], tuple[State, tuple[Effect, ...]]]

TRANSITIONS: Final[Transitions] = {
    (State.IDLE, Event.LOAD): (State.LOADING, (Effect.LOAD_STAGES,)),
    (State.LOADING, Event.LOADED): (State.READY, (Effect.REPORT_READY,)),
    (State.LOADING, Event.CANCEL): (State.IDLE, (Effect.FREE,)),
    (State.READY, Event.START): (State.RUNNING, (Effect.ADMIT,)),
    (State.RUNNING, Event.DRAIN): (State.DRAINING, (Effect.REFUSE,)),
    (State.DRAINING, Event.DRAINED): (State.READY, (Effect.REPORT_DRAINED,)),
    (State.READY, Event.UNLOAD): (State.IDLE, (Effect.FREE,)),
    (State.FAILED, Event.UNLOAD): (State.IDLE, (Effect.FREE,)),
    **{
        (state, Event.FAULT): (State.FAILED, (Effect.REFUSE, Effect.REPORT_FAULT))
        for state in (State.LOADING, State.READY, State.RUNNING, State.DRAINING)
    },
}


class WorkerMachine:
    """The state of one epoch; `receive` moves it and says what the shell has to do."""

    def __init__(self) -> None:
        self.state = State.IDLE

    @property
    def admits(self) -> bool:
        """Whether a tensor may open a new request."""
        return self.state is State.RUNNING

    def receive(self, event: Event) -> tuple[Effect, ...]:
        """Raises RemoteProtocolError, and stays as it is, where the event does not fit."""
        try:
            self.state, effects = TRANSITIONS[self.state, event]
        except KeyError:
            raise RemoteProtocolError(
                f"an epoch that is {self.state.value} cannot take {event.value!r}",
                field="epoch",
                remedy="run one version of cutset everywhere",
            ) from None
        return effects
