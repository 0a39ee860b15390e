"""The lab's process: holds its namespaces, starts its workers, changes what it is told to change.

Started by `cutset.lab.up` (keeper_main.py). It serves a socket in the lab's folder: one request and
one answer a connection, each a JSON line. Everything it holds ends with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import msgspec

from cutset.changes import parse_change
from cutset.errors import CutsetError, RuntimeFault, UsageError
from cutset.lab import cgroups, commands, guardian, namespaces, places, requirements
from cutset.lab.state import SCHEMA, LabSpec, LabState, Place, changed
from cutset.runtime.children import Child, spawn
from cutset.runtime.failures import to_failure
from cutset.runtime.messages import Failure

MAX_REQUEST_BYTES: Final = 1 << 16
REQUEST_TIMEOUT_S: Final = 5.0
RELAY_TIMEOUT_S: Final = 15.0
_SPAWNED_AT_ONCE: Final = 4

#: In every namespace. No IPv6, whose chatter would pass the links; TCP's window must survive the
#: pauses between requests, or each transfer would begin slowly; buffers for fast links.
_SYSCTLS: Final = {
    "ipv6/conf/all/disable_ipv6": "1",
    "ipv6/conf/default/disable_ipv6": "1",
    "ipv4/tcp_slow_start_after_idle": "0",
    "ipv4/tcp_no_metrics_save": "1",
}
#: Joins the groups whose `cgroup.procs` come before "--", then becomes the command after it.
JOIN_SCRIPT: Final = (
    'while [ "$1" != -- ]; do echo 0 > "$1" || exit 1; shift; done; shift; exec "$@"'
)


class Settings(msgspec.Struct, frozen=True):
    """What `up` tells the keeper. `tied`: the lab ends when standard input closes."""

    spec: LabSpec
    folder: str
    cache_dir: str | None
    tied: bool


class Request(msgspec.Struct, frozen=True):
    """What may be asked: `changes` to make, or to go `down`."""

    changes: tuple[str, ...] = ()
    down: bool = False


class Answer(msgspec.Struct, frozen=True):
    """`failure` None: it is done."""

    failure: Failure | None = None


def joining(folders: Sequence[str]) -> list[str]:
    """A command's prefix that lets it begin in control groups."""
    files = [f"{folder}/cgroup.procs" for folder in folders]
    return ["sh", "-c", JOIN_SCRIPT, "cutset-lab", *files, "--"]


