"""Documents say what is: the example strategy runs, the examples of files can be read."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

import cutset
from cutset.cli import main as cli
from cutset.serde import (
    json_schemas,
    parse_profile,
    parse_workload,
    plan_document,
    read_cluster,
    read_plan,
)

ROOT = Path(__file__).parent.parent


def examples(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text("utf-8"), re.S)


def conforms(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """The part of JSON Schema that ours use."""
    if "$ref" in schema:
        return conforms(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        return any(conforms(value, s, root) for s in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "null": type(None),
        "integer": int,
        "number": (int, float),
    }
    kind = schema["type"]
    if not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return False
    if kind == "object":
        named, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
        return all(name in value for name in schema.get("required", ())) and all(
            conforms(v, named[k], root)
            if k in named
            else rest is True or (rest is not False and conforms(v, rest, root))
            for k, v in value.items()
        )
    if kind == "array" and isinstance(schema.get("items"), dict):
        return all(conforms(v, schema["items"], root) for v in value)
    return True


def by_schema(name: str) -> Any:
    texts = [t for t in examples("docs/formats.md", "json") if f"cutset/{name}/1" in t]
    assert len(texts) == 1
    return json.loads(texts[0])


def test_schema_files_are_in_sync() -> None:
    for name, schema in json_schemas().items():
        stored = json.loads((ROOT / "src/cutset/schemas" / f"{name}.json").read_text("utf-8"))
        assert stored == json.loads(json.dumps(schema)), (
            "run `python -m cutset.serde.schemas src/cutset/schemas`"
        )


@pytest.mark.parametrize("name", ["workload", "plan", "profile"])
def test_examples_of_json_files_conform_and_broken_ones_do_not(name: str) -> None:
    schema, value = json_schemas()[name], by_schema(name)
    assert conforms(value, schema, schema)
    assert not conforms(value | {"schema": "cutset/other/1"}, schema, schema)
    for field in schema["$defs"][schema["$ref"].rpartition("/")[2]]["required"]:
        assert not conforms({k: v for k, v in value.items() if k != field}, schema, schema)


def test_examples_of_files_are_read(tmp_path: Path) -> None:
    import yaml

    (text,) = examples("docs/formats.md", "yaml")
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    cluster = read_cluster(path)
    assert [d.name for d in cluster.devices] == ["pi", "server"]
    assert cluster.by_name["pi"].cpu_share == 0.25
    schema = json_schemas()["cluster"]
    assert conforms(yaml.safe_load(text), schema, schema)
    assert parse_profile(json.dumps(by_schema("profile")).encode()).links[0].source == "pi"
    (tmp_path / "plan.json").write_text(json.dumps(by_schema("plan")))
    assert read_plan(tmp_path / "plan.json").stages[0].operators == ("conv1",)
    toy = by_schema("workload")
    toy["outputs"] = ["t1"]  # the example shows its first operator only
    assert parse_workload(json.dumps(toy).encode())[0].outputs == ("t1",)


WORKLOAD = {
    "schema": "cutset/workload/1",
    "inputs": ["x"],
    "outputs": ["y"],
    "tensors": {"x": 1000, "a": 500, "b": 20, "y": 300},
    "operators": [
        {"name": n, "inputs": [i], "outputs": [o], "compute_s": {"pi": 0.1, "server": 0.01}}
        for n, i, o in (("1", "x", "a"), ("2", "a", "b"), ("3", "b", "y"))
    ],
}


def write_strategy(document: str, file: str) -> None:
    """The document's strategy as a file here, beside a workload and a cluster."""
    (code,) = examples(document, "python")
    Path(file).write_text(code)
    Path("workload.json").write_text(json.dumps(WORKLOAD))
    Path("cluster.yaml").write_text(
        "schema: cutset/cluster/1\nsource: pi\ndevices: {pi: {}, server: {}}\n"
        "default_link: {bandwidth: 1Mbit/s}\n"
    )


