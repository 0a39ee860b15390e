"""Generated traces as people ask for them: `markov:seed=3,duration=180s`, `steps:step=20s`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.generator import generate, steps
from cutset.adaptation.traces import Trace
from cutset.errors import InvalidFileError, UsageError, choices
from cutset.units import parse_rate, parse_time

GRAMMAR: Final = (
    "write markov:seed=N,duration=TIME,bandwidths=RATE;RATE,loads=K;K,dwell=TIME,noise=X,step=TIME"
    " or steps:step=TIME,bandwidths=RATE;RATE,loads=K;K; all but seed and duration may be left out"
)

#: No text that is meant is longer.
_LONGEST: Final = 20_000


def is_generated(text: str) -> bool:
    """Whether a text asks for a generated trace, rather than naming a file."""
    kind, colon, _ = text.partition(":")
    return bool(colon) and kind in _KINDS


def parse_generated(text: str, base: Conditions, where: str = "TRACE") -> Trace:
    """The trace that a text asks for; `base` is what it does not move.

    Raises UsageError, whose field begins with `where`: the option that the text stood in.
    """
    kind, _, rest = text.partition(":")
    if kind not in _KINDS or len(text) > _LONGEST:
        raise UsageError(
            "not a generated trace",
            field=where,
            value=text,
            remedy=f"{choices(kind, _KINDS, 'kinds')}; {GRAMMAR}",
        )
    readers, make = _KINDS[kind]
    options: dict[str, Any] = {}
    for part in rest.split(",") if rest else []:
        key, equals, value = (word.strip() for word in part.partition("="))
        field = f"{where} {kind}:{key}"
        if key not in readers:
            raise UsageError(
                "no such option of a generated trace",
                field=field,
                value=key,
                remedy=f"{choices(key, readers, 'options')}; {GRAMMAR}",
            )
        name, read = readers[key]
        if name in options:
            raise UsageError("the option is there twice", field=field, remedy="keep one")
        if not equals or not value:
            raise UsageError("the option has no value", field=field, remedy=GRAMMAR)
        try:
            options[name] = read(value)
        except (InvalidFileError, ValueError) as error:
            message = error.message if isinstance(error, InvalidFileError) else "not a number"
            raise UsageError(message, field=field, value=value, remedy=GRAMMAR) from None
    if kind == "markov" and (missing := {"seed", "duration_s"} - set(options)):
        key = min(missing).removesuffix("_s")
        raise UsageError("the option is missing", field=f"{where} {kind}:{key}", remedy=GRAMMAR)
    try:
        return make(base=base, **options)
    except UsageError as error:
        raise UsageError(
            error.message,
            field=f"{where} {kind}:{error.field}",
            value=error.value,
            remedy=error.remedy,
        ) from None


def _integer(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(text)
    return int(text)


def _rates(text: str) -> tuple[float, ...]:
    return tuple(parse_rate(word, or_zero=True) for word in text.split(";"))


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split(";"))


_Readers = dict[str, tuple[str, Callable[[str], Any]]]

#: The options of either kind: the argument's name, and what reads its text.
_STEPS: Final[_Readers] = {
    "step": ("step_s", parse_time),
    "bandwidths": ("bandwidths_bps", _rates),
    "loads": ("loads", _numbers),
}
_MARKOV: Final[_Readers] = {
    "seed": ("seed", _integer),
    "duration": ("duration_s", parse_time),
    "dwell": ("dwell_s", parse_time),
    "noise": ("noise", float),
    **_STEPS,
}
_KINDS: Final[dict[str, tuple[_Readers, Callable[..., Trace]]]] = {
    "markov": (_MARKOV, generate),
    "steps": (_STEPS, steps),
}
