"""Workers that only a Zenoh router joins: sites whose devices cannot reach each other directly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import toy
import zenoh

from cutset.cluster import Device
from cutset.errors import TransportError
from cutset.runtime.cache import SubmodelCache
from cutset.runtime.coordinator import Coordinator
from cutset.runtime.worker import Worker
from cutset.runtime.zenoh_transport import ZenohTransport, free_endpoint, session_config


def test_a_pipeline_runs_through_a_router(tmp_path: Path) -> None:
    endpoint = free_endpoint()
    router = zenoh.open(
        session_config("router", (endpoint,), (), extra={"scouting/gossip/enabled": True})
    )
    workers = []
    try:
        for name in ("edge", "server"):
            # Workers that listen nowhere: the router is the only way to them.
            transport = ZenohTransport(connect=(endpoint,), name=name)
            workers.append(Worker(name, transport, SubmodelCache(tmp_path / name)))
            workers[-1].start()
        devices = {n: Device(n, n, endpoint=endpoint) for n in ("edge", "server", "absent")}
        cluster = toy.cluster(("pi", "edge", "server"), devices=devices)
        plan, submodels = toy.plan([("pi", 0, 0), ("edge", 1, 2), ("server", 3, 3)])
        with Coordinator(cluster, cache_dir=tmp_path / "pi") as coordinator:
            session = coordinator.deploy(plan, submodels, toy.graph(), window=3).session()
            xs = toy.inputs(9)
            futures = [session.submit({"x": x}, deadline_s=30) for x in xs]
            for x, future in zip(xs, futures, strict=True):
                np.testing.assert_array_equal(future.result(30)["y"], toy.expected(x))
        lonely = toy.cluster(("pi", "absent"), devices=devices)
        with (
            Coordinator(lonely, cache_dir=tmp_path / "pi") as coordinator,
            pytest.raises(TransportError, match="'absent'"),
        ):
            coordinator.connect("absent")
    finally:
        for worker in workers:
            worker.close()
        router.close()
