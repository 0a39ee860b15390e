"""What `run` shows a person, and what `doctor` notices about the cluster."""

from __future__ import annotations

import io
import json
from pathlib import Path

import onnx
import pytest
from rich.console import Console

from cutset import zoo
from cutset.agreement import Bottleneck, Busy, Disagreement
from cutset.cli import main, run_text
from cutset.cli.doctor import _shared_hosts
from cutset.cli.run_text import show
from cutset.errors import TransportError
from cutset.report import LatencySummary
from cutset.run_report import (
    LinkReport,
    MemoryReport,
    PredictedDocument,
    RunDocument,
    StageMemory,
    StageReport,
)
from cutset.runtime.coordinator import DeviceStatus
from cutset.runtime.messages import Status
from cutset.serde.plan_file import PlanDocument


def shown(in_flight: int) -> str:
    document = RunDocument(
        requests=4,
        answered=4,
        failed=0,
        latency_s=LatencySummary(0.1, 0.1, 0.12, 0.13),
        throughput_per_s=20.0,
        in_flight=in_flight,
        predicted=PredictedDocument(0.08, 0.04),
        verify=None,
        switches=[],
        epochs=1,
        emulated="process",
        stages=[
            StageReport("s0", "pi", 0.02, 0.021, 0.0, 4),
            StageReport("s1", "server", 0.01, None, None, 0, lost=True),
        ],
        links=[LinkReport("pi>server", 1e5, 0.05, 0.06, 0, 2e7, 1.5e7, 0.04, 0.053)],
        memory=[MemoryReport("pi", 10**8, 5 * 10**7, [StageMemory("s0", 10**8, 9 * 10**7)])],
        plan=PlanDocument(schema="cutset/plan/1", stages=[]),
        interrupted=False,
        errors={},
        fallbacks=0,
        dropped={"size": 2, "epoch": 1},
        busy=[Busy("egress:pi", 0.04, 0.053), Busy("device:server", 0.01, None, lost=True)],
        bottleneck=Bottleneck("device:pi", 0.05, "link:pi>server", 0.053),
        disagreement=Disagreement("x", 1, 2, 1.0, None, "link pi>server took long"),
    )
    out = io.StringIO()
    show(Console(file=out, width=160, markup=False), document)
    return out.getvalue()


def row(text: str, name: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(name)).split()


def test_alone_latencies_and_links_are_compared_whole() -> None:
    text = shown(1)
    assert row(text, "latency p50")[-1] == "+25.0%"
    assert row(text, "latency p99")[-2:] == ["ms", "–"]
    assert row(text, "requests/s")[1:] == ["–", "20", "–"]
    assert row(text, "link pi>server")[-1] == "+20.0%"
    assert row(text, "stage s1 on server")[-2:] == ["lost", "–"]
    assert row(text, "busy: egress pi")[-1] == "+32.5%"
    assert "lost" in row(text, "busy: device server")
    assert row(text, "  peak of loading s0")[-3:] == ["90", "MB", "–"]
    assert "frames dropped: 2 wrong size, 1 wrong epoch" in text
    assert "bottleneck: link:pi>server, 53 ms per request; predicted was device:pi, 50 ms" in text
    assert "largest disagreement: link pi>server took long" in text


def test_with_several_in_flight_latency_is_shown_and_not_compared() -> None:
    text = shown(4)
    assert row(text, "latency p50")[2] == "–"
    assert row(text, "requests/s")[1:] == ["25", "20", "-20.0%"]
    assert row(text, "link pi>server")[-1] == "+32.5%"  # by how long it is held


def status(name: str, host_id: str) -> DeviceStatus:
    found = Status(name, "a", 1, {}, "cpu", 1, 1, None, 1, (), 0.0, (), {}, host_id)
    return DeviceStatus(name, True, "tcp/10.0.0.1:7447", None, 0.001, found)


def test_doctor_notices_workers_of_one_machine() -> None:
    (check,) = _shared_hosts([status("a", "x"), status("b", "y"), status("c", "x")])
    assert (check.ok, check.found) == (None, "a, c are workers of one machine")
    assert _shared_hosts([status("a", "x"), status("b", "y")]) == []
    assert _shared_hosts([status("a", ""), status("b", "")]) == []  # not known


def test_run_json_holds_what_the_contract_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    onnx.save(zoo.build("squeezenet", side=32, width=0.25), "m.onnx")
    Path("cluster.yaml").write_text(
        "schema: cutset/cluster/1\nsource: pi\ndevices:\n  pi: {engine: {threads: 1}}\n"
        "  server: {engine: {threads: 1}}\ndefault_link: {bandwidth: 1Gbit/s, latency: 0s}\n"
    )
    assert main.run(["profile", "m.onnx", "--cluster", "cluster.yaml", "-o", "p.json"]) == 0
    capsys.readouterr()
    profile = json.loads(Path("p.json").read_text())
    assert {m["kind"] for m in profile["memory"]} == {"pi", "server"}
    assert all(m["weight_factor"] >= 1 for m in profile["memory"])
    assert main.run(["run", "m.onnx", "--profile", "p.json", "--requests", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bottleneck"]["predicted"]
    assert found["bottleneck"]["measured"]
    assert found["disagreement"]["text"]
    assert found["dropped"] == {}
    assert {b["resource"] for b in found["busy"]} >= {
        f"device:{s['device']}" for s in found["stages"]
    }
    (device,) = [m for m in found["memory"] if m["stages"]][:1]
    estimate = found["plan"]["estimate"]["memory_bytes"]
    assert sum(s["predicted_bytes"] for s in device["stages"]) == estimate[device["device"]]


def test_a_fallback_without_a_profile_says_what_it_needs() -> None:
    def fails(fallback: str | None) -> str:
        with pytest.raises(TransportError) as caught, run_text.measuring_for(fallback):
            raise TransportError("gone", remedy="start the worker there")
        return str(caught.value)

    assert fails(None) == "gone; start the worker there"
    assert fails("local").startswith("gone; start the worker there; with --profile FILE")
