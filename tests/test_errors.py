from __future__ import annotations

import inspect
import re

import pytest

from cutset import errors
from cutset.errors import CutsetError, InvalidFileError

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, CutsetError)]


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = set(re.findall(r"[├└ ]([A-Z]\w+)", "├" + (errors.__doc__ or "").split("\n\n", 1)[1]))
    drawn |= {"CutsetError"}
    assert {c.__name__ for c in CLASSES} <= drawn


def test_codes_are_distinct_and_statuses_are_those_of_the_contract() -> None:
    codes = [c.code for c in CLASSES]
    assert len(set(codes)) == len(codes)
    assert {c.exit_status for c in CLASSES} == {1, 2, 3, 4, 130}
    assert errors.InfeasibleError.exit_status == 3
    assert errors.UnsupportedProblemError.exit_status == 2
    assert errors.WorkerLostError.exit_status == errors.DeadlineExceeded.exit_status == 4


def test_one_line_names_file_field_value_and_remedy() -> None:
    error = InvalidFileError(
        "not a\n rate", file="c.yaml", field="links[0]", value="fast", remedy="write 20Mbit/s"
    )
    assert str(error) == "c.yaml: links[0]: not a rate (got fast); write 20Mbit/s"
    assert error.details() == {
        "code": "invalid_file",
        "message": "not a\n rate",
        "file": "c.yaml",
        "field": "links[0]",
        "value": "fast",
        "remedy": "write 20Mbit/s",
    }


@pytest.mark.parametrize(
    ("field", "message", "value", "shown"),
    [
        ("links[0].bandwidth", "a rate must be more than 0", 0, "(got 0)"),
        ("overlap", "a truth value: true or False", False, "(got False)"),
        ("compute_s.k", "it must be 1 at least", -1, "(got -1)"),
        ("devices", "no such device", "", "(got an empty text)"),
        ("devices", "no such device", "dev", "(got dev)"),
    ],
)
def test_a_value_is_shown_though_its_text_is_part_of_other_words(
    field: str, message: str, value: object, shown: str
) -> None:
    assert shown in str(InvalidFileError(message, field=field, value=value))


def test_a_value_that_the_message_or_the_field_names_is_not_said_twice() -> None:
    error = InvalidFileError("no link to 'srv'", field="links.pi>srv", value="srv")
    assert str(error) == "links.pi>srv: no link to 'srv'"


def test_a_misspelt_name_is_guessed_and_all_are_listed() -> None:
    assert errors.choices("hef", ["heft", "dads"], "strategies") == (
        "did you mean heft? strategies are heft, dads"
    )
    assert errors.choices("xyz", ["heft"], "strategies") == "strategies are heft"
    assert errors.choices("xyz", [], "links") == "links are none"


def test_a_bare_message_stays_bare() -> None:
    assert str(CutsetError("no luck")) == "no luck"


def test_located_fills_in_only_what_was_unknown() -> None:
    error = InvalidFileError("bad", field="stages").located(file="p.json", field="other")
    assert (error.file, error.field) == ("p.json", "stages")


@pytest.mark.parametrize("evil", ["\x1b[2J", "\ud800", "\x07", "\u202e"])
def test_nothing_in_a_message_steers_a_terminal_or_fails_to_encode(evil: str) -> None:
    error = InvalidFileError(f"m{evil}", file=f"f{evil}", field=f"d{evil}", value=f"v{evil}")
    for text in (str(error), *(v for v in error.details().values() if v)):
        assert evil not in text
        text.encode()


def test_long_values_are_shortened() -> None:
    assert len(InvalidFileError("bad", value="x" * 10_000).value or "") == 200
