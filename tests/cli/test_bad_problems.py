"""Workloads and clusters that cannot be planned: refused by name, with file, field and remedy."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cutset.cli import main as cli

WORKLOAD: dict[str, Any] = {
    "schema": "cutset/workload/1",
    "inputs": ["x"],
    "outputs": ["y"],
    "tensors": {"x": 1000, "t": 500, "y": 20},
    "operators": [
        {
            "name": "conv",
            "inputs": ["x"],
            "outputs": ["t"],
            "memory_bytes": 1000,
            "compute_s": {"pi": 0.02, "server": 0.01},
        },
        {
            "name": "fc",
            "inputs": ["t"],
            "outputs": ["y"],
            "memory_bytes": 3000,
            "compute_s": {"pi": 0.2, "server": 0.01},
        },
    ],
}
LINK = "{from: pi, to: server, bandwidth: 20Mbit/s, latency: 3ms, both: true}"
CLUSTER = f"""\
schema: cutset/cluster/1
source: pi
devices: {{pi: {{}}, server: {{}}}}
links: [{LINK}]
"""
PLAN: dict[str, Any] = {
    "schema": "cutset/plan/1",
    "stages": [
        {"name": "s0", "device": "pi", "operators": ["conv"]},
        {"name": "s1", "device": "server", "operators": ["fc"]},
    ],
}

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("w.json").write_text(json.dumps(WORKLOAD))
    Path("cluster.yaml").write_text(CLUSTER)
    Path("p.json").write_text(json.dumps(PLAN))
    return tmp_path


def rewrite(file: str, change: Change) -> None:
    document = copy.deepcopy(json.loads(Path(file).read_text()))
    change(document)
    Path(file).write_text(json.dumps(document))


def refused(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, dict[str, str | None]]:
    status = cli.run([*arguments, "--json"])
    captured = capsys.readouterr()
    assert captured.err == ""
    error = json.loads(captured.out)["error"]
    assert error["remedy"]
    assert cli.run(arguments) == status
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    return status, error


def operator(i: int, **fields: object) -> Change:
    return lambda w: w["operators"][i].update(fields)


def both(*changes: Change) -> Change:
    return lambda w: [change(w) for change in changes]


WORKLOADS: dict[str, tuple[Change, int, str, str]] = {
    # what is done to it -> status, field, what else must be named
    "a cycle": (operator(0, inputs=["x", "y"]), 2, "operators", "fc -> conv -> fc"),
    "an operator that reads itself": (operator(0, inputs=["t"]), 2, "operators", "conv -> conv"),
    "an unknown tensor": (operator(1, inputs=["t", "q"]), 2, "operators.fc", "'q'"),
    "a tensor that nothing makes": (
        both(lambda w: w["tensors"].update(q=1), operator(1, inputs=["t", "q"])),
        2,
        "operators.fc.inputs",
        "'q'",
    ),
    "an output that nothing makes": (
        both(lambda w: w["tensors"].update(q=1), lambda w: w["outputs"].append("q")),
        2,
        "outputs",
        "'q'",
    ),
    "an operator no device can run": (
        operator(1, compute_s={"gpu": 0.1}),
        3,
        "operators.fc.compute_s",
        "no cost for pi, server",
    ),
    "no time at all": (operator(1, compute_s={}), 3, "operators.fc.compute_s", "no cost for pi"),
    "NaN": (
        operator(1, compute_s={"pi": float("nan")}),
        2,
        "operators[1].compute_s.pi",
        "NaN",
    ),
    "infinity": (
        operator(1, compute_s={"pi": float("inf")}),
        2,
        "operators[1].compute_s.pi",
        "Infinity",
    ),
    "a negative time": (
        operator(1, compute_s={"pi": -1}),
        2,
        "operators.fc.compute_s.pi",
        "-1 seconds",
    ),
    "negative bytes": (lambda w: w["tensors"].update(t=-5), 2, "tensors.t", "-5 bytes"),
    "parts of bytes": (lambda w: w["tensors"].update(t=1.5), 2, "tensors.t", "1.5"),
    "negative memory": (operator(0, memory_bytes=-1), 2, "operators.conv.memory_bytes", "-1 bytes"),
}


@pytest.mark.parametrize("case", WORKLOADS)
def test_a_bad_workload(case: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, status, field, named = WORKLOADS[case]
    rewrite("w.json", change)
    found, error = refused(capsys, "plan", "w.json")
    assert (found, error["file"], error["field"]) == (status, "w.json", field)
    assert named in str(error)


CLUSTERS: dict[str, tuple[str, str, int, str, str]] = {
    # old text, new text -> status, field, what else must be named
    "no bandwidth": ("20Mbit/s", "0Mbit/s", 2, "links[0].bandwidth", "0Mbit/s"),
    "a negative bandwidth": ("20Mbit/s", "-20Mbit/s", 2, "links[0].bandwidth", "not negative"),
    "a bandwidth of NaN": ("20Mbit/s", ".nan", 2, "links[0].bandwidth", "finite"),
    "an endless bandwidth": ("20Mbit/s", ".inf", 2, "links[0].bandwidth", "finite"),
    "a negative latency": ("3ms", "-3ms", 2, "links[0].latency", "not negative"),
    "an egress of nothing": ("pi: {}", "pi: {egress: 0}", 2, "devices.pi.egress", "more than 0"),
    "no rate anywhere": ("bandwidth: 20Mbit/s, ", "", 2, "links.pi>server.bandwidth", "state it"),
    "no path from source to sink": (
        f"[{LINK}]",
        "[]\nsink: server",
        3,
        "links",
        "no link from 'pi' to 'server'",
    ),
    "no way back": (
        f"source: pi\ndevices: {{pi: {{}}, server: {{}}}}\nlinks: [{LINK}]",
        "source: pi\ndevices: {pi: {memory: 2kB}, server: {}}\n"
        "links: [{from: pi, to: server, bandwidth: 1Mbit/s}]",
        3,
        "links",
        "no link from 'server' to 'pi'",
    ),
    "too little memory": (
        "{pi: {}, server: {}}",
        "{pi: {memory: 900B}, server: {memory: 2kB}}",
        3,
        "devices.server.memory",
        "1000 bytes and 100 bytes short",
    ),
    "too little memory by one byte": (
        "{pi: {}, server: {}}",
        "{pi: {memory: 1kB}, server: {memory: 2999B}}",
        3,
        "devices.server.memory",
        "1 bytes short",
    ),
}


@pytest.mark.parametrize("case", CLUSTERS)
def test_a_bad_cluster(case: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, status, field, named = CLUSTERS[case]
    text = Path("cluster.yaml").read_text()
    assert old in text
    Path("cluster.yaml").write_text(text.replace(old, new))
    found, error = refused(capsys, "plan", "w.json")
    assert (found, error["file"], error["field"]) == (status, "cluster.yaml", field)
    assert named in str(error)


def crossed(w: dict[str, Any]) -> None:
    """Two chains, 1 to 2 and 3 to 4, in one workload."""
    w["tensors"] = dict.fromkeys(("x", "a", "b", "c", "d"), 10)
    w["outputs"] = ["b", "d"]
    w["operators"] = [
        {"name": n, "inputs": [i], "outputs": [o], "compute_s": {"pi": 0.1, "server": 0.1}}
        for n, i, o in (("1", "x", "a"), ("2", "a", "b"), ("3", "x", "c"), ("4", "c", "d"))
    ]


def moves(**fields: object) -> Change:
    right = {"tensor": "t", "rows": None, "from": "s0", "to": "s1", "bytes": 500}
    return lambda p: p.update(transfers=[right | fields])


PLANS: dict[str, tuple[Change, str, str]] = {
    "of another graph": (lambda p: p.update(graph_digest="f" * 64), "graph_digest", "ffff"),
    "out of order": (lambda p: p["stages"].reverse(), "stages[0]", "topological order"),
    "an unknown device": (
        lambda p: p["stages"][1].update(device="sever"),
        "stages[1].device",
        "devices are pi, server",
    ),
    "an unknown operator": (
        lambda p: p["stages"][1]["operators"].append("pool"),
        "stages[1].operators",
        "pool",
    ),
    "an operator twice": (
        lambda p: p["stages"][1]["operators"].append("conv"),
        "stages[1].operators",
        "conv",
    ),
    "an operator missing": (lambda p: p["stages"].pop(), "stages", "fc"),
    "a device misspelt": (
        lambda p: p["stages"][1].update(device="sever"),
        "stages[1].device",
        "did you mean server?",
    ),
    "a tile": (
        lambda p: p["stages"][1].update(tile={"y": [0, 4]}),
        "stages[1].tile",
        "y: [0, 4)",
    ),
    "a transfer of no tensor": (moves(tensor="q"), "transfers[0].tensor", "'q'"),
    "a transfer from no stage": (moves(**{"from": "s9"}), "transfers[0].from", "stages are s0, s1"),
    "a transfer to no stage": (moves(to="s9"), "transfers[0].to", "'s9'"),
    "a transfer of another's tensor": (moves(tensor="x"), "transfers[0].from", "own input"),
    "a transfer to who does not read it": (moves(to=None), "transfers[0].to", "is no result"),
    "a transfer of other bytes": (moves(bytes=499), "transfers[0].bytes", "499 bytes"),
}


@pytest.mark.parametrize("case", PLANS)
def test_a_bad_plan(case: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, field, named = PLANS[case]
    rewrite("p.json", change)
    status, error = refused(capsys, "evaluate", "w.json", "p.json")
    assert (status, error["file"], error["field"]) == (2, "p.json", field)
    assert named in str(error)
    assert refused(capsys, "simulate", "w.json", "p.json") == (status, error)


def test_right_transfers_are_none_too_many(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite("p.json", moves())
    assert cli.run(["evaluate", "w.json", "p.json", "--json"]) == 0


def test_comparing_what_cannot_be_planned_names_the_file(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite("w.json", operator(1, compute_s={"gpu": 0.1}))
    status, error = refused(capsys, "compare", "w.json")
    assert (status, error["file"], error["field"]) == (3, "w.json", "operators.fc.compute_s")


def test_stages_that_cycle_though_each_is_convex(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite("w.json", crossed)
    stages = [
        {"name": "s0", "device": "pi", "operators": ["1", "4"]},
        {"name": "s1", "device": "server", "operators": ["2", "3"]},
    ]
    for listed in (stages, stages[::-1]):
        rewrite("p.json", lambda p, listed=listed: p.update(stages=listed))  # type: ignore[misc]
        status, error = refused(capsys, "evaluate", "w.json", "p.json")
        assert (status, error["file"]) == (2, "p.json")
        assert "form a cycle" in str(error["message"])


def test_parts_that_share_nothing_are_refused_and_named(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def apart(w: dict[str, Any]) -> None:
        w["tensors"].update(u=10, v=10)
        w["inputs"].append("u")
        other = {"name": "other", "inputs": ["u"], "outputs": ["v"], "compute_s": {"pi": 0.5}}
        w["operators"].append(other)

    rewrite("w.json", apart)
    status, error = refused(capsys, "plan", "w.json")
    assert (status, error["file"], error["field"]) == (2, "w.json", "operators")
    assert error["value"] == "'conv', 'other'"
    assert "2 parts that share no tensor" in str(error["message"])


def test_an_operator_that_leads_nowhere_is_paid_for(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def more(w: dict[str, Any]) -> None:
        w["tensors"].update(v=10)
        other = {"name": "o", "inputs": ["x"], "outputs": ["v"], "compute_s": {"pi": 0.5}}
        w["operators"].append(other)

    rewrite("w.json", more)
    assert cli.run(["plan", "w.json", "--objective", "throughput", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value_s"] >= 0.5


@pytest.mark.parametrize("name", ["w.json", "cluster.yaml", "./w.json", "link.json"])
@pytest.mark.parametrize("command", ["plan", "compare"])
def test_what_a_command_reads_is_not_overwritten(
    command: str, name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("link.json").symlink_to("w.json")
    before = [Path(file).read_bytes() for file in ("w.json", "cluster.yaml")]
    status, error = refused(capsys, command, "w.json", "-o", name)
    assert (status, error["file"]) == (2, str(Path(name)))
    assert "reads" in str(error["message"])
    assert before == [Path(file).read_bytes() for file in ("w.json", "cluster.yaml")]


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "w.json", "-o"),
        ("compare", "w.json", "-o"),
        ("simulate", "w.json", "p.json", "--trace"),
        ("conformance", "single_device", "-o"),
        ("attach", "m.onnx", "--pre", "uint8", "-o"),
    ],
)
def test_no_folder_is_made_for_an_output(
    arguments: tuple[str, ...], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, error = refused(capsys, *arguments, "missing/file.json")
    assert (status, error["message"]) == (2, "cannot be written: its folder does not exist")
    assert not Path("missing").exists()
