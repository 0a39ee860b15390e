"""Every error that cutset raises on purpose.

CutsetError
├ InputError                   the user's file or words; exit status 2
│ ├ InvalidModelError          not an ONNX model, or one that cannot be prepared
│ ├ InvalidFileError           a cluster, workload, profile or plan file
│ └ UsageError                 a command line or an API call that cannot be meant
├ PlanningError                a strategy failed; exit status 1
│ ├ InfeasibleError            no plan exists: says what is short, and by how much (3)
│ ├ NoPlanFoundError           the same, but it is not proven that none exists
│ └ UnsupportedProblemError    outside what the strategy covers (2)
├ ProfileError                 a measurement failed; exit status 1
├ VerificationError            split and unsplit outputs differ; exit status 1
├ Interrupted                  by Ctrl-C; exit status 130
└ RuntimeFault                 exit status 1
  ├ ProtocolError
  │ ├ LocalProtocolError       this side misused the protocol
  │ └ RemoteProtocolError      the peer did
  ├ TransportError             an endpoint that cannot be reached or listened on
  ├ WorkerLostError            a device is gone and no plan is left; exit status 4
  └ DeadlineExceeded           no answer in time; exit status 4
"""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar


class CutsetError(Exception):
    """Base of all errors: one line that names file, field, value and remedy.

    `message` says what is wrong; `file`, `field` and `value` say where (value with its unit);
    `remedy` says what to do. `str()` joins them into one line; `details()` is the machine's form.
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        field: str | None = None,
        value: object = None,
        remedy: str | None = None,
    ) -> None:
        self.message = printable(message)
        self.file = None if file is None else printable(file)
        self.field = None if field is None else printable(field)
        self.value = None if value is None else _shorten(printable(str(value)))
        self.remedy = remedy
        super().__init__(message)

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.file, self.field) if part)
        text = f"{where}: {self.with_value()}" if where else self.with_value()
        if self.remedy:
            text += f"; {self.remedy}"
        return " ".join(text.split())

    def with_value(self) -> str:
        """The message, and the value where neither it nor the field names that already."""
        if self.value is None or _names(f"{self.field or ''} {self.message}", self.value):
            return self.message
        return f"{self.message} (got {self.value or 'an empty text'})"

    def details(self) -> dict[str, str | None]:
        """What `--json` prints under "error"."""
        return {
            "code": self.code,
            "message": self.message,
            "file": self.file,
            "field": self.field,
            "value": self.value,
            "remedy": self.remedy,
        }

    def located(self, *, file: str | None = None, field: str | None = None) -> CutsetError:
        """The same error, with file and field filled in where they were unknown."""
        self.file = self.file or (None if file is None else printable(file))
        self.field = self.field or (None if field is None else printable(field))
        return self


def printable(text: str, keep: str = "\n\t") -> str:
    """The text with what could steer a terminal, or cannot be encoded, written as escapes; the
    characters in `keep` stay."""
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )


def _names(text: str, value: str) -> bool:
    """Whether the text has the value as a word of its own. A number or a truth value in it is as
    likely to be another one: of `links[0]: more than 0`, none is the value."""
    if not value or re.fullmatch(r"[-+\d.,:e]+|inf|nan|true|false|none", value.lower()):
        return False
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text) is not None


def did_you_mean(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """A remedy that names what was probably meant; None where nothing is near."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=cutoff)
    return f"did you mean {close[0]}?" if close else None


def choices(name: str, names: Iterable[str], what: str) -> str:
    """A remedy for a name that is none of `names`: what was probably meant, and what there is."""
    known = tuple(names)
    meant = did_you_mean(name, known)
    return f"{meant} " * (meant is not None) + f"{what} are {', '.join(known) or 'none'}"


def raised(error: BaseException, file: str | None) -> str:
    """What a third party's code raised, in one line, with the last line of its `file` that was at
    work: that is what its author looks for, not where in a library it ended."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if file is not None and frame.filename == file]
    return f"{text} ({Path(file).name}, line {lines[-1]})" if file is not None and lines else text


def _shorten(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


class InputError(CutsetError):
    code = "input"
    exit_status = 2


class InvalidModelError(InputError):
    code = "invalid_model"


class InvalidFileError(InputError):
    code = "invalid_file"


class UsageError(InputError):
    code = "usage"


class PlanningError(CutsetError):
    code = "planning"


class InfeasibleError(PlanningError):
    """`scope` is "full" where it is proven that no plan exists; else it may be about some only."""

    code = "infeasible"
    exit_status = 3
    scope: str | None = None


class NoPlanFoundError(PlanningError):
    code = "no_plan_found"


class UnsupportedProblemError(PlanningError):
    code = "unsupported_problem"
    exit_status = 2


class ProfileError(CutsetError):
    code = "profile"


class VerificationError(CutsetError):
    code = "verification"


class Interrupted(CutsetError):
    code = "interrupted"
    exit_status = 130


class RuntimeFault(CutsetError):
    code = "runtime"


class ProtocolError(RuntimeFault):
    code = "protocol"


class LocalProtocolError(ProtocolError):
    code = "local_protocol"


class RemoteProtocolError(ProtocolError):
    code = "remote_protocol"


class TransportError(RuntimeFault):
    code = "transport"


class WorkerLostError(RuntimeFault):
    code = "worker_lost"
    exit_status = 4


class DeadlineExceeded(RuntimeFault):
    code = "deadline"
    exit_status = 4
