"""Real worker processes over Zenoh on loopback."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
import toy

from cutset.cluster import Device
from cutset.errors import (
    CutsetError,
    DeadlineExceeded,
    InfeasibleError,
    RuntimeFault,
    TransportError,
    UsageError,
    WorkerLostError,
)
from cutset.runtime import measuring, worker_main
from cutset.runtime.coordinator import Coordinator
from cutset.runtime.deployment_machine import Phase
from cutset.runtime.shaping import LinkRate
from cutset.runtime.worker_main import serve
from cutset.runtime.zenoh_transport import free_endpoint

SPLIT = [("pi", 0, 1), ("server", 2, 3)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    folder = tmp_path_factory.mktemp("cache")
    with Coordinator(toy.cluster(), cache_dir=folder) as coordinator:
        yield coordinator


def pid_of(coordinator: Coordinator, device: str) -> int:
    status = next(s.status for s in coordinator.status() if s.name == device)
    assert status is not None
    return status.pid


@pytest.mark.parametrize(
    "parts",
    [
        SPLIT,
        [("server", 0, 3)],
        [("pi", 0, 3)],
        [("server", 0, 1), ("pi", 2, 3)],
        [("pi", 0, 0), ("server", 1, 1), ("pi", 2, 2), ("server", 3, 3)],
    ],
)
def test_distinct_requests_in_flight_get_their_own_answers(
    pair: Coordinator, parts: list[tuple[str, int, int]]
) -> None:
    plan, submodels = toy.plan(parts)
    xs = toy.inputs(24)
    with pair.deploy(plan, submodels, toy.graph(), window=6) as deployment:
        session = deployment.session()
        futures = [session.submit({"x": x}, deadline_s=30) for x in xs]
        for x, future in zip(xs, futures, strict=True):
            np.testing.assert_array_equal(future.result(30)["y"], toy.expected(x))
        stats = session.stats()
        assert (stats.requests, stats.answered, stats.failed) == (24, 24, 0)
        for device, values in stats.devices.items():
            assert [s.requests for s in values.stages] == [24] * sum(
                d == device for d, _, _ in parts
            )
        # The links' too are this deployment's alone, though the workers had others before.
        sent = {link.name: link.tensors for v in stats.devices.values() for link in v.links}
        crossings = [
            a for a, b in itertools.pairwise(["pi", *(d for d, _, _ in parts), "pi"]) if a != b
        ]
        assert sum(sent.values()) <= 24 * len(crossings)
        assert bool(sent) == bool(crossings)
    assert deployment.phase is Phase.RETIRED


def test_three_devices_talk_directly_and_the_sink_may_be_elsewhere(tmp_path: Path) -> None:
    cluster = toy.cluster(("pi", "edge", "server"), sink="edge")
    plan, submodels = toy.plan([("pi", 0, 0), ("edge", 1, 2), ("server", 3, 3)])
    with Coordinator(cluster, cache_dir=tmp_path) as coordinator:
        deployment = coordinator.deploy(plan, submodels, toy.graph(), window=3)
        with deployment.session() as session:
            xs = toy.inputs(8)
            futures = [session.submit({"x": x}) for x in xs]
            for x, future in zip(xs, futures, strict=True):
                np.testing.assert_array_equal(future.result(30)["y"], toy.expected(x))
            links = {link.name for s in session.stats().devices.values() for link in s.links}
        assert links == {"pi>edge", "edge>server", "server>edge", "edge>pi"}


def test_second_deploy_sends_no_bytes(tmp_path: Path) -> None:
    plan, submodels = toy.plan(SPLIT)
    with Coordinator(toy.cluster(), cache_dir=tmp_path) as coordinator:
        first = coordinator.deploy(plan, submodels, toy.graph())
        second = coordinator.deploy(plan, submodels, toy.graph())
        assert all(first.sent_bytes.values())
        assert not any(second.sent_bytes.values())
        assert second.epoch == first.epoch + 1


def test_wrong_feeds_and_outputs_are_refused_by_name(pair: Coordinator) -> None:
    plan, submodels = toy.plan(SPLIT)
    with pair.deploy(plan, submodels, toy.graph()) as deployment:
        session = deployment.session()
        x = toy.inputs(1)[0]
        for feeds in ({}, {"x": x.astype(np.float64)}, {"x": x[:, :5]}, {"x": x, "z": x}):
            with pytest.raises(UsageError, match=r"inputs"):
                session.submit(feeds)
        with pytest.raises(UsageError, match="no such output"):
            session.run(["z"], {"x": x})
        np.testing.assert_array_equal(session.run(["y"], {"x": x})[0], toy.expected(x))


def test_killed_worker_ends_every_request(tmp_path: Path) -> None:
    plan, submodels = toy.plan(SPLIT)
    slow = toy.cluster(bandwidth_bps=2e5)  # 4000 bytes take 160 ms
    with Coordinator(slow, cache_dir=tmp_path) as coordinator:
        deployment = coordinator.deploy(plan, submodels, toy.graph(), window=4)
        session = deployment.session()
        futures = [session.submit({"x": x}, deadline_s=30) for x in toy.inputs(4)]
        os.kill(pid_of(coordinator, "server"), signal.SIGKILL)
        outcomes = [future.exception(20) for future in futures]
        assert any(outcomes)
        for error in outcomes:
            assert error is None or isinstance(error, WorkerLostError)
        with pytest.raises(WorkerLostError, match="'server'"):
            session.submit({"x": toy.inputs(1)[0]})
        assert deployment.phase is Phase.FAILED
        # A new deployment brings the device back.
        again = coordinator.deploy(plan, submodels, toy.graph())
        x = toy.inputs(1)[0]
        np.testing.assert_array_equal(again.session().run(None, {"x": x})[0], toy.expected(x))


def test_a_request_amid_the_clean_up_of_a_loss_says_what_was_lost(tmp_path: Path) -> None:
    plan, submodels = toy.plan(SPLIT)
    found: SimpleQueue[BaseException | None] = SimpleQueue()
    with Coordinator(toy.cluster(), cache_dir=tmp_path) as coordinator:
        deployment = coordinator.deploy(plan, submodels, toy.graph(), window=4)
        session = deployment.session()
        hear = session.lost

        def late(error: CutsetError) -> None:
            for thread in deployment._cleaning:
                thread.join()  # the devices are freed before the session hears of the loss
            found.put(session.submit({"x": toy.inputs(1)[0]}).exception(20))
            hear(error)

        session.lost = late  # type: ignore[method-assign]
        os.kill(pid_of(coordinator, "server"), signal.SIGKILL)
        assert isinstance(found.get(timeout=30), WorkerLostError)


def test_fallback_answers_when_the_server_is_gone(tmp_path: Path) -> None:
    plan, submodels = toy.plan(SPLIT)
    with Coordinator(toy.cluster(bandwidth_bps=2e5), cache_dir=tmp_path) as coordinator:
        deployment = coordinator.deploy(plan, submodels, toy.graph(), window=4)
        session = deployment.session(fallback=lambda feeds: {"y": toy.expected(feeds["x"])})
        xs = toy.inputs(8)
        futures = [session.submit({"x": x}) for x in xs[:4]]
        os.kill(pid_of(coordinator, "server"), signal.SIGKILL)
        futures += [session.submit({"x": x}) for x in xs[4:]]
        for x, future in zip(xs, futures, strict=True):
            np.testing.assert_array_equal(future.result(20)["y"], toy.expected(x))
        assert session.stats().fallbacks >= 4


def test_deadline_ends_a_request_and_the_fallback_beats_it(tmp_path: Path) -> None:
    plan, submodels = toy.plan(SPLIT)
    with Coordinator(toy.cluster(latency_s=30.0), cache_dir=tmp_path) as coordinator:
        x = toy.inputs(1)[0]
        deployment = coordinator.deploy(plan, submodels, toy.graph(), window=1)
        with deployment.session() as session:
            held = session.submit({"x": x}, deadline_s=0.3)
            with pytest.raises(DeadlineExceeded, match="room"):  # back-pressure
                session.submit({"x": x}, deadline_s=0.01)
            assert isinstance(held.exception(10), DeadlineExceeded)
        deployment.close()
        deployment = coordinator.deploy(plan, submodels, toy.graph(), window=1)
        session = deployment.session(
            fallback=lambda feeds: {"y": toy.expected(feeds["x"])}, fallback_s=0.2
        )
        np.testing.assert_array_equal(
            session.submit({"x": x}, deadline_s=1.0).result(10)["y"], toy.expected(x)
        )


def test_link_can_be_changed_while_requests_run(tmp_path: Path) -> None:
    plan, submodels = toy.plan(SPLIT)
    with Coordinator(toy.cluster(latency_s=30.0), cache_dir=tmp_path) as coordinator:
        deployment = coordinator.deploy(plan, submodels, toy.graph(), window=1)
        session = deployment.session()
        coordinator.set_link("pi", "server", bandwidth_bps=1e8, latency_s=0.0)
        coordinator.set_link("server", "pi", bandwidth_bps=1e8, latency_s=0.0)
        x = toy.inputs(1)[0]
        np.testing.assert_array_equal(
            session.submit({"x": x}, deadline_s=20).result(20)["y"], toy.expected(x)
        )


def test_measured_link_is_the_emulated_one(tmp_path: Path) -> None:
    cluster = toy.cluster(bandwidth_bps=20e6, latency_s=0.02)
    with Coordinator(cluster, cache_dir=tmp_path) as coordinator:
        feeds = {"x": toy.inputs(1)[0]}
        small, twice = toy.submodel("s", 0, 0), toy.submodel("t", 0, 1)
        probes = measuring.Probes(small, feeds, small, twice, feeds)
        links, devices = measuring.measure_links(coordinator, probes)
    assert all(d.stage_overhead_s > 0 for d in devices)
    assert [(m.source, m.target) for m in links] == [("pi", "server"), ("server", "pi")]
    for link in links:
        assert link.bandwidth_bps == pytest.approx(20e6, rel=0.15)
        assert 0.018 < link.latency_s < 0.06  # a busy machine adds to it
    assert all(d.send_s_per_byte < 1e-6 and d.recv_s_per_byte < 1e-6 for d in devices)


def test_memory_limit_is_refused_with_numbers(tmp_path: Path) -> None:
    device = Device("server", "server", memory_bytes=1000)
    plan, submodels = toy.plan(SPLIT)
    with Coordinator(toy.cluster(devices={"server": device}), cache_dir=tmp_path) as coordinator:
        with pytest.raises(InfeasibleError, match="200 bytes short"):
            coordinator.deploy(plan, submodels, toy.graph(memory_bytes=600))
        status = coordinator.status()[0].status
        assert status is not None
        assert status.epochs == ()  # nothing is left where it had been loaded


def test_profile_returns_raw_times(pair: Coordinator) -> None:
    feeds = {"x": toy.inputs(1)[0]}
    raw = measuring.profile(
        pair, "server", toy.submodel("whole", 0, 3), feeds, kernel_runs=3, whole_runs=4
    )
    assert len(raw.whole_s) == 4
    assert {len(k.seconds) for k in raw.kernels} == {3}
    assert sum(k.op_type == "Mul" for k in raw.kernels) >= 1


def test_failing_stage_fails_its_request_only(pair: Coordinator) -> None:
    plan, submodels = toy.plan(SPLIT)
    with pair.deploy(plan, submodels, toy.graph(), window=4) as deployment:
        session = deployment.session()
        epoch = pair._local.host.epochs()[0]
        inner = epoch.runnables[0]

        class Fussy:
            input_names, output_names = inner.input_names, inner.output_names

            def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
                if feeds["x"][0, 0] > 1e6:
                    raise ValueError("too large")
                return inner.run(feeds)

        epoch.runnables = (Fussy(),)
        good, bad = toy.inputs(2)
        bad[0, 0] = 1e9
        futures: list[Future[dict[str, np.ndarray]]] = [
            session.submit({"x": x}) for x in (good, bad, good)
        ]
        with pytest.raises(RuntimeFault, match=r"stage 's0' on device 'pi' failed: too large"):
            futures[1].result(10)
        for k in (0, 2):
            np.testing.assert_array_equal(futures[k].result(10)["y"], toy.expected(good))


def test_unreachable_endpoint_is_named(tmp_path: Path) -> None:
    device = Device("server", "server", endpoint=free_endpoint())
    plan, submodels = toy.plan(SPLIT)
    with Coordinator(toy.cluster(devices={"server": device}), cache_dir=tmp_path) as coordinator:
        with pytest.raises(TransportError, match=r"'server' cannot be reached.*cutset worker"):
            coordinator.deploy(plan, submodels, toy.graph())
        assert [s.reachable for s in coordinator.status()] == [True, False]


def test_worker_of_another_name_at_an_endpoint(tmp_path: Path) -> None:
    endpoint = free_endpoint()
    worker = worker_main.start("box", (endpoint,), cache_dir=tmp_path / "there")
    try:
        with pytest.raises(TransportError, match="port is in use"):
            serve("other", listen=(endpoint,), cache_dir=tmp_path)
        device = Device("server", "server", endpoint=endpoint)
        cluster = toy.cluster(devices={"server": device})
        plan, submodels = toy.plan(SPLIT)
        with Coordinator(cluster, cache_dir=tmp_path / "here") as coordinator:
            deployment = coordinator.deploy(plan, submodels, toy.graph())
            x = toy.inputs(1)[0]
            np.testing.assert_array_equal(
                deployment.session().run(None, {"x": x})[0], toy.expected(x)
            )
            with pytest.raises(UsageError, match="only emulated links"):
                coordinator.set_link("pi", "server", 1e6)
    finally:
        worker.close()


@pytest.mark.parametrize("endpoint", ["tcp/0.0.0.0:7447", "tcp/192.168.1.5:7447"])
def test_listening_beyond_loopback_is_refused(endpoint: str) -> None:
    with pytest.raises(UsageError, match="--insecure"):
        serve("w", listen=(endpoint,))


@pytest.mark.parametrize("endpoint", ["7447", "tcp/nowhere", "udp/127.0.0.1:1", "tcp/h:99999"])
def test_malformed_endpoints_are_refused(endpoint: str) -> None:
    with pytest.raises(CutsetError, match=r"endpoint|tcp"):
        serve("w", listen=(endpoint,))


PARENT = """
import sys
sys.path.insert(0, sys.argv[1])
import toy
from cutset.runtime.coordinator import Coordinator
c = Coordinator(toy.cluster(), cache_dir=sys.argv[2])
print(next(s.status.pid for s in c.status() if s.name == "server"), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux's pidfd")
def test_children_are_gone_when_the_parent_is_killed(tmp_path: Path) -> None:
    import select

    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(Path(__file__).parent), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        handle = os.pidfd_open(child)
        try:
            parent.kill()
            ready, _, _ = select.select([handle], [], [], 20)
            assert ready, "the child outlived its parent"
        finally:
            os.close(handle)


def test_worker_imports_no_planner() -> None:
    code = (
        "import sys, cutset.runtime.worker, cutset.runtime.worker_main\n"
        "print([m for m in ('onnx', 'onnx_ir', 'onnxscript', 'scipy', 'ortools',"
        " 'cutset.strategies', 'cutset.solvers', 'cutset.onnx_io') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_links_stay_as_they_were_set(tmp_path: Path) -> None:
    plan, submodels = toy.plan(SPLIT)
    with Coordinator(toy.cluster(), cache_dir=tmp_path) as coordinator:
        for value in (0, -1, float("nan"), "5Mbit/s", True):
            with pytest.raises(UsageError, match="bandwidth_bps"):
                coordinator.set_link("pi", "server", value)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="latency_s"):
            coordinator.set_link("pi", "server", latency_s=-1)
        coordinator.deploy(plan, submodels, toy.graph()).close()
        coordinator.set_link("pi", "server", bandwidth_bps=7e6)
        coordinator.set_link("pi", "server", latency_s=0.002)
        killed = pid_of(coordinator, "server")
        os.kill(killed, signal.SIGKILL)
        found: set[int] = set()
        while not found - {killed}:  # another is started in its place
            found = {s.status.pid for s in coordinator.status() if s.status and s.name == "server"}
        coordinator.deploy(plan, submodels, toy.graph())
        rate = coordinator._local.outbox.rate(coordinator.connected("server"))
        assert rate == LinkRate(7e6, 0.002)
