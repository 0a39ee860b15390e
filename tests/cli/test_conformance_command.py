"""`cutset conformance`: one line a check, status 1 on a fault, and files that show it."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path

import pytest

from cutset.cli import main as cli
from cutset.cli.conformance import _write
from cutset.planner import solve
from cutset.problem import Objective, Problem
from cutset.profiles import resolve
from cutset.serde import read_cluster, read_workload
from cutset.testing.plans import TWO_STAGES, best_s
from cutset.testing.problems import random_problem
from cutset.testing.strategy_conformance import CHECKS

MINE = """
from dataclasses import dataclass
from typing import ClassVar
from cutset.errors import UnsupportedProblemError
from cutset.problem import Objective, Proposal, StrategyInfo
from cutset.solvers.one_stage import best_single

@dataclass(frozen=True)
class Mine:
    info: ClassVar[StrategyInfo] = StrategyInfo(frozenset(Objective), "", "none: a test")

    def __call__(self, problem, budget):
        plan, value = best_single(problem, required=False)
        if plan is None:
            raise UnsupportedProblemError("no single device", remedy="use auto")
        budget.report(plan)
        return Proposal(plan, value * {claim}, "full")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("good.py").write_text(MINE.replace("{claim}", "0"))
    Path("bad.py").write_text(MINE.replace("{claim}", "1"))
    return tmp_path


def test_one_line_a_check(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["conformance", "./good.py:Mine", "--seeds", "12"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("good: 12 random problems: ")
    assert [line[6:].partition(":")[0].partition(" (")[0] for line in lines[1:-2]] == list(CHECKS)
    assert {line[:5].strip() for line in lines[1:-2]} == {"pass", "skip"}
    assert lines[-1] == "it conforms"


def test_a_strategy_without_end_is_left_after_the_time_limit(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endless = MINE.replace(
        "        plan, value", "        while not budget.stopped: pass\n        plan, value"
    )
    Path("endless.py").write_text(endless.replace("{claim}", "0"))
    assert cli.run(["conformance", "./endless.py", "--time-limit", "0.2"]) == 1
    assert "comes to an end: random_problem(0): no end after 0.2 s" in capsys.readouterr().out


def test_a_fault_gives_status_1_and_files_that_show_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["conformance", "./bad.py:Mine", "--seeds", "5"]
    assert cli.run([*command, "-o", "shown", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["strategy"], found["problems"], found["ok"]) == ("bad", 5, False)
    failed = {check["name"]: check for check in found["checks"] if check["result"] == "fail"}
    assert set(failed) == {
        "no bound is above the best plan",
        "optimal means equal to brute force",
    }
    seed = failed["no bound is above the best plan"]["seed"]
    (again,) = found["reproduce"]
    assert cli.run([*shlex.split(again)[1:], "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["strategy"], plan["proof"]) == ("bad", "optimal")
    assert plan["value_s"] == solve(random_problem(seed), "./bad.py:Mine").value_s

    assert cli.run(command) == 1
    text = capsys.readouterr().out
    assert f"fail  no bound is above the best plan: random_problem({seed}): bound" in text
    assert "-o FOLDER" in text.splitlines()[-1]


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 6, 8, 10])
def test_files_hold_the_problem(seed: int, tmp_path: Path) -> None:
    problem = random_problem(seed)
    _write(tmp_path, (problem,), "mine")
    graph, cost = read_workload(tmp_path / "workload.json")
    cluster = resolve(read_cluster(tmp_path / "cluster.yaml"), None)
    again = Problem(graph, cluster, cost, problem.objective)
    for device in problem.cluster.devices:
        by_name = dict(zip(again.graph.positions, again.compute_s(device.name), strict=True))
        for name, seconds in zip(
            problem.graph.positions, problem.compute_s(device.name), strict=True
        ):
            assert by_name[name] == seconds
    if problem.graph.stage_memory_bytes == 0 or math.isinf(
        min(d.memory_bytes for d in problem.cluster.devices)
    ):
        assert best_s(again, TWO_STAGES) == best_s(problem, TWO_STAGES)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "strategies are"),
        (["./none.py:Mine"], "no such file"),
        (["./good.py:Mine", "--seeds", "0"], "seeds"),
        (["./good.py:Mine", "-o", "good.py"], "no folder"),
        (["./good.py:Mine", "-o", "no/such/folder"], "folder does not exist"),
    ],
)
def test_wrong_usage(
    arguments: list[str], words: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["conformance", *arguments, "--json"]) == 2
    assert words in json.dumps(json.loads(capsys.readouterr().out)["error"])


def test_objectives_are_named_in_the_command(tmp_path: Path) -> None:
    seed = next(s for s in range(50) if random_problem(s).objective is Objective.THROUGHPUT)
    (command,) = _write(tmp_path, (random_problem(seed),), "mine")
    assert "--objective throughput --strategy mine" in command
