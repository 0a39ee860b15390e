"""What `cutset plan` says of its plan: families, bottleneck, critical path, break-evens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cutset.cli import main as cli
from cutset.serde import to_json, workload_document
from cutset.testing import graphs

STRATEGY = '''
from dataclasses import dataclass
from typing import ClassVar
from cutset.plan import Plan, Stage
from cutset.problem import Alternative, Budget, Objective, Problem, Proposal, StrategyInfo

@dataclass(frozen=True)
class Thirds:
    """A third of the operators on each device; remembers two other families."""

    info: ClassVar[StrategyInfo] = StrategyInfo(frozenset(Objective), "", "a test")

    def __call__(self, problem: Problem, budget: Budget) -> Proposal:
        names = [op.name for op in problem.graph.operators]
        parts = (names[:10], names[10:20], names[20:])
        stages = [
            Stage(f"s{i}", device, tuple(part))
            for i, (device, part) in enumerate(zip(("a", "b", "c"), parts))
        ]
        whole = Plan((Stage("s0", "c", tuple(names)),))
        others = (
            Alternative("one device", "single_device", 0.5, 0.5, "full", 0.1, plan=whole),
            Alternative("branches", "makespan", None, reason="time ran out"),
        )
        return Proposal(Plan(tuple(stages)), alternatives=others)
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    graph, cost = graphs.chain(30, 1)
    Path("w.json").write_text(to_json(workload_document(graph, cost.seconds)))
    Path("cluster.yaml").write_text(
        "schema: cutset/cluster/1\nsource: a\n"
        "devices: {a: {kind: fast}, b: {kind: fast}, c: {kind: fast}}\n"
        "default_link: {bandwidth: 10Gbit/s}\n"
    )
    Path("thirds.py").write_text(STRATEGY)
    return tmp_path


PLAN = ["plan", "w.json", "--strategy", "./thirds.py:Thirds"]


def test_the_document_has_families_and_ties(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*PLAN, "--objective", "throughput", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [f["family"] for f in found["families"]] == ["one device", "branches"]
    assert found["families"][1]["value_s"] is None
    assert found["families"][1]["reason"] == "time ran out"
    assert [a["device"] for a in found["alternatives"]] == ["a", "b", "c"]
    assert {b["scope"] for b in found["break_even"]} == {"the plans compared"}
    assert any(b["change"].startswith("link:") for b in found["break_even"])


def test_a_person_reads_why(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(PLAN) == 0
    said = capsys.readouterr().out
    lines = {line.partition(" ")[0]: line for line in said.splitlines()}
    assert "is busy longest" in lines["bottleneck"]
    assert " → link a>b " in lines["waits"]
    header = next(line for line in said.splitlines() if line.startswith("family of plans"))
    assert header.endswith("planned in")
    assert "no plan" in lines["branches"]  # the reason is below, however long it is
    assert lines["no"] == "no plan: branches (time ran out)"
    assert lines["bound"].split() == ["bound", "none"]
    assert "--strategy thirds.py:Thirds" in lines["next:"]


def test_for_throughput_the_bottleneck_and_what_is_next(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*PLAN, "--objective", "throughput"]) == 0
    said = capsys.readouterr().out
    assert "sets the period: busy" in said
    assert "; next is " in said
    assert "waits for" not in said
    assert "the plans compared only" in said
    assert "--objective throughput" in said


def test_a_proof_for_some_plans_does_not_read_as_one_for_all(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The best of two stages, and a lower bound on the others: two claims, in two lines."""
    assert cli.run(["plan", "w.json", "--strategy", "single_device"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "optimal among any untiled plan" in said  # of this chain even all plans are known
    assert "any plan" not in said.split("strategy")[0]
    assert cli.run(["plan", "w.json", "--strategy", "envelope", "--objective", "throughput"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "proof optimal among plans of at most two stages" in said
    assert "any plan of untiled plans of any shape it is only proven that none takes less" in said
    assert "a better one may exist in between" in said
    assert cli.run(["compare", "w.json", "--strategies", "envelope,makespan"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "; proven: no untiled plan, of whatever shape, is better" in said
    assert "¹ bound, gap and proof are for any untiled plan" in said
