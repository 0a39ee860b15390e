"""Looks at links and server through a coordinator's workers, and the timing of loaded segments."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, Final

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.live_looks import LOOK_TIMEOUT_S, Gap
from cutset.errors import (
    InfeasibleError,
    RemoteProtocolError,
    RuntimeFault,
    TransportError,
    UsageError,
)
from cutset.runtime.coordinator import Coordinator
from cutset.runtime.deployment import Deployment
from cutset.runtime.held_plans import HeldPlans
from cutset.runtime.measuring_messages import Look, Looked, Timed, TimeStage

TIMING_S: Final = 1.0  # after which no further run of a segment begins


class RuntimeLooks:
    """Looks through a coordinator's workers (live_looks.Looks), and the timing of loaded segments.

    `overhead_s` is what an empty round trip takes beside the links' latency: threads and codec.
    """

    def __init__(self, coordinator: Coordinator, server: str) -> None:
        self._coordinator, self._server = coordinator, server
        self.held: HeldPlans | None = None
        self._loaded: Mapping[int, Deployment] = {}
        self._stages: Mapping[tuple[str, int], str] = {}
        self.overhead_s = 0.0
        self._base_s: float | None = None

    def hold(self, loaded: Mapping[int, Deployment], cuts: Cuts) -> None:
        """The deployments whose segments can be timed, by the cut's index."""
        self._loaded = loaded
        self._stages = {
            (stage.device, i): stage.name
            for i, cut in enumerate(cuts.cuts)
            for stage in cut.plan.stages
        }

    def base(self, stated: Conditions, tries: int = 5) -> None:
        """Learn what an empty round trip takes now, and what of it is no latency of the links."""
        found = []
        for _ in range(tries):
            try:
                found.append(self._coordinator.ping(self._server))
            except TransportError:
                break
        if found:
            latency_s = stated.up_latency_s + stated.down_latency_s
            self.overhead_s = max(0.0, min(found) - latency_s)
            self._base_s = self.overhead_s

    def time(self, device: str, cut: int, idle_s: float = 0.0) -> float | None:
        """Seconds of a cut's segment on a device that idled; None where it cannot be run on
        made-up inputs."""
        time.sleep(idle_s)
        try:
            return self._time(device, cut).seconds[0]
        except (RuntimeFault, InfeasibleError):
            return None

    def up(self, lead_bytes: int, size_bytes: int) -> Gap:
        return _gap(self._coordinator.look(self._server, lead_bytes, size_bytes))

    def down(self, lead_bytes: int, size_bytes: int) -> Gap:
        target = self._coordinator.connected(self._coordinator.cluster.source)
        answer = self._ask(Look(target, lead_bytes, size_bytes))
        if not isinstance(answer, Looked):
            raise RemoteProtocolError("Looked is expected", value=type(answer).__name__)
        return _gap(answer)

    def run(self, cut: int) -> tuple[float, float]:
        found = self._time(self._server, cut)
        return _duration(found.queue_s), _duration(found.seconds[0])

    def ping(self) -> float:
        took_s = self._coordinator.ping(self._server)
        if self._base_s is None:
            self._base_s = took_s  # nothing was known of it: what it is now counts as none
        return max(0.0, took_s - self._base_s)

    def expect(self, up_bps: float) -> None:
        self._coordinator.expect_rate(self._server, up_bps)

    def _ask(self, body: Look | TimeStage) -> Any:
        return self._coordinator.ask(self._server, body, timeout_s=LOOK_TIMEOUT_S)

    def _time(self, device: str, cut: int) -> Timed:
        deployment = self.held.deployment(cut) if self.held is not None else self._loaded.get(cut)
        name = self._stages.get((device, cut))
        if deployment is None or name is None:
            raise UsageError("the cut has no segment there", field="device", value=device)
        session, epoch = deployment.key
        body = TimeStage(session, epoch, name, 1, TIMING_S)
        answer = self._coordinator.ask(
            device, body, timeout_s=60.0 if self.held is None else LOOK_TIMEOUT_S
        )
        if not isinstance(answer, Timed) or not answer.seconds:
            raise RemoteProtocolError("Timed is expected", value=type(answer).__name__)
        return answer


def _gap(found: Looked) -> Gap:
    return Gap(found.gap_bytes, _duration(found.gap_s), _duration(found.whole_s))


def _duration(seconds: float) -> float:
    """Raises RemoteProtocolError for what no duration can be."""
    if not (0 <= seconds < math.inf):
        raise RemoteProtocolError(
            "a duration is expected", field="seconds", value=seconds, remedy="run one version"
        )
    return seconds
