"""Stages at work on a device: tensors in, one thread that computes, tensors out."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cutset.errors import CutsetError, RemoteProtocolError, RuntimeFault
from cutset.pacing import Runnable
from cutset.ports import Array
from cutset.runtime.codec import decode_tensor, dtype_name, payload_bytes
from cutset.runtime.drops import Drops, Reason
from cutset.runtime.failures import to_failure
from cutset.runtime.flow import Arrival, Flow
from cutset.runtime.message_parts import MAX_TENSOR_BYTES, Payload, TensorSpec
from cutset.runtime.messages import (
    Ack,
    Activation,
    CancelRequest,
    Load,
    RequestFailed,
    StageStats,
    Stats,
)
from cutset.runtime.outbox import Outbox, Parcel
from cutset.runtime.worker_machine import WorkerMachine

EpochKey = tuple[str, int]  # session, epoch

MAX_REMAINING_S = 1e6  # the longest deadline of a session


class Listener(Protocol):
    """The session, where this device hosts it."""

    def result(self, request: int, tensor: str, array: Array) -> None: ...

    def failed(self, request: int, error: CutsetError) -> None: ...


class Watcher(Protocol):
    """Hears what an epoch's requests take, as it is known on this device; seconds and bytes.

    Called by the threads that receive and compute: it must return at once.
    """

    def ran(self, request: int, queue_s: float, compute_s: float) -> None:
        """A stage of this device ran."""

    def sent(self, request: int, size_bytes: int, held_s: float) -> None:
        """A tensor has arrived elsewhere; it held the link for `held_s`."""

    def arrived(self, request: int, size_bytes: int, queue_s: float, compute_s: float) -> None:
        """A tensor came; what its stage waited and ran, by the word of the device that sent it."""


@dataclass
class Epoch:
    """What the device holds for an epoch."""

    load: Load
    machine: WorkerMachine = field(default_factory=WorkerMachine)
    runnables: tuple[Runnable, ...] = ()
    listener: Listener | None = None
    watcher: Watcher | None = None

    def __post_init__(self) -> None:
        # Twice the window: the session may have given requests up that are still held here.
        self.flow = Flow(self.load.stages, self.load.receives, 2 * self.load.window + 2)
        self.routes = {route.tensor: route.targets for route in self.load.routes}
        self.results = frozenset(self.load.results)
        self.counts = [StageStats(s.name, 0, 0.0, 0.0) for s in self.load.stages]
        self.duplicates = 0
        self.dropped_before: Mapping[str, int] = {}

    @property
    def key(self) -> EpochKey:
        return self.load.session, self.load.epoch


class Host:
    """Runs the stages of all epochs on this device, one stage at a time.

    Receiving only moves tensors into the epochs' flows; the computing thread takes the oldest
    request that can go on. `name` is the device's.
    """

    def __init__(
        self,
        name: str,
        outbox: Outbox,
        address: str,
        clock: Callable[[], float] = time.monotonic,
        drops: Drops | None = None,
    ) -> None:
        self.name = name
        self.drops = drops or Drops(lambda line: None, clock)
        self._outbox = outbox
        self._address = address
        self._clock = clock
        self._condition = threading.Condition()
        self._epochs: dict[EpochKey, Epoch] = {}
        self._closed = False
        self._jobs: deque[Callable[[], None]] = deque()
        self._thread = threading.Thread(target=self._loop, name="cutset-compute", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End the computing thread after the stage it runs."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    # --- epochs

    def add(self, epoch: Epoch) -> None:
        epoch.dropped_before = self.drops.counts()
        with self._condition:
            self._epochs[epoch.key] = epoch

    def get(self, key: EpochKey) -> Epoch | None:
        with self._condition:
            return self._epochs.get(key)

    def epochs(self) -> tuple[Epoch, ...]:
        with self._condition:
            return tuple(self._epochs.values())

    def remove(self, key: EpochKey) -> None:
        """Forget an epoch and what is to be sent for it."""
        with self._condition:
            self._epochs.pop(key, None)
            self._condition.notify_all()
        self._outbox.forget_epoch(*key)

    def wake(self) -> None:
        """An epoch's state has changed."""
        with self._condition:
            self._condition.notify_all()

    def wait_idle(self, key: EpochKey, timeout_s: float) -> bool:
        """Wait until the epoch holds no request; False when the time is over."""

        def idle() -> bool:
            epoch = self._epochs.get(key)
            return epoch is None or len(epoch.flow) == 0

        with self._condition:
            return self._condition.wait_for(idle, timeout_s)

    def stats(self, key: EpochKey) -> Stats:
        epoch = self.get(key)
        if epoch is None:
            raise RemoteProtocolError("no such epoch on this device", value=key[1])
        with self._condition:
            return Stats(
                tuple(epoch.counts),
                self._outbox.stats(*key),
                epoch.duplicates,
                self._outbox.egress_busy_s(*key),
                self.drops.since(epoch.dropped_before),
            )

    # --- requests

    def feed(
        self, key: EpochKey, request: int, feeds: Mapping[str, Array], expires_s: float
    ) -> None:
        """A new request of the session that this device hosts. `expires_s` is on our clock."""
        with self._condition:
            epoch = self._epochs.get(key)
            if epoch is None or not epoch.machine.admits:
                raise RuntimeFault("the deployment takes no requests", field="epoch", value=key[1])
            epoch.flow.open(request, self._clock(), expires_s)
        for name in sorted(feeds):
            self._place(epoch, request, name, feeds[name], expires_s, arrived=True)
        self.wake()

    def cancel(self, key: EpochKey, request: int) -> None:
        """The request has ended: drop what is held of it here."""
        with self._condition:
            epoch = self._epochs.get(key)
            if epoch is not None:
                epoch.flow.end(request)
                self._condition.notify_all()
        self._outbox.forget(lambda k: k[:3] == (*key, request))

    def receive(self, message: Activation, payload: Payload, came_s: float) -> None:
        """A tensor from another device, which was there at `came_s`: check, keep, acknowledge.

        What does not fit is counted and dropped without a word to anyone: whoever sent it, it must
        not end a request. Who belongs to the plan checks what it sends (`_place`), so that what
        was damaged on the way comes again.
        """
        epoch = self.get((message.session, message.epoch))
        reason = Reason.EPOCH if epoch is None else _misfit(message, payload, epoch.load)
        if epoch is None or reason is not None:
            assert reason is not None
            self.drops.add(
                reason,
                f"tensor {message.tensor!r} of request {message.request}, epoch {message.epoch}:"
                f" {message.dtype} {list(message.shape)}, {len(payload)} bytes",
            )
            return
        expires_s = self._clock() + message.remaining_s
        try:
            array = decode_tensor(message.tensor, message.dtype, message.shape, payload, None)
        except RemoteProtocolError as error:
            self.drops.add(Reason.SHAPE, str(error))
            return
        if epoch.watcher is not None:
            spent = message.queue_s, message.compute_s
            epoch.watcher.arrived(message.request, len(payload), *spent)
        if self._place(epoch, message.request, message.tensor, array, expires_s, arrived=True):
            self._acknowledge(message, came_s)
            self.wake()

    def cancelled(self, message: CancelRequest) -> None:
        self.cancel((message.session, message.epoch), message.request)

    def _acknowledge(self, message: Activation, came_s: float) -> None:
        ack = Ack(message.session, message.epoch, message.request, message.tensor, self._address)
        self._outbox.post(Parcel(message.sender, ack, shaped=False, came_s=came_s), urgent=True)

    def _place(
        self,
        epoch: Epoch,
        request: int,
        tensor: str,
        array: Array,
        expires_s: float,
        *,
        arrived: bool,
        spent: tuple[float, float] = (0.0, 0.0),
    ) -> bool:
        """A tensor is here: keep it where it arrived, and pass it on; False where there is no
        room for its request."""
        if arrived:
            with self._condition:
                if not epoch.machine.admits and epoch.flow.expires_s(request) is None:
                    return False
                arrival = epoch.flow.arrive(request, tensor, array, self._clock(), expires_s)
                if arrival is Arrival.DUPLICATE:
                    epoch.duplicates += 1
            if arrival is not Arrival.NEW:
                return arrival is Arrival.DUPLICATE
        targets = epoch.routes.get(tensor, ())
        if targets:
            _check_sent(tensor, array, epoch.load.expected.get(tensor))
        for target in targets:
            message = Activation(
                *epoch.key,
                request,
                tensor,
                dtype_name(array),
                tuple(array.shape),
                self._address,
                0.0,
                *spent,
            )
            self._outbox.post(
                Parcel(target, message, array, (*epoch.key, request, tensor, target), expires_s)
            )
        if tensor in epoch.results and epoch.listener is not None:
            epoch.listener.result(request, tensor, array)
        return True

    # --- computing

    def between(self, job: Callable[[], None]) -> None:
        """Run something on the computing thread, when no request is ready there."""
        with self._condition:
            self._jobs.append(job)
            self._condition.notify_all()

    def _loop(self) -> None:
        while True:
            job = None
            with self._condition:
                work = self._next()
                while work is None:
                    if self._closed:
                        return
                    if self._jobs:
                        job = self._jobs.popleft()
                        break
                    self._condition.wait()
                    work = self._next()
            if work is None:
                assert job is not None
                job()
                continue
            epoch, request, stage, ready_s, feeds, expires_s = work
            start_s = self._clock()
            try:
                outputs = epoch.runnables[stage].run(feeds)
            except Exception as error:  # an engine may raise anything: it ends this request only
                self.fail(epoch, request, _located(error, epoch, stage, self.name))
                continue
            end_s = self._clock()
            spent = max(0.0, start_s - ready_s), end_s - start_s
            if epoch.watcher is not None:
                epoch.watcher.ran(request, *spent)
            with self._condition:
                done = epoch.counts[stage]
                epoch.counts[stage] = StageStats(
                    done.name,
                    done.requests + 1,
                    done.compute_s + spent[1],
                    done.queue_s + spent[0],
                )
                wanted = epoch.flow.finish(request, outputs, end_s)
                self._condition.notify_all()
            if not wanted:
                continue
            try:
                for tensor in sorted(outputs):
                    array = outputs[tensor]
                    self._place(
                        epoch, request, tensor, array, expires_s, arrived=False, spent=spent
                    )
            except CutsetError as error:
                self.fail(epoch, request, error)

    def _next(
        self,
    ) -> tuple[Epoch, int, int, float, Mapping[str, Array], float] | None:
        if self._closed:
            return None
        for epoch in self._epochs.values():
            while (ready := epoch.flow.next_ready()) is not None:
                request, stage, ready_s = ready
                expires_s = epoch.flow.expires_s(request)
                if expires_s is None or expires_s < self._clock():
                    epoch.flow.end(request)  # the session has answered it with an error
                    continue
                return epoch, request, stage, ready_s, epoch.flow.take(request), expires_s
        return None

    def fail(self, epoch: Epoch, request: int, error: CutsetError) -> None:
        """End a request here, and tell its session why."""
        with self._condition:
            epoch.flow.end(request)
            self._condition.notify_all()
        if epoch.listener is not None:
            epoch.listener.failed(request, error)
        else:
            failure = to_failure(error)
            message = RequestFailed(*epoch.key, request, self.name, self._address, failure)
            self._outbox.post(Parcel(epoch.load.session, message, shaped=False), urgent=True)


