"""Models cut by plan files written by hand, run over two processes, against the unsplit model.

Requests are distinct and several are in flight, so that a swapped answer is a wrong answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import plans
import pytest
from onnx import TensorProto, helper

from cutset import api, zoo
from cutset.cluster import Cluster
from cutset.feeds import Feeds
from cutset.onnx_io import Model
from cutset.ports import Array
from cutset.runner import run_requests
from cutset.runtime.coordinator import Coordinator
from cutset.verify import DEFAULT_RTOL

MANY = 16
FEW = 5


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    folder = tmp_path_factory.mktemp("pair")
    (folder / "cluster.yaml").write_text(plans.CLUSTER)
    cluster = api.as_cluster(folder / "cluster.yaml")
    with Coordinator(cluster, cache_dir=folder / "cache") as coordinator:
        yield coordinator


def saved(proto: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(proto, str(folder / "model.onnx"))
    return folder / "model.onnx"


def assert_same(
    coordinator: Coordinator,
    model: Model,
    parts: Sequence[plans.Part],
    folder: Path,
    count: int,
    feeds: Sequence[Feeds] | None = None,
) -> list[Mapping[str, Array]]:
    """Run `count` distinct requests through the plan; all answers are the unsplit model's."""
    plan = plans.write_plan(folder / "plan.json", parts)
    feeds = feeds or plans.requests(model, count)
    unsplit = api.unsplit(model)
    expected = [unsplit.run(request) for request in feeds]
    with api.deploy(
        model, coordinator.cluster, plan, in_flight=4, coordinator=coordinator
    ) as session:
        record = run_requests(
            session, feeds, requests=count, in_flight=4, expected=expected, deadline_s=60
        )
        stats = session.stats()
    assert record.errors == {}
    assert (record.answered, record.requests) == (count, count)
    assert record.comparison is not None
    assert record.comparison.equal(DEFAULT_RTOL), record.comparison
    ran = [s.requests for device in stats.devices.values() for s in device.stages]
    assert ran == [count] * len(parts)
    return list(expected)


def assert_distinct(answers: Sequence[Mapping[str, Array]]) -> None:
    """No two answers are within the tolerance of each other: a swap would be seen."""
    first = answers[0]
    for other in answers[1:]:
        differs = False
        for name, a in first.items():
            b = other[name]
            if a.shape != b.shape or (
                a.size
                and np.abs(a.astype(float) - b.astype(float)).max()
                > 10 * DEFAULT_RTOL * np.abs(a.astype(float)).max()
            ):
                differs = True
        assert differs


def halves(model: Model, devices: tuple[str, str] = ("pi", "server")) -> list[plans.Part]:
    names = plans.operator_names(model)
    assert len(names) >= 2
    middle = len(names) // 2
    return [(devices[0], names[:middle]), (devices[1], names[middle:])]


# --- every model cut in the middle

LIGHT = (
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
)


