"""The page of figures says what the file of figures says, and nothing else."""

from __future__ import annotations

import json

import pytest

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.model import Aim, Effort, Interval, Row, Section

SECTION = Section(
    "fresh", "Fresh", "What it means.", {"one call": "ns", "to the floor": "ratio", "in words": ""},
    rows=[Row("accredit", {"one call": Interval(1.5, 1.0, 2.0), "to the floor": 3, "in words": "1 in 0.06 s"},
              note="a note", details={"case": "why"}, numbers={"cold": {"seconds": 0.06}})],
    aims=[Aim("one call", 1.0, 1.5, "ns")], missing=["MSAL"],
)  # fmt: skip
MACHINE = {**report.machine(quick=True), "load_at_end": None, "seconds": {"fresh": 1}}


def test_the_file_is_read_as_it_was_written() -> None:
    text = report.machine_readable(MACHINE, [SECTION])
    machine, sections = report.read(text)
    assert sections == [SECTION]
    assert report.machine_readable(machine, sections) == text
    assert report.page(machine, sections) == report.page(MACHINE, [SECTION])


def test_an_aim_that_was_missed_is_shown_as_missed() -> None:
    page = report.page(MACHINE, [SECTION])
    assert "| one call | 1 ns | 1.50 ns | **no** |" in page
    assert "A quick run: not for publication." in page
    assert "Not installed, so not measured: MSAL." in page
    assert json.loads(report.machine_readable(MACHINE, [SECTION]))["sections"][0]["aims"][0]["reached"] is False


def test_the_page_is_the_one_that_the_figures_make() -> None:
    machine, sections = report.read(command.RESULTS.read_text(encoding="utf-8"))
    assert command.PAGE.read_text(encoding="utf-8") == report.page(machine, sections)
    # One run of all of them, each with sections of its own.
    assert set(machine["seconds"]) == set(command.NAMES)


@pytest.mark.parametrize("quick", [True, False])
def test_effort(quick: bool) -> None:
    assert Effort(quick).of(10, 1) == (1 if quick else 10)
