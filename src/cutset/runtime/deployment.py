"""A live plan: loaded on its devices, started, retired. The shell of deployment_machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from cutset.errors import CutsetError, WorkerLostError
from cutset.ports import Array
from cutset.runtime.cache import Container
from cutset.runtime.deployment_machine import (
    Activate,
    Begin,
    DeploymentMachine,
    DeviceDrained,
    DeviceFailed,
    DeviceLoaded,
    Effect,
    Event,
    Phase,
    Retire,
    SendDrain,
    SendLoad,
    SendStart,
    SendUnload,
)
from cutset.runtime.host import EpochKey, Listener, Watcher
from cutset.runtime.message_parts import TensorSpec
from cutset.runtime.messages import (
    CallBody,
    CancelRequest,
    Drain,
    GetStats,
    Load,
    Loaded,
    ReplyBody,
    Start,
    Stats,
    Unload,
)
from cutset.runtime.session import DEFAULT_DEADLINE_S, Fallback, Session
from cutset.runtime.upload import upload
from cutset.runtime.worker import Worker

LOAD_TIMEOUT_S = 300.0
CALL_TIMEOUT_S = 10.0
QUIET_TIMEOUT_S = 2.0  # for what is asked at the end, and may stay unanswered


class Caller(Protocol):
    """How a deployment asks a device: the coordinator."""

    def ask(
        self, device: str, body: CallBody, payload: bytes = b"", *, timeout_s: float = ...
    ) -> ReplyBody: ...

    def ask_quietly(
        self, device: str, body: CallBody, *, timeout_s: float = ...
    ) -> ReplyBody | None: ...

    def post(self, device: str, message: CancelRequest) -> None: ...


class Served(Listener, Protocol):
    """Who gets a deployment's answers: its session, or who holds several for one."""

    def lost(self, error: CutsetError) -> None: ...


