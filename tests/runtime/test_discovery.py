"""Workers found by multicast, on loopback only."""

from __future__ import annotations

import dataclasses
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import toy

from cutset.errors import TransportError, UsageError
from cutset.runtime.cache import SubmodelCache
from cutset.runtime.coordinator import Coordinator
from cutset.runtime.discovery import scout
from cutset.runtime.worker import Worker
from cutset.runtime.worker_main import serve
from cutset.runtime.zenoh_transport import ZenohTransport, free_endpoint

LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"

pytestmark = pytest.mark.skipif(
    LOOPBACK not in [name for _, name in socket.if_nameindex()], reason="no loopback interface"
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The endpoint of a worker called "server" that answers multicast on loopback."""
    endpoint = free_endpoint()
    transport = ZenohTransport(listen=(endpoint,), name="server", discover=LOOPBACK)
    worker = Worker("server", transport, SubmodelCache(tmp_path / "server"))
    worker.start()
    yield endpoint
    worker.close()


def test_a_device_is_found_by_its_name_and_answers(server: str, tmp_path: Path) -> None:
    cluster = toy.cluster()
    devices = tuple(
        dataclasses.replace(d, interface=LOOPBACK) if d.name == "server" else d
        for d in cluster.devices
    )
    plan, submodels = toy.plan([("pi", 0, 1), ("server", 2, 3)])
    x = toy.inputs(1)[0]
    found = dataclasses.replace(cluster, devices=devices)
    with Coordinator(found, cache_dir=tmp_path / "pi") as coordinator:
        assert coordinator.cluster.by_name["server"].endpoint == server
        with coordinator.deploy(plan, submodels, toy.graph()) as deployment:
            (y,) = deployment.session().run(["y"], {"x": x}, deadline_s=30)
    np.testing.assert_array_equal(y, toy.expected(x))


def test_who_is_not_found_is_named_beside_who_is(server: str) -> None:
    cluster = toy.cluster(("pi", "edge"))
    devices = tuple(dataclasses.replace(d, interface=LOOPBACK) for d in cluster.devices)
    with pytest.raises(TransportError, match=r"'edge' does not answer.*found: server") as caught:
        Coordinator(dataclasses.replace(cluster, devices=devices))
    assert caught.value.field == "devices.edge.interface"


def test_nobody_answers_multicast_unasked() -> None:
    endpoint = free_endpoint()
    transport = ZenohTransport(listen=(endpoint,), name="server")
    try:
        assert endpoint not in scout(LOOPBACK, seconds=0.5)
    finally:
        transport.close()


def test_being_found_is_asked_for_clearly() -> None:
    with pytest.raises(UsageError, match="no such network interface"):
        serve("server", discover="no-such-interface")
    with pytest.raises(UsageError, match="--insecure"):
        serve("server", discover="auto")
    with pytest.raises(UsageError, match="listens on loopback only"):
        serve("server", discover="auto", insecure=True)
