"""The setting of arXiv 2210.12219 as benchmarks/s2.py builds it, and how it averages."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from cutset import strategies, zoo
from cutset.planner import solve
from cutset.zoo.layers import Builder

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def s2(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("s2")
    for file in FOLDER.glob("*.py"):  # names as common as theirs must not stay for other tests
        sys.modules.pop(file.stem, None)


def test_memory_and_transfers_are_by_the_published_formulas(s2: ModuleType) -> None:
    b = Builder("two")
    x = b.input("x", (1, 3, 8, 8))
    y = b.conv(x, 16, 3, norm=False, act=None)
    z = b.op("Add", b.op("Relu", y), y)
    graph = s2.layer_graph(b.model(z))
    conv, relu, add = graph.operators
    assert conv.memory_bytes == 4 * 16 * 64 + (3 * 16 * 9 + 16)
    assert relu.memory_bytes == add.memory_bytes == 4 * 16 * 64
    assert graph.tensors[y].size_bytes == round(2 * 16 * 64 * 8 / 1.44)
    assert graph.tensors["x"].size_bytes == graph.tensors[z].size_bytes == 0


def test_links_follow_the_law_and_places_do_not_depend_on_the_capacity(s2: ModuleType) -> None:
    small, large = (s2.cluster_of(6, capacity, "a") for capacity in (1.0, 2.0))
    assert small.links == large.links
    assert len(small.links) == 30
    least, most = (f(link.bandwidth_bps for link in small.links) for f in (min, max))
    farthest = math.hypot(149, 149)
    assert 2**20 * math.log2(1 + 283230 / farthest**2) <= least <= most
    assert s2.cluster_of(6, 1.0, "b").links != small.links


def test_spans_are_the_same_plans_as_layers(s2: ModuleType) -> None:
    layers = s2.layer_graph(zoo.build("mobilenet_v2", side=64, width=0.25))
    chain = s2.span_chain(layers)
    assert sum(op.memory_bytes for op in chain.operators) == sum(
        op.memory_bytes for op in layers.operators
    )
    capacity = sum(op.memory_bytes for op in chain.operators) / 3
    cluster = s2.cluster_of(8, capacity, "c")
    for method in ("kpath", "greedy_joint", "random_cut"):
        found = [solve(s2.problem_of(graph, cluster), method) for graph in (layers, chain)]
        assert len(found[0].plan.stages) >= 3
        assert found[0].value_s == pytest.approx(found[1].value_s, rel=1e-12)
        assert found[0].plan.devices == found[1].plan.devices


def test_fewest_spans_fill_each_device(s2: ModuleType) -> None:
    chain = s2.span_chain(s2.layer_graph(zoo.build("squeezenet", side=64, width=0.25)))
    sizes = [op.memory_bytes for op in chain.operators]
    assert s2.fewest_spans(chain, sum(sizes)) == 1
    assert s2.fewest_spans(chain, sum(sizes) - 1) == 2
    assert s2.fewest_spans(chain, max(sizes) - 1) == 0


def test_no_method_is_better_than_the_optimum_and_kpath_than_its_bound(s2: ModuleType) -> None:
    chain = s2.span_chain(s2.layer_graph(zoo.build("mobilenet_v2", side=64, width=0.25)))
    megabytes = sum(op.memory_bytes for op in chain.operators) / 3 / s2.MIB
    one = s2.instance(chain, "mobilenet_v2", megabytes, 6, 0)
    assert one.proven
    assert one.values_s.keys() == {*s2.METHODS, s2.BEST_CLASS}
    assert all(one.ratio(method) >= 1 - 1e-9 for method in one.values_s)
    assert min(one.values_s[m] for m in s2.KPATH) == one.values_s[s2.BEST_CLASS] >= one.relaxed_s
    best = solve(
        s2.problem_of(chain, s2.cluster_of(6, megabytes * s2.MIB, "s2 6 0")),
        strategies.load("bottleneck"),
    )
    assert one.optimum_s == best.value_s


def test_means_are_geometric_with_intervals_over_layouts(s2: ModuleType) -> None:
    base = s2.Instance("m", 64, 5, 0, 1.0, 1.0, True, 0.1, 1.0, {"a": 2.0, "b": None})
    same = [replace(base, trial=trial) for trial in range(5)]
    mean = s2.mean_ratio(same, lambda one: one.ratio("a"))
    assert mean == pytest.approx({"ratio": 2, "low": 2, "high": 2, "instances": 5})
    assert s2.mean_ratio(same, lambda one: one.ratio("b")) is None
    apart = [replace(one, values_s={"a": 8.0 if one.trial else 1.0, "b": 1.0}) for one in same]
    mean = s2.mean_ratio(apart, lambda one: one.ratio("a"))
    assert mean["ratio"] == pytest.approx(8**0.8)
    assert 1 <= mean["low"] < mean["ratio"] < mean["high"] <= 8
    one_layout = [replace(one, trial=0) for one in apart]  # cells that share their places
    assert s2.mean_ratio(one_layout, lambda one: one.ratio("a"))["low"] == pytest.approx(8**0.8)
