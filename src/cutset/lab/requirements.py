"""What the lab needs of a machine, and a cluster of the lab: all that is missing, at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cutset.errors import InfeasibleError, UsageError
from cutset.lab import cgroups, commands, namespaces, relay
from cutset.lab.state import LabSpec
from cutset.runtime import machine_info
from cutset.units import format_bytes, format_rate

#: What is kept true: below and above, the kernel refuses or its timers are too coarse.
LEAST_BPS, MOST_BPS = 1e4, 4e10
LEAST_SHARE: Final = 0.01
MOST_LATENCY_S: Final = 10.0

WITHOUT: Final = "without it, `cutset run` emulates in process"

#: What the kernel must do -> commands that do it in a scratch namespace, one after another.
_FEATURES: Final = {
    "veth": ("ip link add veth0 type veth peer name veth1", "ip link set veth0 up"),
    "bridge": ("ip link add hub0 type bridge",),
    "htb": (
        "tc qdisc add dev veth0 root handle 1: htb",
        "tc class add dev veth0 parent 1: classid 1:1 htb rate 1mbit",
    ),
    "cls_u32": (
        "tc filter add dev veth0 parent 1: protocol ip prio 1 u32"
        " match ip dst 10.77.0.1/32 flowid 1:1",
    ),
}
_DELAY_FEATURES: Final = {
    "ingress qdisc": ("tc qdisc add dev veth1 handle ffff: ingress",),
    "act_mirred": (
        "tc filter add dev veth1 parent ffff: protocol ip prio 1 u32"
        " match ip dst 10.77.0.1/32 action mirred egress redirect dev veth0",
    ),
}


@dataclass(frozen=True)
class Machine:
    """What is here. `lacks` is missing for any lab, `delay_lacks` for links with a latency."""

    lacks: tuple[str, ...]
    delay_lacks: tuple[str, ...]
    memory_limits: bool
    cores: int
    memory_bytes: int


def probe() -> Machine:
    """Find out, by making one of each in a scratch namespace that is gone afterwards."""
    lacks: list[str] = []
    delay_lacks: list[str] = []
    hierarchy = None
    if not sys.platform.startswith("linux"):
        lacks.append("Linux")
    else:
        if os.geteuid() != 0:
            lacks.append("root")
        lacks += [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
        hierarchy = cgroups.find()
        if hierarchy is None:
            lacks.append("a cgroup hierarchy with the cpu controller")
        elif not os.access(hierarchy.cpu, os.W_OK) and "root" not in lacks:
            lacks.append("a writable cgroup hierarchy")
        if not lacks:
            try:
                lacks, delay_lacks = namespaces.in_thread(_features)
            except OSError as error:
                lacks.append(f"network namespaces ({error.strerror})")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    limits = hierarchy is not None and hierarchy.memory is not None
    return Machine(tuple(lacks), tuple(delay_lacks), limits, cores, machine_info.memory_bytes())


def _features() -> tuple[list[str], list[str]]:
    scratch = namespaces.make()
    namespaces.enter(scratch)
    os.close(scratch)  # it lives as long as this thread

    def works(line: str) -> bool:
        done = subprocess.run(
            line.split(), capture_output=True, timeout=namespaces.COMMAND_TIMEOUT_S, check=False
        )
        return done.returncode == 0

    lacks = [name for name, lines in _FEATURES.items() if not all(map(works, lines))]
    delay = [name for name, lines in _DELAY_FEATURES.items() if not all(map(works, lines))]
    try:
        os.close(relay.open_tap(commands.RELAY_PORT))
    except OSError:
        delay.append("TUN/TAP")
    return lacks, delay


def unavailable(probe: Callable[[], Machine] = probe) -> str | None:
    """What this machine lacks for any lab, in words; None where it has all."""
    lacks = probe().lacks
    return f"the lab needs {', '.join(lacks)}, which is missing here" if lacks else None


def check(spec: LabSpec, machine: Machine) -> None:
    """Refuse what cannot be built, naming all that is missing.

    Raises UsageError where the machine lacks a feature, InfeasibleError where it is too small.
    """
    lacks = list(machine.lacks)
    if any(link.latency_s > 0 for link in spec.links):
        lacks += [f"{name} (for links with a latency)" for name in machine.delay_lacks]
    limited = [d.name for d in spec.devices if d.memory_bytes is not None]
    if limited and not machine.memory_limits and not machine.lacks:
        lacks.append(f"the memory controller (to limit {', '.join(limited)})")
    if lacks:
        raise UsageError(
            f"the lab cannot be built here: it needs {', '.join(lacks)}", remedy=WITHOUT
        )
    short = []
    shares = sum(device.cpu_share for device in spec.devices)
    if shares > machine.cores + 1e-9:
        short.append(
            f"the devices' shares add up to {shares:g} cores and this machine has {machine.cores}"
            " (a device without a share counts 1)"
        )
    short += [
        f"device {d.name!r} has {format_bytes(d.memory_bytes)} of memory and this machine"
        f" {format_bytes(machine.memory_bytes)}"
        for d in spec.devices
        if d.memory_bytes is not None and 0 < machine.memory_bytes < d.memory_bytes
    ]
    if short:
        raise InfeasibleError(
            f"the lab cannot be true here: {'; '.join(short)}",
            field="lab" if shares > machine.cores else "devices",
            remedy="state smaller shares, such as lab: {pi: {cpu: 0.25}}, or use fewer devices"
            if shares > machine.cores
            else "state a smaller `memory`, or leave it out",
        )
    _check_ranges(spec)


def _check_ranges(spec: LabSpec) -> None:
    """Refuse numbers that the kernel's shapers and groups cannot hold. Raises UsageError."""
    rates = [(f"links.{link.name}.bandwidth", link.bandwidth_bps) for link in spec.links]
    rates += [(f"devices.{d.name}.egress", d.egress_bps) for d in spec.devices]
    rates += [(f"devices.{d.name}.ingress", d.ingress_bps) for d in spec.devices]
    for field, rate in rates:
        if rate is not None and not LEAST_BPS <= rate <= MOST_BPS:
            raise UsageError(
                f"the lab keeps rates from {format_rate(LEAST_BPS)} to {format_rate(MOST_BPS)}",
                field=field,
                value=f"{rate:g} bit/s",
                remedy="a unit may be missing, as in 20Mbit/s; for a dead link, set it down",
            )
    for device in spec.devices:
        if device.cpu_share < LEAST_SHARE:
            raise UsageError(
                f"the lab keeps shares from {LEAST_SHARE:g} of a core",
                field=f"lab.{device.name}.cpu",
                value=device.cpu_share,
                remedy="write a share such as 0.25",
            )
    for link in spec.links:
        if link.latency_s > MOST_LATENCY_S:
            raise UsageError(
                f"the lab keeps latencies up to {MOST_LATENCY_S:g} s",
                field=f"links.{link.name}.latency",
                value=f"{link.latency_s:g} s",
                remedy="a unit may be missing, as in 20ms; for a dead link, set it down",
            )


def notes(spec: LabSpec) -> tuple[str, ...]:
    """What the lab cannot hold to the last percent, in words."""
    fast = [
        link.name
        for link in spec.links
        if link.latency_s > 0 and (spec.rate_bps(link) or float("inf")) > relay.CARRIES_BPS
    ]
    if not fast:
        return ()
    return (
        f"links with a latency carry at most about {format_rate(relay.CARRIES_BPS)} here, as"
        f" their frames pass through a process: {', '.join(fast)}",
    )
