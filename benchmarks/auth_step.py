"""What one auth step costs: what an HTTP client runs to attach a fresh token, beside an unchanging header."""

import asyncio
import dataclasses
import importlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx
import httpx2
import requests
from multidict import CIMultiDict
from requests.structures import CaseInsensitiveDict
from yarl import URL

from accredit import TokenManager
from accredit.integrations.aiohttp import AccreditMiddleware
from accredit.integrations.requests import AccreditAuth as AccreditAuthForRequests
from benchmarks import others
from benchmarks.fake import API, TOKEN, TOKEN_ENDPOINT, FakeTransport, fresh_manager, registration
from benchmarks.measure import Timed, interleaved, minus, over, scaled
from benchmarks.model import Aim, Effort, Row, Section

_LIMIT = 1.5
_HEADER = f"Bearer {TOKEN}"
_SETTINGS: dict[str, Any] = {
    "token": {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 36_000},
    "token_endpoint": TOKEN_ENDPOINT,
    "grant_type": "client_credentials",
}
_FLOOR, _OURS, _BOUND = "floor", "accredit", "accredit with api_origins"
_CLOCK = "floor that looks at the clock"


def run(effort: Effort) -> list[Section]:
    section = Section(
        "auth_step",
        "The auth step of a call",
        "CPU time that an HTTP client spends on attaching a fresh token to a request (the generator of httpx2 and httpx"
        " run to its end; the auth object of requests; the middleware of aiohttp around a handler that does nothing)."
        " The same set-up of the request is taken off everywhere. The floor is the shortest auth object of that client"
        " that sets an unchanging header. For requests and aiohttp, where that takes a fraction of a microsecond, there"
        " is also one that looks at the clock first, as whatever attaches tokens that end has to. MSAL has no auth"
        " object: its call and setting the header.",
        {"one step": "µs", "to the floor": "ratio"},
        missing=others.missing(*(name for name in others.MODULES)),
    )
    manager = fresh_manager()
    bound = TokenManager(
        dataclasses.replace(registration(), api_origins="https://api.example.com"), transport=FakeTransport()
    )
    families = {
        "httpx2": _httpx_family(httpx2, manager, bound),
        "httpx2, async": _httpx_family_async(httpx2, manager),
        "httpx": _httpx_family(httpx, manager, bound),
        "httpx, async": _httpx_family_async(httpx, manager),
        "requests": _requests(manager, bound),
        "aiohttp": _aiohttp(manager, bound),
    }
    for library, subjects in families.items():
        samples = interleaved(subjects, rounds=effort.of(60, 10), number=effort.of(4_000, 1_000))
        steps = {name: minus(samples[name], samples["set-up"]) for name in subjects if name != "set-up"}
        for name, step in steps.items():
            ratio = scaled(over(step, steps[_FLOOR]), 1)
            section.rows.append(Row(f"{name}, {library}", {"one step": scaled(step, 1e6), "to the floor": ratio}))
            if name == _OURS:
                section.aims.append(Aim(f"auth step of {library}, to the floor", _LIMIT, ratio.median, "times"))
    manager.close()
    bound.close()
    return [section]


# -- httpx2 and httpx ---------------------------------------------------------------------------------------------


def _httpx_family(library: Any, manager: Any, bound: Any) -> dict[str, Timed]:
    class Static(library.Auth):  # type: ignore[misc]  # the class of either library
        def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
            request.headers["Authorization"] = _HEADER
            yield request

    steps = _Steps(library)
    ours = importlib.import_module(f"accredit.integrations.{library.__name__}").AccreditAuth
    subjects: dict[str, Timed] = {
        "set-up": steps.timed(None),
        _FLOOR: steps.timed(Static().sync_auth_flow),
        _OURS: steps.timed(ours(manager).sync_auth_flow),
        _BOUND: steps.timed(ours(bound).sync_auth_flow),
    }
    authlib = others.module("Authlib (httpx2)")
    if authlib is not None and library is httpx2:
        client = authlib.OAuth2Client("orders-worker", "secret", **_SETTINGS)

        def flow(request: Any) -> Any:
            client.ensure_active_token(client.token)
            return client.token_auth.sync_auth_flow(request)

        subjects["Authlib"] = steps.timed(flow)
    httpx_auth = others.module("httpx-auth")
    if httpx_auth is not None and library is httpx:
        subjects["httpx-auth"] = steps.timed(_httpx_auth(httpx_auth).sync_auth_flow)
    return subjects


