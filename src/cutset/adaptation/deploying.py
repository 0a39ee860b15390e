"""From a problem to an adaptive deployment: cuts chosen, loaded, timed; the loop around them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final

from cutset.adaptation import calibrating
from cutset.adaptation.choosing import Chosen, choose_cuts, expected_range, hull_cuts
from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.hull_cuts import stated_conditions
from cutset.adaptation.live import Adapter, Line
from cutset.adaptation.live_looks import Gap
from cutset.adaptation.policies import LoadAware
from cutset.adaptation.policy import Policy
from cutset.engine import Submodel
from cutset.errors import (
    CutsetError,
    InfeasibleError,
    RemoteProtocolError,
    RuntimeFault,
    TransportError,
    UsageError,
    WorkerLostError,
)
from cutset.onnx_io import Model, submodels
from cutset.problem import Problem
from cutset.runtime import routing
from cutset.runtime.coordinator import Coordinator
from cutset.runtime.deployment import Deployment
from cutset.runtime.held_plans import HeldPlans
from cutset.runtime.measuring_messages import Look, Looked, Timed, TimeStage
from cutset.runtime.messages import GetStatus, Status
from cutset.runtime.session import Fallback, Session

#: Of a machine's memory, what all loaded cuts of all devices on it may take where no limit is
#: stated: the rest is for the processes themselves, the system and what else runs.
MEMORY_SHARE: Final = 0.6
LOOK_TIMEOUT_S: Final = 3.0
#: A server waits between its segments of one request and the next: its caches are cold then.
SERVER_IDLES_S: Final = 0.03
TIMING_S: Final = 1.0  # after which no further run of a segment begins

Note = Callable[[str], None]


class Adaptive:
    """An adaptive deployment: `held` carries requests, `adapter` says which way each goes.

    `chosen` says which cuts are held and what leaving others out may cost; `missing` why it began
    without the server, None where it did not.
    """

    def __init__(
        self,
        held: HeldPlans,
        adapter: Adapter,
        chosen: Chosen,
        looks: RuntimeLooks,
        missing: CutsetError | None,
    ) -> None:
        self.held, self.adapter, self.chosen = held, adapter, chosen
        self.looks, self.missing = looks, missing

    @property
    def cuts(self) -> Cuts:
        """What is held, with costs as timed where it is loaded."""
        return self.adapter.cuts

    def session(
        self, *, fallback: Fallback | None, fallback_s: float, deadline_s: float
    ) -> Session:
        found = self.held.session(fallback=fallback, fallback_s=fallback_s, deadline_s=deadline_s)
        self.adapter.start(self.looks, self.held.reroute)
        return found

    def close(self, *, drain_s: float = 5.0) -> None:
        """Stop watching and looking, then end the deployments."""
        try:
            self.adapter.stop()
        finally:
            self.held.close(drain_s=drain_s)


def deploy_adaptive(
    model: Model,
    problem: Problem,
    coordinator: Coordinator,
    *,
    server: str | None = None,
    policy: Callable[[Cuts], Policy[Any]] = lambda cuts: LoadAware(),
    window: int = 1,
    without_server: bool = False,
    on_line: Callable[[Line], None] = lambda line: None,
    note: Note = lambda text: None,
) -> Adaptive:
    """Load every cut of the device and the server that is ever best and fits, and begin to adapt.

    `problem` holds the costs, and the links as they are believed until something is seen. With
    `without_server`, a server that cannot be reached, or is lost while cuts are loaded, is waited
    for while the device answers alone.
    Raises UnsupportedProblemError where the server is not clear, InfeasibleError where no cut
    fits, TransportError, WorkerLostError.
    """
    device = problem.cluster.source
    cuts = hull_cuts(problem, server)
    missing: CutsetError | None = None

    def alone(error: CutsetError) -> CutsetError:
        """Go on without the server; raises the error where that is not wanted, or no way."""
        if missing is not None or not without_server or cuts.local is None:
            raise error
        note(alone_in_words(error))
        return error

    try:
        coordinator.connect(cuts.server)
        room = _room(problem, coordinator, (device, cuts.server))
    except (TransportError, WorkerLostError) as error:
        missing = alone(error)
        room = _room(problem, coordinator, (device,))
    stated = stated_conditions(problem, cuts)
    chosen = choose_cuts(cuts, room, expected_range(stated))
    cuts = chosen.held_cuts
    if chosen.left_out:
        note(
            f"not all cuts fit the memory: {len(chosen.left_out)} of {len(chosen.cuts.cuts)} are"
            f" left out, which costs at most {chosen.worst_loss:.1%} in the range expected"
        )

    following = policy(cuts)  # before anything is loaded: it may refuse these cuts

    def made(index: int) -> Sequence[Submodel]:
        return submodels(model, cuts.cuts[index].plan)

    def load(index: int, pieces: Sequence[Submodel] | None = None) -> Deployment:
        plan = cuts.cuts[index].plan
        return coordinator.deploy(plan, pieces or made(index), problem.graph, window=window)

    def load_all(indices: Sequence[int]) -> None:
        if not indices:
            return
        # The next cut's submodels are made while one is loaded; not more, as they are large.
        with ThreadPoolExecutor(1, "cutset-submodels") as maker:
            ahead = maker.submit(made, indices[0])
            for number, i in enumerate(indices):
                pieces = ahead.result()
                if number + 1 < len(indices):
                    ahead = maker.submit(made, indices[number + 1])
                note(f"loading cut {number + 1} of {len(indices)}: {cuts.cuts[i].name}")
                loaded[i] = load(i, pieces)
        for deployment in loaded.values():
            deployment.check()  # a server that was lost and is back has not what it had

    on_device = [i for i, cut in enumerate(cuts.cuts) if not cut.uses_server]
    loaded: dict[int, Deployment] = {}
    looks = RuntimeLooks(coordinator, cuts.server)
    slowdown = load_factor = 1.0
    try:
        try:
            load_all(range(len(cuts.cuts)) if missing is None else on_device)
            if missing is None:
                note("timing the loaded cuts")
                looks.hold(loaded, cuts)
                cuts, slowdown, load_factor = calibrating.corrected(
                    cuts,
                    lambda i: looks.time(device, i),
                    lambda i: looks.time(cuts.server, i, SERVER_IDLES_S),
                )
                looks.base(stated)
        except (TransportError, WorkerLostError) as error:
            missing = alone(error)
            for i in set(loaded) - set(on_device):
                loaded.pop(i).close(drain_s=0.0)
            load_all([i for i in on_device if i not in loaded])
    except BaseException:
        for deployment in loaded.values():
            deployment.close(drain_s=0.0)
        raise
    stated = replace(stated, slowdown=slowdown, load=load_factor)
    emulated = routing.emulated(problem.cluster, cuts.server, device)
    adapter = Adapter(
        following,
        cuts,
        stated,
        overhead_s=looks.overhead_s,
        answer_delay_s=stated.down_latency_s if emulated else 0.0,
        on_line=on_line,
    )
    held = HeldPlans(
        loaded,
        [cut.name for cut in cuts.cuts],
        adapter,
        connect=lambda: coordinator.connect(cuts.server),
        deploy=load,
        window=window,
        missing=missing,
        note=note,
    )
    looks.held = held
    return Adaptive(held, adapter, chosen, looks, missing)


def alone_in_words(error: CutsetError) -> str:
    """What is said where a deployment begins without its server."""
    return f"this device answers alone until the server is there: {error}"


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


def _room(problem: Problem, coordinator: Coordinator, devices: Sequence[str]) -> dict[str, float]:
    """Bytes for the stages of all cuts, by device: as stated, else a share of its machine."""
    states: dict[str, Status] = {}
    for name in devices:
        answer = coordinator.ask(name, GetStatus())
        if isinstance(answer, Status):
            states[name] = answer
    room: dict[str, float] = {}
    for name in devices:
        limit = problem.device(name).memory_bytes
        status = states.get(name)
        if math.isinf(limit) and status is not None:
            here = (
                [s for s in states.values() if s.host_id == status.host_id]
                if status.host_id
                else [status]
            )
            limit = MEMORY_SHARE * status.memory_bytes / len(here)
        if status is not None and status.memory_limit_bytes is not None:
            limit = min(limit, status.memory_limit_bytes)
        room[name] = limit
    return room
