"""A colour for each device, the same in every picture, told apart by the colour-blind too.

The first twelve are those of Okabe and Ito (Color Universal Design, 2008) and of Paul Tol's "muted"
scheme (SRON/EPS/TN/09-002, 2021). Names stand beside colours everywhere.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping

from cutset.comparison import Comparison

_PALETTE = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#f0e442",
    "#882255",
    "#44aa99",
    "#999933",
    "#aa4499",
    "#ddcc77",
)
_GOLDEN_ANGLE = 0.381966  # of a turn: hues far from those before


def device_colours(comparison: Comparison) -> Mapping[str, str]:
    """Device -> colour. Those that plans use come first, in the order of the best plans."""
    cluster = comparison.problem.cluster
    used = [d for r in comparison.rows if r.solution is not None for d in r.solution.plan.devices]
    names = dict.fromkeys([cluster.source, cluster.sink, *used, *(d.name for d in cluster.devices)])
    return {name: colour(i) for i, name in enumerate(names)}


def colour(index: int) -> str:
    """The colour of the thing number `index`, of as many as there are."""
    if index < len(_PALETTE):
        return _PALETTE[index]
    hue = index * _GOLDEN_ANGLE % 1
    parts = colorsys.hls_to_rgb(hue, (0.38, 0.55, 0.7)[index % 3], 0.55)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


def ink(colour: str) -> str:
    """Black or white, whichever is easier to read on the colour (WCAG 2.1 relative luminance)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000" if luminance > 0.179 else "#fff"
