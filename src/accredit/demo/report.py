"""What a step says of itself: what it saw, whether that is as claimed, and its picture. No terminal in here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["none", "wait", "ok", "bad", "first", "second", "up", "held", "down"]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a picture.

    Attributes:
        label: its name.
        cells: what each cell stands for, from left to right.
        caption: a few words behind the cells.

    """

    label: str
    cells: tuple[Kind, ...]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One claim that was looked at.

    Attributes:
        what: the claim, read behind the number: ``1 token request``.
        expected: what it should be.
        seen: what it is.
        ok: whether that will do.

    """

    what: str
    expected: str
    seen: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Note:
    """A line that tells more: an example of an answer, the text of an error."""

    label: str
    text: str


@dataclass(slots=True)
class Report:
    """What one step has to show. The picture may be looked at by another thread while the step runs.

    Attributes:
        notes: lines that tell more.
        checks: the claims, in the order they were looked at.
        picture: returns the rows of the picture as of now.
        seconds: how long the step took.

    """

    notes: list[Note] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    picture: Callable[[], Sequence[Row]] = tuple
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether there were claims, and all of them were seen to be true."""
        return bool(self.checks) and all(check.ok for check in self.checks)

    def note(self, label: str, text: str) -> None:
        """Tell more."""
        self.notes.append(Note(label, text))

    def equal(self, seen: object, expected: object, what: str) -> None:
        """Claim that what was seen is what was expected."""
        self.checks.append(Check(what, str(expected), str(seen), seen == expected))

    def all_of(self, seen: int, total: int, what: str) -> None:
        """Claim that it holds for all of them, and that there are any."""
        expected = f"{total} of {total}" if total else "some"
        self.checks.append(Check(what, expected, f"{seen} of {total}", seen == total > 0))

    def at_least(self, seen: int, least: int, what: str) -> None:
        """Claim that there were so many at least."""
        self.checks.append(Check(what, f"at least {least}", str(seen), seen >= least))

    def quicker(self, seen: float, limit: float, what: str) -> None:
        """Claim that something took less than that many seconds."""
        self.checks.append(Check(what, f"under {duration(limit)}", duration(seen), seen < limit))

    def broke(self, error: BaseException) -> None:
        """Take note that the step did not come to its end."""
        self.checks.append(Check("how the step ended", "as claimed", f"{type(error).__name__}: {error}", ok=False))


def plural(number: int, what: str) -> str:
    """Return the noun for that many of it."""
    return what if number == 1 else f"{what}s"


def duration(seconds: float) -> str:
    """Return a length of time for a person."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


class Timeline:
    """Cells over time, filled from any thread; what comes later into a cell wins, but a failure stays.

    Args:
        now: returns the local time in seconds.
        span: seconds from the left to the right edge.
        width: cells in a row.

    """

    def __init__(self, now: Callable[[], float], span: float, width: int = 58) -> None:
        """Start at the left edge, now."""
        self._now = now
        self._since = now()
        self._span = span
        self._width = width
        self._lock = threading.Lock()
        self._dots: dict[str, list[Kind]] = {}
        self._states: dict[str, list[tuple[int, Kind]]] = {}
        self._captions: dict[str, str] = {}

    def _cell(self) -> int:
        return max(0, min(self._width - 1, int((self._now() - self._since) / self._span * self._width)))

    def dot(self, label: str, kind: Kind) -> None:
        """Mark what happened just now."""
        with self._lock:
            cells = self._dots.setdefault(label, ["none"] * self._width)
            cell = self._cell()
            if cells[cell] != "bad":
                cells[cell] = kind

    def state(self, label: str, kind: Kind) -> None:
        """Say what is so from now on; ``none`` for nothing."""
        with self._lock:
            self._states.setdefault(label, []).append((self._cell(), kind))

    def caption(self, label: str, text: str) -> None:
        """Put a few words behind a row."""
        with self._lock:
            self._captions[label] = text

    def rows(self) -> list[Row]:
        """Return the rows as of now: dots as they fell, states up to now."""
        with self._lock:
            until = self._cell()
            made: dict[str, list[Kind]] = {label: list(cells) for label, cells in self._dots.items()}
            for label, changes in self._states.items():
                cells: list[Kind] = ["none"] * self._width
                for number, (start, kind) in enumerate(changes):
                    end = changes[number + 1][0] if number + 1 < len(changes) else until + 1
                    # A state that was very short is still seen.
                    for cell in range(start, max(end, start + 1)):
                        cells[cell] = kind
                made[label] = cells
            return [Row(label, tuple(cells), self._captions.get(label, "")) for label, cells in made.items()]
