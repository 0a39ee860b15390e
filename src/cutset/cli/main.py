"""The entry point: registers the commands, and turns every end into an exit status.

Exit status: 0 done, 1 a fault or a failed verification, 2 wrong usage or a bad input file,
3 infeasible, 4 a deadline passed or a worker was lost, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Annotated

import typer

from cutset.cli import output
from cutset.cli.output import abandon_stdout, fail
from cutset.errors import CutsetError, Interrupted, UsageError

#: Command -> its module in this folder, which holds a function of the same name
#: (with `_` after a Python keyword), or an app of subcommands called `app`; `Command` there is how
#: its arguments are parsed. Modules import what they need inside the function.
COMMANDS = {
    "demo": "demo",
    "try": "try_",
    "doctor": "doctor",
    "inspect": "inspect",
    "attach": "attach",
    "profile": "profile",
    "plan": "plan",
    "compare": "compare",
    "evaluate": "evaluate",
    "conformance": "conformance",
    "simulate": "simulate",
    "replay": "replay",
    "export": "export",
    "worker": "worker",
    "run": "run",
    "record": "record",
    "lab": "lab",
}


#: Modules that the base install does not bring -> the extra that does.
EXTRAS = {
    "onnx": "plan",
    "onnx_ir": "plan",
    "onnxscript": "plan",
    "scipy": "plan",
    "ortools": "plan",
    "onnxruntime": "cpu",
    "skimage": "demo",
    "PIL": "demo",
}


#: What writing fails with where there is no room.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def make_app() -> typer.Typer:
    app = typer.Typer(
        help="Split a trained network over the devices you have: measured, proven, verified.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_options)
    for command, name in COMMANDS.items():
        module = import_module(f"cutset.cli.{name}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=command)
            continue
        function = getattr(module, command, None) or getattr(module, f"{command}_")
        app.command(command, cls=getattr(module, "Command", None))(function)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("cutset"))
        raise typer.Exit


def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Global options; `run` below looks at --debug itself."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line; its exit status. Prints every failure; raises nothing of its own."""
    own, as_json = _own(arguments), _wants_json(arguments)
    with _own_interrupts():
        return _run(arguments, own, as_json)


@contextlib.contextmanager
def _own_interrupts() -> Iterator[None]:
    """Whatever a command made of Ctrl-C is over with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if before is not None:  # None: not from Python, so that nobody could have changed it here
            signal.signal(signal.SIGINT, before)


def _run(arguments: Sequence[str], own: Sequence[str], as_json: bool) -> int:
    try:
        command = typer.main.get_command(make_app())
        # Not `command.main`, which ends an interrupt by itself, without a word.
        with command.make_context("cutset", list(arguments)) as context:
            status = command.invoke(context)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except typer.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return fail(Interrupted("interrupted"), as_json)
    except BrokenPipeError:
        abandon_stdout()
        return 1
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            return _unexpected(error, own, as_json)
        if not as_json:
            abandon_stdout()
        full = CutsetError(
            f"the output cannot be written: {error.strerror}",
            remedy="make room there, or write it elsewhere",
        )
        return fail(full, as_json)
    except CutsetError as error:
        if "--debug" in own:
            _traceback()
        return fail(error, as_json)
    except Exception as error:
        # Typer's usage errors, whose class is private to it, know how to say what is wrong.
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            return _usage(error, own, as_json)
        return _unexpected(error, own, as_json)


def _unexpected(error: Exception, arguments: Sequence[str], as_json: bool) -> int:
    if "--debug" in arguments:
        _traceback()
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        return fail(_not_installed(error.name), as_json)
    unexpected = CutsetError(
        f"unexpected {type(error).__name__}: {error}",
        remedy="this is a bug in cutset: please report it with the output of `cutset --debug …`",
    )
    return fail(unexpected, as_json)


def _own(arguments: Sequence[str]) -> list[str]:
    """The arguments without what stands behind `--`, which is another program's."""
    return list(arguments[: arguments.index("--")] if "--" in arguments else arguments)


def _wants_json(arguments: Sequence[str]) -> bool:
    return "--json" in _own(arguments)


def _not_installed(module: str) -> UsageError:
    extra = EXTRAS[module]
    return UsageError(
        f"this command needs {module}, which is not installed here",
        remedy=f"pip install 'cutset[{extra}]' (a worker needs only the base and an engine)",
    )


def _usage(error: Exception, arguments: Sequence[str], as_json: bool) -> int:
    message = str(error.format_message())  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    if not message or type(error).__name__ == "NoArgsIsHelpError":
        print(context.get_help() if context is not None else message, file=sys.stderr)
        message = "no command is given"
        if not as_json:
            return 2
    # Errors of the parser itself do not know which command they are of.
    command = next((word for word in arguments if word in COMMANDS), "")
    path = context.command_path if context is not None else f"cutset {command}".rstrip()
    usage = UsageError(message.rstrip("."), remedy=f"see `{path} --help`")
    return fail(usage, as_json)


def _traceback() -> None:
    import traceback

    traceback.print_exc()


def main() -> None:
    """The console script."""
    arguments = sys.argv[1:]
    if _wants_json(arguments) or "--json-lines" in _own(arguments):
        output.reserve_stdout()
    status = run(arguments)
    if any(t.name.startswith("cutset-planning-") for t in threading.enumerate()):
        # A search that time ended may be in a solver's C++, which the interpreter's end aborts.
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
