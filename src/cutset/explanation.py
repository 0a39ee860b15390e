"""What a solution means, in words: the verdict, the proof, the bottleneck, the critical path.

The same words in every command and page. Plain text; whoever shows it escapes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cutset.problem import BreakEven, Estimate, Objective, Problem, Solution
from cutset.units import format_rate, format_time

#: Gains below this are smaller than what predictions are off by (docs/benchmarks.md).
CLEAR_GAIN = 0.03

_TIES = 1e-9  # relative: times this close are one
_NEARER = 1.001  # places of break-evens closer than this factor are one


def verdict_in_words(solution: Solution) -> str:
    """Whether to split, by what margin."""
    verdict = solution.verdict
    if verdict is None:
        return "no verdict"
    if verdict.best_single_device is None:
        return "split: no single device can run it all"
    alone = f"{verdict.best_single_device} alone takes {format_time(verdict.best_single_value_s)}"
    if not verdict.split:
        return f"don't split: {verdict.best_single_device} alone is best"
    if verdict.gain <= 0:
        return f"splitting does not pay here: {alone}"
    if verdict.gain < CLEAR_GAIN:
        return (
            f"no clear difference: {verdict.gain:.1%} less than the best single device ({alone});"
            " measured times differ by more from run to run"
        )
    return f"split: {verdict.gain:.1%} less than the best single device ({alone})"


def proof_in_words(proof: str, scope: str) -> str:
    where = "any untiled plan" if scope == "full" else scope
    return {
        "optimal": f"optimal among {where}",
        "bound": f"a lower bound for {where}",
        "none": "none: nothing is proven about how good this is",
    }[proof]


def any_plan_in_words(full_bound_s: float, value_s: float) -> str:
    """What is proven over plans of any shape, beside a plan of this value (both in seconds).

    A proof for some plans only ("optimal among plans of two stages") says nothing of the others:
    this does, so that the two numbers do not read as one claim.
    """
    if full_bound_s >= value_s * (1 - _TIES):
        return "proven: no untiled plan, of whatever shape, is better"
    if full_bound_s <= 0:
        return "of untiled plans of any shape nothing is proven: a better one may exist"
    return (
        f"of untiled plans of any shape it is only proven that none takes less than"
        f" {format_time(full_bound_s)} ({gap_in_words(1 - full_bound_s / value_s)} less):"
        " a better one may exist in between"
    )


def flip_in_words(flip: BreakEven, moved: bool = False) -> str:
    """ "link:pi>server below 5.8 Mbit/s: pi alone". `moved`: the plan was beaten before that."""
    side, at = ("below", flip.below) if flip.below is not None else ("above", flip.above)
    assert at is not None
    meanwhile = " (the cut moved meanwhile)" if moved else ""
    return f"{flip.change} {side} {_place(flip.change, at)}: {flip.then}{meanwhile}"


def range_in_words(ends: Sequence[BreakEven]) -> str:
    """The ends of one range: "link:p>q from 3.1 to 12 Mbit/s (below: p alone, above: split)"."""
    below = next((end for end in ends if end.below is not None), None)
    above = next((end for end in ends if end.above is not None), None)
    places, after = [], []
    if below is not None and below.below is not None:
        places.append(f"from {_place(below.change, below.below)}")
        after.append(f"below: {below.then}")
    if above is not None and above.above is not None:
        word = "to" if places else "up to"
        places.append(f"{word} {_place(above.change, above.above)}")
        after.append(f"above: {above.then}")
    return f"{ends[0].change} {' '.join(places)} ({', '.join(after)})"


def _place(change: str, at: float) -> str:
    return format_rate(at) if change.startswith("link:") else f"{at:.3g}"


def flips_in_words(
    flips: Sequence[BreakEven], stays_best: Sequence[BreakEven] = (), most: int = 8
) -> list[tuple[str, str]]:
    """What it is, and words: in which ranges the plan stays best; where the verdict flips, with
    plans made anew on the way; and which plans were compared where not all were."""
    ends: dict[str, list[BreakEven]] = {}
    for end in stays_best:
        ends.setdefault(end.change, []).append(end)
    lines = _at_most(most, [("stays best", range_in_words(own)) for own in ends.values()])
    said = []
    for flip in flips:
        own = next((end for end in ends.get(flip.change, ()) if _same_side(end, flip)), None)
        said.append(("verdict flips", flip_in_words(flip, own is not None and _nearer(own, flip))))
    lines += _at_most(most, said)
    found = (*stays_best, *flips)
    scopes = list(dict.fromkeys(flip.scope for flip in found if flip.scope))
    if not scopes:
        return [*lines, ("", "(one parameter is moved at a time)")] if lines else []
    some = "" if all(flip.scope for flip in found) else "in part "
    return lines + [
        ("", f"({some}{scope} only; one parameter is moved at a time)") for scope in scopes
    ]


def _at_most(most: int, lines: list[tuple[str, str]]) -> list[tuple[str, str]]:
    more = len(lines) - most
    return lines[:most] + ([("", f"and {more} more")] if more > 0 else [])


def _same_side(one: BreakEven, other: BreakEven) -> bool:
    return (one.below is None) == (other.below is None)


def _nearer(end: BreakEven, flip: BreakEven) -> bool:
    """Whether the plan's own range ends clearly before the verdict flips."""
    if end.below is not None and flip.below is not None:
        return end.below > flip.below * _NEARER
    return end.above is not None and flip.above is not None and end.above * _NEARER < flip.above


def value_in_words(objective: Objective, value_s: float) -> str:
    """The value with its rate where that is what was asked for."""
    if objective is Objective.LATENCY or value_s <= 0:
        return format_time(value_s)
    return f"{format_time(value_s)} per request, {1 / value_s:.3g} requests/s"


