"""How the devices of a cluster are reached: workers spawned here, or connected to by endpoint."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from cutset.cluster import Cluster
from cutset.errors import RemoteProtocolError, TransportError, UsageError, WorkerLostError
from cutset.runtime.children import Child, spawn
from cutset.runtime.deployment import CALL_TIMEOUT_S
from cutset.runtime.message_parts import DataEndpoint, Peer
from cutset.runtime.messages import GetDataEndpoint
from cutset.runtime.worker import Worker
from cutset.runtime.zenoh_transport import find_worker, free_endpoint, parse_endpoint

PORT_TRIES: Final = 3  # another process may take a free port before we do


def endpoints_of(cluster: Cluster) -> dict[str, str]:
    """The endpoints that a cluster states, without its source's. Raises UsageError."""
    endpoints = {
        d.name: d.endpoint
        for d in cluster.devices
        if d.endpoint is not None and d.name != cluster.source
    }
    for name, endpoint in endpoints.items():
        parse_endpoint(endpoint, field=f"devices.{name}.endpoint")
    return endpoints


class Contacts:
    """The addresses of a cluster's devices; `source` hosts the worker of this process.

    Devices without endpoint are spawned when they are first needed; they connect to `listen` and
    end with `close`. `lost` hears the name of a device whose worker is gone.
    """

    def __init__(
        self,
        cluster: Cluster,
        source: Worker,
        endpoints: Mapping[str, str],
        listen: str,
        *,
        cache_dir: Path | str | None,
        log: bool,
        lost: Callable[[str], None],
    ) -> None:
        self._cluster = cluster
        self._source = source
        self._endpoints = endpoints
        self._listen = listen
        self._cache_dir = cache_dir
        self._log = log
        self._lost = lost
        self._lock = threading.Lock()
        self._connecting = threading.Lock()
        self._closed = False
        self._addresses = {cluster.source: source.transport.address}
        self._data: dict[str, DataEndpoint] = {}
        self._children: dict[str, Child] = {}

    def close(self) -> None:
        """End the spawned workers."""
        with self._lock:
            self._closed = True
            children = list(self._children.values())
        with contextlib.ExitStack() as last:
            for child in children:
                last.callback(child.stop)

    def find(self, device: str) -> str | None:
        """The address of a device's worker; None where it is lost or was never connected to."""
        return self._addresses.get(device)

    def connected(self, device: str) -> str:
        """The address of a connected device. Raises WorkerLostError where it is lost."""
        address = self._addresses.get(device)
        if address is None:
            raise lost(device)
        return address

    def connect(self, device: str) -> str:
        """The address of a device's worker, spawned or connected to if need be.

        Raises TransportError that names device and endpoint within a few seconds, UsageError for
        an unknown device.
        """
        if device not in self._cluster.by_name:
            raise UsageError(
                "no such device",
                field="device",
                value=device,
                remedy=f"devices are {', '.join(self._cluster.by_name)}",
            )
        # Not under `_lock`: news of lost peers needs it, and comes by the thread that also brings
        # the news of new ones, for which we wait.
        with self._connecting:
            address = self._addresses.get(device)
            if address is not None:
                return address
            if self._closed:
                raise UsageError("the coordinator is closed")
            endpoint = self._endpoints.get(device)
            if endpoint is None:
                address = self._spawn(device)
            else:
                address = find_worker(endpoint, device).address
            if not self._source.transport.wait_for(address, CALL_TIMEOUT_S):
                raise TransportError(
                    f"device {device!r} answers, but no lasting connection to it comes up",
                    field=f"devices.{device}.endpoint",
                    value=endpoint,
                    remedy="check that the network keeps connections open",
                )
            self._data[device] = self._connect_data(device, address)
            with self._lock:
                self._addresses[device] = address
            return address

    def peers(self, device: str, others: Iterable[str]) -> tuple[Peer, ...]:
        """How a connected device and others reach each other for data, as it is to be told.

        Not the source's: its connections are made from here. Raises WorkerLostError.
        """
        if device == self._cluster.source:
            return ()
        found = []
        for other in others:
            if other not in (device, self._cluster.source):
                address = self.connected(other)
                if self._data[other].places or self._data[device].places:
                    found.append(Peer(address, self._data[other]))
        return tuple(found)

    def address_lost(self, address: str) -> None:
        """The worker at an address is gone; `connect` finds or starts it again."""
        with self._lock:
            if self._closed:
                return
            device = next((d for d, a in self._addresses.items() if a == address), None)
            if device is None:
                return
            del self._addresses[device]
        self._lost(device)

    # --- inside

    def _connect_data(self, device: str, address: str) -> DataEndpoint:
        """Where a device takes data, as others must know it; connected to from here."""
        answer = self._source.calls.call(
            address, device, GetDataEndpoint(), timeout_s=CALL_TIMEOUT_S
        )
        if not isinstance(answer, DataEndpoint):
            raise RemoteProtocolError("DataEndpoint is expected", value=type(answer).__name__)
        endpoint = self._endpoints.get(device)
        host = parse_endpoint(endpoint).host if endpoint is not None else ""
        places = tuple(
            msgspec.structs.replace(place, host=place.host or host) for place in answer.places
        )
        answer = DataEndpoint(tuple(p for p in places if p.host), answer.token)
        if answer.places:
            self._source.transport.introduce(address, answer)
            self._source.transport.wait_for(address, CALL_TIMEOUT_S)
        return answer

    def _spawn(self, device: str) -> str:
        if (before := self._children.pop(device, None)) is not None:
            before.stop()
        limit = self._cluster.by_name[device].memory_bytes
        for attempt in range(PORT_TRIES):
            try:
                child = spawn(
                    device,
                    listen=(free_endpoint(),),
                    connect=(self._listen, *self._endpoints.values()),
                    memory_bytes=int(limit) if math.isfinite(limit) else None,
                    cache_dir=self._cache_dir,
                    log=self._log,
                    ended=self._child_ended,
                )
                break
            except TransportError:
                if attempt == PORT_TRIES - 1:
                    raise
        self._children[device] = child
        return child.address

    def _child_ended(self, name: str) -> None:
        child = self._children.get(name)
        if child is not None and child.process.poll() is not None:
            self._source.calls.lost(child.address)
            self.address_lost(child.address)


def lost(device: str) -> WorkerLostError:
    """The error of a device that was connected and is gone."""
    return WorkerLostError(
        f"device {device!r} was lost",
        field=f"devices.{device}",
        remedy="start its worker again, or plan without it",
    )
