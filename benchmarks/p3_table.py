"""The section of docs/benchmarks.md about the least latency over many devices."""

from __future__ import annotations

from tables import Result, table

HEADS = (
    "devices",
    "instances",
    "proven best",
    "gap ≤ 1%",
    "largest gap",
    "in 1 s",
    "median, longest",
    "HEFT",
    "HEFT or one device",
)


def section(result: Result) -> str:
    """What is proven by number of devices, then every instance that is not."""
    rows = [
        (
            name,
            str(s["instances"]),
            str(s["proven"]),
            str(s["within_1_percent"]),
            f"{s['largest_gap']:.2%}",
            str(s["within_1_s"]),
            f"{s['median_s']:.2f} s, {s['longest_s']:.2f} s",
            f"{s['heft']:.3f}",
            f"{s['better_of_both']:.3f}",
        )
        for name, s in result["summary"].items()
    ]
    limits = ", ".join(f"{k} {v:g} s" for k, v in result["time_limit_s"].items())
    open_ = [
        (
            r["model"],
            str(r["devices"]),
            r["network"] + (", overheads" if r["overhead_s"] else ""),
            f"{r['value_s'] * 1e3:.2f} ms",
            f"{r['gap']:.2%}",
            f"{r['better_of_both']:.3f}",
        )
        for r in result["rows"]
        if r["gap"] > 1e-6
    ]
    text = (
        f"Grid: {result['grid']}. Time limits: {limits}. Goal: {result['goal']}. The last two"
        f" columns are geometric means of how many times longer those take.\n\n{table(HEADS, rows)}"
    )
    if open_:
        heads = ("not proven", "devices", "network", "latency", "gap", "HEFT or one device")
        text += f"\n\n{table(heads, open_)}"
    return text
