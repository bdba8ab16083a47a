"""Opening, closing, hooks, and what the first level keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from accredit import AccessToken, AccreditError, AsyncTokenManager, ConfigurationError, MemoryStore, TokenManager
from accredit.devserver import DevServer
from accredit.instrumentation import Event, TokenObtained
from tests.runtime.support import Events, JumpClock, eventually, in_loop, in_trio, registration, threads, waiting

Make = Callable[..., TokenManager]


# -- closed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["get", "renew", "headers", "peek", "keep_fresh"])
def test_after_close_every_call_says_so(server: DevServer, make_manager: Make, call: str) -> None:
    manager = make_manager(registration(server))
    manager.get()
    manager.close()
    manager.close()
    with pytest.raises(ConfigurationError, match="closed"):
        getattr(manager, call)()
    with pytest.raises(ConfigurationError, match="closed"):
        getattr(manager, call)(principal="somebody")
    assert server.count("/token") == 1


def test_the_faces_close_together(server: DevServer, make_manager: Make) -> None:
    manager = make_manager(registration(server))
    face = manager.asynchronous()
    assert isinstance(in_loop(face.get)()[0], AccessToken)
    in_loop(face.close)()
    with pytest.raises(ConfigurationError, match="closed"):
        manager.get()
    for error in (*in_loop(face.get)(), *in_trio(face.renew)()):
        assert isinstance(error, ConfigurationError)
    in_trio(face.close)()
    manager.close()


def test_those_who_wait_are_answered_on_close(server: DevServer, make_manager: Make) -> None:
    manager = make_manager(registration(server))
    face = manager.asynchronous()
    server.hold()
    with threads([*[manager.get] * 8, in_loop(face.get, 8), in_trio(face.get, 8)]) as answers:
        eventually(lambda: waiting(manager) == 24)
        assert server.wait_for_waiting(1) == 1
        manager.close()  # the server still holds the request
    errors = [*answers.errors, *answers.results[0], *answers.results[1]]
    assert len(errors) == 24
    assert all(isinstance(error, AccreditError) for error in errors)
    server.release()


def test_a_flight_that_lands_after_close_opens_nothing(server: DevServer, make_manager: Make, clock: JumpClock) -> None:
    manager = make_manager(registration(server), clock=clock)
    clock.make_renewable(manager.get())
    server.hold()
    manager.get()
    assert server.wait_for_waiting(1) == 1
    manager.close()
    server.release()
    eventually(lambda: next(iter(manager._engine.slots.values())).flight is None)
    with pytest.raises(ConfigurationError, match="closed"):
        manager.get()


def test_context_managers(server: DevServer) -> None:
    with TokenManager(registration(server)) as manager:
        assert manager.get().value
    with pytest.raises(ConfigurationError, match="closed"):
        manager.get()

    async def scenario() -> AsyncTokenManager:
        async with AsyncTokenManager(registration(server)) as face:
            assert (await face.headers()) == {"Authorization": (await face.get()).authorization}
            assert face.peek() == await face.get()
        return face

    (face,) = in_loop(scenario)()
    assert isinstance(face, AsyncTokenManager)
    assert isinstance(in_trio(face.get)()[0], ConfigurationError)


def test_making_a_manager_opens_nothing(server: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket
    import threading

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    manager = TokenManager(registration(server, lambda: "asked for too early"))
    assert manager.peek() is None
    manager.close()


# -- hooks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ValueError, RecursionError, SystemExit, KeyboardInterrupt])
def test_a_hook_that_raises_hurts_nobody(server: DevServer, make_manager: Make, kind: type[BaseException]) -> None:
    def hook(event: Event) -> None:
        raise kind

    manager = make_manager(registration(server), on_event=hook)
    with threads([manager.get] * 8) as answers:
        pass
    assert len(answers.results) == 8
    assert manager.renew().value
    server.fail(400, error="invalid_scope")
    with pytest.raises(AccreditError):
        manager.renew()
    server.recover()
    assert manager.get().value


def test_a_hook_may_call_the_manager(server: DevServer, make_manager: Make) -> None:
    seen: list[AccessToken | None] = []
    managers: list[TokenManager] = []

    def hook(event: Event) -> None:
        manager = managers[0]
        seen.append(manager.peek())
        if event.principal != "inner":
            seen.append(manager.get(principal="inner"))

    managers.append(make_manager(registration(server), on_event=hook))
    token = managers[0].get(timeout=10)
    assert token.value
    assert token in seen
    assert server.count("/token") == 2


def test_an_event_comes_before_the_answer(server: DevServer, make_manager: Make) -> None:
    events = Events()
    manager = make_manager(registration(server), on_event=events)
    for number in range(20):
        manager.renew()
        assert len(events.of(TokenObtained)) == number + 1


# -- the first level ------------------------------------------------------------------------------------


def test_what_the_first_level_forgets_the_store_still_has(server: DevServer, make_manager: Make) -> None:
    manager = make_manager(registration(server), max_entries=8)
    names = [f"user-{number}" for number in range(64)]
    tokens = {name: manager.get(principal=name) for name in names}
    assert len(manager._engine.slots) <= 9
    assert server.count("/token") == len(names)
    for name in names:
        again = manager.get(principal=name)
        assert again.value == tokens[name].value
        assert again.generation == tokens[name].generation
        assert manager.peek(principal=name) is not None
    assert server.count("/token") == len(names)


def test_what_the_store_forgets_too_is_fetched_again(server: DevServer, make_manager: Make) -> None:
    manager = make_manager(registration(server), max_entries=2, store=MemoryStore(max_entries=2))
    for _ in range(2):
        for number in range(4):
            manager.get(principal=f"user-{number}")
    assert server.count("/token") == 8


def test_managers_that_share_a_store_share_tokens(server: DevServer, make_manager: Make) -> None:
    store = MemoryStore()
    first, second = (make_manager(registration(server), store=store) for _ in range(2))
    server.hold()
    with threads([*[first.get] * 8, *[second.get] * 8]) as answers:
        eventually(lambda: waiting(first) == waiting(second) == 8)
        server.release()
    assert len({token.value for token in answers.results}) == 1
    assert server.count("/token") == 1
    # What one reports as refused, the other renews, once.
    second.suspect(second.get())
    renewed = second.get()
    assert first.renew().value == renewed.value
    assert server.count("/token") == 2


def test_a_removed_token_is_gone_from_the_store_too(server: DevServer, make_manager: Make) -> None:
    store = MemoryStore()
    first, second = (make_manager(registration(server), store=store) for _ in range(2))
    token = first.get()
    first.remove()
    assert first.peek() is None
    assert second.get() != token
    in_loop(second.asynchronous().remove)()
    assert len(store) == 0
    assert server.count("/token") == 2


def test_a_late_report_about_an_old_token_does_nothing(server: DevServer, make_manager: Make) -> None:
    manager = make_manager(registration(server))
    old = manager.get()
    new = manager.renew()
    manager.suspect(old)
    assert manager.get() == new
    manager.suspect(new)
    newest = manager.get()
    assert newest != new
    assert server.count("/token") == 3


def test_a_suspect_token_is_used_when_none_better_can_be_had(
    server: DevServer, make_manager: Make, clock: JumpClock
) -> None:
    manager = make_manager(registration(server), clock=clock)
    token = manager.get()
    server.fail(400, error="invalid_scope")
    manager.suspect(token)
    for _ in range(10):
        assert manager.get() == token
    assert server.count("/token") == 2
    server.recover()
    clock.shift += 5
    assert manager.get() != token
