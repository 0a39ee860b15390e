"""Three real processes under a flood, and with one of them frozen for a while."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy

from cutset.runtime.codec import decode
from cutset.runtime.coordinator import Coordinator
from cutset.runtime.message_parts import Payload
from cutset.runtime.messages import Activation, GetStatus

DEVICES = ("pi", "edge", "server")
PIPELINE = [("pi", 0, 0), ("edge", 1, 2), ("server", 3, 3)]
MB = 10**6


def statuses(coordinator: Coordinator) -> dict[str, tuple[int, int]]:
    """By device: process, and its resident memory in bytes."""
    found = {s.name: s.status for s in coordinator.status()}
    return {n: (s.pid, s.rss_bytes) for n, s in found.items() if s is not None}


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_a_frozen_process_loses_nothing(tmp_path: Path) -> None:
    plan, submodels = toy.plan(PIPELINE)
    xs = toy.inputs(24)
    with Coordinator(toy.cluster(DEVICES), cache_dir=tmp_path) as coordinator:
        session = coordinator.deploy(plan, submodels, toy.graph(), window=6).session()
        transport = coordinator._local.transport
        sent: Counter[tuple[int, str]] = Counter()
        again = threading.Event()
        send = transport.send

        def watched(target: str, header: bytes, payload: Payload = b"", **options: Any) -> None:
            message = decode(header)
            if isinstance(message, Activation):
                sent[message.request, message.tensor] += 1
                if max(sent.values()) > 1:
                    again.set()
            send(target, header, payload, **options)

        transport.send = watched  # type: ignore[method-assign]
        edge, _ = statuses(coordinator)["edge"]
        os.kill(edge, signal.SIGSTOP)
        try:
            futures = [session.submit({"x": x}, deadline_s=60) for x in xs[:6]]
            assert again.wait(30)  # after some seconds without an acknowledgement
            assert not any(future.done() for future in futures)
        finally:
            os.kill(edge, signal.SIGCONT)
        futures += [session.submit({"x": x}, deadline_s=60) for x in xs[6:]]
        for x, future in zip(xs, futures, strict=True):
            np.testing.assert_array_equal(future.result(60)["y"], toy.expected(x))
        stats = session.stats()
        assert (stats.answered, stats.failed) == (24, 0)
        assert stats.retries > 0
        assert all(s.requests == 24 for d in stats.devices.values() for s in d.stages)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads resident memory")
def test_a_flood_through_processes_holds_no_more_than_the_window(tmp_path: Path) -> None:
    size, window, count = MB // 4, 3, 150  # tensors of 1 MB
    plan, submodels = toy.plan(PIPELINE, size)
    xs = toy.inputs(4, size)
    with Coordinator(toy.cluster(DEVICES, bandwidth_bps=1e10), cache_dir=tmp_path) as coordinator:
        graph = toy.graph(size)
        session = coordinator.deploy(plan, submodels, graph, window=window).session()
        for x in xs:
            session.run(None, {"x": x}, deadline_s=60)
        before = statuses(coordinator)
        futures = []
        most = 0
        for i in range(count):
            futures.append(session.submit({"x": xs[i % 4]}, deadline_s=60))
            most = max(most, len(coordinator._local.outbox))
            if i >= window:  # keep no more results than the window ourselves
                done = futures[i - window].result(60)["y"]
                np.testing.assert_array_equal(done, toy.expected(xs[(i - window) % 4]))
                futures[i - window] = futures[-1]
        for future in futures[-window:]:
            future.result(60)
        after = statuses(coordinator)
    # A request is at most five tensors on a device, each in Python, Zenoh's queues and buffers.
    bound = window * 5 * 4 * MB
    assert bound < count * MB / 2
    for name in ("edge", "server"):
        assert after[name][1] - before[name][1] < bound, name
    assert most <= 2 * window * 2  # tensors and acknowledgements


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_a_device_that_stands_still_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, submodels = toy.plan(PIPELINE)
    with Coordinator(toy.cluster(DEVICES), cache_dir=tmp_path) as coordinator:
        deployment = coordinator.deploy(plan, submodels, toy.graph())
        waited: list[float] = []
        ask = coordinator.ask

        def watched(device: str, body: Any, **options: Any) -> Any:
            if device == "edge":
                waited.append(options["timeout_s"])
            return ask(device, body, **options)

        edge, _ = statuses(coordinator)["edge"]
        monkeypatch.setattr(coordinator, "ask", watched)
        os.kill(edge, signal.SIGSTOP)
        try:
            assert set(deployment.stats()) == {"pi", "server"}
            assert set(deployment.stats()) == {"pi", "server"}
            deployment.close()
        finally:
            os.kill(edge, signal.SIGCONT)
        full, again, draining, unloading = waited
        assert again == draining == unloading < full / 10
        while coordinator.ask_quietly("edge", GetStatus()) is None:
            pass  # it may take a moment to run again
        assert waited[-1] == again
        assert coordinator.ask_quietly("edge", GetStatus()) is not None
        assert waited[-1] == full
