"""`cutset simulate`: its document, its words, and what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cutset.cli import main as cli

WORKLOAD = {
    "schema": "cutset/workload/1",
    "name": "toy",
    "inputs": ["x"],
    "outputs": ["y"],
    "tensors": {"x": 1000, "t": 25000, "y": 0},
    "operators": [
        {
            "name": name,
            "inputs": [reads],
            "outputs": [makes],
            "memory_bytes": 1000,
            "compute_s": {"pi": 0.02, "server": 0.005},
        }
        for name, reads, makes in (("conv", "x", "t"), ("fc", "t", "y"))
    ],
}
CLUSTER = """\
schema: cutset/cluster/1
source: pi
devices: {pi: {}, server: {memory: 1MB}}
links: [{from: pi, to: server, bandwidth: 20Mbit/s, latency: 3ms, both: true}]
"""
PLAN = {
    "schema": "cutset/plan/1",
    "stages": [
        {"name": "s0", "device": "pi", "operators": ["conv"]},
        {"name": "s1", "device": "server", "operators": ["fc"]},
    ],
}
COMMAND = ("simulate", "w.json", "p.json")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.json").write_text(json.dumps(WORKLOAD))
    Path("cluster.yaml").write_text(CLUSTER)
    Path("p.json").write_text(json.dumps(PLAN))


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    status = cli.run([*COMMAND, *arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


def text(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.run([*COMMAND, *arguments]) == 0
    return capsys.readouterr().out


def test_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = document(capsys, "--requests", "10")
    assert status == 0
    own = found["unchanged"]
    # 20 ms conv, 25 kB at 20 Mbit/s, 3 ms each way, 5 ms fc
    assert own["latency_s"] == pytest.approx(0.02 + 0.01 + 0.006 + 0.005)
    assert own["period_s"] == pytest.approx(0.02)
    assert own["evaluator"] == pytest.approx({k: own[k] for k in ("latency_s", "period_s")})
    assert (own["bottleneck"], own["saturated"], own["exact"]) == ("device:pi", True, True)
    assert own["utilisation"]["link:pi>server"] == pytest.approx(0.5)
    assert own["stream"]["latency_s"].keys() == {"mean", "p50", "p95", "p99"}
    # the first is answered after its latency, the others one period after the other
    assert own["stream"]["makespan_s"] == pytest.approx(0.041 + 9 * 0.02)
    assert (found["requests"], found["dispatch"], found["changes"]) == (10, "oldest", [])
    assert (found["changed"], found["trace"]) == (None, None)


def test_what_if_stands_beside_what_is(capsys: pytest.CaptureFixture[str]) -> None:
    _, found = document(capsys, "--set", "link:pi>server=5Mbit/s", "--set", "device:server.load=2")
    assert found["changes"] == ["link:pi>server=5Mbit/s", "device:server.load=2"]
    before, after = found["unchanged"], found["changed"]
    assert after["latency_s"] == pytest.approx(before["latency_s"] + 0.03 + 0.005)
    assert (before["period_s"], after["period_s"]) == pytest.approx((0.02, 0.04))
    assert after["bottleneck"] == "link:pi>server"
    assert after["evaluator"]["period_s"] == pytest.approx(after["period_s"])


def test_one_request_in_flight(capsys: pytest.CaptureFixture[str]) -> None:
    _, found = document(capsys, "--in-flight", "1")
    own = found["unchanged"]
    assert own["period_s"] == pytest.approx(own["latency_s"])
    assert (own["in_flight"], own["saturated"]) == (1, False)
    assert "above the evaluator's" in text(capsys, "--in-flight", "1")


def test_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    shown = text(capsys, "--set", "link:pi>server=5Mbit/s")
    for words in (
        "what if: link:pi>server=5Mbit/s",
        "unchanged",
        "changed",
        "evaluator",
        "+100.0%",
        "█",
        "100%",
        "in flight",
        "bottleneck device:pi",
        "bottleneck link:pi>server",
        "simulate w.json p.json --cluster cluster.yaml --set 'link:pi>server=5Mbit/s'"
        " --set 'link:pi>server=10Mbit/s'",
    ):
        assert words in shown
    assert "egress:pi" not in shown  # it carries one link, which says it all
    assert "device:pi.load=0.5" in text(capsys)


def test_a_trace(capsys: pytest.CaptureFixture[str]) -> None:
    _, found = document(capsys, "--trace", "t.json", "--requests", "4")
    assert found["trace"] == "t.json"
    trace = json.loads(Path("t.json").read_text())
    assert {e["args"]["request"] for e in trace["traceEvents"] if e["ph"] == "X"} == {0, 1, 2, 3}
    assert "ui.perfetto.dev" in text(capsys, "--trace", "t.json")


def test_a_plan_that_a_change_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = document(capsys, "--set", "link:pi>server=down")
    assert status == 3
    assert found["error"]["code"] == "infeasible"
    assert "'t'" in found["error"]["message"]
    assert found["error"]["value"] == "link:pi>server=down"
    assert found["error"]["remedy"]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("--requests", "-5"), None),
        (("--requests", "0"), None),
        (("--requests", "999999999"), "requests"),
        (("--requests", "20000", "--trace", "t.json"), "requests"),
        (("--in-flight", "0"), None),
        (("--in-flight", "999999999"), "in_flight"),
        (("--set", "device:nope.load=2"), "--set"),
        (("--set", "device:pi.load=-2"), "--set device:pi.load"),
        (("--set", "device:pi.cpu=0.5"), "--set device:pi.cpu"),
        (("--set", "faster"), "--set"),
    ],
)
def test_what_cannot_be_meant(
    arguments: tuple[str, ...], field: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = document(capsys, *arguments)
    assert (status, found["error"]["field"]) == (2, field)
    assert found["error"]["remedy"]


def test_a_plan_for_another_graph(capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.json").write_text(json.dumps(PLAN | {"graph_digest": "0" * 64}))
    status, found = document(capsys)
    assert (status, found["error"]["file"]) == (2, "p.json")
    assert found["error"]["field"] == "graph_digest"


def test_a_plan_that_needs_more_memory(capsys: pytest.CaptureFixture[str]) -> None:
    Path("cluster.yaml").write_text(CLUSTER.replace("1MB", "10B"))
    status, found = document(capsys)
    assert (status, found["error"]["field"]) == (3, "devices.server.memory")


def test_a_trace_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = document(capsys, "--trace", os.path.join("nowhere", "t.json"))
    assert (status, found["error"]["code"]) == (2, "invalid_file")
    assert "nowhere" in found["error"]["file"]
