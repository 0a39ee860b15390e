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
from collections.abc import Callable
from typing import Final

from cutset import engine
from cutset.cluster import Engine
from cutset.engine import Submodel
from cutset.errors import (
    CutsetError,
    RemoteProtocolError,
)
from cutset.pacing import Paced, Runnable
from cutset.runtime import machine_info
from cutset.runtime.cache import SubmodelCache
from cutset.runtime.calls import Calls
from cutset.runtime.codec import decode, unpack_tensors
from cutset.runtime.drops import Drops, Reason
from cutset.runtime.failures import from_failure, to_failure
from cutset.runtime.host import EpochKey, Host, Listener, Watcher
from cutset.runtime.measuring_messages import (
    ConfigureLinks,
    Look,
    Looked,
    Measure,
    Probe,
    ProbeBack,
    RunProfile,
    TimeStage,
)
from cutset.runtime.message_parts import DataEndpoint, EngineSpec, Payload
from cutset.runtime.messages import (
    Ack,
    Activation,
    AskSubmodel,
    Call,
    CallBody,
    CancelRequest,
    Chunk,
    Done,
    Drain,
    GetDataEndpoint,
    GetStats,
    GetStatus,
    Held,
    Load,
    Reply,
    ReplyBody,
    RequestFailed,
    SetLink,
    Start,
    Status,
    Unload,
)
from cutset.runtime.outbox import Outbox, Parcel
from cutset.runtime.probing import Prober
from cutset.runtime.profiling import LoadEngine, profiled
from cutset.runtime.stages import Stages
from cutset.runtime.transport import Arrival, Transport

MAX_CALLS: Final = 256  # waiting at once; more are not taken, and come again


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
        self._prober = Prober(name, transport, self.outbox)
        self.stages = Stages(
            name, self.host, transport, self.outbox, cache, memory_bytes, load, log
        )
        self.outbox.on_acknowledged = self._sent
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

    def _receive(self, header: bytes, payload: Payload, arrival: Arrival) -> None:
        try:
            message = decode(header)
        except RemoteProtocolError as error:
            self.drops.add(Reason.MALFORMED, str(error))
            return
        match message:
            case Activation():
                self.host.receive(message, payload, arrival.at_s)
            case Ack():
                self.outbox.acknowledged(
                    (
                        message.session,
                        message.epoch,
                        message.request,
                        message.tensor,
                        message.receiver,
                    ),
                    message.late_s,
                )
            case Call():
                self._take_call(message, payload)
            case Reply():
                self.calls.receive(message)
            case CancelRequest():
                self.host.cancelled(message)
            case RequestFailed():
                self._request_failed(message)
            case Probe() | ProbeBack():
                self._prober.receive(message, arrival)

    def _sent(self, parcel: Parcel, held_s: float) -> None:
        if parcel.key is not None:
            session, number, request = parcel.key[:3]
            epoch = self.host.get((session, number))
            if epoch is not None and epoch.watcher is not None:
                epoch.watcher.sent(request, parcel.size_bytes, held_s)

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
                return Held(*self.cache.held(body.digest, body.total_bytes, body.pieces))
            case Chunk():
                return Held(*self.cache.add(body.digest, body.offset, body.total_bytes, payload))
            case Load():
                return self.stages.load(body)
            case Start():
                return self.stages.start((body.session, body.epoch))
            case Drain():
                return self.stages.drain(body)
            case Unload():
                return self.stages.unload((body.session, body.epoch))
            case GetStats():
                return self.host.stats((body.session, body.epoch))
            case SetLink():
                return self.stages.set_link(body)
            case ConfigureLinks():
                self.stages.introduce(body.peers)
                for link in body.links:
                    self.stages.configure(link)
                return Done()
            case Measure():
                return self._prober.measure(body)
            case Look():
                return self._prober.look(body)
            case TimeStage():
                return self.stages.time(body)
            case RunProfile():
                feeds = unpack_tensors(payload)
                return profiled(
                    body, feeds, self._load_engine, lambda: self.cache.load(body.digest)
                )

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

    def attach(self, key: EpochKey, listener: Listener, watcher: Watcher | None = None) -> None:
        """Give an epoch's results to a session in this process, and what they took to a watcher."""
        epoch = self.stages.epoch(key)
        epoch.listener, epoch.watcher = listener, watcher

    def look(self, target: str, lead_bytes: int, size_bytes: int) -> Looked:
        """As the message Look asks of a device. Raises TransportError where nothing arrives in
        time."""
        return self._prober.look(Look(target, lead_bytes, size_bytes))

    def ping(self, target: str) -> float:
        """Seconds of an empty round trip over the link to a device. Raises TransportError."""
        return self._prober.ping(target)

    def pace(self, cpu_share: float) -> None:
        """Slow the stages that are loaded here, where they are paced, to another share."""
        for epoch in self.host.epochs():
            for runnable in epoch.runnables:
                if isinstance(runnable, Paced):
                    runnable.share = cpu_share
