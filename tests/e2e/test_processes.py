"""`cutset` as processes: two real workers, lost workers, signals; nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import onnx
import plans
import pytest
from processes import CUTSET, children, gone_afterwards, started

from cutset import api, zoo
from cutset.cli import main
from cutset.errors import DeadlineExceeded, UsageError
from cutset.onnx_io import Model
from cutset.runtime.coordinator import Coordinator
from cutset.runtime.zenoh_transport import free_endpoint
from cutset.verify import compare

SLOW = plans.CLUSTER.replace("10Gbit/s", "200kbit/s")

needs_pidfd = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux's pidfd")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    onnx.save(zoo.build("squeezenet", side=64, width=0.25), "m.onnx")
    Path("cluster.yaml").write_text(plans.CLUSTER)
    Path("slow.yaml").write_text(SLOW)
    names = plans.operator_names(api.load("m.onnx"))
    middle = len(names) // 2
    plans.write_plan(Path("half.json"), [("pi", names[:middle]), ("server", names[middle:])])
    return tmp_path


def cutset(*arguments: str, status: int = 0) -> Any:
    """The one JSON document that the command prints."""
    done = subprocess.run(
        [*CUTSET, *arguments, "--json"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


def test_profile_plan_and_run_with_a_real_worker(here: Path) -> None:
    endpoint = free_endpoint()
    Path("real.yaml").write_text(
        "schema: cutset/cluster/1\nsource: pi\ndevices:\n  pi: {engine: {threads: 1}}\n"
        f"  server: {{endpoint: {endpoint}, engine: {{threads: 1}}}}\n"
        "links: [{from: pi, to: server, both: true}]\n"
    )
    on_real = ("--cluster", "real.yaml")
    worker = ("worker", "server", "--listen", endpoint, "--cache", "there")
    with started(worker, "worker 'server'") as process:
        checks = {c["name"]: c for c in cutset("doctor", *on_real)["checks"]}
        assert endpoint in checks["device server"]["found"]
        profile = cutset("profile", "m.onnx", *on_real, "-o", "p.json")
        assert {w["kind"] for w in profile["whole"]} == {"pi", "server"}
        assert {(x["from"], x["to"]) for x in profile["links"]} == {
            ("pi", "server"),
            ("server", "pi"),
        }
        plan = cutset("plan", "m.onnx", *on_real, "--profile", "p.json", "-o", "best.json")
        assert plan["proof"] == "optimal"
        for name in ("best.json", "half.json"):
            run = cutset(
                *("run", "m.onnx", *on_real, "--profile", "p.json", "--plan", name),
                *("--verify", "--in-flight", "4", "--requests", "32"),
            )
            assert (run["answered"], run["failed"], run["emulated"]) == (32, 0, "no")
            assert run["verify"]["equal"] is True
            assert run["predicted"]["latency_s"] > 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_port_in_use_is_refused(here: Path) -> None:
    endpoint = free_endpoint()
    with started(("worker", "a", "--listen", endpoint, "--cache", "a"), "worker 'a'"):
        error = cutset("worker", "b", "--listen", endpoint, "--cache", "b", status=1)["error"]
    assert (error["code"], error["value"]) == ("transport", endpoint)
    assert "in use" in error["message"]
    assert "--listen" in error["remedy"]


RUN = ("run", "m.onnx", "--cluster", "slow.yaml", "--plan", "half.json", "--json")


@needs_pidfd
@pytest.mark.parametrize("in_flight", ["1", "8"])
def test_ctrl_c_ends_a_run_and_its_children(in_flight: str, here: Path) -> None:
    run = (*RUN, "--requests", "100000", "--in-flight", in_flight)
    with started(run, "serving") as process, gone_afterwards(children(process.pid)):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err
    found = json.loads(out)
    if "error" in found:  # before the first answer
        assert found["error"]["code"] == "interrupted"
    else:
        assert found["answered"] >= 1


@needs_pidfd
@pytest.mark.parametrize("again", range(3))  # the run's end and the clean-up may race
def test_a_killed_worker_ends_the_run_with_4(again: int, here: Path) -> None:
    with started((*RUN, "--requests", "100000", "--in-flight", "4"), "serving") as process:
        (child,) = children(process.pid)
        os.kill(child, signal.SIGKILL)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 4
    assert "Traceback" not in err
    found = json.loads(out)
    said = json.dumps(found.get("error") or found["errors"])
    assert "'server'" in said
    assert "lost" in said
    if "error" not in found:
        assert [s["lost"] for s in found["stages"]] == [False, True]
        assert found["stages"][0]["requests"] > 0  # what pi measured until then


@needs_pidfd
def test_a_killed_worker_is_replaced_by_the_fallback(here: Path) -> None:
    more = ("--requests", "40", "--in-flight", "4", "--fallback", "local", "--verify")
    with started((*RUN, *more), "serving") as process:
        (child,) = children(process.pid)
        os.kill(child, signal.SIGKILL)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    found = json.loads(out)
    assert (found["answered"], found["failed"]) == (40, 0)
    assert found["fallbacks"] > 0
    assert found["verify"]["equal"] is True


def test_the_fallback_answers_where_a_device_was_never_there(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("away.yaml").write_text(
        plans.CLUSTER.replace("server: {", f"server: {{endpoint: {free_endpoint()}, ")
    )
    run = ("run", "m.onnx", "--cluster", "away.yaml", "--plan", "half.json", "--requests", "5")
    error = cutset(*run, status=1)["error"]
    assert error["code"] == "transport"
    found = cutset(*run, "--fallback", "local", "--verify")
    assert (found["answered"], found["failed"], found["fallbacks"]) == (5, 0, 5)
    assert found["verify"]["equal"] is True
    # Nothing was deployed: no row claims that a device was lost.
    assert not any(stage["lost"] or stage["requests"] for stage in found["stages"])
    assert main.run([*run, "--fallback", "local"]) == 0
    assert "this device answers alone: devices.server.endpoint" in capsys.readouterr().err


def test_a_missing_provider_is_reported_with_its_device(here: Path) -> None:
    Path("gpu.yaml").write_text(
        plans.CLUSTER.replace("server: {engine: {", "server: {engine: {provider: qnn, ")
    )
    error = cutset("run", "m.onnx", "--cluster", "gpu.yaml", "--plan", "half.json", status=2)
    assert error["error"]["field"] == "devices.server.engine.provider"
    assert "'server'" in error["error"]["message"]


def test_a_deadline_that_passes_ends_the_run_with_4(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("slow.yaml").write_text(SLOW.replace("200kbit/s", "1kbit/s"))
    error = cutset(*RUN[:-1], "--requests", "1", "--deadline", "0.2", status=4)["error"]
    assert error["code"] == "deadline"
    assert error["remedy"]
    assert main.run([*RUN[:-1], "--requests", "1", "--deadline", "0.2", "--verify"]) == 4
    said = capsys.readouterr()
    assert "0 of 1 requests answered" in said.out
    assert "unsplit" not in said.out  # nothing was compared
    assert said.err.splitlines()[-1].startswith("error: ")


def killed(coordinator: Coordinator, device: str) -> None:
    status = next(s.status for s in coordinator.status() if s.name == device)
    assert status is not None
    os.kill(status.pid, signal.SIGKILL)


@pytest.fixture
def model(here: Path) -> Model:
    return api.load("m.onnx")


def test_the_api_falls_back_to_this_device(model: Model) -> None:
    feeds = plans.requests(model, 12)
    unsplit = api.unsplit(model)
    with api.deploy(
        model, "slow.yaml", "half.json", in_flight=4, fallback="local", deadline_s=60
    ) as session:
        futures = [session.submit(request) for request in feeds[:4]]
        killed(session.coordinator, "server")
        futures += [session.submit(request) for request in feeds[4:]]
        for request, future in zip(feeds, futures, strict=True):
            assert compare(future.result(30), unsplit.run(request)).equal()
        assert session.stats().fallbacks >= 8


def test_deadlines_hold_and_must_make_sense(model: Model) -> None:
    Path("slow.yaml").write_text(SLOW.replace("200kbit/s", "1kbit/s"))
    (request,) = plans.requests(model, 1)
    with api.deploy(model, "slow.yaml", "half.json") as session:
        for senseless in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(UsageError, match="deadline"):
                session.submit(request, deadline_s=senseless)
        future = session.submit(request, deadline_s=0.2)
        assert isinstance(future.exception(20), DeadlineExceeded)
        # Its place in the window is free again.
        with pytest.raises(DeadlineExceeded):
            session.run(None, request, deadline_s=0.2)
