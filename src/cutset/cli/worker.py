"""`cutset worker`: the process on each device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from cutset.cli import output


class Command(TyperCommand):
    """`--discover` may stand without its value, which typer knows no way to say."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        following = [*args[1:], "-"]
        given = (
            [option, "auto"] if option == "--discover" and after.startswith("-") else [option]
            for option, after in zip(args, following, strict=True)
        )
        return super().parse_args(ctx, [part for parts in given for part in parts])


def worker(
    name: Annotated[str | None, typer.Argument(help="Default: the host's name.")] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option("--listen", metavar="EP", help="Such as tcp/127.0.0.1:7447; repeatable."),
    ] = None,
    connect: Annotated[
        list[str] | None, typer.Option("--connect", metavar="EP", help="Repeatable.")
    ] = None,
    discover: Annotated[
        str | None,
        typer.Option(
            "--discover",
            metavar="[IFACE]",
            help="Be found by multicast on this network interface (default: all).",
        ),
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Such as 512MiB.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", metavar="DIR", help="Where submodels are kept.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond loopback, for anyone to use.")
    ] = False,
    json: output.JsonFlag = False,
) -> None:
    """Serve this device until Ctrl-C or SIGTERM; listens on loopback unless asked."""
    from cutset import units
    from cutset.runtime.worker_main import serve
    from cutset.runtime.zenoh_transport import DEFAULT_ENDPOINT

    serve(
        name,
        listen=listen or (() if connect else (DEFAULT_ENDPOINT,)),
        connect=connect or (),
        memory_bytes=None if memory is None else units.parse_bytes(memory, field="--memory"),
        cache_dir=cache,
        insecure=insecure,
        discover=discover,
        log=output.note,
    )
    output.emit(json, {"served": True}, lambda console: None)
