"""The manifest is whole: no row without a test that asserts something; and a manifest that is not whole is found."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bad_inputs.manifest import DEFERRED, ROWS, Shown, covered_in, faults_of, shown
from tests.bad_inputs.model import ERRORS, Case, bad, issued
from tests.bad_inputs.rows import CASES
from tests.bad_inputs.test_answers import check_outcome
from tests.bad_inputs.world import World, registration

GOOD = {"X1": [Shown("test_x.py::test_x", "OK", 1)]}


def test_every_row_is_tested_or_deferred_and_every_test_asserts() -> None:
    assert faults_of(ROWS, DEFERRED, shown()) == []


def test_outcomes_are_those_that_the_tables_know() -> None:
    assert {case.expect.outcome for case in CASES} <= {"OK", *ERRORS}
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize(
    ("rows", "deferred", "found", "fault"),
    [
        (("X1",), {}, {}, "X1 is neither tested nor deferred"),
        (("X1",), {"X1": "because of this and that"}, GOOD, "X1 is both tested and deferred"),
        ((), {}, GOOD, "X1 is not a row"),
        (("X1",), {"X1": "later"}, {}, "X1 is deferred without a reason"),
        (("X1",), {}, {"X1": [Shown("a", "OK", 1)] * 2}, "X1 has a twice"),
        (("X1",), {}, {"X1": [Shown("a", "OK", 0)]}, "X1: a asserts nothing"),
        (("X1",), {}, {"X1": [Shown("a", "", 1)]}, "X1: a has no outcome"),
    ],
)
def test_a_manifest_that_is_not_whole(
    rows: tuple[str, ...], deferred: dict[str, str], found: dict[str, list[Shown]], fault: str
) -> None:
    assert fault in faults_of(dict.fromkeys(rows, "title"), deferred, found)


@pytest.mark.parametrize(
    ("body", "asserts"),
    [("assert f() == 1", 1), ("f()", 0), ("assert True", 0), ("if f():\n        assert g()\n    assert h()", 2)],
)
def test_assertions_are_counted_in_the_source(body: str, asserts: int) -> None:
    source = f'@covers("X1", "X2", outcome="OK")\ndef test_x():\n    {body}\n'
    assert list(covered_in(source, "x.py")) == [(row, Shown("x.py::test_x", "OK", asserts)) for row in ("X1", "X2")]


def test_a_marked_function_that_pytest_does_not_run_shows_nothing() -> None:
    source = '@covers("X1", outcome="OK")\ndef helper():\n    assert f()\n'
    ((_, found),) = covered_in(source, "x.py")
    assert found.asserts == 0


@pytest.mark.parametrize(
    "wrong", [{"status": 500}, {"code": "other"}, {"hold": (7.0, 8.0)}, {"says": ("nothing of it",)}, {"requests": 2}]
)
def test_each_expectation_is_looked_at(wrong: dict[str, Any]) -> None:
    case = Case("X1", "wrong", (issued(token_type="mac"),), bad(**wrong))
    world = World(registration())
    world.script.answers = list(case.answers)
    outcome = world.callers()[0]
    with pytest.raises(AssertionError):
        check_outcome(case, world, outcome, [])
    assert check_outcome(Case("X1", "right", case.answers, bad()), world, outcome, []) >= {"outcome", "requests"}
