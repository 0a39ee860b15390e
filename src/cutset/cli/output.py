"""What every command prints: one JSON document or text for a person; errors in one line.

Standard output carries the result and nothing else; progress and errors go to standard error
(with `--json`, an error is the document on standard output).
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from cutset.errors import CutsetError, InvalidFileError, printable

if TYPE_CHECKING:
    from rich.console import Console

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]


_NUMBER = 12  # characters of a number with its unit, at most
_NO_WIDTH = 10_000  # characters: more than any table takes

#: Without a terminal, work that takes less says nothing of how far it is.
FIRST_LINE_S = 10.0

_documents: TextIO | None = None


def reserve_stdout() -> None:
    """From now on only documents go to standard output; what others' code prints, say a strategy
    of the user's, goes to standard error. For a process that is to print one document."""
    global _documents
    _documents, sys.stdout = sys.stdout, sys.stderr


def write_document(text: str) -> None:
    """Text to standard output as it is; also after `reserve_stdout`."""
    stream = _documents or sys.stdout
    stream.write(text)
    stream.flush()


def emit(as_json: bool, document: object, show: Callable[[Console], None]) -> None:
    """Print the document as JSON, or let `show` write for a person."""
    if as_json:
        from cutset.serde import to_json

        write_document(to_json(document))
    else:
        show(result_console())


def result_console() -> Console:
    """Where results for a person go: standard output; plain text where it is no terminal."""
    from cutset.cli.console import PlainConsole

    # A pipe has no width: what reads it decides where to break.
    width = None if sys.stdout.isatty() else _NO_WIDTH
    return PlainConsole(
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=width is not None,
        width=width,
        # rich would leave colours out and bold in.
        color_system=None if os.environ.get("NO_COLOR") else "auto",
    )


def program() -> str:
    """How to call this program again: its name where the shell finds it, else its path."""
    import shutil

    called = Path(sys.argv[0])
    if called.name != "cutset" or shutil.which("cutset") is not None:
        return "cutset"
    with contextlib.suppress(ValueError):
        called = called.absolute().relative_to(Path.cwd())
    return quoted(called)


def quoted(path: Path) -> str:
    """A path as it can be pasted into a shell."""
    import shlex

    return shlex.quote(str(path))


def note(text: str) -> None:
    """A line for a person, on standard error."""
    print(printable(text), file=sys.stderr, flush=True)


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """A spinner on standard error while something takes time; only on a terminal.

    Call the yielded function with what is being done now.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True, markup=False).status(what) as status:
        yield lambda text: status.update(printable(text, keep=""))


class Doing:
    """What is being done, told where `to` says; beside it how much of a device's submodels is
    there, while a line of a terminal says it, which can change."""

    def __init__(self) -> None:
        self._tell: Callable[[str], None] = lambda text: None
        self._changes = False
        self._text = ""

    def to(self, tell: Callable[[str], None], *, changes: bool = False) -> None:
        """From now on tell this; `changes`: what was told before goes away."""
        self._tell, self._changes = tell, changes

    def __call__(self, text: str) -> None:
        self._text = text
        self._tell(text)

    def sent(self, device: str, here_bytes: int, total_bytes: int) -> None:
        """So much of what a device needs is there (Coordinator's `progress`)."""
        from cutset.units import format_bytes

        if self._changes:
            here, total = format_bytes(here_bytes), format_bytes(total_bytes)
            self._tell(f"{self._text}: {here} of {total} on {device}")


@contextmanager
def progress(what: str, total: float) -> Iterator[Callable[[float], None]]:
    """A bar on standard error, or where that is no terminal a line now and then; call the yielded
    function with what is done."""
    if not sys.stderr.isatty():
        yield _lines(what, total)
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True, markup=False)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def _lines(what: str, total: float) -> Callable[[float], None]:
    """Progress for a log: the longer it takes, the rarer a line is."""
    begin_s = time.monotonic()
    next_s = FIRST_LINE_S

    def tell(done: float) -> None:
        nonlocal next_s
        elapsed_s = time.monotonic() - begin_s
        if elapsed_s >= next_s:
            next_s = 2 * elapsed_s
            note(f"{what}: {min(done / total, 1.0):.0%} after {elapsed_s:.0f} s")

    return tell


def table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A short table; columns of numbers with units are aligned to the right. What is too
    long for the terminal goes on below: names differ at their ends, so that none is cut off."""
    from rich.table import Table

    from cutset.cli.console import cell

    made = Table(box=None, pad_edge=False)
    for i, column in enumerate(columns):
        cells = [str(row[i]) for row in rows]
        numeric = bool(cells) and all(c[:1].isdigit() or c[:1] in "-–" for c in cells)
        made.add_column(
            cell(column, style="bold"),
            justify="right" if numeric else "left",
            overflow="fold",
            no_wrap=numeric and max(map(len, cells)) <= _NUMBER,
        )
    for row in rows:
        made.add_row(*map(cell, row))
    console.print(made)


def check_writable(path: Path | None, inputs: Iterable[Path | None] = ()) -> None:
    """Refuse an output file whose folder is missing, or that is one of the `inputs`, before work is
    done for it, not after.

    Raises InvalidFileError; None is no file.
    """
    if path is None:
        return
    if path.exists():
        for given in inputs:
            if given is not None and given.exists() and path.samefile(given):
                raise InvalidFileError(
                    "would overwrite a file that this command reads",
                    file=str(path),
                    remedy="name another file to write",
                )
    problem = None
    if path.is_dir():
        problem = "it is a folder"
    elif not path.parent.is_dir():
        problem = "its folder does not exist"
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        problem = "permission denied"
    if problem is not None:
        raise InvalidFileError(
            f"cannot be written: {problem}",
            file=str(path),
            remedy="check that the folder exists and is writable",
        )


def check_folder(path: Path | None) -> None:
    """Refuse a folder for results that cannot be made or written to, before there are any.

    Raises InvalidFileError; None is no folder.
    """
    if path is None:
        return
    if path.is_dir():
        check_writable(path / "file")
    elif path.exists():
        raise InvalidFileError(
            "cannot be written: it is no folder", file=str(path), remedy="name a folder"
        )
    else:
        check_writable(path)


def fail(error: CutsetError, as_json: bool) -> int:
    """Print an error in the form that was asked for; its exit status."""
    if as_json:
        from cutset.serde import to_json

        try:
            write_document(to_json({"error": error.details()}))
        except BrokenPipeError:
            abandon_stdout()
        except OSError:
            abandon_stdout()
            note(f"error: {error}")
    else:
        note(f"error: {error}")
    return error.exit_status


def abandon_stdout() -> None:
    """The reader is gone, or the disk full: write to nowhere, so that the interpreter's last flush
    is quiet."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), (_documents or sys.stdout).fileno())
