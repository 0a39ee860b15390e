"""Results for a person: whole names at any width, plain text where it is asked for."""

from __future__ import annotations

import io

import pytest

from cutset.cli import output

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
