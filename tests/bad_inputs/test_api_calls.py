"""Group E, and redirects of API calls: what a token is attached to, and what a refusal of it leads to."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from accredit import AccessToken
from accredit.core.events import TokenRefused, TokenWithheld
from tests.bad_inputs.invariants import check_hidden
from tests.bad_inputs.model import TOKEN, covers, document, issued
from tests.bad_inputs.world import World, registration
from tests.runtime.support import eventually_async

URL = "https://api.example/orders"
Reply = tuple[int, list[tuple[str, str]]]


class Api:
    """An API behind a client of one library, called by threads or tasks; keeps every request."""

    def __init__(self, library: str, face: str, **settings: Any) -> None:
        self.http: ModuleType = importlib.import_module(library)
        self.auth_class = importlib.import_module(f"accredit.integrations.{library}").AccreditAuth
        self.asynchronous = face == "async"
        self.world = World(registration(**settings))
        self.world.script.answers = [issued(access_token=f"{TOKEN}.{number}") for number in range(1, 9)]
        self.auth = self.auth_class(self.world.manager)
        self.behave: Callable[[Any], Reply] = lambda request: (200, [])
        self.requests: list[Any] = []
        self.tokens: list[str | None] = []

    def transport(self) -> Any:
        """Return a transport that leads to the API, and reads bodies as they come."""
        api = self

        class Transport(self.http.BaseTransport, self.http.AsyncBaseTransport):  # type: ignore[misc, name-defined]
            def handle_request(self, request: Any) -> Any:
                for _ in request.stream:
                    pass
                return api.handle(request)

            async def handle_async_request(self, request: Any) -> Any:
                async for _ in request.stream:
                    pass
                return api.handle(request)

        return Transport()

    def handle(self, request: Any) -> Any:
        self.requests.append(request)
        value = request.headers.get("Authorization")
        self.tokens.append(None if value is None else value.removeprefix(f"Bearer {TOKEN}."))
        status, headers = self.behave(request)
        return self.http.Response(status, headers=headers)

    def call(self, method: str = "GET", url: str = URL, *, follow: bool = False, **options: Any) -> Any:
        """Make one call and return the response."""
        settings = {"transport": self.transport(), "auth": self.auth, "follow_redirects": follow}
        if not self.asynchronous:
            with self.http.Client(**settings) as client:
                return client.request(method, url, **options)

        async def call() -> Any:
            async with self.http.AsyncClient(**settings) as client:
                return await client.request(method, url, **options)

        return asyncio.run(call())

    def carried(self) -> list[str | None]:
        """Return which token each request carried: ``1``, ``2``, ...; None without one."""
        return self.tokens

    def check_whole(self) -> None:
        check_hidden(repr(self.auth) + str(self.auth), "the repr of an auth object")
        self.world.land()
        self.world.check_whole()


@pytest.fixture(params=["httpx2 sync", "httpx2 async", "httpx sync", "httpx async"])
def make_api(request: pytest.FixtureRequest) -> Callable[..., Api]:
    library, face = request.param.split()
    return lambda **settings: Api(library, face, **settings)


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Iterator[Api]:
    api = make_api()
    yield api
    api.check_whole()


def refusing(*challenges: str, status: int = 401, times: int = 1) -> Callable[[Any], Reply]:
    """Return an API that refuses so many times and then answers."""
    left = [times]

    def behave(request: Any) -> Reply:
        left[0] -= 1
        return (status, [("WWW-Authenticate", value) for value in challenges]) if left[0] >= 0 else (200, [])

    return behave


@covers("E06", outcome="the 403 reaches the caller: no renewal, no wider scope")
@pytest.mark.parametrize("status", [401, 403])
def test_insufficient_scope(api: Api, status: int) -> None:
    api.behave = refusing('Bearer error="insufficient_scope", scope="a b"', status=status, times=9)
    assert [api.call().status_code for _ in range(3)] == [status] * 3
    assert api.carried() == ["1", "1", "1"]
    assert len(api.world.script.requests) == 1
    assert b"scope" not in api.world.script.requests[0].body


@covers("E07", outcome="the answer reaches the caller")
@pytest.mark.parametrize("status", [400, 403, 404, 407, 429, 500, 503])
def test_other_refusals(api: Api, status: int) -> None:
    api.behave = refusing('Bearer error="invalid_token"', status=status)
    assert api.call().status_code == status
    assert len(api.requests) == 1
    assert len(api.world.script.requests) == 1


@covers("E08", outcome="the 401 reaches the caller; the next call has a new token")
def test_a_body_that_cannot_be_sent_again(api: Api) -> None:
    def parts() -> Iterator[bytes]:
        yield b"one"

    async def parts_async() -> AsyncIterator[bytes]:
        yield b"one"

    api.behave = refusing('Bearer error="invalid_token"')
    assert api.call("POST", content=parts_async() if api.asynchronous else parts()).status_code == 401
    api.world.land()
    assert api.call("POST", content=b"again").status_code == 200
    assert api.carried() == ["1", "2"]
    assert len(api.world.script.requests) == 2


HEALED = {
    "two fields": ("Basic realm=x", 'Bearer error="invalid_token"'),
    "other order": ('Bearer error="invalid_token"', "Basic realm=x"),
    "one field": ('Basic realm="a, Bearer error=x", Bearer error="invalid_token"',),
    "odd case": ('bearer ERROR="invalid_token"',),
    "unquoted": ("Bearer error=invalid_token",),
    "spaces": ('Bearer   error = "invalid_token" ,,',),
    "quoted pairs": (r'Bearer realm="a\"b", error="invalid\_token"',),
    "trailing commas": ('Bearer error="invalid_token",,,',),
    "alone": ("Bearer",),
    "token68": ("Bearer abc==",),
    "empty params": ('Bearer realm="", error=""',),
    "unknown scheme": ("Custom abc",),
    "none": (),
    "junk": ("====, ;;",),
    "lower-case dpop": ("dpop algs=ES256",),
}
SURFACED = {
    "Basic": ("Basic realm=x",),
    "Digest and Negotiate": ('Digest realm="x", nonce="y"', "Negotiate"),
    "other error": ('Bearer error="invalid_request"',),
    "insufficient": ('Bearer error="insufficient_scope"',),
    "inside a quoted string": ('Basic realm="Bearer error=invalid_token"',),
}


@covers("E11", "E12", outcome="OK after one retry")
@pytest.mark.parametrize("challenges", HEALED.values(), ids=HEALED.keys())
def test_challenges_that_are_about_the_token(api: Api, challenges: tuple[str, ...]) -> None:
    api.behave = refusing(*challenges)
    assert api.call().status_code == 200
    assert api.carried() == ["1", "2"]
    assert len(api.world.script.requests) == 2


@covers("E11", "E12", outcome="the 401 reaches the caller")
@pytest.mark.parametrize("challenges", SURFACED.values(), ids=SURFACED.keys())
def test_challenges_that_are_not(api: Api, challenges: tuple[str, ...]) -> None:
    api.behave = refusing(*challenges)
    assert api.call().status_code == 401
    assert api.carried() == ["1"]
    assert len(api.world.script.requests) == 1


@covers("E15", outcome="as a 401 without an error: one retry")
@pytest.mark.parametrize(
    "challenge",
    ['Bearer error="insufficient_scope", error="invalid_request"', 'Bearer error="invalid_token", ERROR="other"'],
)
def test_a_challenge_that_contradicts_itself(api: Api, challenge: str) -> None:
    api.behave = refusing(challenge)
    assert api.call().status_code == 200
    assert api.carried() == ["1", "2"]


@covers("E12", outcome="bounded work, and an answer")
def test_challenges_without_measure(api: Api) -> None:
    api.behave = refusing("Bearer " + 'a="' + "\\" * 60_000, *["Basic x=y"] * 200)
    assert api.call().status_code in {200, 401}
    assert len(api.world.script.requests) <= 2


@covers("E25", outcome="OK: the newer token at once, and no token request for it")
def test_a_refusal_of_an_old_token(api: Api) -> None:
    api.world.manager.get()

    def behave(request: Any) -> Reply:
        if request.headers["Authorization"].endswith(".1"):
            assert api.world.manager.renew().value == f"{TOKEN}.2"
            return 401, [("WWW-Authenticate", 'Bearer error="invalid_token"')]
        return 200, []

    api.behave = behave
    assert api.call().status_code == 200
    assert api.carried() == ["1", "2"]
    assert len(api.world.script.requests) == 2


@covers("A57", outcome="the 401 reaches the caller: two calls, two token requests, no loop")
def test_a_server_that_hands_out_the_refused_token_again(api: Api) -> None:
    api.world.script.answers = [issued()]
    api.behave = refusing('Bearer error="invalid_token"', times=99)
    assert api.call().status_code == 401
    assert len(api.requests) == 2
    assert len(api.world.script.requests) == 2
    # The cool-down: what refuses even new tokens causes no further requests for a while.
    for _ in range(5):
        assert api.call().status_code == 401
    assert len(api.world.script.requests) == 2
    assert {event.outcome for event in api.world.events if isinstance(event, TokenRefused)} >= {"renewing", "cooling"}


@covers("E25", outcome="the suspect token goes on being used when no newer one can be had")
def test_a_refusal_while_the_server_is_down(api: Api) -> None:
    api.world.manager.get()
    api.world.script.answers = [document(500)]
    api.behave = refusing('Bearer error="invalid_token"')
    assert api.call().status_code == 401
    assert len(api.world.script.requests) == 1 + 3
    assert api.call().status_code == 200
    assert api.carried() == ["1", "1"]


@covers("E26", outcome="no half state: the flight lands, others have the new token")
@pytest.mark.parametrize("library", ["httpx2", "httpx"])
def test_a_caller_that_is_cancelled_while_its_401_is_healed(library: str) -> None:
    api = Api(library, "async")
    api.world.manager.get()
    api.behave = refusing('Bearer error="invalid_token"')
    api.world.script.open.clear()

    async def scenario() -> tuple[bool, AccessToken]:
        settings = {"transport": api.transport(), "auth": api.auth}
        async with api.http.AsyncClient(**settings) as client:
            task = asyncio.ensure_future(client.get(URL))
            await eventually_async(lambda: len(api.world.script.requests) == 2, "the renewal")
            task.cancel()
            await asyncio.wait([task])
            api.world.script.open.set()
            return task.cancelled(), await api.world.manager.asynchronous().get()

    cancelled, token = asyncio.run(scenario())
    assert cancelled
    assert token.value == f"{TOKEN}.2"
    assert len(api.world.script.requests) == 2
    api.check_whole()


ELSEWHERE = {
    "host": "https://evil.example/x",
    "port": "https://api.example:8443/x",
    "scheme": "http://api.example/x",
    "subdomain": "https://a.api.example/x",
    "user": "https://api.example@evil.example/x",
}


@covers("C05", outcome="OK without the token: it does not travel")
@pytest.mark.parametrize("location", ELSEWHERE.values(), ids=ELSEWHERE.keys())
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_origin(api: Api, location: str, status: int) -> None:
    api.behave = lambda request: (status, [("LOCATION", location)]) if str(request.url) == URL else (200, [])
    response = api.call(follow=True)
    assert response.status_code == 200
    assert api.carried()[0] == "1"
    assert all("authorization" not in name.lower() for name in api.requests[1].headers)
    assert TOKEN not in str(api.requests[1].url)


@covers("C05", outcome="the 401 of the other origin reaches the caller, and renews nothing")
def test_a_refusal_behind_a_redirect(api: Api) -> None:
    def behave(request: Any) -> Reply:
        if request.url.host == "api.example":
            return 302, [("Location", "https://evil.example/")]
        return 401, [("WWW-Authenticate", 'Bearer error="invalid_token"')]

    api.behave = behave
    assert api.call(follow=True).status_code == 401
    assert api.carried() == ["1", None]
    assert len(api.world.script.requests) == 1


@covers("C07", outcome="OK: GET without a body, same origin, same token")
def test_a_redirect_that_turns_post_into_get(api: Api) -> None:
    api.behave = lambda request: (303, [("Location", "/done")]) if request.method == "POST" else (200, [])
    assert api.call("POST", content=b"order=1", follow=True).status_code == 200
    assert [request.method for request in api.requests] == ["POST", "GET"]
    assert api.requests[1].headers.get("content-length", "0") == "0"
    assert api.carried() == ["1", "1"]


@covers("C08", outcome="OK without the token: an allowed origin is asked with one only when it is called itself")
def test_a_redirect_to_an_allowed_origin(make_api: Callable[..., Api]) -> None:
    api = make_api(api_origins=("https://api.example", "https://two.example"))
    api.behave = lambda request: (302, [("Location", "https://two.example/")]) if str(request.url) == URL else (200, [])
    assert api.call(follow=True).status_code == 200
    assert api.call(url="https://two.example/").status_code == 200
    assert api.carried() == ["1", None, "1"]
    api.check_whole()


@covers("C08", "C05", outcome="OK without the token, and an event")
@pytest.mark.parametrize(
    "url",
    ["https://evil.example/", "https://api.example:8443/", "http://api.example/", "https://api.example.evil.example/"],
)
def test_an_origin_that_is_not_allowed(make_api: Callable[..., Api], url: str) -> None:
    api = make_api(api_origins="https://api.example")
    assert api.call(url=url).status_code == 200
    assert api.carried() == [None]
    assert api.world.script.requests == []
    assert any(isinstance(event, TokenWithheld) for event in api.world.events)
    api.check_whole()


@covers("C05", outcome="OK: never over plain http, and a header of the caller's own wins")
def test_plain_http_and_own_headers(api: Api) -> None:
    assert api.call(url="http://api.example/").status_code == 200
    assert api.call(url="http://127.0.0.1/").status_code == 200
    assert api.call(headers={"authorization": "Basic own"}).status_code == 200
    assert api.carried() == [None, "1", "Basic own"]
