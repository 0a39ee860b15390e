from pathlib import Path

import pytest

from cutset import strategies
from cutset.errors import UsageError
from cutset.planner import solve
from cutset.problem import Problem
from cutset.testing import graphs

MINE = """
from dataclasses import dataclass
from typing import ClassVar
from cutset.problem import Objective, Proposal, StrategyInfo
from cutset.solvers.one_stage import single_stage

@dataclass(frozen=True)
class Mine:
    device: str = "server"
    info: ClassVar[StrategyInfo] = StrategyInfo(frozenset(Objective), "", "")

    def __call__(self, problem, budget):
        return Proposal(single_stage(problem, self.device))
"""


def test_own_strategies_are_found_by_file() -> None:
    ours = {"auto", "brute_force", "dads", "envelope", "loadpart", "neurosurgeon", "single_device"}
    assert ours <= set(strategies.available())


def test_a_strategy_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    graph, cost = graphs.chain(5)
    solution = solve(Problem(graph, graphs.two_devices(), cost), f"{file}:Mine")
    assert solution.plan.devices == ("server",)
    assert (solution.proof, solution.strategy) == ("none", "mine")
    local = strategies.load(f"{file}:Mine", {"device": "pi"})
    assert solve(Problem(graph, graphs.two_devices(), cost), local).plan.devices == ("pi",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("nonsense", "", "strategies are"),
        ("enveloppe", "", "did you mean envelope"),
        ("none.py:Mine", None, "no such file"),
        ("bad.py:Mine", "import nothing_like_it", "ModuleNotFoundError"),
        ("empty.py:Mine", "x = 1", "no such class"),
        ("odd.py:Mine", "class Mine: pass", "not a strategy"),
    ],
)
def test_bad_names(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if ":" in name:
        name = str(tmp_path / name)
        if text is not None:
            Path(name.partition(":")[0]).write_text(text)
    with pytest.raises(UsageError, match=message):
        strategies.load(name)


def test_unknown_option() -> None:
    with pytest.raises(UsageError, match="cannot be made"):
        strategies.load("envelope", {"speed": 3})
