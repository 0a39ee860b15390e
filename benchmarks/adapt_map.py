"""The picture of docs/adaptation.md: which held cut is best at which bandwidth and load."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from itertools import groupby
from typing import Any

import svg

from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cut, Cuts
from cutset.plan import Plan

MODEL = "alexnet 224"
RATES_BPS, LOADS = (1e6, 128e6), (1.0, 5.0)
COLUMNS, ROWS = 160, 60
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 760.0, 400.0, 58.0, 34.0, 46.0
FILLS = ("#b6d7f5", "#f5dfa9", "#bfe3c5", "#dccbf3", "#f3cdb5", "#d5dae0", "#f7c6cb", "#c9ecec")
LEAST_LABELLED = 0.015  # of the picture's area


def cuts_of(rows: list[Mapping[str, Any]]) -> Cuts:
    """Held cuts with their costs, as a result keeps them: without their operators."""
    return Cuts("pi", "server", tuple(Cut(plan=Plan(()), **row) for row in rows))


def plot(result: Mapping[str, Any]) -> str:
    """A cell's colour is the cheapest cut's there; the links' latency is that of the benchmark."""
    cuts = cuts_of(result["cuts"][MODEL])
    best = [[cuts.best(_at(x, y)) for x in range(COLUMNS)] for y in range(ROWS)]
    cells: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for y, row in enumerate(best):
        for x, cut in enumerate(row):
            cells[cut].append((x, y))
    order = sorted(cells, key=lambda cut: cuts.cuts[cut].server_s)
    fill = {cut: FILLS[i % len(FILLS)] for i, cut in enumerate(order)}
    wide, high = (WIDTH - LEFT - 12) / COLUMNS, (HEIGHT - TOP - BOTTOM) / ROWS
    parts = [svg.text(LEFT, 20, f"The best cut of {MODEL.split()[0].capitalize()}", size=14)]
    for y, row in enumerate(best):
        left = 0
        for cut, group in groupby(row):
            length = len(list(group))
            parts.append(_cell(LEFT + left * wide, _top(y, high), length * wide, high, fill[cut]))
            left += length
    for cut in order:
        if len(cells[cut]) >= LEAST_LABELLED * COLUMNS * ROWS:
            column, row_ = _middle(cells[cut])
            at_x, at_y = LEFT + (column + 0.5) * wide, _top(row_, high) + high / 2
            for i, words in enumerate(_words(cuts.cuts[cut])):
                parts.append(svg.text(at_x, at_y + 13 * i, words, anchor="middle", size=11))
    return svg.document(WIDTH, HEIGHT, [*parts, *_axes(wide, high)])


def _at(x: int, y: int) -> Conditions:
    rate = RATES_BPS[0] * (RATES_BPS[1] / RATES_BPS[0]) ** (x / (COLUMNS - 1))
    load = LOADS[0] + (LOADS[1] - LOADS[0]) * y / (ROWS - 1)
    return Conditions(rate, rate, load=load)


def _top(y: float, high: float) -> float:
    return HEIGHT - BOTTOM - (y + 1) * high


def _cell(x: float, y: float, width: float, height: float, colour: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width + 0.4:.1f}" height="{height + 0.4:.1f}"'
        f' fill="{colour}"/>'
    )


def _middle(cells: list[tuple[int, int]]) -> tuple[float, float]:
    """A cell of the region near its centre, from whose sides the region reaches about as far."""
    members = set(cells)

    def room(cell: tuple[int, int]) -> float:
        x, y = cell
        reach = [0, 0]
        for i, step in enumerate((-1, 1)):
            while (x + step * (reach[i] + 1), y) in members:
                reach[i] += 1
        up = down = 0
        while (x, y + up + 1) in members:
            up += 1
        while (x, y - down - 1) in members:
            down += 1
        return min(min(reach), 4.0 * min(up, down))

    return max(cells, key=room)


def _words(cut: Cut) -> tuple[str, ...]:
    if not cut.uses_server:
        return ("device alone", f"{1e3 * cut.device_s:.0f} ms")
    head = "server alone" if cut.device_s == 0 else cut.name
    return (
        head,
        f"{1e3 * cut.device_s:.0f} ms, {cut.up_bytes / 1e3:.0f} kB,",
        f"k·{1e3 * cut.server_s:.0f} ms",
    )


def _axes(wide: float, high: float) -> list[str]:
    bottom = HEIGHT - BOTTOM
    parts = []
    for rate in (1, 2, 4, 8, 16, 32, 64, 128):
        share = math.log(rate * 1e6 / RATES_BPS[0]) / math.log(RATES_BPS[1] / RATES_BPS[0])
        x = LEFT + share * wide * COLUMNS
        parts.append(svg.line(x, bottom, x, bottom + 4, svg.INK))
        parts.append(svg.text(x, bottom + 17, f"{rate:g}", anchor="middle", size=11))
    middle = LEFT + wide * COLUMNS / 2
    parts.append(svg.text(middle, HEIGHT - 10, "bandwidth each way, Mbit/s", anchor="middle"))
    for load in range(int(LOADS[0]), int(LOADS[1]) + 1):
        y = bottom - (load - LOADS[0]) / (LOADS[1] - LOADS[0]) * high * ROWS
        parts.append(svg.line(LEFT - 4, y, LEFT, y, svg.INK))
        parts.append(svg.text(LEFT - 8, y + 4, f"{load}", anchor="end", size=11))
    parts.append(svg.text(8, TOP - 6, "load k", size=11))
    return parts
