"""What all file formats share: reading, decoding with located errors, writing."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cutset.errors import InvalidFileError

T = TypeVar("T")

MAX_FILE_BYTES = 256 * 2**20


def read_text(path: str | Path) -> bytes:
    """The file's bytes. Raises InvalidFileError where it is missing, unreadable or huge."""
    try:
        size = os.stat(path).st_size
        if size > MAX_FILE_BYTES:
            raise InvalidFileError(
                "the file is too large",
                file=str(path),
                value=f"{size} bytes",
                remedy=f"at most {MAX_FILE_BYTES} bytes are read",
            )
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidFileError(
            f"cannot be read: {error.strerror or error}", file=str(path), remedy="check the path"
        ) from None


def decode(data: bytes, kind: type[T], schema: str, file: str) -> T:
    """Decode a JSON document of the named schema. Raises InvalidFileError."""
    try:
        raw = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidFileError(
            f"not valid JSON: {error}",
            file=file,
            remedy="NaN and Infinity are not JSON numbers; check quotes and commas",
        ) from None
    return convert(raw, kind, schema, file)


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
            value=found,
            remedy=f"write schema: {schema}",
        )
    try:
        return msgspec.convert(raw, kind, strict=True)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `")
        field = path.rstrip("`").removeprefix("$").lstrip(".") or None
        unknown = re.search(r"unknown field `([^`]+)`", message)
        raise InvalidFileError(
            "unknown field" if unknown else _lower(message),
            file=file,
            field=_name(field, unknown[1] if unknown else None),
            value=None if unknown else _value_at(raw, field),
            remedy="see docs/formats.md",
        ) from None


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _name(field: str | None, inner: str | None) -> str | None:
    return ".".join(part for part in (field, inner) if part) or None


def _value_at(raw: object, field: str | None) -> str | None:
    """The offending value, followed through the decoder's path where it can be."""
    for step in re.findall(r"\[(\d+|\.\.\.)\]|([^.\[\]]+)", field or ""):
        index, key = step
        if index and index != "..." and isinstance(raw, list) and int(index) < len(raw):
            raw = raw[int(index)]
        elif key and isinstance(raw, dict) and key in raw:
            raw = raw[key]
        else:
            return None
    return repr(raw) if field else None


def to_json(document: object, *, indent: int = 1) -> str:
    """A document as JSON text; infinities become null, as JSON has none."""
    text = msgspec.json.format(msgspec.json.encode(document), indent=indent)
    return text.decode()


def write_text(path: str | Path, text: str) -> None:
    """Write a file whole or not at all. Raises InvalidFileError where it cannot be written."""
    target = Path(path)
    try:
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


def json_schemas() -> dict[str, Any]:
    """JSON Schemas of all files, by file kind."""
    from cutset.serde.cluster_file import ClusterDocument
    from cutset.serde.plan_file import PlanDocument
    from cutset.serde.profile_file import ProfileDocument
    from cutset.serde.workload_file import WorkloadDocument

    return {
        name: msgspec.json.schema(kind)
        for name, kind in (
            ("cluster", ClusterDocument),
            ("plan", PlanDocument),
            ("profile", ProfileDocument),
            ("workload", WorkloadDocument),
        )
    }