class Deployment:
    """One epoch of a plan on `loads`' devices; made by Coordinator.deploy, which loads it.

    `loaded` says what each device reported: resident memory growth (bytes) and load time (s);
    `sent_bytes` what of the submodels had to travel.
    """

    def __init__(
        self,
        caller: Caller,
        local: Worker,
        source: str,
        loads: Mapping[str, Load],
        submodels: Mapping[str, Sequence[Container]],
        inputs: Mapping[str, TensorSpec],
        progress: Callable[[str, int, int], None],
        ended: Callable[[Deployment], None],
    ) -> None:
        self._caller = caller
        self._local = local
        self._source = source
        self._loads = loads
        self._submodels = submodels
        self._inputs = inputs
        self._progress = progress
        self._ended = ended
        self._machine = DeploymentMachine(loads)
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._served: Served | None = None
        self._error: CutsetError | None = None
        self._cleaning: list[threading.Thread] = []
        self._last_stats: dict[str, Stats] = {}  # of devices that were freed after a loss
        self.loaded: dict[str, Loaded] = {}
        self.sent_bytes: dict[str, int] = dict.fromkeys(loads, 0)

    def __enter__(self) -> Deployment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def phase(self) -> Phase:
        return self._machine.phase

    @property
    def epoch(self) -> int:
        return self._loads[self._source].epoch

    @property
    def stage_memory(self) -> Mapping[str, tuple[int, int]]:
        """By stage, bytes: the number that is enforced, and the peak growth while it loaded."""
        return {
            stage.name: (stage.memory_bytes, grown)
            for device, loaded in self.loaded.items()
            for stage, grown in zip(
                self._loads[device].stages, loaded.stage_growth_bytes, strict=True
            )
        }

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(self._loads)

    def start(self) -> None:
        """Load everywhere, then begin to admit. Raises the first device's error."""
        effects = self._receive(Begin())
        with ThreadPoolExecutor(len(self._loads), "cutset-load") as pool:
            jobs = [
                (e.device, pool.submit(self._load, e.device))
                for e in effects
                if isinstance(e, SendLoad)
            ]
            for device, job in jobs:
                try:
                    self.loaded[device] = job.result()
                    event: Event = DeviceLoaded(device)
                except CutsetError as error:
                    if self._error is None:
                        self._error = error
                    event = DeviceFailed(device, lost=isinstance(error, WorkerLostError))
                self._do(self._receive(event))
        if self._error is not None:
            # Devices that reported late hold it too, or have it no more: both is harmless.
            self._do([SendUnload(device) for device in self._loads])
            self._ended(self)
            raise self._error
        self._submodels = {}  # they are on the devices; held here, every cut's would add up
        self._do(self._receive(Activate()))

    def session(
        self,
        *,
        fallback: Fallback | None = None,
        fallback_s: float = 0.0,
        deadline_s: float = DEFAULT_DEADLINE_S,
    ) -> Session:
        """The stream of requests to this deployment; there is one.

        `fallback_s` is how many seconds the fallback takes (it is also learnt): it begins that
        long before a deadline, and some more (session.py).
        """
        if self._session is None:
            self._session = Session(
                self,
                self.inputs,
                self.outputs,
                window=self._loads[self._source].window,
                fallback=fallback,
                fallback_s=fallback_s,
                deadline_s=deadline_s,
            )
            self.serve(self._session)
        return self._session

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """What a request needs, by tensor."""
        return self._inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """What a request is answered with."""
        return self._loads[self._source].results

    def serve(self, served: Served, watcher: Watcher | None = None) -> None:
        """Give the answers to `served`, and what requests take to `watcher`; there is one."""
        with self._lock:
            self._served = served
            error = self._error
            if error is None:
                self._local.attach(self.key, served, watcher)
        if error is not None:
            served.lost(error)

    def lost(self, device: str, error: CutsetError) -> None:
        """A device is gone: requests fail or fall back, the others are cleaned up."""
        if device not in self._loads:
            return
        with self._lock:
            if self._machine.phase in {Phase.PLANNED, Phase.RETIRED, Phase.FAILED}:
                return
            loading = self._machine.phase is Phase.LOADING
            effects = self._machine.receive(DeviceFailed(device, lost=True))
            self._error = self._error or error
            served = self._served
        if not loading:
            # Not in this thread: it is the one by which the answers would come. And before the
            # session hears of it, upon which its user may call `close`, which joins the thread.
            thread = threading.Thread(target=self._clean_up, args=(effects,), daemon=True)
            thread.start()
            self._cleaning.append(thread)
        if served is not None:
            served.lost(error)

    def check(self) -> None:
        """Raise what ended it, where a device was lost."""
        with self._lock:
            error = self._error
        if error is not None:
            raise error

    def close(self, *, drain_s: float = 5.0) -> None:
        """Let what was admitted end (at most `drain_s`), then free the devices."""
        session = self._session
        if self._machine.phase in {Phase.READY, Phase.ACTIVE}:
            for effect in self._receive(Retire()):
                if isinstance(effect, SendDrain):
                    drain = Drain(*self.key, drain_s)
                    self._caller.ask_quietly(
                        effect.device, drain, timeout_s=drain_s + QUIET_TIMEOUT_S
                    )
                    self._do(self._receive(DeviceDrained(effect.device)))
        if session is not None:
            session.close()
        for thread in self._cleaning:
            thread.join()
        self._ended(self)

    # --- what the session asks (Backend)

    def feed(self, request: int, feeds: Mapping[str, Array], expires_s: float) -> None:
        try:
            self._local.host.feed(self.key, request, feeds, expires_s)
        except CutsetError:
            # After a loss the epoch may be freed here before the session hears why.
            if self._error is not None:
                raise self._error from None
            raise

    def cancel(self, request: int, *, answered_s: float | None = None) -> None:
        self._local.host.cancel(self.key, request)
        for device in self._loads:
            if device != self._source:
                self._caller.post(device, CancelRequest(*self.key, request))

    def stats(self) -> Mapping[str, Stats]:
        """What the devices measured; a lost one is absent."""
        for thread in self._cleaning:
            thread.join()
        found: dict[str, Stats] = {}
        for device in self._loads:
            answer = self._last_stats.get(device) or self._stats_of(device)
            if answer is not None:
                found[device] = answer
        return found

    def _stats_of(self, device: str) -> Stats | None:
        answer = self._caller.ask_quietly(device, GetStats(*self.key))
        return answer if isinstance(answer, Stats) else None

    def _clean_up(self, effects: Sequence[Effect]) -> None:
        """After a loss: keep what the other devices measured, then free them."""
        for effect in effects:
            if isinstance(effect, SendUnload):
                last = self._stats_of(effect.device)
                if last is not None:
                    self._last_stats[effect.device] = last
        self._do(effects)

    # --- inside

    @property
    def key(self) -> EpochKey:
        """Session and epoch."""
        load = self._loads[self._source]
        return load.session, load.epoch

    def _receive(self, event: Event) -> tuple[Effect, ...]:
        with self._lock:
            return self._machine.receive(event)

    def _load(self, device: str) -> Loaded:
        def ask(body: CallBody, payload: bytes) -> ReplyBody:
            return self._caller.ask(device, body, payload, timeout_s=LOAD_TIMEOUT_S)

        total = sum(c.size_bytes for c in self._submodels.get(device, ()))

        before = 0
        for container in self._submodels.get(device, ()):

            def told(sent: int, here: int, before: int = before) -> None:
                self.sent_bytes[device] += sent
                self._progress(device, before + here, total)

            upload(container, ask, told)
            before += container.size_bytes
        answer = ask(self._loads[device], b"")
        assert isinstance(answer, Loaded)
        return answer

    def _do(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, SendStart):
                self._caller.ask(effect.device, Start(*self.key), timeout_s=LOAD_TIMEOUT_S)
            elif isinstance(effect, SendUnload):
                self._caller.ask_quietly(effect.device, Unload(*self.key))
