"""Results for a person: whole names at any width, plain text where it is asked for."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cutset.cli import main as cli
from cutset.cli import output
from cutset.serde.common import to_json
from cutset.serde.workload_file import workload_document
from cutset.testing import graphs

NAMES = tuple(f"/backbone/blocks.{i}/attention/output/MatMul_{i}_output_0" for i in range(3))


class Screen(io.StringIO):
    """Standard output, as a terminal or a pipe."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return monkeypatch


def shown(environment: pytest.MonkeyPatch, terminal: bool, columns: int = 60) -> str:
    screen = Screen(terminal)
    environment.setattr("sys.stdout", screen)
    environment.setenv("COLUMNS", str(columns))
    rows = [(name, name, 7, f"{i}.5 ms") for i, name in enumerate(NAMES)]
    output.table(output.result_console(), ("first", "last", "position", "compute"), rows)
    return screen.getvalue()


@pytest.mark.parametrize("command", ["plan", "inspect", "compare"])
def test_names_do_not_steer_the_terminal(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither in tables nor in lines, whatever the command."""
    rude = "a\nb\x1b[31mred"
    graph, cost = graphs.chain(3)
    seconds = next(iter(cost.seconds.values()))
    kinds = {"pi": seconds, "server": seconds}
    text = to_json(workload_document(replace(graph, name=rude), kinds))
    workload = json.loads(text)
    for op in workload["operators"]:
        op["name"] = rude + op["name"]
    (tmp_path / "w.json").write_text(json.dumps(workload))
    (tmp_path / "c.yaml").write_text(
        "schema: cutset/cluster/1\nsource: pi\n"
        'devices: {pi: {}, "s\\e[31m": {kind: server}}\n'
        "default_link: {bandwidth: 1Mbit/s}\n"
    )
    options = [] if command == "inspect" else ["--cluster", str(tmp_path / "c.yaml")]
    if command == "compare":
        options += ["--strategies", "single_device"]
    assert cli.run([command, str(tmp_path / "w.json"), *options]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "a\nb" not in out
    if command != "compare":
        assert "a\\nb\\x1b[31mred" in out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["doctor", "--json"], ["doctor"]])
def test_a_full_disk_is_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", "from cutset.cli.main import main; main()", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: the output cannot be written: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("columns", [40, 60, 200])
def test_long_names_are_folded_and_numbers_whole(
    columns: int, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("NO_COLOR", "1")
    lines = shown(environment, terminal=True, columns=columns).splitlines()
    assert max(map(len, lines)) <= columns
    first = "".join(line.split(" ")[0] for line in lines)
    assert all(name in first for name in NAMES)
    assert all(any(f"{i}.5 ms" in line for line in lines) for i in range(3))


def test_a_pipe_gets_a_line_for_each_row_whatever_the_terminal(
    environment: pytest.MonkeyPatch,
) -> None:
    text = shown(environment, terminal=False, columns=40)
    assert [line.split()[:2] for line in text.splitlines()[1:]] == [[n, n] for n in NAMES]


@pytest.mark.parametrize(
    ("terminal", "variable", "plain"),
    [(True, None, False), (True, "1", True), (False, None, True), (True, "", False)],
)
def test_escape_codes_are_for_terminals_and_can_be_turned_off(
    terminal: bool, variable: str | None, plain: bool, environment: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        environment.setenv("NO_COLOR", variable)
    assert ("\x1b" not in shown(environment, terminal)) == plain


def test_without_a_terminal_progress_is_told_ever_more_rarely(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: now[0])
    with output.progress("simulating", 200.0) as done:
        for second in range(101):
            now[0] = 100.0 + second
            done(2 * second)
    assert capsys.readouterr().err.splitlines() == [
        "simulating: 10% after 10 s",
        "simulating: 20% after 20 s",
        "simulating: 40% after 40 s",
        "simulating: 80% after 80 s",
    ]