def gap_in_words(gap: float) -> str:
    """A gap in percent; one that is open does not read as closed."""
    return "<0.1%" if 0 < gap < 0.0005 else f"{gap:.1%}"


def resource_in_words(resource: str) -> str:
    """ "link:pi>server" as "link pi>server"; an interface by what it does."""
    family, _, name = resource.partition(":")
    return {
        "egress": f"network interface of {name} (sending)",
        "ingress": f"network interface of {name} (receiving)",
    }.get(family, f"{family} {name}")


def bottleneck_in_words(estimate: Estimate, objective: Objective) -> str:
    """What limits the rate; for latency, what is busy longest, and for how much of a request."""
    what = resource_in_words(estimate.bottleneck)
    busy = format_time(estimate.period_s)
    if objective is Objective.LATENCY:
        share = estimate.period_s / estimate.latency_s if estimate.latency_s > 0 else 0.0
        if share > 1 + _TIES:
            # Transfers may hold a device without delaying the answer, and so may side results.
            return (
                f"{what} is busy longest: {busy} for a request, whose answer does not wait for all"
                " of that"
            )
        return f"{what} is busy longest: {busy}, {share:.0%} of a request"
    same = _interfaces(estimate.bottleneck)
    others = [
        (-seconds, name)
        for name, seconds in estimate.busy_s.items()
        if name != estimate.bottleneck and name not in same
    ]
    said = f"{what} sets the period: busy {busy} per request"
    if others and estimate.period_s > 0:
        seconds, name = min(others)
        said += f"; next is {resource_in_words(name)} with {-seconds / estimate.period_s:.0%}"
    return said


def _interfaces(resource: str) -> tuple[str, ...]:
    """The interfaces that a link goes through: they are busy whenever it is."""
    family, _, name = resource.partition(":")
    start, _, end = name.partition(">")
    return (f"egress:{start}", f"ingress:{end}") if family == "link" else ()


def critical_path(problem: Problem, solution: Solution) -> tuple[tuple[str, float], ...]:
    """What one request waits for, from its start to its last result: (step, seconds) in order.

    Steps are "device", "link a>b" and "waits for …"; followed back from the last result through
    whatever ended when the next began.
    """
    estimate = solution.estimate
    made = {
        t: s.name
        for s in solution.plan.stages
        for n in s.operators
        for t in problem.graph.operators[problem.graph.positions[n]].outputs
    }
    reads = {
        s.name: {t for n in s.operators for t in _inputs(problem, n)} for s in solution.plan.stages
    }
    stages = {t.name: t for t in estimate.stages}
    sink = problem.cluster.sink
    outputs = set(problem.graph.outputs)
    ends: list[tuple[float, str, int]] = [
        (t.arrive_s, "transfer", i)
        for i, t in enumerate(estimate.transfers)
        if t.transfer.tensor in outputs and t.transfer.target_device == sink
    ]
    ends += [
        (stages[made[t]].end_s, "stage", index)
        for t in problem.graph.outputs
        if t in made
        for index, s in enumerate(estimate.stages)
        if s.name == made[t] and s.device == sink
    ]
    steps: list[tuple[str, float]] = []
    now = max(ends, default=None, key=lambda e: (e[0], e[1], -e[2]))
    while now is not None:
        _, family, index = now
        if family == "stage":
            stage = estimate.stages[index]
            steps.append((stage.device, stage.end_s - stage.start_s))
            before = [
                (t.arrive_s, "transfer", i)
                for i, t in enumerate(estimate.transfers)
                if t.transfer.target_device == stage.device
                and t.transfer.tensor in reads[stage.name]
            ]
            before += [
                (s.end_s, "stage", i)
                for i, s in enumerate(estimate.stages[:index])
                if s.device == stage.device
            ]
            start = stage.start_s
        else:
            move = estimate.transfers[index]
            link = f"link {move.transfer.source_device}>{move.transfer.target_device}"
            steps.append((link, move.arrive_s - move.start_s))
            if move.start_s > move.ready_s + _TIES * abs(move.start_s):
                steps.append(("waiting for the network", move.start_s - move.ready_s))
            source = move.transfer.source_stage
            before = [
                (s.end_s, "stage", i) for i, s in enumerate(estimate.stages) if s.name == source
            ]
            start = move.ready_s
        before = [b for b in before if b[0] <= start * (1 + _TIES) and b[0] > 0]
        now = max(before, default=None, key=lambda e: (e[0], e[1], -e[2]))
    return _merged(reversed(steps))


def _inputs(problem: Problem, operator: str) -> tuple[str, ...]:
    return problem.graph.operators[problem.graph.positions[operator]].inputs


def _merged(steps: Iterable[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    merged: list[tuple[str, float]] = []
    for name, seconds in steps:
        if merged and merged[-1][0] == name:
            merged[-1] = (name, merged[-1][1] + seconds)
        else:
            merged.append((name, seconds))
    return tuple(merged)


def path_in_words(steps: tuple[tuple[str, float], ...], most: int = 9) -> str:
    """A critical path in one line; a long one as what its steps add up to."""
    if len(steps) <= most:
        return " → ".join(f"{name} {format_time(seconds)}" for name, seconds in steps)
    sums: dict[str, float] = {}
    for name, seconds in steps:
        kind = "links" if name.startswith("link ") else name
        sums[kind] = sums.get(kind, 0.0) + seconds
    parts = sorted(sums.items(), key=lambda part: -part[1])
    shown = " + ".join(f"{name} {format_time(seconds)}" for name, seconds in parts)
    return f"{shown}, in {len(steps)} steps"
