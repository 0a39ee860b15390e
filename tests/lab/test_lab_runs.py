"""Commands that measure and run models in a lab on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import onnx
import pytest
from lab_here import (
    CLUSTER,
    CUTSET,
    cutset,
)

from cutset import api, lab, zoo
from cutset.lab import places
from cutset.serde.cluster_file import parse_cluster

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("possible")]


def write_model_and_plan() -> None:
    onnx.save(zoo.build("squeezenet", side=64, width=0.25), "m.onnx")
    names = [op.name for op in api.load("m.onnx").graph.operators]
    third = len(names) // 3
    parts = (names[:third], names[third : 2 * third], names[2 * third :])
    stages = [
        {"name": f"s{i}", "device": device, "operators": list(part)}
        for i, (device, part) in enumerate(zip(("pi", "mid", "server"), parts, strict=True))
    ]
    Path("p.json").write_text(json.dumps({"schema": "cutset/plan/1", "stages": stages}))


WIDE = {
    **CLUSTER,
    "devices": {"pi": {}, "server": {}, "mid": {}},
    "links": [],
    "default_link": {"bandwidth": "50Mbit/s"},
}


def test_a_run_in_a_lab_of_its_own_equals_the_unsplit_model(folder: Path) -> None:
    write_model_and_plan()
    Path("cluster.yaml").write_text(json.dumps(WIDE))
    found = cutset("run", "m.onnx", "--plan", "p.json", "--lab", "--requests", "8", "--verify")
    assert found["emulated"] == "lab"
    assert found["answered"] == 8
    assert found["verify"]["equal"]
    assert [s["device"] for s in found["stages"]] == ["pi", "mid", "server"]
    assert lab.find() is None
    assert not (folder / "lab.json").exists()


def test_a_lab_that_is_up_is_used_and_stays(folder: Path) -> None:
    write_model_and_plan()
    Path("cluster.yaml").write_text(json.dumps(WIDE))
    with lab.up(parse_cluster(WIDE), tied=True) as made:
        made.set("device:mid.cpu=0.4")
        run = ("run", "m.onnx", "--plan", "p.json", "--lab", "--requests", "4", "--verify")
        assert cutset(*run)["verify"]["equal"]
        checks = {
            c["name"]: c for c in cutset("doctor", "--cluster", "cluster.yaml", "--lab")["checks"]
        }
        assert "10.77.0.2" in checks["device server"]["found"]
        Path("other.yaml").write_text(json.dumps(CLUSTER))
        refused = cutset(*run, "--cluster", "other.yaml", status=2)["error"]
        assert "another cluster" in refused["message"]
        assert made.is_up


def test_profiles_through_the_lab_see_its_links(folder: Path) -> None:
    onnx.save(zoo.build("squeezenet", side=64, width=0.25), "m.onnx")
    two = {**WIDE, "devices": {"pi": {}, "server": {}}, "lab": {"pi": {"cpu": 0.25}}}
    Path("cluster.yaml").write_text(json.dumps(two))
    found = cutset("profile", "m.onnx", "--cluster", "cluster.yaml", "--lab")
    assert {w["kind"] for w in found["whole"]} == {"pi", "server"}
    rates = {(x["from"], x["to"]): x["bandwidth_bps"] for x in found["links"]}
    assert rates["pi", "server"] == pytest.approx(50e6, rel=0.3)


def test_a_lost_keeper_ends_a_run_with_an_error(folder: Path) -> None:
    write_model_and_plan()
    Path("cluster.yaml").write_text(json.dumps(WIDE))
    made = lab.up(parse_cluster(WIDE))
    keeper = made.state.keeper_pid
    command = (
        *CUTSET,
        *("run", "m.onnx", "--plan", "p.json", "--lab", "--duration", "60", "--deadline", "20"),
    )
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("serving"):
                break
        started_s = time.monotonic()
        os.kill(keeper, signal.SIGKILL)
        rest = process.stderr.read()
        assert process.wait(timeout=60) in (1, 4), rest
    assert "Traceback" not in rest
    assert time.monotonic() - started_s < 60
    places.wait_gone(places.files())
    assert not (folder / "lab.json").exists()
