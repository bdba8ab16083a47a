"""What happens when many callers need a token at once, with requests counted at the server."""

import asyncio
import dataclasses
import threading
import time
from collections import Counter
from dataclasses import dataclass

from benchmarks import others
from benchmarks.clients import TASKS, THREADS, AsyncCall, Call
from benchmarks.model import Aim, Effort, Row, Section
from benchmarks.server import BenchServer

_LATENCY = 0.05
_TASKS, _THREADS = 200, 64
_LIFETIME = 2
_CASES = ("cold", "just expired", "revoked", "wrong secret", "server fails")
# accredit waits a second before it renews a token that is younger than 5 s: an API may not know it yet.
_AGE = 5.1
_TIME_OUT = 60.0


@dataclass(frozen=True, slots=True)
class _Outcome:
    token_requests: int
    good: int
    failed: int
    refused: int
    seconds: float

    def text(self, *, failing: bool) -> str:
        told = f"{self.token_requests:,} in {self.seconds:.2f} s"
        wrong = [f"{self.refused} got 401"] if self.refused else []
        if self.failed and not failing:
            wrong.append(f"{self.failed} failed")
        return told + (f" ({', '.join(wrong)})" if wrong else "")


def run(effort: Effort) -> list[Section]:
    repeats = effort.of(2, 1)
    section = Section(
        "herds",
        "Herds",
        f"{_TASKS} tasks, or {_THREADS} threads, call an API at the same moment through one client; the token endpoint"
        f" takes {_LATENCY * 1000:.0f} ms. Each cell: token requests that reached the server, and seconds until all"
        f" callers had their answer"
        + (f" (the worse of {repeats} runs, by token requests)" if repeats > 1 else "")
        + ". Cold: no token yet. Just expired: the token's life is over. Revoked: the API refuses the token that all"
        " hold. Wrong secret: the server answers 401 `invalid_client`. Server fails: it answers 500, every time; all"
        " callers have to get an error. In brackets: callers that did not get what they came for. The ideal is 1, in"
        " little more than one latency; for a failing server accredit makes up to three attempts with pauses between."
        " What is far above one latency for tasks is the time that the HTTP client's own pool needs for so many"
        " connections.",
        dict.fromkeys(_CASES, ""),
        missing=others.missing(*others.MODULES),
    )
    with BenchServer() as server:
        for name in THREADS:
            if name not in section.missing:
                _add(section, f"{name}, {_THREADS} threads", repeats, _threads(server, name))
        for name in TASKS:
            if name not in section.missing:
                _add(section, f"{name}, {_TASKS} tasks", repeats, _tasks(server, name))
    return [section]


def _add(section: Section, subject: str, repeats: int, measure: "Measure") -> None:
    row = Row(subject, {})
    for case in _CASES:
        outcomes = sorted((measure(case) for _ in range(repeats)), key=lambda outcome: outcome.token_requests)
        outcome = outcomes[-1]
        failing = case in {"wrong secret", "server fails"}
        row.cells[case] = outcome.text(failing=failing)
        row.numbers[case] = dataclasses.asdict(outcome)
        if subject.startswith("accredit"):
            what = f"token requests, {case}, {subject.removeprefix('accredit, ')}"
            limit = 3.0 if case == "server fails" else 1.0
            section.aims.append(Aim(what, limit, outcome.token_requests, "requests"))
    section.rows.append(row)


class Measure:
    """Measures one subject in one case."""

    def __init__(self, server: BenchServer) -> None:
        self.server = server

    def __call__(self, case: str) -> _Outcome:
        raise NotImplementedError

    def set_up(self, case: str) -> None:
        """Bring the server into the state for the first token."""
        self.server.set(latency=0, status=200, expires_in=_LIFETIME if case == "just expired" else 3600)

    def before_herd(self, case: str) -> None:
        """Bring it into the state in which the herd meets it."""
        status = {"wrong secret": 401, "server fails": 500}.get(case, 200)
        self.server.set(latency=_LATENCY, status=status, expires_in=3600)
        if case == "revoked":
            self.server.set(revoke=1)
        self.server.counts()

    def outcome(self, results: Counter[str], seconds: float) -> _Outcome:
        counts = self.server.counts()
        return _Outcome(counts["token"], results["200"], results["failed"], results["401"], seconds)


class _threads(Measure):  # noqa: N801 - used as a function
    def __init__(self, server: BenchServer, name: str) -> None:
        super().__init__(server)
        self._make = THREADS[name]

    def __call__(self, case: str) -> _Outcome:
        self.set_up(case)
        with self._make(self.server.token_url) as call:
            if case in {"just expired", "revoked"}:
                assert call(self.server.api_url) == 200
                time.sleep(_AGE if case == "revoked" else _LIFETIME + 0.1)
            self.before_herd(case)
            return self._herd(call)

    def _herd(self, call: Call) -> _Outcome:
        results: Counter[str] = Counter()
        barrier = threading.Barrier(_THREADS + 1)
        url = self.server.api_url

        def caller() -> None:
            barrier.wait()
            try:
                status = str(call(url))
            except Exception:
                status = "failed"
            results[status] += 1

        threads = [threading.Thread(target=caller, daemon=True) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        barrier.wait()
        start = time.perf_counter()
        for thread in threads:
            thread.join(max(0.0, start + _TIME_OUT - time.perf_counter()))
        return self.outcome(results, time.perf_counter() - start)


class _tasks(Measure):  # noqa: N801 - used as a function
    def __init__(self, server: BenchServer, name: str) -> None:
        super().__init__(server)
        self._make = TASKS[name]

    def __call__(self, case: str) -> _Outcome:
        return asyncio.run(self._run(case))

    async def _run(self, case: str) -> _Outcome:
        self.set_up(case)
        async with self._make(self.server.token_url) as call:
            if case in {"just expired", "revoked"}:
                assert await call(self.server.api_url) == 200
                await asyncio.sleep(_AGE if case == "revoked" else _LIFETIME + 0.1)
            self.before_herd(case)
            return await self._herd(call)

    async def _herd(self, call: AsyncCall) -> _Outcome:
        results: Counter[str] = Counter()

        async def caller() -> None:
            try:
                async with asyncio.timeout(_TIME_OUT):
                    status = str(await call(self.server.api_url))
            except Exception:
                status = "failed"
            results[status] += 1

        start = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(_TASKS)))
        return self.outcome(results, time.perf_counter() - start)
