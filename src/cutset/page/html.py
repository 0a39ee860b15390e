"""The page itself: what is said, in which order. No scripts; what can be chosen is so by CSS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from cutset.comparison import Comparison, Row
from cutset.explanation import (
    any_plan_in_words,
    bottleneck_in_words,
    critical_path,
    flips_in_words,
    gap_in_words,
    path_in_words,
    proof_in_words,
    value_in_words,
    verdict_in_words,
)
from cutset.page.bars import busy_table
from cutset.page.cluster_drawing import MOST_LINKS, draw_cluster
from cutset.page.colours import device_colours
from cutset.page.graph_drawing import MOST_EDGES, draw_graph
from cutset.page.groups import DETAIL, OVERVIEW, edges, groups
from cutset.page.markup import clipped, tag, words
from cutset.page.timeline import draw_timeline
from cutset.problem import Objective, Problem, Solution
from cutset.serde.common import write_text
from cutset.units import format_bytes, format_time

#: Refuses whatever the page itself does not hold, should a name ever get past the escaping.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_ARROW = (
    '<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs>'
    '<marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="10" markerHeight="10"'
    ' markerUnits="userSpaceOnUse" orient="auto">'
    '<path d="M0 0L8 4L0 8z" fill="context-stroke"/></marker></defs></svg>'
)
_MOST_ROWS = 40  # of a plan's stages or transfers in a table
_FITS = 10  # columns of boxes that are still readable when they are scaled to the page
_WIDEST = 5.0  # values this many times the best one fill the bar


def write_page(path: str | Path, comparison: Comparison) -> None:
    """Write the page. Raises InvalidFileError where it cannot be written."""
    write_text(path, render(comparison))


@dataclass(frozen=True)
class _Shown:
    """A plan, and the rows whose strategies found it: one section of the page."""

    key: str
    solution: Solution
    rows: tuple[Row, ...]


def render(comparison: Comparison) -> str:
    """The whole page as text: it needs no network and no other file."""
    shown = _plans(comparison)
    colours = device_colours(comparison)
    problem = comparison.problem
    style = files("cutset.page").joinpath("style.css").read_text("utf-8")
    picks = "".join(
        f'<input type="radio" class="pick" name="plan" id="{s.key}"{" checked" * (i == 0)}'
        f' aria-label="show the plan of {words(_names(s.rows))}">'
        for i, s in enumerate(shown)
    )
    rules = "".join(
        f"#{s.key}:checked~.{s.key}{{display:block}}"
        f"#{s.key}:checked~.table label[for={s.key}]{{font-weight:700;color:var(--fg);"
        "text-decoration:none}"
        f"#{s.key}:focus-visible~.table label[for={s.key}]{{outline:2px solid var(--accent)}}"
        for s in shown
    )
    body = [
        _heading(comparison),
        picks,
        _table(comparison, shown),
        _notes(comparison),
        *(_section(comparison, s, colours) for s in shown),
        _legend(problem),
    ]
    name = problem.graph.name
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{words(name)}: plans compared</title>\n<style>\n{style}{rules}</style></head>\n"
        f"<body>{_ARROW}<main>\n" + "\n".join(body) + "\n</main></body>\n</html>\n"
    )


def _plans(comparison: Comparison) -> tuple[_Shown, ...]:
    """Different plans, best first; strategies that found the same one share it.

    The same are those that place all operators alike, at the same value: stages that only one
    device runs, one after the other, make no difference that could be seen.
    """
    found: dict[tuple[str, frozenset[tuple[str, str]]], list[Row]] = {}
    for row in comparison.rows:
        if row.solution is not None:
            stages = row.solution.plan.stages
            places = frozenset((name, s.device) for s in stages for name in s.operators)
            found.setdefault((f"{row.value_s:.9g}", places), []).append(row)
    return tuple(
        _Shown(f"p{i}", rows[0].solution, tuple(rows))
        for i, rows in enumerate(found.values())
        if rows[0].solution is not None
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


def _names(rows: Sequence[Row]) -> str:
    return ", ".join(row.strategy for row in rows)


def _heading(comparison: Comparison) -> str:
    problem, best = comparison.problem, comparison.best
    graph, cluster = problem.graph, problem.cluster
    latency = problem.objective is Objective.LATENCY
    over = (
        f"{graph.name}: {_count(len(graph.operators), 'operator')} on"
        f" {_count(len(cluster.devices), 'device')}, for"
        f" {'the lowest latency of a request' if latency else 'the highest throughput'}"
    )
    if best is None or best.solution is None:
        lines = [tag("h1", "No plan was found")]
        lines.append(tag("p", words(f"{comparison.failure.message}.")))
    else:
        verdict = verdict_in_words(best.solution)
        value = value_in_words(problem.objective, best.value_s)
        said = f"The best plan takes {value}. Found by {best.strategy}"
        if best.solution.bound_s > 0:
            said += f"; {proof_in_words(best.solution.proof, best.solution.scope)}"
        lines = [tag("h1", words(verdict[:1].upper() + verdict[1:])), tag("p", words(said + "."))]
        text = any_plan_in_words(comparison.proven_s, best.value_s)
        lines.append(tag("p", words(f"{text[:1].upper()}{text[1:]}.")))
    if comparison.interrupted:
        lines.append(tag("p", "Interrupted: this is what there was."))
    return tag("p", words(over), class_="over") + "".join(lines)


def _table(comparison: Comparison, shown: Sequence[_Shown]) -> str:
    key_of = {row.strategy: s.key for s in shown for row in s.rows}
    widest = min(
        max((comparison.ratio(r) for r in comparison.rows if r.solution), default=1.0), _WIDEST
    )
    rows = []
    for row in comparison.rows:
        solution = row.solution
        if solution is None:
            continue
        ratio = comparison.ratio(row)
        share = 100 * min(ratio / widest, 1.0)
        bound = solution.bound_s > 0
        proof = proof_in_words(solution.proof, solution.scope)
        devices = solution.plan.devices
        ended = "" if solution.finished else " (ended early)"
        cells = (
            tag(
                "th",
                f'<label for="{key_of[row.strategy]}">{words(row.strategy)}</label>',
                scope="row",
            ),
            tag("td", words(format_time(row.value_s)), class_="n"),
            tag("td", f'<div class="bar"><i style="width:{share:.1f}%"></i></div>', class_="wide"),
            tag("td", f"{ratio:.2f}×", class_="n"),
            tag("td", words(format_time(solution.bound_s)) if bound else "–", class_="n"),
            tag("td", words(gap_in_words(solution.gap)) if bound else "–", class_="n"),
            tag("td", words(solution.proof), title=proof),
            tag("td", words(format_time(row.elapsed_s) + ended), class_="n"),
            tag(
                "td",
                words(
                    ", ".join(clipped(d, 24) for d in devices[:6])
                    + (" …" if len(devices) > 6 else "")
                ),
            ),
        )
        rows.append(tag("tr", *cells, class_="best" if row is comparison.best else None))
    head = "".join(
        tag("th", text, scope="col", class_=style)
        for text, style in (
            ("strategy", None),
            ("value", "n"),
            ("", "wide"),
            ("to the best", "n"),
            ("bound", "n"),
            ("gap", "n"),
            ("proof", None),
            ("planned in", "n"),
            ("devices", None),
        )
    )
    made = tag("table", tag("thead", tag("tr", head)), tag("tbody", *rows))
    hint = "Choose a strategy to see its plan below."
    hint += tag("span", " Shorter bars are better.", class_="wide")  # narrow screens show no bars
    scrolling = tag("div", made, class_="scroll")
    return tag("div", scrolling, tag("p", hint, class_="notes"), class_="table")


def _notes(comparison: Comparison) -> str:
    """Scopes of the proofs, and why the others have no plan."""
    scopes: dict[str, list[str]] = {}
    for row in comparison.rows:
        if row.solution is not None and row.solution.bound_s > 0:
            text = proof_in_words(row.solution.proof, row.solution.scope)
            scopes.setdefault(text, []).append(row.strategy)
    lines = [tag("p", tag("b", words(", ".join(n))), words(f": {s}")) for s, n in scopes.items()]
    for said, names, why in comparison.left_out:
        lines.append(tag("p", tag("b", words(", ".join(names))), words(f": {said} ({why})")))
    limit = f"Each strategy had at most {format_time(comparison.time_limit_s)}; seed"
    lines.append(tag("p", words(f"{limit} {comparison.seed}.")))
    return tag("div", *lines, class_="notes")


def _section(comparison: Comparison, shown: _Shown, colours: Mapping[str, str]) -> str:
    problem, solution = comparison.problem, shown.solution
    estimate = solution.estimate
    value = value_in_words(problem.objective, solution.value_s)
    facts = [
        ("latency", format_time(estimate.latency_s)),
        ("period", value_in_words(Objective.THROUGHPUT, estimate.period_s)),
        ("stages", f"{len(solution.plan.stages)} on {', '.join(solution.plan.devices)}"),
        ("bottleneck", bottleneck_in_words(estimate, problem.objective)),
    ]
    path = critical_path(problem, solution)
    if path:
        facts.append(("critical path", path_in_words(path, most=14)))
    facts += flips_in_words(solution.break_even, solution.stays_best, most=6)
    listed = "".join(tag("dt", words(a)) + tag("dd", words(b)) for a, b in facts)
    return tag(
        "section",
        tag("h2", words(f"The plan of {_names(shown.rows)}: {value}")),
        tag("dl", listed),
        tag("h3", "What runs where"),
        _caption(
            "A lane for each device; from left to right as operators depend on each other. Arrows"
            " between lanes are transfers: bytes, and seconds on the link, written at the longest."
        ),
        _graph(problem, solution, colours),
        tag("h3", "One request over time"),
        _caption(
            "On an idle cluster. High bars compute, low bars are transfers in the colour of the"
            " sender, dots what a link adds as latency."
        ),
        tag("div", draw_timeline(problem, solution, colours), class_="view fit"),
        tag("h3", "How busy each resource is"),
        _caption("Seconds per request; with many requests, the longest bar sets the rate."),
        tag("div", busy_table(problem, solution, colours), class_="scroll"),
        tag("h3", "The cluster under this plan"),
        _cluster(problem, solution, colours),
        _unused(problem, solution),
        _devices(problem, solution),
        class_=f"plan {shown.key}",
    )


def _graph(problem: Problem, solution: Solution, colours: Mapping[str, str]) -> str:
    """An overview that fits the page, and a finer picture where there is one."""
    overview = groups(problem.graph, solution.plan, OVERVIEW)
    finer = groups(problem.graph, solution.plan, DETAIL)
    fits = max(box.layer for box in overview) < _FITS
    style = "view fit" if fits else "view"
    drawn = tag("div", draw_graph(problem, solution, colours, overview), class_=style)
    if len(edges(problem.graph, overview)) > MOST_EDGES:
        drawn += _caption(f"Only the {MOST_EDGES} connections with the most bytes are drawn.")
    if len(finer) > len(overview) and len(edges(problem.graph, finer)) <= MOST_EDGES:
        every = len(finer) == len(problem.graph.operators)
        summary = "Every operator" if every else f"In more detail ({len(finer)} boxes)"
        inside = tag("div", draw_graph(problem, solution, colours, finer), class_="view")
        drawn += tag("details", tag("summary", summary), inside)
    return drawn


def _cluster(problem: Problem, solution: Solution, colours: Mapping[str, str]) -> str:
    """Devices and links; nothing where one device does it all: the table says what there is."""
    if not any(name.startswith("link:") for name in solution.estimate.busy_s):
        return ""
    caption = _caption(
        f"Arrows are the links that the plan uses (at most the {MOST_LINKS} busiest): the thicker,"
        " the busier. Under each device: how busy it is, and the memory it needs."
    )
    return caption + tag("div", draw_cluster(problem, solution, colours), class_="view fit")


def _caption(text: str) -> str:
    return tag("p", words(text), class_="notes")


def _unused(problem: Problem, solution: Solution) -> str:
    used = {*solution.plan.devices, problem.cluster.source, problem.cluster.sink}
    names = [d.name for d in problem.cluster.devices if d.name not in used]
    if not names:
        return ""
    more = f" and {len(names) - _MOST_ROWS} more" if len(names) > _MOST_ROWS else ""
    return _caption(f"Not used: {', '.join(names[:_MOST_ROWS])}{more}.")


def _devices(problem: Problem, solution: Solution) -> str:
    """Memory and transfers in numbers, for those who do not see the picture."""
    rows = []
    for name, needed in list(solution.estimate.memory_bytes.items())[:_MOST_ROWS]:
        count = sum(len(s.operators) for s in solution.plan.stages if s.device == name)
        limit = problem.device(name).memory_bytes
        cells = (name, problem.device(name).kind, count, format_bytes(needed), format_bytes(limit))
        rows.append(
            "".join(tag("td", words(c), class_="n" if i > 1 else None) for i, c in enumerate(cells))
        )
    head = "".join(
        tag("th", text, scope="col", class_="n" if i > 1 else None)
        for i, text in enumerate(("device", "kind", "operators", "memory", "limit"))
    )
    return tag("table", tag("thead", tag("tr", head)), tag("tbody", *(tag("tr", r) for r in rows)))


def _legend(problem: Problem) -> str:
    return tag(
        "div",
        tag("h2", "How to read this"),
        tag(
            "p",
            "All values come from one evaluator, the same for every strategy. A bound is a proven"
            " lower limit for the plans that its words describe; the gap is how far a plan is above"
            " it, and a gap of 0 means that no such plan is better. Times are predictions from the"
            " measured or stated costs.",
        ),
        class_="notes",
    )
