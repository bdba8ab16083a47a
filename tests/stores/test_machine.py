"""Times across processes and boots: a token never lives longer than it was given, whatever the clocks do."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit.stores import machine
from accredit.stores.machine import Moment, Span, current_boot

HOUR = 3600.0
TIMES = st.floats(min_value=0.0, max_value=1e7)
WALLS = st.floats(min_value=0.0, max_value=4e9)
BOOTS = st.sampled_from(["", "a", "b"])
MOMENTS = st.builds(Moment, BOOTS, TIMES, WALLS)


@given(MOMENTS, st.floats(min_value=0.001, max_value=1e6), MOMENTS)
def test_nothing_lives_longer_than_it_was_given(then: Moment, seconds: float, now: Moment) -> None:
    span = Span.of(then, seconds)
    # Adding and subtracting floats of that size loses a microsecond.
    assert span.left(now) <= seconds + 1e-5
    assert span.left_in_boot(now) <= seconds + 1e-5


@given(st.floats(min_value=0.0, max_value=1e6), st.floats(min_value=-1e6, max_value=1e6))
def test_in_one_boot_only_the_suspend_proof_clock_counts(passed: float, jump: float) -> None:
    span = Span.of(Moment("a", 500.0, 2e9), HOUR)
    now = Moment("a", 500.0 + passed, 2e9 + passed + jump)
    assert span.left(now) == pytest.approx(HOUR - passed)
    assert span.left_in_boot(now) == pytest.approx(HOUR - passed)


@given(st.floats(min_value=0.0, max_value=1e6), TIMES)
def test_after_a_boot_the_wall_clock_counts(passed: float, uptime: float) -> None:
    span = Span.of(Moment("a", 500.0, 2e9), HOUR)
    assert span.left(Moment("b", uptime, 2e9 + passed)) == pytest.approx(HOUR - passed)
    # A lease or a hold of before is none.
    assert span.left_in_boot(Moment("b", uptime, 2e9 + passed)) == float("-inf")


@pytest.mark.parametrize("behind", [2.1, 600.0, 2e9])
def test_a_wall_clock_that_was_set_back_over_a_boot_revives_nothing(behind: float) -> None:
    span = Span.of(Moment("a", 500.0, 2e9), HOUR)
    assert span.left(Moment("b", 10.0, 2e9 - behind)) == 0.0
    assert span.left(Moment("b", 10.0, 2e9 - 1.0)) == HOUR  # clocks are set by a second now and then


@given(st.floats(min_value=0.0, max_value=1e6), st.floats(min_value=-1e6, max_value=1e6))
def test_without_a_boot_id_both_clocks_must_agree(passed: float, jump: float) -> None:
    span = Span.of(Moment("", 500.0, 2e9), HOUR)
    left = span.left(Moment("", 500.0 + passed, 2e9 + passed + jump))
    assert left <= HOUR - passed + 1e-3 or left <= 0.0
    assert left <= max(0.0, HOUR - passed - jump) + 1e-3


def test_an_uptime_from_before_the_beginning_is_another_boot() -> None:
    span = Span.of(Moment("", 500.0, 2e9), HOUR)
    assert span.left(Moment("", 10.0, 2e9 + 60.0)) == HOUR - 60.0
    assert span.left_in_boot(Moment("", 10.0, 2e9 + 60.0)) == float("-inf")


@pytest.mark.parametrize("ends", [float("inf"), float("nan"), 0.0, -1.0])
def test_times_that_make_no_sense_are_over(ends: float) -> None:
    for boot in ("", "a"):
        span = Span(boot, 0.0, ends, 0.0)
        assert span.left(Moment(boot, 0.0, 0.0)) == 0.0
        assert span.left_in_boot(Moment(boot, 0.0, 0.0)) == float("-inf")
    assert Span("a", 0.0, 1.0, float("nan")).left(Moment("b", 0.0, 0.0)) == 0.0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says which boot it is")
def test_the_boot_id_of_linux_is_the_same_for_all_processes() -> None:
    boot = current_boot()
    assert len(boot) > 36
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, current_boot().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 200).decode() == boot
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("content", [None, "", "not a boot id", "a" * 200])
def test_a_boot_id_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None) -> None:
    file = tmp_path / "boot_id"
    if content is not None:
        file.write_text(content)
    monkeypatch.setattr(machine, "_BOOT_ID", file)
    assert current_boot() == ""


def test_other_platforms_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert current_boot() == ""
