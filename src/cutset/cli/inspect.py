"""`cutset inspect`: what a model is made of, and where it can be cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cutset.cli import output, targets

if TYPE_CHECKING:
    from rich.console import Console


def inspect(
    target: targets.TargetArgument,
    input_shape: targets.ShapeOption = None,
    json: output.JsonFlag = False,
) -> None:
    """Operators, FLOPs, weights, cut points with their bytes, and what is not cut and why."""
    with output.working("reading the model"):
        loaded = targets.load_target(target, targets.parse_shapes(input_shape))
    graph = loaded.graph
    names = [op.name for op in graph.operators]
    uncut: list[dict[str, Any]] = []
    if loaded.model is not None:
        from cutset.onnx_io import cut_report

        uncut = [
            {"operator": u.operator, "nodes": u.nodes, "reason": u.reason}
            for u in cut_report(loaded.model).uncut
        ]

    def tensors(listed: tuple[str, ...]) -> list[dict[str, Any]]:
        found = [graph.tensors[name] for name in listed]
        return [
            {"name": t.name, "bytes": t.size_bytes, "shape": t.shape, "dtype": t.dtype}
            for t in found
        ]

    document: dict[str, Any] = {
        "graph_digest": graph.digest,
        "name": graph.name,
        "inputs": tensors(graph.inputs),
        "outputs": tensors(graph.outputs),
        "flops": sum(op.flops for op in graph.operators),
        "weight_bytes": sum(op.weight_bytes for op in graph.operators),
        "memory_bytes": graph.stage_memory_bytes + sum(op.memory_bytes for op in graph.operators),
        "operators": [
            {
                "name": op.name,
                "op_type": op.op_type,
                "inputs": op.inputs,
                "outputs": op.outputs,
                "flops": op.flops,
                "weight_bytes": op.weight_bytes,
                "memory_bytes": op.memory_bytes,
            }
            for op in graph.operators
        ],
        "cut_points": [
            {
                "position": p,
                "after": names[p - 1],
                "tensors": graph.crossing(p),
                "bytes": sum(graph.tensors[t].size_bytes for t in graph.crossing(p)),
            }
            for p in graph.articulations
        ],
        "blocks": [names[a:b] for a, b in graph.blocks],
        "uncut": uncut,
    }
    output.emit(json, document, lambda console: _show(console, document))


def _show(console: Console, document: dict[str, Any]) -> None:
    from cutset.units import format_bytes

    console.print(f"{document['name']}  {document['graph_digest'][:16]}")
    console.print(
        f"{len(document['operators'])} operators, {document['flops'] / 1e9:.3g} GFLOP,"
        f" {format_bytes(document['weight_bytes'])} of weights,"
        f" {format_bytes(document['memory_bytes'])} in memory"
    )
    for side in ("inputs", "outputs"):
        for t in document[side]:
            shape = "" if t["shape"] is None else f" {t['dtype']} {list(t['shape'])}"
            console.print(f"{side[:-1]:<6} {t['name']}{shape}, {format_bytes(t['bytes'])}")
    console.print()
    points = document["cut_points"]
    console.print(f"places where one cut divides the whole model: {len(points)}")
    shown = points if len(points) <= 24 else sorted(points, key=lambda p: p["bytes"])[:24]
    output.table(
        console,
        ("after operator", "position", "crossing"),
        [(p["after"], p["position"], format_bytes(p["bytes"])) for p in shown],
    )
    if len(shown) < len(points):
        console.print(f"(the {len(shown)} smallest of {len(points)}; all with --json)")
    for region in document["uncut"]:
        console.print(
            f"not cut: {region['operator']} ({region['nodes']} nodes): {region['reason']}"
        )
