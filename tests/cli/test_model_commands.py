"""Commands on real ONNX files."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from cutset.cli import main as cli


@pytest.fixture
def model(tmp_path: Path) -> Path:
    nodes = [
        helper.make_node("Relu", ["image"], ["a"], name="first"),
        helper.make_node("Neg", ["a"], ["b"], name="second"),
        helper.make_node("Softmax", ["b"], ["y"], name="third", axis=1),
    ]
    shape = [1, 3, 4, 4]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "tiny.onnx"
    onnx.save(made, path)
    return path


def test_inspect_and_attach(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["inspect", str(model), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["inputs"] == [
        {"name": "image", "bytes": 192, "shape": [1, 3, 4, 4], "dtype": "float32"}
    ]
    assert len(found["graph_digest"]) == 64
    out = model.with_name("raw.onnx")
    assert cli.run(["attach", str(model), "--pre", "uint8,hwc,scale=1/255", "-o", str(out)]) == 0
    capsys.readouterr()
    assert cli.run(["inspect", str(out), "--json"]) == 0
    attached = json.loads(capsys.readouterr().out)
    assert (attached["inputs"][0]["dtype"], attached["inputs"][0]["bytes"]) == ("uint8", 48)


def test_planning_a_model_takes_its_own_times_only(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    Path("cluster.yaml").write_text(
        "schema: cutset/cluster/1\nsource: pi\ndevices: {pi: {}, server: {}}\n"
        "default_link: {bandwidth: 1Mbit/s}\n"
    )
    Path("p.json").write_text(json.dumps({"schema": "cutset/profile/1", "graph_digest": "other"}))
    assert cli.run(["plan", str(model), "--profile", "p.json", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["field"] == "graph_digest"
    assert cli.run(["inspect", str(model), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    times = [
        {"kind": k, "engine": "cpu", "threads": 1, "operator": op["name"], "latency_s": t}
        for k, t in (("pi", 1.0), ("server", 0.1))
        for op in found["operators"]
    ]
    Path("p.json").write_text(
        json.dumps(
            {
                "schema": "cutset/profile/1",
                "graph_digest": found["graph_digest"],
                "measurements": times,
            }
        )
    )
    assert cli.run(["plan", str(model), "--profile", "p.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["proof"] == "optimal"


@pytest.mark.parametrize("content", [b"", b"\x00\x01junk", b"\x08\x07"])
def test_what_is_no_model(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    assert cli.run(["inspect", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
