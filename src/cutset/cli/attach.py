"""`cutset attach`: preprocessing as operators of the model, so that raw bytes can cross."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cutset.cli import output

if TYPE_CHECKING:
    from rich.console import Console


def attach(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX model.")],
    pre: Annotated[str, typer.Option("--pre", metavar="SPEC", help="See docs/formats.md, attach.")],
    out: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The new model.")],
    json: output.JsonFlag = False,
) -> None:
    """Put cast, layout, scale, mean/std and resize of a uint8 image into the model."""
    from cutset.errors import InvalidFileError
    from cutset.onnx_io import attach_preprocessing
    from cutset.units import format_bytes

    output.check_writable(out, [model])
    data = attach_preprocessing(model, pre)
    try:
        out.write_bytes(data)
    except OSError as error:
        raise InvalidFileError(
            f"cannot be written: {error.strerror or error}",
            file=str(out),
            remedy="check that the folder exists and is writable",
        ) from None
    document = {"model": str(out), "bytes": len(data), "pre": pre}

    def show(console: Console) -> None:
        console.print(f"wrote {out}, {format_bytes(len(data))}")
        console.print(f"next: {output.program()} inspect {output.quoted(out)}")

    output.emit(json, document, show)
