"""Adaptive runs over real processes: the link changes, the server dies, Ctrl-C ends them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from processes import children, gone_afterwards, started

from cutset import api, zoo
from cutset.adaptation import deploying
from cutset.adaptation.records import read_record
from cutset.cli import main
from cutset.cluster import Engine
from cutset.deployed import Deployed
from cutset.errors import WorkerLostError
from cutset.feeds import random_feeds
from cutset.ports import Array
from cutset.runtime.zenoh_transport import free_endpoint

# A device so slow that the server pays, over a link so fast that it does.
CLUSTER = """\
schema: cutset/cluster/1
source: pi
devices:
  pi: {engine: {threads: 1}}
  server: {engine: {threads: 1}}
default_link: {bandwidth: 500Mbit/s, latency: 0s}
lab: {pi: {cpu: 0.05}}
"""
ROOT = Path(__file__).parent.parent.parent
needs_pidfd = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux's pidfd")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model, cluster and what was measured, once for all tests."""
    made = tmp_path_factory.mktemp("adaptive")
    onnx.save(zoo.build("squeezenet", side=64, width=0.25), str(made / "m.onnx"))
    (made / "cluster.yaml").write_text(CLUSTER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(made / "cache"))
        patch.chdir(made)
        profile = ["profile", "m.onnx", "--cluster", "cluster.yaml", "-o", "p.json"]
        assert main.run(profile) == 0
    return made


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    for name in ("m.onnx", "cluster.yaml", "p.json"):
        Path(name).write_bytes((folder / name).read_bytes())
    return tmp_path