def _httpx_family_async(library: Any, manager: Any) -> dict[str, Timed]:
    class Static(library.Auth):  # type: ignore[misc]  # the class of either library
        async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
            request.headers["Authorization"] = _HEADER
            yield request

    steps = _Steps(library)
    ours = importlib.import_module(f"accredit.integrations.{library.__name__}").AccreditAuth(manager)
    subjects: dict[str, Timed] = {
        "set-up": steps.timed_async(None),
        _FLOOR: steps.timed_async(Static().async_auth_flow),
        _OURS: steps.timed_async(ours.async_auth_flow),
    }
    authlib = others.module("Authlib (httpx2)")
    if authlib is not None and library is httpx2:
        client = authlib.AsyncOAuth2Client("orders-worker", "secret", **_SETTINGS)
        subjects["Authlib"] = steps.timed_async(
            client.token_auth.async_auth_flow, before=lambda: client.ensure_active_token(client.token)
        )
    httpx_auth = others.module("httpx-auth")
    if httpx_auth is not None and library is httpx:
        subjects["httpx-auth"] = steps.timed_async(_httpx_auth(httpx_auth).async_auth_flow)
    return subjects


def _httpx_auth(httpx_auth: Any) -> Any:
    from httpx_auth._oauth2.common import OAuth2

    auth = httpx_auth.OAuth2ClientCredentials(TOKEN_ENDPOINT, "orders-worker", "secret")
    OAuth2.token_cache._add_access_token(auth.state, TOKEN, 36_000)
    return auth


class _Steps:
    """Runs auth flows on one request, whose headers are put back each time."""

    def __init__(self, library: Any) -> None:
        with library.Client() as client:
            self._request = client.build_request("GET", API)
        self._headers = self._request.headers
        self._extensions = dict(self._request.extensions)
        self._response = library.Response(200, request=self._request)
        self._class = library.Headers

    def timed(self, flow: Callable[[Any], Any] | None) -> Timed:
        request, headers, extensions, response = self._request, self._headers, self._extensions, self._response
        fresh = self._class

        def timed(number: int) -> float:
            laps = [None] * number
            start = time.process_time_ns()
            for _ in laps:
                request.headers = fresh(headers)
                request.extensions = dict(extensions)
                if flow is not None:
                    running = flow(request)
                    next(running)
                    try:  # noqa: SIM105 - it would cost as much as the step
                        running.send(response)
                    except StopIteration:
                        pass
            return (time.process_time_ns() - start) / number / 1e9

        return timed

    def timed_async(
        self, flow: Callable[[Any], Any] | None, *, before: Callable[[], Awaitable[object]] | None = None
    ) -> Timed:
        request, headers, extensions, response = self._request, self._headers, self._extensions, self._response
        fresh = self._class

        async def timed(number: int) -> float:
            laps = [None] * number
            start = time.process_time_ns()
            for _ in laps:
                request.headers = fresh(headers)
                request.extensions = dict(extensions)
                if before is not None:
                    await before()
                if flow is not None:
                    running = flow(request)
                    await anext(running)
                    try:  # noqa: SIM105 - as above
                        await running.asend(response)
                    except StopAsyncIteration:
                        pass
            return (time.process_time_ns() - start) / number / 1e9

        return lambda number: asyncio.run(timed(number))


# -- requests -----------------------------------------------------------------------------------------------------


