"""`cutset replay`: its document, its words, its picture, and what it refuses."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.hull_cuts import hull_cuts
from cutset.adaptation.records import RecordWriter, header_of, line_of
from cutset.adaptation.replay_document import PolicyDocument
from cutset.cli import main as cli
from cutset.cli.replay import _oracle_beaten
from cutset.problem import Objective, Problem
from cutset.serde import read_cluster, read_workload

BYTES = (400_000, 200_000, 100_000, 50_000, 12_000, 4_000)
CLUSTER = """\
schema: cutset/cluster/1
source: pi
devices: {pi: {}, server: {}}
links: [{from: pi, to: server, bandwidth: 20Mbit/s, latency: 3ms, both: true}]
"""
TABLE = """\
time,bandwidth,load,lost
0,20Mbit/s,1,0
4,1Mbit/s,,
8,20Mbit/s,3,
12,,1,1
16,,,0
20,,,
"""
STEPS = ("steps:step=2s", "w.json")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_workload("w.json", 0.03)
    Path("cluster.yaml").write_text(CLUSTER)
    Path("t.csv").write_text(TABLE)


def write_workload(name: str, compute_s: float, last: str = "c5") -> None:
    names = [f"c{i}" for i in range(5)] + [last]
    tensors = {"x": 150_000} | {f"t{i}": size for i, size in enumerate(BYTES)}
    operators = [
        {
            "name": op,
            "inputs": [f"t{i - 1}" if i else "x"],
            "outputs": [f"t{i}"],
            "memory_bytes": 1_000_000,
            "compute_s": {"pi": compute_s, "server": 0.004},
        }
        for i, op in enumerate(names)
    ]
    document = {
        "schema": "cutset/workload/1",
        "name": "toy",
        "inputs": ["x"],
        "outputs": ["t5"],
        "tensors": tensors,
        "operators": operators,
    }
    Path(name).write_text(json.dumps(document))


def write_record(name: str = "r.jsonl") -> None:
    graph, cost = read_workload("w.json")
    cuts = hull_cuts(Problem(graph, read_cluster("cluster.yaml"), cost, Objective.LATENCY))
    with RecordWriter(name, header_of(cuts, graph.digest, "process")) as writer:
        for at_s, rate_bps, load in ((0, 20e6, 1.0), (3, 2e6, 1.0), (6, 20e6, 4.0), (9, 20e6, 1.0)):
            held = Conditions(rate_bps, rate_bps, 0.003, 0.003, load)
            writer.write(line_of(at_s, held, cuts.cuts[0].name))


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    status = cli.run(["replay", *arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.run(["replay", *arguments]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("error: ")
    return streams.err


def test_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = document(capsys, "t.csv", "w.json", "--noise", "0.1", "--seed", "4")
    assert status == 0
    assert found["simulated"] is True
    assert (found["trace"], found["duration_s"]) == ("t.csv", 24.0)
    assert (found["device"], found["server"]) == ("pi", "server")
    assert (found["cuts"][0], found["cuts"][-1], found["left_out"]) == ("local", "offload", [])
    assert (found["noise"], found["seed"], found["interval_s"]) == (0.1, 4, 0.0)
    assert (found["deadline_s"], found["fallback"], found["picture"]) == (None, False, None)
    by_name = {policy["policy"]: policy for policy in found["policies"]}
    assert list(by_name) == [
        "load-aware",
        "load-oblivious",
        "static local",
        "static offload",
        "oracle",
    ]
    oracle, aware = by_name["oracle"], by_name["load-aware"]
    assert oracle["regret"] == pytest.approx(0.0, abs=1e-9)
    assert 0 < aware["regret"] < by_name["static local"]["regret"]
    assert aware["regret_low"] <= aware["regret"] <= aware["regret_high"]
    assert aware["switches"][0].keys() == {"at_s", "from", "to", "reason"}
    assert all(switch["reason"] for switch in aware["switches"])
    assert by_name["static offload"]["switches"] == []
    assert aware["looked_up_bytes"] > 0 == oracle["looked_up_bytes"]


def test_the_same_seed_gives_the_same_document(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("t.csv", "w.json", "--policies", "load-aware", "--noise", "0.3", "--seed")
    first, again, other = (document(capsys, *options, seed)[1] for seed in ("1", "1", "2"))
    assert first == again
    assert first != other


def test_deadline_and_fallback(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("t.csv", "w.json", "--policies", "offload", "--deadline", "0.5")
    [late] = document(capsys, *options)[1]["policies"]
    [saved] = document(capsys, *options, "--fallback", "local")[1]["policies"]
    assert late["unanswered"] > 0 == late["fallbacks"]
    assert saved["unanswered"] == 0 < saved["fallbacks"]
    assert saved["fallback_share"] == saved["fallbacks"] / saved["requests"]


def test_a_record_needs_no_model(capsys: pytest.CaptureFixture[str]) -> None:
    write_record()
    Path("cluster.yaml").unlink()
    status, found = document(capsys, "r.jsonl", "--policies", "load-aware,oracle")
    assert status == 0
    assert found["trace"] == "r.jsonl"
    assert found["cuts"][0] == "local"
    assert found["policies"][0]["requests"] > 0


def test_a_record_of_the_same_model_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    write_record()
    status, _ = document(capsys, "r.jsonl", "w.json", "--policies", "load-aware")
    assert status == 0


def test_a_record_of_another_model_or_device_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_record()
    write_workload("other.json", 0.03, last="another")
    assert "r.jsonl: graph_digest: the record is of another model" in refused(
        capsys, "r.jsonl", "other.json"
    )
    Path("cluster.yaml").write_text(CLUSTER.replace("server", "cloud"))
    said = refused(capsys, "r.jsonl", "w.json")
    assert "r.jsonl: server: the record is of a device that the cluster does not have" in said


def test_words_say_that_it_is_simulated(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["replay", *STEPS, "--deadline", "5", "--policies", "local"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("simulated, nothing was run: steps, 14 s, ")
    [row] = [line for line in said.splitlines() if line.startswith("static local")]
    assert row.split()[2:6] == ["78", "180", "ms", "180"]
    assert "next: " in said
    assert "--deadline 5.0 -o timeline.svg" in said


def test_words_say_so_where_the_oracle_was_beaten() -> None:
    known = {
        "requests": 9,
        "unanswered": 0,
        "fallbacks": 0,
        "fallback_share": 0.0,
        "mean_s": 0.1,
        "p50_s": 0.1,
        "p95_s": 0.1,
        "looked_up_bytes": 0,
        "looked_down_bytes": 0,
        "looked_server_s": 0.0,
        "max_rel": None,
        "switches": (),
    }

    def policy(name: str, regret: float, low: float, high: float) -> PolicyDocument:
        return PolicyDocument(policy=name, regret=regret, regret_low=low, regret_high=high, **known)

    oracle = policy("oracle", 0.0, 0.0, 0.0)
    by_chance = policy("load-aware", -0.01, -0.03, 0.01)
    assert _oracle_beaten([oracle, by_chance]) == ""
    faster = policy("static local", -0.039, -0.056, -0.022)
    said = _oracle_beaten([by_chance, faster, oracle])
    assert said.startswith("static local beat the oracle by 3.9%: ")


def test_the_picture(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = document(capsys, *STEPS, "--duration", "5", "-o", "line.svg")
    assert (status, found["picture"], found["duration_s"]) == (0, "line.svg", 5.0)
    root = ET.parse("line.svg").getroot()
    said = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"simulated: steps", "load-aware", "oracle", "5 s"} <= said


def test_memory_limits_which_cuts_are_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    Path("cluster.yaml").write_text(CLUSTER.replace("pi: {}", "pi: {memory: 7MB}"))
    _, found = document(capsys, *STEPS, "--policies", "load-aware")
    assert found["left_out"]
    assert "local" in found["cuts"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.csv",), "none.csv: cannot be read"),
        (("markov:seed=1,duration=9s",), "TARGET: this trace says nothing about cuts"),
        (("markof:seed=1", "w.json"), "did you mean markov?"),
        (("markov:seed=1", "w.json"), "TRACE markov:duration: the option is missing"),
        ((*STEPS, "--policies", "load-awre"), "did you mean load-aware?"),
        ((*STEPS, "--policies", "local,static local"), "the policy is there twice"),
        ((*STEPS, "--policies", "cut:9"), "--policies: no such cut is loaded"),
        ((*STEPS, "--policies", ","), "from 1 to 16 policies"),
        ((*STEPS, "--fallback", "local"), "--fallback: a fallback needs a deadline"),
        ((*STEPS, "--deadline", "0"), "--deadline: "),
        ((*STEPS, "--deadline", "nan"), "--deadline: "),
        ((*STEPS, "--duration", "-1"), "--duration: "),
        ((*STEPS, "--interval", "inf"), "--interval: "),
        ((*STEPS, "--noise", "4"), "--noise: "),
        ((*STEPS, "--server", "servr"), "did you mean server?"),
        ((*STEPS, "-o", "none/line.svg"), "none/line.svg: cannot be written"),
        (("t.csv", "w.json", "-o", "t.csv"), "would overwrite a file"),
        ((*STEPS, "-o", "line.onnx"), "a timeline is an SVG picture"),
        (("w.json",), "w.json: line 1"),
        (("x" * 5000, "w.json"), "cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert said in refused(capsys, *arguments)


def test_a_table_with_a_bad_cell_names_line_and_column(capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.csv").write_text(TABLE.replace("4,1Mbit/s", "4,1Mbyte"))
    assert "t.csv: line 3, column bandwidth" in refused(capsys, "t.csv", "w.json")


def test_several_servers_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    devices = "devices: {pi: {}, a: {kind: server}, b: {kind: server}}"
    default = "default_link: {bandwidth: 20Mbit/s, latency: 3ms}"
    Path("cluster.yaml").write_text(f"schema: cutset/cluster/1\nsource: pi\n{devices}\n{default}\n")
    assert "name one of a, b" in refused(capsys, *STEPS)
    _, found = document(capsys, *STEPS, "--server", "b", "--policies", "local")
    assert found["server"] == "b"
    Path("cluster.yaml").write_text("schema: cutset/cluster/1\nsource: pi\ndevices: {pi: {}}\n")
    assert "no device beside the source" in refused(capsys, *STEPS)


def test_a_fallback_needs_a_cut_of_the_device_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("cluster.yaml").write_text(CLUSTER.replace("pi: {}", "pi: {memory: 3MB}"))
    said = refused(capsys, *STEPS, "--deadline", "1", "--fallback", "local")
    assert "--fallback: no loaded cut runs all on pi" in said
    _, found = document(capsys, *STEPS)
    assert "static local" not in [policy["policy"] for policy in found["policies"]]


@pytest.mark.parametrize("option", [("--noise", "0.1"), ("--seed", "0"), ("--interval", "1")])
def test_a_lab_refuses_what_is_of_simulated_time(
    capsys: pytest.CaptureFixture[str], option: tuple[str, str]
) -> None:
    assert option[0] in refused(capsys, "t.csv", "m.onnx", "--lab", *option)


def test_a_lab_needs_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    write_record()
    assert "which a record does not hold" in refused(capsys, "r.jsonl", "--lab")
    assert "which a trace does not hold" in refused(capsys, "t.csv", "--lab")
    assert "which a workload file does not hold" in refused(capsys, "t.csv", "w.json", "--lab")


def test_a_lab_is_not_made_for_a_trace_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no.csv" in refused(capsys, "no.csv", "m.onnx", "--lab")
    assert "markov:" in refused(capsys, "markov:sed=3", "m.onnx", "--lab")


def test_a_simulation_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    _, found = document(capsys, "t.csv", "w.json", "--policies", "oracle")
    assert (found["kind"], found["competitors"], found["interrupted"]) == ("simulated", [], False)
    assert found["policies"][0]["max_rel"] is None


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--cluster", "nope.yaml"),
        ("--profile", "p.json"),
        ("--server", "x"),
        ("--input-shape", "x=1"),
    ],
)
def test_a_record_alone_takes_no_options_of_models(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record()
    assert cli.run(["replay", "r.jsonl", option, value, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["field"] == option
    assert "MODEL" in error["remedy"]


def test_a_deadline_that_no_cut_meets_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["replay", *STEPS, "--deadline", "0.001", "--duration", "2"]) == 0
    assert "no request was answered" in capsys.readouterr().out
    assert cli.run(["replay", *STEPS, "--duration", "2"]) == 0
    assert "no request was answered" not in capsys.readouterr().out


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes in the file system")
@pytest.mark.parametrize("more", [[], ["--lab"]])
def test_a_pipe_is_refused_as_it_can_be_read_once(
    more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo("pipe")
    assert cli.run(["replay", "pipe", *more]) == 2
    assert "pipe: no regular file" in capsys.readouterr().err
