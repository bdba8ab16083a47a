"""Slips of the kind that a new user makes: each is answered where it was made, by its name, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from accredit import ClientSecretBasic, ConfigurationError, Secret, TokenManager
from accredit.devserver import DevServer
from accredit.integrations.aiohttp import AccreditMiddleware
from accredit.integrations.httpx2 import AccreditAuth
from accredit.integrations.requests import AccreditAuth as RequestsAuth
from accredit.stores.memory import MemoryStore
from accredit.transport import HttpTransport, TransportSettings
from tests.runtime.support import in_loop, registration

CANARY = "c4nary-that-is-no-text"
CALLS = ["get", "renew", "headers", "peek", "remove", "keep_fresh"]
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"registration": ["orders:read"]}, "registration"),
    ({"registration": {"scope": "orders:read"}}, "registration"),
    ({"registration": 7}, "registration"),
    ({"scope": 7}, "scope"),
    ({"scope": [["orders:read"]]}, "scope"),
    ({"scope": b"orders:read"}, "scope"),
    ({"resource": 7}, "resource"),
    ({"audience": ["https://api.example.com"]}, "audience"),
    ({"principal": ["somebody"]}, "principal"),
]


def refused(do: Callable[[], object], key: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        do()
    assert caught.value.key == key
    assert caught.value.advice
    trace = caught.value.__traceback__
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(__file__):
            assert CANARY not in repr(trace.tb_frame.f_locals)
        trace = trace.tb_next
    return caught.value


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("arguments", "key"), WRONG)
def test_arguments_of_a_call(
    server: DevServer, make_manager: Callable[..., TokenManager], call: str, arguments: dict[str, Any], key: str
) -> None:
    manager = make_manager(registration(server))
    refused(lambda: getattr(manager, call)(**arguments), key)
    assert server.count() == 0


@pytest.mark.parametrize(("arguments", "key"), WRONG)
def test_arguments_of_a_call_of_the_asynchronous_face(
    server: DevServer, make_manager: Callable[..., TokenManager], arguments: dict[str, Any], key: str
) -> None:
    face = make_manager(registration(server)).asynchronous()
    (error,) = in_loop(lambda: face.get(**arguments))()
    assert isinstance(error, ConfigurationError)
    assert error.key == key


@pytest.mark.parametrize("make", [AccreditAuth, RequestsAuth, AccreditMiddleware])
def test_what_an_integration_is_to_attach(
    server: DevServer, make_manager: Callable[..., TokenManager], make: Callable[..., Any]
) -> None:
    manager = make_manager(registration(server))
    refused(lambda: make(manager, scope=7), "scope")
    refused(lambda: make(manager).using(resource=[7]), "resource")


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({"store": "redis://localhost"}, "store is a str"),
        ({"store": MemoryStore}, "store is the class MemoryStore"),
        ({"transport": TransportSettings()}, "transport is a TransportSettings"),
        ({"transport": HttpTransport}, "transport is the class HttpTransport"),
        ({"on_event": 7}, "on_event is a int"),
        ({"max_entries": "100"}, "max_entries is not a whole number"),
        ({"max_entries": 0}, "max_entries is not a whole number"),
        ({"max_entries": True}, "max_entries is not a whole number"),
    ],
)
def test_parts_of_a_manager(server: DevServer, part: dict[str, Any], says: str) -> None:
    error = refused(lambda: TokenManager(registration(server), **part), next(iter(part)))
    assert says in str(error)


def test_the_value_of_a_token_is_not_a_token(server: DevServer, make_manager: Callable[..., TokenManager]) -> None:
    manager = make_manager(registration(server))
    token = manager.get()
    refused(lambda: manager.suspect(CANARY), "token")  # type: ignore[arg-type]
    assert manager.get() is token


@pytest.mark.parametrize("wrong", [None, 7, CANARY.encode()], ids=["none", "number", "bytes"])
def test_a_secret_is_a_text(server: DevServer, make_manager: Callable[..., TokenManager], wrong: Any) -> None:
    refused(lambda: Secret(wrong), "secret")
    given = make_manager(registration(server, client_auth=ClientSecretBasic(lambda: Secret(wrong))))
    error = refused(given.get, "client_secret")
    assert "raised ConfigurationError" in str(error)
    assert server.count() == 0


@pytest.mark.parametrize("wrong", [None, 7, "", "A=B", "A\0B"])
def test_the_name_of_a_variable(wrong: Any) -> None:
    refused(lambda: Secret.from_environment(wrong), "client_secret")


@pytest.mark.parametrize("wrong", ["3", None, 0, float("nan"), float("inf")])
def test_a_time_limit_for_connecting(wrong: Any) -> None:
    refused(lambda: TransportSettings(connect_timeout=wrong), "connect_timeout")
