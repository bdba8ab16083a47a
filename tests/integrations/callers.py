"""Every client library in every mode behind one face, so that one test runs over all of them."""

from __future__ import annotations

import io
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import requests
from anyio.from_thread import BlockingPortal, start_blocking_portal

from accredit import AsyncTokenManager, TokenManager
from accredit.integrations.aiohttp import AccreditMiddleware
from accredit.integrations.requests import AccreditAuth as RequestsAuth

BODY = b"twelve bytes"


@dataclass(frozen=True)
class Answer:
    """What the caller of a library gets."""

    status: int
    body: bytes
    history: tuple[int, ...] = ()


def parts() -> Iterator[bytes]:
    yield BODY[:6]
    yield BODY[6:]


async def async_parts() -> AsyncIterator[bytes]:
    for part in parts():
        yield part


@dataclass
class Caller(ABC):
    """One client with its auth object, open until the test is over.

    Attributes:
        auth: the auth object, or the middleware.
        kinds: the kinds of body that it can send.

    """

    manager: TokenManager | AsyncTokenManager
    ca: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    client_headers: dict[str, str] = field(default_factory=dict)
    trust_env: bool = False
    stack: ExitStack = field(default_factory=ExitStack)
    auth: Any = None
    kinds: ClassVar[tuple[str, ...]] = ("none", "bytes", "stream", "file", "multipart")

    @abstractmethod
    def open(self) -> None:
        """Make the client."""

    @abstractmethod
    def call(
        self,
        url: str,
        method: str = "GET",
        *,
        body: str = "none",
        headers: dict[str, str] | None = None,
        auth: Any = None,
        stream: bool = False,
        redirects: bool = True,
    ) -> Answer:
        """Make one call."""

    def context(self) -> Any:
        return ssl.create_default_context(cafile=self.ca) if self.ca is not None else True


class SyncHttpx(Caller):
    library = "httpx2"

    def open(self) -> None:
        self.lib: Any = import_module(self.library)
        self.auth = import_module(f"accredit.integrations.{self.library}").AccreditAuth(self.manager, **self.settings)
        self.client = self.stack.enter_context(
            self.lib.Client(
                auth=self.auth,
                verify=self.context(),
                headers=self.client_headers,
                trust_env=self.trust_env,
                timeout=20,
            )
        )

    def call(self, url: str, method: str = "GET", **how: Any) -> Answer:
        arguments = httpx_arguments(how, parts)
        if how.get("stream"):
            with self.client.stream(method, url, **arguments) as response:
                body = b"".join(response.iter_raw())
                return Answer(response.status_code, body, tuple(each.status_code for each in response.history))
        response = self.client.request(method, url, **arguments)
        return Answer(response.status_code, response.content, tuple(each.status_code for each in response.history))


class SyncOldHttpx(SyncHttpx):
    library = "httpx"


class AsyncHttpx(Caller):
    library = "httpx2"
    backend = "asyncio"
    kinds = ("none", "bytes", "stream", "multipart")

    def open(self) -> None:
        self.lib: Any = import_module(self.library)
        self.auth = import_module(f"accredit.integrations.{self.library}").AccreditAuth(self.manager, **self.settings)
        self.portal: BlockingPortal = self.stack.enter_context(start_blocking_portal(self.backend))
        self.client = self.lib.AsyncClient(
            auth=self.auth,
            verify=self.context(),
            headers=self.client_headers,
            trust_env=self.trust_env,
            timeout=20,
        )
        self.stack.callback(lambda: self.portal.call(self.client.aclose))

    def call(self, url: str, method: str = "GET", **how: Any) -> Answer:
        arguments = httpx_arguments(how, async_parts)

        async def run() -> Answer:
            if how.get("stream"):
                async with self.client.stream(method, url, **arguments) as response:
                    body = b"".join([part async for part in response.aiter_raw()])
                    return Answer(response.status_code, body, tuple(each.status_code for each in response.history))
            response = await self.client.request(method, url, **arguments)
            return Answer(response.status_code, response.content, tuple(each.status_code for each in response.history))

        answer: Answer = self.portal.call(run)
        return answer


