"""A session on a deployment of its own, which ends with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType

from cutset.adaptation.deploying import Adaptive
from cutset.adaptation.live import Adapter
from cutset.errors import CutsetError
from cutset.plan import Plan
from cutset.ports import Array
from cutset.runtime.coordinator import Coordinator
from cutset.runtime.deployment import Deployment
from cutset.runtime.session import Session, SessionStats
from cutset.runtime.undeployed import Undeployed

Feeds = Mapping[str, Array]


class Deployed:
    """What `cutset.deploy` returns. `plan` is None where every request's cut is chosen anew, and
    `adaptive` None where it is not."""

    def __init__(
        self,
        plan: Plan | None,
        session: Session,
        deployment: Deployment | Undeployed | Adaptive,
        coordinator: Coordinator,
        owns: bool,
    ) -> None:
        self.plan = plan
        self.coordinator = coordinator
        self.session = session
        self.adaptive = deployment if isinstance(deployment, Adaptive) else None
        self._deployment = deployment
        self._loaded = deployment.held if isinstance(deployment, Adaptive) else deployment
        self._owns = owns

    def run(
        self,
        output_names: Sequence[str] | None,
        feeds: Feeds,
        deadline_s: float | None = None,
    ) -> list[Array]:
        """Outputs (all for None) of one request, as ONNX Runtime's `run`.

        Raises UsageError for feeds that do not fit, DeadlineExceeded, WorkerLostError.
        """
        return self.session.run(output_names, feeds, deadline_s)

    def submit(self, feeds: Feeds, deadline_s: float | None = None) -> Future[dict[str, Array]]:
        """A request; the future gets all outputs by name. Waits while the window is full."""
        return self.session.submit(feeds, deadline_s)

    @property
    def missing(self) -> CutsetError | None:
        """Why it began without a device, so that this one answers alone; None where it did not."""
        return None if isinstance(self._deployment, Deployment) else self._deployment.missing

    @property
    def stage_memory(self) -> Mapping[str, tuple[int, int]]:
        """By stage, bytes: the number that is enforced, and the peak growth while it loaded."""
        return self._loaded.stage_memory

    @property
    def memory_bytes(self) -> Mapping[str, int]:
        """By device, how much resident memory grew there when its stages were loaded."""
        return {name: loaded.rss_growth_bytes for name, loaded in self._loaded.loaded.items()}

    @property
    def adapter(self) -> Adapter | None:
        """What was observed and decided, where the session adapts."""
        return None if self.adaptive is None else self.adaptive.adapter

    def stats(self) -> SessionStats:
        """Counts, and what stages and links took."""
        return self.session.stats()

    def close(self, *, drain_s: float = 5.0) -> None:
        """Let what is under way end (at most `drain_s`); end the workers started for it."""
        try:
            self._deployment.close(drain_s=drain_s)
        finally:
            if self._owns:
                self.coordinator.close()

    def __enter__(self) -> Deployed:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.close(drain_s=0.0)  # nobody waits for the answers any more
