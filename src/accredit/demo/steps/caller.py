"""A caller that calls again and again, on a thread of its own, and remembers how each call went."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx2

from accredit.clock import SystemClock
from accredit.demo.report import Timeline
from accredit.demo.stage import Stage
from accredit.errors import AccreditError
from accredit.manager import TokenManager


@dataclass(frozen=True, slots=True)
class Sample:
    """One call.

    Attributes:
        began: local time, seconds.
        had_token: local time when it had its token, or knew that there is none.
        ended: local time.
        ok: it was answered 200.
        error: the error of the library instead of a token, or None.

    """

    began: float
    had_token: float
    ended: float
    ok: bool
    error: AccreditError | None = None


class Caller:
    """Calls every 20 ms from entering until leaving.

    Attributes:
        before: called before each call; a planted failure may put something here.

    """

    def __init__(self, stage: Stage, manager: TokenManager, client: httpx2.Client, timeline: Timeline) -> None:
        """Make it; it does not call yet."""
        self.before: Callable[[], object] = lambda: None
        self._stage = stage
        self._manager = manager
        self._client = client
        self._timeline = timeline
        self._now = SystemClock().now
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._samples: list[Sample] = []
        self._thread = threading.Thread(target=self._run, name="accredit-demo-caller", daemon=True)

    def samples(self) -> list[Sample]:
        """Return the calls so far."""
        with self._changed:
            return list(self._samples)

    def wait_for(self, condition: Callable[[Sample], bool], seconds: float) -> Sample | None:
        """Wait for a call of which that is true; None when there was none within that many seconds."""

        def found() -> Sample | None:
            return next((sample for sample in self._samples if condition(sample)), None)

        with self._changed:
            return self._changed.wait_for(found, seconds)

    def __enter__(self) -> Self:
        """Start calling."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop calling."""
        self._stop.set()
        self._thread.join(15)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            self.before()
            sample = self._sample()
            self._timeline.dot("calls", "ok" if sample.ok else "bad")
            with self._changed:
                self._samples.append(sample)
                self._changed.notify_all()

    def _sample(self) -> Sample:
        began = self._now()
        had_token = None
        try:
            self._manager.get()
            had_token = self._now()
            ok = self._stage.saw(self._client.get("/orders")).status == 200
        except AccreditError as error:
            return Sample(began, had_token or self._now(), self._now(), ok=False, error=error)
        except httpx2.HTTPError:
            ok = False
        return Sample(began, had_token or self._now(), self._now(), ok=ok)
