"""What is shown, as lines of styled pieces: the same for a plain terminal and a colourful one, at most 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

from accredit.demo.report import Check, Kind, Report, Row, duration, plural

Style = Literal["", "title", "dim", "good", "bad", "number", "first", "second", "warn"]
WIDTH: Final = 80
_LABEL: Final = 14
_TEXT: Final = WIDTH - _LABEL - 5


class Piece(NamedTuple):
    """A piece of a line."""

    text: str
    style: Style = ""


Line = tuple[Piece, ...]

#: What each kind of cell looks like: in Unicode, in ASCII, and its style.
CELLS: Final[dict[Kind, tuple[str, str, Style]]] = {
    "none": (" ", " ", ""),
    "wait": ("◌", ".", "dim"),
    "ok": ("●", "o", "good"),
    "bad": ("✗", "x", "bad"),
    "first": ("━", "=", "first"),
    "second": ("━", "#", "second"),
    "up": ("━", "=", "good"),
    "held": ("▒", "~", "warn"),
    "down": ("░", "!", "bad"),
}
EMPTY: Final[Line] = ()


class Painter:
    """Makes the lines, in Unicode or in ASCII."""

    def __init__(self, *, unicode: bool) -> None:
        """Choose the characters."""
        self._column = 0 if unicode else 1
        self._good, self._bad = ("✔", "✘") if unicode else ("ok", "FAILED")
        self._unicode = unicode

    def opening(self, server: str) -> list[Line]:
        """Return what comes first."""
        text = (
            f"An authorization server and a protected API run in a process of their own ({server})."
            " Calls go over real HTTP. The counts come from the server's own request log."
        )
        return [
            (Piece("accredit demo", "title"),),
            *[(Piece(line, "dim"),) for line in textwrap.wrap(text, WIDTH - 2)],
            EMPTY,
        ]

    def heading(self, number: int, title: str, claim: str) -> list[Line]:
        """Return the heading of a step."""
        return [
            (Piece(f" {number}  ", "number"), Piece(title, "title")),
            *[(Piece(f"    {line}", "dim"),) for line in textwrap.wrap(claim, WIDTH - 5)],
        ]

    def picture(self, rows: Iterable[Row]) -> list[Line]:
        """Return a picture."""
        return [self._row(row) for row in rows]

    def body(self, report: Report) -> list[Line]:
        """Return what a step that has ended has to show."""
        lines = self.picture(report.picture())
        for note in report.notes:
            wrapped = textwrap.wrap(self._safe(note.text), _TEXT) or [""]
            lines += [self._labelled("" if number else note.label, text) for number, text in enumerate(wrapped)]
        lines += [line for check in report.checks for line in self._check(check)]
        return [*lines, EMPTY]

    def closing(self, *, steps: Sequence[tuple[str, Report]], seconds: float, sabotage: str | None) -> list[Line]:
        """Return the summary."""
        checks = sum(len(report.checks) for _, report in steps)
        failed = [name for name, report in steps if not report.ok]
        total = f"{checks} {plural(checks, 'claim')} in {len(steps)} {plural(len(steps), 'step')}, {duration(seconds)}"
        if failed:
            caught = f"caught by step '{failed[0]}'" if sabotage else f"failed: {', '.join(failed)}"
            planted = f"{sabotage} " if sabotage else ""
            return [(Piece(f" {self._bad} ", "bad"), Piece(f"{planted}{caught}", "bad"), Piece(f" ({total})", "dim"))]
        if sabotage:
            text = f"{sabotage} was planted, and nothing noticed it"
            return [(Piece(f" {self._bad} ", "bad"), Piece(text, "bad"), Piece(f" ({total})", "dim"))]
        return [(Piece(f" {self._good} ", "good"), Piece("all as claimed", "title"), Piece(f" ({total})", "dim"))]

    def _row(self, row: Row) -> Line:
        pieces = [Piece(f"    {self._safe(row.label):{_LABEL}}", "dim")]
        for kind in row.cells:
            cell = CELLS[kind]
            piece = Piece(cell[self._column], cell[2])
            if pieces[-1].style == piece.style and len(pieces) > 1:
                pieces[-1] = Piece(pieces[-1].text + piece.text, piece.style)
            else:
                pieces.append(piece)
        if row.caption:
            pieces.append(Piece(f"  {row.caption}", "dim"))
        return tuple(pieces)

    def _labelled(self, label: str, text: str) -> Line:
        return (Piece(f"    {label:{_LABEL}}", "dim"), Piece(text))

    def _check(self, check: Check) -> list[Line]:
        style: Style = "good" if check.ok else "bad"
        mark = Piece(self._good if check.ok else self._bad, style)
        seen = self._safe(check.seen)
        what = check.what if check.ok else f"{check.what} (expected: {self._safe(check.expected)})"
        if len(seen) > _LABEL - 3:
            # A text rather than a number: it goes behind the claim.
            what, seen = f"{what}: {seen}", ""
        first, *rest = textwrap.wrap(what, _TEXT) or [""]
        margin = " " * (_LABEL + 4)
        # FAILED is wider than the marks, so in ASCII the marks end, rather than begin, in one column.
        indent = "    " if self._unicode else " " * (6 - len(mark.text))
        start = f"{seen:>{len(margin) - len(indent) - len(mark.text) - 1}} "
        text: Style = "" if check.ok else "bad"
        return [
            (Piece(indent), mark, Piece(start, style), Piece(first, text)),
            *[(Piece(margin), Piece(line, text)) for line in rest],
        ]

    def _safe(self, text: str) -> str:
        """Leave nothing in that a terminal would act on, and nothing that it cannot show."""
        shown = "".join(letter if letter.isprintable() else "?" for letter in text)
        return shown if self._unicode else shown.replace("µ", "u").encode("ascii", "replace").decode()


def plain(line: Line) -> str:
    """Return a line as text."""
    return "".join(piece.text for piece in line).rstrip()
