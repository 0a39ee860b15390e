"""From a problem to an adaptive deployment: cuts chosen, loaded, timed; the loop around them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final

from cutset.adaptation import calibrating
from cutset.adaptation.choosing import Chosen, choose_cuts, expected_range, hull_cuts
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.hull_cuts import stated_conditions
from cutset.adaptation.live import Adapter, Line
from cutset.adaptation.policies import LoadAware
from cutset.adaptation.policy import Policy
from cutset.adaptation.runtime_looks import RuntimeLooks
from cutset.engine import Submodel
from cutset.errors import (
    CutsetError,
    TransportError,
    WorkerLostError,
)
from cutset.onnx_io import Model, submodels
from cutset.problem import Problem
from cutset.runtime import routing
from cutset.runtime.coordinator import Coordinator
from cutset.runtime.deployment import Deployment
from cutset.runtime.held_plans import HeldPlans
from cutset.runtime.messages import GetStatus, Status
from cutset.runtime.session import Fallback, Session

#: Of a machine's memory, what all loaded cuts of all devices on it may take where no limit is
#: stated: the rest is for the processes themselves, the system and what else runs.
MEMORY_SHARE: Final = 0.6
#: A server waits between its segments of one request and the next: its caches are cold then.
SERVER_IDLES_S: Final = 0.03

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
        if not without_server:
            raise error
        if cuts.local is None:
            why = "no cut that fits its memory is the whole model"
            error.message += f", and {device!r} cannot answer alone: {why}"
            raise error
        note(alone_in_words(error))
        return error

    try:
        coordinator.connect(cuts.server)
        room = _room(problem, coordinator, (device, cuts.server))
    except (TransportError, WorkerLostError) as error:
        if not without_server:
            raise
        missing, room = error, _room(problem, coordinator, (device,))
    stated = stated_conditions(problem, cuts)
    chosen = choose_cuts(cuts, room, expected_range(stated))
    cuts = chosen.held_cuts
    if chosen.left_out:
        note(
            f"not all cuts fit the memory: {len(chosen.left_out)} of {len(chosen.cuts.cuts)} are"
            f" left out, which costs at most {chosen.worst_loss:.1%} in the range expected"
        )
    if missing is not None:
        alone(missing)  # the local cut is held wherever the device has room for it

    following = policy(cuts)  # before anything is loaded: it may refuse these cuts

    loading = _Loading(model, problem, coordinator, cuts, window, note)
    on_device = [i for i, cut in enumerate(cuts.cuts) if not cut.uses_server]
    looks = RuntimeLooks(coordinator, cuts.server)
    slowdown = load_factor = 1.0
    try:
        try:
            loading.load_all(range(len(cuts.cuts)) if missing is None else on_device)
            if missing is None:
                note("timing the loaded cuts")
                looks.hold(loading.loaded, cuts)
                cuts, slowdown, load_factor = calibrating.corrected(
                    cuts,
                    lambda i: looks.time(device, i),
                    lambda i: looks.time(cuts.server, i, SERVER_IDLES_S),
                )
                looks.base(stated)
        except (TransportError, WorkerLostError) as error:
            if missing is not None:
                raise
            missing = alone(error)
            loading.drop(set(loading.loaded) - set(on_device))
            loading.load_all([i for i in on_device if i not in loading.loaded])
    except BaseException:
        loading.drop(set(loading.loaded))
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
        loading.loaded,
        [cut.name for cut in cuts.cuts],
        adapter,
        connect=lambda: coordinator.connect(cuts.server),
        deploy=loading.load,
        window=window,
        missing=missing,
        note=note,
    )
    looks.held = held
    return Adaptive(held, adapter, chosen, looks, missing)


class _Loading:
    """Loads cuts; `loaded` has the deployments, by the cut's index."""

    def __init__(
        self,
        model: Model,
        problem: Problem,
        coordinator: Coordinator,
        cuts: Cuts,
        window: int,
        note: Note,
    ) -> None:
        self._model, self._problem, self._coordinator = model, problem, coordinator
        self._cuts, self._window, self._note = cuts, window, note
        self.loaded: dict[int, Deployment] = {}

    def load(self, index: int) -> Deployment:
        """One more deployment of a cut, which is the caller's."""
        return self._deploy(index, self._submodels(index))

    def load_all(self, indices: Sequence[int]) -> None:
        """Load these cuts too. Raises what `Coordinator.deploy` raises, WorkerLostError also where
        the server was lost and is back: it has not what it had."""
        if not indices:
            return
        # The next cut's submodels are made while one is loaded; not more, as they are large.
        with ThreadPoolExecutor(1, "cutset-submodels") as maker:
            ahead = maker.submit(self._submodels, indices[0])
            for number, i in enumerate(indices):
                pieces = ahead.result()
                if number + 1 < len(indices):
                    ahead = maker.submit(self._submodels, indices[number + 1])
                name = self._cuts.cuts[i].name
                self._note(f"loading cut {number + 1} of {len(indices)}: {name}")
                self.loaded[i] = self._deploy(i, pieces)
        for deployment in self.loaded.values():
            deployment.check()

    def drop(self, indices: Iterable[int]) -> None:
        """End the deployments of these cuts."""
        for index in indices:
            self.loaded.pop(index).close(drain_s=0.0)

    def _submodels(self, index: int) -> Sequence[Submodel]:
        return submodels(self._model, self._cuts.cuts[index].plan)

    def _deploy(self, index: int, pieces: Sequence[Submodel]) -> Deployment:
        plan, graph = self._cuts.cuts[index].plan, self._problem.graph
        return self._coordinator.deploy(plan, pieces, graph, window=self._window)


def alone_in_words(error: CutsetError) -> str:
    """What is said where a deployment begins without its server."""
    return f"this device answers alone until the server is there: {error}"


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
