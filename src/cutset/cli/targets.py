"""What commands are given: models or workloads, clusters, profiles, input shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cutset.errors import InvalidFileError, UsageError

if TYPE_CHECKING:
    from cutset.cluster import Cluster
    from cutset.cost import TableCost
    from cutset.graph import Graph
    from cutset.lab import Lab
    from cutset.onnx_io import Model
    from cutset.problem import Objective, Problem
    from cutset.profiles import Profile

TargetArgument = Annotated[
    Path, typer.Argument(metavar="TARGET", help="An ONNX model or a workload file (JSON).")
]
ClusterOption = Annotated[Path, typer.Option("--cluster", help="The cluster file (YAML).")]
ProfileOption = Annotated[
    Path | None, typer.Option("--profile", help="Measured times, from `cutset profile`.")
]
ShapeOption = Annotated[
    list[str] | None,
    typer.Option("--input-shape", metavar="NAME=DIMS", help="Such as x=1,3,224,224; repeatable."),
]
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX model.")]
InputOption = Annotated[
    list[Path] | None,
    typer.Option("--input", help=".npy, .npz by input name, or an image; repeatable."),
]
InsecureOption = Annotated[
    bool,
    typer.Option("--insecure", help="Allow listening beyond loopback, without authentication."),
]
LabOption = Annotated[
    bool,
    typer.Option("--lab", help="Devices in the lab: the one that is up, or one for this command."),
]


class ObjectiveName(StrEnum):
    latency = "latency"
    throughput = "throughput"


class FallbackName(StrEnum):
    local = "local"


ObjectiveOption = Annotated[
    ObjectiveName, typer.Option("--objective", help="What to minimise or maximise.")
]
StrategyOption = Annotated[
    str, typer.Option("--strategy", help="A strategy's name, or ./FILE.py[:CLASS].")
]
TimeLimitOption = Annotated[
    float, typer.Option("--time-limit", min=0.0, help="Seconds for planning.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="Of strategies that draw lots.")]
DEFAULT_CLUSTER = Path("cluster.yaml")

#: How devices were run, as documents say it -> in words.
EMULATED = {
    "no": "on devices",
    "process": "emulated by processes of this machine",
    "lab": "in the lab on this machine",
}


@dataclass(frozen=True)
class Target:
    """A graph; its costs where the file has them; the model where it is one."""

    graph: Graph
    cost: TableCost | None = None
    model: Model | None = None


def stated(context: typer.Context, options: Mapping[str, str]) -> Iterator[str]:
    """Those of `options` (by their parameters' names) that were written on the command line."""
    for name, option in options.items():
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            yield option


def parse_shapes(texts: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """NAME=DIMS texts as a mapping; dims by commas or x. Raises UsageError."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts or ():
        name, _, dims = text.rpartition("=")
        try:
            shape = tuple(int(d) for d in dims.replace("x", ",").split(",") if d.strip())
        except ValueError:
            shape = ()
        if not name or not shape or min(shape) < 1:
            raise UsageError(
                "not an input shape",
                field="--input-shape",
                value=text,
                remedy="write NAME=DIMS such as x=1,3,224,224",
            )
        shapes[name] = shape
    return shapes


def options_again(
    shapes: Sequence[str] | None, objective: str = "latency", strategy: str = "auto"
) -> str:
    """Options of a command that the next one needs too, where they are not the default."""
    from cutset.cli.output import quoted

    given = [("--input-shape", shape) for shape in shapes or ()]
    given += [("--objective", objective)] if objective != "latency" else []
    given += [("--strategy", strategy)] if strategy not in ("", "auto") else []
    return "".join(f" {option} {quoted(Path(value))}" for option, value in given)


def is_workload(path: Path) -> bool:
    """Whether the file is JSON: by its first byte, or by its name where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(256).lstrip()[:1] in (b"{", b"[") or path.suffix == ".json"
    except OSError:
        return path.suffix == ".json"


def load_target(path: Path, shapes: Mapping[str, Sequence[int]] | None = None) -> Target:
    """The target's graph. Raises InvalidFileError or InvalidModelError."""
    if is_workload(path):
        from cutset.serde import read_workload

        graph, cost = read_workload(path)
        return Target(graph, cost)
    from cutset.onnx_io import load_model

    model = load_model(path, dict(shapes or {}))
    return Target(model.graph, model=model)


@dataclass(frozen=True)
class Reached:
    """A cluster as it is reached; `lab` is where, None outside one.

    `join_cpu` puts this process on the source's share of a core where the lab emulates it; what is
    not the device's work, such as planning, comes before.
    """

    cluster: Cluster
    join_cpu: Callable[[], None] = lambda: None
    lab: Lab | None = None


def emulation(cluster: Cluster) -> Literal["no", "process", "lab"]:
    """How the devices of a cluster, as it is reached, are run: a key of EMULATED."""
    source = cluster.by_name[cluster.source]
    if source.in_lab:
        return "lab"
    others = (d for d in cluster.devices if d.name != cluster.source)
    spawned = any(d.endpoint is None for d in others)
    return "process" if spawned or source.cpu_share is not None else "no"


@contextmanager
def in_lab(cluster: Cluster, wanted: bool) -> Iterator[Reached]:
    """The cluster as it is reached from here on: in the lab where that is wanted and possible.

    This process is in the source's network then, until the end of the context. The lab that is up
    for this cluster is used; without one, one is brought up and taken down again. Where this
    machine can have none, the cluster stays, and a note says so. Raises UsageError where the lab
    that is up is another cluster's, InfeasibleError where this machine is too small.
    """
    if not wanted:
        yield Reached(cluster)
        return
    from cutset import lab
    from cutset.cli import output

    if (lacks := lab.unavailable()) is not None:
        output.note(f"{lacks}: devices without an endpoint are emulated in process instead")
        yield Reached(cluster)
        return
    found = lab.find()
    own = None if found is not None else lab.up(cluster, tied=True)
    used = found or own
    assert used is not None
    try:
        attached = used.attach(cluster)
        for text in used.state.notes:
            output.note(text)
        used.enter()
        yield Reached(attached, used.join_cpu, used)
    finally:
        used.leave()
        if own is not None:
            own.down()


def measure(
    model: Model,
    cluster: Cluster | None,
    note: Callable[[str], None] = lambda _: None,
    insecure: bool = False,
    lab: bool = False,
) -> Profile:
    """The model measured now, on the cluster's devices or here. Raises what measuring raises."""
    from cutset import api

    if cluster is None:
        return api.profile(model, note=note)
    with in_lab(cluster, lab) as reached:
        reached.join_cpu()
        return api.profile(model, reached.cluster, insecure=insecure, note=note)


@contextmanager
def naming_files(target: Target, path: Path, cluster: Path, strategy: str = "") -> Iterator[None]:
    """Add to planning errors in which of the files their field stands, or the strategy's own file
    where that failed."""
    from cutset.errors import PlanningError
    from cutset.strategies import is_file

    try:
        yield
    except PlanningError as error:
        part = (error.field or "").partition(".")[0]
        if part in ("devices", "links", "sink"):
            error.located(file=str(cluster))
        elif part == "operators" and target.model is None:
            error.located(file=str(path))
        elif type(error) is PlanningError and part != "time_limit_s" and is_file(strategy):
            error.located(file=strategy)
        raise


def load_problem(
    target: Target,
    cluster: Path,
    profile: Path | None,
    objective: Objective,
    note: Callable[[str], None] = lambda _: None,
    insecure: bool = False,
    lab: bool = False,
) -> Problem:
    """The planning problem that the files state; a model without a profile is measured now.

    Raises InvalidFileError, and what measuring raises.
    """
    from cutset.problem import Problem
    from cutset.profiles import resolve
    from cutset.serde import read_cluster, read_profile

    devices = read_cluster(cluster)
    measured = read_profile(profile) if profile is not None else None
    if target.model is not None:
        from cutset import api

        if measured is None:
            note("measuring; --profile FILE takes measured times instead")
            measured = measure(target.model, devices, note, insecure, lab)
        try:
            return api.problem(target.model, devices, measured, objective=objective.value)
        except InvalidFileError as error:
            raise error.located(file=str(profile or cluster)) from None
    assert target.cost is not None
    try:
        resolved = resolve(devices, measured)
    except InvalidFileError as error:
        raise error.located(file=str(cluster)) from None
    return Problem(target.graph, resolved, target.cost, objective)
