"""`cutset lab`: emulated devices with kernel-shaped links (Linux, root)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutset.cli import output, targets
from cutset.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from cutset.lab import Lab
    from cutset.lab.calibration import Calibration

app = typer.Typer(
    help="Emulated devices with kernel-shaped links, on this machine (Linux, root).",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("up")
def up(
    cluster: Annotated[
        Path, typer.Argument(metavar="C", help="The cluster file (YAML).")
    ] = targets.DEFAULT_CLUSTER,
    json: output.JsonFlag = False,
) -> None:
    """Bring up a lab of a cluster, which stays until `cutset lab down`."""
    from cutset import lab
    from cutset.serde import read_cluster

    devices = read_cluster(cluster)
    with output.working("bringing up the lab"):
        made = lab.up(devices)
    document = status_document(made)

    def show(console: Console) -> None:
        _show(console, document)
        console.print(
            f"next: {output.program()} run MODEL --cluster {output.quoted(cluster)} --lab"
        )

    output.emit(json, document, show)


@app.command("status")
def status(
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Measure rates and paced compute: status 1 where off."),
    ] = False,
    json: output.JsonFlag = False,
) -> None:
    """What is up: devices, links, limits; with --calibrate, whether its numbers are true."""
    from cutset import lab

    _need_root()
    found = lab.find()
    if found is None:
        output.emit(
            json,
            {"up": False},
            lambda console: console.print(
                f"no lab is up; next: {output.program()} lab up cluster.yaml"
            ),
        )
        return
    document = status_document(found)
    measured = None
    if calibrate:
        from cutset.lab.calibration import calibrate as measure

        with output.progress("measuring", 1.0) as bar:
            measured = measure(found, progress=bar)
        document["calibration"] = _calibration_document(measured)

    def show(console: Console) -> None:
        _show(console, document)
        if measured is not None:
            _show_calibration(console, measured)

    output.emit(json, document, show)
    ended = [d["name"] for d in document["devices"] if d["pid"] is None and d["endpoint"]]
    if ended:
        output.note(f"no worker runs on {', '.join(ended)}: `lab down` and `lab up` start them")
    if measured is not None and (ended or not measured.true):
        raise typer.Exit(1)


@app.command("set")
def set_(
    changes: Annotated[
        list[str], typer.Argument(metavar="CHANGE…", help="Such as link:pi>server=5Mbit/s.")
    ],
    json: output.JsonFlag = False,
) -> None:
    """Change rates, latencies, links and shares at once; all of them or, where one is bad, none."""
    found = _the_lab()
    found.set(*changes)
    document = status_document(found)
    output.emit(json, document, lambda console: _show(console, document))


@app.command("down")
def down(json: output.JsonFlag = False) -> None:
    """End the lab and what runs in it; removes also what a killed one left."""
    from cutset import lab

    _need_root()
    found = lab.find()
    with output.working("taking the lab down"):
        if found is not None:
            found.down()
        else:
            lab.clean()
    text = "the lab is down" if found is not None else "no lab was up"
    output.emit(json, {"up": False, "was_up": found is not None}, lambda c: c.print(text))


@app.command("exec")
def exec_(
    device: Annotated[str, typer.Argument(metavar="DEVICE")],
    command: Annotated[list[str], typer.Argument(metavar="-- CMD…")],
) -> None:
    """Run a command on a device of the lab: in its network, on its share, in its memory."""
    import os

    found = _the_lab()
    found.enter(device)
    found.join_cpu(device)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        found.leave()
        raise UsageError(
            f"the command cannot be run: {error.strerror}", field="CMD", value=command[0]
        ) from None


def _the_lab() -> Lab:
    """The lab that is up. Raises UsageError."""
    from cutset import lab

    _need_root()
    found = lab.find()
    if found is None:
        raise UsageError(
            "no lab is up", field="lab", remedy="bring one up: `cutset lab up cluster.yaml`"
        )
    return found


def _need_root() -> None:
    """A lab is root's: to others it would look as if none were up."""
    import os

    if hasattr(os, "geteuid") and os.geteuid() != 0:
        raise UsageError(
            "the lab needs root",
            field="lab",
            remedy="run it with sudo; without root, `cutset run` emulates in process",
        )


