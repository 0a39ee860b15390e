"""What commands suggest next can be pasted into a shell; verdicts claim no more than they can."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

from cutset.cli import output
from cutset.explanation import CLEAR_GAIN, verdict_in_words
from cutset.planner import solve
from cutset.problem import Verdict
from cutset.testing.problems import random_problem


def test_paths_in_hints_are_quoted() -> None:
    assert shlex.split(f"run {output.quoted(Path('sp ace/a model.onnx'))}") == [
        "run",
        "sp ace/a model.onnx",
    ]


def test_a_gain_within_the_noise_is_not_announced() -> None:
    solution = solve(random_problem(1), "single_device")

    def said(gain: float) -> str:
        verdict = Verdict(True, "pi", 1.0, gain)
        return verdict_in_words(dataclasses.replace(solution, verdict=verdict))

    assert said(CLEAR_GAIN / 2).startswith("no clear difference")
    assert said(2 * CLEAR_GAIN).startswith("split: 6.0% less")