def test_the_example_strategy_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_strategy("CONTRIBUTING.md", "fewest_bytes.py")
    strategy = "./fewest_bytes.py:FewestBytes"
    assert cli.run(["plan", "workload.json", "--strategy", strategy, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [s["operators"] for s in found["stages"]] == [["1", "2"], ["3"]]
    assert found["proof"] == "none"
    conformance = ["conformance", strategy, "--seeds", "30", "--json"]
    assert cli.run(conformance) in (0, 1)
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert [c["message"] for c in checks if c["result"] == "fail"] == []


def test_the_guides_strategy_is_compared_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_strategy("docs/planning.md", "fastest.py")
    options = ["--strategies", "auto", "--strategy", "./fastest.py:Fastest", "--json"]
    assert cli.run(["compare", "workload.json", *options]) == 0
    rows = {r["strategy"]: r for r in json.loads(capsys.readouterr().out)["strategies"]}
    assert rows["fastest.py:Fastest"]["devices"] == ["server"]
    assert cli.run(["conformance", "./fastest.py:Fastest", "--seeds", "30"]) == 0


def test_what_plan_writes_conforms(tmp_path: Path) -> None:
    from cutset.planner import solve
    from cutset.problem import Problem
    from cutset.profiles import resolve
    from cutset.serde import parse_cluster, to_json

    graph, cost = parse_workload(json.dumps(WORKLOAD).encode())
    cluster = parse_cluster(
        {
            "schema": "cutset/cluster/1",
            "source": "pi",
            "devices": {"pi": {}, "server": {}},
            "default_link": {"bandwidth": "1Mbit/s"},
        }
    )
    solution = solve(Problem(graph, resolve(cluster, None), cost))
    schema = json_schemas()["plan"]
    written = json.loads(to_json(plan_document(solution, graph, cluster)))
    assert conforms(written, schema, schema)


def test_every_command_is_in_the_contract() -> None:
    text = (ROOT / "docs/formats.md").read_text("utf-8")
    for command in cli.COMMANDS:
        assert f"`cutset {command}" in text


def commands_of(document: str) -> list[list[str]]:
    """What a document tells its reader to type, without comments and paths to the program."""
    lines = [line for text in examples(document, "console") for line in text.splitlines()]
    split = [shlex.split(line, comments=True) for line in lines]
    return [words[1:] for words in split if words and words[0].rpartition("/")[2] == "cutset"]


DOCUMENTS = sorted(
    ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
)


def test_functions_in_documents_are_there_after_import_cutset() -> None:
    named = {
        name
        for document in DOCUMENTS
        for name in re.findall(r"\bcutset\.([\w.]+)\(", (ROOT / document).read_text("utf-8"))
    }
    assert "compare" in named
    assert named <= set(cutset.__all__)


@pytest.mark.parametrize(
    "document", [name for name in DOCUMENTS if "cutset " in "".join(examples(name, "console"))]
)
def test_commands_in_documents_are_understood(document: str) -> None:
    group = typer.main.get_command(cli.make_app())
    typed = commands_of(document)
    assert typed
    for words in typed:
        # Parses the options without running anything; an unknown one raises.
        with group.make_context("cutset", list(words)) as context:
            name, command, rest = group.resolve_command(context, words)  # type: ignore[attr-defined]
            command.make_context(name, rest).close()


def test_the_boards_of_the_guide_can_be_planned_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    from cutset import api, zoo
    from cutset.profiles import LinkMeasurement, Measurement, Profile
    from cutset.serde import write_profile

    monkeypatch.chdir(tmp_path)
    (cluster_file,) = examples("docs/deploy.md", "yaml")
    Path("cluster.yaml").write_text(cluster_file)
    cluster = read_cluster("cluster.yaml")
    assert len(cluster.devices) == 5
    onnx.save(zoo.build("squeezenet", side=48, width=0.25), "MODEL.onnx")
    model = api.load("MODEL.onnx")
    times = [
        Measurement(kind, "ort", 1, op.name, 0.001)
        for kind in ("pi5", "jetson")
        for op in model.graph.operators
    ]
    links = tuple(LinkMeasurement(x.source, x.target, 1e9, 0.0) for x in cluster.pairs())
    write_profile("profile.json", Profile(model.graph.digest, tuple(times), links=links))
    steps = commands_of("docs/deploy.md")
    plan = next(words for words in steps if words[0] == "plan")
    assert cli.run([*plan, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    stages = read_plan("plan.json").stages
    assert len({stage.device for stage in stages}) == 5  # 1 ms an operator everywhere: all help
    assert found["value_s"] < 0.001 * len(model.graph.operators) / 3
    simulate = next(words for words in steps if words[0] == "simulate")
    assert cli.run([*simulate, "--json"]) == 0
