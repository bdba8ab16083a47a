"""What the demo shows, without running it."""

from __future__ import annotations

import io
import json
import sys

import pytest
from rich.console import Console

from accredit.demo import screen
from accredit.demo.lines import Painter, plain
from accredit.demo.report import Report, Row, Timeline, duration
from accredit.demo.steps import STEPS


def lines(report: Report, *, unicode: bool = False) -> list[str]:
    return [plain(line) for line in Painter(unicode=unicode).body(report)]


def good() -> Report:
    report = Report(picture=lambda: (Row("calls", ("ok", "bad", "none", "wait"), "so so"),))
    report.note("took", "300 ms")
    report.equal(1, 1, "token request")
    report.all_of(100, 100, "calls answered 200")
    report.quicker(42e-6, 0.1, "the longest wait")
    return report


def bad() -> Report:
    report = Report()
    report.equal(100, 1, "token request")
    report.all_of(0, 0, "calls answered 200")
    report.at_least(2, 3, "calls meanwhile")
    report.quicker(0.35, 0.1, "the longest wait")
    report.broke(TimeoutError("nobody came"))
    return report


def test_a_step_as_claimed_in_ascii() -> None:
    assert lines(good()) == [
        "    calls         ox .  so so",
        "    took          300 ms",
        "    ok          1 token request",
        "    ok 100 of 100 calls answered 200",
        "    ok      42 us the longest wait",
        "",
    ]


def test_a_step_as_claimed_in_unicode() -> None:
    assert lines(good(), unicode=True) == [
        "    calls         ●✗ ◌  so so",
        "    took          300 ms",
        "    ✔           1 token request",
        "    ✔  100 of 100 calls answered 200",
        "    ✔       42 µs the longest wait",
        "",
    ]


def test_what_is_not_as_claimed_is_shown_with_what_was_expected() -> None:
    report = bad()
    assert not report.ok
    assert not any(check.ok for check in report.checks)
    assert lines(report) == [
        "FAILED        100 token request (expected: 1)",
        "FAILED     0 of 0 calls answered 200 (expected: some)",
        "FAILED          2 calls meanwhile (expected: at least 3)",
        "FAILED     350 ms the longest wait (expected: under 100 ms)",
        "FAILED            how the step ended (expected: as claimed): TimeoutError:",
        "                  nobody came",
        "",
    ]


def test_a_step_without_claims_is_not_as_claimed() -> None:
    assert not Report().ok


def test_nothing_that_a_terminal_would_act_on_is_shown() -> None:
    report = Report()
    report.note("error", "a\x1b[2Jb é")
    assert lines(report)[0] == "    error         a?[2Jb ?"
    assert lines(report, unicode=True)[0] == "    error         a?[2Jb é"


@pytest.mark.parametrize(("seconds", "text"), [(42e-6, "42 µs"), (0.0015, "2 ms"), (0.35, "350 ms"), (1.049, "1.05 s")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_timeline_fills_as_time_goes_by() -> None:
    now = 0.0
    timeline = Timeline(lambda: now, span=10.0, width=10)
    timeline.state("server", "up")
    timeline.dot("calls", "ok")
    now = 2.5
    timeline.state("server", "down")
    timeline.dot("calls", "bad")
    timeline.dot("calls", "ok")
    now = 4.5
    assert [(row.label, row.cells) for row in timeline.rows()] == [
        ("calls", ("ok", "none", "bad", *["none"] * 7)),
        ("server", ("up", "up", "down", "down", "down", *["none"] * 5)),
    ]
    now = 99.0
    timeline.dot("calls", "ok")
    assert timeline.rows()[0].cells[-1] == "ok"


def shown(where: screen.Screen, report: Report, sabotage: str | None = None) -> None:
    where.opening("process 1")
    with where.playing(1, STEPS[0], report):
        pass
    where.played(report)
    where.closing([(STEPS[0], report)], 1.5, sabotage)


@pytest.mark.parametrize(
    ("report", "sabotage", "last"),
    [
        (good(), None, " ok all as claimed (3 claims in 1 step, 1.50 s)"),
        (bad(), None, " FAILED failed: first (5 claims in 1 step, 1.50 s)"),
        (bad(), "herd", " FAILED herd caught by step 'first' (5 claims in 1 step, 1.50 s)"),
        (good(), "herd", " FAILED herd was planted, and nothing noticed it (3 claims in 1 step, 1.50 s)"),
    ],
)
def test_the_plain_screen_ends_with_a_summary(report: Report, sabotage: str | None, last: str) -> None:
    stream = io.StringIO()
    shown(screen.PlainScreen(stream), report, sabotage)
    text = stream.getvalue()
    assert text.isascii()
    assert text.splitlines()[0] == "accredit demo"
    assert text.splitlines()[-1] == last
    assert max(map(len, text.splitlines())) <= 80


def test_the_colourful_screen_says_the_same_in_colour() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, height=60, color_system="standard")
    shown(screen.RichScreen(console), good())
    assert "\x1b[32m✔" in stream.getvalue()
    stream = io.StringIO()
    shown(screen.RichScreen(Console(file=stream, width=80, height=60, force_terminal=False)), bad())
    assert "✘         100 token request (expected: 1)" in stream.getvalue()
    assert max(map(len, stream.getvalue().splitlines())) <= 80


def test_the_json_screen_writes_one_object() -> None:
    stream = io.StringIO()
    shown(screen.JsonScreen(stream), bad(), "herd")
    whole = json.loads(stream.getvalue())
    assert (whole["ok"], whole["failed"], whole["sabotage"]) == (False, ["first"], "herd")
    assert whole["steps"][0]["checks"][0] == {"what": "token request", "expected": "1", "seen": "100", "ok": False}


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class OldTerminal(Terminal):
    encoding = "latin-1"


@pytest.mark.parametrize(
    ("stream", "plain_text", "as_json", "kind"),
    [
        (Terminal(), False, False, screen.RichScreen),
        (OldTerminal(), False, False, screen.PlainScreen),
        (io.StringIO(), False, False, screen.PlainScreen),
        (Terminal(), True, False, screen.PlainScreen),
        (Terminal(), False, True, screen.JsonScreen),
    ],
)
def test_the_screen_that_fits_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
    stream: io.StringIO,
    plain_text: bool,
    as_json: bool,
    kind: type[screen.Screen],
) -> None:
    monkeypatch.setattr(sys, "stdout", stream)
    chosen, hint = screen.choose(plain_text=plain_text, as_json=as_json)
    assert type(chosen) is kind
    assert hint == ""


def test_without_rich_it_is_plain_and_says_how_to_get_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setitem(sys.modules, "rich.console", None)
    chosen, hint = screen.choose(plain_text=False, as_json=False)
    assert type(chosen) is screen.PlainScreen
    assert "pip install 'accredit[devserver,cli]'" in hint
