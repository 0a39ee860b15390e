"""What a replay is of: a trace, the cuts that are played over it, and the policies compared."""

from __future__ import annotations

import codecs
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cutset.adaptation.choosing import choose_cuts
from cutset.adaptation.conditions import Conditions
from cutset.adaptation.cuts import Cuts
from cutset.adaptation.hull_cuts import hull_cuts, stated_conditions
from cutset.adaptation.policies import by_name
from cutset.adaptation.policy import Policy
from cutset.adaptation.ranges import expected_range
from cutset.adaptation.records import Record, cuts_of, read_record, trace_of
from cutset.adaptation.trace_files import read_trace
from cutset.adaptation.trace_words import is_generated, parse_generated
from cutset.adaptation.traces import Trace
from cutset.errors import InvalidFileError, UsageError, choices
from cutset.graph import Graph
from cutset.problem import Problem

POLICIES: Final = ("load-aware", "load-oblivious", "local", "offload", "oracle")
MOST_POLICIES: Final = 16


@dataclass(frozen=True)
class Replay:
    """`stated` is what policies are told before they see anything, None: what the trace begins
    with. `left_out` names the cuts that the devices' memory cannot hold beside the others; `note`
    says what could not be read of a record."""

    trace: Trace
    cuts: Cuts
    graph_digest: str
    stated: Conditions | None = None
    left_out: tuple[str, ...] = ()
    note: str = ""


def is_record(path: Path) -> bool:
    """Whether a file is a record, by its first byte; False where it cannot be read.

    Raises InvalidFileError for a pipe, which can be read only once.
    """
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise InvalidFileError(
            "no regular file, and a trace is read more than once",
            file=str(path),
            remedy="save it to a file first",
        )
    try:
        with open(path, "rb") as file:
            return file.read(1024).removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"{"
    except OSError:
        return False


def of_record(path: Path) -> Replay:
    """What a record says was seen, with the cuts that were loaded then. Raises InvalidFileError."""
    record = read_record(path)
    _check_cuts(record, path)
    header = record.header
    return Replay(trace_of(record), cuts_of(header), header.graph_digest, note=record.note)


def of_problem(text: str, problem: Problem, server: str | None = None) -> Replay:
    """A trace (a file, or words for a generated one) over the problem's best cuts, as many as
    the devices' memory holds.

    Raises InvalidFileError and UsageError for the trace; what `hull_cuts` and `choose_cuts` raise.
    """
    names = [d.name for d in problem.cluster.devices if d.name != problem.cluster.source]
    if server is not None and server not in names:
        raise UsageError(
            "no such server",
            field="--server",
            value=server,
            remedy=choices(server, names, "devices beside the source"),
        )
    if not names:
        raise UsageError(
            "the cluster has no device beside the source, so that there is nothing to follow",
            field="--cluster",
            remedy="add the server to the cluster file",
        )
    if server is None and len(names) > 1:
        raise UsageError(
            "the cluster has several devices that could be the server",
            field="--server",
            remedy=f"name one of {', '.join(names)}",
        )
    found = hull_cuts(problem, server)
    stated = stated_conditions(problem, found)
    memory = {d.name: d.memory_bytes for d in problem.cluster.devices}
    chosen = choose_cuts(found, memory, expected_range(stated))
    if is_generated(text) or (":" in text and not os.path.exists(text)):
        trace = parse_generated(text, stated)
    else:
        trace = read_trace(text, stated, (found.device, found.server))
    return Replay(trace, chosen.held_cuts, problem.graph.digest, stated, chosen.left_out)


def check_same(replay: Replay, path: Path, graph: Graph, devices: Sequence[str]) -> None:
    """Refuse a record of another model, or of devices that are not among these.

    Raises InvalidFileError that names what differs.
    """
    if replay.graph_digest not in (graph.digest, graph.model_digest):
        raise InvalidFileError(
            "the record is of another model, or of another input shape",
            file=str(path),
            field="graph_digest",
            value=replay.graph_digest[:16],
            remedy=f"leave the model out, or record a run of this one ({graph.digest[:16]})",
        )
    for field, name in (("device", replay.cuts.device), ("server", replay.cuts.server)):
        if name not in devices:
            raise InvalidFileError(
                "the record is of a device that the cluster does not have",
                file=str(path),
                field=field,
                value=name,
                remedy=choices(name, devices, "devices"),
            )


def policies_of(text: str | None, cuts: Cuts, field: str) -> list[Policy[Any]]:
    """The policies of a text such as "load-aware,local"; without one, those of POLICIES that these
    cuts allow. Raises UsageError that names `field`."""
    if text is None:
        given = [
            name
            for name in POLICIES
            if not (name == "local" and cuts.local is None)
            and not (name == "offload" and cuts.offload is None)
        ]
    else:
        given = [name.strip() for name in text.split(",") if name.strip()]
    if not 0 < len(given) <= MOST_POLICIES:
        raise UsageError(
            f"from 1 to {MOST_POLICIES} policies are compared",
            field=field,
            value=text,
            remedy=f"name some of {', '.join(POLICIES)}",
        )
    found: dict[str, Policy[Any]] = {}
    for name in given:
        try:
            policy = by_name(name, cuts)
        except UsageError as error:
            raise UsageError(error.message, field=field, value=name, remedy=error.remedy) from None
        if policy.name in found:
            raise UsageError(
                "the policy is there twice", field=field, value=name, remedy="name each once"
            )
        found[policy.name] = policy
    return list(found.values())


def _check_cuts(record: Record, path: Path) -> None:
    if not record.header.cuts:
        raise InvalidFileError(
            "the record has no cuts",
            file=str(path),
            field="cuts",
            remedy="record a run again, or give its conditions as a CSV trace with a model",
        )
