"""Worker processes: `serve` behind `cutset worker`, and the ones that a coordinator spawns.

A spawned worker gets its settings as one JSON line on standard input, answers with one JSON line,
takes new shares of a core as further lines, and exits when that input closes: its parent is gone
then, however it ended.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from cutset.errors import CutsetError, UsageError
from cutset.runtime.cache import SubmodelCache
from cutset.runtime.direct_transport import DirectTransport
from cutset.runtime.discovery import LOOPBACK_INTERFACES, check_interface
from cutset.runtime.failures import to_failure
from cutset.runtime.worker import Worker
from cutset.runtime.zenoh_transport import (
    DEFAULT_ENDPOINT,
    ZenohTransport,
    check_listen,
    parse_endpoint,
)


def serve(
    name: str | None = None,
    *,
    listen: Sequence[str] = (DEFAULT_ENDPOINT,),
    connect: Sequence[str] = (),
    memory_bytes: int | None = None,
    cache_dir: Path | str | None = None,
    insecure: bool = False,
    discover: str | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> None:
    """Be a device's worker until SIGTERM or Ctrl-C; for the main thread.

    `name` defaults to the host's; `discover` is the interface on which it answers multicast.
    Raises UsageError where an endpoint is malformed or beyond
    loopback without `insecure`, TransportError where it cannot be listened on.
    """
    for endpoint in listen:
        check_listen(endpoint, insecure=insecure)
    for endpoint in connect:
        parse_endpoint(endpoint, field="--connect")
    if discover is not None:
        _check_discover(discover, listen, insecure)
    name = name or socket.gethostname()
    worker = start(name, listen, connect, memory_bytes, cache_dir, log, discover)
    previous = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, _terminate)
        log(f"worker {name!r} listens on {', '.join(listen) or 'nothing'}")
        while True:
            time.sleep(1.0)  # not forever, so that Ctrl-C is seen on Windows too
    except _Terminated:
        pass
    finally:
        signal.signal(signal.SIGTERM, previous)
        worker.close()


class _Terminated(Exception):
    """SIGTERM came."""


def _terminate(number: int, frame: object) -> NoReturn:
    # Raised, as Ctrl-C is: setting an event from here would wait for ever where the signal came
    # while the main thread held that event's lock.
    signal.signal(number, signal.SIG_IGN)
    raise _Terminated


def _check_discover(interface: str, listen: Sequence[str], insecure: bool) -> None:
    """Raise UsageError where being found is not asked for clearly, or would be of no use."""
    check_interface(interface, field="--discover")
    if interface in LOOPBACK_INTERFACES:
        return
    if not insecure:
        raise UsageError(
            "answering multicast beyond loopback is refused: devices cannot be paired yet",
            field="--discover",
            value=interface,
            remedy="add --insecure on a network that you trust, or --discover lo",
        )
    if all(parse_endpoint(endpoint, field="--listen").is_loopback for endpoint in listen):
        raise UsageError(
            "others would find this worker and could not reach it: it listens on loopback only",
            field="--listen",
            value=", ".join(listen) or "nothing",
            remedy="add --listen tcp/0.0.0.0:7447, or the address of that interface",
        )


def start(
    name: str,
    listen: Sequence[str],
    connect: Sequence[str] = (),
    memory_bytes: int | None = None,
    cache_dir: Path | str | None = None,
    log: Callable[[str], None] = lambda line: None,
    discover: str | None = None,
) -> Worker:
    """A worker that serves already, until its `close`; `serve` says what may be wrong."""
    control = ZenohTransport(
        listen=listen, connect=connect, name=name, discover=discover, mesh=False
    )
    transport = DirectTransport(control, listen=listen, log=log)
    worker = Worker(name, transport, SubmodelCache(cache_dir), memory_bytes=memory_bytes, log=log)
    worker.start()
    return worker


def _spawned() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; we end with it
    settings = json.loads(sys.stdin.readline())
    try:
        worker = start(
            settings["name"],
            settings["listen"],
            settings["connect"],
            settings["memory_bytes"],
            settings["cache_dir"],
            lambda line: print(line, file=sys.stderr, flush=True) if settings["log"] else None,
        )
    except CutsetError as error:
        print(json.dumps({"error": str(error), "code": to_failure(error).code}), flush=True)
        return 1
    print(json.dumps({"address": worker.transport.address, "pid": os.getpid()}), flush=True)
    for line in sys.stdin:  # what the parent may still say: a new share of a core
        worker.pace(float(json.loads(line)["cpu_share"]))
    # Nothing here outlives the parent, not even a stage that is computing.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(_spawned())
