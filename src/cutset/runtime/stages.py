"""The stages of this device: loaded within its memory, warmed, started, drained, unloaded."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterable

from cutset import engine
from cutset.errors import (
    InfeasibleError,
    RemoteProtocolError,
    RuntimeFault,
    TransportError,
    UsageError,
)
from cutset.feeds import random_feeds
from cutset.pacing import Paced, Runnable, warm_up
from cutset.ports import Array, Port
from cutset.runtime import growth, machine_info
from cutset.runtime.cache import SubmodelCache
from cutset.runtime.host import Epoch, EpochKey, Host
from cutset.runtime.measuring_messages import Timed, TimeStage
from cutset.runtime.message_parts import EngineSpec, LinkSpec, Peer, TensorSpec
from cutset.runtime.messages import Done, Drain, Load, Loaded, SetLink, StageSpec
from cutset.runtime.outbox import Outbox
from cutset.runtime.profiling import LoadEngine
from cutset.runtime.shaping import LinkRate
from cutset.runtime.transport import PEER_TIMEOUT_S, Transport
from cutset.runtime.worker_machine import Event, State

TIMING_PATIENCE_S = 5.0  # beyond its own limit, until a timing is given up


class Stages:
    """What a coordinator may ask about stages and the links that they use.

    `memory_bytes` limits the stages by the numbers of docs/formats.md.
    """

    def __init__(
        self,
        name: str,
        host: Host,
        transport: Transport,
        outbox: Outbox,
        cache: SubmodelCache,
        memory_bytes: int | None,
        load: LoadEngine,
        log: Callable[[str], None],
    ) -> None:
        self.name = name
        self.host = host
        self.transport = transport
        self.outbox = outbox
        self.cache = cache
        self._memory_bytes = memory_bytes
        self._load_engine = load
        self._log = log

    def epoch(self, key: EpochKey) -> Epoch:
        epoch = self.host.get(key)
        if epoch is None:
            raise RemoteProtocolError("no such epoch on this device", field="epoch", value=key[1])
        return epoch

    def load(self, load: Load) -> Loaded:
        self._check_memory(load)
        epoch = Epoch(load)
        if self.host.get(epoch.key) is not None:
            raise RemoteProtocolError("the epoch is here already", value=load.epoch)
        epoch.machine.receive(Event.LOAD)
        self.host.add(epoch)
        start_s = time.perf_counter()
        grown: list[int] = []
        self.introduce(load.peers)
        try:
            if load.stages:
                self._start_engine(load.engine)
            growth.Growth()  # gives freed memory back, which would be taken again unseen
            before = machine_info.rss_bytes()
            for link in load.links:
                self.configure(link)
                if not self.transport.wait_for(link.target, PEER_TIMEOUT_S):
                    raise TransportError(
                        f"device {self.name!r} cannot reach its neighbour over {link.name}",
                        field=f"links.{link.name}",
                        value=self.transport.path(link.target),
                        remedy="let its data port through (docs/decisions.md says which one), or"
                        " put a Zenoh router where both can reach it",
                    )
            runnables = []
            for stage in load.stages:
                watch = growth.Growth()
                runnables.append(self._warm(stage, load))
                grown.append(watch.bytes())
            epoch.runnables = tuple(runnables)
        except BaseException:
            self.host.remove(epoch.key)
            raise
        epoch.machine.receive(Event.LOADED)
        return Loaded(
            max(0, machine_info.rss_bytes() - before),
            time.perf_counter() - start_s,
            tuple(grown),
        )

    def _start_engine(self, spec: EngineSpec) -> None:
        """So that what the engine itself takes, once, is not charged to the first stage."""
        try:
            self._load_engine(engine.TINY, spec)
        except UsageError as error:
            raise UsageError(
                f"device {self.name!r}: {error.message}",
                field=f"devices.{self.name}.{error.field}",
                value=error.value,
                remedy=error.remedy,
            ) from None

    def _check_memory(self, load: Load) -> None:
        if self._memory_bytes is None:
            return
        here = sum(s.memory_bytes for e in self.host.epochs() for s in e.load.stages)
        needed = sum(s.memory_bytes for s in load.stages)
        if here + needed > self._memory_bytes:
            raise InfeasibleError(
                f"device {self.name!r} needs {needed} bytes for its stages, holds {here} bytes and"
                f" is limited to {self._memory_bytes} bytes",
                field=f"devices.{self.name}.memory",
                value=f"{self._memory_bytes} bytes",
                remedy=f"it is {here + needed - self._memory_bytes} bytes short: give it a smaller"
                " part, or more memory (`memory` in the cluster file, `cutset worker --memory`)",
            )

    def _warm(self, stage: StageSpec, load: Load) -> Runnable:
        runnable = self._load_engine(self.cache.load(stage.digest), load.engine)
        try:
            warm_up(runnable, _made_up(stage, load), runs=1)
        except Exception as error:  # random values may be refused where real ones are not
            self._log(f"stage {stage.name!r} was not warmed up: {error}")
        return runnable

    def drain(self, body: Drain) -> Done:
        key = (body.session, body.epoch)
        epoch = self.epoch(key)
        epoch.machine.receive(Event.DRAIN)
        self.host.wait_idle(key, body.timeout_s)
        epoch.machine.receive(Event.DRAINED)
        return Done()

    def unload(self, key: EpochKey) -> Done:
        epoch = self.host.get(key)
        if epoch is not None:
            if epoch.machine.state in {State.RUNNING, State.DRAINING}:
                epoch.machine.receive(Event.FAULT)  # unloaded in the middle: nothing is finished
            epoch.machine.receive(Event.UNLOAD)
            self.host.remove(key)
        return Done()

    def start(self, key: EpochKey) -> Done:
        """Take requests. Devices are started one after another, when all of them have loaded: so
        nothing else runs where several are emulated here, and stages learn their pace now."""
        epoch = self.epoch(key)
        for stage, runnable in zip(epoch.load.stages, epoch.runnables, strict=True):
            if isinstance(runnable, Paced):
                try:
                    runnable.learn(_made_up(stage, epoch.load))
                except Exception as error:  # as in _warm; it learns from requests then
                    self._log(f"stage {stage.name!r} has not learnt its pace: {error}")
        epoch.machine.receive(Event.START)
        self.host.wake()
        return Done()

    def time(self, body: TimeStage) -> Timed:
        """What a loaded stage takes now. Between requests, by the thread that computes them: what
        it took beside one would be neither's. Raises RemoteProtocolError for an unknown stage,
        RuntimeFault where it cannot be run on made-up inputs, or not in time."""
        epoch = self.epoch((body.session, body.epoch))
        names = [stage.name for stage in epoch.load.stages]
        if body.stage not in names:
            raise RemoteProtocolError("no such stage here", field="stage", value=body.stage)
        number = names.index(body.stage)
        feeds = _made_up(epoch.load.stages[number], epoch.load)
        answers: queue.SimpleQueue[Timed | Exception] = queue.SimpleQueue()
        asked_s = time.perf_counter()

        def job() -> None:
            start_s = time.perf_counter()
            seconds: list[float] = []
            try:
                while len(seconds) < body.runs:
                    run_s = time.perf_counter()
                    epoch.runnables[number].run(feeds)
                    seconds.append(time.perf_counter() - run_s)
                    if time.perf_counter() - start_s >= body.limit_s:
                        break
                answers.put(Timed(tuple(seconds), start_s - asked_s))
            except Exception as error:  # an engine may raise anything
                answers.put(error)

        self.host.between(job)
        try:
            found = answers.get(timeout=body.limit_s + TIMING_PATIENCE_S)
        except queue.Empty:
            raise RuntimeFault(
                f"stage {body.stage!r} was not timed: device {self.name!r} has no time for it",
                field=f"stages.{body.stage}",
            ) from None
        if isinstance(found, Exception):
            raise RuntimeFault(
                f"stage {body.stage!r} cannot be timed: {' '.join(str(found).split())}",
                field=f"stages.{body.stage}",
            ) from None
        return found

    # --- links

    def introduce(self, peers: Iterable[Peer]) -> None:
        for peer in peers:
            self.transport.introduce(peer.address, peer.endpoint)

    def configure(self, link: LinkSpec) -> None:
        # The way back of an acknowledgement is delayed too, but on emulated links.
        delay_s = link.latency_s if link.emulated else 2 * link.latency_s
        self.outbox.describe(link.target, link.name, link.bandwidth_bps, delay_s)
        if link.emulated:
            rate = float("inf") if link.bandwidth_bps is None else link.bandwidth_bps
            self.outbox.set_rate(link.target, LinkRate(rate, link.latency_s))

    def set_link(self, body: SetLink) -> Done:
        rate = self.outbox.rate(body.target)
        bandwidth = rate.bandwidth_bps if body.bandwidth_bps is None else body.bandwidth_bps
        latency = rate.latency_s if body.latency_s is None else body.latency_s
        if not (bandwidth > 0 and 0 <= latency < 3600):
            raise RemoteProtocolError(
                "a link needs a bandwidth above 0 and a latency below an hour",
                value=f"{bandwidth} bit/s, {latency} s",
            )
        self.outbox.set_rate(body.target, LinkRate(bandwidth, latency))
        return Done()


def _made_up(stage: StageSpec, load: Load) -> dict[str, Array]:
    """Random inputs of a stage. Raises RuntimeFault where a shape is not known."""
    return random_feeds([_port(t, load.expected.get(t)) for t in stage.inputs], 1)[0]


def _port(name: str, spec: TensorSpec | None) -> Port:
    if spec is None or spec.dtype is None or spec.shape is None:
        raise RuntimeFault("the tensor's shape is not known", field=name)
    return Port(name, spec.dtype, tuple(spec.shape))
