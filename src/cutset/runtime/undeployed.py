"""What a deployment that never came up leaves: a session that its fallback answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cutset.errors import CutsetError
from cutset.ports import Array
from cutset.runtime.message_parts import TensorSpec
from cutset.runtime.messages import Loaded, Stats
from cutset.runtime.session import DEFAULT_DEADLINE_S, Fallback, Session


class Undeployed:
    """Stands where a Deployment would; `missing` is why there is none."""

    def __init__(
        self,
        missing: CutsetError,
        inputs: Mapping[str, TensorSpec],
        outputs: Sequence[str],
        window: int,
    ) -> None:
        self.loaded: Mapping[str, Loaded] = {}
        self.stage_memory: Mapping[str, tuple[int, int]] = {}
        self.missing = missing
        self._inputs = inputs
        self._outputs = tuple(outputs)
        self._window = window
        self._session: Session | None = None

    def session(
        self,
        *,
        fallback: Fallback | None = None,
        fallback_s: float = 0.0,
        deadline_s: float = DEFAULT_DEADLINE_S,
    ) -> Session:
        """A session in which no device answers: all requests fall back, or fail."""
        self._session = Session(
            self,
            self._inputs,
            self._outputs,
            window=self._window,
            fallback=fallback,
            fallback_s=fallback_s,
            deadline_s=deadline_s,
        )
        self._session.lost(self.missing)
        return self._session

    def close(self, *, drain_s: float = 0.0) -> None:
        """Nothing is held anywhere; what still waits for the fallback fails."""
        if self._session is not None:
            self._session.close()

    # --- what the session asks (Backend)

    def feed(self, request: int, feeds: Mapping[str, Array], expires_s: float) -> None:
        raise self.missing

    def cancel(self, request: int, *, answered_s: float | None = None) -> None:
        """No device has heard of it."""

    def stats(self) -> Mapping[str, Stats]:
        return {}