class Keeper:
    """A lab that is up once `build` is through. Raises what refuses to be built."""

    def __init__(self, settings: Settings, held_fd: int, machine: requirements.Machine) -> None:
        self.settings = settings
        self.files = places.files(settings.folder)
        self._machine = machine
        self._held_fd = held_fd
        self._name = f"cutset-lab-{os.getpid()}"
        hierarchy = cgroups.find()
        if hierarchy is None:
            raise UsageError("no cgroup hierarchy with the cpu controller")
        self._hierarchy = hierarchy
        self._children: dict[str, Child] = {}
        self._relay: subprocess.Popen[str] | None = None
        self._guardian: subprocess.Popen[bytes] | None = None
        self._changed = threading.Lock()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.hub_fd = namespaces.make()
        spec = settings.spec
        count = len(spec.devices)
        self.state = LabState(
            schema=SCHEMA,
            keeper_pid=os.getpid(),
            built=spec,
            spec=spec,
            places=tuple(
                Place(
                    commands.address(i),
                    f"tcp/{commands.address(i)}:{commands.PORT}",
                    namespaces.make(),
                    None,
                    cgroups.folders(hierarchy, self._name, i),
                )
                for i in range(count)
            ),
            folders=cgroups.all_folders(hierarchy, self._name, count),
            notes=requirements.notes(spec),
        )

    def build(self) -> None:
        """Make everything; first written down is what could be left, and guarded."""
        self.write()
        self._guardian = guardian.start(
            self.files.state, self.files.socket, self.state.folders, self._held_fd
        )
        spec, indices = self.settings.spec, range(len(self.settings.spec.devices))
        for i in indices:
            device = spec.devices[i]
            is_source = device.name == spec.source
            cgroups.make(self._hierarchy, self._name, i, device, limited=not is_source)
        namespaces.inside(self.hub_fd, self._build_hub)
        for i in indices:
            namespaces.inside(self.state.places[i].namespace_fd, partial(self._build_device, i))
        self._delay(spec)
        self._spawn_workers()
        for i in indices:  # last, as a process takes long to start on a small share
            cgroups.set_share(self._hierarchy, self._name, i, spec.devices[i].cpu_share)

    def _build_hub(self) -> None:
        namespaces.set_sysctls(_SYSCTLS)
        lines = commands.hub_lines()
        for i, place in enumerate(self.state.places):
            lines += commands.port_lines(i, f"/proc/{os.getpid()}/fd/{place.namespace_fd}")
        namespaces.batch("ip", lines)
        spec = self.settings.spec
        namespaces.batch(
            "tc", [x for i in range(len(spec.devices)) for x in commands.ingress_lines(spec, i)]
        )

    def _build_device(self, index: int) -> None:
        spec = self.settings.spec
        namespaces.set_sysctls(_SYSCTLS)
        namespaces.batch(
            "ip",
            commands.device_lines(index)
            + commands.piece_lines(spec, index)
            + commands.route_lines(spec, index),
        )
        namespaces.batch("tc", commands.egress_lines(spec, index))

    def _delay(self, spec: LabSpec, before: LabSpec | None = None) -> None:
        """Have the links' latencies kept: by the relay, and filters that lead to it."""
        indices = range(len(spec.devices))
        delays = {
            f"{commands.address(i)}>{commands.address(spec.index(link.target))}": link.latency_s
            for i in indices
            for link in commands.delayed(spec, i)
        }
        if delays and self._relay is None:
            self._relay = namespaces.inside(self.hub_fd, self._start_relay)
            namespaces.inside(
                self.hub_fd,
                lambda: namespaces.batch("ip", [f"link set {commands.RELAY_PORT} up"]),
            )
        if self._relay is None:
            return
        assert self._relay.stdin is not None
        self._relay.stdin.write(json.dumps({"delays": delays}) + "\n")
        self._relay.stdin.flush()
        lines = [
            line
            for i in indices
            for line in (
                commands.delay_lines(spec, i)
                if before is None
                else commands.delay_change_lines(before, spec, i)
            )
        ]
        namespaces.inside(self.hub_fd, lambda: namespaces.batch("tc", lines))

    def _start_relay(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "cutset.lab", "relay"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=(self._held_fd,),  # the lab is not gone before the relay is
        )
        assert process.stdin is not None
        assert process.stdout is not None
        ports = {p.address: commands.port(i) for i, p in enumerate(self.state.places)}
        settings = {"tap": commands.RELAY_PORT, "ports": ports, "delays": {}}
        process.stdin.write(json.dumps(settings) + "\n")
        process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            answer = process.stdout.readline() if selector.select(RELAY_TIMEOUT_S) else ""
        if "ready" not in answer:
            process.kill()
            raise RuntimeFault(
                f"the relay for links with a latency did not start: {answer.strip()}",
                remedy="run `cutset doctor`, which says what the lab needs",
            )
        return process

    def _spawn_workers(self) -> None:
        spec = self.settings.spec
        others = [d.name for d in spec.devices if d.name != spec.source]
        with ThreadPoolExecutor(_SPAWNED_AT_ONCE) as pool:
            for name, child in zip(others, pool.map(self._spawn, others), strict=True):
                self._children[name] = child
                self._set_pid(name, child.process.pid)
        for name, child in self._children.items():
            if child.process.poll() is not None:  # between its answer and its place in the table
                self._ended(name)

    def _spawn(self, name: str) -> Child:
        index = self.settings.spec.index(name)
        place = self.state.places[index]
        namespaces.enter(place.namespace_fd)  # this thread of the pool, and what it starts
        return spawn(
            name,
            listen=(place.endpoint,),
            connect=(),
            memory_bytes=self.settings.spec.devices[index].memory_bytes,
            cache_dir=self.settings.cache_dir,
            ended=self._ended,
            prefix=joining(place.cgroups),
        )

    def _ended(self, name: str) -> None:
        if name in self._children:
            self._set_pid(name, None)
            self.write()

    def _set_pid(self, name: str, pid: int | None) -> None:
        with self._changed:
            index = self.state.spec.index(name)
            found = list(self.state.places)
            found[index] = msgspec.structs.replace(found[index], pid=pid)
            self.state = msgspec.structs.replace(self.state, places=tuple(found))

    def write(self) -> None:
        with self._changed:
            places.write_state(self.files, self.state)

    # --- serving

    def serve(self, listener: socket.socket, tied_fd: int | None) -> None:
        """Answer until told to go down, by a request, a signal or the end of `tied_fd`."""
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ, "request")
            selector.register(self._wake_read, selectors.EVENT_READ, "down")
            if tied_fd is not None:
                selector.register(tied_fd, selectors.EVENT_READ, "tied")
            relay = None
            while True:
                if relay is None and self._relay is not None:
                    relay = self._relay.stdout
                    assert relay is not None
                    selector.register(relay, selectors.EVENT_READ, "down")  # it is lost
                for key, _ in selector.select():
                    if key.data == "down" or (key.data == "tied" and not os.read(key.fd, 4096)):
                        return
                    if key.data == "request" and self._answer(listener):
                        return

    def _answer(self, listener: socket.socket) -> bool:
        """Answer one connection; whether it asks to go down."""
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(REQUEST_TIMEOUT_S)
            data = b""
            while not data.endswith(b"\n") and len(data) < MAX_REQUEST_BYTES:
                piece = connection.recv(4096)
                if not piece:
                    return False
                data += piece
            down = False
            try:
                request = msgspec.json.decode(data, type=Request)
                down = request.down
                self._change(request.changes)
                answer = Answer()
            except (CutsetError, OSError, msgspec.DecodeError) as error:
                answer = Answer(to_failure(error))
            connection.sendall(msgspec.json.encode(answer) + b"\n")
            return down
        return False

    def _change(self, texts: Sequence[str]) -> None:
        """Make changes, all of them or, where one is refused, none."""
        before = after = self.state.spec
        for text in texts:
            after = changed(after, parse_change(text))
        if after == before:
            return
        requirements.check(after, self._machine)
        try:
            self._change_network(before, after)
        except BaseException:
            self._shape_anew(before)
            raise
        for i in range(len(self.state.places)):
            share = after.devices[i].cpu_share
            if share != before.devices[i].cpu_share:
                cgroups.set_share(self._hierarchy, self._name, i, share)
                child = self._children.get(after.devices[i].name)
                if child is not None:
                    child.pace(share)
        with self._changed:
            self.state = msgspec.structs.replace(
                self.state, spec=after, notes=requirements.notes(after)
            )
        self.write()

    def _change_network(self, before: LabSpec, after: LabSpec) -> None:
        for i, place in enumerate(self.state.places):
            namespaces.inside(place.namespace_fd, partial(self._change_device, before, after, i))
        lines = [
            line
            for i in range(len(after.devices))
            for line in commands.ingress_change_lines(before, after, i)
        ]
        namespaces.inside(self.hub_fd, lambda: namespaces.batch("tc", lines))
        self._delay(after, before)

    def _shape_anew(self, spec: LabSpec) -> None:
        """Make all shapers as they were, whatever of a refused change the kernel has taken."""
        for i, place in enumerate(self.state.places):
            device = place.namespace_fd
            for namespace, port, lines in (
                (device, commands.DEVICE_PORT, commands.egress_lines(spec, i)),
                (self.hub_fd, commands.port(i), commands.ingress_lines(spec, i)),
            ):
                with contextlib.suppress(CutsetError):  # there may be none
                    drop = [f"qdisc del dev {port} root"]
                    namespaces.inside(namespace, partial(namespaces.batch, "tc", drop))
                with contextlib.suppress(CutsetError):
                    namespaces.inside(namespace, partial(namespaces.batch, "tc", lines))

    @staticmethod
    def _change_device(before: LabSpec, after: LabSpec, index: int) -> None:
        lines = commands.route_change_lines(before, after, index)
        if commands.piece_lines(after, index) != commands.piece_lines(before, index):
            lines += commands.piece_lines(after, index)
        namespaces.batch("ip", lines)
        namespaces.batch("tc", commands.egress_change_lines(before, after, index))

    def wake(self) -> None:
        """Let `serve` return, from a signal's handler."""
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"x")

    def close(self) -> None:
        """End the workers and the relay; the guardian does the rest when this process is gone."""
        children, self._children = list(self._children.values()), {}
        with ThreadPoolExecutor(_SPAWNED_AT_ONCE) as pool:
            list(pool.map(Child.stop, children))
        if self._relay is not None and self._relay.stdin is not None:
            with contextlib.suppress(OSError):
                self._relay.stdin.close()
            self._relay.wait()
        if self._guardian is not None and self._guardian.stdin is not None:
            with contextlib.suppress(OSError):
                self._guardian.stdin.write(guardian.DOWN)
                self._guardian.stdin.flush()
