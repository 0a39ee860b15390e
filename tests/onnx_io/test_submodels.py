"""Chains of submodels answer as the unsplit model does, wherever they are cut."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from cutset import engine, zoo
from cutset.cluster import Engine
from cutset.errors import InvalidModelError
from cutset.onnx_io import Model, load_model, submodel, submodels, whole
from cutset.plan import Plan, Stage

ONE = Engine(threads=1)
SIDES = {"xception": 96, "alexnet": 96, "inception_resnet_v2": 96}


def reference(path: Path, feeds: Mapping[str, Any]) -> dict[str, Any]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def random_feeds(model: Model, seed: int, high: int = 2) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        spec.name: rng.standard_normal(spec.shape).astype(spec.dtype)
        if spec.dtype.startswith("float")
        else rng.integers(0, high, spec.shape).astype(spec.dtype)
        for spec in model.inputs
    }


def plan_of(groups: Sequence[Sequence[str]]) -> Plan:
    return Plan(tuple(Stage(f"s{i}", "d", tuple(g)) for i, g in enumerate(groups) if g))


def prefixes(model: Model, cuts: Sequence[int]) -> Plan:
    names = [op.name for op in model.graph.operators]
    return plan_of([names[a:b] for a, b in itertools.pairwise((0, *cuts, len(names)))])


def run_chain(model: Model, plan: Plan, feeds: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(feeds)
    for part in submodels(model, plan):
        runnable = engine.load(part, ONE)
        values |= runnable.run({name: values[name] for name in runnable.input_names})
    return {name: values[name] for name in model.graph.outputs}


def assert_equal(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    assert set(found) == set(wanted)
    for name, expected in wanted.items():
        assert found[name].shape == expected.shape
        assert found[name].dtype == expected.dtype
        if np.issubdtype(expected.dtype, np.integer):
            assert np.array_equal(found[name], expected)
        elif expected.size:
            assert np.abs(found[name] - expected).max() <= 1e-5 * np.abs(expected).max()


def check_chains(path: Path, model: Model, cases: Sequence[Mapping[str, Any]]) -> None:
    count = len(model.graph.operators)
    plans = [prefixes(model, cuts) for cuts in ((count // 2,), (count // 4, 3 * count // 4))]
    answers = []
    for feeds in cases:
        wanted = reference(path, feeds)
        answers.append(wanted)
        for plan in plans:
            assert_equal(run_chain(model, plan, feeds), wanted)
    first = next(iter(answers[0]))
    assert not np.array_equal(answers[0][first], answers[1][first])  # so that swaps would show


@pytest.mark.parametrize("name", sorted(zoo.ARCHITECTURES))
def test_architectures_in_chains(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(zoo.build(name, side=SIDES.get(name, 64), width=0.25), str(path))
    model = load_model(path)
    check_chains(path, model, [random_feeds(model, seed) for seed in (1, 2)])


@pytest.mark.parametrize("name", ["densenet121", "inception_v1", "squeezenet"])
def test_light_models_in_chains(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(zoo.light(name), str(path))
    model = load_model(path)
    check_chains(path, model, [random_feeds(model, seed) for seed in (1, 2)])


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("ppocr_det", {"x": (1, 3, 160, 160)}),
        ("ppocr_rec", {"x": (1, 3, 48, 160)}),
        ("minilm", {"input_ids": (1, 32)}),
        ("silero_vad", {"input": (1, 576), "state": (2, 1, 128)}),
    ],
)
def test_pretrained_models_in_chains(name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    path = zoo.pretrained(name)
    model = load_model(path, shapes)
    cases = []
    for seed in (1, 2):
        feeds = random_feeds(model, seed, high=1000)
        if "attention_mask" in feeds:
            feeds["attention_mask"] = (feeds["attention_mask"] > 300).astype(np.int64)
        if "sr" in feeds:
            feeds["sr"] = np.asarray(16000, np.int64)
        cases.append(feeds)
    check_chains(path, model, cases)


def test_a_branch_apart_and_disconnected_pieces(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(zoo.build("squeezenet", side=64, width=0.25), str(path))
    model = load_model(path)
    graph = model.graph
    concat = next(op for op in graph.operators if op.op_type == "Concat")
    branches = [graph.operators[graph.producers[t]] for t in concat.inputs]
    assert len(branches) == 2
    start = min(graph.positions[b.name] for b in branches)
    before = [op.name for op in graph.operators[:start]]
    one, other = (b.name for b in branches)
    taken = {*before, one, other}
    rest = [op.name for op in graph.operators if op.name not in taken]
    feeds = random_feeds(model, 5)
    plan = plan_of([before, [one], [other], rest])
    assert_equal(run_chain(model, plan, feeds), reference(path, feeds))
    pieces = submodel(model, [before[0], rest[-1]])
    assert set(pieces.inputs) == {"image", graph.operators[-1].inputs[0]}


def test_captures_of_a_body_are_inputs(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(zoo.build("branching"), str(path))
    model = load_model(path)
    (name,) = [op.name for op in model.graph.operators if op.op_type == "If"]
    operator = model.graph.operators[model.graph.positions[name]]
    assert len(operator.inputs) == 3  # the condition and two captured activations, not the weight
    positive = {"image": np.full((1, 3, 64, 64), 0.3, np.float32)}
    negative = {"image": np.full((1, 3, 64, 64), -0.3, np.float32)}
    position = model.graph.positions[name]
    for feeds in (positive, negative):
        found = run_chain(model, prefixes(model, (position, position + 1)), feeds)
        assert_equal(found, reference(path, feeds))


def test_data_dependent_sizes_stay_inside_one_operator(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(zoo.build("detector", side=64, width=0.25), str(path))
    model = load_model(path)
    (reason,) = model.regions.values()
    assert "sizes depend on the data" in reason
    for op in model.graph.operators:
        for tensor in op.outputs:
            shape = model.graph.tensors[tensor].shape
            assert shape is not None or tensor in model.graph.outputs


def quantised(path: Path) -> None:
    """Two int8 convolutions in QDQ form, the first one's result read twice (a residual)."""
    rng = np.random.default_rng(0)
    tensors = [
        numpy_helper.from_array(rng.integers(-60, 60, (8, c, 3, 3)).astype(np.int8), f"w{i}")
        for i, c in enumerate((3, 8))
    ]
    tensors += [numpy_helper.from_array(np.float32(0.02), "scale")]
    tensors += [numpy_helper.from_array(np.int8(0), "zero")]
    nodes = []

    def q(x: str) -> str:
        nodes.append(
            helper.make_node("QuantizeLinear", [x, "scale", "zero"], [f"{x}_q"], name=f"{x}_Q")
        )
        return f"{x}_q"

    def dq(x: str) -> str:
        nodes.append(
            helper.make_node("DequantizeLinear", [x, "scale", "zero"], [f"{x}_d"], name=f"{x}_D")
        )
        return f"{x}_d"

    x = dq(q("x"))
    for i in (0, 1):
        w = dq(f"w{i}")
        nodes.append(helper.make_node("Conv", [x, w], [f"c{i}"], pads=[1] * 4, name=f"conv{i}"))
        x = dq(q(f"c{i}"))
    nodes.append(helper.make_node("Add", [x, "c0_q_d"], ["y"], name="add"))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "quantised",
        [value("x", onnx.TensorProto.FLOAT, [1, 3, 16, 16])],
        [value("y", onnx.TensorProto.FLOAT, None)],
        tensors,
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8),
        str(path),
    )


