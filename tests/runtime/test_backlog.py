"""A worker that stops receiving for a while: nothing is lost, and what waits is bounded."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import toy

from cutset.cluster import Device
from cutset.runtime import outbox
from cutset.runtime.cache import SubmodelCache
from cutset.runtime.coordinator import Coordinator
from cutset.runtime.direct_transport import DirectTransport
from cutset.runtime.framing import Lane
from cutset.runtime.message_parts import Payload
from cutset.runtime.messages import Activation
from cutset.runtime.worker import Worker
from cutset.runtime.zenoh_transport import ZenohTransport, free_endpoint

SIZE = 500_000  # 2 MB: more than the kernel keeps on the way, all together
WINDOW = 8


def test_a_stalled_receiver_gets_everything_once_and_no_more_waits_than_the_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "RETRY_S", 0.02)  # many rounds of sending again in little time
    endpoint = free_endpoint()
    control = ZenohTransport(listen=(endpoint,), name="server", mesh=False)
    transport = DirectTransport(control, listen=(endpoint,))
    server = Worker("server", transport, SubmodelCache(tmp_path / "server"))
    server.start()
    flowing = threading.Event()
    receive = server.host.receive

    def stalled(message: Activation, payload: Payload, came_s: float) -> None:
        flowing.wait(30)
        receive(message, payload, came_s)

    monkeypatch.setattr(server.host, "receive", stalled)
    cluster = toy.cluster(
        devices={"server": Device("server", "server", endpoint=endpoint)}, bandwidth_bps=1e12
    )
    plan, submodels = toy.plan([("pi", 0, 1), ("server", 2, 3)], SIZE)
    xs = toy.inputs(2 * WINDOW, SIZE)
    try:
        with (
            Coordinator(cluster, cache_dir=tmp_path / "pi") as coordinator,
            coordinator.deploy(plan, submodels, toy.graph(SIZE), window=WINDOW) as deployment,
        ):
            ours = coordinator._local.transport
            assert isinstance(ours, DirectTransport)
            send, waiting, enough = ours.links.send, [0], threading.Event()

            def counted(target: str, *args: Payload, **options: object) -> bool:
                done = send(target, *args, **options)  # type: ignore[arg-type]
                pair = ours.links._pair(target)
                assert pair is not None
                waiting.append(pair.lanes[Lane.BULK].backlog)
                if len(waiting) > 6 * WINDOW:  # each tensor several times
                    enough.set()
                return done

            monkeypatch.setattr(ours.links, "send", counted)
            session = deployment.session()
            futures = []
            flood = threading.Thread(
                target=lambda: futures.extend(session.submit({"x": x}, deadline_s=60) for x in xs)
            )
            flood.start()
            assert enough.wait(30)
            assert 0 < max(waiting) <= WINDOW + 1
            flowing.set()
            flood.join()
            for x, future in zip(xs, futures, strict=True):
                np.testing.assert_array_equal(future.result(30)["y"], toy.expected(x))
            assert session.stats().devices["server"].stages[0].requests == len(xs)
    finally:
        flowing.set()
        server.close()
