"""Virtual time: one heap of what is to happen, one random generator, one trace. Nothing here knows what accredit is.

Whatever happens belongs to an actor, or to nobody. What belongs to a dead actor does not happen, and what belongs to a
suspended one happens when it goes on: that is SIGKILL and SIGSTOP.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Protocol

START = 1_000.0
START_WALL = 1_700_000_000.0


class Actor(Protocol):
    """What happenings belong to."""

    name: str
    alive: bool
    resumes_at: float


class Finding(AssertionError):  # noqa: N818 - what is wrong is not here but in what is simulated
    """An invariant does not hold: which one, when, and why."""

    def __init__(self, invariant: str, text: str, now: float) -> None:
        super().__init__(f"[{invariant}] at {now - START:.3f} s: {text}")
        self.invariant = invariant
        self.text = text


class Kernel:
    """The heap, the time, and chance. Equal times happen in the order in which they were asked for."""

    def __init__(self, seed: int, *, trace: list[str] | None = None, most_steps: int = 300_000) -> None:
        self.now = START
        self.random = random.Random(seed)
        self.steps = 0
        self.most_steps = most_steps
        self.lines = trace
        self._heap: list[tuple[float, int, Actor | None, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def after(self, seconds: float, actor: Actor | None, do: Callable[..., None], *arguments: Any) -> None:
        """Let something happen after that many seconds."""
        self._count += 1
        heappush(self._heap, (self.now + seconds, self._count, actor, do, arguments))

    def at(self, when: float, actor: Actor | None, do: Callable[..., None], *arguments: Any) -> None:
        """Let something happen at a time; at once if that is past."""
        self._count += 1
        heappush(self._heap, (max(when, self.now), self._count, actor, do, arguments))

    def run(self, until: float) -> None:
        """Let everything happen that is due by then."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            when, _, actor, do, arguments = heappop(heap)
            if actor is not None:
                if not actor.alive:
                    continue
                if actor.resumes_at > when:
                    # Waiting for SIGCONT, in the order in which it would have happened.
                    self._count += 1
                    heappush(heap, (actor.resumes_at, self._count, actor, do, arguments))
                    continue
            self.now = when
            self.steps += 1
            if self.steps > self.most_steps:
                raise Finding("work", f"there have been more than {self.most_steps} steps", self.now)
            do(*arguments)
        self.now = max(self.now, until)

    def note(self, who: str, text: str) -> None:
        """Write a line of the trace. Callers look at ``lines`` first where making the text costs something."""
        if self.lines is not None:
            self.lines.append(f"{self.now - START:11.3f}  {who:<8} {text}")

    def digest(self) -> tuple[int, float, int]:
        """Return what two runs of one seed must agree on, cheap enough for every run."""
        return self.steps, self.now, self.random.getrandbits(64)
