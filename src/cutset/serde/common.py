"""What all file formats share: reading, decoding with located errors, writing."""

from __future__ import annotations

import codecs
import json
import os
import re
import reprlib
import tempfile
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from cutset.errors import InvalidFileError, did_you_mean

T = TypeVar("T")

MAX_FILE_BYTES = 256 * 2**20

#: How near an unknown field must be to a known one to count as a misspelling of it.
_MISSPELT = 0.75


def read_text(path: str | Path, limit_bytes: int = MAX_FILE_BYTES) -> bytes:
    """The file's bytes. Raises InvalidFileError where it is missing, unreadable or huge."""
    try:
        with open(path, "rb") as file:
            data = file.read(limit_bytes + 1)  # not by stat: a pipe or a device has no size
    except (OSError, ValueError) as error:
        raise InvalidFileError(
            f"cannot be read: {getattr(error, 'strerror', None) or error}",
            file=str(path),
            remedy="check the path",
        ) from None
    if len(data) > limit_bytes:
        raise InvalidFileError(
            f"the file is larger than {limit_bytes} bytes",
            file=str(path),
            remedy="is it the right file?",
        )
    return data


def decode(data: bytes, kind: type[T], schema: str, file: str) -> T:
    """Decode a JSON document of the named schema. Raises InvalidFileError."""
    return convert(plain(data, schema, file), kind, schema, file)


def plain(data: bytes, schema: str, file: str) -> object:
    """The plain data of a JSON text, of no schema yet. Raises InvalidFileError."""
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        raw = msgspec.json.decode(data)
        json.loads(data, object_pairs_hook=_unique)
    except _DuplicateKey as error:
        raise InvalidFileError(
            "the field is written twice",
            file=file,
            field=error.key,
            remedy="keep one of the two",
        ) from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        where = _not_finite(data)
        if where is not None:
            raise InvalidFileError(
                "the number is not finite, and no JSON number either",
                file=file,
                field=where[0],
                value=where[1],
                remedy="write a finite number, or leave the field out",
            ) from None
        message, remedy = _why_not_json(data, error)
        raise InvalidFileError(
            message, file=file, remedy=remedy or f"see docs/formats.md, {schema}"
        ) from None
    return raw


def _why_not_json(data: bytes, error: Exception) -> tuple[str, str | None]:
    """What is wrong with a text that is no JSON, and what to do about it."""
    if not data.strip():
        return "the file is empty", None
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in data[:4]:
        return "not valid JSON: it is no UTF-8 text", "save it as UTF-8; or is it the right file?"
    if isinstance(error, RecursionError):
        return "not valid JSON: brackets in brackets, too deep", "is it the right file?"
    if "truncated" in str(error):
        return "not valid JSON: the text ends in its middle", "copy or write the file once more"
    return f"not valid JSON: {error}", "check quotes and commas; NaN is not a JSON number"


def _not_finite(data: bytes) -> tuple[str, str] | None:
    """Field and text of the first NaN or Infinity in what would be JSON without them."""
    try:
        raw = json.loads(data, parse_constant=_Constant)
    except (ValueError, RecursionError):
        return None
    pending: list[tuple[str, object]] = [("", raw)]
    while pending:
        field, value = pending.pop()
        if isinstance(value, _Constant):
            return field, value
        if isinstance(value, dict):
            pending += reversed([(_join(field, str(k)), v) for k, v in value.items()])
        elif isinstance(value, list):
            pending += reversed([(f"{field}[{i}]", v) for i, v in enumerate(value)])
    return None


class _Constant(str):
    """What Python's decoder takes for a number although JSON has none such."""


class _DuplicateKey(ValueError):
    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(key)


def _unique(pairs: list[tuple[str, object]]) -> None:
    """Refuse a key that stands twice in one object: decoders would keep the last, silently."""
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _DuplicateKey(key)
        seen.add(key)


def convert(raw: object, kind: type[T], schema: str, file: str) -> T:
    """Plain data to a typed document of the named schema. Raises InvalidFileError."""
    if not isinstance(raw, dict):
        raise InvalidFileError(
            "not a cutset file: a mapping is expected",
            file=file,
            value=type(raw).__name__,
            remedy=f"begin it with schema: {schema}",
        )
    found = raw.get("schema")
    if found != schema:
        raise InvalidFileError(
            "the schema is missing" if found is None else "another schema is expected",
            file=file,
            field="schema",
            value=None if found is None else _show(found),
            remedy=f"write schema: {schema}",
        )
    return typed(raw, kind, file)


def typed(raw: object, kind: type[T], file: str) -> T:
    """Plain data to a document that states no schema of its own. Raises InvalidFileError."""
    try:
        document = msgspec.convert(raw, kind, strict=True)
    except msgspec.ValidationError as error:
        raise _located(str(error), raw, kind, file) from None
    _refuse_misspelt(raw, kind, file, "")
    return document


