"""The steps of the demo. Each stands alone: it starts without a token and ends with the server as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from accredit.demo.report import Report
from accredit.demo.stage import Stage
from accredit.demo.steps import first, herd, outage, refusal, renewal

__all__ = ["STEPS", "Step"]


class Step(NamedTuple):
    """One step.

    Attributes:
        name: the name for ``--only`` and in JSON.
        title: its heading.
        claim: what it shows, in a sentence or two.
        play: does it.

    """

    name: str
    title: str
    claim: str
    play: Callable[[Stage, Report], None]


STEPS: Final = (
    Step(
        "first",
        "The first call",
        "The token is fetched on demand, and the API truly verifies it.",
        first.play,
    ),
    Step(
        "herd",
        "A hundred callers at once, and no token yet",
        "50 threads and 50 tasks of one engine: one asks, and all get the answer.",
        herd.play,
    ),
    Step(
        "renewal",
        "A renewal that nobody waited for",
        "The token lives for seconds. Its renewal is held up; the calls go on.",
        renewal.play,
    ),
    Step(
        "refusal",
        "A 401, healed by one retry",
        "The token is revoked, so the API refuses it; the caller gets its 200.",
        refusal.play,
    ),
    Step(
        "outage",
        "An outage of the authorization server",
        "A valid token carries on; after its expiry a clear error; then recovery.",
        outage.play,
    ),
)