def test_a_quantised_model_is_cut_at_int8_tensors(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    quantised(path)
    model = load_model(path)
    crossing = {t for op in model.graph.operators for t in op.inputs} - {"x"}
    assert "c0_q" in crossing
    assert {model.graph.tensors[t].dtype for t in crossing} == {"int8"}
    feeds = random_feeds(model, 3)
    wanted = reference(path, feeds)
    for cut in range(1, len(model.graph.operators)):
        assert_equal(run_chain(model, prefixes(model, (cut,)), feeds), wanted)


def save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], **kw: Any) -> None:
    graph = helper.make_graph(nodes, "g", inputs, outputs, kw.get("weights", []))
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))


def floats(name: str, *shape: int) -> Any:
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def test_awkward_outputs_and_inputs(tmp_path: Path) -> None:
    """An output that is read, one that is constant, an unused input, a weight in two stages."""
    path = tmp_path / "model.onnx"
    weight = numpy_helper.from_array(np.arange(4096, dtype=np.float32).reshape(64, 64) / 9e3, "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="a"),
        helper.make_node("MatMul", ["h", "w"], ["y"], name="b"),
        helper.make_node("Identity", ["w"], ["constant"], name="c"),
    ]
    outputs = [floats("h", 1, 64), floats("y", 1, 64), floats("constant", 64, 64)]
    inputs = [floats("x", 1, 64), floats("unused", 2)]
    save(path, nodes, inputs, outputs, weights=[weight])
    model = load_model(path)
    assert [spec.name for spec in model.inputs] == ["x", "unused"]
    feeds = random_feeds(model, 1)
    plan = prefixes(model, (1, 2))
    assert len(plan.stages) == 3
    assert_equal(run_chain(model, plan, feeds), reference(path, feeds))
    first, second, _ = submodels(model, plan)
    assert min(len(first.model), len(second.model)) > weight.ByteSize()  # the weight is in both


def test_large_weights_travel_beside_the_model(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(
        zoo.build("resnet18", side=64, width=0.25),
        str(path),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=64,
    )
    model = load_model(path)
    feeds = random_feeds(model, 1)
    part = submodel(model, model.members, name="whole", inline_limit_bytes=0)
    assert part.weights
    assert len(part.model) < 10**6
    wanted = reference(path, feeds)
    assert_equal(engine.load(part, ONE).run(feeds), wanted)
    assert_equal(engine.load(engine.write_submodel(part, tmp_path), ONE).run(feeds), wanted)
    again = submodel(model, model.members, name="whole", inline_limit_bytes=0)
    assert again.digest == part.digest != whole(model).digest


def test_what_two_cuts_share_is_told(tmp_path: Path) -> None:
    """So that weights which one cut brought to a device are not sent with the next."""
    path = tmp_path / "model.onnx"
    onnx.save(zoo.build("resnet18", side=64, width=0.5), str(path))
    model = load_model(path)

    def large(part: engine.Submodel) -> set[bytes]:
        assert all(o >= 0 and o + n <= len(part.model) for o, n in part.shared)
        assert list(part.shared) == sorted(part.shared)
        return {part.model[o : o + n] for o, n in part.shared if n >= 2**16}

    names = tuple(model.members)
    late = submodel(model, names[len(names) // 2 :], name="late")
    all_of_it, some = whole(model), late
    assert large(some) < large(all_of_it)
    weights = sum(map(len, large(some)))
    assert weights > 0.9 * len(some.model)


def test_unknown_operators_and_outputs_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save(
        path,
        [helper.make_node("Relu", ["x"], ["y"], name="relu")],
        [floats("x", 1)],
        [floats("y", 1)],
    )
    model = load_model(path)
    with pytest.raises(InvalidModelError, match=r"no such operator.*nope"):
        submodel(model, ["nope"])
    with pytest.raises(InvalidModelError, match=r"do not make.*nope"):
        submodel(model, ["relu"], ["nope"])
