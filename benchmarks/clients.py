"""Every subject as a program would use it: make it for a token endpoint, then call an API with it.

The alternatives are set up as their documentation says. Where a library leaves the first token, or the renewal, to the
program, the program here does what a careful program does: it looks before each call.
"""

import importlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
import httpx
import httpx2
import requests
from requests.adapters import HTTPAdapter

from accredit import TokenManager
from accredit.integrations.aiohttp import AccreditMiddleware
from accredit.integrations.httpx2 import AccreditAuth
from accredit.integrations.requests import AccreditAuth as AccreditAuthForRequests
from benchmarks import others
from benchmarks.fake import registration

#: Calls a URL with a token and returns the status.
Call = Callable[[str], int]
AsyncCall = Callable[[str], Awaitable[int]]
_MOST = 300
_CREDENTIALS = ("orders-worker", "a-secret-of-the-benchmark")


def _settings(token_url: str) -> dict[str, Any]:
    return {"token_endpoint": token_url, "grant_type": "client_credentials"}


def _session(session: Any) -> Any:
    # Else requests throws away connections beyond the tenth.
    session.mount("http://", HTTPAdapter(pool_connections=4, pool_maxsize=_MOST))
    return session


def _limits(library: Any) -> dict[str, Any]:
    return {"limits": library.Limits(max_connections=_MOST, max_keepalive_connections=_MOST)}


# -- accredit -----------------------------------------------------------------------------------------------------


@contextmanager
def _accredit_httpx2(token_url: str) -> Iterator[Call]:
    with (
        TokenManager(registration(token_url)) as manager,
        httpx2.Client(auth=AccreditAuth(manager), **_limits(httpx2)) as client,
    ):
        yield lambda url: int(client.get(url).status_code)


@contextmanager
def _accredit_requests(token_url: str) -> Iterator[Call]:
    with TokenManager(registration(token_url)) as manager, _session(requests.Session()) as session:
        session.auth = AccreditAuthForRequests(manager)
        yield lambda url: int(session.get(url).status_code)


@asynccontextmanager
async def _accredit_httpx2_async(token_url: str) -> AsyncIterator[AsyncCall]:
    with TokenManager(registration(token_url)) as manager:
        async with httpx2.AsyncClient(auth=AccreditAuth(manager), **_limits(httpx2)) as client:

            async def call(url: str) -> int:
                return int((await client.get(url)).status_code)

            yield call


@asynccontextmanager
async def _accredit_aiohttp(token_url: str) -> AsyncIterator[AsyncCall]:
    connector = aiohttp.TCPConnector(limit=_MOST)
    with TokenManager(registration(token_url)) as manager:
        async with aiohttp.ClientSession(connector=connector, middlewares=(AccreditMiddleware(manager),)) as session:
            yield _aiohttp_call(session)


def _aiohttp_call(session: aiohttp.ClientSession) -> AsyncCall:
    async def call(url: str) -> int:
        async with session.get(url) as answer:
            await answer.read()
            return answer.status

    return call


# -- the alternatives, for threads --------------------------------------------------------------------------------


@contextmanager
def _authlib_httpx2(token_url: str) -> Iterator[Call]:
    module = others.module("Authlib (httpx2)")
    with module.OAuth2Client(*_CREDENTIALS, **_settings(token_url), **_limits(httpx2)) as client:

        def call(url: str) -> int:
            if not client.token:
                client.fetch_token()
            return int(client.get(url).status_code)

        yield call


@contextmanager
def _authlib_requests(token_url: str) -> Iterator[Call]:
    module = others.module("Authlib (requests)")
    with _session(module.OAuth2Session(*_CREDENTIALS, **_settings(token_url))) as session:

        def call(url: str) -> int:
            if not session.token:
                session.fetch_token()
            return int(session.get(url).status_code)

        yield call


@contextmanager
def _httpx_auth(token_url: str) -> Iterator[Call]:
    module = others.module("httpx-auth")
    importlib.import_module("httpx_auth._oauth2.common").OAuth2.token_cache.clear()
    with httpx.Client() as for_tokens:
        auth = module.OAuth2ClientCredentials(token_url, *_CREDENTIALS, client=for_tokens)
        with httpx.Client(auth=auth, **_limits(httpx)) as client:
            yield lambda url: int(client.get(url).status_code)


