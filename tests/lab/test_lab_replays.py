"""`cutset replay --lab`: policies on real processes, and what they leave: nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import onnx
import pytest
from lab_here import CUTSET, Traces, command_line, cutset

from cutset import lab, zoo
from cutset.lab import places
from cutset.lab.competitors import competitors
from cutset.serde.cluster_file import parse_cluster

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("possible")]

TWO: dict[str, Any] = {
    "schema": "cutset/cluster/1",
    "source": "pi",
    "devices": {"pi": {}, "server": {}},
    "links": [{"from": "pi", "to": "server", "bandwidth": "400Mbit/s", "both": True}],
    "lab": {"pi": {"cpu": 0.1}, "server": {"cpu": 1.0}},
}
#: Offloading pays four times over at first; then the link is too slow, and the server loaded.
TABLE = """\
time,bandwidth,load,lost
0,400Mbit/s,1,0
2,100kbit/s,,
4,400Mbit/s,3,
5,,1,
6,,,
"""


@pytest.fixture(autouse=True)
def files(folder: Path) -> None:
    onnx.save(zoo.build("squeezenet", side=128), "m.onnx")
    Path("cluster.yaml").write_text(json.dumps(TWO))
    Path("t.csv").write_text(TABLE)


def competing() -> list[int]:
    """Competitors of this test's lab: their commands hold no name, but their environment does."""
    own = os.environ[places.VARIABLE].encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            mine = own in (entry / "environ").read_bytes()
        except OSError:
            continue
        if mine and "cutset.lab.competitors" in command_line(int(entry.name)):
            found.append(int(entry.name))
    return found


def test_two_policies_in_a_lab_of_their_own(folder: Path) -> None:
    found = cutset(
        "replay", "t.csv", "m.onnx", "--lab", "--policies", "load-aware,oracle", "--duration", "6"
    )
    assert (found["kind"], found["simulated"], found["duration_s"]) == ("lab", False, 6.0)
    assert not found["interrupted"]
    assert [policy["policy"] for policy in found["policies"]] == ["load-aware", "oracle"]
    for policy in found["policies"]:
        assert policy["requests"] > 10
        assert policy["unanswered"] == 0
        assert policy["max_rel"] <= 1e-5
        assert policy["regret"] is not None
        assert all(switch["reason"] for switch in policy["switches"])
        assert {s["from"] for s in policy["switches"]} <= set(found["cuts"])
    # Who observes may be misled by a busy machine; who is told is not.
    aware, oracle = found["policies"]
    assert len(aware["switches"]) >= 1
    assert len(oracle["switches"]) >= 2
    assert [entry["processes"] for entry in found["competitors"]] == [0, 2]
    assert found["competitors"][1]["load"] >= 1  # what runs for a few ms may not be interrupted
    assert lab.find() is None
    assert not (folder / "lab.json").exists()
    assert competing() == []


def test_a_lab_that_is_up_has_its_links_back(folder: Path) -> None:
    three = {
        **TWO,
        "devices": {"pi": {}, "server": {}, "mid": {}},
        "lab": {**TWO["lab"], "mid": {"cpu": 0.2}},
    }
    Path("cluster.yaml").write_text(json.dumps(three))
    with lab.up(parse_cluster(three), tied=True) as made:
        made.set("link:pi>server=40Mbit/s")
        before = made.state.spec
        options = ("--policies", "local", "--server", "server", "--duration", "3")
        found = cutset("replay", "t.csv", "m.onnx", "--lab", *options)
        assert found["policies"][0]["switches"] == []
        assert found["policies"][0]["regret"] is None
        assert made.is_up
        assert made.state.spec == before
        traces = Traces(made.state)
    traces.assert_gone(folder)
    assert competing() == []


def test_ctrl_c_reports_what_was_measured(folder: Path) -> None:
    command = (*CUTSET, "replay", "t.csv", "m.onnx", "--lab", "--json")
    options = ("--policies", "local,offload", "--duration", "300")
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("playing"):
                break
        try:
            # Some requests are answered within any second.
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(3)
            process.send_signal(signal.SIGINT)
            out, rest = process.communicate(timeout=60)
        finally:
            process.kill()  # the lab it brought up ends with it
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    found = json.loads(out)
    assert found["interrupted"]
    assert [policy["policy"] for policy in found["policies"]] == ["static local"]
    assert found["policies"][0]["requests"] > 0
    assert lab.find() is None
    assert competing() == []


def test_competitors_end_with_their_parent(folder: Path) -> None:
    with lab.up(parse_cluster(TWO), tied=True) as made:
        place = made.place("server")
        with competitors(2, place.cgroups) as load:
            load.set(2)
            group = Path(place.cgroups[0], "cgroup.procs").read_text().split()
            assert {str(pid) for pid in load.pids} <= set(group)
            assert load.working == 2
        assert not any(Path(f"/proc/{pid}").exists() for pid in load.pids)
        code = (
            "import os, signal, sys\n"
            "from cutset.lab.competitors import competitors\n"
            f"with competitors(2, {place.cgroups!r}) as load:\n"
            "    load.set(1)\n"
            "    print(*load.pids, flush=True)\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = subprocess.run([*CUTSET[:2], code], capture_output=True, text=True, timeout=60)
        assert done.returncode == -signal.SIGKILL, done.stderr
        pids = [int(word) for word in done.stdout.split()]
        assert len(pids) == 2
        # Their end needs no more than their standard input's.
        group_file = Path(place.cgroups[0], "cgroup.procs")
        for _ in range(1000):
            if not set(map(str, pids)) & set(group_file.read_text().split()):
                break
            signal.sigtimedwait([], 0.02)
        assert not set(map(str, pids)) & set(group_file.read_text().split())
