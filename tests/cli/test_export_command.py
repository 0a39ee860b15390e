"""`cutset export`: planning the exported workload gives what planning the model gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cutset
from cutset.cli import main as cli
from cutset.problem import Problem
from cutset.profiles import (
    DeviceMeasurement,
    LinkMeasurement,
    Measurement,
    MemoryMeasurement,
    Profile,
    resolve,
)
from cutset.serde import read_cluster, read_profile, read_workload, write_profile

CLUSTER = """\
schema: cutset/cluster/1
source: pi
devices: {pi: {memory: 30MB}, server: {memory: 120MB}}
links: [{from: pi, to: server, both: true}]
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> cutset.Model:
    """Two matrix products of 4 MB of weights each; a profile and a cluster beside it."""
    weights = [
        numpy_helper.from_array(np.full((1000, 1000), 0.001, np.float32), name)
        for name in ("v", "w")
    ]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "v"], ["a"], name="first"),
            helper.make_node("Relu", ["a"], ["b"], name="second"),
            helper.make_node("MatMul", ["b", "w"], ["y"], name="third"),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1000])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1000])],
        weights,
    )
    monkeypatch.chdir(tmp_path)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, "tiny.onnx")
    loaded = cutset.load("tiny.onnx")
    Path("cluster.yaml").write_text(CLUSTER)
    times = tuple(
        Measurement(kind, "cpu", 1, op.name, seconds / (i + 1))
        for kind, seconds in (("pi", 0.1), ("server", 0.01), ("other", 0.5))
        for i, op in enumerate(loaded.graph.operators)
    )
    write_profile(
        "p.json",
        Profile(
            loaded.graph.digest,
            times,
            links=(
                LinkMeasurement("pi", "server", 2e7, 1e-3),
                LinkMeasurement("server", "pi", 1e7, 2e-3),
            ),
            devices=(DeviceMeasurement("pi", 1e-4), DeviceMeasurement("server", 2e-4)),
            memory=tuple(
                MemoryMeasurement(kind, "cpu", stage, factor)
                for kind, stage, factor in (
                    ("pi", 9_000_000, 2.0),
                    ("server", 11_000_000, 1.5),
                    ("other", 50_000_000, 4.0),
                )
            ),
        ),
    )
    return loaded


@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_round_trip(
    objective: str, model: cutset.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--cluster", "cluster.yaml", "--profile", "p.json"]
    assert cli.run(["export", "tiny.onnx", *options, "-o", "w.json"]) == 0
    assert "cutset compare w.json" in capsys.readouterr().out
    found = []
    for target in ("tiny.onnx", "w.json"):
        assert cli.run(["plan", target, *options, "--objective", objective, "--json"]) == 0
        plan = json.loads(capsys.readouterr().out)
        assert plan["graph_digest"] == model.graph.digest
        del plan["elapsed_s"]
        for family in plan["families"]:
            del family["elapsed_s"]
        found.append(plan)
    assert found[0] == found[1]
    assert found[0]["estimate"]["memory_bytes"]["server"] > 11_000_000


def test_a_plan_of_either_is_taken_for_both(
    model: cutset.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--cluster", "cluster.yaml", "--profile", "p.json"]
    assert cli.run(["export", "tiny.onnx", *options, "-o", "w.json"]) == 0
    for made_for in ("tiny.onnx", "w.json"):
        assert cli.run(["plan", made_for, *options, "-o", "plan.json"]) == 0
        for target in ("tiny.onnx", "w.json"):
            assert cli.run(["evaluate", target, "plan.json", *options]) == 0, (made_for, target)
    changed = json.loads(Path("w.json").read_text()) | {"model_digest": "0" * 64}
    Path("w.json").write_text(json.dumps(changed))
    assert cli.run(["plan", "w.json", *options, "-o", "plan.json"]) == 0
    capsys.readouterr()
    assert cli.run(["evaluate", "tiny.onnx", "plan.json", *options]) == 2
    assert "made for another graph" in capsys.readouterr().err


def test_without_a_cluster_every_measured_kind_is_there(model: cutset.Model) -> None:
    document = cutset.export(model, "p.json")
    assert document.stage_memory_bytes == 50_000_000
    assert all(set(op.compute_s) == {"other", "pi", "server"} for op in document.operators)
    narrow = cutset.export(model, "p.json", cluster="cluster.yaml")
    assert narrow.stage_memory_bytes == 11_000_000
    assert all(set(op.compute_s) == {"pi", "server"} for op in narrow.operators)


def test_strategies_are_compared_from_python(model: cutset.Model) -> None:
    found = cutset.compare(model, "cluster.yaml", "p.json", strategies=["auto"], time_limit_s=10)
    assert isinstance(found, cutset.Comparison)
    assert found.best is not None
    again = cutset.solve(model, "cluster.yaml", "p.json")
    assert found.best.value_s == pytest.approx(again.value_s)


def test_everything_that_planning_reads_is_kept(model: cutset.Model) -> None:
    cutset.export(model, "p.json", "w.json", cluster="cluster.yaml")
    graph, cost = read_workload("w.json")
    devices = resolve(read_cluster("cluster.yaml"), read_profile("p.json"))
    again = Problem(graph, devices, cost)
    stated = cutset.api.problem(model, "cluster.yaml", "p.json")
    assert [op.weight_bytes for op in graph.operators] == [
        op.weight_bytes for op in model.graph.operators
    ]
    for name in ("pi", "server"):
        assert again.compute_s(name) == stated.compute_s(name)
    assert graph.tensors == stated.graph.tensors
    assert [op.memory_bytes for op in graph.operators] == [
        op.memory_bytes for op in stated.graph.operators
    ]
    assert graph.stage_memory_bytes == stated.graph.stage_memory_bytes


def test_to_standard_output_it_is_the_workload_alone(
    model: cutset.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["export", "tiny.onnx", "--profile", "p.json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "cutset/workload/1"


def test_without_a_profile_this_machine_is_measured(
    model: cutset.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["export", "tiny.onnx"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(set(op["compute_s"]) == {"local"} for op in found["operators"])


def test_another_models_profile_is_refused(
    model: cutset.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    write_profile("other.json", Profile("another"))
    assert cli.run(["export", "tiny.onnx", "--profile", "other.json", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["field"] == "graph_digest"


def test_a_workload_that_states_no_stage_memory_keeps_its_digest() -> None:
    from cutset.serde import parse_workload

    text = b'{"schema": "cutset/workload/1", "inputs": [], "outputs": ["y"], "tensors": {"y": 0},'
    text += b' "operators": [{"name": "a", "inputs": [], "outputs": ["y"], "compute_s": {"k": 1}}]}'
    # The digest that plan files of this workload hold.
    assert parse_workload(text)[0].digest.startswith("e3e90170b8bd4cd111f8d8a8")
