from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutset.cluster import Cluster, Device, Engine, Link
from cutset.errors import InvalidFileError
from cutset.profiles import (
    DeviceMeasurement,
    LinkMeasurement,
    Measurement,
    MemoryMeasurement,
    Profile,
    WholeMeasurement,
    resolve,
)
from cutset.serde import (
    cluster_document,
    parse_cluster,
    parse_workload,
    read_cluster,
    read_profile,
    to_json,
    workload_document,
    write_cluster,
    write_profile,
)
from cutset.serde.common import write_text
from cutset.testing.problems import random_problem

PROFILE = Profile(
    "digest",
    (Measurement("k", "cpu", 1, "a", 0.25, 0.01, 8),),
    (WholeMeasurement("k", 0.3, 0.3, 0.4, 8, "cpu", 1),),
    (LinkMeasurement("a", "b", 1e6, 0.01, 4),),
    (DeviceMeasurement("a", 0.001, 1e-9, 2e-9, "cpu", 10),),
    (MemoryMeasurement("k", "cpu", 2_000_000, 3.1, 2),),
)


def test_a_profile_is_read_back(tmp_path: Path) -> None:
    write_profile(tmp_path / "p.json", PROFILE)
    assert read_profile(tmp_path / "p.json") == PROFILE


def test_a_workload_is_read_back_and_its_order_is_free() -> None:
    document = {
        "schema": "cutset/workload/1",
        "inputs": [],
        "outputs": ["y"],
        "tensors": {"t": {"bytes": 4, "shape": [1], "dtype": "float32"}, "y": 0, "unused": 1},
        "operators": [
            {"name": "b", "inputs": ["t"], "outputs": ["y"], "compute_s": {}, "colocate": "g"},
            {"name": "a", "inputs": [], "outputs": ["t"], "compute_s": {"k": 0.5}},
        ],
    }
    graph, cost = parse_workload(json.dumps(document).encode())
    assert [op.name for op in graph.operators] == ["a", "b"]
    assert graph.tensors["t"].shape == (1,)
    device = Device("pi", "k")
    assert cost.compute_s(graph.operators[0], device) == 0.5
    assert cost.compute_s(graph.operators[1], device) == math.inf  # a missing kind cannot run it
    written = to_json(workload_document(graph, cost.seconds)).encode()
    again, same = parse_workload(written)
    assert (replace(again, digest=""), same) == (replace(graph, digest=""), cost)


def test_the_defaults_of_a_cluster() -> None:
    raw = {"schema": "cutset/cluster/1", "source": "pi", "devices": {"pi": None}}
    cluster = parse_cluster(raw)
    device = cluster.by_name["pi"]
    assert (device.kind, device.memory_bytes, device.egress_bps) == ("pi", math.inf, math.inf)
    assert (device.overlap, device.endpoint, cluster.sink, cluster.multicast) == (
        True,
        None,
        "pi",
        False,
    )


def test_stated_values_win_over_measured_ones_and_gaps_are_named() -> None:
    devices = (Device("a", "k", send_s_per_byte=5.0), Device("b", "k"))
    cluster = Cluster(devices, (Link("a", "b"),), "a", "a", default_link=Link("", "", 7.0, None))
    found = resolve(cluster, PROFILE)
    assert found.link("a", "b") == Link("a", "b", 1e6, 0.01)
    assert found.link("b", "a") == Link("b", "a", 7.0, 0.0)
    assert (found.by_name["a"].send_s_per_byte, found.by_name["a"].recv_s_per_byte) == (5.0, 2e-9)
    assert found.by_name["b"].stage_overhead_s == 0.0
    with pytest.raises(InvalidFileError, match=r"links\.a>b\.bandwidth: .*cutset profile"):
        resolve(cluster, None)
    assert resolve(cluster, None, require=False).link("a", "b") == Link("a", "b", None, 0.0)


def test_writing_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["f.json"]
    with pytest.raises(InvalidFileError, match="cannot be written"):
        write_text(tmp_path / "no" / "f.json", "x")
    with pytest.raises(InvalidFileError, match="cannot be written"):
        write_text(tmp_path, "x")


@pytest.mark.skipif(os.name == "nt", reason="no symbolic links without rights")
def test_what_is_no_plain_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    write_text("/dev/null", "x")
    assert not Path("/dev/null").is_file()


@given(st.integers(0, 10**6))
def test_a_cluster_is_written_as_it_is_read(seed: int) -> None:
    cluster = random_problem(seed).cluster
    assert parse_cluster(cluster_document(cluster)) == cluster


def test_all_that_a_cluster_file_states_is_written(tmp_path: Path) -> None:
    cluster = Cluster(
        (
            Device(
                "pi",
                "rpi4",
                egress_bps=4e7,
                engine=Engine("cpu", 4, {"a": "b"}),
                endpoint="tcp/10.0.0.5:7447",
            ),
            Device("server", "epyc", interface="eth0", cpu_share=0.25),
        ),
        (),
        "pi",
        "server",
        multicast=True,
        default_link=Link("", "", 1e8, 0.001),
    )
    write_cluster(tmp_path / "c.yaml", cluster)
    assert read_cluster(tmp_path / "c.yaml") == cluster