def _misfit(message: Activation, payload: Payload, load: Load) -> Reason | None:
    """Why a tensor cannot be one that this epoch's devices send here; None where it can."""
    if message.tensor not in load.senders:
        return Reason.TENSOR
    if message.sender != load.senders[message.tensor]:
        return Reason.SENDER
    expected = load.expected.get(message.tensor)
    if expected is not None and expected.dtype not in (None, message.dtype):
        return Reason.DTYPE
    if expected is not None and expected.shape not in (None, message.shape):
        return Reason.SHAPE
    size = payload_bytes(message.dtype, message.shape)
    if size is None:
        return Reason.DTYPE
    if size > MAX_TENSOR_BYTES or len(payload) != size:
        return Reason.SIZE
    if not message.remaining_s <= MAX_REMAINING_S:  # also where it is no number
        return Reason.MALFORMED
    return None


def _check_sent(tensor: str, array: Array, expected: TensorSpec | None) -> None:
    """Raise RuntimeFault where a stage made another tensor than its receivers expect."""
    if expected is None:
        return
    dtype, shape = dtype_name(array), tuple(array.shape)
    if expected.dtype not in (None, dtype) or expected.shape not in (None, shape):
        wanted = f"{expected.dtype or 'any dtype'} {list(expected.shape or ())}"
        raise RuntimeFault(
            f"a stage made tensor {tensor!r} other than its model says, {wanted}",
            field=f"tensors.{tensor}",
            value=f"{dtype} {list(shape)}",
            remedy="cut elsewhere: this tensor's dtype or shape depends on the data",
        )


def _located(error: Exception, epoch: Epoch, stage: int, device: str) -> CutsetError:
    name = epoch.load.stages[stage].name
    text = error.message if isinstance(error, CutsetError) else " ".join(str(error).split())
    return RuntimeFault(
        f"stage {name!r} on device {device!r} failed: {text or type(error).__name__}",
        field=f"stages.{name}",
        remedy="check the request's input; other requests go on",
    )
