"""A plan: which operators run on which device, as a DAG of stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cutset.cluster import Cluster
from cutset.errors import InvalidFileError, UnsupportedProblemError, choices, did_you_mean
from cutset.graph import Graph


@dataclass(frozen=True)
class Stage:
    """A convex set of operators on a device; `tile` restricts it to rows of its outputs."""

    name: str
    device: str
    operators: tuple[str, ...]
    tile: Mapping[str, tuple[int, int]] | None = None


@dataclass(frozen=True)
class Plan:
    """Stages in topological order of the graph of stages; static, without times."""

    stages: tuple[Stage, ...]
    graph_digest: str = ""

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices used, in the order of their first stage."""
        return tuple(dict.fromkeys(stage.device for stage in self.stages))


@dataclass(frozen=True)
class Transfer:
    """A tensor that moves between two devices, once per request.

    `source_stage` None is the request's own input (made at the cluster's source); `target_stage`
    None is the result (wanted at the sink). `target_stage` is the first stage on the receiving
    device that reads the tensor.
    """

    tensor: str
    source_stage: str | None
    target_stage: str | None
    source_device: str
    target_device: str
    bytes: int


def check_plan(plan: Plan, graph: Graph, cluster: Cluster | None = None) -> None:
    """Raise InvalidFileError unless the plan can run this graph on these devices.

    Every operator is in exactly one stage, stages are convex, listed in topological order, and
    operators to be colocated are. Memory is not checked here.
    """
    known = (graph.digest, graph.model_digest)
    if plan.graph_digest and graph.digest and plan.graph_digest not in known:
        raise InvalidFileError(
            "the plan was made for another graph",
            field="graph_digest",
            value=plan.graph_digest[:16],
            remedy=f"plan again for this model and input shape ({graph.digest[:16]})",
        )
    stage_of: dict[str, int] = {}
    names: set[str] = set()
    for i, stage in enumerate(plan.stages):
        where = f"stages[{i}]"
        if stage.name in names:
            raise InvalidFileError(
                "two stages have this name", field=where, value=stage.name, remedy="rename one"
            )
        names.add(stage.name)
        if cluster is not None and stage.device not in cluster.by_name:
            raise InvalidFileError(
                "the plan names an unknown device",
                field=f"{where}.device",
                value=stage.device,
                remedy=choices(stage.device, cluster.by_name, "devices"),
            )
        if not stage.operators:
            raise InvalidFileError(
                "the stage has no operators",
                field=f"{where}.operators",
                remedy="list some, or leave the stage out",
            )
        for name in stage.operators:
            if name not in graph.positions:
                raise InvalidFileError(
                    "the graph has no such operator",
                    field=f"{where}.operators",
                    value=name,
                    remedy=f"{did_you_mean(name, graph.positions) or ''} "
                    "`cutset inspect` lists a model's, and a workload file has its own".strip(),
                )
            if name in stage_of:
                raise InvalidFileError(
                    "an operator is in two stages",
                    field=f"{where}.operators",
                    value=name,
                    remedy=f"stage {plan.stages[stage_of[name]].name!r} has it already; keep one",
                )
            stage_of[name] = i
    missing = [op.name for op in graph.operators if op.name not in stage_of]
    if missing:
        raise InvalidFileError(
            f"{len(missing)} operator{'s are' if len(missing) > 1 else ' is'} in no stage",
            field="stages",
            value=", ".join(missing[:5]),
            remedy="every operator belongs to exactly one stage",
        )
    for i, op in enumerate(graph.operators):
        for j in graph.predecessors[i]:
            before = graph.operators[j]
            if stage_of[before.name] > stage_of[op.name]:
                raise InvalidFileError(
                    f"stages are not in topological order, or they form a cycle: {op.name!r} needs"
                    f" {before.name!r} of stage {plan.stages[stage_of[before.name]].name!r}",
                    field=f"stages[{stage_of[op.name]}]",
                    remedy="list every stage after all stages whose tensors it reads",
                )
    groups: dict[str, str] = {}
    for op in graph.operators:
        if op.colocate is not None:
            device = plan.stages[stage_of[op.name]].device
            if groups.setdefault(op.colocate, device) != device:
                raise InvalidFileError(
                    f"operators of the colocate group {op.colocate!r} are on different devices",
                    field=f"stages[{stage_of[op.name]}].operators",
                    value=op.name,
                    remedy=f"place the whole group on {groups[op.colocate]!r}",
                )


def check_untiled(plan: Plan) -> None:
    """Raise UnsupportedProblemError where a stage makes rows of its outputs only."""
    for i, stage in enumerate(plan.stages):
        if stage.tile is not None:
            raise UnsupportedProblemError(
                "row tiles cannot be scored, simulated or run yet",
                field=f"stages[{i}].tile",
                value=", ".join(f"{t}: [{a}, {b})" for t, (a, b) in stage.tile.items()) or "{}",
                remedy="leave `tile` out, so that the stage makes whole tensors",
            )


def transfers(plan: Plan, graph: Graph, source: str, sink: str) -> tuple[Transfer, ...]:
    """What must move between devices for one request, in the order of producing stages.

    A tensor goes to each device at most once; graph inputs start at `source`, graph outputs must
    reach `sink`. Order: graph inputs first, then by producing stage, tensor name, receiver.
    """
    stage_of = {name: i for i, stage in enumerate(plan.stages) for name in stage.operators}
    readers: dict[str, dict[str, int]] = {}  # tensor -> device -> first stage there
    for i, stage in enumerate(plan.stages):
        for name in stage.operators:
            for tensor in graph.operators[graph.positions[name]].inputs:
                readers.setdefault(tensor, {}).setdefault(stage.device, i)
    found: list[tuple[int, str, str, Transfer]] = []
    for tensor in {*readers, *graph.outputs}:
        producer = graph.producers.get(tensor)
        made_by = -1 if producer is None else stage_of[graph.operators[producer].name]
        home = source if made_by < 0 else plan.stages[made_by].device
        targets: dict[str, int | None] = dict(readers.get(tensor, {}))
        if tensor in graph.outputs:
            targets.setdefault(sink, None)
        for device, reader in targets.items():
            if device != home:
                transfer = Transfer(
                    tensor,
                    None if made_by < 0 else plan.stages[made_by].name,
                    None if reader is None else plan.stages[reader].name,
                    home,
                    device,
                    graph.tensors[tensor].size_bytes,
                )
                found.append((made_by, tensor, device, transfer))
    return tuple(t for *_, t in sorted(found, key=lambda item: item[:3]))
