"""How busy each resource is in a request: the one at the top sets the rate."""

from __future__ import annotations

from collections.abc import Mapping

from cutset.explanation import resource_in_words
from cutset.page.markup import tag, words
from cutset.problem import Problem, Solution
from cutset.units import format_rate, format_time

_MOST = 16


def busy_table(problem: Problem, solution: Solution, colours: Mapping[str, str]) -> str:
    """Resources by busy time, the bottleneck first, as bars beside the period."""
    estimate = solution.estimate
    busy = sorted(
        (item for item in estimate.busy_s.items() if not _repeated(item[0], solution)),
        key=lambda item: (item[0] != estimate.bottleneck, -item[1], item[0]),
    )
    period = estimate.period_s
    rows = []
    for name, seconds in busy[:_MOST]:
        share = seconds / period if period > 0 else 0.0
        neck = name == estimate.bottleneck
        family, _, where = name.partition(":")
        owner = where.partition(">")[0] if family == "link" else where
        bar = tag(
            "div",
            tag("i", style=f"width:{100 * share:.1f}%;background:{colours.get(owner, '#888')}"),
            class_="bar",
        )
        rows.append(
            tag(
                "tr",
                tag("th", words(resource_in_words(name)), scope="row"),
                tag("td", words(_rate(problem, family, where)), class_="faint"),
                tag("td", words(format_time(seconds)), class_="n"),
                tag("td", bar, class_="wide"),
                tag("td", f"{share:.0%}", class_="n"),
                tag("td", "◀ bottleneck" if neck else ""),
                class_="neck" if neck else None,
            )
        )
    more = len(busy) - len(rows)
    note = tag("p", f"and {more} less busy", class_="faint") if more > 0 else ""
    head = "".join(
        tag("th", text, scope="col", class_=style)
        for text, style in (
            ("resource", None),
            ("", None),
            ("per request", "n"),
            ("", "wide"),
            ("of the period", "n"),
            ("", None),
        )
    )
    return tag("table", tag("thead", tag("tr", head)), tag("tbody", *rows), class_="busy") + note


def _repeated(name: str, solution: Solution) -> bool:
    """An interface that carries one link only says nothing beside that link."""
    family, _, device = name.partition(":")
    busy = solution.estimate.busy_s
    if family not in ("egress", "ingress") or name == solution.estimate.bottleneck:
        return False
    links = [n.partition(":")[2].split(">") for n in busy if n.startswith("link:")]
    return sum(ends[family == "ingress"] == device for ends in links) == 1


def _rate(problem: Problem, family: str, where: str) -> str:
    if family == "device":
        return problem.device(where).kind
    if family == "link":
        link = next(x for x in problem.cluster.links if x.name == where)
        return format_rate(link.bandwidth_bps or 0.0)
    device = problem.device(where)
    return format_rate(device.egress_bps if family == "egress" else device.ingress_bps)
