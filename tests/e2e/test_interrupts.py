"""Ctrl-C while a command works: one line or one document, status 130, and the process is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from cutset import zoo
from cutset.serde.common import to_json
from cutset.serde.workload_file import workload_document
from cutset.testing import graphs

CUTSET = (
    sys.executable,
    "-c",
    # As from a shell: what starts tests may have Ctrl-C ignored.
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from cutset.cli.main import main; main()",
)
CLUSTER = """\
schema: cutset/cluster/1
source: pi
devices: {pi: {}, server: {}}
default_link: {bandwidth: 1Mbit/s}
"""
# It says by the pipe that it works, and goes on until it is told to stop.
STRATEGY = """\
import signal
import threading
from dataclasses import dataclass
from typing import ClassVar

from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.one_stage import single_stage


@dataclass(frozen=True)
class Endless:
    reports: bool = False
    info: ClassVar[StrategyInfo] = StrategyInfo(frozenset(Objective), "", "none: a test")

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        if self.reports:
            plan = single_stage(problem, "pi")
            budget.report(plan)
        open("pipe", "rb").close()
        while not budget.stopped:
            threading.Event().wait(0.01)
        raise RuntimeError("stopped")


@dataclass(frozen=True)
class Reporting(Endless):
    reports: bool = True


@dataclass(frozen=True)
class Caught(Endless):
    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        threading.Event().wait(0.5)  # until the main thread waits
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        return super().__call__(problem, budget)
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    graph, cost = graphs.chain(3)
    kinds = {kind: next(iter(cost.seconds.values())) for kind in ("pi", "server")}
    Path("w.json").write_text(to_json(workload_document(graph, kinds)))
    Path("cluster.yaml").write_text(CLUSTER)
    Path("endless.py").write_text(STRATEGY)
    onnx.save(zoo.build("squeezenet", side=64, width=0.25), "m.onnx")
    os.mkfifo("pipe")
    return tmp_path


COMMANDS = {
    # each reads the pipe when it is under way
    "plan": ["plan", "w.json", "--strategy", "./endless.py:Endless"],
    "compare": ["compare", "w.json", "--strategies", "auto", "--strategy", "./endless.py:Endless"],
    "conformance": ["conformance", "./endless.py:Endless"],
    "simulate": ["simulate", "w.json", "pipe"],
    "export": ["export", "m.onnx", "--profile", "pipe"],
}


def interrupted(*arguments: str) -> tuple[subprocess.Popen[str], str, str]:
    """A command that has ended by Ctrl-C, which came when it had opened the pipe."""
    process = subprocess.Popen(
        [*CUTSET, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        with open("pipe", "wb"):  # opens when the command has opened it too
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    return process, out, err


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_ctrl_c_with_a_plan_at_hand_gives_it_and_says_so(as_json: bool, here: Path) -> None:
    options = ["--strategy", "./endless.py:Reporting", "-o", "p.json", *["--json"] * as_json]
    process, out, err = interrupted("plan", "w.json", *options)
    assert process.returncode == 130, (out, err)
    assert "interrupted" in err
    written = json.loads(Path("p.json").read_text())
    assert (written["finished"], written["stages"][0]["device"]) == (False, "pi")
    if as_json:
        assert json.loads(out)["finished"] is False
    else:
        assert "cut short by Ctrl-C" in out


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c(name: str, as_json: bool, here: Path) -> None:
    process, out, err = interrupted(*COMMANDS[name], *["--json"] * as_json)
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in err
    if as_json:
        document = json.loads(out)
        assert err == ""
        assert document.get("interrupted") or document["error"]["code"] == "interrupted"
    elif name == "compare":  # what there was
        assert "interrupted" in out
        assert "single_device" in out
    else:
        assert (out, err) == ("", "error: interrupted\n")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # nothing of its session is left


@pytest.mark.parametrize("name", ["plan", "compare", "conformance"])
def test_ctrl_c_that_the_system_gives_to_another_thread(name: str, here: Path) -> None:
    """The main thread is not woken from what it waits for; it must look by itself."""
    command = [part.replace(":Endless", ":Caught") for part in COMMANDS[name]]
    with subprocess.Popen([*CUTSET, *command], stdout=subprocess.PIPE, text=True) as process:
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
