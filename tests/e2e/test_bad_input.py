"""Bad input on every side of `run` and `plan`: one document that says what is wrong, no traceback.

The status is that of docs/formats.md; what can be known before a device starts is said before.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import plans
import pytest

from cutset import api, zoo
from cutset.cli import main as cli

Change = Callable[[], object]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    onnx.save(zoo.build("squeezenet", side=64, width=0.25), str(folder / "m.onnx"))
    names = plans.operator_names(api.load(folder / "m.onnx"))
    middle = len(names) // 2
    plans.write_plan(folder / "p.json", [("pi", names[:middle]), ("server", names[middle:])])
    (folder / "c.yaml").write_text(plans.CLUSTER)
    np.save(folder / "x.npy", np.zeros((1, 3, 64, 64), np.float32))
    return folder


@pytest.fixture
def here(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for file in files.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def model(change: Callable[[onnx.ModelProto], object]) -> Change:
    def apply() -> None:
        proto = onnx.load("m.onnx")
        change(proto)
        onnx.save(proto, "m.onnx")

    return apply


def plan(change: Callable[[dict[str, Any]], object]) -> Change:
    def apply() -> None:
        document = json.loads(Path("p.json").read_text())
        change(document)
        Path("p.json").write_text(json.dumps(document))

    return apply


def text(file: str, old: str, new: str) -> Change:
    def apply() -> None:
        before = Path(file).read_text()
        assert old in before
        Path(file).write_text(before.replace(old, new))

    return apply


def array(shape: tuple[int, ...], dtype: str = "float32") -> Change:
    return lambda: np.save("x.npy", np.zeros(shape, dtype))


def truncate() -> None:
    Path("m.onnx").write_bytes(Path("m.onnx").read_bytes()[:100_000])


def dynamic(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "h"


def opset(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version = 99


def operator(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].op_type = "Convolution"


def dangling(proto: onnx.ModelProto) -> None:
    proto.graph.node[3].input[0] = "nowhere"


ENDPOINT = "server: {endpoint: tcp/127.0.0.1:9, "
BAD: dict[str, tuple[Change, int, str, str]] = {
    # what is done to the files -> status, code, what must be named
    "no model": (lambda: Path("m.onnx").unlink(), 2, "invalid_model", "m.onnx"),
    "a truncated model": (truncate, 2, "invalid_model", "truncated"),
    "no model at all": (
        lambda: Path("m.onnx").write_text("hello"),
        2,
        "invalid_model",
        "not an ONNX model",
    ),
    "an operator set of the future": (model(opset), 2, "invalid_model", "99"),
    "an unknown operator": (model(operator), 2, "invalid_model", "Convolution"),
    "a tensor from nowhere": (model(dangling), 2, "invalid_model", "nowhere"),
    "a dynamic shape": (model(dynamic), 2, "invalid_model", "--input-shape image="),
    "no input file": (lambda: Path("x.npy").unlink(), 2, "invalid_file", "x.npy"),
    "a damaged input": (lambda: Path("x.npy").write_bytes(b"\x93NUMPY"), 2, "invalid_file", "npy"),
    "another dtype": (array((1, 3, 64, 64), "float64"), 2, "invalid_file", "float64"),
    "another shape": (array((1, 3, 32, 64)), 2, "invalid_file", "1x3x32x64"),
    "no requests": (array((0, 1, 3, 64, 64)), 2, "invalid_file", "image: 0"),
    "no plan": (lambda: Path("p.json").unlink(), 2, "invalid_file", "p.json"),
    "an unknown device": (
        plan(lambda p: p["stages"][1].update(device="sever")),
        2,
        "invalid_file",
        "sever",
    ),
    "a plan for another graph": (
        plan(lambda p: p.update(graph_digest="f" * 64)),
        2,
        "invalid_file",
        "graph_digest",
    ),
    "stages out of order": (plan(lambda p: p["stages"].reverse()), 2, "invalid_file", "cycle"),
    "a forgotten operator": (
        plan(lambda p: p["stages"][0]["operators"].pop()),
        2,
        "invalid_file",
        "in no stage",
    ),
    "a tile": (
        plan(lambda p: p["stages"][0].update(tile={"image": [0, 4]})),
        2,
        "unsupported_problem",
        "tile",
    ),
    "NaN in a plan": (
        text("p.json", '"operators"', '"x": NaN, "operators"'),
        2,
        "invalid_file",
        "NaN",
    ),
    "no cluster": (lambda: Path("c.yaml").unlink(), 2, "invalid_file", "c.yaml"),
    "NaN in a cluster": (text("c.yaml", "10Gbit/s", ".nan"), 2, "invalid_file", "bandwidth"),
    "a misspelt field": (text("c.yaml", "latency", "latencey"), 2, "invalid_file", "mean latency"),
    "no threads": (text("c.yaml", "threads: 1", "threads: 0"), 2, "invalid_file", "threads"),
    "an absent provider": (
        text("c.yaml", "threads: 1", "provider: cuda9"),
        2,
        "usage",
        "cuda9",
    ),
    "no link": (
        text("c.yaml", "default_link: {bandwidth: 10Gbit/s, latency: 0s}", "links: []"),
        2,
        "unsupported_problem",
        "pi>server",
    ),
    "too little memory": (
        text("c.yaml", "server: {", "server: {memory: 1MiB, "),
        3,
        "infeasible",
        "bytes short",
    ),
    "a malformed endpoint": (
        text("c.yaml", "server: {", "server: {endpoint: 127.0.0.1, "),
        2,
        "usage",
        "tcp/HOST:PORT",
    ),
    "an unreachable endpoint": (
        text("c.yaml", "server: {", ENDPOINT),
        1,
        "transport",
        "cutset worker server --listen tcp/127.0.0.1:9",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file(case: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, status, code, named = BAD[case]
    change()
    command = ["run", "m.onnx", "--cluster", "c.yaml", "--plan", "p.json", "--input", "x.npy"]
    assert cli.run([*command, "--json"]) == status
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert error["code"] == code
    assert named in json.dumps(error)
    assert error["message"]
    assert error["remedy"]
    assert "Traceback" not in captured.err
    assert "/tmp/cutset-" not in captured.out  # files of ours mean nothing to the user


STRATEGY = "class S:\n    info = None\n    def __call__(self, problem, budget):\n        "


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        (STRATEGY + "raise ValueError('boom')\n", 1, "'mine' failed: ValueError: boom"),
        (STRATEGY + "raise SystemExit(0)\n", 1, "'mine' failed: SystemExit"),
        (STRATEGY + "return 42\n", 1, "'mine' returned no Proposal"),
        ("class S(:\n", 2, "SyntaxError"),
        ("import no_such_module\n", 2, "no_such_module"),
        ("class Other: pass\n", 2, "no such class"),
        ("class S: pass\n", 2, "not a strategy"),
    ],
)
def test_a_bad_strategy_file(
    body: str, status: int, named: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.py").write_text(body)
    workload = {
        "schema": "cutset/workload/1",
        "name": "w",
        "inputs": ["x"],
        "outputs": ["y"],
        "tensors": {"x": 10, "y": 10},
        "operators": [
            {
                "name": "a",
                "inputs": ["x"],
                "outputs": ["y"],
                "memory_bytes": 1,
                "compute_s": {"pi": 1.0, "server": 0.1},
            }
        ],
    }
    Path("w.json").write_text(json.dumps(workload))
    command = ["plan", "w.json", "--cluster", "c.yaml", "--strategy", "./mine.py:S", "--json"]
    assert cli.run(command) == status
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert named in json.dumps(error)
    assert error["remedy"]
    assert captured.err == ""


@pytest.mark.parametrize("target", ["no/such/folder/out", "."])
def test_an_output_that_cannot_be_written_is_said_at_once(
    target: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "load", lambda *_: pytest.fail("work was begun"))
    for command in (
        ["run", "m.onnx", "--cluster", "c.yaml", "--plan", "p.json"],
        ["profile", "m.onnx"],
    ):
        assert cli.run([*command, "--output", target, "--json"]) == 2
        error = json.loads(capsys.readouterr().out)["error"]
        assert error["message"].startswith("cannot be written")


@pytest.mark.parametrize(
    "options",
    [
        ("--duration", "nan"),
        ("--rtol", "nan"),
        ("--deadline", "nan"),
        ("--deadline", "inf"),
        ("--requests", "0"),
        ("--in-flight", "0"),
        ("--time-limit", "nan"),
        ("--strategy", "magic"),
        ("--input-shape", "image"),
    ],
    ids=" ".join,
)
def test_senseless_options(
    options: tuple[str, str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["run", "m.onnx", "--cluster", "c.yaml", *options, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"
