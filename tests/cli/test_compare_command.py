"""`cutset compare`: its document, its text in 80 columns, its exit statuses."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from cutset.cli import compare as command
from cutset.cli import main as cli
from cutset.comparison import Comparison, compare
from cutset.problem import Problem
from cutset.serde import read_plan, to_json, workload_document
from cutset.testing import graphs
from cutset.testing.problems import random_problem
from cutset.units import format_time

MINE = """
from dataclasses import dataclass
from typing import ClassVar
from cutset.plan import Plan, Stage
from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo

@dataclass(frozen=True)
class Mine:
    info: ClassVar[StrategyInfo] = StrategyInfo(frozenset(Objective), "", "a test")

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        names = tuple(op.name for op in problem.graph.operators)
        return Proposal(Plan((Stage("s0", "pi", names),)))

@dataclass(frozen=True)
class Broken(Mine):
    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        raise ValueError("no luck")

@dataclass(frozen=True)
class Stopped(Mine):
    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        budget.report(super().__call__(problem, budget).plan)
        raise KeyboardInterrupt
"""
CLUSTER = """\
schema: cutset/cluster/1
source: pi
devices: {pi: {kind: slow}, server: {kind: fast}}
links: [{from: pi, to: server, bandwidth: 20Mbit/s, latency: 3ms, both: true}]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    graph, cost = graphs.series_parallel(20, 2)
    Path("w.json").write_text(to_json(workload_document(graph, cost.seconds)))
    Path("cluster.yaml").write_text(CLUSTER)
    Path("mine.py").write_text(MINE)
    return tmp_path


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    status = cli.run(["compare", "w.json", *arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_one_document_with_every_strategy(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = document(capsys, "--strategy", "./mine.py:Mine")
    assert status == 0
    rows = {r["strategy"]: r for r in found["strategies"]}
    assert {"auto", "single_device", "dads", "mine.py:Mine"} <= set(rows)
    assert found["best"] == found["strategies"][0]["strategy"]
    assert found["value_s"] == found["strategies"][0]["value_s"]
    mine = rows["mine.py:Mine"]
    assert (mine["devices"], mine["proof"], mine["outcome"]) == (["pi"], "none", "planned")
    assert mine["ratio"] == pytest.approx(mine["value_s"] / found["value_s"])
    assert not found["interrupted"]


def test_its_plans_are_plan_files(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = document(capsys)
    Path("p.json").write_text(json.dumps(found["strategies"][0]["plan"]))
    assert read_plan("p.json").stages
    assert cli.run(["evaluate", "w.json", "p.json"]) == 0


def test_only_the_named_and_the_baseline(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = document(capsys, "--strategies", "dads, envelope")
    assert {r["strategy"] for r in found["strategies"]} == {"dads", "envelope", "single_device"}


def test_a_strategy_that_fails_is_named_with_status_1(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = document(capsys, "--strategy", "./mine.py:Broken")
    assert status == 1
    broken = next(r for r in found["strategies"] if r["strategy"] == "mine.py:Broken")
    assert (broken["outcome"], broken["value_s"], broken["plan"]) == ("failed", None, None)
    assert "no luck" in broken["reason"]
    assert found["best"] is not None


def test_interrupted_it_prints_what_is_there(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--strategies", "single_device", "--strategy", "./mine.py:Stopped")
    status, found = document(capsys, *options)
    assert (status, found["interrupted"]) == (130, True)
    assert {r["outcome"] for r in found["strategies"]} == {"planned"}
    assert cli.run(["compare", "w.json", *options]) == 130
    assert "interrupted: this is what there was" in capsys.readouterr().out


def test_what_does_not_apply_is_a_footnote(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["compare", "w.json", "--objective", "throughput"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (note,) = (line for line in lines if line.startswith("does not apply") and "dads" in line)
    assert "covers latency only" in note
    assert not any(line.startswith("dads") for line in lines)


def test_without_any_plan_it_is_infeasible(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = CLUSTER.replace("kind: slow", "kind: slow, memory: 1B").replace(
        "kind: fast", "kind: fast, memory: 1B"
    )
    Path("cluster.yaml").write_text(limits)
    status, found = document(capsys)
    assert status == 3
    assert found["error"]["code"] == "infeasible"


@pytest.mark.parametrize(
    "options",
    [("--strategies", "magic"), ("--strategy", "./none.py:X"), ("-o", "no/such/folder/r.html")],
)
def test_wrong_usage_is_refused_before_planning(
    options: tuple[str, ...], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = document(capsys, *options)
    assert status == 2
    assert set(found) == {"error"}


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    graph, cost = graphs.series_parallel(20, 2)
    return compare(Problem(graph, graphs.two_devices(), cost))


@pytest.mark.parametrize("width", [48, 54, 60, 66, 72, 80, 120, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_table_fits_its_terminal(width: int, encoding: str, comparison: Comparison) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    console = Console(file=file, width=width, markup=False, highlight=False)
    command._show(console, comparison, "next")
    file.seek(0)
    lines = file.read().splitlines()
    names = tuple(f"{r.strategy} " for r in comparison.rows)
    begin = next(i for i, line in enumerate(lines) if line.startswith("strategy ")) + 1
    table = lines[begin : begin + sum(r.solution is not None for r in comparison.rows)]
    assert all(line.startswith(names) for line in table)
    assert all(len(line) <= width for line in lines)
    assert lines[0].startswith(("split", "don't split", "no clear"))
    cells = [list(row) for row in zip(*(line.split() for line in table), strict=False)]
    values = {format_time(r.value_s).replace(" ", "") for r in comparison.rows if r.solution}
    shown = {value + unit for value, unit in zip(cells[1], cells[2], strict=True)}
    assert shown == values  # nothing is cut off
    assert "…" not in "".join(table)
    longest = max(line.count("█" if encoding == "utf-8" else "#") for line in table)
    assert longest >= (8 if width >= 80 else 0)
    assert longest <= 30


@given(st.integers(0, 20_000))
@settings(deadline=None, max_examples=40)
def test_every_comparison_can_be_shown(seed: int) -> None:
    found = compare(random_problem(seed), ["single_device", "heft", "envelope"])
    console = Console(file=io.StringIO(), width=80, markup=False)
    command._show(console, found, "next")
    assert "next: next" in console.file.getvalue()  # type: ignore[attr-defined]
    json.loads(to_json(command.document(found)))


def test_bars_are_in_proportion_and_long_ones_are_clipped() -> None:
    assert command._bar(1.0, 2.0, 8, "utf-8") == "████"
    assert command._bar(2.0, 2.0, 8, "utf-8") == "█" * 8
    assert command._bar(9.0, 5.0, 8, "utf-8") == "█" * 7 + "▶"
    assert command._bar(9.0, 5.0, 8, "ascii") == "#" * 7 + ">"
