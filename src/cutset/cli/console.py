"""A terminal that names from files cannot steer: escape codes and line ends are written out."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from cutset.errors import printable


class PlainConsole(Console):
    """Every text that it prints is one line, whatever names are in it."""

    def print(self, *objects: Any, **options: Any) -> None:
        lines = (printable(o, keep="") if isinstance(o, str) else o for o in objects)
        super().print(*lines, **options)


def cell(value: object, style: str = "") -> Text:
    """A table's cell, in one line like all that is printed."""
    return Text(printable(str(value), keep=""), style=style)
