"""Where the lines go: a colourful terminal (with rich), plain text, or JSON."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, TextIO

from accredit.demo.lines import Line, Painter, Style, plain
from accredit.demo.report import Report
from accredit.demo.steps import Step

Played = Sequence[tuple[Step, Report]]

_STYLES: Final[dict[Style, str]] = {
    "": "",
    "title": "bold",
    "dim": "dim",
    "good": "green",
    "bad": "bold red",
    "number": "bold cyan",
    "first": "cyan",
    "second": "magenta",
    "warn": "yellow",
}


class Screen(ABC):
    """Shows a run."""

    @abstractmethod
    def opening(self, server: str) -> None:
        """Say what runs where."""

    @abstractmethod
    def playing(self, number: int, step: Step, report: Report) -> AbstractContextManager[object]:
        """Show the heading of a step, and while the context is open how it goes."""

    @abstractmethod
    def played(self, report: Report) -> None:
        """Show how a step went."""

    @abstractmethod
    def closing(self, played: Played, seconds: float, sabotage: str | None) -> None:
        """Show the summary."""


class PlainScreen(Screen):
    """Plain text, line by line; ASCII unless the stream is known to take more."""

    def __init__(self, stream: TextIO) -> None:
        """Write to ``stream``."""
        self._stream = stream
        self._painter = Painter(unicode=False)

    def _write(self, lines: Sequence[Line]) -> None:
        self._stream.write("".join(f"{plain(line)}\n" for line in lines))
        self._stream.flush()

    def opening(self, server: str) -> None:
        """Say what runs where."""
        self._write(self._painter.opening(server))

    def playing(self, number: int, step: Step, report: Report) -> AbstractContextManager[object]:
        """Show the heading."""
        self._write(self._painter.heading(number, step.title, step.claim))
        return nullcontext(report)

    def played(self, report: Report) -> None:
        """Show how a step went."""
        self._write(self._painter.body(report))

    def closing(self, played: Played, seconds: float, sabotage: str | None) -> None:
        """Show the summary."""
        steps = [(step.name, report) for step, report in played]
        self._write(self._painter.closing(steps=steps, seconds=seconds, sabotage=sabotage))


class RichScreen(Screen):
    """Colours, and pictures that grow while the step runs."""

    def __init__(self, console: Any = None) -> None:
        """Write to that :class:`rich.console.Console`, or to standard output.

        Raises:
            ImportError: rich is not installed.

        """
        from rich.console import Console

        self._console = console if console is not None else Console(highlight=False)
        self._painter = Painter(unicode=True)

    def _texts(self, lines: Sequence[Line]) -> Any:
        from rich.console import Group
        from rich.text import Text

        return Group(*(Text.assemble(*((text, _STYLES[style]) for text, style in line), end="\n") for line in lines))

    def _show(self, lines: Sequence[Line]) -> None:
        self._console.print(self._texts(lines), end="", soft_wrap=True)

    def opening(self, server: str) -> None:
        """Say what runs where."""
        self._show(self._painter.opening(server))

    def playing(self, number: int, step: Step, report: Report) -> AbstractContextManager[object]:
        """Show the heading, and the picture as it grows; it goes away again when the step ends."""
        from rich.live import Live

        self._show(self._painter.heading(number, step.title, step.claim))
        return Live(
            console=self._console,
            get_renderable=lambda: self._texts(self._painter.picture(report.picture())),
            refresh_per_second=12,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def played(self, report: Report) -> None:
        """Show how a step went."""
        self._show(self._painter.body(report))

    def closing(self, played: Played, seconds: float, sabotage: str | None) -> None:
        """Show the summary."""
        steps = [(step.name, report) for step, report in played]
        self._show(self._painter.closing(steps=steps, seconds=seconds, sabotage=sabotage))


class JsonScreen(Screen):
    """Nothing until the end, and then one JSON object."""

    def __init__(self, stream: TextIO) -> None:
        """Write to ``stream``."""
        self._stream = stream

    def opening(self, server: str) -> None:
        """Say nothing."""

    def playing(self, number: int, step: Step, report: Report) -> AbstractContextManager[object]:  # noqa: ARG002
        """Say nothing."""
        return nullcontext(report)

    def played(self, report: Report) -> None:
        """Say nothing."""

    def closing(self, played: Played, seconds: float, sabotage: str | None) -> None:
        """Write the object."""
        steps = [
            {
                "name": step.name,
                "title": step.title,
                "ok": report.ok,
                "seconds": round(report.seconds, 3),
                "checks": [
                    {"what": check.what, "expected": check.expected, "seen": check.seen, "ok": check.ok}
                    for check in report.checks
                ],
                "notes": [{"label": note.label, "text": note.text} for note in report.notes],
            }
            for step, report in played
        ]
        failed = [step.name for step, report in played if not report.ok]
        whole = {"ok": not failed, "failed": failed, "sabotage": sabotage, "seconds": round(seconds, 3), "steps": steps}
        self._stream.write(json.dumps(whole, indent=2) + "\n")
        self._stream.flush()


def choose(*, plain_text: bool, as_json: bool) -> tuple[Screen, str]:
    """Return the screen for standard output, and what to say of it in the end, if anything."""
    if as_json:
        return JsonScreen(sys.stdout), ""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    if plain_text or not sys.stdout.isatty() or not encoding.startswith("utf"):
        return PlainScreen(sys.stdout), ""
    try:
        return RichScreen(), ""
    except ImportError:
        return PlainScreen(sys.stdout), "It is prettier with colours: pip install 'accredit[devserver,cli]'"
