"""What a fresh token costs, without any HTTP library."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks import others
from benchmarks.fake import TOKEN, TOKEN_ENDPOINT, fresh_manager
from benchmarks.measure import Timed, interleaved, over, repeated, scaled
from benchmarks.model import Effort, Row, Section

_NAMES = ("Authlib (httpx2)", "httpx-auth", "MSAL")


class _Static:
    """The floor: an attribute, a look at the clock, and a ready-made header."""

    def __init__(self) -> None:
        self.header = f"Bearer {TOKEN}"
        self.renew_at = time.monotonic() + 36_000.0

    def get(self) -> str:
        if time.monotonic() < self.renew_at:
            return self.header
        raise AssertionError

    async def get_async(self) -> str:
        if time.monotonic() < self.renew_at:
            return self.header
        raise AssertionError


def run(effort: Effort) -> list[Section]:
    static = _Static()
    manager = fresh_manager()
    face = manager.asynchronous()
    subjects: dict[str, Timed] = {
        "floor": repeated(static.get),
        "accredit": repeated(lambda: manager.get().authorization),
        "floor, async": _awaited(static.get_async),
        "accredit, async": _awaited(face.get),
        **_others(),
    }
    # The lambda of the one above costs as much as a call.
    subjects["accredit"] = repeated(manager.get)
    samples = interleaved(subjects, rounds=effort.of(40, 10), number=effort.of(10_000, 2_000))
    section = Section(
        "fresh",
        "A fresh token, without an HTTP library",
        "CPU time of one call that finds a fresh token: `manager.get()`, `await manager.get()`. The floor is a method"
        " that compares an attribute with the clock and returns a ready-made header. For the others, the call that"
        " their own clients make to find a fresh token.",
        {"one call": "ns", "to the floor": "ratio"},
        missing=others.missing(*_NAMES),
    )
    for name in subjects:
        base = samples["floor, async" if name.endswith("async") else "floor"]
        ratio = scaled(over(samples[name], base), 1)
        section.rows.append(Row(name, {"one call": scaled(samples[name], 1e9), "to the floor": ratio}))
    manager.close()
    return [section]


def _awaited(function: Callable[[], Awaitable[object]]) -> Timed:
    async def laps(number: int) -> float:
        rounds = [None] * number
        start = time.process_time_ns()
        for _ in rounds:
            await function()
        return (time.process_time_ns() - start) / number / 1e9

    return lambda number: asyncio.run(laps(number))


def _others() -> dict[str, Timed]:
    found: dict[str, Timed] = {}
    authlib = others.module("Authlib (httpx2)")
    if authlib is not None:
        token = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}
        settings: dict[str, Any] = {
            "token": token,
            "token_endpoint": TOKEN_ENDPOINT,
            "grant_type": "client_credentials",
        }
        client = authlib.OAuth2Client("orders-worker", "secret", **settings)
        found["Authlib (httpx2)"] = repeated(lambda: client.ensure_active_token(client.token))
        tasks = authlib.AsyncOAuth2Client("orders-worker", "secret", **settings)
        found["Authlib (httpx2), async"] = _awaited(lambda: tasks.ensure_active_token(tasks.token))
    httpx_auth = others.module("httpx-auth")
    if httpx_auth is not None:
        from httpx_auth._oauth2.common import OAuth2

        auth = httpx_auth.OAuth2ClientCredentials(TOKEN_ENDPOINT, "orders-worker", "secret")
        OAuth2.token_cache._add_access_token(auth.state, TOKEN, 36_000)
        found["httpx-auth"] = repeated(lambda: OAuth2.token_cache.get_token(auth.state, early_expiry=30.0))
    if others.module("MSAL") is not None:
        from benchmarks.others_msal import application

        app = application(TOKEN_ENDPOINT)
        app.acquire_token_for_client(scopes=["orders:read"])
        found["MSAL"] = repeated(lambda: app.acquire_token_for_client(scopes=["orders:read"]))
    return found
