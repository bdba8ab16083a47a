"""The request log of the development server: what was asked, never a secret or a token."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

MAX_ENTRIES: Final = 10_000
_MAX_RECENT: Final = 200


@dataclass(slots=True)
class LogEntry:
    """One request.

    Attributes:
        time: when it arrived, seconds since the epoch on the clock of the server.
        server: ``"as"`` (authorization server) or ``"api"`` (protected API).
        method: HTTP method.
        path: without query.
        client_id: the known client it claims to come from (authorization server) or whose valid token it carried (API).
        grant: ``grant_type``, when it is a known one.
        parameters: the names of the form parameters.
        token_id: the ``jti`` of the token that was issued or accepted.
        status: the status that was answered; None while it is not, and when the connection was closed instead.
        error: the error code that was answered, or None.
        fault: the fault that was injected, in a few words, or None.

    """

    time: float
    server: str
    method: str
    path: str
    client_id: str | None = None
    grant: str | None = None
    parameters: tuple[str, ...] = ()
    token_id: str | None = None
    status: int | None = None
    error: str | None = None
    fault: str | None = None

    def json_line(self) -> str:
        """Return it as one line of JSON, in ASCII and without a line break."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))


@dataclass(slots=True)
class RequestLog:
    """The last 10,000 requests, and how many there were of each path.

    Attributes:
        recent: the last 200 requests with their serial numbers, whether or not the log was cleared: for the page.
        arrived: how many requests there ever were.
        on_end: called with each entry when its request has come to its end.

    """

    recent: deque[tuple[int, LogEntry]] = field(default_factory=lambda: deque(maxlen=_MAX_RECENT))
    arrived: int = 0
    on_end: Callable[[LogEntry], None] | None = None
    _entries: deque[LogEntry] = field(default_factory=lambda: deque(maxlen=MAX_ENTRIES))
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, entry: LogEntry) -> LogEntry:
        """Keep an entry; the oldest goes when there are too many."""
        self._entries.append(entry)
        self.arrived += 1
        self.recent.append((self.arrived, entry))
        if (entry.server, entry.path) in self._counts or len(self._counts) < MAX_ENTRIES:
            self._counts[entry.server, entry.path] += 1
        return entry

    def end(self, entry: LogEntry) -> None:
        """Take note that a request has come to its end."""
        if self.on_end is not None:
            self.on_end(entry)

    def entries(
        self, path: str | None = None, *, server: str | None = None, client_id: str | None = None
    ) -> list[LogEntry]:
        """Return the entries that match, oldest first."""
        return [
            entry
            for entry in self._entries
            if path in {None, entry.path} and server in {None, entry.server} and client_id in {None, entry.client_id}
        ]

    def count(self, path: str | None = None, *, server: str | None = None, client_id: str | None = None) -> int:
        """Return how many requests arrived; beyond 10,000 exactly only without ``client_id``."""
        if client_id is not None:
            return len(self.entries(path, server=server, client_id=client_id))
        return sum(
            number for (where, what), number in self._counts.items() if path in {None, what} and server in {None, where}
        )

    def clear(self) -> None:
        """Forget everything but what the page shows."""
        self._entries.clear()
        self._counts.clear()
