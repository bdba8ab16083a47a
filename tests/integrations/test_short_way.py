"""The short way of each integration, for a fresh token at a known place: it never differs from the long one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from typing import Any

import pytest

from accredit import TokenManager
from accredit.devserver import DevServer
from accredit.integrations import _httpx_family as family
from accredit.integrations import aiohttp as for_aiohttp
from accredit.integrations import requests as for_requests
from tests.integrations.api import ScriptedApi
from tests.integrations.callers import CALLERS
from tests.integrations.conftest import MakeCaller
from tests.runtime.support import JumpClock, registration

BOTH = pytest.mark.parametrize("library", ["httpx2", "httpx"])


@BOTH
@pytest.mark.parametrize("place", [family._place_quickly, family._place_plainly])
def test_what_decides_where_a_request_goes(library: str, place: Callable[[Any], object]) -> None:
    url = import_module(library).URL
    same = [place(url(text)) for text in ("https://API.example/a?b", "https://api.example", "https://api.example:443")]
    other = ["http://api.example", "https://api.example:8443", "https://api.example.org", "https://api.example@x.org"]
    assert len(set(same)) == 1
    assert len({same[0], *(place(url(text)) for text in other)}) == 1 + len(other)
    assert family.placer(url) is family._place_quickly
    assert family.placer(str) is family._place_plainly


def test_what_the_short_ways_stand_on() -> None:
    """Where a library keeps its parts in another way one day, every call takes the long way, which is right too."""
    assert for_requests._STORES
    assert not for_requests._keeps_a_store(dict)
    assert for_aiohttp._SPLITS
    assert not for_aiohttp._splits(str)


@pytest.mark.parametrize("short", [True, False])
@pytest.mark.parametrize("bound", [True, False])
def test_calls_that_go_the_short_way_and_those_that_do_not(
    make_caller: MakeCaller, make_manager: Callable[..., TokenManager], api: ScriptedApi, other_api: ScriptedApi,
    short: bool, bound: bool, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Either way the same arrives, also at origins that only begin like an allowed one."""
    monkeypatch.setattr(for_requests, "_STORES", short)
    monkeypatch.setattr(for_aiohttp, "_SPLITS", short)
    caller = make_caller(make_manager(**({"api_origins": api.url} if bound else {})))
    slow: list[str] = []
    tokens_class = type(caller.auth._tokens)
    slot = tokens_class.slot
    monkeypatch.setattr(tokens_class, "slot", lambda tokens, choice: slow.append("slow") or slot(tokens, choice))
    if not short and hasattr(caller.auth, "_places"):
        monkeypatch.setattr(type(caller.auth), "_ready", lambda auth, slot, request: None)
    for _ in range(3):
        assert caller.call(f"{api.url}/orders").status == 200
    assert len(slow) == (1 if short else 3)
    for url in (other_api.url, other_api.url, f"http://localhost:{api.port}"):
        assert caller.call(f"{url}/orders").status == 200
    assert api.tokens[:3] == [api.tokens[0]] * 3 != [None] * 3
    expected = [None, None, None] if bound else [api.tokens[0]] * 3
    assert [*other_api.tokens, api.tokens[3]] == expected
    # And back.
    assert caller.call(api.url).status == 200
    assert api.tokens[4] == api.tokens[0]


def test_a_prefix_ends_with_the_authority(manager: TokenManager) -> None:
    auth = for_requests.AccreditAuth(manager)
    slot = auth._tokens.slot(auth._choice)
    for url in ("http://127.0.0.1", "http://127.0.0.1?a=b", "http://127.0.0.1#a"):
        auth._learn(slot, url)
    assert not auth._prefixes
    auth._learn(slot, "http://127.0.0.1/a")
    assert list(auth._prefixes) == ["http://127.0.0.1/"]
    for port in range(1, 50):
        auth._learn(slot, f"http://127.0.0.1:{port}/a")
    assert len(auth._prefixes) == for_requests._MOST_PREFIXES
    assert next(iter(auth._prefixes)) == "http://127.0.0.1:49/"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://user:word@api.example/a", "https://api.example"),
        ("https://api.example\\@other.example/a", "https://api.example\\@other.example?"),
    ],
)
def test_the_origin_of_a_url_that_two_readers_read_differently(url: str, origin: str) -> None:
    assert for_requests._origin(url) == origin


def test_many_origins_are_not_remembered_for_ever(
    make_caller: MakeCaller, make_manager: Callable[..., TokenManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family, "MOST_PLACES", 2)
    monkeypatch.setattr(for_aiohttp, "MOST_PLACES", 2)
    monkeypatch.setattr(for_requests, "_MOST_PREFIXES", 2)
    caller = make_caller(make_manager())
    with ExitStack() as stack:
        for api in [stack.enter_context(ScriptedApi()) for _ in range(5)]:
            assert caller.call(api.url).status == 200
            assert api.tokens[0] is not None
    (remembered,) = (getattr(caller.auth, name) for name in ("_places", "_schemes", "_prefixes")
                     if hasattr(caller.auth, name))  # fmt: skip
    assert 1 <= len(remembered) <= 2


def test_an_evicted_identity_is_looked_up_again(
    server: DevServer, library: str, clock: JumpClock, api: ScriptedApi
) -> None:
    """Nothing that an object remembers keeps a token in use that the manager has let go of."""
    with ExitStack() as stack:
        manager = stack.enter_context(TokenManager(registration(server), clock=clock, max_entries=1))
        caller = CALLERS[library](manager, stack=stack)
        caller.open()
        assert [caller.call(api.url).status for _ in range(2)] == [200, 200]
        old = next(iter(manager._engine.slots.values()))
        manager.get(scope="orders:write")
        assert old.evicted
        assert old.token is None
        manager._engine.acquire(old)  # by somebody who had looked it up just before
        assert old.fresh is None
        manager.get()
        manager.renew()
        assert caller.call(api.url).status == 200
        assert api.tokens[0] == api.tokens[1] != api.tokens[2] == manager.get().value


@pytest.mark.parametrize("identities", [4_500, 6_000])
def test_as_many_identities_as_are_kept_are_found_by_what_was_asked(server: DevServer, identities: int) -> None:
    with TokenManager(registration(server), max_entries=6_000) as manager:
        slots = [manager._slot(None, None, None, f"https://{number}.example", None) for number in range(identities)]
        assert len(manager._aliases) == identities
        assert all(
            manager._slot(None, None, None, f"https://{number}.example", None) is slots[number]
            for number in range(0, identities, 500)
        )
        # And no more than that, however many there are.
        for number in range(identities, 6_010):
            manager._slot(None, None, None, f"https://{number}.example", None)
        assert len(manager._aliases) <= 6_000
