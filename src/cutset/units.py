"""Quantities with units, as people write them: the only parser and formatter of them.

Sizes: B, kB, MB, GB (decimal), KiB, MiB, GiB. Rates: bit/s, kbit/s, Mbit/s, Gbit/s (decimal).
Times: ns, us, ms, s. Plain numbers are bytes, bits per second and seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from cutset.errors import InvalidFileError

_SIZES: Mapping[str, float] = {
    "B": 1,
    "kB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
_RATES: Mapping[str, float] = {"bit/s": 1, "kbit/s": 1e3, "Mbit/s": 1e6, "Gbit/s": 1e9}
_TIMES: Mapping[str, float] = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1}

# Beyond these nothing is meant, and arithmetic on it would overflow. The size is the largest float
# below 2**63, which the integers of compiled loops end at.
_LARGEST: Mapping[str, float] = {"size": 2.0**63 - 1024, "rate": 1e18, "time": 1e9}
_SLOWEST_BPS = 1e-3

_QUANTITY = re.compile(r"\s*(-?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-zµ/]*)\s*")


#: Largest plain number of a unit that a file may state.
_MOST: Mapping[str, float] = {
    "bytes": _LARGEST["size"],
    "bit/s": _LARGEST["rate"],
    "seconds": _LARGEST["time"],
    "seconds per byte": _LARGEST["time"],
    "FLOPs": 2.0**63,
    "": math.inf,
}


def check_number(value: float, unit: str, *, field: str, least: float = 0.0) -> None:
    """Raise InvalidFileError unless a plain number of a unit ("" is a count) is at least `least`,
    and no more than formats.md allows. A rate is never under the slowest."""
    if unit == "bit/s":
        least = max(least, _SLOWEST_BPS)
    if least <= value <= _MOST[unit]:  # false for NaN too
        return
    wrong = "beyond all sense" if value > _MOST[unit] else f"the number must be at least {least:g}"
    if least == 0 and not value > 0:
        wrong = "the number must be finite and not negative"
    raise InvalidFileError(
        wrong,
        field=field,
        # An int of any length is shown by its digits: it could overflow as a float.
        value=(f"{value:.6g}" if isinstance(value, float) else str(value))
        + f" {unit}" * bool(unit),
        remedy=f"write {unit} from {least:g} to {_MOST[unit]:g}"
        if unit
        else f"write a number of {least:g} or more",
    )


def parse_bytes(value: object, *, field: str | None = None) -> int:
    """Bytes of "512MiB" or of a plain number. Raises InvalidFileError."""
    return round(_parse(value, _SIZES, "size", "512MiB", field))


def parse_rate(value: object, *, field: str | None = None, or_zero: bool = False) -> float:
    """Bits per second of "20Mbit/s" or of a plain number; more than 0, unless `or_zero` allows a
    link that carries nothing. Raises InvalidFileError."""
    rate = _parse(value, _RATES, "rate", "20Mbit/s", field)
    if rate < _SLOWEST_BPS and not (or_zero and rate == 0):
        raise InvalidFileError(
            "a rate must be more than 0" if rate == 0 else f"a rate under {_SLOWEST_BPS} bit/s",
            field=field,
            value=value,
            remedy="state a rate such as 20Mbit/s",
        )
    return rate


def parse_time(value: object, *, field: str | None = None) -> float:
    """Seconds of "3ms" or of a plain number. Raises InvalidFileError."""
    return _parse(value, _TIMES, "time", "3ms", field)


def _parse(
    value: object, units: Mapping[str, float], what: str, example: str, field: str | None
) -> float:
    remedy = f"write a {what} such as {example}; units are {', '.join(units)}"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidFileError(f"not a {what}", field=field, value=repr(value), remedy=remedy)
    if isinstance(value, str):
        match = _QUANTITY.fullmatch(value)
        if match is None or (match[2] and match[2] not in units):
            raise InvalidFileError(f"not a {what}", field=field, value=repr(value), remedy=remedy)
        number = float(match[1]) * (units[match[2]] if match[2] else 1)
    else:
        # An int of any length is compared before it is converted, which could overflow.
        number = float(value) if isinstance(value, float) or abs(value) < 2**64 else math.inf
    if not math.isfinite(number) or number < 0:
        raise InvalidFileError(
            f"a {what} must be finite and not negative", field=field, value=value, remedy=remedy
        )
    if number > _LARGEST[what]:
        raise InvalidFileError(
            f"a {what} beyond all sense", field=field, value=value, remedy=remedy
        )
    return number


def format_bytes(count: float) -> str:
    """A size for people, decimal units; `inf` is "unlimited"."""
    return _format(count, (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0)))


def format_rate(bps: float) -> str:
    """A rate in bits per second for people; `inf` is "unlimited"."""
    return _format(bps, (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3), ("bit/s", 1.0)))


def format_time(seconds: float) -> str:
    """A time in seconds for people."""
    return _format(seconds, (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)))


def _format(value: float, units: tuple[tuple[str, float], ...]) -> str:
    if math.isinf(value):
        return "unlimited" if value > 0 else "-unlimited"
    if value == 0 or math.isnan(value):
        return f"{value:g} {units[-1][0]}"
    # The unit is chosen after rounding to three digits, so that 999.9 kB is written as 1 MB.
    rounded = float(f"{value:.3g}")
    unit, scale = next((u for u in units if abs(rounded) >= u[1]), units[-1])
    scaled = value / scale
    return f"{scaled:.0f} {unit}" if abs(scaled) >= 999.5 else f"{scaled:.3g} {unit}"
