"""The lab on this machine's kernel: what it shapes, what it limits, and that nothing stays."""

from __future__ import annotations

import os
import select
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from lab_here import (
    CLUSTER,
    CUTSET,
    Traces,
    cluster,
    cutset,
    ends,
    rate_bps,
)

from cutset import lab
from cutset.errors import CutsetError, InfeasibleError, TransportError, UsageError
from cutset.lab import Lab, commands, namespaces, traffic

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("possible")]

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
