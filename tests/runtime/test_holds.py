"""What is held after a refusal, for whom, and what ends it: time, another secret, another registration."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from accredit import (
    ClientRegistration,
    ClientSecretPost,
    CredentialRefusedError,
    RequestRefusedError,
    Secret,
    ThrottledError,
    TokenManager,
)
from accredit.core.secret import SecretSource
from accredit.devserver import DevServer
from accredit.testing.clock import SteerableClock
from tests.runtime.support import SECRET, registration, threads

Make = Callable[..., TokenManager]
VARIABLE = "ORDERS_CLIENT_SECRET"


class Rotation:
    """A secret that is wrong at first, and a way to make it right."""

    def __init__(self, source: SecretSource, make_right: Callable[[], None]) -> None:
        self.source = source
        self.make_right = make_right


def rotated_file(directory: Path, _: pytest.MonkeyPatch) -> Rotation:
    path, fresh = directory / "secret", directory / "secret.new"
    path.write_text("wrong-secret\n")

    def replace() -> None:
        fresh.write_text(f"{SECRET}\n")
        os.replace(fresh, path)  # noqa: PTH105 - the very call that rotation tools make

    return Rotation(Secret.from_file(path), replace)


def rewritten_file(directory: Path, _: pytest.MonkeyPatch) -> Rotation:
    path = directory / "secret"
    path.write_text("wrong-secret\n")

    def rewrite() -> None:
        path.write_text(SECRET)

    return Rotation(Secret.from_file(path), rewrite)


def swapped_symlink(directory: Path, _: pytest.MonkeyPatch) -> Rotation:
    """As Kubernetes does it: the file is a link into a directory that is itself a link, and that one is swapped."""
    for version, secret in (("v1", "12345678901"), ("v2", SECRET + "\n")):
        (directory / version).mkdir()
        (directory / version / "secret").write_text(secret)
    assert (directory / "v1/secret").stat().st_size == (directory / "v2/secret").stat().st_size
    (directory / "..data").symlink_to("v1")
    (directory / "secret").symlink_to("..data/secret")

    def swap() -> None:
        (directory / "..data_tmp").symlink_to("v2")
        os.replace(directory / "..data_tmp", directory / "..data")  # noqa: PTH105

    return Rotation(Secret.from_file(directory / "secret"), swap)


def function(_: Path, __: pytest.MonkeyPatch) -> Rotation:
    values = ["wrong-secret"]
    return Rotation(Secret.from_function(lambda: values[-1]), lambda: values.append(SECRET))


def environment(_: Path, patch: pytest.MonkeyPatch) -> Rotation:
    patch.setenv(VARIABLE, "wrong-secret")
    return Rotation(Secret.from_environment(VARIABLE), lambda: patch.setenv(VARIABLE, SECRET))


ROTATIONS = [rotated_file, rewritten_file, swapped_symlink, function, environment]


@pytest.fixture
def clock() -> SteerableClock:
    return SteerableClock()


@pytest.mark.parametrize("make_rotation", ROTATIONS)
def test_another_secret_ends_the_hold_at_once(
    server: DevServer,
    make_manager: Make,
    clock: SteerableClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_rotation: Callable[[Path, pytest.MonkeyPatch], Rotation],
) -> None:
    rotation = make_rotation(tmp_path, monkeypatch)
    manager = make_manager(registration(server, rotation.source), clock=clock)
    for attempt in range(1, 5):
        for _ in range(10):
            with pytest.raises(CredentialRefusedError):
                manager.get()
        assert server.count("/token") == attempt
        if attempt < 4:
            clock.advance(hold_left(manager, clock) + 0.001)
    # After four failures in a row the hold lasts 8 to 16 s, but only for that secret.
    assert hold_left(manager, clock) > 7
    rotation.make_right()
    clock.advance(1.0)  # a source is looked at once a second at most
    assert manager.get().value
    assert server.count("/token") == 5


def hold_left(manager: TokenManager, clock: SteerableClock) -> float:
    return next(iter(manager._engine.slots.values())).retry_at - clock.now()


@pytest.mark.parametrize("make_rotation", ROTATIONS)
def test_a_secret_rotated_while_the_old_one_was_on_its_way_is_tried_in_the_same_flight(
    server: DevServer,
    make_manager: Make,
    clock: SteerableClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_rotation: Callable[[Path, pytest.MonkeyPatch], Rotation],
) -> None:
    rotation = make_rotation(tmp_path, monkeypatch)
    manager = make_manager(registration(server, rotation.source), clock=clock)
    server.hold()
    with threads([manager.get]) as answers:
        assert server.wait_for_waiting(1) == 1
        rotation.make_right()
        server.release()
    assert not answers.errors
    assert answers.results[0].value
    assert [entry.status for entry in server.requests("/token")] == [401, 200]


def test_a_literal_secret_is_held_with_growing_pauses(
    server: DevServer, make_manager: Make, clock: SteerableClock
) -> None:
    manager = make_manager(registration(server, "wrong-secret"), clock=clock)
    for attempt in range(1, 8):
        with pytest.raises(CredentialRefusedError) as caught:
            manager.get()
        assert caught.value.error_code == "invalid_client"
        assert server.count("/token") == attempt
        left = hold_left(manager, clock)
        assert min(2.0 ** (attempt - 1), 30) <= left <= min(2.0**attempt, 60)
        while hold_left(manager, clock) > 1.001:
            clock.advance(1.0)
            with pytest.raises(CredentialRefusedError):
                manager.get()
            assert server.count("/token") == attempt
        clock.advance(max(hold_left(manager, clock), 0.0) + 0.001)


def test_a_refused_credential_holds_the_other_scopes_of_it_no_longer_than_one_request_each(
    server: DevServer, make_manager: Make, clock: SteerableClock
) -> None:
    manager = make_manager(registration(server, "wrong-secret"), clock=clock)
    for scope in ("orders:read", "orders:write"):
        for _ in range(5):
            with pytest.raises(CredentialRefusedError):
                manager.get(scope=scope)
    assert server.count("/token") == 2


def test_a_usable_token_is_served_while_the_credential_is_held(
    server: DevServer, make_manager: Make, clock: SteerableClock, tmp_path: Path
) -> None:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    manager = make_manager(registration(server, Secret.from_file(path)), clock=clock)
    token = manager.get()
    path.write_text("wrong-now")
    with pytest.raises(CredentialRefusedError):
        manager.renew()
    assert manager.get() == token
    path.write_text(SECRET)
    clock.advance(2)
    assert manager.renew() != token


def test_a_refused_request_is_held_per_identity(server: DevServer, make_manager: Make, clock: SteerableClock) -> None:
    manager = make_manager(registration(server), clock=clock)
    for _ in range(5):
        with pytest.raises(RequestRefusedError) as caught:
            manager.get(scope="no:such")
        assert caught.value.error_code == "invalid_scope"
    assert server.count("/token") == 1
    assert manager.get(scope="orders:read").value
    assert server.count("/token") == 2


# -- throttled ------------------------------------------------------------------------------------------


def two_of_one_client(server: DevServer) -> list[ClientRegistration]:
    return [registration(server, id="first"), registration(server, id="second", scope="orders:read")]


def test_a_throttle_is_shared_by_all_registrations_of_the_client(
    server: DevServer, make_manager: Make, clock: SteerableClock
) -> None:
    bystander = registration(server, "other-secret", id="third", client_id="other-client")
    manager = make_manager([*two_of_one_client(server), bystander], clock=clock)
    server.fail(429, retry_after="30", times=1)
    with pytest.raises(ThrottledError) as caught:
        manager.get("first")
    assert caught.value.retry_after == pytest.approx(30)
    for name in ("second", "first", "second"):
        with pytest.raises(ThrottledError) as caught:
            manager.get(name)
        assert caught.value.retry_after == pytest.approx(30)
    assert server.count("/token") == 1
    # Another client of that server is not concerned.
    assert manager.get("third").value
    clock.advance(29.9)
    with pytest.raises(ThrottledError) as caught:
        manager.get("second")
    assert caught.value.retry_after == pytest.approx(0.1)
    clock.advance(0.11)
    server.clear_log()
    assert manager.get("first").value
    clock.advance(1.0)  # what holds at all holds for a second
    assert manager.get("second").value
    assert server.count("/token") == 2


def test_a_throttle_spares_usable_tokens(server: DevServer, make_manager: Make, clock: SteerableClock) -> None:
    manager = make_manager(two_of_one_client(server), clock=clock)
    token = manager.get("first")
    server.fail(503, retry_after="60")
    with pytest.raises(ThrottledError):
        manager.get("second")
    clock.advance(token.renew_at - clock.now() - 59)
    with pytest.raises(ThrottledError):
        manager.get("second")
    assert manager.get("first") == token


@pytest.mark.parametrize(
    ("retry_after", "least", "most"),
    [
        ("0", 0, 2),
        ("7", 7, 7),
        ("1000000000", 300, 300),
        ("soon", 1, 2),
        ("-1", 1, 2),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 2),
    ],
)
def test_what_retry_after_may_say(
    server: DevServer, make_manager: Make, clock: SteerableClock, retry_after: str, least: float, most: float
) -> None:
    manager = make_manager(registration(server), clock=clock)
    server.fail(429, retry_after=retry_after, times=1)
    with pytest.raises(ThrottledError) as caught:
        manager.get()
    assert caught.value.retry_after is not None
    assert least <= caught.value.retry_after <= most
    clock.advance(max(most, 1.0) + 0.001)
    assert manager.get().value


# -- registrations that change --------------------------------------------------------------------------


class Repository:
    def __init__(self, found: ClientRegistration | None) -> None:
        self.found = found
        self.default = "api-client"

    def get(self, registration_id: str, /) -> ClientRegistration | None:
        return self.found if self.found is not None and self.found.id == registration_id else None


def test_a_registration_with_another_secret_ends_the_hold(
    server: DevServer, make_manager: Make, clock: SteerableClock
) -> None:
    repository = Repository(registration(server, "wrong-secret"))
    manager = make_manager(repository, clock=clock)
    with pytest.raises(CredentialRefusedError):
        manager.get()
    repository.found = registration(server)
    clock.advance(0.5)
    assert manager.get().value
    assert server.count("/token") == 2


def test_a_registration_that_changes_is_another_identity_or_the_same(
    server: DevServer, make_manager: Make, clock: SteerableClock
) -> None:
    repository = Repository(registration(server, scope="orders:read"))
    manager = make_manager(repository, clock=clock)
    token = manager.get()
    assert token.granted_scope == ("orders:read",)
    # Another scope is another token ...
    repository.found = registration(server, scope="orders:read orders:write")
    assert manager.get().granted_scope == ("orders:read", "orders:write")
    # ... the old scope is the old token, also for calls that name it ...
    repository.found = registration(server, scope="orders:read")
    assert manager.get() == token
    assert manager.get(scope="orders:read") == token
    assert server.count("/token") == 2
    # ... a new secret or time-out is no other token, and is what the next renewal uses ...
    repository.found = registration(server, scope="orders:read", secret="wrong-secret")
    assert manager.get() == token
    with pytest.raises(CredentialRefusedError):
        manager.renew()
    # ... and another way to authenticate is another token.
    repository.found = registration(server, scope="orders:read", client_auth=ClientSecretPost(SECRET))
    assert manager.get() != token