def _requests(manager: Any, bound: Any) -> dict[str, Timed]:
    class Static(requests.auth.AuthBase):
        def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
            r.headers["Authorization"] = _HEADER
            return r

    class Clocked(requests.auth.AuthBase):
        def __init__(self) -> None:
            self.ends_at = time.monotonic() + 36_000

        def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
            if time.monotonic() < self.ends_at:
                r.headers["Authorization"] = _HEADER
            return r

    prepared = requests.Session().prepare_request(requests.Request("GET", API))
    headers = dict(prepared.headers)

    def timed_of(auth: Callable[[Any], object] | None) -> Timed:
        def timed(number: int) -> float:
            laps = [None] * number
            start = time.process_time_ns()
            for _ in laps:
                prepared.url = API
                prepared.headers = CaseInsensitiveDict(headers)
                prepared.hooks = {"response": []}
                if auth is not None:
                    auth(prepared)
            return (time.process_time_ns() - start) / number / 1e9

        return timed

    subjects: dict[str, Callable[[Any], object] | None] = {
        "set-up": None,
        _FLOOR: Static(),
        _CLOCK: Clocked(),
        _OURS: AccreditAuthForRequests(manager),
        _BOUND: AccreditAuthForRequests(bound),
    }
    authlib = others.module("Authlib (requests)")
    if authlib is not None:
        subjects["Authlib"] = authlib.OAuth2Session("orders-worker", "secret", **_SETTINGS).token_auth
    oauthlib = others.module("requests-oauthlib")
    if oauthlib is not None:
        backend = importlib.import_module("oauthlib.oauth2").BackendApplicationClient
        client = backend("orders-worker", token=dict(_SETTINGS["token"], expires_at=time.time() + 36_000))
        subjects["requests-oauthlib"] = oauthlib.OAuth2(client=client)
    oauth2client = others.module("requests-oauth2client")
    if oauth2client is not None:
        token = oauth2client.BearerToken(TOKEN, expires_in=36_000)
        server = oauth2client.OAuth2Client(TOKEN_ENDPOINT, client_id="orders-worker", client_secret="secret")
        subjects["requests-oauth2client"] = oauth2client.OAuth2ClientCredentialsAuth(server, token=token)
    if others.module("MSAL") is not None:
        from benchmarks.others_msal import application

        app = application(TOKEN_ENDPOINT)

        def msal(request: Any) -> None:
            result = app.acquire_token_for_client(scopes=["orders:read"])
            request.headers["Authorization"] = f"Bearer {result['access_token']}"

        subjects["MSAL"] = msal
    return {name: timed_of(auth) for name, auth in subjects.items()}


# -- aiohttp ------------------------------------------------------------------------------------------------------


def _aiohttp(manager: Any, bound: Any) -> dict[str, Timed]:
    request: Any = SimpleNamespace(url=URL(API), headers=CIMultiDict(), body=b"")
    answer: Any = SimpleNamespace(status=200)
    plain = CIMultiDict({"Host": "api.example.com", "Accept": "*/*", "User-Agent": "benchmark"})

    async def handler(request: Any) -> Any:
        del request
        return answer

    async def static(request: Any, handler: Any) -> Any:
        request.headers[aiohttp.hdrs.AUTHORIZATION] = _HEADER
        return await handler(request)

    class Clocked:
        def __init__(self) -> None:
            self.ends_at = time.monotonic() + 36_000

        async def __call__(self, request: Any, handler: Any) -> Any:
            if time.monotonic() < self.ends_at:
                request.headers[aiohttp.hdrs.AUTHORIZATION] = _HEADER
            return await handler(request)

    def timed_of(middleware: Callable[[Any, Any], Awaitable[object]] | None) -> Timed:
        async def timed(number: int) -> float:
            laps = [None] * number
            start = time.process_time_ns()
            for _ in laps:
                request.headers = plain.copy()
                await (handler(request) if middleware is None else middleware(request, handler))
            return (time.process_time_ns() - start) / number / 1e9

        return lambda number: asyncio.run(timed(number))

    subjects = {
        "set-up": timed_of(None),
        _FLOOR: timed_of(static),
        _CLOCK: timed_of(Clocked()),
        _OURS: timed_of(AccreditMiddleware(manager)),
        _BOUND: timed_of(AccreditMiddleware(bound)),
    }
    other = others.module("aiohttp-oauth2-client")
    if other is not None:
        subjects["aiohttp-oauth2-client"] = _aiohttp_oauth2_client(other, request, plain, handler)
    return subjects


def _aiohttp_oauth2_client(other: Any, request: Any, plain: Any, handler: Any) -> Timed:
    grant_class = importlib.import_module("aiohttp_oauth2_client.grant.client_credentials").ClientCredentialsGrant
    middleware_class = importlib.import_module("aiohttp_oauth2_client.middleware").OAuth2Middleware
    del other

    async def timed(number: int) -> float:
        token = dict(_SETTINGS["token"])
        async with grant_class(TOKEN_ENDPOINT, "orders-worker", "secret", token=token) as grant:
            middleware = middleware_class(grant)
            laps = [None] * number
            start = time.process_time_ns()
            for _ in laps:
                request.headers = plain.copy()
                await middleware(request, handler)
            return (time.process_time_ns() - start) / number / 1e9

    return lambda number: asyncio.run(timed(number))
