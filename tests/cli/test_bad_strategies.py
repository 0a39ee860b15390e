"""A strategy of the user's own may do anything: it is named, in one line, and never believed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from cutset import strategies, zoo
from cutset.cli import main as cli
from cutset.errors import UsageError
from cutset.planner import solve
from cutset.problem import Problem
from cutset.testing import graphs

WORKLOAD: dict[str, Any] = {
    "schema": "cutset/workload/1",
    "inputs": ["x"],
    "outputs": ["y"],
    "tensors": {"x": 10, "t": 10, "y": 10},
    "operators": [
        {"name": n, "inputs": [i], "outputs": [o], "compute_s": {"pi": 1.0, "server": 0.1}}
        for n, i, o in (("a", "x", "t"), ("b", "t", "y"))
    ],
}
CLUSTER = """\
schema: cutset/cluster/1
source: pi
devices: {pi: {}, server: {}}
default_link: {bandwidth: 1Mbit/s}
"""
HEAD = """\
from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from typing import ClassVar

from cutset.errors import InfeasibleError
from cutset.graph import Tensor
from cutset.plan import Plan, Stage
from cutset.problem import Budget, Objective, Problem, Proposal, StrategyInfo
from cutset.solvers.one_stage import single_stage


@dataclass(frozen=True)
class S:
    speed: float = 1.0
    info: ClassVar[StrategyInfo] = StrategyInfo(frozenset(Objective), "", "none: a test")

