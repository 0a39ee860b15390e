"""Every bad file ends in one clear line: file, field, value, remedy."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutset.errors import InvalidFileError
from cutset.serde import read_cluster, read_plan, read_profile, read_workload

CLUSTER = """\
schema: cutset/cluster/1
source: pi
devices:
  pi: {kind: rpi4, memory: 1GiB}
  server: {}
links:
  - {from: pi, to: server, bandwidth: 20Mbit/s, latency: 3ms, both: true}
"""

WORKLOAD: dict[str, Any] = {
    "schema": "cutset/workload/1",
    "inputs": ["x"],
    "outputs": ["y"],
    "tensors": {"x": 8, "t": {"bytes": 4}, "y": 4},
    "operators": [
        {"name": "a", "inputs": ["x"], "outputs": ["t"], "compute_s": {"k": 0.1}},
        {"name": "b", "inputs": ["t"], "outputs": ["y"], "compute_s": {"k": 0.1}},
    ],
}

PROFILE: dict[str, Any] = {
    "schema": "cutset/profile/1",
    "graph_digest": "d",
    "measurements": [
        {"kind": "k", "engine": "cpu", "threads": 1, "operator": "a", "latency_s": 0.1}
    ],
    "links": [{"from": "pi", "to": "server", "bandwidth_bps": 1e6, "latency_s": 0.0}],
    "devices": [{"name": "pi"}],
}

WHOLE = {"kind": "k", "latency_s": 0.1, "p50_s": 0.1, "p90_s": 0.1, "samples": 1}
MEMORY = {"kind": "k", "engine": "cpu", "stage_bytes": 1, "weight_factor": 1.0}

PLAN: dict[str, Any] = {
    "schema": "cutset/plan/1",
    "stages": [{"name": "s0", "device": "pi", "operators": ["a", "b"]}],
}

VERDICT = {"split": True, "best_single_device": "pi", "best_single_value_s": 1.0, "gain": 0.1}
ESTIMATE: dict[str, Any] = {
    "latency_s": 1.0,
    "period_s": 1.0,
    "memory_bytes": {"pi": 1},
    "busy_s": {"device:pi": 1.0},
    "bottleneck": "device:pi",
}
TRANSFER: dict[str, Any] = {"tensor": "y", "rows": None, "from": "s0", "to": None, "bytes": 4}

READERS: dict[str, Callable[[Path], object]] = {
    "cluster": read_cluster,
    "plan": read_plan,
    "profile": read_profile,
    "workload": read_workload,
}


def complaint(read: Callable[[Path], object], path: Path) -> InvalidFileError:
    with pytest.raises(InvalidFileError) as caught:
        read(path)
    error = caught.value
    assert error.file == str(path)
    assert error.remedy
    assert "\n" not in str(error)
    assert len(str(error)) < 700
    return error


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    "content",
    [b"", b"  \n", b"\x00\x01\xff\xfe junk", b"\x80", b"[1, 2]", b"3", b'"text"', b"{", b"null"],
    ids=repr,
)
def test_not_such_a_file(read: Callable[[Path], object], content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    complaint(read, path)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_no_file_at_all(read: Callable[[Path], object], tmp_path: Path) -> None:
    assert "No such file" in complaint(read, tmp_path / "none").message
    assert "directory" in complaint(read, tmp_path).message
    if os.path.exists("/dev/zero"):
        assert "larger than" in complaint(read_cluster, Path("/dev/zero")).message


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("schema", [None, "cutset/other/1", 3, ["x"]], ids=str)
def test_another_schema(read: Callable[[Path], object], schema: object, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(json.dumps({} if schema is None else {"schema": schema}))
    assert complaint(read, path).field == "schema"


@pytest.mark.parametrize(
    ("old", "new", "field", "words"),
    [
        ("memory: 1GiB", "memry: 1GiB", "devices.pi.memry", "did you mean memory"),
        ("memory: 1GiB", "foo: 1", "devices.pi.foo", "fields are kind, memory"),
        ("memory: 1GiB", "memory: [1]", "devices.pi.memory", "array"),
        ("memory: 1GiB", "memory: 12 apples", "devices.pi.memory", "not a size"),
        ("memory: 1GiB", "memory: .nan", "devices.pi.memory", "finite"),
        ("memory: 1GiB", "memory: .inf", "devices.pi.memory", "finite"),
        ("memory: 1GiB", "memory: -5", "devices.pi.memory", "not negative"),
        ("memory: 1GiB", "memory: 1e30", "devices.pi.memory", "beyond all sense"),
        ("memory: 1GiB", "memory: yes", "devices.pi.memory", "bool"),
        ("memory: 1GiB", "egress: 0", "devices.pi.egress", "more than 0"),
        ("memory: 1GiB", "overlap: 3", "devices.pi.overlap", "expected `bool`"),
        ("memory: 1GiB", "engine: {threads: 0}", "devices.pi.engine.threads", "from 1 to"),
        ("memory: 1GiB", "engine: {thread: 1}", "devices.pi.engine.thread", "mean threads"),
        ("memory: 1GiB", "engine: {options: {a: 1}}", "devices.pi.engine.options.a", "`str`"),
        ("server: {}", "server: 7", "devices.server", "expected `object | null`"),
        ("server: {}", "no: {}", "devices", "quotes"),
        ("server: {}", "a b: {}", "devices", "no spaces"),
        ("server: {}", "pi: {}", "pi", "twice"),
        ("source: pi", "source: py", "source", "no such device"),
        ("source: pi", "sorce: pi", "sorce", "did you mean source"),
        ("source: pi\n", "", "source", "missing"),
        ("to: server", "to: srv", "links.pi>srv", "unknown device"),
        ("to: server", "to: pi", "links.pi>pi", "to itself"),
        ("to: server, ", "", "links[0].to", "missing"),
        ("20Mbit/s", "-1", "links[0].bandwidth", "not negative"),
        ("20Mbit/s", "20 MB", "links[0].bandwidth", "not a rate"),
        ("3ms", "3min", "links[0].latency", "not a time"),
        ("both: true}", "both: true}\n  - {from: pi, to: server}", "links.pi>server", "twice"),
        ("source: pi", "source: pi\ntransfer: both", "transfer", "invalid enum value"),
        ("source: pi", "source: pi\nlab: {srv: {cpu: 1}}", "lab.srv", "no such device"),
        ("source: pi", "source: pi\nlab: {pi: {cpu: 1.5}}", "lab.pi.cpu", "share"),
        ("source: pi", "source: pi\nlab: {pi: {cpu: .nan}}", "lab.pi.cpu", "share"),
        ("source: pi", "source: pi\n\tsink: pi", "line 3", "not valid YAML"),
        ("source: pi", "source: !!python/object:os.system {}", "line 2", "not valid YAML"),
    ],
)
def test_a_bad_cluster_file(old: str, new: str, field: str, words: str, tmp_path: Path) -> None:
    assert old in CLUSTER
    path = tmp_path / "cluster.yaml"
    path.write_text(CLUSTER.replace(old, new))
    error = complaint(read_cluster, path)
    assert error.field == field
    assert words in str(error)


def test_where_a_lab_belongs_is_told(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(CLUSTER.replace("server: {}", "server: {lab: {cpu: 0.5}}"))
    with pytest.raises(InvalidFileError) as caught:
        read_cluster(path)
    assert caught.value.field == "devices.server.lab"
    assert "lab: {server: {cpu: 0.25}}" in (caught.value.remedy or "")


def test_aliases_cannot_blow_up(tmp_path: Path) -> None:
    levels = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 40)]
    text = CLUSTER.replace("memory: 1GiB", "memory: *l39")
    path = tmp_path / "cluster.yaml"
    path.write_text("\n".join(["l0: &l0 [1]", *levels, text]))
    complaint(read_cluster, path)


def change(document: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    at: Any = changed
    *steps, last = path.split("/")
    for step in steps:
        at = at[int(step)] if step.isdigit() else at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "field", "words"),
    [
        ("tensors/x", -1, "tensors.x", "not negative"),
        ("tensors/x", 10**30, "tensors.x", ""),
        ("tensors/x", "8", "tensors.x", "expected"),
        ("tensors/t/bytes", -1, "tensors.t", "not negative"),
        ("tensors/t/shap", [1], "tensors.t.shap", "did you mean shape"),
        ("tensors/t/shape", [1.5], "tensors.t.shape[0]", "expected"),
        ("tensors/y", ..., "operators.b", "not listed in tensors"),
        ("outputs", [], "outputs", "at least one"),
        ("outputs", ["q"], "outputs", "not listed in tensors"),
        ("operators", [], "operators", "at least one"),
        ("operators/0/inputs", ["y"], "operators", "cycle"),
        ("operators/0/inputs", ["q"], "operators.a", "not listed in tensors"),
        ("operators/1/outputs", ["t"], "operators.b.outputs", "made twice"),
        ("operators/1/outputs", [], "operators.b.outputs", "makes no tensor"),
        ("operators/1/outputs", ["x"], "operators.b.outputs", "made twice"),
        ("operators/1/name", "a", "operators.a", "two operators"),
        ("operators/1/name", 4, "operators[1].name", "expected `str`"),
        ("operators/1/compute_s/k", -0.1, "operators.b.compute_s.k", "not negative"),
        ("operators/1/compute_s/k", "fast", "operators[1].compute_s.k", "expected `float`"),
        ("operators/1/compute_s/k", 1e300, "operators.b.compute_s.k", "beyond all sense"),
        ("operators/1/compute_s/k", 1.1e9, "operators.b.compute_s.k", "(got 1.1e+09 seconds)"),
        ("operators/1/compute_s/k", True, "operators[1].compute_s.k", "expected `float`"),
        ("operators/1/flops", 1e30, "operators.b.flops", "FLOPs from 0 to"),
        ("operators/1/memory_bytes", 2**63, "operators.b.memory_bytes", "beyond all sense"),
        ("operators/1/weight_bytes", 10**400, "operators.b.weight_bytes", "beyond all sense"),
        ("operators/1/window", {"kernel": [3, -1]}, "operators.b.window.kernel[1]", "(got -1)"),
        ("tensors/t/shape", [2, -1], "tensors.t.shape[1]", "(got -1)"),
        ("stage_memory_bytes", -1, "stage_memory_bytes", "(got -1 bytes)"),
        ("operators/1/memory_bytes", -5, "operators.b.memory_bytes", "not negative"),
        ("operators/1/memory_byte", 5, "operators[1].memory_byte", "mean memory_bytes"),
        ("operators/1/colocated", "g", "operators[1].colocated", "mean colocate"),
        ("operators/1/flops", -1, "operators.b.flops", "not negative"),
        ("operators/1/compute_s", ..., "operators[1].compute_s", "missing"),
        ("inputs", ..., "inputs", "missing"),
    ],
)
def test_a_bad_workload_file(
    path: str, value: object, field: str, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "w.json"
    file.write_text(json.dumps(change(WORKLOAD, path, value)))
    error = complaint(read_workload, file)
    assert error.field == field
    assert words in str(error)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_lacks(number: str, tmp_path: Path) -> None:
    file = tmp_path / "w.json"
    file.write_text(json.dumps(WORKLOAD).replace("0.1", number))
    complaint(read_workload, file)


def test_a_key_twice_in_json(tmp_path: Path) -> None:
    file = tmp_path / "w.json"
    file.write_text(json.dumps(WORKLOAD).replace('"x": 8', '"x": 8, "x": 9'))
    error = complaint(read_workload, file)
    assert (error.field, error.message) == ("x", "the field is written twice")


def test_json_too_deep(tmp_path: Path) -> None:
    file = tmp_path / "w.json"
    file.write_text("[" * 100_000)
    complaint(read_workload, file)


@pytest.mark.parametrize("kind", ["plan", "profile", "workload"])
@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (json.dumps(WORKLOAD).encode("utf-16"), "UTF-8"),
        (json.dumps(WORKLOAD).encode("utf-16-le"), "UTF-8"),
        (bytes(range(256)), "right file"),
        (json.dumps(WORKLOAD).encode()[:100], "once more"),
        (b"", "see docs/formats.md"),
        (b"[" * 100_000, "right file"),
        (b'{"schema": ' + b"[" * 5000 + b"]" * 5000 + b"}", ""),
    ],
    ids=["utf-16", "utf-16-le", "binary", "truncated", "empty", "deep", "deep and closed"],
)
def test_the_remedy_is_for_what_the_file_is(
    kind: str, content: bytes, remedy: str, tmp_path: Path
) -> None:
    file = tmp_path / "f.json"
    file.write_bytes(content)
    assert remedy in (complaint(READERS[kind], file).remedy or "")


def test_a_mark_at_the_beginning_is_read_over(tmp_path: Path) -> None:
    file = tmp_path / "w.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(WORKLOAD).encode())
    assert len(read_workload(file)[0].operators) == 2


def test_an_unknown_field_from_a_later_version_is_read_over(tmp_path: Path) -> None:
    file = tmp_path / "w.json"
    file.write_text(json.dumps(change(WORKLOAD, "operators/0/provenance", {"by": "hand"})))
    graph, _ = read_workload(file)
    assert len(graph.operators) == 2


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("measurements/0/latency_s", -1, "measurements[0].latency_s (a)"),
        ("measurements/0/latency_s", "1", "measurements[0].latency_s"),
        ("measurements/0/operator", ..., "measurements[0].operator"),
        ("measurements/0/stdev_s", -1, "measurements[0].stdev_s (a)"),
        ("links/0/bandwidth_bps", 0, "links[0].bandwidth_bps"),
        ("links/0/latency_s", -1, "links[0].latency_s"),
        ("devices/0/send_s_per_byte", -1, "devices[0].send_s_per_byte"),
        ("devices/0/recv_s_per_byte", 1.1e9, "devices[0].recv_s_per_byte"),
        ("devices/0/memory_bytes", -1, "devices[0].memory_bytes"),
        ("measurements/0/latency_s", 1.1e9, "measurements[0].latency_s (a)"),
        ("measurements/0/samples", -1, "measurements[0].samples (a)"),
        ("measurements/0/threads", -1, "measurements[0].threads (a)"),
        ("links/0/bandwidth_bps", 1e19, "links[0].bandwidth_bps"),
        ("links/0/bandwidth_bps", 1e-4, "links[0].bandwidth_bps"),
        ("links/0/latency_s", 1.1e9, "links[0].latency_s"),
        ("whole", [WHOLE | {"latency_s": -1}], "whole[0].latency_s"),
        ("whole", [WHOLE | {"p50_s": 1.1e9}], "whole[0].p50_s"),
        ("whole", [WHOLE | {"p90_s": -1}], "whole[0].p90_s"),
        ("memory", [MEMORY | {"stage_bytes": -1}], "memory[0].stage_bytes"),
        ("memory", [MEMORY | {"weight_factor": 0.5}], "memory[0].weight_factor"),
        ("devices/0/nam", "x", None),
    ],
)
def test_a_bad_profile_file(path: str, value: object, field: str | None, tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text(json.dumps(change(PROFILE, path, value)))
    if field is None:  # a whole other field, as `name` is there too
        read_profile(file)
    else:
        assert complaint(read_profile, file).field == field


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("stages", ..., "stages"),
        ("stages/0/operators", "a", "stages[0].operators"),
        ("stages/0/device", None, "stages[0].device"),
        ("stages/0/tile", {"y": [0, "x"]}, "stages[0].tile.y[1]"),
        ("proof", "sure", "proof"),
        ("value", 0.5, "value"),
        ("value_s", -1, "value_s"),
        ("value_s", 1.1e9, "value_s"),
        ("value_s", "1", "value_s"),
        ("bound_s", -1e-9, "bound_s"),
        ("full_bound_s", -1, "full_bound_s"),
        ("elapsed_s", -1, "elapsed_s"),
        ("gap", 1.5, "gap"),
        ("gap", -0.5, "gap"),
        ("verdict", VERDICT | {"best_single_value_s": -1}, "verdict.best_single_value_s"),
        ("break_even", [{"change": "c", "then": "t", "below": -1}], "break_even[0].below"),
        ("break_even", [{"change": "c", "then": "t", "above": -1}], "break_even[0].above"),
        ("stays_best", [{"change": "c", "then": "t", "above": -1}], "stays_best[0].above"),
        ("estimate", ESTIMATE | {"latency_s": -1}, "estimate.latency_s"),
        ("estimate", ESTIMATE | {"period_s": -1}, "estimate.period_s"),
        ("estimate", ESTIMATE | {"memory_bytes": {"pi": -1}}, "estimate.memory_bytes.pi"),
        ("estimate", ESTIMATE | {"busy_s": {"device:pi": -1}}, "estimate.busy_s.device:pi"),
        ("transfers", [TRANSFER | {"bytes": -1}], "transfers[0].bytes"),
        ("transfers", [TRANSFER | {"bytes": 1.5}], "transfers[0].bytes"),
        ("transfers", [TRANSFER | {"to": "s0"}], "transfers[0]"),
        ("transfers", [TRANSFER | {"from": None}], "transfers[0]"),
        ("transfers", [TRANSFER | {"rows": [3, 3]}], "transfers[0].rows"),
        ("stages/0/tile", {"y": [-1, 2]}, "stages[0].tile.y"),
        ("stages/0/tile", {"y": [4, 2]}, "stages[0].tile.y"),
    ],
)
def test_a_bad_plan_file(path: str, value: object, field: str, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(change(PLAN, path, value)))
    assert complaint(read_plan, file).field == field


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_mutation_of_a_good_file_ends_in_anything_but_a_clear_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kind = data.draw(st.sampled_from(sorted(READERS)))
    text = {
        "cluster": CLUSTER,
        "plan": json.dumps(PLAN),
        "profile": json.dumps(PROFILE),
        "workload": json.dumps(WORKLOAD),
    }[kind].encode()
    at = data.draw(st.integers(0, len(text)))
    width = data.draw(st.integers(0, 8))
    junk = data.draw(st.one_of(st.binary(max_size=6), st.sampled_from([b"-", b"null", b"1e400"])))
    path = tmp_path_factory.getbasetemp() / f"mutated-{kind}"
    path.write_bytes(text[:at] + junk + text[at + width :])
    refused = None
    try:
        READERS[kind](path)
    except InvalidFileError as error:
        refused = error
    if refused is not None:
        assert refused.file == str(path)
        assert "\n" not in str(refused)
        str(refused).encode()