def with_logits(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with what its last Softmax reads as a further output, which never saturates."""
    last = proto.graph.node[-1]
    if last.op_type == "Softmax":
        known = {value.name: value for value in proto.graph.value_info}
        proto.graph.output.append(known[last.input[0]])
    return proto


@pytest.mark.parametrize("name", LIGHT)
def test_light_models(name: str, pair: Coordinator, tmp_path: Path) -> None:
    model = api.load(saved(with_logits(zoo.light(name)), tmp_path))
    answers = assert_same(pair, model, halves(model), tmp_path, FEW)
    assert_distinct(answers)


@pytest.mark.parametrize("name", sorted(zoo.ARCHITECTURES))
def test_architectures_with_random_weights(name: str, pair: Coordinator, tmp_path: Path) -> None:
    side = {"alexnet": 96, "xception": 96, "inception_resnet_v2": 96}.get(name, 64)
    model = api.load(saved(zoo.build(name, side=side, width=0.25), tmp_path))
    answers = assert_same(pair, model, halves(model), tmp_path, MANY)
    assert_distinct(answers)


@pytest.mark.parametrize(
    ("name", "shapes", "count"),
    [
        ("ppocr_det", {"x": (1, 3, 160, 160)}, MANY),
        ("ppocr_rec", {"x": (1, 3, 48, 160)}, MANY),
        ("minilm", {"input_ids": (1, 32)}, MANY),
        ("silero_vad", {"input": (1, 576), "state": (2, 1, 128)}, 2 * MANY),
    ],
)
def test_pretrained_models(
    name: str, shapes: dict[str, tuple[int, ...]], count: int, pair: Coordinator, tmp_path: Path
) -> None:
    model = api.load(zoo.pretrained(name), shapes)
    answers = assert_same(pair, model, halves(model), tmp_path, count)
    assert_distinct(answers)


# --- plans of every form


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("squeezenet")
    return api.load(saved(zoo.build("squeezenet", side=64, width=0.25), folder))


def test_the_first_part_on_the_server(pair: Coordinator, squeezenet: Model, tmp_path: Path) -> None:
    assert_same(pair, squeezenet, halves(squeezenet, ("server", "pi")), tmp_path, 24)


def test_alternating_stages(pair: Coordinator, squeezenet: Model, tmp_path: Path) -> None:
    names = plans.operator_names(squeezenet)
    third = len(names) // 3
    parts = [
        ("pi", names[:third]),
        ("server", names[third : 2 * third]),
        ("pi", names[2 * third :]),
    ]
    assert_same(pair, squeezenet, parts, tmp_path, 24)


@pytest.mark.parametrize("device", ["pi", "server"])
def test_one_device_alone(
    device: str, pair: Coordinator, squeezenet: Model, tmp_path: Path
) -> None:
    assert_same(pair, squeezenet, [(device, plans.operator_names(squeezenet))], tmp_path, 8)


def test_one_branch_elsewhere(pair: Coordinator, squeezenet: Model, tmp_path: Path) -> None:
    # Convex, though no prefix: one of two parallel operators before a Concat.
    graph = squeezenet.graph
    concat = next(op for op in graph.operators if op.op_type == "Concat")
    branch = graph.operators[graph.producers[concat.inputs[1]]]
    names = plans.operator_names(squeezenet)
    at = graph.positions[concat.name]
    before = [name for name in names[:at] if name != branch.name]
    parts = [("pi", before), ("server", [branch.name]), ("pi", names[at:])]
    assert_same(pair, squeezenet, parts, tmp_path, 24)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[str],
    outputs: Sequence[str],
    folder: Path,
    shape: Sequence[int] = (1, 64),
) -> Model:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        list(nodes),
        "made",
        [value(name, TensorProto.FLOAT, shape) for name in inputs],
        [value(name, TensorProto.FLOAT, shape) for name in outputs],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(proto)
    return api.load(saved(proto, folder))


def chain(count: int) -> list[onnx.NodeProto]:
    """Softmax layers, which no engine fuses: x -> t1 -> t2 …"""
    return [
        helper.make_node("Softmax" if i % 2 else "Sin", [f"t{i}" if i else "x"], [f"t{i + 1}"])
        for i in range(count)
    ]


@pytest.mark.parametrize("devices", [("pi", "server"), ("server", "pi")])
def test_outputs_on_both_sides(devices: tuple[str, str], pair: Coordinator, tmp_path: Path) -> None:
    # t2 is an output, and crosses as well.
    model = model_of(chain(4), ["x"], ["t2", "t4"], tmp_path)
    answers = assert_same(pair, model, halves(model, devices), tmp_path, MANY)
    assert set(answers[0]) == {"t2", "t4"}


def test_several_inputs_used_on_both_sides(pair: Coordinator, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Sin", ["x"], ["a"]),
        helper.make_node("Add", ["a", "z"], ["b"]),
        helper.make_node("Softmax", ["b"], ["c"]),
        helper.make_node("Mul", ["c", "z"], ["d"]),
        helper.make_node("Mul", ["d", "x"], ["y"]),
    ]
    model = model_of(nodes, ["x", "z"], ["y"], tmp_path)
    assert_same(pair, model, halves(model), tmp_path, MANY)


def test_an_output_that_is_an_input(pair: Coordinator, tmp_path: Path) -> None:
    model = model_of(chain(4), ["x"], ["x", "t4"], tmp_path)
    answers = assert_same(pair, model, halves(model), tmp_path, MANY)
    assert set(answers[0]) == {"x", "t4"}


def test_an_input_that_nothing_reads(pair: Coordinator, tmp_path: Path) -> None:
    model = model_of(chain(4), ["x", "spare"], ["t4"], tmp_path)
    assert_same(pair, model, halves(model), tmp_path, MANY)


def test_an_empty_tensor_crosses(pair: Coordinator, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Sin", ["x"], ["a"]),
        helper.make_node("Constant", [], ["sizes"], value_ints=[0, 64]),
        helper.make_node("Split", ["a", "sizes"], ["empty", "b"], axis=1),
        helper.make_node("Softmax", ["b"], ["c"]),
        helper.make_node("Sin", ["empty"], ["none"]),
        helper.make_node("Concat", ["none", "c"], ["y"], axis=1),
    ]
    model = model_of(nodes, ["x"], ["y"], tmp_path)
    names = plans.operator_names(model)
    split = next(op for op in model.graph.operators if "empty" in op.outputs)
    at = model.graph.positions[split.name] + 1
    assert model.graph.tensors["empty"].size_bytes == 0
    assert_same(pair, model, [("pi", names[:at]), ("server", names[at:])], tmp_path, FEW)


def test_results_wanted_on_the_server(squeezenet: Model, tmp_path: Path) -> None:
    # The session gets them also where the sink is elsewhere.
    (tmp_path / "cluster.yaml").write_text(plans.CLUSTER + "sink: server\n")
    with Coordinator(
        api.as_cluster(tmp_path / "cluster.yaml"), cache_dir=tmp_path / "cache"
    ) as coordinator:
        assert_same(coordinator, squeezenet, halves(squeezenet), tmp_path, 8)
        parts = halves(squeezenet, ("server", "pi"))
        assert_same(coordinator, squeezenet, parts, tmp_path, 8)


def test_a_throughput_plan_fills_the_pipeline(
    pair: Coordinator, squeezenet: Model, tmp_path: Path
) -> None:
    names = plans.operator_names(squeezenet)
    # Equal devices: half of the work on each doubles the throughput, whatever the machine does.
    cost = {kind: dict.fromkeys(names, 0.01) for kind in ("pi", "server")}
    profile = profile_of(squeezenet, cost)
    solution = api.solve(squeezenet, pair.cluster, profile, objective="throughput")
    assert solution.plan.devices == ("pi", "server")
    unsplit = api.unsplit(squeezenet)
    feeds = plans.requests(squeezenet, MANY)
    expected = [unsplit.run(request) for request in feeds]
    with api.deploy(squeezenet, pair.cluster, solution, coordinator=pair) as session:
        record = run_requests(session, feeds, requests=32, in_flight=3, expected=expected)
    assert record.answered == 32
    assert record.comparison is not None
    assert record.comparison.equal()


def profile_of(model: Model, cost: Mapping[str, Mapping[str, float]]) -> api.Profile:
    measurements = tuple(
        api.profiler.Measurement(kind, "cpu", 1, name, seconds, 0.0, 1)
        for kind, times in cost.items()
        for name, seconds in times.items()
    )
    return api.Profile(model.graph.digest, measurements)


def test_minilm_is_planned_within_its_limit_and_its_bound_is_honest(pair: Coordinator) -> None:
    # Its mask is read by all blocks, so few cuts are a single tensor.
    model = api.load(zoo.pretrained("minilm"), {"input_ids": (1, 32)})
    names = plans.operator_names(model)
    rng = np.random.default_rng(3)
    base = rng.uniform(1e-5, 1e-3, len(names))
    profile = profile_of(
        model,
        {
            "pi": dict(zip(names, (20 * base).tolist(), strict=True)),
            "server": dict(zip(names, base.tolist(), strict=True)),
        },
    )
    link = dataclasses.replace(
        pair.cluster.default_link or pytest.fail("no link"), bandwidth_bps=20e6
    )
    cluster: Cluster = dataclasses.replace(pair.cluster, default_link=link)
    for objective in ("latency", "throughput"):
        solution = api.solve(model, cluster, profile, objective=objective, time_limit_s=10)
        assert 0 <= solution.bound_s <= solution.value_s * (1 + 1e-12)
        assert solution.proof == "optimal" or solution.gap > 0
        assert solution.bound_s > 0
