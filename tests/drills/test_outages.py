"""Outages with real processes and sockets, under load; ``python -m tests.drills`` plays them in real time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.drills.drill import TYPED, Report, steered
from tests.drills.load import PATIENCE, Call
from tests.drills.outages import KINDS, can_be_played


@pytest.mark.parametrize("kind", KINDS)
def test_ridden_through(kind: str, record_property: Callable[[str, object], None]) -> None:
    """No failed call while the token is usable, typed errors beyond it, and recovery in one request."""
    if not can_be_played(kind):
        pytest.skip("this platform cannot stop a process")
    report = steered(kind)
    for name in ("ridden_through", "too_late", "recovered"):
        record_property(f"calls_{name}", len(getattr(report, name)))
    assert report.faults(margin=PATIENCE) == []
    assert len(report.ridden_through) >= 6 * 5 * 11
    assert len({call.worker for call in report.ridden_through}) == 11
    assert len({call.worker for call in report.too_late}) == 11


def whole() -> Report:
    calls = [Call("w", at, at + 0.1, what) for at, what in ((1.0, "200"), (11.0, "200"), (21.0, TYPED), (31.0, "200"))]
    return Report("killed", 2.0, calls, 10.0, 20.0, 30.0, attempts=1, token_requests=1, obtained=1, api={"served": 9})  # type: ignore[arg-type]  # a Counter in all that counts


def add(report: Report, began: float, outcome: str, seconds: float = 0.1) -> None:
    report.calls.append(Call("w", began, began + seconds, outcome))


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda report: add(report, 2, TYPED), "failed before"),
        (lambda report: add(report, 12, TYPED), "failed with a usable token"),
        (lambda report: add(report, 12, "401"), "failed with a usable token"),
        (lambda report: add(report, 22, "200"), "not the typed error"),
        (lambda report: add(report, 22, "ConnectError"), "not the typed error"),
        (lambda report: add(report, 22, TYPED, 3.5), "took too long"),
        (lambda report: add(report, 32, TYPED), "failed after recovery"),
        (lambda report: setattr(report, "attempts", 0), "a part of the drill is missing"),
        (lambda report: setattr(report, "token_requests", 2), "recovery took 2 requests"),
        (lambda report: setattr(report, "obtained", 0), "brought 0 tokens"),
        (lambda report: report.api.update({"without": 1}), "the API saw"),
        (lambda report: report.calls.clear(), "a part of the drill is missing"),
    ],
)
def test_a_report_with_a_fault_is_one(spoil: Callable[[Report], Any], fault: str) -> None:
    assert whole().faults(margin=1.0) == []
    report = whole()
    spoil(report)
    assert [found for found in report.faults(margin=1.0) if fault in found]
