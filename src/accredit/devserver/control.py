"""The switches of a running development server. Everything here runs on the event loop of the server."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from accredit.core.access_token import LAST_SECOND
from accredit.core.jose import sign_jws
from accredit.devserver.core import Authority
from accredit.devserver.faults import GARBAGE, Fault, checked_seconds, make_fault
from accredit.devserver.keys import new_signing_key
from accredit.devserver.log import RequestLog
from accredit.devserver.state import StateFile

__all__ = ["GARBAGE", "Control", "Fault", "Note", "encode"]

#: Commands that change nothing which the page shows.
_READS: Final = frozenset(
    {
        "requests", "count", "waiting", "wait_for_waiting", "wait_for_requests", "wait_for_page", "signing_keys",
        "sign",
    }
)  # fmt: skip
#: A century: times stay within what a token can say.
_MAX_OFFSET: Final = 100 * 366 * 86400.0

_MAX_NOTES: Final = 20
_MAX_NOTE: Final = 2000


@dataclass(frozen=True, slots=True)
class Note:
    """What whoever uses the server has to say on its page.

    Attributes:
        title: a few words.
        text: a sentence.
        items: (whether it is good, None when that is open; a sentence) pairs.

    """

    title: str
    text: str
    items: tuple[tuple[bool | None, str], ...] = ()


@dataclass(slots=True)
class Control:
    """The state of the switches.

    Attributes:
        authority: the protocol core.
        admin_token: what the admin API demands.
        log: the request log.
        clock: returns seconds since the epoch.
        state: the file that survives a restart, or None.
        page_key: what opens the page in a browser.
        notes: what is said on the page, by its key.
        version: grows with whatever the page shows.

    """

    authority: Authority
    admin_token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    log: RequestLog = field(default_factory=RequestLog)
    clock: Callable[[], float] = time.time
    state: StateFile | None = None
    page_key: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    notes: dict[str, Note] = field(default_factory=dict)
    version: int = 0
    _offset: float = 0.0
    _page_seen: asyncio.Event = field(default_factory=asyncio.Event)
    _faults: dict[tuple[str, str], Fault] = field(default_factory=dict)
    _latency: dict[str, float] = field(default_factory=dict)
    _closing: asyncio.Event = field(default_factory=asyncio.Event)
    _gates: dict[str, asyncio.Event] = field(default_factory=dict)
    _waiting: dict[str, int] = field(default_factory=dict)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def now(self) -> float:
        """Return the time of the server: seconds since the epoch, plus what it was advanced by."""
        return self.clock() + self._offset

    @property
    def offset(self) -> float:
        """By how many seconds the clock was advanced."""
        return self._offset

    @property
    def faults(self) -> dict[tuple[str, str], Fault]:
        """The planned faults by server and path."""
        return self._faults

    @property
    def latencies(self) -> dict[str, float]:
        """The delays in seconds: of ``as``, ``api``, and ``client:ID``."""
        return {place: seconds for place, seconds in self._latency.items() if seconds > 0}

    def held(self) -> list[str]:
        """Return at which servers requests are held: ``as``, ``api``."""
        return [server for server, gate in self._gates.items() if not gate.is_set()]

    @property
    def closing(self) -> bool:
        """Whether the server stops."""
        return self._closing.is_set()

    # ---- what the applications ask --------------------------------------------------------------------------

    async def arrived(self) -> None:
        """Wake up those who wait for a number of requests, or for anything new on the page."""
        async with self._changed:
            self.version += 1
            self._changed.notify_all()

    def commit(self) -> bool:
        """Write what has to survive a restart; return False when it could not be written."""
        return self.state is None or self.state.flush()

    async def pause(self, seconds: float) -> None:
        """Wait that long (seconds), or until the server stops."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass

    async def news(self, version: int, seconds: float) -> int:
        """Return the version once it is beyond ``version``, or after that many seconds, or when the server stops."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self.version > version or self.closing)
        except TimeoutError:
            pass
        return self.version

    def page_opened(self) -> None:
        """Take note that somebody looks at the page."""
        self._page_seen.set()

    async def detain(self, server: str, client_id: str | None, gone: Callable[[], Awaitable[None]]) -> bool:
        """Hold a request at the gate, then for the latency; other requests go on.

        Args:
            server: ``as`` or ``api``.
            client_id: whose latency counts, if it has its own.
            gone: returns when the client has closed the connection.

        Returns:
            Whether the client is still there.

        """
        gate = self._gates.get(server)
        here = True
        if gate is not None and not gate.is_set():
            self._waiting[server] = self._waiting.get(server, 0) + 1
            await self.arrived()
            try:
                here = await _first(gate.wait(), gone(), None)
            finally:
                self._waiting[server] -= 1
                await self.arrived()
        return here and await self.delay(self._latency.get(f"client:{client_id}", self._latency.get(server, 0.0)), gone)

    async def delay(self, seconds: float, gone: Callable[[], Awaitable[None]]) -> bool:
        """Wait that long (seconds), or until the server stops; return whether the client is still there."""
        return seconds <= 0 or await _first(self._closing.wait(), gone(), seconds)

    def fault(self, server: str, path: str) -> Fault | None:
        """Take the planned fault for this request, if there is one."""
        for key in ((server, path), (server, "*")):
            fault = self._faults.get(key)
            if fault is None:
                continue
            if fault.remaining is not None:
                fault.remaining -= 1
                if fault.remaining <= 0:
                    del self._faults[key]
            return fault
        return None

    def close(self) -> None:
        """Let everybody go, because the server stops."""
        self._closing.set()
        for gate in self._gates.values():
            gate.set()
        if self.state is not None:
            self.state.flush()

    # ---- commands: each is a method `do_NAME` with JSON arguments and a JSON result --------------------------

    async def command(self, name: str, arguments: Mapping[str, Any]) -> object:
        """Run a command.

        Raises:
            LookupError: there is no such command.
            TypeError, ValueError: wrong arguments.

        """
        method: Callable[..., Awaitable[object] | object] | None = getattr(self, f"do_{name}", None)
        if method is None:
            raise LookupError(name)
        result = method(**arguments)
        result = await result if isinstance(result, Awaitable) else result
        if not self.commit():
            msg = "the state file cannot be written"
            raise ValueError(msg)
        if name not in _READS:
            await self.arrived()
        return result

    def do_set_token_lifetime(self, *, seconds: int | None) -> None:
        """Set the lifetime of tokens issued from now on; None for the configured one."""
        if seconds is not None and (type(seconds) is not int or not 1 <= seconds <= _MAX_OFFSET):
            msg = "a lifetime is a whole number of seconds, at least 1, or null"
            raise ValueError(msg)
        self.authority.token_lifetime = seconds

    def do_set_latency(self, *, seconds: float, client_id: str | None, server: str) -> None:
        """Set the delay of answers: of the token endpoint (server ``as``), of one client there, or of the API."""
        _check_side(server)
        self._latency[server if client_id is None else f"client:{client_id}"] = checked_seconds("latency", seconds)

    def do_fail(
        self,
        *,
        server: str,
        path: str,
        status: int,
        error: str | None,
        retry_after: str | None,
        headers: list[list[str]],
        body: str | None,
        truncate: bool,
        times: int | None,
    ) -> None:
        """Plan a fault for one path, or for ``*``."""
        fault = make_fault(
            status=status,
            error=error,
            retry_after=retry_after,
            headers=headers,
            body=body,
            truncate=truncate,
            times=times,
        )
        self._plan(server, path, fault)

    def do_garbage(self, *, kind: str, path: str, times: int | None) -> None:
        """Answer 200 with nonsense."""
        self._plan("as", path, make_fault(garbage=kind, times=times))

    def do_inject(self, *, server: str, path: str, **plan: Any) -> None:
        """Plan a fault of any kind for one path, or for ``*``."""
        self._plan(server, path, make_fault(**plan))

    def _plan(self, server: str, path: str, fault: Fault) -> None:
        _check_side(server)
        if fault.remaining is not None and fault.remaining < 1:
            self._faults.pop((server, path), None)
        else:
            self._faults[server, path] = fault

    def do_recover(self) -> None:
        """End every fault and latency."""
        self._faults.clear()
        self._latency.clear()

    def do_set_issuing(self, *, omit_expires_in: bool | None, omit_scope: bool | None, same_token: bool | None) -> None:
        """Change how tokens are issued; None leaves a switch as it is."""
        if omit_expires_in is not None:
            self.authority.omit_expires_in = omit_expires_in
        if omit_scope is not None:
            self.authority.omit_scope = omit_scope
        if same_token is not None:
            self.authority.same_token = same_token

    def do_revoke_client(self, *, client_id: str) -> None:
        """Revoke every token of the client so far."""
        self.authority.revoke_client(client_id)

    def do_revoke_token_id(self, *, token_id: str) -> None:
        """Revoke one token by its ``jti``."""
        self.authority.revoke_token_id(token_id)

    def do_rotate_key(self, *, forget_old: bool) -> str:
        """Sign with a new key; return its key id."""
        if type(forget_old) is not bool:
            msg = "forget_old must be true or false"
            raise ValueError(msg)
        return self.authority.rotate(new_signing_key(), forget_old=forget_old).kid or ""

    def do_stage_key(self) -> str:
        """Publish the next key ahead of its use; return its key id."""
        self.authority.ring.stage(new_signing_key())
        return next(entry.key.kid or "" for entry in self.authority.ring.entries if entry.role == "next")

    def do_advance_clock(self, *, seconds: float) -> float:
        """Move the clock of the server and the API; return the new time."""
        # Before it is turned into a float: not every whole number can be.
        bearable = type(seconds) in {int, float} and abs(seconds) <= 2 * _MAX_OFFSET
        offset = self._offset + float(seconds) if bearable else math.inf
        if not abs(offset) <= _MAX_OFFSET:
            msg = "the clock cannot be moved that far"
            raise ValueError(msg)
        self.set_offset(offset)
        return self.now()

    def do_reset_clock(self) -> float:
        """Put the clock right; return the time."""
        self.set_offset(0.0)
        return self.now()

    def set_offset(self, seconds: float) -> None:
        """Set by how much the clock is ahead, in seconds."""
        self._offset = seconds
        self.authority.record("setting", "clock_offset", seconds)

    def do_note(self, *, key: str, title: str, text: str, items: list[list[Any]]) -> None:
        """Say something on the page; the same key replaces what was said."""
        said = tuple((None if good is None else bool(good), str(line)[:_MAX_NOTE]) for good, line in items[:100])
        self.notes[str(key)[:100]] = Note(str(title)[:200], str(text)[:_MAX_NOTE], said)
        while len(self.notes) > _MAX_NOTES:
            del self.notes[next(iter(self.notes))]

    async def do_wait_for_page(self, *, timeout: float) -> bool:  # noqa: ASYNC109
        """Return whether somebody has looked at the page, at the latest after ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._page_seen.wait()
        except TimeoutError:
            pass
        return self._page_seen.is_set()

    def do_hold(self, *, server: str) -> None:
        """Hold the requests that arrive from now on."""
        _check_side(server)
        if server not in self._gates or self._gates[server].is_set():
            self._gates[server] = asyncio.Event()

    def do_release(self, *, server: str) -> None:
        """Let the held requests go, and hold no more."""
        gate = self._gates.pop(server, None)
        if gate is not None:
            gate.set()

    def do_waiting(self, *, server: str) -> int:
        """Return how many requests are held now."""
        return self._waiting.get(server, 0)

    async def do_wait_for_waiting(self, *, server: str, number: int, timeout: float) -> int:  # noqa: ASYNC109
        """Return the number of held requests once it has reached ``number``, or after ``timeout`` seconds."""
        return await self._until(lambda: self.do_waiting(server=server), number, timeout)

    async def do_wait_for_requests(self, *, path: str | None, server: str | None, number: int, timeout: float) -> int:  # noqa: ASYNC109
        """Return the number of requests once it has reached ``number``, or after ``timeout`` seconds."""
        return await self._until(lambda: self.log.count(path, server=server), number, timeout)

    async def _until(self, measure: Callable[[], int], number: int, seconds: float) -> int:
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: measure() >= number)
        except TimeoutError:
            pass
        return measure()

    def do_requests(self, *, path: str | None, server: str | None, client_id: str | None) -> list[dict[str, object]]:
        """Return the log entries that match."""
        entries = self.log.entries(path, server=server, client_id=client_id)
        return [dataclasses.asdict(entry) for entry in entries]

    def do_count(self, *, path: str | None, server: str | None, client_id: str | None) -> int:
        """Return how many requests match."""
        return self.log.count(path, server=server, client_id=client_id)

    def do_clear_log(self) -> None:
        """Forget the log."""
        self.log.clear()

    def do_sign(self, *, claims: Mapping[str, object], header: Mapping[str, object]) -> str:
        """Sign any claims with the current key, for tests of what an API accepts."""
        token = sign_jws(json.dumps(claims).encode(), self.authority.keys[0], header=header)
        expires_at = claims.get("exp")
        if isinstance(expires_at, int | float) and not isinstance(expires_at, bool) and expires_at <= LAST_SECOND:
            # As a token that was issued does, it keeps its key published for as long as it lives.
            self.authority.ring.signed(expires_at)
        return token

    def do_signing_keys(self) -> list[dict[str, str]]:
        """Return the published keys."""
        return [dict(key.public_jwk) for key in self.authority.keys]


def _check_side(server: str) -> None:
    # A typing error must not become a switch that nothing heeds.
    if server not in {"as", "api"}:
        msg = "server must be 'as' or 'api'"
        raise ValueError(msg)


async def _first(event: Coroutine[Any, Any, object], gone: Awaitable[None], seconds: float | None) -> bool:
    """Wait for the event or that long (seconds); return whether the client stayed."""
    leaving = asyncio.ensure_future(gone)
    waiting = asyncio.ensure_future(event)
    try:
        done, _ = await asyncio.wait({waiting, leaving}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return leaving not in done
    finally:
        waiting.cancel()
        leaving.cancel()


def encode(value: object) -> bytes:
    """Return the JSON form of a command's result."""
    return json.dumps(value).encode()
