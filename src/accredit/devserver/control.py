"""The switches of a running development server. Everything here runs on the event loop of the server."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from accredit.core.jose import sign_jws
from accredit.core.messages import Response
from accredit.devserver.core import Authority, json_response
from accredit.devserver.keys import new_signing_key
from accredit.devserver.log import RequestLog

#: What `garbage` can answer instead of a token: (content type, body).
GARBAGE: Final[Mapping[str, tuple[str, bytes]]] = {
    "html": ("text/html; charset=utf-8", b"<!doctype html><title>Sign in</title><form>...</form>"),
    "empty": ("application/json", b""),
    "not_json": ("application/json", b"{access_token: yes"),
    "list": ("application/json", b"[]"),
    "duplicate": ("application/json", b'{"access_token":"one","access_token":"two","token_type":"Bearer"}'),
    "no_token": ("application/json", b'{"token_type":"Bearer","expires_in":60}'),
    "control_character": ("application/json", b'{"access_token":"a\\nb","token_type":"Bearer","expires_in":60}'),
    "bad_expiry": ("application/json", b'{"access_token":"abc","token_type":"Bearer","expires_in":"soon"}'),
    "no_type": ("application/json", b'{"access_token":"abc","expires_in":60}'),
    "huge": ("application/json", b'{"access_token":"' + b"a" * (2 * 1024 * 1024) + b'","token_type":"Bearer"}'),
    "deep": ("application/json", b"[" * 100_000),
}


@dataclass(slots=True)
class Fault:
    """A planned answer instead of the real one.

    Attributes:
        response: what to answer.
        remaining: for how many requests; None until reset.
        truncate: announce the whole body, send half of it and break the connection.

    """

    response: Response
    remaining: int | None = None
    truncate: bool = False


@dataclass(slots=True)
class Control:
    """The state of the switches.

    Attributes:
        authority: the protocol core.
        admin_token: what the admin API demands.
        log: the request log.
        clock: returns seconds since the epoch.

    """

    authority: Authority
    admin_token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    log: RequestLog = field(default_factory=RequestLog)
    clock: Callable[[], float] = time.time
    _offset: float = 0.0
    _faults: dict[tuple[str, str], Fault] = field(default_factory=dict)
    _latency: dict[str, float] = field(default_factory=dict)
    _closing: asyncio.Event = field(default_factory=asyncio.Event)
    _gates: dict[str, asyncio.Event] = field(default_factory=dict)
    _waiting: dict[str, int] = field(default_factory=dict)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def now(self) -> float:
        """Return the time of the server: seconds since the epoch, plus what it was advanced by."""
        return self.clock() + self._offset

    # ---- what the applications ask --------------------------------------------------------------------------

    async def arrived(self) -> None:
        """Wake up those who wait for a number of requests."""
        async with self._changed:
            self._changed.notify_all()

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
        seconds = self._latency.get(f"client:{client_id}", self._latency.get(server, 0.0))
        return here and (seconds <= 0 or await _first(self._closing.wait(), gone(), seconds))

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
        return await result if isinstance(result, Awaitable) else result

    def do_set_token_lifetime(self, *, seconds: int | None) -> None:
        """Set the lifetime of tokens issued from now on; None for the configured one."""
        self.authority.token_lifetime = seconds

    def do_set_latency(self, *, seconds: float, client_id: str | None, server: str) -> None:
        """Set the delay of answers: of the token endpoint (server ``as``), of one client there, or of the API."""
        self._latency[server if client_id is None else f"client:{client_id}"] = float(seconds)

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
        if body is not None:
            raw = body.encode()
            response = Response(status, (("content-length", str(len(raw))),), raw)
        elif error is not None or status >= 400:
            response = json_response(status, {"error": error or "server_error"}, ("cache-control", "no-store"))
        else:
            response = Response(status, (("content-length", "0"),))
        extra = [(name.lower(), value) for name, value in headers]
        if retry_after is not None:
            extra.append(("retry-after", retry_after))
        self._plan(server, path, dataclasses.replace(response, headers=(*response.headers, *extra)), times, truncate)

    def do_garbage(self, *, kind: str, path: str, times: int | None) -> None:
        """Answer 200 with nonsense."""
        content_type, body = GARBAGE[kind]
        headers = (("content-type", content_type), ("content-length", str(len(body))))
        self._plan("as", path, Response(200, headers, body), times, truncate=False)

    def _plan(self, server: str, path: str, response: Response, times: int | None, truncate: bool) -> None:  # noqa: FBT001
        if times is not None and times < 1:
            self._faults.pop((server, path), None)
        else:
            self._faults[server, path] = Fault(response, times, truncate)

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
        key = new_signing_key()
        self.authority.rotate(key, forget_old=forget_old)
        return key.kid or ""

    def do_advance_clock(self, *, seconds: float) -> float:
        """Move the clock of the server and the API; return the new time."""
        self._offset += float(seconds)
        return self.now()

    def do_hold(self, *, server: str) -> None:
        """Hold the requests that arrive from now on."""
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
        return sign_jws(json.dumps(claims).encode(), self.authority.keys[0], header=header)

    def do_signing_keys(self) -> list[dict[str, str]]:
        """Return the published keys."""
        return [dict(key.public_jwk) for key in self.authority.keys]


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
