"""Raw times become a profile; what was measured before is not measured again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from cutset import api, engine, profile_store, profiler, zoo
from cutset.cluster import Cluster, Device
from cutset.engine import KernelTimes, Submodel
from cutset.errors import ProfileError
from cutset.feeds import random_feeds
from cutset.onnx_io import Model
from cutset.profiles import LinkMeasurement, Profile
from cutset.runtime import measuring


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("model") / "m.onnx"
    onnx.save(zoo.build("squeezenet", side=48, width=0.25), str(path))
    return api.load(path)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def kernels_of(model: Model, seconds: Callable[[int], tuple[float, ...]]) -> list[KernelTimes]:
    return [
        KernelTimes(op.name, op.op_type, seconds(i)) for i, op in enumerate(model.graph.operators)
    ]


def test_operators_share_the_median_of_the_whole_by_their_least_times(model: Model) -> None:
    count = len(model.graph.operators)
    kernels = kernels_of(model, lambda i: (1e-3 * (i + 1), 5.0))  # an outlier each
    found = profiler.scaled(model, kernels, [0.9, 0.4, 0.5], "rpi", "ort", 2)
    times = found.compute_s["rpi"]
    assert math.fsum(times.values()) == pytest.approx(0.5)
    names = [op.name for op in model.graph.operators]
    assert times[names[-1]] / times[names[0]] == pytest.approx(count)
    assert found.graph_digest == model.graph.digest
    (whole,) = found.whole
    assert (whole.kind, whole.latency_s, whole.samples) == ("rpi", 0.5, 3)
    assert (whole.engine, whole.threads) == ("ort", 2)


def test_nothing_measured_is_an_error(model: Model) -> None:
    with pytest.raises(ProfileError, match="no times"):
        profiler.scaled(model, kernels_of(model, lambda i: (1.0,)), [], "rpi", "ort", 1)
    with pytest.raises(ProfileError, match="took no time"):
        profiler.scaled(model, kernels_of(model, lambda i: (0.0,)), [0.1], "rpi", "ort", 1)


def test_joined_keeps_everything_of_both(model: Model) -> None:
    kernels = kernels_of(model, lambda i: (1e-3,))
    a = profiler.scaled(model, kernels, [0.1], "rpi", "ort", 1)
    b = profiler.scaled(model, kernels, [0.2], "epyc", "ort", 1)
    link = LinkMeasurement("pi", "server", 1e6, 0.01, 3)
    found = profiler.joined(a, replace(b, links=(link,)))
    assert set(found.compute_s) == {"rpi", "epyc"}
    assert [w.latency_s for w in found.whole] == [0.1, 0.2]
    assert found.links == (link,)


@pytest.mark.parametrize(("run_s", "runs"), [(1e-5, 40), (0.2, 20), (3.0, 7), (0.0, 40)])
def test_runs_are_fewer_where_a_run_is_long(run_s: float, runs: int) -> None:
    assert profiler.runs_for(run_s) == runs


def test_of_a_kind_the_first_device_is_measured() -> None:
    devices = (Device("a", "rpi"), Device("b", "epyc"), Device("c", "rpi"))
    found = profiler.first_of_each_kind(Cluster(devices, (), "a", "a"))
    assert [device.name for device in found] == ["a", "b"]


def test_a_second_profile_does_not_measure_again(
    model: Model, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []
    real = engine.kernel_times

    def counted(*arguments: object, **options: object) -> tuple[KernelTimes, ...]:
        measured.append(1)
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, "kernel_times", counted)
    monkeypatch.setattr(profiler, "TARGET_S", 0.01)
    first = api.profile(model, kind="here")
    assert api.profile(model, kind="here") == first
    assert len(measured) == 1
    api.profile(model, kind="other")  # another key
    assert len(measured) == 2
    again = api.profile(model, kind="here", fresh=True)
    assert len(measured) == 3
    assert again.graph_digest == first.graph_digest
    assert set(first.compute_s["here"]) == {op.name for op in model.graph.operators}


def test_a_damaged_or_foreign_stored_profile_is_measured_again(model: Model, cache: Path) -> None:
    made: list[int] = []

    def measure() -> Profile:
        made.append(1)
        return Profile(model.graph.digest)

    path = profile_store.profile_path(model.graph.digest, ("key",))
    assert str(path).startswith(str(cache))
    for content in ("{", '{"schema": "cutset/profile/1", "graph_digest": "another"}'):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        profiler._remembered(model, ("key",), measure, fresh=False)
    assert len(made) == 2
    profiler._remembered(model, ("key",), measure, fresh=False)
    assert len(made) == 2


def test_the_store_is_bounded_and_need_not_be_writable(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile_store, "KEPT_FILES", 3)
    for i in range(5):
        profile_store.keep(profile_store.profile_path("d", (i,)), Profile("d"))
    folder = profile_store.profile_path("d", (0,)).parent
    assert len(list(folder.glob("*.json"))) == 3
    (cache / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "file"))
    profile_store.keep(profile_store.profile_path("d", (0,)), Profile("d"))  # no error
    assert profile_store.recall(profile_store.profile_path("d", (0,))) is None


def test_a_profile_here_is_of_this_model(model: Model, cache: Path) -> None:
    feeds = random_feeds(model.ports, 1)[0]
    found = profiler.profile_here(model, feeds, "local")
    times = np.array(list(found.compute_s["local"].values()))
    assert times.sum() == pytest.approx(found.whole[0].latency_s)
    assert (times >= 0).all()


def test_what_an_edge_costs_is_what_two_stages_take_longer_than_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probes = profiler._probes()
    took = {probes.once.digest: 0.003, probes.twice.digest: 0.004}

    def run_s(_coordinator: object, _device: str, piece: Submodel, *_: object) -> float:
        return took[piece.digest]

    monkeypatch.setattr(measuring, "_median_run_s", run_s)
    edge = measuring.edge_s_per_byte(None, "pi", probes)  # type: ignore[arg-type]
    assert probes.edge_bytes == 4 * 16 * 128 * 128
    assert edge == pytest.approx((2 * 0.003 - 0.004) / (2 * probes.edge_bytes))