def status_document(lab: Lab) -> dict[str, Any]:
    """The lab as `--json` prints it; sizes in bytes, rates in bits per second, null: unlimited."""
    from cutset.lab import cgroups

    state = lab.state
    devices = []
    for device, place in zip(state.spec.devices, state.places, strict=True):
        is_source = device.name == state.spec.source
        devices.append(
            {
                "name": device.name,
                "address": place.address,
                "endpoint": None if is_source else place.endpoint,
                "role": "source" if is_source else "worker",
                "pid": place.pid,
                "cpu_share": device.cpu_share,
                "cpu_guard": cgroups.guard(device.cpu_share),
                "memory_limit_bytes": None if is_source else cgroups.memory_limit(device),
                "memory_in_use_bytes": cgroups.memory_in_use(place.cgroups),
                "egress_bps": device.egress_bps,
                "ingress_bps": device.ingress_bps,
            }
        )
    return {
        "up": True,
        "pid": state.keeper_pid,
        "source": state.spec.source,
        "memory_allowance_bytes": cgroups.ALLOWANCE_BYTES,
        "devices": devices,
        "links": [
            {
                "name": link.name,
                "bandwidth_bps": link.bandwidth_bps,
                "latency_s": link.latency_s,
                "up": link.up,
            }
            for link in state.spec.links
        ],
        "notes": list(state.notes),
    }


def _calibration_document(measured: Calibration) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(measured)
    found["true"] = measured.true
    return found


def _show(console: Console, document: dict[str, Any]) -> None:
    from cutset.units import format_bytes, format_rate, format_time

    def rate(bps: float | None) -> str:
        return "–" if bps is None else format_rate(bps)

    def size(count: int | None) -> str:
        return "–" if count is None else format_bytes(count)

    def process(device: dict[str, Any]) -> str:
        if device["role"] == "source":
            return "source"
        return "ended" if device["pid"] is None else str(device["pid"])

    output.table(
        console,
        ("device", "address", "worker", "share", "guard", "memory", "limit", "egress", "ingress"),
        [
            (
                d["name"],
                d["address"],
                process(d),
                f"{d['cpu_share']:g}",
                f"{d['cpu_guard']:g}",
                size(d["memory_in_use_bytes"]),
                size(d["memory_limit_bytes"]),
                rate(d["egress_bps"]),
                rate(d["ingress_bps"]),
            )
            for d in document["devices"]
        ],
    )
    console.print()
    output.table(
        console,
        ("link", "rate", "latency", "state"),
        [
            (
                x["name"],
                "unlimited" if x["bandwidth_bps"] is None else format_rate(x["bandwidth_bps"]),
                format_time(x["latency_s"]),
                "up" if x["up"] else "DOWN",
            )
            for x in document["links"]
        ],
    )
    if any(d["memory_limit_bytes"] for d in document["devices"]):
        allowance = format_bytes(document["memory_allowance_bytes"])
        console.print(f"memory limits hold {allowance} more than stated, for the process itself")
    for note in document["notes"]:
        console.print(f"note: {note}")


def _show_calibration(console: Console, measured: Calibration) -> None:
    from cutset.units import format_rate, format_time

    console.print()
    if measured.links:
        output.table(
            console,
            ("link", "stated", "measured", "off by"),
            [
                (x.name, format_rate(x.stated_bps), format_rate(x.measured_bps), f"{x.off_by:+.2%}")
                for x in measured.links
            ],
        )
        console.print()
    output.table(
        console,
        ("device", "stage", "measured", "off by"),
        [
            (x.device, format_time(x.stated_s), format_time(x.measured_s), f"{x.off_by:+.2%}")
            for x in measured.compute
        ],
    )
    console.print("rates and stages are true" if measured.true else "some are OFF by too much")
