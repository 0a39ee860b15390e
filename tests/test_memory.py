"""The memory formula, and how measured growth becomes its numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutset import api, engine, zoo
from cutset.cluster import Cluster, Device
from cutset.errors import InfeasibleError
from cutset.graph import Graph, Operator, Tensor
from cutset.memory import (
    ASSUMED,
    LEAST_STAGE_BYTES,
    MemoryCost,
    attributed,
    cost_for,
    operator_bytes,
    with_memory,
)
from cutset.plan import Plan, Stage
from cutset.profiles import Measurement, MemoryMeasurement, Profile

MB = 1_000_000


def graph(weight_bytes: int = 100 * MB) -> Graph:
    return Graph(
        "g",
        (
            Operator("a", "Conv", ("x",), ("t", "u"), weight_bytes=weight_bytes, memory_bytes=1),
            Operator("b", "Relu", ("t",), ("y",)),
        ),
        {n: Tensor(n, size) for n, size in (("x", 1), ("t", 10), ("u", 20), ("y", 5))},
        ("x",),
        ("y",),
        digest="d",
    )


def test_memory_at_another_cost_keeps_digest_and_everything_else() -> None:
    found = with_memory(graph(1000), MemoryCost(7, 3.5))
    assert [op.memory_bytes for op in found.operators] == [3500 + 30, 5]
    assert found.stage_memory_bytes == 7
    assert found.digest == "d"
    assert with_memory(graph(), ASSUMED) == graph()


def profile(*memory: MemoryMeasurement) -> Profile:
    return Profile("d", memory=memory)


def test_the_largest_measured_numbers_count_and_assumed_ones_for_a_kind_without() -> None:
    a = MemoryMeasurement("pi", "ort", 2 * MB, 3.5)
    b = MemoryMeasurement("server", "ort", 4 * MB, 1.5)
    assert cost_for(profile(a, b), ["pi", "server"]) == MemoryCost(4 * MB, 3.5)
    assert cost_for(profile(a, b), ["server"]) == MemoryCost(4 * MB, 1.5)
    assert cost_for(profile(b), ["pi", "server"]) == ASSUMED
    assert cost_for(profile(), ["pi"]) == cost_for(None, ["pi"]) == ASSUMED


def test_growth_is_attributed_to_the_weights_beside_stage_and_outputs() -> None:
    assert attributed(graph(), 5 * MB, 305 * MB, 305 * MB) == MemoryCost(5 * MB, 3.0)
    assert attributed(graph(), 0, 300 * MB, 300 * MB) == MemoryCost(LEAST_STAGE_BYTES, 3.0)
    # Running took 98 MB more than the outputs account for.
    assert attributed(graph(), 5 * MB, 305 * MB, 403 * MB + 35).weight_factor == 3.98
    assert attributed(graph(), 0, 10 * MB, 10 * MB) == MemoryCost(LEAST_STAGE_BYTES, 1.0)
    assert attributed(graph(0), 2 * MB, MB, MB).weight_factor == ASSUMED.weight_factor


sizes = st.integers(0, 10**9)


@given(sizes, sizes, sizes, st.integers(1, 10**9))
def test_what_is_attributed_covers_what_was_measured(
    stage: int, load: int, run: int, weights: int
) -> None:
    whole = graph(weights)
    cost = attributed(whole, stage, load, run)
    assert cost.weight_factor >= 1
    at_cost = with_memory(whole, cost)
    enforced = at_cost.stage_memory_bytes + sum(op.memory_bytes for op in at_cost.operators)
    assert enforced >= max(load, run) - 1  # rounding


def test_the_tiny_model_is_an_identity() -> None:
    proto = onnx.load_from_string(engine.TINY.model)
    onnx.checker.check_model(proto)
    assert [node.op_type for node in proto.graph.node] == ["Identity"]
    assert engine.load(engine.TINY).input_names == engine.TINY.inputs


def test_models_are_read_at_the_assumed_cost_and_planned_at_the_measured_one(
    tmp_path: Path,
) -> None:
    onnx.save(zoo.build("squeezenet", side=32, width=0.25), str(tmp_path / "m.onnx"))
    model = api.load(tmp_path / "m.onnx")
    heavy = max(model.graph.operators, key=lambda op: op.weight_bytes)
    outputs = sum(model.graph.tensors[t].size_bytes for t in heavy.outputs)
    assert heavy.memory_bytes == operator_bytes(heavy.weight_bytes, outputs)
    assert model.graph.stage_memory_bytes == ASSUMED.stage_bytes
    names = tuple(op.name for op in model.graph.operators)
    measured = Profile(
        model.graph.digest,
        tuple(Measurement("pi", "ort", 1, name, 0.001) for name in names),
        memory=(MemoryMeasurement("pi", "ort", 3 * MB, 4.0),),
    )
    cluster = Cluster((Device("pi", "pi", memory_bytes=2 * MB),), (), "pi", "pi")
    problem = api.problem(model, cluster, measured)
    assert problem.graph.stage_memory_bytes == 3 * MB
    planned = problem.graph.operators[problem.graph.positions[heavy.name]]
    assert planned.memory_bytes == 4 * heavy.weight_bytes + outputs
    # Deploying enforces the very number that planning counts.
    plan = Plan((Stage("s0", "pi", names),))
    needed = 3 * MB + sum(op.memory_bytes for op in problem.graph.operators)
    with pytest.raises(InfeasibleError, match=f"needs {needed} bytes"):
        api.evaluate(problem, plan)
    with pytest.raises(InfeasibleError, match=f"needs {needed} bytes"):
        api.deploy(model, cluster, plan, profile=measured)
    roomy = replace(cluster, devices=(Device("pi", "pi", memory_bytes=needed),))
    with api.deploy(model, roomy, plan, profile=measured) as session:
        enforced, grown = session.stage_memory["s0"]
        assert enforced == needed
        assert grown >= 0
