"""Fresh, renewable, expired: what a caller gets in each state, whatever the server does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from accredit import (
    AccessToken,
    AccreditError,
    MalformedResponseError,
    RequestRefusedError,
    ThrottledError,
    TokenManager,
    UnreachableError,
)
from accredit.devserver import DevServer
from accredit.instrumentation import LifetimeClamped, SameTokenAgain, TokenObtained
from accredit.testing.clock import SteerableClock
from tests.runtime.support import (
    PATIENCE,
    Events,
    JumpClock,
    eventually,
    flying,
    in_loop,
    in_trio,
    registration,
    threads,
    waiting,
)

Make = Callable[..., TokenManager]
GRANTED = '{"access_token":"fixed","token_type":"Bearer"'


@pytest.fixture
def steered() -> SteerableClock:
    return SteerableClock()


def answer(server: DevServer, **members: object) -> None:
    """Make the server grant a token with these members."""
    rest = "".join(f',"{name}":{value}' for name, value in members.items())
    server.fail(200, body=f"{GRANTED}{rest}}}", headers={"content-type": "application/json"})


def landed(manager: TokenManager) -> None:
    eventually(lambda: flying(manager) == 0)


# -- renewable ------------------------------------------------------------------------------------------


def test_nobody_waits_for_a_renewal_ahead_of_expiry(
    server: DevServer, make_manager: Make, steered: SteerableClock
) -> None:
    manager = make_manager(registration(server), clock=steered)
    face = manager.asynchronous()
    token = manager.get()
    steered.advance(token.renew_at - steered.now())
    server.hold()
    crowd: list[Callable[[], object]] = [*[manager.get] * 32, in_loop(face.get, 1000), in_trio(face.get, 1000)]
    with threads(crowd) as answers:
        pass  # Everybody is answered while the one renewal is held at the server ...
    assert server.wait_for_waiting(1) == 1
    assert waiting(manager) == 0
    assert not answers.errors
    for got in answers.results:
        assert got == token or (isinstance(got, list) and got == [token] * 1000)
    assert server.count("/token") == 2
    server.release()
    landed(manager)
    # ... and gets the new token from when it is there.
    assert manager.get().generation != token.generation
    assert server.count("/token") == 2


def test_the_state_changes_at_the_renewal_point_and_at_usable_until(
    server: DevServer, make_manager: Make, steered: SteerableClock
) -> None:
    manager = make_manager(registration(server), clock=steered)
    token = manager.get()
    # An hour's token: five to ten minutes ahead, handed out until ten seconds before its end.
    assert 300 <= token.ends_at - token.renew_at <= 600
    assert token.ends_at - token.usable_until == pytest.approx(10)
    server.hold()
    steered.advance(token.renew_at - steered.now() - 0.01)
    assert manager.get() == token
    assert flying(manager) == 0
    steered.advance(0.02)
    assert manager.get() == token
    assert flying(manager) == 1
    steered.advance(token.usable_until - steered.now() - 0.01)
    assert manager.peek() == token
    assert not token.expires_within(10)
    steered.advance(0.02)
    assert manager.peek() is None
    assert token.expires_within(10)
    server.release()
    assert manager.get(timeout=PATIENCE).generation != token.generation


def test_the_renewal_point_differs_between_processes_and_identities(server: DevServer, make_manager: Make) -> None:
    manager = make_manager(registration(server))
    leads = set()
    for number in range(10):
        token = manager.get(principal=f"user-{number}")
        leads.add(round(token.ends_at - token.renew_at, 3))
    assert len(leads) == 10
    assert all(300 <= lead <= 600 for lead in leads)


def test_a_five_second_token_is_renewed_once_per_life(
    server: DevServer, make_manager: Make, steered: SteerableClock
) -> None:
    server.set_token_lifetime(5)
    manager = make_manager(registration(server), clock=steered)
    manager.get()
    lives = 10
    for _ in range(int(lives * 5 / 0.05)):
        steered.advance(0.05)
        manager.get()
        landed(manager)
    # The lead is 0.625 to 1.25 s of five: 1 renewal in 3.75 to 4.375 s, plus the step of this loop.
    assert lives * 5 / 4.5 - 1 <= server.count("/token") - 1 <= lives * 5 / 3.75


def test_refresh_in_moves_the_renewal_point(server: DevServer, make_manager: Make, steered: SteerableClock) -> None:
    answer(server, expires_in=3600, refresh_in=600)
    manager = make_manager(registration(server), clock=steered)
    token = manager.get()
    assert token.renew_at - steered.now() == pytest.approx(600)
    server.recover()
    server.hold()
    steered.advance(601)
    assert manager.get() == token
    server.release()
    landed(manager)
    assert manager.get() != token
    assert server.count("/token") == 2


@pytest.mark.parametrize(
    ("members", "lifetime"),
    [
        ({}, 300),
        ({"expires_in": "null"}, 300),
        ({"expires_in": '"120"'}, 120),
        ({"expires_in": 31 * 86400 + 1}, 31 * 86400),
    ],
    ids=str,
)
def test_lifetimes(
    server: DevServer, make_manager: Make, steered: SteerableClock, members: dict[str, object], lifetime: float
) -> None:
    answer(server, **members)
    events = Events()
    manager = make_manager(registration(server), clock=steered, on_event=events)
    token = manager.get()
    assert token.lifetime == lifetime
    assert token.ends_at == pytest.approx(steered.now() + lifetime)
    assert bool(events.of(LifetimeClamped)) == (lifetime == 31 * 86400)


@pytest.mark.parametrize("expires_in", [0, -1])
def test_expired_on_arrival_is_an_error_and_no_loop(
    server: DevServer, make_manager: Make, steered: SteerableClock, expires_in: int
) -> None:
    answer(server, expires_in=expires_in)
    manager = make_manager(registration(server), clock=steered)
    for _ in range(5):
        with pytest.raises(MalformedResponseError, match="expired on arrival"):
            manager.get()
    assert server.count("/token") == 1
    assert manager.peek() is None


def test_the_very_same_token_again_is_not_asked_for_again_and_again(
    server: DevServer, make_manager: Make, steered: SteerableClock
) -> None:
    """A server that gives what it gave before, with what is left of its life."""
    events = Events()
    manager = make_manager(registration(server), clock=steered, on_event=events)
    answer(server, expires_in=1000)
    token = manager.get()
    end = steered.now() + 1000
    while steered.now() < end - 1:
        steered.advance(0.5)
        answer(server, expires_in=int(end - steered.now()))
        again = manager.get()
        assert again.value == token.value
        landed(manager)
    # From the renewal point, 125 to 250 s ahead of the end, each time half the rest: 240, 120, 60, 30, 15, 7, 5, 5.
    assert 4 <= server.count("/token") - 1 <= 12
    assert len(events.of(SameTokenAgain)) == server.count("/token") - 1
    steered.advance(1)
    server.recover()
    assert manager.get().value != token.value


def test_the_very_same_token_again_is_not_handed_out_past_its_end(
    server: DevServer, make_manager: Make, steered: SteerableClock
) -> None:
    manager = make_manager(registration(server), clock=steered)
    answer(server, expires_in=100)
    manager.get()
    steered.advance(96)
    answer(server, expires_in=4)
    token = manager.renew()
    # The next try would be in five seconds, but the token is usable for 3.6 s only.
    steered.advance(3.7)
    assert manager.peek() is None
    server.recover()
    assert manager.get().value != token.value


# -- static stability -----------------------------------------------------------------------------------

TROUBLES: dict[str, tuple[Callable[[DevServer], None], type[AccreditError]]] = {
    "500": (lambda server: server.fail(500), UnreachableError),
    "503 with Retry-After": (lambda server: server.fail(503, retry_after="5"), ThrottledError),
    "429": (lambda server: server.fail(429), ThrottledError),
    "html": (lambda server: server.garbage("html"), MalformedResponseError),
    "huge": (lambda server: server.garbage("huge"), MalformedResponseError),
    "truncated": (lambda server: server.fail(200, body="{" + " " * 99 + "}", truncate=True), UnreachableError),
    "redirect": (lambda server: server.fail(307, headers={"location": "/elsewhere"}), MalformedResponseError),
    "invalid_scope": (lambda server: server.fail(400, error="invalid_scope"), RequestRefusedError),
    "404": (lambda server: server.fail(404), RequestRefusedError),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_no_failure_reaches_a_caller_while_a_token_is_usable(
    server: DevServer, make_manager: Make, clock: JumpClock, trouble: str
) -> None:
    begin, kind = TROUBLES[trouble]
    manager = make_manager(registration(server), clock=clock)
    token = manager.get()
    clock.make_renewable(token)
    server.clear_log()
    begin(server)
    assert manager.get() == token
    landed(manager)
    # One attempt per hold, however many callers come by meanwhile.
    for _ in range(100):
        assert manager.get() == token
    assert flying(manager) == 0
    assert server.count("/token") == (3 if trouble in {"500", "truncated"} else 1)
    clock.shift += token.usable_until - clock.now() - 5.0
    assert manager.get() == token
    landed(manager)
    clock.expire(token)
    clock.shift += 300.0
    # Now there is nothing left to hand out: a typed error, and nobody is sent away with a dead token.
    with pytest.raises(kind):
        manager.get()
    assert manager.peek() is None
    server.recover()
    clock.shift += 300.0  # beyond every hold
    server.clear_log()
    assert manager.get().value != token.value
    assert server.count("/token") == 1


def test_a_dead_server(make_manager: Make, clock: JumpClock) -> None:
    with DevServer() as server:
        manager = make_manager(registration(server), clock=clock)
        token = manager.get()
        port = int(server.url.rpartition(":")[2])
    clock.make_renewable(token)
    assert manager.get() == token
    landed(manager)
    assert manager.get() == token
    clock.expire(token)
    clock.shift += 60.0
    with pytest.raises(UnreachableError, match="could not be reached"):
        manager.get()
    clock.shift += 60.0
    with DevServer(port=port) as server:
        assert manager.get().value != token.value
        assert server.count("/token") == 1


def test_a_held_refusal_costs_no_request_and_says_when(
    server: DevServer, make_manager: Make, steered: SteerableClock
) -> None:
    server.fail(400, error="invalid_scope")
    manager = make_manager(registration(server), clock=steered)
    longest = 0.0
    for attempt in range(1, 9):
        with pytest.raises(RequestRefusedError) as caught:
            manager.get()
        hold = caught.value.retry_after
        assert hold is not None
        assert 2 ** (attempt - 1) <= hold <= 2**attempt or 30 <= hold <= 60
        longest = max(longest, hold)
        steered.advance(hold / 2)
        with pytest.raises(RequestRefusedError) as caught:
            manager.get()
        assert caught.value.retry_after == pytest.approx(hold / 2)
        assert server.count("/token") == attempt
        steered.advance(hold / 2 + 0.001)
    assert longest <= 60
    server.recover()
    assert manager.get().value
    # What was, is forgotten: the next failure is held as a first one.
    server.fail(400, error="invalid_scope")
    with pytest.raises(RequestRefusedError) as caught:
        manager.renew()
    assert caught.value.retry_after is not None
    assert caught.value.retry_after <= 2


def test_a_flapping_server_costs_at_most_three_requests_per_flight(
    server: DevServer, make_manager: Make, clock: JumpClock
) -> None:
    manager = make_manager(registration(server), clock=clock)
    for failures in (1, 2):
        server.clear_log()
        server.fail(500, times=failures)
        manager.renew()
        assert server.count("/token") == failures + 1


def test_renewal_that_always_answers_late_keeps_nobody_waiting(
    server: DevServer, make_manager: Make, clock: JumpClock
) -> None:
    manager = make_manager(registration(server, deadline=0.2), clock=clock)
    token = manager.get()
    clock.make_renewable(token)
    server.hold()
    assert manager.get() == token
    landed(manager)
    assert manager.get() == token
    assert server.count("/token") == 2


# -- deadlines of callers -------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_caller_that_gives_up_leaves_the_flight_alone(server: DevServer, make_manager: Make, timeout: float) -> None:
    manager = make_manager(registration(server))
    face = manager.asynchronous()
    server.hold()
    calls: list[Callable[[], object]] = [
        partial(manager.get, timeout=timeout),
        in_loop(partial(face.get, timeout=timeout)),
        in_trio(partial(face.get, timeout=timeout)),
    ]
    with threads(calls) as answers:
        pass
    errors = [*answers.errors, *(result[0] for result in answers.results)]
    assert len(errors) == 3
    assert all(isinstance(error, UnreachableError) for error in errors)
    assert waiting(manager) == 0
    server.release()
    landed(manager)
    token = manager.peek()
    assert isinstance(token, AccessToken)
    assert manager.get() == token
    assert server.count("/token") == 1


# -- clocks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-600, 600, -1e-6, 10 * 365 * 86400, -300])
def test_a_jump_of_the_wall_clock_does_nothing(
    server: DevServer, make_manager: Make, steered: SteerableClock, seconds: float
) -> None:
    manager = make_manager(registration(server), clock=steered)
    token = manager.get()
    steered.jump_wall(seconds)
    assert manager.get() == token
    assert manager.peek() == token
    steered.advance(token.renew_at - steered.now() - 0.01)
    assert manager.get() == token
    assert server.count("/token") == 1
    # Neither kept alive for longer ...
    steered.advance(token.usable_until - steered.now() + 0.01)
    assert manager.peek() is None
    # ... nor is the next one born dead.
    assert manager.get() != token
    assert manager.get().ends_at - steered.now() == pytest.approx(3600)
    assert server.count("/token") == 2


def test_suspend_ages_a_token(server: DevServer, make_manager: Make, steered: SteerableClock) -> None:
    manager = make_manager(registration(server), clock=steered)
    token = manager.get()
    steered.advance(8 * 3600)  # the lid was closed: the clock that runs through suspend went on
    assert manager.peek() is None
    assert manager.get().value != token.value
    assert server.count("/token") == 2


def test_life_counts_from_when_the_request_was_sent(
    server: DevServer, make_manager: Make, steered: SteerableClock
) -> None:
    manager = make_manager(registration(server), clock=steered)
    server.hold()
    sent = steered.now()
    with threads([manager.get]) as answers:
        assert server.wait_for_waiting(1) == 1
        eventually(lambda: steered.waiting == 1)
        steered.advance(20)
        server.release()
    token = answers.results[0]
    assert token.ends_at == pytest.approx(sent + 3600)
    assert token.received_at == pytest.approx(sent + 20)


def test_events_tell_the_source_and_no_token(server: DevServer, make_manager: Make) -> None:
    events = Events()
    manager = make_manager(registration(server), on_event=events)
    token = manager.get()
    (event,) = events.of(TokenObtained)
    assert (event.registration, event.principal, event.source) == ("api-client", "service-account", "server")
    assert event.lifetime == 3600
    assert token.value not in repr(event)


# -- another way to look at renewable: an event loop ----------------------------------------------------


@pytest.mark.anyio
async def test_a_renewable_token_never_suspends_its_task(
    server: DevServer, make_manager: Make, clock: JumpClock
) -> None:
    manager = make_manager(registration(server), clock=clock)
    token = manager.get()
    clock.make_renewable(token)
    server.hold()
    waits = manager.asynchronous().get()
    with pytest.raises(StopIteration) as ended:
        waits.send(None)  # runs to its end without giving control to the loop
    assert ended.value.value == token
    assert server.wait_for_waiting(1) == 1
    server.release()
