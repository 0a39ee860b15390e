"""The process on each device: hosts stages, answers its coordinator. Imports no planner.

One thread receives and only moves messages, one computes, one sends, and one does what takes long
for the coordinator (loading, measuring). The same class serves the source's device inside the
coordinator's process.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from cutset import engine
from cutset.cluster import Engine
from cutset.engine import Paced, Runnable, Submodel
from cutset.errors import (
    CutsetError,
    InfeasibleError,
    RemoteProtocolError,
    RuntimeFault,
    TransportError,
    UsageError,
)
from cutset.feeds import random_feeds
from cutset.ports import Array, Port
from cutset.runtime import growth, machine_info
from cutset.runtime.cache import SubmodelCache
from cutset.runtime.calls import Calls
from cutset.runtime.codec import decode, unpack_tensors
from cutset.runtime.drops import Drops, Reason
from cutset.runtime.host import Epoch, EpochKey, Host, Listener
from cutset.runtime.messages import (
    Ack,
    Activation,
    AskSubmodel,
    Call,
    CallBody,
    CancelRequest,
    Chunk,
    ConfigureLinks,
    DataEndpoint,
    Done,
    Drain,
    EngineSpec,
    GetDataEndpoint,
    GetStats,
    GetStatus,
    Held,
    KernelSeconds,
    LinkSpec,
    Load,
    Loaded,
    Measure,
    Measured,
    Payload,
    Peer,
    Probe,
    ProbeBack,
    Profiled,
    Reply,
    ReplyBody,
    RequestFailed,
    RunProfile,
    SetLink,
    StageSpec,
    Start,
    Status,
    TensorSpec,
    Unload,
    from_failure,
    to_failure,
)
from cutset.runtime.outbox import Outbox, Parcel
from cutset.runtime.shaping import LinkRate
from cutset.runtime.transport import Transport
from cutset.runtime.worker_machine import Event, State

LoadEngine = Callable[[Submodel, EngineSpec], Runnable]

MAX_CALLS: Final = 256  # waiting at once; more are not taken, and come again
PEER_TIMEOUT_S: Final = 10.0
PROBE_TIMEOUT_S: Final = 120.0


def load_engine(submodel: Submodel, spec: EngineSpec) -> Runnable:
    """ONNX Runtime, slowed to the device's share of a core where it is emulated."""
    loaded = engine.load(submodel, Engine(spec.provider, spec.threads, spec.options))
    if spec.cpu_share is None:
        return loaded
    return Paced(loaded, spec.cpu_share, threads=spec.threads or engine.physical_cores())


