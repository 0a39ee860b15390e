"""Planning algorithms, one a file: the file's name is the strategy's name.

A strategy file defines one frozen dataclass with an `info` and `__call__(problem, budget)`. Files
here are found by themselves; other packages add theirs by an entry point in the group
`cutset.strategies`; a file of your own is named as `./mine.py:Mine`, or `./mine.py` where it holds
one strategy.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from cutset.errors import CutsetError, UsageError, choices, raised
from cutset.problem import Strategy

GROUP = "cutset.strategies"
_FILES = "cutset strategy files"


def available() -> tuple[str, ...]:
    """Names of all strategies: those in this package, then those that others add; sorted."""
    return (*_own(), *sorted(_added()))


def load(name: str, options: Mapping[str, Any] | None = None) -> Strategy:
    """The strategy of a name, of `path/file.py:Class`, or of `path/file.py` where that holds one;
    made with the given options.

    Raises UsageError that says what exists.
    """
    if is_file(name):
        kind = _from_file(name)
    elif name in _own():
        kind = _only_strategy(importlib.import_module(f"{__name__}.{name}"), name)
    elif name in _added():
        kind = _from_entry_point(_added()[name])
    else:
        raise UsageError(
            "no such strategy",
            field="strategy",
            value=name,
            remedy=f"{choices(name, available(), 'strategies')}; or name ./FILE.py:CLASS",
        )
    try:
        made = kind(**(options or {}))
    except CutsetError:
        raise  # it says itself what is wrong with its options
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"the strategy cannot be made: {raised(error, _module_file(kind))}",
            field="strategy",
            value=name,
            remedy="it must be a class whose options all have defaults",
        ) from error
    if not (callable(made) and hasattr(made, "info")):
        raise UsageError(
            "not a strategy",
            field="strategy",
            value=name,
            remedy="it needs an `info` and `__call__(problem, budget)`",
        )
    return made  # type: ignore[no-any-return]


def is_file(name: str) -> bool:
    """Whether a strategy is named by its file."""
    return ":" in name or name.endswith(".py")


def name_of(strategy: Strategy) -> str:
    """The strategy's name: that of its file."""
    return type(strategy).__module__.rpartition(".")[2]


def file_of(strategy: Strategy) -> str | None:
    """The Python file that the strategy stands in, as its tracebacks name it."""
    return _module_file(type(strategy))


def _module_file(kind: Any) -> str | None:
    module = sys.modules.get(getattr(kind, "__module__", ""))
    return getattr(module, "__file__", None)


def _own() -> tuple[str, ...]:
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name[0] != "_"))


def _added() -> dict[str, EntryPoint]:
    return {e.name: e for e in entry_points(group=GROUP) if e.name not in _own()}


def _strategies_in(module: Any) -> list[Any]:
    return [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type)
        and kind.__module__ == module.__name__
        and dataclasses.is_dataclass(kind)
        and hasattr(kind, "info")
    ]


def _only_strategy(module: Any, name: str) -> Any:
    found = _strategies_in(module)
    if len(found) != 1:
        raise UsageError(
            "a strategy file must hold exactly one dataclass with an `info`",
            field="strategy",
            value=name,
        )
    return found[0]


def _from_entry_point(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        package = "" if entry.dist is None else f" of package {entry.dist.name}"
        raise UsageError(
            f"the strategy{package} cannot be loaded: {type(error).__name__}: {error}",
            field="strategy",
            value=f"{entry.name} = {entry.value}",
            remedy="install the package again, or report it to its author",
        ) from error


def _from_file(name: str) -> Any:
    path, colon, kind = name.rpartition(":")
    if not colon:
        path, kind = name, ""
    file = Path(path)
    if not file.is_file():
        raise UsageError(
            "no such file", file=path, field="strategy", value=name, remedy="name ./FILE.py:CLASS"
        )
    # A name of its own: a file called json.py must not stand in for the module of that name.
    spec = importlib.util.spec_from_file_location(f"{_FILES}.{file.stem}", file)
    if spec is None or spec.loader is None:
        raise UsageError(
            "not a Python file", file=path, field="strategy", value=name, remedy="name a .py file"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there for what annotations mean
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"the file cannot be loaded: {raised(error, module.__file__)}",
            file=path,
            field="strategy",
            remedy="correct the file; `python FILE` shows where it fails",
        ) from error
    found = {strategy.__name__: strategy for strategy in _strategies_in(module)}
    if not kind and len(found) == 1:
        return next(iter(found.values()))
    if not kind or not hasattr(module, kind):
        raise UsageError(
            "the file has no such class" if kind else f"the file holds {len(found)} strategies",
            file=path,
            field="strategy",
            value=kind or None,
            remedy=f"{choices(kind, found, 'strategies in it')}; name ./FILE.py:CLASS"
            if found
            else "write a frozen dataclass with an `info` and `__call__(problem, budget)`",
        )
    return getattr(module, kind)
