"""Every error that comes about in a test of the core is looked at: it has to read well, whoever gets it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from accredit.errors import AccreditError, AuthorizationServerError

# A sentence to a person: it ends like one, and it does not shout.
_SAYS_NONE = re.compile(r"(?<!or )\bNone\b")
_SENTENCE = re.compile(r"[^\s].*[.)\"'\]}>/a-z0-9]", re.DOTALL)


def faults_of_text(text: object, what: str) -> list[str]:
    """Return what is wrong with a summary or an advice."""
    if not isinstance(text, str):
        return [f"the {what} is a {type(text).__name__}"]
    faults = []
    if not _SENTENCE.fullmatch(text):
        faults.append(f"the {what} is no sentence: {text!r}")
    if text.upper() == text:
        faults.append(f"the {what} shouts: {text!r}")
    if _SAYS_NONE.search(text):
        faults.append(f"the {what} says None: {text!r}")
    return faults


def _is_ours(frame: FrameType | None) -> bool:
    """Tell whether the core made the error, rather than a test."""
    while frame is not None and frame.f_globals.get("__name__") == AccreditError.__module__:
        frame = frame.f_back
    return frame is not None and str(frame.f_globals.get("__name__")).startswith("accredit.")


@pytest.fixture(autouse=True)
def _errors_read_well(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hold every error made in a test to the form of errors."""
    faults: list[str] = []
    made = AccreditError.__init__

    def look(self: AccreditError, summary: Any, *, advice: Any = "", **safe: Any) -> None:
        made(self, summary, advice=advice, **safe)
        if not _is_ours(sys._getframe(1)):
            return
        found = faults_of_text(summary, "summary") + (faults_of_text(advice, "advice") if advice != "" else [])
        if isinstance(summary, str) and not summary.endswith("."):
            found.append(f"the summary has no end: {summary!r}")
        if isinstance(self, AuthorizationServerError) and safe.get("endpoint") is None and advice != "":
            found.append(f"an error of a server does not say of which: {summary!r}")
        faults.extend(found)

    monkeypatch.setattr(AccreditError, "__init__", look)
    yield
    assert not faults, faults[0]