class TrioHttpx(AsyncHttpx):
    backend = "trio"


class AsyncOldHttpx(AsyncHttpx):
    library = "httpx"


class TrioOldHttpx(TrioHttpx):
    library = "httpx"


class Requests(Caller):
    def open(self) -> None:
        self.auth = RequestsAuth(self.manager, **self.settings)
        self.client = self.stack.enter_context(requests.Session())
        self.client.auth = self.auth
        self.client.trust_env = self.trust_env
        self.client.headers.update(self.client_headers)
        if self.ca is not None:
            self.client.verify = str(self.ca)

    def call(self, url: str, method: str = "GET", **how: Any) -> Answer:
        arguments: dict[str, Any] = {
            "headers": how.get("headers"),
            "auth": how.get("auth"),
            "allow_redirects": how.get("redirects", True),
            "timeout": 20,
        }
        kind = how.get("body", "none")
        if kind == "multipart":
            arguments["files"] = {"file": BODY}
        else:
            arguments["data"] = {"bytes": BODY, "stream": parts(), "file": io.BytesIO(BODY), "none": None}[kind]
        with self.client.request(method, url, stream=how.get("stream", False), **arguments) as response:
            body = response.raw.read() if how.get("stream") else response.content
            return Answer(response.status_code, body, tuple(each.status_code for each in response.history))


class AioHttp(Caller):
    kinds = ("none", "bytes", "stream", "file")

    def open(self) -> None:
        self.auth = AccreditMiddleware(self.manager, **self.settings)
        self.portal: BlockingPortal = self.stack.enter_context(start_blocking_portal("asyncio"))

        async def make() -> aiohttp.ClientSession:
            return aiohttp.ClientSession(
                middlewares=(self.auth,),
                headers=self.client_headers,
                trust_env=self.trust_env,
                connector=aiohttp.TCPConnector(ssl=self.context()),
            )

        self.client: aiohttp.ClientSession = self.portal.call(make)
        self.stack.callback(lambda: self.portal.call(self.client.close))

    def call(self, url: str, method: str = "GET", **how: Any) -> Answer:
        kind = how.get("body", "none")
        arguments: dict[str, Any] = {
            "headers": how.get("headers"),
            "allow_redirects": how.get("redirects", True),
            "data": {"bytes": BODY, "stream": async_parts(), "file": io.BytesIO(BODY), "none": None}[kind],
        }
        if how.get("auth") is not None:
            arguments["middlewares"] = (how["auth"],)

        async def run() -> Answer:
            async with self.client.request(method, url, **arguments) as response:
                if how.get("stream"):
                    body = await response.content.read()
                else:
                    body = await response.read()
                return Answer(response.status, body, tuple(each.status for each in response.history))

        answer: Answer = self.portal.call(run)
        return answer


def httpx_arguments(how: dict[str, Any], stream: Callable[[], Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = {"headers": how.get("headers"), "follow_redirects": how.get("redirects", True)}
    kind = how.get("body", "none")
    if kind == "multipart":
        arguments["files"] = {"file": BODY}
    elif kind != "none":
        make: dict[str, Callable[[], Any]] = {"bytes": lambda: BODY, "stream": stream, "file": lambda: io.BytesIO(BODY)}
        arguments["content"] = make[kind]()
    if how.get("auth") is not None:
        arguments["auth"] = how["auth"]
    return arguments


CALLERS: dict[str, type[Caller]] = {
    "httpx2": SyncHttpx,
    "httpx": SyncOldHttpx,
    "requests": Requests,
    "httpx2-asyncio": AsyncHttpx,
    "httpx2-trio": TrioHttpx,
    "httpx-asyncio": AsyncOldHttpx,
    "httpx-trio": TrioOldHttpx,
    "aiohttp": AioHttp,
}
#: Those that can send a body again that is a file.
REWINDING = {"requests", "aiohttp"}
