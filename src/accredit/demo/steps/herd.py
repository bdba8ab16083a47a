"""A hundred callers at once, threads and tasks, while there is no token yet."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

import httpx2

from accredit.clock import SystemClock
from accredit.demo.report import Kind, Report, Row, duration, plural
from accredit.demo.stage import Stage
from accredit.manager import TokenManager

HALF: Final = 50
LATENCY: Final = 0.3
_PATIENCE: Final = 20.0


class Herd:
    """The callers. Each says when it sets off and how it went.

    Attributes:
        threads: how it went for each thread.
        tasks: how it went for each task.

    """

    def __init__(self, stage: Stage) -> None:
        """Make the callers; none sets off."""
        self._stage = stage
        self._lock = threading.Lock()
        self._under_way = 0
        self._all = threading.Event()
        self.threads: list[Kind] = ["none"] * HALF
        self.tasks: list[Kind] = ["none"] * HALF
        self.answer: Kind = "none"

    def set_off(self, group: list[Kind], number: int) -> None:
        """Take note that a caller is about to ask."""
        with self._lock:
            group[number] = "wait"
            self._under_way += 1
            if self._under_way == 2 * HALF:
                self._all.set()

    def arrived(self, group: list[Kind], number: int, response: httpx2.Response | None) -> None:
        """Take note of how it went; None when the call raised."""
        ok = response is not None and self._stage.saw(response).status == 200
        with self._lock:
            group[number] = "ok" if ok else "bad"

    def wait_until_all_are_under_way(self) -> None:
        """Wait for the last caller to set off."""
        self._all.wait(_PATIENCE)

    def count(self, kind: Kind) -> int:
        """Return how many callers are in that state."""
        with self._lock:
            return self.threads.count(kind) + self.tasks.count(kind)

    def rows(self) -> Sequence[Row]:
        """Return the picture as of now."""
        with self._lock:
            return (
                Row("threads", tuple(self.threads)),
                Row("tasks", tuple(self.tasks)),
                Row("token", (self.answer,)),
            )


def play(stage: Stage, report: Report) -> None:
    """Hold the token endpoint until all hundred wait, then let it take its time, and count."""
    callers = Herd(stage)
    report.picture = callers.rows
    now = SystemClock().now
    with ExitStack() as stack:
        shared = stack.enter_context(stage.manager())

        def manager() -> TokenManager:
            # The planted failure: what happens without an engine that all callers share.
            return stack.enter_context(stage.manager()) if stage.sabotage == "herd" else shared

        # All managers are made before the first caller starts: the stack of contexts is not for many threads.
        sync_auth = [stage.auth(manager()) for _ in range(HALF)]
        async_auth = [stage.auth(manager()) for _ in range(HALF)]
        client = stack.enter_context(stage.client(shared))
        stage.server.hold()
        workers = [
            threading.Thread(target=_call, args=(callers, client, number, auth), daemon=True)
            for number, auth in enumerate(sync_auth)
        ]
        workers.append(threading.Thread(target=_run_tasks, args=(callers, stage, async_auth), daemon=True))
        for worker in workers:
            worker.start()
        callers.wait_until_all_are_under_way()
        stage.server.wait_for_waiting(1)
        callers.answer = "held"
        waiting = callers.count("wait")
        stage.server.set_latency(LATENCY)
        began = now()
        stage.server.release()
        for worker in workers:
            worker.join(_PATIENCE)
        took = now() - began
    counts = stage.counts()
    requests = len(counts.token_requests)
    callers.answer = "first" if requests == 1 else "bad"
    report.note("took", f"{duration(took)} for all of them, of which the token {duration(LATENCY)}")
    report.all_of(waiting, 2 * HALF, "callers waited for a token at the same time")
    report.equal(requests, 1, plural(requests, "token request"))
    report.all_of(callers.count("ok"), 2 * HALF, "calls answered 200")
    report.equal(len(counts.api), 2 * HALF, "calls reached the API")
    stage.cross_check(counts, report)


def _call(callers: Herd, client: httpx2.Client, number: int, auth: httpx2.Auth) -> None:
    callers.set_off(callers.threads, number)
    response = None
    try:
        response = client.get("/orders", auth=auth)
    except Exception:
        # It shows as a red dot and in the counts; a hundred texts would show no more.
        response = None
    callers.arrived(callers.threads, number, response)


def _run_tasks(callers: Herd, stage: Stage, auths: Sequence[httpx2.Auth]) -> None:
    async def call(client: httpx2.AsyncClient, number: int, auth: httpx2.Auth) -> None:
        callers.set_off(callers.tasks, number)
        response = None
        try:
            response = await client.get("/orders", auth=auth)
        except Exception:
            response = None
        callers.arrived(callers.tasks, number, response)

    async def all_of_them() -> None:
        async with httpx2.AsyncClient(base_url=stage.server.api_url, trust_env=False, timeout=30) as client:
            await asyncio.gather(*(call(client, number, auth) for number, auth in enumerate(auths)))

    asyncio.run(all_of_them())