class Worker:
    """A device's worker over a transport that is not started yet.

    `memory_bytes` limits the stages by the numbers of docs/formats.md. `on_lost` hears of peers
    that are gone. Threads end with `close`.
    """

    def __init__(
        self,
        name: str,
        transport: Transport,
        cache: SubmodelCache,
        *,
        memory_bytes: int | None = None,
        load: LoadEngine = load_engine,
        on_lost: Callable[[str], None] = lambda address: None,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.name = name
        self.transport = transport
        self.cache = cache
        self._memory_bytes = memory_bytes
        self._load_engine = load
        self._on_lost = on_lost
        self._log = log
        self.outbox = Outbox(transport, self._not_sent)
        self.calls = Calls(self.outbox, transport.address)
        self.drops = Drops(log)
        self.host = Host(name, self.outbox, transport.address, drops=self.drops)
        self._work: queue.Queue[tuple[Call, Payload] | None] = queue.Queue(MAX_CALLS)
        self._answered: OrderedDict[tuple[str, int], Reply | None] = OrderedDict()
        self._probes: queue.SimpleQueue[ProbeBack] = queue.SimpleQueue()
        self._probe_id = 0
        self._lock = threading.Lock()
        self._executing = threading.Lock()  # control runs one thing at a time
        self._threads = [threading.Thread(target=self._control, name="cutset-control", daemon=True)]

    def start(self) -> None:
        self.outbox.start()
        self.host.start()
        for thread in self._threads:
            thread.start()
        self.transport.start(self._receive, self._peer_lost)

    def close(self) -> None:
        """End all threads and leave the network."""
        self.host.close()
        self.calls.lost(None)
        self._work.put(None)
        self.outbox.close()
        self.transport.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout=5)

    # --- receiving: only moves messages

    def _receive(self, header: bytes, payload: Payload) -> None:
        try:
            message = decode(header)
        except RemoteProtocolError as error:
            self.drops.add(Reason.MALFORMED, str(error))
            return
        match message:
            case Activation():
                self.host.receive(message, payload)
            case Ack():
                self.outbox.acknowledged(
                    (
                        message.session,
                        message.epoch,
                        message.request,
                        message.tensor,
                        message.receiver,
                    )
                )
            case Call():
                self._take_call(message, payload)
            case Reply():
                self.calls.receive(message)
            case CancelRequest():
                self.host.cancelled(message)
            case RequestFailed():
                self._request_failed(message)
            case Probe():
                answer = ProbeBack(message.id, time.process_time())
                self.outbox.post(Parcel(message.sender, answer, shaped=message.shaped))
            case ProbeBack():
                self._probes.put(message)

    def _request_failed(self, message: RequestFailed) -> None:
        epoch = self.host.get((message.session, message.epoch))
        if epoch is None or message.sender not in epoch.load.members:
            reason = Reason.EPOCH if epoch is None else Reason.SENDER
            self.drops.add(reason, f"{message.device!r} says request {message.request} failed")
        elif epoch.listener is not None:
            epoch.listener.failed(message.request, from_failure(message.failure))

    def _take_call(self, call: Call, payload: Payload) -> None:
        key = (call.reply_to, call.id)
        with self._lock:
            if key in self._answered:  # a call that was sent again
                reply = self._answered[key]
                if reply is not None:
                    self.outbox.post(Parcel(call.reply_to, reply, shaped=False))
                return
            if self._work.full():
                return
            self._answered[key] = None
            while len(self._answered) > 2 * MAX_CALLS:
                self._answered.popitem(last=False)
        self._work.put((call, payload))

    def _peer_lost(self, address: str) -> None:
        self.calls.lost(address)
        self.outbox.forget(lambda key: key[4] == address)
        for epoch in self.host.epochs():
            if epoch.load.session == address:  # its coordinator is gone
                self.host.remove(epoch.key)
        self._on_lost(address)

    def _not_sent(self, parcel: Parcel, error: CutsetError) -> None:
        self._log(str(error))
        if parcel.key is not None:
            session, number, request = parcel.key[:3]
            epoch = self.host.get((session, number))
            if epoch is not None:
                self.host.fail(epoch, request, error)

    # --- control

    def _control(self) -> None:
        while (item := self._work.get()) is not None:
            call, payload = item
            reply = Reply(call.id, self._answer(call, payload))
            with self._lock:
                self._answered[call.reply_to, call.id] = reply
            self.outbox.post(Parcel(call.reply_to, reply, shaped=False))

    def _answer(self, call: Call, payload: Payload) -> ReplyBody:
        """A session is its coordinator's: no other may load, start or end its epochs."""
        session = getattr(call.body, "session", None)
        if session not in (None, call.reply_to):
            return to_failure(
                RemoteProtocolError("the session is another coordinator's", field="session")
            )
        return self.execute(call.body, payload)

    def execute(self, body: CallBody, payload: Payload = b"") -> ReplyBody:
        """Do what the coordinator asks; errors are answers too."""
        try:
            with self._executing:
                return self._execute(body, payload)
        except CutsetError as error:
            return to_failure(error)
        except Exception as error:  # whatever it is, the caller must hear of it
            return to_failure(error)

    def _execute(self, body: CallBody, payload: Payload) -> ReplyBody:
        match body:
            case GetStatus():
                return self._status()
            case GetDataEndpoint():
                return self.transport.data_endpoint or DataEndpoint((), b"")
            case AskSubmodel():
                return Held(*self.cache.held(body.digest, body.total_bytes))
            case Chunk():
                return Held(*self.cache.add(body.digest, body.offset, body.total_bytes, payload))
            case Load():
                return self._load(body)
            case Start():
                self._epoch((body.session, body.epoch)).machine.receive(Event.START)
                self.host.wake()
                return Done()
            case Drain():
                return self._drain(body)
            case Unload():
                return self._unload((body.session, body.epoch))
            case GetStats():
                return self.host.stats((body.session, body.epoch))
            case SetLink():
                return self._set_link(body)
            case ConfigureLinks():
                self._introduce(body.peers)
                for link in body.links:
                    self._configure(link)
                return Done()
            case Measure():
                return self._measure(body)
            case RunProfile():
                return self._profile(body, unpack_tensors(payload))

    def _status(self) -> Status:
        return Status(
            name=self.name,
            address=self.transport.address,
            pid=os.getpid(),
            versions=machine_info.versions(),
            cpu=machine_info.cpu_name(),
            cores=engine.physical_cores(),
            memory_bytes=machine_info.memory_bytes(),
            memory_limit_bytes=self._memory_bytes,
            rss_bytes=machine_info.rss_bytes(),
            providers=machine_info.providers(),
            cpu_s=time.process_time(),
            epochs=tuple(epoch.load.epoch for epoch in self.host.epochs()),
            dropped=dict(self.drops.counts()),
            host_id=machine_info.host_id(),
        )

    def _epoch(self, key: EpochKey) -> Epoch:
        epoch = self.host.get(key)
        if epoch is None:
            raise RemoteProtocolError("no such epoch on this device", field="epoch", value=key[1])
        return epoch

    def _load(self, load: Load) -> Loaded:
        self._check_memory(load)
        epoch = Epoch(load)
        if self.host.get(epoch.key) is not None:
            raise RemoteProtocolError("the epoch is here already", value=load.epoch)
        epoch.machine.receive(Event.LOAD)
        self.host.add(epoch)
        start_s = time.perf_counter()
        grown: list[int] = []
        self._introduce(load.peers)
        try:
            if load.stages:
                self._start_engine(load.engine)
            growth.Growth()  # gives freed memory back, which would be taken again unseen
            before = machine_info.rss_bytes()
            for link in load.links:
                self._configure(link)
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
            feeds = random_feeds([_port(t, load.expected.get(t)) for t in stage.inputs], 1)[0]
            engine.warm_up(runnable, feeds, runs=1)
        except Exception as error:  # random values may be refused where real ones are not
            self._log(f"stage {stage.name!r} was not warmed up: {error}")
        return runnable

    def _drain(self, body: Drain) -> Done:
        key = (body.session, body.epoch)
        epoch = self._epoch(key)
        epoch.machine.receive(Event.DRAIN)
        self.host.wait_idle(key, body.timeout_s)
        epoch.machine.receive(Event.DRAINED)
        return Done()

    def _unload(self, key: EpochKey) -> Done:
        epoch = self.host.get(key)
        if epoch is not None:
            if epoch.machine.state in {State.RUNNING, State.DRAINING}:
                epoch.machine.receive(Event.FAULT)  # unloaded in the middle: nothing is finished
            epoch.machine.receive(Event.UNLOAD)
            self.host.remove(key)
        return Done()

    def attach(self, key: EpochKey, listener: Listener) -> None:
        """Give an epoch's results to a session in this process."""
        self._epoch(key).listener = listener

    def pace(self, cpu_share: float) -> None:
        """Slow the stages that are loaded here, where they are paced, to another share."""
        for epoch in self.host.epochs():
            for runnable in epoch.runnables:
                if isinstance(runnable, Paced):
                    runnable.share = cpu_share

    # --- links

    def _introduce(self, peers: Iterable[Peer]) -> None:
        for peer in peers:
            self.transport.introduce(peer.address, peer.endpoint)

    def _configure(self, link: LinkSpec) -> None:
        # The way back of an acknowledgement is delayed too, but on emulated links.
        delay_s = link.latency_s if link.emulated else 2 * link.latency_s
        self.outbox.describe(link.target, link.name, link.bandwidth_bps, delay_s)
        if link.emulated:
            rate = float("inf") if link.bandwidth_bps is None else link.bandwidth_bps
            self.outbox.set_rate(link.target, LinkRate(rate, link.latency_s))

    def _set_link(self, body: SetLink) -> Done:
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

    def _measure(self, body: Measure) -> Measured:
        if not self.transport.wait_for(body.target, PEER_TIMEOUT_S):
            raise TransportError(f"device {self.name!r} cannot reach the device to measure")
        payload = bytes(body.bytes)
        round_trips: list[float] = []
        first_cpu_s = self._probe(body, b"").cpu_s
        cpu_s = time.process_time()
        last = None
        for _ in range(body.count):
            if body.pause_s:
                time.sleep(body.pause_s)
            start_s = time.perf_counter()
            last = self._probe(body, payload)
            round_trips.append(time.perf_counter() - start_s)
        spent_s = time.process_time() - cpu_s
        assert last is not None
        return Measured(tuple(round_trips), spent_s, max(0.0, last.cpu_s - first_cpu_s))

    def _probe(self, body: Measure, payload: bytes) -> ProbeBack:
        self._probe_id += 1
        probe = Probe(self._probe_id, self.transport.address, body.shaped)
        self.outbox.post(Parcel(body.target, probe, payload, shaped=body.shaped))
        end_s = time.monotonic() + PROBE_TIMEOUT_S
        while (left_s := end_s - time.monotonic()) > 0:
            try:
                back = self._probes.get(timeout=left_s)
            except queue.Empty:
                break
            if back.id == self._probe_id:
                return back
        raise TransportError("a probe was not answered", field="links", value=f"{body.bytes} bytes")

    # --- profiling

    def _profile(self, body: RunProfile, feeds: dict[str, Array]) -> Profiled:
        whole: tuple[float, ...] = ()

        def times(runnable: Runnable) -> None:
            nonlocal whole
            whole = engine.whole_times(runnable, feeds, body.whole_runs, body.pause_s)

        grown = growth.by_loading(
            lambda submodel: self._load_engine(submodel, body.engine),
            lambda: self.cache.load(body.digest),
            times if body.whole_runs else growth.runs(feeds, 1),
        )
        submodel = self.cache.load(body.digest)
        kernels: tuple[engine.KernelTimes, ...] = ()
        if body.kernel_runs:
            spec = body.engine
            unpaced = Engine(spec.provider, spec.threads, spec.options)
            kernels = engine.kernel_times(submodel, unpaced, feeds, body.kernel_runs)
        return Profiled(
            tuple(KernelSeconds(k.node, k.op_type, k.seconds) for k in kernels),
            whole,
            body.engine.threads or engine.physical_cores(),
            grown.stage_bytes,
            grown.load_bytes,
            grown.run_bytes,
        )


def _port(name: str, spec: TensorSpec | None) -> Port:
    if spec is None or spec.dtype is None or spec.shape is None:
        raise RuntimeFault("the tensor's shape is not known", field=name)
    return Port(name, spec.dtype, tuple(spec.shape))