@pytest.fixture
def link_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways carry 100 kbit/s from request 30 on."""
    real = api.deploy

    def deploy(*arguments: Any, **options: Any) -> Deployed:
        deployed = real(*arguments, **options)
        submit, count = deployed.submit, 0

        def counted(
            feeds: Mapping[str, Array], deadline_s: float | None = None
        ) -> Future[dict[str, Array]]:
            nonlocal count
            count += 1
            if count == 30:
                for way in (("pi", "server"), ("server", "pi")):
                    deployed.coordinator.set_link(*way, 100e3)
            return submit(feeds, deadline_s)

        monkeypatch.setattr(deployed, "submit", counted)
        return deployed

    monkeypatch.setattr(api, "deploy", deploy)


def by_contract() -> dict[str, Any]:
    """The example document of `run --adapt --json`."""
    text = (ROOT / "docs" / "formats.md").read_text("utf-8")
    section = text.partition("## What `run --adapt --json` reports")[2]
    found = re.search(r"```json\n(.*?)```", section, re.S)
    assert found is not None
    document: dict[str, Any] = json.loads(found[1])
    return document


def check_keys(found: object, example: object, where: str = "") -> None:
    """The same fields, in all that stands inside too; an empty list or null has none."""
    if isinstance(example, dict) and isinstance(found, dict):
        free = where in (".errors", ".dropped", ".ignored")  # keys are what happened
        if not free:
            assert set(found) == set(example), where
            for key, value in example.items():
                check_keys(found[key], value, f"{where}.{key}")
    elif isinstance(example, list) and isinstance(found, list):
        for value in found:
            check_keys(value, example[0], f"{where}[]")
    elif found is not None and example is not None:
        kinds = (int, float) if isinstance(example, int | float) else type(example)
        assert isinstance(found, kinds), where


def test_a_link_that_falls_moves_the_cut_and_no_output_changes(
    here: Path, link_falls: None, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "m.onnx", "--adapt", "--requests", "90", "--verify", "--record", "r.jsonl"]
    assert main.run([*command, "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert (found["requests"], found["answered"], found["failed"]) == (90, 90, 0)
    assert found["verify"]["equal"] is True
    assert (found["policy"], found["device"], found["server"]) == ("load-aware", "pi", "server")
    assert found["epochs"] == len(found["cuts"]) >= 2
    # It left the server's cut for this device alone, because of the link.
    switches = found["switches"]
    assert switches
    assert {switch["to"] for switch in switches} & {"local"}
    assert any("bandwidth" in switch["reason"] for switch in switches)
    used = {cut["name"]: cut["requests"] for cut in found["cuts"] if cut["requests"]}
    assert len(used) >= 2
    assert sum(used.values()) >= 90
    statics = {static["name"]: static for static in found["saved"]["statics"]}
    assert set(statics) == {"local", "offload", "best at the start", "best static"}
    assert statics["best static"]["mean_s"] <= statics["local"]["mean_s"]
    for switch in switches:  # each was said when it happened
        assert f"{switch['from']} -> {switch['to']}" in captured.err
    check_keys(found, by_contract())
    record = read_record("r.jsonl")
    assert record.note == ""
    told = [(s.at_s, s.source, s.target, s.reason) for x in record.lines for s in x.switches]
    assert told == [(s["at_s"], s["from"], s["to"], s["reason"]) for s in switches]
    assert sum(x.requests for x in record.lines) == found["saved"]["requests"] == 90
    assert [cut.name for cut in record.header.cuts] == [cut["name"] for cut in found["cuts"]]
    assert (record.header.emulated, record.header.graph_digest) == (
        found["emulated"],
        api.load("m.onnx").graph.digest,
    )


def test_a_static_policy_stays_and_saves_nothing_over_itself(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["record", "m.onnx", "--profile", "p.json", "-o", "r.jsonl", "--policy", "local"]
    assert main.run([*command, "--requests", "6"]) == 0
    text = capsys.readouterr().out
    assert "policy static local" in text
    assert "no switch" in text
    assert re.search(r"adapting saved nothing over: .*local", text)
    assert [x.cut for x in read_record("r.jsonl").lines][-1] == "local"
    Path("r.jsonl").unlink()
    more = ["--policy", "cut:4000", "--record", "r.jsonl", "--json"]
    argv = ["run", "m.onnx", "--profile", "p.json", "--adapt", *more]
    assert main.run(argv) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["field"], error["value"]) == ("--policy", "cut:4000")
    assert not Path("r.jsonl").exists()


def test_a_run_without_any_answer_is_reported(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person sees why; a program gets the error."""
    argv = ["run", "m.onnx", "--profile", "p.json", "--adapt", "--requests", "2"]
    late = ["--policy", "local", "--deadline", "0.001", "--verify", "--output", "answers.npz"]
    assert main.run([*argv, *late]) == 4
    said = capsys.readouterr()
    assert "0 of 2 requests answered" in said.out
    assert "at the end: up" in said.out
    assert "unsplit" not in said.out
    assert said.err.splitlines()[-1].startswith("error: ")
    assert not Path("answers.npz").exists()
    assert main.run([*argv, *late, "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "deadline"


def test_json_lines_are_a_record_and_the_report_stands_beside_them(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main.run(
            ["run", "m.onnx", "--profile", "p.json", "--adapt", "--requests", "5", "--json-lines"]
        )
        == 0
    )
    captured = capsys.readouterr()
    Path("piped.jsonl").write_text(captured.out)
    record = read_record("piped.jsonl")
    assert sum(x.requests for x in record.lines) == 5
    assert "what adapting saved" in captured.err


@needs_pidfd
@pytest.mark.parametrize("times", [1, 3])
def test_ctrl_c_ends_a_record_cleanly(here: Path, times: int) -> None:
    command = (
        "record",
        "m.onnx",
        "--profile",
        "p.json",
        "-o",
        "r.jsonl",
        "--duration",
        "600",
        "--json",
    )
    with started(command, "serving") as process, gone_afterwards(children(process.pid)):
        while times > 1 and Path("r.jsonl").read_text().count("\n") < 2:
            time.sleep(0.05)  # until something was answered
        process.send_signal(signal.SIGINT)
        if times > 1:  # one more is not heard: the report is on its way
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith("interrupted"):
                    break
            for _ in range(times - 1):
                process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert times == 1 or "answered" in out
    record = read_record("r.jsonl")
    assert record.note == ""  # every line is whole
    found = json.loads(out)
    if "error" in found:  # before the first answer
        assert found["error"]["code"] == "interrupted"
    else:
        assert found["answered"] >= 1
        assert sum(x.requests for x in record.lines) >= 1


@needs_pidfd
def test_a_killed_server_loses_nothing(here: Path) -> None:
    command = (
        "run",
        "m.onnx",
        "--profile",
        "p.json",
        "--adapt",
        "--requests",
        "60",
        "--in-flight",
        "4",
    )
    more = ("--fallback", "local", "--verify", "--record", "r.jsonl", "--json")
    with started((*command, *more), "serving") as process:
        for child in children(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    found = json.loads(out)
    assert (found["answered"], found["failed"]) == (60, 0)
    assert found["verify"]["equal"] is True
    assert "requests go on without it" in err
    assert read_record("r.jsonl").note == ""


def test_a_server_that_was_never_there_is_waited_for(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away = CLUSTER.replace("server: {", f"server: {{endpoint: {free_endpoint()}, ")
    Path("away.yaml").write_text(away)
    argv = ["run", "m.onnx", "--cluster", "away.yaml", "--profile", "p.json", "--adapt"]
    more = ["--requests", "5", "--record", "r.jsonl", "--verify", "--json"]
    assert main.run([*argv, *more]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "transport"
    assert main.run([*argv, *more, "--fallback", "local"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (found["answered"], found["cut"], found["observed"]["lost"]) == (5, "local", True)
    assert found["verify"]["equal"] is True
    assert "this device answers alone until the server is there: devices.server" in said.err
    assert "serving on pi alone\n" in said.err
    assert all(line.lost for line in read_record("r.jsonl").lines)


def test_a_server_that_comes_late_is_found_and_used(here: Path) -> None:
    endpoint, back = free_endpoint(), threading.Event()
    said: list[str] = []
    Path("away.yaml").write_text(CLUSTER.replace("server: {", f"server: {{endpoint: {endpoint}, "))

    def note(text: str) -> None:
        said.append(text)
        if "all devices are back" in text:
            back.set()

    model = api.load("m.onnx")
    feeds = random_feeds(model.ports, 1)[0]
    with api.deploy(
        model, "away.yaml", profile="p.json", adapt=True, fallback="local", note=note
    ) as session:
        session.submit(feeds).result(60)
        adaptive = session.adaptive
        assert adaptive is not None
        assert adaptive.held.usable() == (adaptive.cuts.local,)
        worker = ("worker", "server", "--listen", endpoint, "--cache", "there")
        with started(worker, "worker 'server'"):
            assert back.wait(60), said
            assert adaptive.held.usable() == tuple(range(len(adaptive.cuts.cuts)))
            session.submit(feeds).result(60)


def test_without_its_server_a_device_that_holds_no_local_cut_cannot_go_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away = CLUSTER.replace("server: {", f"server: {{endpoint: {free_endpoint()}, ")
    Path("away.yaml").write_text(away)
    monkeypatch.setattr(deploying, "MEMORY_SHARE", 1e-6)
    argv = ["run", "m.onnx", "--cluster", "away.yaml", "--profile", "p.json", "--adapt"]
    assert main.run([*argv, "--requests", "5", "--fallback", "local", "--json"]) == 1
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert error["code"] == "transport"
    assert "'pi' cannot answer alone: no cut that fits its memory" in error["message"]
    assert "this device answers alone" not in said.err


@needs_pidfd
@pytest.mark.parametrize("moment", ["loading cut 3 of", "timing the loaded cuts"])
def test_a_server_that_is_lost_while_cuts_are_loaded_is_done_without(
    here: Path, moment: str
) -> None:
    said: list[str] = []
    back = threading.Event()
    mine = set(children(os.getpid()))

    def note(text: str) -> None:
        if moment in text and not any(moment in before for before in said):
            for child in set(children(os.getpid())) - mine:
                os.kill(child, signal.SIGKILL)
        said.append(text)
        if "all devices are back" in text:
            back.set()

    model = api.load("m.onnx")
    feeds = random_feeds(model.ports, 1)[0]
    expected = api.unsplit(model, Engine(threads=1)).run(feeds)
    with api.deploy(
        model, "cluster.yaml", profile="p.json", adapt=True, fallback="local", note=note
    ) as session:
        for name, value in session.submit(feeds).result(60).items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)
        assert any(text.startswith("this device answers alone until") for text in said)
        assert back.wait(60)
        adaptive = session.adaptive
        assert adaptive is not None
        assert adaptive.held.usable() == tuple(range(len(adaptive.cuts.cuts)))
        session.submit(feeds).result(60)
        assert session.stats().failed == 0
    said.clear()
    with pytest.raises(WorkerLostError, match="'server' was lost"):
        api.deploy(model, "cluster.yaml", profile="p.json", adapt=True, note=note)
