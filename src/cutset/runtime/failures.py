"""Errors as they travel between devices, and back."""

from __future__ import annotations

from cutset.errors import CutsetError, RemoteProtocolError, RuntimeFault
from cutset.runtime.messages import Failure


def _errors() -> dict[str, type[CutsetError]]:
    found: dict[str, type[CutsetError]] = {}
    waiting: list[type[CutsetError]] = [CutsetError]
    while waiting:
        kind = waiting.pop()
        found[kind.code] = kind
        waiting.extend(kind.__subclasses__())
    return found


def to_failure(error: BaseException) -> Failure:
    """Any error as it travels; what is not cutset's own becomes one line of a runtime fault."""

    def short(text: str | None) -> str | None:
        return None if text is None else text[:4000]

    if isinstance(error, CutsetError):
        return Failure(
            error.code,
            short(error.message) or "",
            short(error.file),
            short(error.field),
            short(error.value),
            short(error.remedy),
        )
    text = " ".join(str(error).split())
    return Failure(RuntimeFault.code, f"{type(error).__name__}: {text}"[:4000])


def from_failure(failure: Failure) -> CutsetError:
    """The error of a failure; an unknown code is a RemoteProtocolError."""
    kind = _errors().get(failure.code, RemoteProtocolError)
    return kind(
        failure.message,
        file=failure.file,
        field=failure.field,
        value=failure.value,
        remedy=failure.remedy,
    )
