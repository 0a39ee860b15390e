"""Finding workers by multicast on one network interface: only where a cluster file or a worker's
`--discover` asks for it. Many networks block multicast; endpoints are always enough.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

import zenoh

from cutset.cluster import Cluster
from cutset.errors import CutsetError, TransportError, UsageError
from cutset.runtime.zenoh_transport import find_worker, session_config

ANY_INTERFACE: Final = "auto"
LOOPBACK_INTERFACES: Final = frozenset({"lo", "lo0"})
SCOUT_S: Final = 1.5
MAX_FOUND: Final = 256


def check_interface(name: str, *, field: str) -> None:
    """Raise UsageError for an interface that this machine does not have."""
    known = [interface for _, interface in socket.if_nameindex()]
    if name != ANY_INTERFACE and name not in known:
        raise UsageError(
            "this machine has no such network interface",
            field=field,
            value=name,
            remedy=f"interfaces are {', '.join(known)}; {ANY_INTERFACE} means all of them",
        )


def scout(interface: str, seconds: float = SCOUT_S) -> tuple[str, ...]:
    """Endpoints of the Zenoh peers that answer on an interface within `seconds`."""
    config = session_config("client", (), (), discover=interface)
    answers: Any = zenoh.scout(what="peer", config=config)
    timer = threading.Timer(seconds, answers.stop)
    timer.start()
    found: dict[str, None] = {}
    for hello in answers:
        found.update(dict.fromkeys(map(str, hello.locators)))
        if len(found) >= MAX_FOUND:
            break
    timer.cancel()
    timer.join()
    return tuple(found)


def with_endpoints(cluster: Cluster) -> Cluster:
    """The cluster with endpoints for its devices that state an `interface` and no endpoint.

    Raises UsageError for an interface that is not there, TransportError that names who was found
    where a device was not.
    """
    sought = [d for d in cluster.devices if d.interface and not d.endpoint]
    sought = [d for d in sought if d.name != cluster.source]
    if not sought:
        return cluster
    for device in sought:
        check_interface(device.interface or "", field=f"devices.{device.name}.interface")
    found: dict[str, str] = {}
    for interface in dict.fromkeys(d.interface or "" for d in sought):
        found |= _names(scout(interface))
    for device in sought:
        if device.name not in found:
            raise TransportError(
                f"device {device.name!r} does not answer by multicast within {SCOUT_S:g} s;"
                f" found: {', '.join(found) or 'nobody'}",
                field=f"devices.{device.name}.interface",
                value=device.interface,
                remedy=f"start `cutset worker {device.name} --listen tcp/0.0.0.0:7447 --insecure"
                " --discover` there, or state its endpoint (many networks block multicast)",
            )
    return replace(
        cluster,
        devices=tuple(
            replace(d, endpoint=found[d.name]) if d in sought else d for d in cluster.devices
        ),
    )


def _names(endpoints: Iterable[str]) -> dict[str, str]:
    """Worker name -> endpoint, for those endpoints behind which a worker answers."""
    found: dict[str, str] = {}
    for endpoint in endpoints:
        with contextlib.suppress(CutsetError):  # another's Zenoh, or an address not ours to reach
            found.setdefault(find_worker(endpoint, endpoint, timeout_s=1.0).name, endpoint)
    return found
