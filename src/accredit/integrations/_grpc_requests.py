"""The requests of a call, as something that may have to be sent a second time."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any

__all__ = ["AsyncStream", "Requests", "Single", "requests_of", "requests_of_async"]


class Requests(ABC):
    """What the attempts of one call send."""

    def close(self) -> None:  # noqa: B027 - as a rule there is nothing to do
        """Let go of what no attempt will send."""

    @abstractmethod
    def begin(self) -> Any:
        """Return what the next attempt is to send."""

    @abstractmethod
    def end(self) -> bool:
        """End the attempt before; tell whether another one would send the very same."""


class Single(Requests):
    """One request, or an object that gives a new iterator each time: it can be sent as often as one likes."""

    def __init__(self, request: Any, *, iterate: bool = False) -> None:
        """Take the request."""
        self._request = request
        self._iterate = iterate

    def begin(self) -> Any:
        """Return the request, or a new iterator."""
        return iter(self._request) if self._iterate else self._request

    def end(self) -> bool:
        """Return True."""
        return True


class _Stream(Requests):
    """An iterator: it can be handed to another attempt as long as nothing was taken from it.

    gRPC takes requests on a thread of its own, which may be waiting for the first one when the attempt ends. What it
    gets then belongs to the next attempt.
    """

    def __init__(self, requests: Iterator[Any]) -> None:
        """Take the iterator."""
        self._requests = requests
        self._turn: object | None = None
        self._taken = False
        self._left: list[Any] = []
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._pull = threading.Lock()  # held while the iterator runs: it can only run once at a time

    def begin(self) -> Iterator[Any]:
        turn = object()
        self._turn = turn
        return self._requests_of_turn(turn)

    def end(self) -> bool:
        with self._lock:
            self._turn = None
            return not self._taken

    def _requests_of_turn(self, turn: object) -> Iterator[Any]:
        with self._pull:
            if not self._left and self._failure is None:
                try:
                    self._left.extend(islice(self._requests, 1))
                except BaseException as error:
                    self._failure = error
            with self._lock:
                if self._turn is not turn:
                    return
                self._taken = True
        if self._failure is not None:
            raise self._failure
        yield from self._left
        yield from self._requests


def requests_of(requests: Any) -> Requests:
    """Return the requests of a call on a synchronous channel."""
    iterator = iter(requests)
    return _Stream(iterator) if iterator is requests else Single(requests, iterate=True)


class AsyncStream(Requests):
    """The same for asyncio, where a task of gRPC's takes the requests."""

    def __init__(self, requests: Any) -> None:
        """Take an iterator, asynchronous or not."""
        self._requests: AsyncIterator[Any] = requests if hasattr(requests, "__anext__") else _as_async(requests)
        self._turn: object | None = None
        self._taken = False
        self._first: asyncio.Task[Any] | None = None

    def begin(self) -> AsyncIterator[Any]:
        """Return what the next attempt is to send."""
        turn = object()
        self._turn = turn
        return self._requests_of_turn(turn)

    def end(self) -> bool:
        """End the attempt before; tell whether nothing was taken yet."""
        self._turn = None
        return not self._taken

    def close(self) -> None:
        """Stop waiting for the first request, if nobody will send it."""
        first = self._first
        if first is not None and not self._taken and not first.cancel() and not first.cancelled():
            first.exception()  # looked at, so that nobody is told that it was not

    async def _requests_of_turn(self, turn: object) -> AsyncIterator[Any]:
        if self._first is None:
            self._first = asyncio.ensure_future(_next(self._requests))
        # Not awaited as such: the end of this attempt must not end the iterator.
        try:
            await asyncio.wait({self._first})
        except BaseException:
            if self._turn is turn:  # the call was cancelled
                self._first.cancel()
            raise
        if self._turn is not turn:
            return
        self._taken = True
        found, request = self._first.result()
        if not found:
            return
        yield request
        async for request in self._requests:
            yield request


def requests_of_async(requests: Any) -> Requests:
    """Return the requests of a call on an asynchronous channel."""
    if hasattr(requests, "__aiter__"):
        iterator = aiter(requests)
        return AsyncStream(iterator) if iterator is requests else Single(requests)
    iterator = iter(requests)
    return AsyncStream(iterator) if iterator is requests else Single(requests)


async def _next(requests: AsyncIterator[Any]) -> tuple[bool, Any]:
    async for request in requests:
        return True, request
    return False, None


async def _as_async(requests: Iterator[Any]) -> AsyncIterator[Any]:
    for request in requests:
        yield request
