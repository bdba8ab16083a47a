"""What auth adds to a whole request, beside the same client with a header that never changes."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import aiohttp
import httpx
import httpx2
import requests

from accredit import TokenManager
from accredit.integrations.aiohttp import AccreditMiddleware
from accredit.integrations.httpx2 import AccreditAuth
from accredit.integrations.requests import AccreditAuth as AccreditAuthForRequests
from benchmarks import others
from benchmarks.clients import TASKS, THREADS
from benchmarks.fake import API, fresh_manager, registration
from benchmarks.measure import interval, minus, quiet, scaled
from benchmarks.model import Effort, Row, Section
from benchmarks.server import BenchServer

Pairs = tuple[list[float], list[float]]


def run(effort: Effort) -> list[Section]:
    section = Section(
        "whole_request",
        "A whole request",
        "Wall-clock time of one GET with a fresh token, and what it takes longer than the one made just before or after"
        " it by the same kind of client with the same header set once and for all. Mock: the client's own mock"
        " transport, https. Loopback: plain http to a server in another process, where accredit also checks that the"
        " host is this machine.",
        {"pairs": "", "with a static header": "µs", "with auth": "µs", "difference": "µs"},
        missing=others.missing(*others.MODULES),
    )
    manager = fresh_manager()
    pairs = effort.of(4000, 400)
    _mock(section, manager, pairs)
    with BenchServer() as server, TokenManager(registration(server.token_url)) as loopback:
        header = loopback.get().authorization
        _loopback(section, server, loopback, header, effort.of(2000, 200))
        asyncio.run(_loopback_async(section, server, loopback, header, effort.of(2000, 200)))
    manager.close()
    return [section]


def _add(section: Section, subject: str, samples: Pairs) -> None:
    plain, ours = samples
    section.rows.append(
        Row(
            subject,
            {
                "pairs": len(plain),
                "with a static header": scaled(plain, 1e6),
                "with auth": scaled(ours, 1e6),
                "difference": interval([sample * 1e6 for sample in minus(ours, plain)]),
            },
        )
    )


def _paired(plain: Callable[[], object], ours: Callable[[], object], pairs: int) -> Pairs:
    found: Pairs = ([], [])
    calls = (plain, ours)
    for _ in range(20):
        plain(), ours()
    with quiet():
        for turn in range(pairs):
            for which in (0, 1) if turn % 2 else (1, 0):
                start = time.perf_counter_ns()
                calls[which]()
                found[which].append((time.perf_counter_ns() - start) / 1e9)
    return found


async def _paired_async(
    plain: Callable[[], Awaitable[object]], ours: Callable[[], Awaitable[object]], pairs: int
) -> Pairs:
    found: Pairs = ([], [])
    calls = (plain, ours)
    for _ in range(20):
        await plain()
        await ours()
    with quiet():
        for turn in range(pairs):
            for which in (0, 1) if turn % 2 else (1, 0):
                start = time.perf_counter_ns()
                await calls[which]()
                found[which].append((time.perf_counter_ns() - start) / 1e9)
    return found


def _mock(section: Section, manager: TokenManager, pairs: int) -> None:
    header = {"Authorization": manager.get().authorization}
    for library, subject, auth in _mock_subjects(manager):

        def answer(request: Any, library: Any = library) -> Any:
            return library.Response(200, json={"orders": []}, request=request)

        plain = library.Client(transport=library.MockTransport(answer), headers=header)
        client = (
            auth(library.MockTransport(answer))
            if callable(auth)
            else library.Client(transport=library.MockTransport(answer), auth=auth)
        )
        with plain, client:
            samples = _paired(partial(plain.get, API), partial(client.get, API), pairs)
        _add(section, f"{subject}, mock", samples)
    asyncio.run(_mock_async(section, manager, header, pairs))


def _mock_subjects(manager: TokenManager) -> list[tuple[Any, str, Any]]:
    from benchmarks.auth_step import _SETTINGS, _httpx_auth

    found: list[tuple[Any, str, Any]] = [(httpx2, "accredit, httpx2", AccreditAuth(manager))]
    authlib = others.module("Authlib (httpx2)")
    if authlib is not None:
        found.append(
            (
                httpx2,
                "Authlib, httpx2",
                lambda transport: authlib.OAuth2Client("orders-worker", "secret", transport=transport, **_SETTINGS),
            )
        )
    httpx_auth = others.module("httpx-auth")
    if httpx_auth is not None:
        found.append((httpx, "httpx-auth, httpx", _httpx_auth(httpx_auth)))
    return found


async def _mock_async(section: Section, manager: TokenManager, header: dict[str, str], pairs: int) -> None:
    from benchmarks.auth_step import _SETTINGS

    async def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"orders": []}, request=request)

    subjects: dict[str, Any] = {
        "accredit": httpx2.AsyncClient(transport=httpx2.MockTransport(answer), auth=AccreditAuth(manager))
    }
    authlib = others.module("Authlib (httpx2)")
    if authlib is not None:
        subjects["Authlib"] = authlib.AsyncOAuth2Client(
            "orders-worker", "secret", transport=httpx2.MockTransport(answer), **_SETTINGS
        )
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer), headers=header) as plain:
        for name, client in subjects.items():
            async with client:
                samples = await _paired_async(partial(plain.get, API), partial(client.get, API), pairs)
            _add(section, f"{name}, httpx2, async, mock", samples)


def _loopback(section: Section, server: BenchServer, manager: TokenManager, header: str, pairs: int) -> None:
    url = server.api_url
    headers = {"Authorization": header}
    with httpx2.Client(headers=headers) as plain, httpx2.Client(auth=AccreditAuth(manager)) as client:
        _add(
            section,
            "accredit, httpx2, loopback",
            _paired(lambda: plain.get(url), lambda: client.get(url), pairs),
        )
    with requests.Session() as plain_session, requests.Session() as session:
        plain_session.headers["Authorization"] = header
        session.auth = AccreditAuthForRequests(manager)
        _add(
            section,
            "accredit, requests, loopback",
            _paired(lambda: plain_session.get(url), lambda: session.get(url), pairs),
        )
        for name in ("Authlib (requests)", "requests-oauthlib", "requests-oauth2client", "MSAL"):
            if others.module(name) is not None:
                with THREADS[name](server.token_url) as call:
                    samples = _paired(lambda: plain_session.get(url), partial(call, url), pairs)
                _add(section, f"{name.removesuffix(' (requests)')}, requests, loopback", samples)


async def _loopback_async(
    section: Section, server: BenchServer, manager: TokenManager, header: str, pairs: int
) -> None:
    url = server.api_url
    headers = {"Authorization": header}
    async with (
        httpx2.AsyncClient(headers=headers) as plain,
        httpx2.AsyncClient(auth=AccreditAuth(manager)) as client,
    ):
        samples = await _paired_async(lambda: plain.get(url), lambda: client.get(url), pairs)
        _add(section, "accredit, httpx2, async, loopback", samples)

    async def get(session: aiohttp.ClientSession) -> None:
        async with session.get(url) as answer:
            await answer.read()

    async with (
        aiohttp.ClientSession(headers=headers) as plain_session,
        aiohttp.ClientSession(middlewares=(AccreditMiddleware(manager),)) as session,
    ):
        samples = await _paired_async(lambda: get(plain_session), lambda: get(session), pairs)
        _add(section, "accredit, aiohttp, loopback", samples)
        if others.module("aiohttp-oauth2-client") is not None:
            async with TASKS["aiohttp-oauth2-client"](server.token_url) as call:
                samples = await _paired_async(lambda: get(plain_session), partial(call, url), pairs)
            _add(section, "aiohttp-oauth2-client, aiohttp, loopback", samples)
