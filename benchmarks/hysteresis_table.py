"""The table of margins against regret in docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cutset.adaptation.policies import LoadAware


def section(result: Mapping[str, Any]) -> str:
    """A row for each setting; the default's is bold."""
    lines = [
        "| gain | standard errors | dwell | changing: regret | switches a minute"
        " | at a border: regret | switches a minute |",
        "|---|---|---|---|---|---|---|",
    ]
    default = LoadAware()
    for row in result["rows"]:
        cells = [
            f"{row['min_gain']:.0%}",
            f"{row['noise_margin']:g}",
            f"{row['min_dwell_s']:g} s",
            f"{row['changing_regret']:.2%}",
            f"{row['changing_switches_per_min']:.1f}",
            f"{row['border_regret']:.2%}",
            f"{row['border_switches_per_min']:.1f}",
        ]
        settings = (row["min_gain"], row["noise_margin"], row["min_dwell_s"])
        if settings == (default.min_gain, default.noise_margin, default.min_dwell_s):
            cells = [f"**{cell}**" for cell in cells]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
