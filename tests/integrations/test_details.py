"""What is particular to one library, and what the modules say when something is missing or mixed up."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import requests

from accredit import ConfigurationError, TokenManager
from accredit.devserver import DevServer
from accredit.integrations import _httpx_family as family
from accredit.integrations import httpx as for_httpx
from accredit.integrations import httpx2 as for_httpx2
from accredit.integrations import requests as for_requests
from accredit.integrations.aiohttp import AccreditMiddleware
from tests.integrations.api import Reply, ScriptedApi, refusal
from tests.runtime.support import JumpClock

BOTH = pytest.mark.parametrize("library", ["httpx2", "httpx"])


def make_auth(library: str, manager: TokenManager, **settings: Any) -> Any:
    return import_module(f"accredit.integrations.{library}").AccreditAuth(manager, **settings)


# -- httpx2 and httpx --------------------------------------------------------------------------------------


@BOTH
def test_the_option_of_a_call(library: str, manager: TokenManager, api: ScriptedApi, server: DevServer) -> None:
    lib: Any = import_module(library)
    with lib.Client(auth=make_auth(library, manager)) as client:
        client.get(api.url)
        client.get(api.url, extensions={"accredit": "api-client"})
        assert len(set(api.tokens)) == 1
        client.get(api.url, extensions={"accredit": {"scope": "orders:write"}})
        client.get(api.url)
        assert [api.tokens[0] == token for token in api.tokens] == [True, True, False, True]
        with pytest.raises(ConfigurationError):
            client.get(api.url, extensions={"accredit": "nobody"})
        with pytest.raises(ConfigurationError):
            client.get(api.url, extensions={"accredit": 7})
    assert server.count("/token") == 2


@BOTH
def test_a_request_that_is_sent_again_gets_the_token_of_the_day(
    library: str, manager: TokenManager, api: ScriptedApi
) -> None:
    lib: Any = import_module(library)
    with lib.Client(auth=make_auth(library, manager)) as client:
        request = client.build_request("GET", api.url)
        client.send(request)
        manager.renew()
        client.send(request)
        assert len(set(api.tokens)) == 2
        request.headers["Authorization"] = "Bearer mine"
        client.send(request)
        assert api.tokens[2] == "mine"


@BOTH
def test_a_token_given_before_does_not_go_where_it_must_not(
    library: str, make_manager: Callable[..., TokenManager], api: ScriptedApi, other_api: ScriptedApi
) -> None:
    lib: Any = import_module(library)
    with lib.Client(auth=make_auth(library, make_manager(api_origins=api.url))) as client:
        request = client.build_request("GET", api.url)
        client.send(request)
        request.url = lib.URL(other_api.url)
        client.send(request)
    assert [seen.authorization for seen in other_api.seen] == [None]
    assert api.tokens != [None]


@BOTH
def test_the_other_library_refuses_it_and_says_where_to_look(library: str, manager: TokenManager) -> None:
    other: Any = httpx if library == "httpx2" else httpx2
    with pytest.raises(TypeError, match=f"AccreditAuth for {library}; the one for another library is in"):
        other.Client(auth=make_auth(library, manager))


@BOTH
def test_the_auth_of_requests_is_not_for_httpx(library: str, manager: TokenManager, api: ScriptedApi) -> None:
    lib: Any = import_module(library)
    with (
        lib.Client(auth=for_requests.AccreditAuth(manager)) as client,
        pytest.raises(ConfigurationError, match=f"for requests, and was given a request of {library}"),
    ):
        client.get(api.url)
    assert api.count == 0


@BOTH
@pytest.mark.parametrize("put", [family._put_quickly, family._put_plainly])
def test_putting_a_header(library: str, put: Callable[[Any, str], bool]) -> None:
    lib: Any = import_module(library)
    headers = lib.Headers({"Accept": "*/*"})
    assert put(headers, "Bearer a")
    assert headers["authorization"] == "Bearer a"
    assert headers == lib.Headers({"Accept": "*/*", "Authorization": "Bearer a"})
    assert not put(headers, "Bearer b")
    assert headers["Authorization"] == "Bearer a"


@BOTH
def test_how_a_header_is_put(library: str) -> None:
    lib: Any = import_module(library)
    assert family.putter(lib.Headers) is family._put_quickly
    assert family.putter(dict) is family._put_plainly


@BOTH
def test_a_registration_that_changes_at_run_time(
    library: str, make_manager: Callable[..., TokenManager], tls_api: ScriptedApi, ca: Any
) -> None:
    known = {"api-client": make_manager()._repository.get("api-client")}

    class Repository:
        default = "api-client"

        def get(self, registration_id: str, /) -> Any:
            return known.get(registration_id)

    lib: Any = import_module(library)
    context = ssl.create_default_context(cafile=ca)
    with (
        TokenManager(Repository()) as manager,
        lib.Client(auth=make_auth(library, manager), verify=context) as client,
    ):
        assert [client.get(tls_api.url).status_code for _ in range(2)] == [200, 200]
        del known["api-client"]
        with pytest.raises(ConfigurationError):
            client.get(tls_api.url)


@BOTH
def test_a_closed_manager(library: str, manager: TokenManager, api: ScriptedApi) -> None:
    lib: Any = import_module(library)

    def closing(seen: object) -> Reply:
        manager.close()
        return refusal()

    with lib.Client(auth=make_auth(library, manager)) as client:
        api.script = closing
        assert client.get(api.url).status_code == 401
        with pytest.raises(ConfigurationError, match="closed"):
            client.get(api.url)
    assert api.count == 1


# -- requests ------------------------------------------------------------------------------------------------


def test_several_tokens_on_one_session(manager: TokenManager, api: ScriptedApi, server: DevServer) -> None:
    auth = for_requests.AccreditAuth(manager)
    with requests.Session() as session:
        session.auth = auth
        other = auth.using(scope="orders:write")
        for each in (None, other, None, other):
            session.get(api.url, auth=each)
    assert api.tokens[0] == api.tokens[2] != api.tokens[1] == api.tokens[3]
    assert server.count("/token") == 2


def test_a_prepared_request_that_is_sent_again(manager: TokenManager, api: ScriptedApi, clock: JumpClock) -> None:
    refused = {manager.get().value}
    api.script = lambda seen: refusal() if seen.token in refused else Reply()
    with requests.Session() as session:
        session.auth = for_requests.AccreditAuth(manager)
        request = session.prepare_request(requests.Request("GET", api.url))
        assert session.send(request).status_code == 200
        # It has the newer token now, and heals once more when that is refused one day.
        refused.add(manager.get().value)
        clock.shift += 10
        assert session.send(request).status_code == 200
        assert (api.count, len(set(api.tokens))) == (4, 3)


def test_hooks_of_the_caller_see_the_last_answer(manager: TokenManager, api: ScriptedApi) -> None:
    stale = manager.get().value
    api.script = lambda seen: refusal() if seen.token == stale else Reply()
    statuses: list[int] = []
    with requests.Session() as session:
        session.auth = for_requests.AccreditAuth(manager)
        session.get(api.url, hooks={"response": lambda response, **_: statuses.append(response.status_code)})
    assert statuses == [200]


def test_a_file_is_sent_again_from_where_it_stood(manager: TokenManager, api: ScriptedApi, tmp_path: Any) -> None:
    stale = manager.get().value
    api.script = lambda seen: refusal() if seen.token == stale else Reply()
    path = tmp_path / "body"
    path.write_bytes(b"header|the rest")
    with requests.Session() as session, path.open("rb") as file:
        session.auth = for_requests.AccreditAuth(manager)
        file.seek(7)
        assert session.post(api.url, data=file).status_code == 200
    assert [seen.body for seen in api.seen] == [b"the rest", b"the rest"]


# -- aiohttp ---------------------------------------------------------------------------------------------------


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_forms_and_json_are_sent_again(manager: TokenManager, api: ScriptedApi, clock: JumpClock) -> None:
    refused: set[str | None] = set()
    api.script = lambda seen: refusal() if seen.token in refused else Reply()
    async with aiohttp.ClientSession(middlewares=(AccreditMiddleware(manager),)) as session:
        form = aiohttp.FormData()
        form.add_field("file", b"content", filename="x")
        for arguments in ({"json": {"a": 1}}, {"data": "text"}, {"data": {"a": "b"}}, {"data": form}):
            refused.add(manager.get().value)
            clock.shift += 10
            async with session.post(api.url, **arguments) as response:
                assert response.status == 200
            first, second = api.seen[-2:]
            assert first.body == second.body != b""


@pytest.mark.anyio
async def test_basic_auth_of_the_caller_wins_over_netrc_too(manager: TokenManager, api: ScriptedApi, monkeypatch: Any,
                                             tmp_path: Any) -> None:  # fmt: skip
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    header = "Basic bWU6cGFzcw=="
    async with (
        aiohttp.ClientSession(middlewares=(AccreditMiddleware(manager),), trust_env=True) as session,
        session.get(api.url, headers={"Authorization": header}) as response,
    ):
        assert response.status == 200
    assert [seen.authorization for seen in api.seen] == [header]


# -- all of them -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [for_httpx2.AccreditAuth, for_httpx.AccreditAuth, for_requests.AccreditAuth,
                                  AccreditMiddleware])  # fmt: skip
def test_something_that_is_no_manager(make: Any) -> None:
    with pytest.raises(ConfigurationError, match="TokenManager"):
        make("api-client")


@pytest.mark.parametrize("make", [for_httpx2.AccreditAuth, for_httpx.AccreditAuth, for_requests.AccreditAuth,
                                  AccreditMiddleware])  # fmt: skip
def test_nothing_is_printed_of_the_token(make: Any, manager: TokenManager) -> None:
    value = manager.get().value
    assert value not in repr(make(manager))


@pytest.mark.parametrize(
    ("library", "hint"),
    [
        ("httpx2", "install accredit"),
        ("httpx", r"accredit\[httpx\]"),
        ("requests", r"accredit\[requests\]"),
        ("aiohttp", r"accredit\[aiohttp\]"),
    ],
)
def test_a_library_that_is_missing(library: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"accredit.integrations.{library}"
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=hint):
        import_module(name)


def test_importing_one_integration_loads_no_other_library() -> None:
    code = (
        "import sys, accredit.integrations.httpx2\n"
        "print(sorted({'httpx', 'requests', 'aiohttp'} & set(sys.modules)))\n"
        "import accredit.integrations, accredit\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
