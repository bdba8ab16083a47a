"""Finding registrations: several, a default, an object with get(id); and what a wrong one is answered with."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from accredit import ClientRegistration, ConfigurationError, TokenManager
from accredit.devserver import DevServer
from accredit.registrations import RegistrationRepository, Registrations
from tests.runtime.support import in_loop, registration

Make = Callable[..., TokenManager]


class Repository:
    """Any object with ``get(id)``."""

    def __init__(self, *found: object) -> None:
        self.found = list(found)
        self.asked: list[str] = []

    def get(self, registration_id: str, /) -> ClientRegistration | None:
        self.asked.append(registration_id)
        return next((one for one in self.found if getattr(one, "id", registration_id) == registration_id), None)  # type: ignore[return-value]


def test_one_is_the_default(server: DevServer, make_manager: Make) -> None:
    one = registration(server)
    for given in (one, [one], (one,), iter([one]), {"api-client": one}, Registrations([one])):
        manager = make_manager(given)
        assert manager.get() == manager.get("api-client")
    assert server.count("/token") == 6


def test_several_need_a_name_or_a_default(server: DevServer, make_manager: Make) -> None:
    both = [registration(server, id="first"), registration(server, id="second")]
    manager = make_manager(both)
    with pytest.raises(ConfigurationError, match="no registration was named"):
        manager.get()
    assert manager.get("first") != manager.get("second")
    chosen = make_manager(both, default="second")
    assert chosen.get() == chosen.get("second")
    assert server.count("/token") == 3


@pytest.mark.parametrize("call", ["get", "renew", "headers", "peek", "remove", "keep_fresh"])
def test_an_unknown_one_is_named_with_those_there_are(server: DevServer, make_manager: Make, call: str) -> None:
    manager = make_manager([registration(server, id="first"), registration(server, id="second")])
    with pytest.raises(ConfigurationError, match=r"no registration 'third'.*first, second") as caught:
        getattr(manager, call)("third")
    assert caught.value.key == "registration.third"
    assert server.count() == 0


def test_an_unknown_one_on_the_asynchronous_face(server: DevServer, make_manager: Make) -> None:
    face = make_manager(registration(server)).asynchronous()
    (error,) = in_loop(lambda: face.get("third"))()
    assert isinstance(error, ConfigurationError)


def test_what_cannot_be_a_set_of_registrations(server: DevServer) -> None:
    one = registration(server)
    with pytest.raises(ConfigurationError, match="two registrations have the id"):
        TokenManager([one, registration(server, audience="https://other")])
    with pytest.raises(ConfigurationError, match="default registration 'other' does not exist"):
        TokenManager([one], default="other")
    with pytest.raises(ConfigurationError, match="a str is not a ClientRegistration"):
        TokenManager("api-client")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="registrations is a int"):
        TokenManager(7)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no registration was named"):
        TokenManager([]).get()
    with pytest.raises(ConfigurationError, match="max_entries"):
        TokenManager(one, max_entries=0)


def test_a_repository_is_asked_by_id(server: DevServer, make_manager: Make) -> None:
    repository = Repository(registration(server))
    assert isinstance(repository, RegistrationRepository)
    manager = make_manager(repository)
    token = manager.get("api-client")
    assert manager.get("api-client") == token
    assert set(repository.asked) == {"api-client"}
    with pytest.raises(ConfigurationError, match="no registration was named"):
        manager.get()
    with pytest.raises(ConfigurationError, match="no registration 'other'"):
        manager.get("other")
    with_default = make_manager(repository, default="api-client")
    assert with_default.get().value
    assert server.count("/token") == 2


def test_a_registration_that_is_taken_away_is_gone_at_once(server: DevServer, make_manager: Make) -> None:
    repository = Repository(registration(server))
    manager = make_manager(repository, default="api-client")
    token = manager.get()
    repository.found.clear()
    with pytest.raises(ConfigurationError, match="no registration 'api-client'"):
        manager.get()
    repository.found.append(registration(server))
    assert manager.get() == token
    assert server.count("/token") == 1


def test_a_repository_that_returns_something_else(make_manager: Make) -> None:
    manager = make_manager(Repository({"client_id": "x"}), default="api-client")
    with pytest.raises(ConfigurationError, match="returned a dict"):
        manager.get()


def test_per_call_arguments_choose_the_token(server: DevServer, make_manager: Make) -> None:
    manager = make_manager(registration(server, scope="orders:read"))
    assert manager.get().granted_scope == ("orders:read",)
    assert manager.get(scope="orders:write").granted_scope == ("orders:write",)
    assert manager.get(scope=["orders:write"]) == manager.get(scope="orders:write")
    assert manager.get(scope=iter(["orders:write"])) == manager.get(scope={"orders:write"})
    assert manager.get(scope="orders:read") == manager.get()
    assert manager.get(principal="somebody") != manager.get()
    assert manager.get(principal="service-account") == manager.get()
    assert server.count("/token") == 3


@pytest.mark.parametrize(
    "arguments",
    [
        {"scope": 'with"quote'},
        {"scope": ["two words"]},
        {"scope": [7]},
        {"resource": "no-uri"},
        {"resource": "https://api.example/#fragment"},
        {"audience": ""},
        {"audience": "line\nbreak"},
        {"principal": ""},
        {"principal": "x" * 257},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": "soon"},
        {"timeout": True},
    ],
    ids=repr,
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    server: DevServer, make_manager: Make, arguments: dict[str, object]
) -> None:
    manager = make_manager(registration(server))
    with pytest.raises(ConfigurationError):
        manager.get(**arguments)  # type: ignore[arg-type]
    (error,) = in_loop(lambda: manager.asynchronous().get(**arguments))()  # type: ignore[arg-type]
    assert isinstance(error, ConfigurationError)
    assert server.count() == 0
