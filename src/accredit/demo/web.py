"""The demo on the page of its own server: each step as it goes, beside what the server sees of it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from accredit.demo.report import Report
from accredit.demo.screen import Played, Screen
from accredit.demo.steps import Step
from accredit.devserver.handle import Switches

#: For how long the demo waits for somebody to open the page, in seconds.
PATIENCE: Final = 60.0


class WebScreen(Screen):
    """Shows a run where another screen does, and on the page.

    Args:
        screen: the other screen.
        server: the server that has the page.
        total: how many steps there are.

    """

    def __init__(self, screen: Screen, server: Switches, total: int) -> None:
        """Show nothing yet."""
        self._screen = screen
        self._server = server
        self._total = total
        self._heading = ("", "", "")

    def opening(self, server: str) -> None:
        """Say what runs where, and wait until somebody looks."""
        self._screen.opening(server)
        _tell(f"the page: {self._server.page_link}")
        _tell(f"it begins when you open that, or in {PATIENCE:g} seconds")
        self._server.wait_for_page(timeout=PATIENCE)

    def playing(self, number: int, step: Step, report: Report) -> AbstractContextManager[object]:
        """Show the heading of a step, and that it is under way."""
        self._heading = (step.name, f"Step {number} of {self._total}: {step.title}", step.claim)
        return self._under_way(self._screen.playing(number, step, report))

    @contextmanager
    def _under_way(self, shown: AbstractContextManager[object]) -> Iterator[None]:
        self._server.note(*self._heading, items=[(None, "under way")])
        with shown:
            yield

    def played(self, report: Report) -> None:
        """Show what was claimed and seen."""
        self._screen.played(report)
        items: list[tuple[bool | None, str]] = [
            (
                check.ok,
                f"{check.what}: {check.seen}" if check.ok else f"{check.what}: {check.seen}, not {check.expected}",
            )
            for check in report.checks
        ]
        self._server.note(*self._heading, items=items)

    def closing(self, played: Played, seconds: float, sabotage: str | None) -> None:
        """Show the summary."""
        good = all(report.ok for _, report in played)
        title = "Everything was as claimed" if good else "Something was not as claimed"
        self._server.note("closing", title, "The server goes on: everything on this page may be tried.")
        self._screen.closing(played, seconds, sabotage)


def stay() -> None:
    """Keep the page until somebody interrupts."""
    _tell("the page stays until you press Ctrl-C")
    forever = threading.Event()
    try:
        while True:
            # On Windows a wait without limit cannot be interrupted.
            forever.wait(1.0)
    except KeyboardInterrupt:
        return


def _tell(text: str) -> None:
    # Not on standard output: that may be one JSON object.
    sys.stderr.write(f"accredit demo: {text}\n")
    sys.stderr.flush()