def _located(text: str, raw: object, kind: Any, file: str) -> InvalidFileError:
    """The decoder's complaint with the field's full name, its value and a remedy."""
    message, _, path = text.partition(" - at `")
    if path.startswith("key` in `"):
        message, path = "a name must be text", path.removeprefix("key` in `")
    field, value, inner = _follow(path.rstrip("`").removeprefix("$"), raw, kind)
    remedy = "see docs/formats.md"
    if unknown := re.search(r"unknown field `([^`]+)`", message):
        field, message, value = _join(field, unknown[1]), "unknown field", None
        names = [f.encode_name for f in msgspec.structs.fields(inner)] if _is_struct(inner) else []
        remedy = did_you_mean(unknown[1], names, _MISSPELT) or f"fields are {', '.join(names)}"
    elif missing := re.search(r"missing required field `([^`]+)`", message):
        field, message, value = _join(field, missing[1]), "the field is missing", None
    elif message == "a name must be text":
        value = next((key for key in value if not isinstance(key, str)), None) if value else None
        remedy = "put it in quotes"
    return InvalidFileError(
        _lower(message), file=file, field=field or None, value=_show(value), remedy=remedy
    )


def _follow(path: str, raw: Any, kind: Any) -> tuple[str, Any, Any]:
    """Name, value and type at a decoder's path, whose `[...]` hides which key it means."""
    field = ""
    for index, key in re.findall(r"\[(\d+|\.\.\.)\]|([^.\[\]]+)", path):
        kind = _container(kind)
        if key:
            field, raw, kind = _join(field, key), raw[key], _field_types(kind)[key]
        elif index == "...":
            kind = get_args(kind)[1]
            key = next((k for k, v in raw.items() if not _converts(v, kind)), None)
            if key is None:
                return field, None, None
            field, raw = _join(field, str(key)), raw[key]
        else:
            field, raw, kind = f"{field}[{index}]", raw[int(index)], get_args(kind)[0]
    return field, raw, _container(kind)


def _container(kind: Any) -> Any:
    """The struct, list or dict among the members of a union; the type itself otherwise."""
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return next((m for m in members if _is_struct(m) or get_origin(m) in (list, dict)), kind)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _field_types(kind: Any) -> dict[str, Any]:
    """A struct's (or dataclass's) fields by their names in files."""
    if _is_struct(kind):
        return {f.encode_name: f.type for f in msgspec.structs.fields(kind)}
    return get_type_hints(kind)


def _converts(value: object, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError:
        return False
    return True


def _refuse_misspelt(raw: Any, kind: Any, file: str, field: str) -> None:
    """Refuse an unknown field that looks like a misspelling of a known one.

    Unknown fields are otherwise ignored, so that newer files can be read; but a limit or a group
    that is silently dropped for a typing error would give a wrong plan.
    """
    kind = _container(kind)
    if _is_struct(kind) and isinstance(raw, dict):
        types = _field_types(kind)
        for name, value in raw.items():
            if name in types:
                _refuse_misspelt(value, types[name], file, _join(field, name))
            elif meant := did_you_mean(name, [n for n in types if n not in raw], _MISSPELT):
                raise InvalidFileError(
                    "unknown field", file=file, field=_join(field, name), remedy=meant
                )
    elif get_origin(kind) is dict and isinstance(raw, dict) and _is_struct(_inner(kind)):
        for name, value in raw.items():
            _refuse_misspelt(value, get_args(kind)[1], file, _join(field, str(name)))
    elif get_origin(kind) in (list, tuple) and isinstance(raw, list) and _is_struct(_inner(kind)):
        for i, value in enumerate(raw):
            _refuse_misspelt(value, get_args(kind)[0], file, f"{field}[{i}]")


def _inner(kind: Any) -> Any:
    """What a mapping, a list or a tuple of any length holds."""
    return _container(get_args(kind)[1 if get_origin(kind) is dict else 0])


def _join(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _show(value: object) -> str | None:
    """A value for a message, short also where aliases make it endless."""
    if value is None:
        return None
    short = reprlib.Repr()
    short.maxlevel, short.maxstring = 2, 80
    return short.repr(value)


def to_json(document: object, *, indent: int = 1) -> str:
    """A document as JSON text that ends its line; infinities become null, as JSON has none."""
    return msgspec.json.format(msgspec.json.encode(document), indent=indent).decode() + "\n"


def write_text(path: str | Path, text: str) -> None:
    """Write a file whole or not at all. Raises InvalidFileError where it cannot be written."""
    target = Path(os.path.realpath(path))  # a link stays a link
    try:
        if target.exists() and not target.is_file():  # /dev/stdout or a pipe cannot be replaced
            with open(target, "w", encoding="utf-8") as file:
                file.write(text)
            return
        handle, temporary = tempfile.mkstemp(dir=target.parent or ".", prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(temporary, 0o644)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise InvalidFileError(
            f"cannot be written: {error.strerror or error}",
            file=str(path),
            remedy="check that the folder exists and is writable",
        ) from None
