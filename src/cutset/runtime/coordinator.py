"""The process that deploys plans: hosts the source's worker, spawns or reaches the others."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from cutset.cluster import Cluster
from cutset.engine import Submodel
from cutset.errors import (
    CutsetError,
    TransportError,
    UsageError,
)
from cutset.graph import Graph
from cutset.plan import Plan
from cutset.runtime import routing
from cutset.runtime.cache import SubmodelCache, pack
from cutset.runtime.contacts import PORT_TRIES, Contacts, endpoints_of, lost
from cutset.runtime.deployment import CALL_TIMEOUT_S, QUIET_TIMEOUT_S, Deployment
from cutset.runtime.direct_transport import DirectTransport
from cutset.runtime.discovery import with_endpoints
from cutset.runtime.failures import from_failure
from cutset.runtime.measuring_messages import Looked
from cutset.runtime.message_parts import MAX_WINDOW, Peer
from cutset.runtime.messages import (
    CallBody,
    CancelRequest,
    Failure,
    GetStatus,
    Load,
    ReplyBody,
    SetLink,
    Status,
)
from cutset.runtime.outbox import Parcel
from cutset.runtime.program_end import close_at_end
from cutset.runtime.transport import Transport
from cutset.runtime.worker import Worker
from cutset.runtime.zenoh_transport import ZenohTransport, check_listen, free_endpoint

#: For a device that let its last quiet question go unanswered.
SILENT_TIMEOUT_S: Final = 0.02


@dataclass(frozen=True)
class DeviceStatus:
    """A device as it is now. `round_trip_s` is of a control message; None where unreachable.

    `path` is the way of data from here (Transport.path); None also for this process itself.
    """

    name: str
    reachable: bool
    endpoint: str | None
    error: str | None = None
    round_trip_s: float | None = None
    status: Status | None = None
    path: str | None = None


class Coordinator:
    """Devices of a cluster, ready to measure and to run plans. A context manager.

    The source's worker lives in this process. Devices without endpoint are spawned here when they
    are first needed, and end with this process; the others are connected to. `listen` adds
    endpoints to the loopback one (beyond loopback only with `insecure`). `progress` hears
    (device, bytes sent, bytes in all) while submodels travel; `log` hears single lines.
    Raises UsageError for malformed endpoints.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        insecure: bool = False,
        listen: Sequence[str] = (),
        cache_dir: Path | str | None = None,
        log: Callable[[str], None] | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        cluster = with_endpoints(cluster)
        self.cluster = cluster
        self._links = cluster  # with the links as they were set since
        self._log = log
        self._progress = progress or (lambda device, sent, total: None)
        self._lock = threading.Lock()
        self._closed = False
        self._deployments: list[Deployment] = []
        self._epoch = 0
        self._silent: set[str] = set()  # devices that did not answer when last asked quietly
        for endpoint in listen:
            check_listen(endpoint, insecure=insecure)
        self._endpoints = endpoints_of(cluster)
        transport, endpoint = self._open(listen)
        limit = cluster.by_name[cluster.source].memory_bytes
        self._local = Worker(
            cluster.source,
            transport,
            SubmodelCache(cache_dir),
            memory_bytes=int(limit) if math.isfinite(limit) else None,
            on_lost=lambda address: self._contacts.address_lost(address),
            log=log or (lambda line: None),
        )
        self._contacts = Contacts(
            cluster,
            self._local,
            self._endpoints,
            endpoint,
            cache_dir=cache_dir,
            log=log is not None,
            lost=self._device_lost,
        )
        self._local.start()
        self._ended = threading.Event()
        close_at_end(self.close, self._ended)

    def __enter__(self) -> Coordinator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Retire all deployments, end the spawned workers, leave the network."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._ended.set()
            deployments = list(self._deployments)
        with contextlib.ExitStack() as last:  # whatever fails: an open transport hangs at exit
            last.callback(self._local.close)
            last.callback(self._contacts.close)
            for deployment in deployments:
                with contextlib.suppress(CutsetError):
                    deployment.close(drain_s=0.0)

    # --- devices

    def connect(self, device: str) -> str:
        """The address of a device's worker, spawned or connected to if need be.

        Raises TransportError that names device and endpoint within a few seconds, UsageError for
        an unknown device.
        """
        return self._contacts.connect(device)

    def peers(self, device: str, others: Iterable[str]) -> tuple[Peer, ...]:
        """How a connected device and others reach each other for data, as it is to be told.

        Not the source's: its connections are made from here. Raises WorkerLostError.
        """
        return self._contacts.peers(device, others)

    def status(self) -> tuple[DeviceStatus, ...]:
        """Every device of the cluster, unreachable ones with the reason."""
        found = []
        for device in self.cluster.devices:
            endpoint = self._endpoints.get(device.name)
            try:
                self.connect(device.name)
                start_s = time.perf_counter()
                answer = self.ask(device.name, GetStatus())
                took_s = time.perf_counter() - start_s
                assert isinstance(answer, Status)
                path = None
                if device.name != self.cluster.source:
                    path = self._local.transport.path(answer.address)
                found.append(DeviceStatus(device.name, True, endpoint, None, took_s, answer, path))
            except CutsetError as error:
                found.append(DeviceStatus(device.name, False, endpoint, str(error)))
        return tuple(found)

    def ask(
        self,
        device: str,
        body: CallBody,
        payload: bytes = b"",
        *,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> ReplyBody:
        """The answer of a connected device.

        Raises what it reports, TransportError, and WorkerLostError where it is lost (or was never
        connected to: asking brings no device back).
        """
        address = self.connected(device)
        if device == self.cluster.source:
            answer = self._local.execute(body, payload)
            if isinstance(answer, Failure):
                raise from_failure(answer)
            return answer
        answer = self._local.calls.call(address, device, body, payload, timeout_s=timeout_s)
        self._silent.discard(device)
        return answer

    def ask_quietly(
        self, device: str, body: CallBody, *, timeout_s: float = QUIET_TIMEOUT_S
    ) -> ReplyBody | None:
        """The answer of a device, None where there is none: for the end, when a lost device is no
        news. One that stands still is waited for once, not for each of all that it is asked."""
        if device in self._silent:
            timeout_s = min(timeout_s, SILENT_TIMEOUT_S)
        try:
            return self.ask(device, body, timeout_s=timeout_s)
        except TransportError:
            self._silent.add(device)
        except CutsetError:
            pass
        return None

    def look(self, device: str, lead_bytes: int, size_bytes: int) -> Looked:
        """For how long `size_bytes`, right behind `lead_bytes`, hold the link to a device.

        Raises WorkerLostError where it is lost, TransportError where no answer comes in seconds.
        """
        return self._local.look(self.connected(device), lead_bytes, size_bytes)

    def ping(self, device: str) -> float:
        """Seconds of an empty round trip over the link. Raises as `look`."""
        return self._local.ping(self.connected(device))

    def expect_rate(self, device: str, bandwidth_bps: float) -> None:
        """What the link to a device was seen to carry (bits per second), for knowing what is late;
        nothing where the device is lost."""
        address = self._contacts.find(device)
        if address is not None:
            self._local.outbox.expect_rate(address, bandwidth_bps)

    def connected(self, device: str) -> str:
        """The address of a connected device. Raises WorkerLostError where it is lost."""
        return self._contacts.connected(device)

    def post(self, device: str, message: CancelRequest) -> None:
        """A message that needs no answer; nothing where the device is lost."""
        address = self._contacts.find(device)
        if address is not None:
            self._local.outbox.post(Parcel(address, message, shaped=False), urgent=True)

    # --- links

    def set_link(
        self,
        source: str,
        target: str,
        bandwidth_bps: float | None = None,
        latency_s: float | None = None,
    ) -> None:
        """Change an emulated link at once, also under running requests; it stays so for whatever
        is deployed later. Bits per second (inf: unlimited) and seconds, None as it is. Raises
        UsageError, TransportError, WorkerLostError."""
        _check_above("bandwidth_bps", bandwidth_bps, "bits per second", or_zero=False)
        _check_above("latency_s", latency_s, "seconds", or_zero=True)
        if self.cluster.link(source, target) is None or not routing.emulated(
            self.cluster, source, target
        ):
            raise UsageError(
                "only emulated links of the cluster can be set",
                field="link",
                value=f"{source}>{target}",
                remedy="shape a real link where it is, or use devices without endpoint",
            )
        self.connect(source)
        self.ask(source, SetLink(self.connect(target), bandwidth_bps, latency_s))
        with self._lock:
            now = self._links.link(source, target)
            assert now is not None
            changed = replace(
                now,
                source=source,
                target=target,
                bandwidth_bps=now.bandwidth_bps if bandwidth_bps is None else bandwidth_bps,
                latency_s=now.latency_s if latency_s is None else latency_s,
            )
            others = (x for x in self._links.links if (x.source, x.target) != (source, target))
            self._links = replace(self._links, links=(*others, changed))

    # --- deploying

    def deploy(
        self, plan: Plan, submodels: Sequence[Submodel], graph: Graph, *, window: int = 1
    ) -> Deployment:
        """Load a plan on its devices and begin to admit requests.

        `submodels` are those of the plan's stages, in order; `window` requests may be under way.
        Raises what the devices report (InfeasibleError over their memory limits), TransportError,
        WorkerLostError, and what `routing.loads` raises. A deployment that fails leaves nothing.
        """
        if not 1 <= window <= MAX_WINDOW:
            raise UsageError(
                f"the window must be from 1 to {MAX_WINDOW}", field="window", value=window
            )
        devices = routing.devices_of(plan, self.cluster)
        containers = [pack(submodel) for submodel in submodels]
        addresses = {name: self.connect(name) for name in devices}
        with self._lock:
            self._epoch += 1
            epoch = self._epoch
        loads = routing.loads(
            plan,
            [
                routing.Shipment(tuple(s.inputs), tuple(s.outputs), c.content_hash)
                for s, c in zip(submodels, containers, strict=True)
            ],
            graph,
            self._links,
            addresses,
            epoch=epoch,
            window=window,
        )
        loads = self._with_peers(loads, addresses)
        by_device = {
            name: [c for s, c in zip(plan.stages, containers, strict=True) if s.device == name]
            for name in devices
        }
        deployment = Deployment(
            self,
            self._local,
            self.cluster.source,
            loads,
            by_device,
            {name: routing.tensor_spec(graph, name) for name in graph.inputs},
            self._progress,
            self._forget,
        )
        with self._lock:
            self._deployments.append(deployment)
        deployment.start()
        return deployment

    # --- inside

    def _with_peers(
        self, loads: Mapping[str, Load], addresses: Mapping[str, str]
    ) -> dict[str, Load]:
        """Each device hears of those it sends to and of those that send to it: only one of two
        may be able to connect to the other."""
        names = {address: name for name, address in addresses.items()}
        joined: dict[str, dict[str, None]] = {name: {} for name in loads}
        for name, load in loads.items():
            for link in load.links:
                joined[name][names[link.target]] = joined[names[link.target]][name] = None
        return {
            name: msgspec.structs.replace(load, peers=self.peers(name, joined[name]))
            for name, load in loads.items()
        }

    def _open(self, listen: Sequence[str]) -> tuple[Transport, str]:
        """The transport, and its endpoint on loopback."""
        for attempt in range(PORT_TRIES):
            endpoint = free_endpoint()
            try:
                control = ZenohTransport(
                    listen=(endpoint, *listen),
                    connect=tuple(self._endpoints.values()),
                    name=self.cluster.source,
                    mesh=False,
                )
                return DirectTransport(control, log=self._log or (lambda line: None)), endpoint
            except TransportError:
                if listen or attempt == PORT_TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    def _device_lost(self, device: str) -> None:
        with self._lock:
            deployments = [] if self._closed else list(self._deployments)
        for deployment in deployments:
            deployment.lost(device, lost(device))

    def _forget(self, deployment: Deployment) -> None:
        with self._lock:
            if deployment in self._deployments:
                self._deployments.remove(deployment)


def _check_above(field: str, value: float | None, unit: str, *, or_zero: bool) -> None:
    """Raise UsageError for what is no number above 0."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or (number and (value > 0 or (or_zero and value == 0))):
        return
    raise UsageError(
        f"not a number of {unit} {'of 0 or more' if or_zero else 'above 0'}",
        field=field,
        value=value,
        remedy="give a number such as 5e6" if not or_zero else "give a number such as 0.003",
    )
