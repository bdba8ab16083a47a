"""Client calls without end: threads and tasks of several libraries that share one manager."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import httpx
import httpx2
import requests

from accredit import TokenManager
from accredit.integrations import aiohttp as for_aiohttp
from accredit.integrations import httpx2 as for_httpx2
from accredit.integrations import requests as for_requests

PATIENCE = 60.0
_CLIENT_SECONDS = 30.0


class Call(NamedTuple):
    """One call that is over.

    Attributes:
        worker: who made it.
        began: when it began, on the clock of the manager.
        ended: when it ended.
        outcome: the status, or the name of the error's type.

    """

    worker: str
    began: float
    ended: float
    outcome: str


@dataclass
class Load:
    """Workers that call one URL, over and over, between :meth:`go` and :meth:`halt`.

    Attributes:
        manager: the manager that all of them share.
        url: what is called.
        pace: seconds between the calls of one worker; 0 for none.
        threads: workers that are threads, by the library.
        tasks: workers that are tasks of one event loop, by the library.

    """

    manager: TokenManager
    url: str
    pace: float = 0.0
    threads: Sequence[str] = ("requests", "requests", "httpx2", "httpx2", "plain")
    tasks: Sequence[str] = ("aiohttp", "aiohttp", "aiohttp", "httpx2", "httpx2", "httpx2")
    calls: list[Call] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._lock = threading.Condition()
        self._running = False
        self._over = False
        self._idle = 0
        self._counts: Counter[tuple[str, str]] = Counter()
        self._names = [f"{name}-thread-{number}" for number, name in enumerate(self.threads)]
        self._task_names = [f"{name}-task-{number}" for number, name in enumerate(self.tasks)]
        self._started = [
            *(threading.Thread(target=self._thread, args=(name,), daemon=True) for name in self._names),
            threading.Thread(target=lambda: asyncio.run(self._loop()), daemon=True),
        ]
        for thread in self._started:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._over = True
            self._lock.notify_all()
        for thread in self._started:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    @property
    def workers(self) -> int:
        """How many there are."""
        return len(self.threads) + len(self.tasks)

    def go(self) -> None:
        """Let them call."""
        with self._lock:
            self._running = True
            self._lock.notify_all()

    def halt(self) -> None:
        """Return when no call is under way and none begins any more."""
        with self._lock:
            self._running = False
            assert self._lock.wait_for(lambda: self._idle == self.workers, PATIENCE), "a call did not end"

    def until_each_has(self, number: int, outcome: Callable[[str], bool] = lambda _: True) -> list[Call]:
        """Let them call until each has made so many more calls with such an outcome; return all that ended."""
        with self._lock:
            first = len(self.calls)
            before = self._counts.copy()
        self.go()

        def done() -> bool:
            found: Counter[str] = Counter()
            for (worker, what), count in self._counts.items():
                if outcome(what):
                    found[worker] += count - before[worker, what]
            return len(found) == self.workers and min(found.values()) >= number

        with self._lock:
            reached = self._lock.wait_for(done, PATIENCE)
        self.halt()
        assert reached, f"not reached: {Counter(call.outcome for call in self.calls[first:])}"
        return self.calls[first:]

    # -- workers ---------------------------------------------------------------------------------------------

    def _note(self, worker: str, began: float, outcome: str) -> None:
        with self._lock:
            self.calls.append(Call(worker, began, self.manager._now(), outcome))
            self._counts[worker, outcome] += 1
            self._lock.notify_all()

    def _thread(self, name: str) -> None:
        with ExitStack() as stack:
            call = _CALLS[name.partition("-")[0]](stack, self.manager)
            while self._may_go():
                began = self.manager._now()
                try:
                    outcome = str(call(self.url))
                except Exception as error:
                    outcome = type(error).__name__
                self._note(name, began, outcome)

    def _may_go(self) -> bool:
        """Wait until a call may begin; False when all is over."""
        with self._lock:
            if self.pace and self._running and not self._over:
                # Out at once when something changes.
                self._lock.wait_for(lambda: self._over or not self._running, self.pace)
            if not self._running and not self._over:
                self._idle += 1
                self._lock.notify_all()
                self._lock.wait_for(lambda: self._running or self._over)
                self._idle -= 1
            return not self._over

    async def _loop(self) -> None:
        # The gate is for threads: a thread of the pool waits at it for each task, which no other task notices.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * len(self.tasks) + 4))
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for name in self._task_names:
                call = await _ASYNC_CALLS[name.partition("-")[0]](stack, self.manager)
                group.create_task(self._task(name, call))

    async def _task(self, name: str, call: Callable[[str], Awaitable[int]]) -> None:
        while await self._task_may_go():
            began = self.manager._now()
            try:
                outcome = str(await call(self.url))
            except Exception as error:
                outcome = type(error).__name__
            self._note(name, began, outcome)

    async def _task_may_go(self) -> bool:
        if self.pace or not self._running or self._over:
            return await asyncio.to_thread(self._may_go)
        await asyncio.sleep(0)
        return True


def _plain(stack: ExitStack, manager: TokenManager) -> Callable[[str], int]:
    client = stack.enter_context(httpx.Client(timeout=_CLIENT_SECONDS, trust_env=False))
    return lambda url: int(client.get(url, headers=manager.headers()).status_code)


def _requests(stack: ExitStack, manager: TokenManager) -> Callable[[str], int]:
    session = stack.enter_context(requests.Session())
    session.auth = for_requests.AccreditAuth(manager)
    session.trust_env = False
    return lambda url: int(session.get(url, timeout=_CLIENT_SECONDS).status_code)


def _httpx2(stack: ExitStack, manager: TokenManager) -> Callable[[str], int]:
    auth = for_httpx2.AccreditAuth(manager)
    client = stack.enter_context(httpx2.Client(auth=auth, timeout=_CLIENT_SECONDS, trust_env=False))
    return lambda url: int(client.get(url).status_code)


async def _aiohttp(stack: AsyncExitStack, manager: TokenManager) -> Callable[[str], Awaitable[int]]:
    attach = for_aiohttp.AccreditMiddleware(manager)
    session = await stack.enter_async_context(aiohttp.ClientSession(middlewares=(attach,)))

    async def call(url: str) -> int:
        async with session.get(url) as answer:
            await answer.read()
            return answer.status

    return call


async def _httpx2_async(stack: AsyncExitStack, manager: TokenManager) -> Callable[[str], Awaitable[int]]:
    auth = for_httpx2.AccreditAuth(manager)
    client = await stack.enter_async_context(httpx2.AsyncClient(auth=auth, timeout=_CLIENT_SECONDS, trust_env=False))

    async def call(url: str) -> int:
        return int((await client.get(url)).status_code)

    return call


_CALLS: dict[str, Callable[[ExitStack, TokenManager], Callable[[str], int]]] = {
    "plain": _plain,
    "requests": _requests,
    "httpx2": _httpx2,
}
_ASYNC_CALLS: dict[str, Any] = {"aiohttp": _aiohttp, "httpx2": _httpx2_async}


def failures(calls: Sequence[Call]) -> Iterator[Call]:
    """Give the calls that were not answered 200."""
    return (call for call in calls if call.outcome != "200")
