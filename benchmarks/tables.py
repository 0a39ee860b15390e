"""Results as Markdown tables: the sections of docs/benchmarks.md about measuring and running.

Those of the planner's benchmarks stand beside them, in NAME_table.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Result = Mapping[str, Any]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def origin(result: Result) -> str:
    """Kind, date and machine: what every figure needs beside it."""
    machine = result["machine"]
    packages = machine["packages"]
    return (
        f"*Kind: **{result['kind']}**. {result['date']}, {machine['cpu']}, {machine['cores']}"
        f" cores, {machine['memory_bytes'] / 2**30:.0f} GiB, Python {machine['python']}, ONNX"
        f" Runtime {packages['onnxruntime']}, Zenoh {packages['eclipse-zenoh']}.*"
    )


def envelope(result: Result) -> str:
    rows = [
        (
            g["graph"],
            str(g["operators"]),
            str(g["cuts"]),
            str(g["hull_points"]),
            f"{g['equal']}/{g['points']}",
            f"{g['precompute_ms']:.1f} ms",
            f"{g['lookup_us']['p50']:.1f} / {g['lookup_us']['p99']:.1f} µs",
        )
        for g in result["graphs"]
    ]
    s = result["summary"]
    return (
        f"Equal at **{s['equal']} of {s['points']}** points. Slowest precomputation of a real model"
        f" {s['slowest_precompute_of_a_model_ms']:.1f} ms; slowest look-up (p99)"
        f" {s['slowest_lookup_p99_us']:.1f} µs.\n\n"
        + table(
            (
                "graph",
                "operators",
                "cuts",
                "on the hull",
                "equal to min-cut",
                "precompute",
                "look-up p50 / p99",
            ),
            rows,
        )
    )


def segments(result: Result) -> str:
    rows = []
    for r in result["models"]:
        cells = [
            r["model"],
            f"{1e3 * r['whole_cpu_s']['median']:.0f} ms",
            f"{r['control_ratio']['median']:.3f}",
            f"{r['prepared_ratio']['median']:.3f}",
        ]
        for n in ("2", "4"):
            s, small = r["segments"][n], r["small_cuts"][n]
            cells.append(_against(s["ratio"]["median"], result["summary"][n]["goal"]))
            cells.append(f"{small['ratio']['median']:.3f}")
        cells.append(f"{max(c['bytes'] for c in r['segments']['4']['cuts']) / 1e6:.1f} MB")
        relative = max(s["max_rel"] for s in r["segments"].values())
        cells.append("bit-equal" if relative == 0 else f"{relative:.1e}")
        rows.append(cells)
    words = [
        f"at {n} segments {s['met']} of {s['models']} models within {s['goal']:.2f} (median"
        f" {s['median']:.3f}, worst {s['worst']:.3f})"
        for n, s in ((n, result["summary"][n]) for n in ("2", "4"))
    ]
    heads = (
        "model",
        "whole, CPU",
        "control",
        "prepared whole",
        "2 segments",
        "2, small cuts",
        "4 segments",
        "4, small cuts",
        "largest cut of 4",
        "max_rel",
    )
    return f"Models of ≥ 20 ms: {'; '.join(words)}.\n\n" + table(heads, rows)


def _against(value: float, goal: float) -> str:
    return f"{value:.3f}" if value <= goal else f"**{value:.3f}** over"


WAYS = {
    "tcp": "raw TCP",
    "zmq": "ZeroMQ alone",
    "zmq_curve": "ZeroMQ alone, CURVE",
    "zenoh": "Zenoh alone",
    "cutset_zenoh": "cutset over Zenoh",
    "cutset": "cutset",
}


def _echoes(echo: Result) -> str:
    """A row for each size, a column for each way: time, and CPU of both ends per MB and hop."""
    ways = [way for way in WAYS if way in next(iter(echo.values()))]

    def cell(way: str, e: Result) -> str:
        over = f" ({e['time_over_tcp']:.2f})" if way != "tcp" else ""
        return f"{_time(e['echo_us'])}{over}, {e['cpu_ms_per_mb']:.2f}"

    rows = [
        (f"{int(size) // 1000} kB", *(cell(way, sizes[way]) for way in ways))
        for size, sizes in echo.items()
    ]
    return table(("echo of", *(WAYS[way] for way in ways)), rows)


def _time(us: float) -> str:
    return f"{us:.0f} µs" if us < 10_000 else f"{us / 1e3:.0f} ms"


def transport(result: Result) -> str:
    parts = []
    for where, echo in result["echo"].items():
        words = "Over loopback, unshaped" if where == "unshaped" else f"Two namespaces, {where}"
        parts += [f"{words}: time (over raw TCP's), CPU ms per MB and hop", _echoes(echo)]
    if result["shaped_skipped"]:
        parts.append(f"Shaped links were skipped: {result['shaped_skipped']}.")
    goal = result["echo"]["unshaped"]["1000000"]["cutset"]
    copies = result["copies_per_hop"]
    hand = result["handover_us"]
    other = [
        (
            "1 MB against raw TCP (goal 2), time / CPU",
            f"{_against(goal['time_over_tcp'], 2)} / {_against(goal['cpu_over_tcp'], 2)}",
        ),
        (
            "bytes copied per hop and byte of payload, directly / over Zenoh",
            f"{copies['cutset']:.2f} / {copies['cutset_zenoh']:.2f} and Zenoh's own",
        ),
        ("thread hand-over, tensor ready to compute", f"{hand['queue_to_compute']:.0f} µs"),
        (
            "message one way through both workers (goal 150 µs) / to a worker that waited",
            f"{hand['message_one_way']:.0f} / {hand['message_one_way_idle']:.0f} µs",
        ),
        (
            "CPU per MB, send / receive",
            f"{result['send_cpu_ms_per_mb']:.2f} / {result['recv_cpu_ms_per_mb']:.2f} ms",
        ),
        ("worker, idle", f"{result['worker_rss_idle_bytes'] / 1e6:.0f} MB resident"),
        (
            "worker with a segment of 5 MB",
            f"{result['worker_rss_5mb_segment_bytes'] / 1e6:.0f} MB resident",
        ),
    ]
    return "\n\n".join((*parts, table(("what", "measured"), other)))


def latency(result: Result) -> str:
    s = result["summary"]
    worst = s["worst"]
    rows = [
        (
            r["model"],
            f"{r['bandwidth_bps'] / 1e6:g}",
            r["plan"],
            f"{1e3 * r['predicted_s']:.1f}",
            f"{1e3 * r['measured_s']:.1f}",
            f"{r['error']:+.1%}" if abs(r["error"]) <= s["goal"] else f"**{r['error']:+.1%}**",
        )
        for r in result["rows"]
    ]
    left_out = result["left_out"]
    return (
        f"{s['within_goal']} of {s['plans']} plans within {s['goal']:.0%}; mean absolute error"
        f" {s['mean_absolute_error']:.1%}, median {s['median_absolute_error']:.1%}; worst"
        f" {worst['error']:+.1%} ({worst['model']}, {worst['plan']},"
        f" {worst['bandwidth_bps'] / 1e6:g} Mbit/s). {len(left_out['plans'])} plans predicted over"
        f" {left_out['predicted_over_s']:g} s were not run.\n\n"
        + table(("model", "Mbit/s", "plan", "predicted, ms", "measured, ms", "error"), rows)
    )


def worker(result: Result) -> str:
    return table(
        ("what", "measured"),
        (
            ("import of `cutset.runtime.worker`", f"{1e3 * result['import_s']['median']:.0f} ms"),
            ("bare interpreter", f"{1e3 * result['bare_s']['median']:.0f} ms"),
            (
                "modules loaded",
                f"{result['modules']} (of the interpreter: {result['bare_modules']})",
            ),
            ("planner or onnx among them", ", ".join(result["forbidden"]) or "none"),
        ),
    )


def runtime(result: Result) -> str:
    s = result["summary"]
    low, high = result["throughput_goal"]
    rows = []
    for r in result["rows"]:
        rate = r["bandwidth_bps"]
        head = (
            r["model"],
            f"{r['devices']}",
            "unshaped" if rate is None else f"{rate / 1e6:g}",
            r["plan"],
        )
        if r.get("left_out"):
            rows.append((*head, "not run", "", "", "", "", ""))
            continue
        ratio, off = r["throughput_ratio"], r["latency_error"]
        rows.append(
            (
                *head,
                f"{1e3 * r['predicted_latency_s']:.0f}",
                f"{1e3 * r['latency_s']['median']:.0f}",
                f"{off:+.1%}",
                f"{r['predicted_per_s']:.2f}",
                f"{r['throughput_per_s']:.2f}",
                f"{ratio:.3f}" if low <= ratio <= high else f"**{ratio:.3f}**",
            )
        )
    gains = [
        (
            g["model"],
            "unshaped" if g["bandwidth_bps"] is None else f"{g['bandwidth_bps'] / 1e6:g}",
            f"{g['predicted']:.2f}",
            f"{g['measured']:.2f}",
        )
        for g in s["gains"]
    ]
    m = result["too_large"]
    mib = 2**20
    heads = (
        "model",
        "devices",
        "Mbit/s",
        "plan",
        "latency predicted, ms",
        "measured, ms",
        "off by",
        "requests/s predicted",
        "measured",
        "ratio",
    )
    return (
        f"{s['plans']} plans run. Throughput: **{s['throughput_within']} of {s['plans']}** within"
        f" {low:g} to {high:g} of the prediction (least {s['throughput_least']:.3f}, median"
        f" {s['throughput_median']:.3f}, most {s['throughput_most']:.3f}). Latency of one request:"
        f" mean absolute error **{s['latency_mean_absolute_error']:.1%}**, worst"
        f" {s['latency_worst']['latency_error']:+.1%} ({s['latency_worst']['what']}).\n\n"
        + table(heads, rows)
        + f"\n\nA pipeline over 3 devices against the best single device of the same lab, where at"
        f" least {result['gain_goal']:g} times its throughput is predicted (all devices are"
        f" alike, and at the source no transfer is needed): **{s['gains_reached']} of"
        f" {len(s['gains'])}** reach it.\n\n"
        + table(("model", "Mbit/s", "predicted gain", "measured gain"), gains)
        + f"\n\n{m['model']} needs {m['single_needs_bytes'] / mib:.0f} MiB on one device by the"
        f" enforced number; {m['devices']} devices of {m['memory_bytes'] / mib:.0f} MiB each ran it"
        f" ({m['answered']} requests, largest relative difference {m['max_rel']:.1e}); one alone"
        f" refused: “{m['refused']}”\n\n"
        + table(
            ("device", "enforced, MiB", "measured growth, MiB"),
            [
                (d, f"{n / mib:.0f}", f"{m['measured_bytes'].get(d, 0) / mib:.0f}")
                for d, n in m["enforced_bytes"].items()
            ],
        )
    )


def calibration(result: Result) -> str:
    rate, pace = result["rate_tolerance"], result["pace_tolerance"]
    links = [
        (
            f"{x['stated_bps'] / 1e6:g} Mbit/s",
            f"{x['measured_bps'] / 1e6:.5g} Mbit/s",
            _off(x["off_by"], rate),
        )
        for x in result["links"]
    ]
    by_share: dict[float, dict[float, str]] = {}
    for x in result["compute"]:
        by_share.setdefault(x["share"], {})[x["stated_s"]] = _off(x["off_by"], pace)
    stages = sorted({x["stated_s"] for x in result["compute"]})
    return (
        table(("payload rate stated", "measured", "off by"), links)
        + "\n\n"
        + table(
            ("share of a core", *(f"stage of {1e3 * s:g} ms" for s in stages)),
            [(f"{share:g}", *(row[s] for s in stages)) for share, row in by_share.items()],
        )
    )


def _off(value: float, tolerance: float) -> str:
    return f"{value:+.2%}" if abs(value) <= tolerance else f"**{value:+.2%}**"


def workers(result: Result) -> str:
    idle, deployed = result["idle_of_a_core"], result["idle_deployed_of_a_core"]
    return table(
        ("what", "measured"),
        (
            ("workers", f"{result['workers']} processes of this machine"),
            ("start of all", f"{result['start_s']:.1f} s"),
            ("deploy a stage on each", f"{result['deploy_s']:.2f} s"),
            (
                "idle CPU each, before",
                f"{idle['median']:.2%} of a core (worst {idle['worst']:.2%})",
            ),
            (
                "idle CPU each, deployed",
                f"{deployed['median']:.2%} of a core (worst {deployed['worst']:.2%})",
            ),
            ("memory each", f"{result['rss_bytes']['median'] / 1e6:.0f} MB resident"),
            ("latency through all", f"{1e3 * result['latency_s']['median']:.1f} ms"),
            ("per hop, stage included", f"{1e6 * result['hop_s']:.0f} µs"),
            ("throughput", f"{result['throughput_per_s']:.0f} requests/s"),
        ),
    )