@contextmanager
def _requests_oauthlib(token_url: str) -> Iterator[Call]:
    os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # the documented switch for plain http on loopback
    module = others.module("requests-oauthlib")
    errors = importlib.import_module("oauthlib.oauth2")
    backend = errors.BackendApplicationClient(client_id=_CREDENTIALS[0])
    with _session(module.OAuth2Session(client=backend)) as session:

        def fetch() -> None:
            session.fetch_token(token_url, client_id=_CREDENTIALS[0], client_secret=_CREDENTIALS[1])

        def call(url: str) -> int:
            if not session.authorized:
                fetch()
            try:
                return int(session.get(url).status_code)
            except errors.TokenExpiredError:
                fetch()
                return int(session.get(url).status_code)

        yield call


@contextmanager
def _requests_oauth2client(token_url: str) -> Iterator[Call]:
    module = others.module("requests-oauth2client")
    for_tokens = _session(requests.Session())
    server = module.OAuth2Client(
        token_url, client_id=_CREDENTIALS[0], client_secret=_CREDENTIALS[1], testing=True, session=for_tokens
    )
    with for_tokens, _session(requests.Session()) as session:
        session.auth = module.OAuth2ClientCredentialsAuth(server)
        yield lambda url: int(session.get(url).status_code)


@contextmanager
def _msal(token_url: str) -> Iterator[Call]:
    from benchmarks.others_msal import application

    with _session(requests.Session()) as for_tokens, _session(requests.Session()) as session:
        app = application(token_url, session=for_tokens)

        def call(url: str) -> int:
            result = app.acquire_token_for_client(scopes=["orders:read"])
            if "access_token" not in result:
                raise RuntimeError(result.get("error"))
            headers = {"Authorization": f"Bearer {result['access_token']}"}
            return int(session.get(url, headers=headers).status_code)

        yield call


# -- the alternatives, for tasks ----------------------------------------------------------------------------------


@asynccontextmanager
async def _authlib_httpx2_async(token_url: str) -> AsyncIterator[AsyncCall]:
    module = others.module("Authlib (httpx2)")
    async with module.AsyncOAuth2Client(*_CREDENTIALS, **_settings(token_url), **_limits(httpx2)) as client:

        async def call(url: str) -> int:
            if not client.token:
                await client.fetch_token()
            return int((await client.get(url)).status_code)

        yield call


@asynccontextmanager
async def _httpx_auth_async(token_url: str) -> AsyncIterator[AsyncCall]:
    module = others.module("httpx-auth")
    importlib.import_module("httpx_auth._oauth2.common").OAuth2.token_cache.clear()
    with httpx.Client() as for_tokens:
        auth = module.OAuth2ClientCredentials(token_url, *_CREDENTIALS, client=for_tokens)
        async with httpx.AsyncClient(auth=auth, **_limits(httpx)) as client:

            async def call(url: str) -> int:
                return int((await client.get(url)).status_code)

            yield call


@asynccontextmanager
async def _aiohttp_oauth2_client(token_url: str) -> AsyncIterator[AsyncCall]:
    grants = importlib.import_module("aiohttp_oauth2_client.grant.client_credentials")
    middlewares = importlib.import_module("aiohttp_oauth2_client.middleware")
    async with grants.ClientCredentialsGrant(token_url, *_CREDENTIALS) as grant:
        middleware = middlewares.OAuth2Middleware(grant)
        connector = aiohttp.TCPConnector(limit=_MOST)
        async with aiohttp.ClientSession(connector=connector, middlewares=(middleware,)) as session:
            yield _aiohttp_call(session)


#: Those for threads and those for tasks; the name before the comma is the alternative's.
THREADS: dict[str, Callable[[str], Any]] = {
    "accredit, httpx2": _accredit_httpx2,
    "accredit, requests": _accredit_requests,
    "Authlib (httpx2)": _authlib_httpx2,
    "Authlib (requests)": _authlib_requests,
    "httpx-auth": _httpx_auth,
    "requests-oauthlib": _requests_oauthlib,
    "requests-oauth2client": _requests_oauth2client,
    "MSAL": _msal,
}
TASKS: dict[str, Callable[[str], Any]] = {
    "accredit, httpx2": _accredit_httpx2_async,
    "accredit, aiohttp": _accredit_aiohttp,
    "Authlib (httpx2)": _authlib_httpx2_async,
    "httpx-auth": _httpx_auth_async,
    "aiohttp-oauth2-client": _aiohttp_oauth2_client,
}
