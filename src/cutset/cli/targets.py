"""What commands are given: models or workloads, clusters, profiles, input shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cutset.errors import InvalidFileError, UsageError

if TYPE_CHECKING:
    from cutset.cost import TableCost
    from cutset.graph import Graph
    from cutset.onnx_io import Model
    from cutset.problem import Objective, Problem

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
DEFAULT_CLUSTER = Path("cluster.yaml")


@dataclass(frozen=True)
class Target:
    """A graph; its costs where the file has them; the model where it is one."""

    graph: Graph
    cost: TableCost | None = None
    model: Model | None = None


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


def load_problem(
    target: Target, path: Path, cluster: Path, profile: Path | None, objective: Objective
) -> Problem:
    """The planning problem that the files state. Raises InvalidFileError or UsageError."""
    from cutset.cost import TableCost
    from cutset.problem import Problem
    from cutset.profiles import resolve
    from cutset.serde import read_cluster, read_profile

    devices = read_cluster(cluster)
    measured = read_profile(profile) if profile is not None else None
    cost = target.cost
    if cost is None:
        if measured is None:
            raise UsageError(
                "an ONNX model needs measured times",
                file=str(path),
                field="--profile",
                remedy=f"measure with `cutset profile {path} --cluster {cluster} -o profile.json`"
                " and add `--profile profile.json`",
            )
        if measured.graph_digest != target.graph.digest:
            raise InvalidFileError(
                "the profile was measured on another model or input shape",
                file=str(profile),
                field="graph_digest",
                value=measured.graph_digest[:16],
                remedy=f"profile this one ({target.graph.digest[:16]})",
            )
        cost = TableCost(measured.compute_s)
    try:
        resolved = resolve(devices, measured)
    except InvalidFileError as error:
        raise error.located(file=str(cluster)) from None
    return Problem(target.graph, resolved, cost, objective)
