"""The lab on this machine's kernel: what it shapes, what it limits, and that nothing stays."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from cutset import api, lab, zoo
from cutset.cluster import Cluster
from cutset.errors import CutsetError, InfeasibleError, TransportError, UsageError
from cutset.lab import Lab, commands, namespaces, places, traffic
from cutset.lab.state import LabState
from cutset.serde.cluster_file import parse_cluster

pytestmark = pytest.mark.lab

CUTSET = (sys.executable, "-c", "from cutset.cli.main import main; main()")
CLUSTER: dict[str, Any] = {
    "schema": "cutset/cluster/1",
    "source": "pi",
    "devices": {
        "pi": {"egress": "40Mbit/s"},
        "server": {"memory": "64MiB"},
        "mid": {"ingress": "30Mbit/s"},
    },
    "links": [
        {"from": "pi", "to": "server", "bandwidth": "20Mbit/s", "both": True},
        {"from": "pi", "to": "mid", "bandwidth": "50Mbit/s", "latency": "20ms", "both": True},
        {"from": "mid", "to": "server", "both": True},
    ],
    "lab": {"pi": {"cpu": 0.25}, "server": {"cpu": 0.9}, "mid": {"cpu": 0.5}},
}


@pytest.fixture(scope="module", autouse=True)
def possible() -> None:
    lacks = lab.unavailable()
    if lacks is not None:
        pytest.skip(lacks)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own, so that the lab of somebody else stays what it is."""
    monkeypatch.setenv(places.VARIABLE, str(tmp_path / "lab"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("cluster.yaml").write_text(json.dumps(CLUSTER))  # JSON is YAML
    return tmp_path / "lab"


def cluster(**fields: Any) -> Cluster:
    return parse_cluster({**CLUSTER, **fields})


@pytest.fixture
def up(folder: Path) -> Iterator[Lab]:
    with lab.up(cluster(), tied=True) as made:
        yield made


def cutset(*arguments: str, status: int = 0) -> Any:
    """The one JSON document that the command prints."""
    done = subprocess.run(
        [*CUTSET, *arguments, "--json"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == status, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


@contextlib.contextmanager
def ends(made: Lab, *names: str) -> Iterator[list[traffic.End]]:
    found = [traffic.End(made.open_namespace(n), made.place(n).address) for n in names]
    try:
        yield found
    finally:
        for end in found:
            os.close(end.namespace_fd)


def rate_bps(made: Lab, source: str, target: str, size_bytes: int) -> float:
    """The median of five transfers: other guests of this machine stall single ones."""
    with ends(made, source, target) as (a, b):
        return statistics.median(traffic.payload_bps(a, b, size_bytes, 5))


class Traces:
    """All that a lab could leave: its processes, namespaces, interfaces, groups and files."""

    def __init__(self, state: LabState) -> None:
        self.state = state
        keeper = state.keeper_pid
        self.pids = {keeper, *descendants(keeper)}
        self.guardian = next(pid for pid in self.pids if "guardian" in command_line(pid))
        self.handles = {pid: os.pidfd_open(pid) for pid in self.pids}
        self.namespaces = {
            os.stat(f"/proc/{keeper}/fd/{place.namespace_fd}").st_ino for place in state.places
        }
        assert len(self.pids) >= 5  # keeper, guardian, relay and two workers
        assert all(Path(folder).is_dir() for folder in state.folders)

    def assert_gone(self, folder: Path) -> None:
        for pid, handle in self.handles.items():
            assert select.select([handle], [], [], 20)[0], command_line(pid)
            os.close(handle)
        assert not [f for f in self.state.folders if Path(f).exists()]
        assert not self.namespaces & set(namespaces_in_use())
        assert not (folder / "lab.json").exists()
        assert not (folder / "lab.sock").exists()
        assert not {"hub", "d0", "d1", "delay0"} & set(os.listdir("/sys/class/net"))


def descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield child
            yield from descendants(child)


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def namespaces_in_use() -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield os.stat(process / "ns" / "net").st_ino


# --- coming and going


def test_up_and_down_leave_nothing(folder: Path) -> None:
    document = cutset("lab", "up", "cluster.yaml")
    assert [d["name"] for d in document["devices"]] == ["pi", "server", "mid"]
    found = lab.find()
    assert found is not None
    traces = Traces(found.state)
    assert oct(folder.stat().st_mode)[-3:] == "700"
    refused = cutset("lab", "up", "cluster.yaml", status=2)["error"]
    assert "already" in refused["message"]
    assert "lab down" in refused["remedy"]
    assert cutset("lab", "status")["links"] == document["links"]
    assert cutset("lab", "down") == {"up": False, "was_up": True}
    traces.assert_gone(folder)
    assert cutset("lab", "down") == {"up": False, "was_up": False}
    assert cutset("lab", "status") == {"up": False}


def test_a_killed_keeper_leaves_nothing(folder: Path) -> None:
    made = lab.up(cluster())
    traces = Traces(made.state)
    os.kill(traces.state.keeper_pid, signal.SIGKILL)
    traces.assert_gone(folder)
    assert lab.find() is None


def test_what_a_killed_guardian_left_goes_with_the_next_command(folder: Path) -> None:
    made = lab.up(cluster())
    traces = Traces(made.state)
    os.kill(traces.guardian, signal.SIGKILL)
    os.kill(traces.state.keeper_pid, signal.SIGKILL)
    for pid in traces.pids:
        assert select.select([traces.handles[pid]], [], [], 20)[0]
    assert all(Path(f).is_dir() for f in traces.state.folders)
    assert lab.find() is None
    lab.up(cluster()).down()
    traces.assert_gone(folder)


def test_a_tied_lab_ends_with_its_command(folder: Path) -> None:
    code = (
        "from cutset import lab; from cutset.serde import read_cluster;"
        "lab.up(read_cluster('cluster.yaml'), tied=True); print('up', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        found = lab.find()
        assert found is not None
        traces = Traces(found.state)
        process.kill()
    traces.assert_gone(folder)


def test_what_runs_inside_is_ended_with_the_lab(up: Lab, folder: Path) -> None:
    command = (*CUTSET, "lab", "exec", "server", "--", "cat")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x")
        process.stdin.flush()
        assert process.stdout.read(1) == b"x"
        up.down()
        assert process.wait(timeout=20) == -signal.SIGTERM
        process.stdin.close()
    assert not (folder / "lab.json").exists()


def test_what_cannot_be_true_here_is_refused_and_nothing_is_made(folder: Path) -> None:
    many = {name: {} for name in ("pi", "server", "mid")} | {f"x{i}": {} for i in range(500)}
    with pytest.raises(InfeasibleError, match="room for 200"):
        lab.up(cluster(devices=many))
    huge = {**CLUSTER["devices"], "server": {"memory": "900000GiB"}}
    with pytest.raises(InfeasibleError, match="'server' has"):
        lab.up(cluster(devices=huge))
    assert not folder.exists()


# --- links


def test_rates_hold_and_change_live(up: Lab) -> None:
    assert rate_bps(up, "pi", "server", 1_000_000) == pytest.approx(20e6, rel=0.05)
    assert rate_bps(up, "pi", "mid", 1_000_000) == pytest.approx(30e6, rel=0.05)  # its ingress
    up.set("link:pi>server=5Mbit/s", "device:mid.ingress=10Mbit/s", "device:server.egress=2Mbit/s")
    assert rate_bps(up, "pi", "server", 250_000) == pytest.approx(5e6, rel=0.05)
    assert rate_bps(up, "pi", "mid", 500_000) == pytest.approx(10e6, rel=0.05)
    assert rate_bps(up, "server", "mid", 100_000) == pytest.approx(2e6, rel=0.05)
    assert up.state.spec.devices[2].ingress_bps == 10e6
    assert up.state.built.devices[2].ingress_bps == 30e6


def test_an_egress_is_shared_by_its_links(up: Lab) -> None:
    up.set("device:pi.egress=20Mbit/s", "link:pi>mid.latency=0s", "link:mid>pi.latency=0s")
    with ends(up, "pi", "server", "mid") as (pi, server, mid):
        found: dict[str, float] = {}

        def move(name: str, target: traffic.End) -> None:
            found[name] = traffic.payload_bps(pi, target, 2_000_000, 1)[0]

        threads = [
            threading.Thread(target=move, args=pair) for pair in (("server", server), ("mid", mid))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(found.values()) == pytest.approx(20e6, rel=0.25)
    assert max(found.values()) < 17e6


def test_small_transfers_take_their_time_too(up: Lab) -> None:
    with ends(up, "pi", "server") as (pi, server):
        took = statistics.median(traffic.transfer_times_s(pi, server, [50_000] * 5))
    assert took == pytest.approx(8 * 50_000 / 20e6, rel=0.1)


def test_latency_delays_one_way_and_changes_live(up: Lab) -> None:
    with ends(up, "pi", "mid") as (pi, mid):
        assert min(traffic.transfer_times_s(pi, mid, [1] * 5)) == pytest.approx(0.02, rel=0.2)
        up.set("link:pi>mid.latency=50ms", "link:mid>pi.latency=0s")
        assert min(traffic.transfer_times_s(pi, mid, [1] * 5)) == pytest.approx(0.05, rel=0.2)
        assert min(traffic.transfer_times_s(mid, pi, [1] * 5)) < 0.01


def test_a_link_goes_down_and_comes_up(up: Lab) -> None:
    up.set("link:pi>server=down")
    with ends(up, "pi", "server") as (pi, server):
        with pytest.raises(TransportError, match="link down"):
            traffic.payload_bps(pi, server, 1000)
        up.set("link:pi>server=up")
        assert traffic.payload_bps(pi, server, 10_000)


def test_pairs_without_a_link_cannot_talk(folder: Path) -> None:
    apart = cluster(links=[x for x in CLUSTER["links"] if x["from"] == "pi"])
    with (
        lab.up(apart, tied=True) as made,
        ends(made, "mid", "server") as (mid, server),
        pytest.raises(TransportError),
    ):
        traffic.payload_bps(mid, server, 1000)


def test_bad_changes_change_nothing(up: Lab) -> None:
    before = up.state
    for bad in (
        ("link:pi>server=5Mbit/s", "link:pi>nope=1Mbit/s"),
        ("device:mid.cpu=1", "device:server.cpu=1", "device:pi.cpu=1"),
    ):
        with pytest.raises((UsageError, InfeasibleError)):
            up.set(*bad)
        if os.cpu_count() == 2 or "nope" in bad[1]:
            assert up.state == before


def test_what_the_kernel_refuses_is_undone(up: Lab) -> None:
    before = up.state
    server = up.open_namespace("server")
    try:  # the shapers of the second device go, so that theirs cannot be changed
        drop = [f"qdisc del dev {commands.DEVICE_PORT} root"]
        namespaces.inside(server, lambda: namespaces.batch("tc", drop))
    finally:
        os.close(server)
    with pytest.raises(CutsetError):
        up.set("link:pi>server=5Mbit/s", "link:server>pi=5Mbit/s")
    assert up.state == before
    assert rate_bps(up, "pi", "server", 1_000_000) == pytest.approx(20e6, rel=0.2)
    assert rate_bps(up, "server", "pi", 1_000_000) == pytest.approx(20e6, rel=0.2)


# --- devices


def test_shares_and_memory_are_guarded(up: Lab) -> None:
    place = up.place("server")
    quota, period = Path(place.cgroups[0]), Path(place.cgroups[0])
    limit = cutset("lab", "status")["devices"][1]["memory_limit_bytes"]
    assert limit == 64 * 2**20 + cutset("lab", "status")["memory_allowance_bytes"]
    greedy = (sys.executable, "-c", f"print(len(bytearray({2 * limit})))")
    modest = (sys.executable, "-c", "print(len(bytearray(2**20)))")
    run = (*CUTSET, "lab", "exec", "server", "--")
    assert subprocess.run([*run, *modest], capture_output=True, check=True).stdout == b"1048576\n"
    assert subprocess.run([*run, *greedy], capture_output=True).returncode == -signal.SIGKILL
    if (quota / "cpu.max").exists():
        before = (quota / "cpu.max").read_text()
        up.set("device:server.cpu=0.1")
        assert before != (quota / "cpu.max").read_text()
    else:
        up.set("device:server.cpu=0.1")
        allowed = int((quota / "cpu.cfs_quota_us").read_text())
        assert allowed / int((period / "cpu.cfs_period_us").read_text()) == pytest.approx(0.2)


def test_a_worker_that_ended_is_seen(up: Lab) -> None:
    pid = up.place("server").pid
    assert pid is not None
    handle = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert select.select([handle], [], [], 20)[0]
    os.close(handle)
    deadline_s = time.monotonic() + 20
    while up.place("server").pid is not None and time.monotonic() < deadline_s:
        threading.Event().wait(0.01)
    assert up.place("server").pid is None
    assert up.place("mid").pid is not None


def test_a_folder_that_others_may_write_to_is_refused(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    folder.chmod(0o777)
    with pytest.raises(UsageError, match="alone"):
        lab.up(cluster())
    assert lab.find() is None


def test_commands_run_on_the_device_that_is_named(up: Lab) -> None:
    code = "import socket; s = socket.socket(); s.bind(('10.77.0.3', 0)); print('here')"
    run = (*CUTSET, "lab", "exec")
    done = subprocess.run(
        [*run, "mid", "--", sys.executable, "-c", code], capture_output=True, text=True
    )
    assert done.stdout == "here\n"
    for wrong in (("nope", "--", "true"), ("mid", "--", "/no/such/command")):
        done = subprocess.run([*run, *wrong], capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


# --- cutset's commands inside


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
