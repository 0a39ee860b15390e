"""Workers of one process over LocalTransport, with stages in Python: no engine and no sockets."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cutset.cluster import Cluster, Device, Link
from cutset.engine import TINY, Submodel
from cutset.graph import Graph
from cutset.pacing import Runnable
from cutset.plan import Plan
from cutset.ports import Array
from cutset.runtime import routing
from cutset.runtime.codec import decode
from cutset.runtime.local_transport import LocalNetwork, LocalTransport
from cutset.runtime.message_parts import EngineSpec, Payload
from cutset.runtime.messages import Activation, Drain, Loaded, Start, Stats
from cutset.runtime.session import Session
from cutset.runtime.shaping import LinkRate
from cutset.runtime.worker import Worker


class Clock:
    """Stands still until it is told otherwise, so that nothing is sent again for slowness."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Sums:
    """A stage whose every operator adds up its inputs and adds its own number."""

    graph: Graph
    operators: tuple[str, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    gate: threading.Event | None = None  # a device that stalls

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        if self.gate is not None:
            assert self.gate.wait(60)
        found = computed(self.graph, self.operators, feeds)
        return {name: found[name] for name in self.output_names}


def computed(
    graph: Graph, operators: Sequence[str], feeds: Mapping[str, Array]
) -> dict[str, Array]:
    values = dict(feeds)
    for name in operators:
        position = graph.positions[name]
        operator = graph.operators[position]
        total = np.sum([values[t] for t in operator.inputs], axis=0, dtype=np.int64)
        for k, tensor in enumerate(operator.outputs):
            values[tensor] = total * (k + 2) + position
    return values


class Submodels:
    """Stands in for a worker's cache: submodels that never travelled."""

    def __init__(self, pieces: Sequence[Submodel]) -> None:
        self._pieces = {piece.digest: piece for piece in pieces}

    def load(self, digest: str) -> Submodel:
        return self._pieces[digest]


def pieces_of(plan: Plan, graph: Graph) -> list[Submodel]:
    """Each stage's inputs and outputs, as a submodel without a model."""
    found = []
    for k, stage in enumerate(plan.stages):
        inside = [graph.operators[graph.positions[n]] for n in stage.operators]
        made = [t for op in inside for t in op.outputs]
        reads = dict.fromkeys(t for op in inside for t in op.inputs if t not in made)
        outside = {t for op in graph.operators if op not in inside for t in op.inputs}
        outputs = tuple(t for t in made if t in outside or t in graph.outputs)
        digest = f"{k:064x}".replace("0" * 63, "f" * 63)
        found.append(Submodel(stage.name, tuple(reads), outputs, b"", {}, digest))
    return found


@dataclass
class Deployed:
    """A plan at work: its session, workers, and what was sent."""

    session: Session
    workers: Mapping[str, Worker]
    loads: Mapping[str, routing.Load]
    clock: Clock
    gates: Mapping[str, threading.Event]
    sent: Counter[tuple[int, str, str]]  # (request, tensor, target) -> how often
    resent: threading.Event  # set when something is sent again
    network: LocalNetwork

    def pass_time(self, seconds: float) -> None:
        """Let the clock go on, and all senders look at it."""
        self.clock.now_s += seconds
        for worker in self.workers.values():
            worker.outbox.set_rate("nobody", LinkRate())

    # --- the session's Backend

    @property
    def key(self) -> tuple[str, int]:
        load = self.loads[self.source]
        return load.session, load.epoch

    @property
    def source(self) -> str:
        return next(iter(self.workers))

    def feed(self, request: int, feeds: Mapping[str, Array], expires_s: float) -> None:
        self.workers[self.source].host.feed(self.key, request, feeds, expires_s)

    def cancel(self, request: int, *, answered_s: float | None = None) -> None:
        for worker in self.workers.values():
            worker.host.cancel(self.key, request)

    def stats(self) -> Mapping[str, Stats]:
        return {name: worker.host.stats(self.key) for name, worker in self.workers.items()}

    def held(self) -> int:
        """Tensors in hosts, outboxes and transports together."""
        total = 0
        for worker in self.workers.values():
            epoch = worker.host.get(self.key)
            if epoch is not None:
                with worker.host._condition:
                    total += sum(len(r.tensors) for r in epoch.flow._requests.values())
            assert isinstance(worker.transport, LocalTransport)
            total += len(worker.outbox) + worker.transport._inbox.qsize()
        return total


@contextlib.contextmanager
def deployed(
    plan: Plan,
    graph: Graph,
    names: Sequence[str],
    *,
    window: int,
    stalled: Sequence[str] = (),
    log: Callable[[str], None] = lambda line: None,
) -> Iterator[Deployed]:
    """Load and start a plan on in-memory workers; the first name is source and sink.

    Devices in `stalled` compute nothing until their gate is set.
    """
    cluster = Cluster(
        tuple(Device(name, name) for name in names),
        (),
        names[0],
        names[0],
        default_link=Link("", "", None, None),
    )
    network, clock = LocalNetwork(), Clock()
    pieces = pieces_of(plan, graph)
    gates = {name: threading.Event() for name in stalled}
    stage_of = {stage.name: stage for stage in plan.stages}
    sent: Counter[tuple[int, str, str]] = Counter()
    resent = threading.Event()
    workers: dict[str, Worker] = {}

    def loader(gate: threading.Event | None) -> Callable[[Submodel, EngineSpec], Runnable]:
        def load(submodel: Submodel, spec: EngineSpec) -> Runnable:
            if submodel is TINY:
                return Sums(graph, (), (), ())
            operators = stage_of[submodel.name].operators
            return Sums(graph, operators, submodel.inputs, submodel.outputs, gate)

        return load

    def counting(transport: LocalTransport) -> LocalTransport:
        send = transport.send

        def counted(target: str, header: bytes, payload: Payload = b"", **options: Any) -> None:
            message = decode(header)
            if isinstance(message, Activation):
                key = (message.request, message.tensor, target)
                sent[key] += 1
                if sent[key] > 1:
                    resent.set()
            send(target, header, payload, **options)

        transport.send = counted  # type: ignore[method-assign]
        return transport

    with contextlib.ExitStack() as stack:
        for name in names:
            worker = Worker(
                name,
                counting(network.join(f"at-{name}")),
                Submodels(pieces),  # type: ignore[arg-type]
                load=loader(None),
                log=log,
            )
            worker.outbox._clock = worker.host._clock = clock
            worker.start()
            stack.callback(worker.close)
            workers[name] = worker
        shipments = [routing.Shipment(p.inputs, p.outputs, p.digest) for p in pieces]
        loads = routing.loads(
            plan,
            shipments,
            graph,
            cluster,
            {name: f"at-{name}" for name in names},
            epoch=1,
            window=window,
        )
        for name, load in loads.items():
            answer = workers[name].execute(load)
            assert isinstance(answer, Loaded), answer
            gate = gates.get(name)
            for runnable in workers[name].host.epochs()[0].runnables:
                assert isinstance(runnable, Sums)
                runnable.gate = gate  # not before: loading warms up
        taking_part = {name: workers[name] for name in loads}
        for name, load in loads.items():
            workers[name].execute(Start(load.session, load.epoch))
        found = Deployed(None, taking_part, loads, clock, gates, sent, resent, network)  # type: ignore[arg-type]
        found.session = Session(
            found,
            {t: routing.tensor_spec(graph, t) for t in graph.inputs},
            graph.outputs,
            window=window,
            clock=clock,
        )
        workers[names[0]].attach(found.key, found.session)
        try:
            yield found
        finally:
            for gate in gates.values():
                gate.set()
            found.session.close()


def drained(found: Deployed) -> None:
    """Wait until no device holds a request any more."""
    for worker in found.workers.values():
        worker.execute(Drain(*found.key, 20.0))
