"""A lab as commands and programs use it: bring it up, find it, join it, change it, take it down."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec

from cutset.cluster import Cluster
from cutset.errors import LocalProtocolError, RuntimeFault, UsageError
from cutset.lab import cgroups, namespaces, places, requirements
from cutset.lab.keeper import Answer, Request, Settings
from cutset.lab.keeper_main import in_use
from cutset.lab.state import LabState, Place, difference, spec_of
from cutset.runtime.failures import from_failure

ANSWER_TIMEOUT_S: Final = 90.0


def up(
    cluster: Cluster,
    *,
    folder: Path | str | None = None,
    cache_dir: Path | str | None = None,
    tied: bool = False,
) -> Lab:
    """Bring up a lab of a cluster: a network namespace, links, groups and a worker for each device.

    A `tied` lab ends with this process; another one stays until `down`. `folder` is where its files
    are (default: /run/cutset). Raises UsageError where this machine lacks a feature or a lab is up,
    InfeasibleError where it is too small, RuntimeFault where building fails; nothing is left then.
    """
    spec = spec_of(cluster)
    requirements.check(spec, requirements.probe())
    files = places.files(folder)
    files.make()
    if _ask(files, Request()) is not None:
        raise in_use(files)
    places.wait_gone(files)
    cache = None if cache_dir is None else str(Path(cache_dir).absolute())
    settings = Settings(spec, str(files.folder.absolute()), cache, tied)
    with open(files.log, "wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "cutset.lab", "keeper_main"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError):
            keeper.stdin.write(msgspec.json.encode(settings) + b"\n")
            keeper.stdin.flush()
        line = keeper.stdout.readline()
        if not line:
            raise RuntimeFault(
                "the lab's process ended before the lab was up",
                file=str(files.log),
                remedy="that file says why",
            )
        answer = msgspec.json.decode(line, type=Answer)
        if answer.failure is not None:
            raise from_failure(answer.failure)
        state = places.read_state(files)
        assert state is not None
    except BaseException:
        keeper.stdin.close()
        keeper.stdout.close()  # what is not heard of when it is up ends at once
        keeper.wait()
        places.wait_gone(files)
        raise
    keeper.stdout.close()
    if tied:
        return Lab(files, state, keeper)
    keeper.stdin.close()
    keeper.wait()  # the lab's process is nobody's child by now
    return Lab(files, state)


def find(folder: Path | str | None = None) -> Lab | None:
    """The lab that is up, or None."""
    files = places.files(folder)
    if _ask(files, Request()) is None:
        return None
    state = places.read_state(files)
    return None if state is None else Lab(files, state)


def clean(folder: Path | str | None = None) -> None:
    """Remove what a lab left that was killed with its guardian. Raises RuntimeFault."""
    places.wait_gone(places.files(folder))


class Lab:
    """A lab that is up. As a context manager it goes down at the end."""

    def __init__(
        self, files: places.Files, state: LabState, keeper: subprocess.Popen[bytes] | None = None
    ) -> None:
        self._files = files
        self._state = state
        self._keeper = keeper
        self._outside_fd: int | None = None
        self._groups: tuple[str, ...] | None = None

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()
        self.down()

    @property
    def state(self) -> LabState:
        """What the lab is now. Raises RuntimeFault where it is gone."""
        found = places.read_state(self._files)
        if found is None or found.keeper_pid != self._state.keeper_pid:
            raise RuntimeFault(
                "the lab is gone", field="lab", remedy="bring it up again: `cutset lab up`"
            )
        self._state = found
        return found

    @property
    def is_up(self) -> bool:
        return _ask(self._files, Request()) is not None

    def place(self, device: str) -> Place:
        """Where a device is. Raises UsageError for an unknown one."""
        return self.state.places[self._state.spec.index(device)]

    def mismatch(self, cluster: Cluster) -> str | None:
        """In what the lab differs from a cluster, in words; None where it was built for it."""
        return difference(self.state.built, spec_of(cluster))

    def attach(self, cluster: Cluster) -> Cluster:
        """The cluster as it is reached in the lab: endpoints, and the shares that hold now.

        Raises UsageError where the lab was built for another one.
        """
        different = self.mismatch(cluster)
        if different is not None:
            raise UsageError(
                f"the lab that is up was built for another cluster: there {different}",
                field="lab",
                remedy="end it with `cutset lab down`, or use its cluster file",
            )
        devices = []
        for device, spec, place in zip(
            cluster.devices, self._state.spec.devices, self._state.places, strict=True
        ):
            devices.append(
                replace(
                    device,
                    endpoint=place.endpoint,
                    interface=None,
                    cpu_share=spec.cpu_share,
                    in_lab=True,
                )
            )
        return replace(cluster, devices=tuple(devices))

    def open_namespace(self, device: str) -> int:
        """A descriptor of a device's namespace. Raises RuntimeFault where the lab is gone."""
        place = self.place(device)
        try:
            return os.open(
                f"/proc/{self._state.keeper_pid}/fd/{place.namespace_fd}",
                os.O_RDONLY | os.O_CLOEXEC,
            )
        except OSError as error:
            raise RuntimeFault(
                f"the lab's namespaces cannot be reached: {error.strerror}",
                field="lab",
                remedy="be root, and see `cutset lab status`",
            ) from None

    def enter(self, device: str | None = None) -> None:
        """This process joins a device's network (default: the source's).

        Only this thread, and those that it starts from now on: what has threads of its own (Zenoh)
        must be opened afterwards. Raises RuntimeFault where the lab is gone.
        """
        if self._outside_fd is None:
            self._outside_fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        inside = self.open_namespace(device or self._state.spec.source)
        try:
            namespaces.enter(inside)
        finally:
            os.close(inside)

    def join_cpu(self, device: str | None = None) -> None:
        """This process joins a device's guard of the processor (default: the source's).

        Another device's limit of memory holds too; the source's is kept by its worker alone, as
        this process also holds the whole model. Raises OSError.
        """
        if self._groups is None:
            self._groups = cgroups.own()
        cgroups.join(self.place(device or self._state.spec.source).cgroups)

    def leave(self) -> None:
        """Undo `enter` and `join_cpu`, as far as they were done."""
        if self._groups is not None:
            cgroups.join(self._groups)
            self._groups = None
        if self._outside_fd is not None:
            namespaces.enter(self._outside_fd)
            os.close(self._outside_fd)
            self._outside_fd = None

    def set(self, *changes: str) -> None:
        """Make changes (docs/formats.md, CHANGE) at once: all of them or none.

        Raises UsageError for what is not one or names what is not there, InfeasibleError for
        shares beyond this machine's cores, RuntimeFault where the lab is gone.
        """
        answer = _ask(self._files, Request(changes=changes))
        if answer is None:
            raise RuntimeFault("the lab is gone", field="lab", remedy="bring it up again")
        if answer.failure is not None:
            raise from_failure(answer.failure)

    def down(self) -> None:
        """End the lab and wait until nothing of it is left. Raises RuntimeFault."""
        _ask(self._files, Request(down=True))
        if self._keeper is not None:
            if self._keeper.stdin is not None:
                self._keeper.stdin.close()
            self._keeper.wait()
        places.wait_gone(self._files)


def _ask(files: places.Files, request: Request) -> Answer | None:
    """The keeper's answer; None where there is no keeper."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_TIMEOUT_S)
        try:
            connection.connect(str(files.socket))
            connection.sendall(msgspec.json.encode(request) + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                piece = connection.recv(1 << 16)
                if not piece:
                    return None
                data += piece
        except OSError:
            return None
    try:
        return msgspec.json.decode(data, type=Answer)
    except msgspec.DecodeError as error:
        raise LocalProtocolError(f"the lab answers in words we cannot read: {error}") from None