"""
CALL = HEAD + "    def __call__(self, problem: Problem, budget: Budget) -> Proposal:\n        "
ON_PI = "Proposal(single_stage(problem, 'pi'))"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("w.json").write_text(json.dumps(WORKLOAD))
    Path("cluster.yaml").write_text(CLUSTER)
    return tmp_path


BAD: dict[str, tuple[str, int, str]] = {
    # the file -> status, what must be named
    "no Python": ("class S(:\n", 2, "SyntaxError"),
    "a missing module": ("import no_such_module\n", 2, "no_such_module"),
    "raises at import": ("raise OSError('no disk')\n", 2, "OSError: no disk"),
    "exits at import": ("import sys\nsys.exit(0)\n", 2, "SystemExit"),
    "another class": ("class Other: pass\n", 2, "no such class"),
    "a class misspelt": (HEAD.replace("class S", "class Ss"), 2, "did you mean Ss?"),
    "no class": ("S = 3\n", 2, "cannot be made"),
    "no strategy": ("class S: pass\n", 2, "not a strategy"),
    "raises when made": (
        HEAD + "    def __post_init__(self):\n        raise ValueError('too early')\n",
        2,
        "ValueError: too early",
    ),
    "exits when made": (
        HEAD + "    def __post_init__(self):\n        sys.exit(3)\n",
        2,
        "SystemExit: 3",
    ),
    "options without a default": (
        "class S:\n    def __init__(self, speed): pass\n",
        2,
        "options all have defaults",
    ),
    "raises": (CALL + "raise ValueError('boom')\n", 1, "'mine' failed: ValueError: boom"),
    "exits": (CALL + "sys.exit(0)\n", 1, "'mine' failed: SystemExit"),
    "returns a number": (CALL + "return 42\n", 1, "'mine' returned no Proposal"),
    "returns nothing": (CALL + "pass\n", 1, "'mine' returned no Proposal"),
    "returns a proposal of nothing": (
        CALL + "return Proposal(None)\n",
        1,
        "'mine' returned a Proposal that holds no plan",
    ),
    "returns a plan of junk": (
        CALL + "return Proposal(Plan((1, 2)))\n",
        1,
        "'mine' returned a Proposal that holds no plan",
    ),
    "forgets an operator": (
        CALL + "return Proposal(Plan((Stage('s', 'pi', ('a',)),)))\n",
        1,
        "1 operator is in no stage",
    ),
    "reports a plan without an operator": (
        CALL + "budget.report(Plan((Stage('s', 'pi', ('a',)),)))\n",
        1,
        "'mine' failed: InvalidFileError: stages: 1 operator is in no stage",
    ),
    "claims too much": (
        CALL + "return Proposal(single_stage(problem, 'pi'), 3.0, 'full')\n",
        1,
        "'mine' claims a lower bound above the value",
    ),
    "claims NaN": (
        CALL + "return Proposal(single_stage(problem, 'pi'), 0.0, 'full', float('nan'))\n",
        1,
        "'mine' claims a lower bound above the value",
    ),
    "claims a word": (
        CALL + "return Proposal(single_stage(problem, 'pi'), 'low', 'full')\n",
        1,
        "'mine' claims a lower bound above the value",
    ),
    "changes the tensors": (
        CALL + "problem.graph.tensors['x'] = Tensor('x', 0)\n        return " + ON_PI + "\n",
        1,
        "'mine' changed the problem",
    ),
    "changes the cluster": (
        CALL
        + "object.__setattr__(problem.cluster, 'sink', 'server')\n"
        + "        return Proposal(single_stage(problem, 'server'))\n",
        1,
        "'mine' changed the problem",
    ),
    "finds none without a reason": (
        CALL + "raise InfeasibleError('mine finds none', remedy='buy more')\n",
        3,
        "mine finds none",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_strategy(case: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, status, named = BAD[case]
    Path("mine.py").write_text(text)
    command = ["plan", "w.json", "--strategy", "./mine.py:S"]
    assert cli.run([*command, "--json"]) == status
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert named in str(error)
    if case != "finds none without a reason":  # that is said of the problem
        assert "mine.py" in str(error)
    assert error["remedy"]
    assert captured.err == ""
    assert cli.run(command) == status
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)


RAISED = {
    "in a function of the file": (
        CALL + "return helper({})\n\n\ndef helper(x):\n    return x['missing']\n",
        "KeyError: 'missing' (mine.py, line {last})",
    ),
    "in a library": (
        CALL + "import json\n        return json.loads('nonsense')\n",
        "(mine.py, line {last})",
    ),
    "without a word": (CALL + "raise AssertionError\n", "AssertionError (mine.py, line {last})"),
    "in two lines": (
        CALL + "raise ValueError('a\\nb')\n",
        "ValueError: a b (mine.py, line {last})",
    ),
    "when loaded": ("x = 1\n1 / 0\n", "ZeroDivisionError: division by zero (mine.py, line 2)"),
    "when made": (
        HEAD + "    def __post_init__(self):\n        raise OSError('x')\n",
        "OSError: x (mine.py, line {last})",
    ),
}


@pytest.mark.parametrize("case", RAISED)
def test_the_line_of_the_file_that_raised_is_named(
    case: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, named = RAISED[case]
    Path("mine.py").write_text(text)
    for command in ("plan", "compare"):
        given = ["--strategies", "./mine.py:S"] if command == "compare" else ["--strategy"]
        given += ["./mine.py:S"] * (command == "plan")
        assert cli.run([command, "w.json", *given]) in (1, 2)
        said = capsys.readouterr()
        assert named.format(last=text.count("\n")) in said.out + said.err


def test_a_run_names_the_file_and_the_line(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    onnx.save(zoo.build("squeezenet", side=32, width=0.25), "m.onnx")
    Path("mine.py").write_text(CALL + "raise KeyError('boom')\n")
    Path("one.yaml").write_text("schema: cutset/cluster/1\nsource: pi\ndevices: {pi: {}}\n")
    command = ["run", "m.onnx", "--cluster", "one.yaml", "--requests", "1"]
    assert cli.run([*command, "--strategy", "./mine.py:S", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["file"] == "./mine.py:S"
    line = CALL.count("\n") + 1
    assert error["message"] == f"strategy 'mine' failed: KeyError: 'boom' (mine.py, line {line})"


TWO = HEAD + "    pass\n\n\n@dataclass(frozen=True)\nclass T(S):\n    pass\n"


@pytest.mark.parametrize("given", ["./mine.py", "mine.py", "./mine.py:"])
@pytest.mark.parametrize(
    ("text", "named"),
    [
        (CALL + "return " + ON_PI + "\n", None),
        (TWO, "the file holds 2 strategies; strategies in it are S, T"),
        ("class S: pass\n", "the file holds 0 strategies; write a frozen dataclass"),
        (None, "no such file"),
    ],
)
def test_a_file_without_a_class_is_its_only_strategy(
    given: str,
    text: str | None,
    named: str | None,
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if text is not None:
        Path("mine.py").write_text(text)
    status = cli.run(["plan", "w.json", "--strategy", given])
    said = capsys.readouterr()
    if named is None:
        assert (status, said.err) == (0, "")
        assert cli.run(["compare", "w.json", "--strategies", given, "--json"]) == 0
        names = [row["strategy"] for row in json.loads(capsys.readouterr().out)["strategies"]]
        assert len(names) == 2
        assert any(name.startswith("mine.py") for name in names)
    else:
        assert status == 2
        assert "mine.py" in said.err
        assert named in said.err
        assert said.err.count("\n") == 1


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from cutset.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_one_that_prints_leaves_one_document(here: Path) -> None:
    talk = "print('hello')\n"
    loud = CALL.replace("@dataclass", talk + "@dataclass")
    Path("mine.py").write_text(loud + talk + "        return " + ON_PI + "\n")
    done = run("plan", "w.json", "--strategy", "./mine.py:S", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["strategy"] == "mine"
    assert done.stderr == "hello\nhello\n"


def test_one_that_never_returns_and_talks_all_the_time_is_left(here: Path) -> None:
    loop = "budget.report(single_stage(problem, 'server'))\n        while True:\n"
    Path("mine.py").write_text(CALL + loop + "            print('still here')\n")
    done = run("plan", "w.json", "--strategy", "./mine.py:S", "--time-limit", "0.3", "--json")
    assert done.returncode == 0
    assert [s["device"] for s in json.loads(done.stdout)["stages"]] == ["server"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "reported", ["", "budget.report(single_stage(problem, 'pi'), 2.5, 'full')"]
)
def test_one_that_never_returns(
    reported: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop = "while not budget.stopped:\n            threading.Event().wait(0.01)\n"
    Path("mine.py").write_text(CALL + reported + "\n        " + loop)
    command = ["plan", "w.json", "--strategy", "./mine.py:S", "--time-limit", "0.2", "--json"]
    status = cli.run(command)
    found = json.loads(capsys.readouterr().out)
    if reported:
        assert (status, found["error"]["field"]) == (1, "bound_s")  # 2.5 s, and pi takes 2 s
    else:
        assert (status, found["proof"], len(found["stages"])) == (0, "none", 1)


def test_a_file_may_be_called_like_a_module_of_pythons(tmp_path: Path) -> None:
    file = tmp_path / "json.py"
    file.write_text(CALL + "return " + ON_PI + "\n")
    graph, cost = graphs.chain(3)
    found = solve(Problem(graph, graphs.two_devices(), cost), f"{file}:S")
    assert (found.strategy, found.plan.devices) == ("json", ("pi",))
    import json as again

    assert again.dumps({}) == "{}"


@pytest.fixture
def installed(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with entry points, as an installer leaves it."""
    site = here / "site"
    info = site / "theirs-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "theirs.py").write_text(CALL + "return " + ON_PI + "\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[cutset.strategies]\ntheir_best = theirs:S\nbroken = theirs_gone:S\n"
        "envelope = theirs:S\n"  # a name that is taken
    )
    monkeypatch.syspath_prepend(str(site))
    return site


def test_strategies_of_other_packages_are_found_by_name(
    installed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"their_best", "broken"} <= set(strategies.available())
    assert len(strategies.available()) == len(set(strategies.available()))
    assert cli.run(["plan", "w.json", "--strategy", "their_best", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [s["device"] for s in found["stages"]] == ["pi"]
    assert strategies.name_of(strategies.load("envelope")) == "envelope"
    assert type(strategies.load("envelope")).__module__ == "cutset.strategies.envelope"
    assert cli.run(["conformance", "their_best", "--seeds", "2", "--json"]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["problems"] == 2


def test_a_broken_package_is_named(installed: Path) -> None:
    with pytest.raises(UsageError, match="of package theirs cannot be loaded") as caught:
        strategies.load("broken")
    assert caught.value.value == "broken = theirs_gone:S"
