"""Group P, and the rows that take time: clocks that err, outages, servers that are slow. Nothing here waits."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit import AccessToken, AsyncTokenManager, TokenManager
from accredit.clock import SystemClock
from accredit.core.metadata import ServerMetadata
from accredit.core.registration import token_request_for
from accredit.core.strict import parse_retry_after
from accredit.errors import AccreditError, UnreachableError
from accredit.testing.clock import SteerableClock
from tests.bad_inputs.invariants import check_error
from tests.bad_inputs.model import ISSUER, OLD_TOKEN, TOKEN, covers, document, issued
from tests.bad_inputs.rows.discovery import metadata
from tests.bad_inputs.world import World, check_errors, outcome_of, registration

DAY = 86400.0


def numbered(world: World, count: int = 400, **members: Any) -> None:
    """Let the server issue so many different tokens."""
    world.script.answers = [issued(access_token=f"{TOKEN}.{number}", **members) for number in range(count)]


@covers("A21", outcome="OK: renewed once per life, and never handed out at its end")
def test_a_life_of_five_seconds() -> None:
    world = World(registration(renew_before=300))
    world.script.latency = 0.01
    numbered(world, expires_in=5)
    for _ in range(1000):  # for a hundred seconds
        token = world.manager.get()
        assert world.clock.now() < token.usable_until
        world.land()
        world.clock.advance(0.1)
    assert len(world.script.requests) <= 100 / 3.75 + 1
    world.check_whole()


@covers("A56", outcome="OK: kept for each identity by itself")
def test_the_same_token_for_two_identities() -> None:
    world = World()
    world.script.answers = [issued()]
    one, two = world.manager.get(scope="a"), world.manager.get(scope="b")
    assert one.value == two.value == TOKEN
    assert one.fingerprint != two.fingerprint
    world.manager.remove(scope="a")
    assert world.manager.peek(scope="a") is None
    assert world.manager.peek(scope="b") is two
    assert len(world.script.requests) == 2
    world.check_whole()


@covers("B29", outcome="UNREACHABLE: one flight, an error for each caller, and the next attempt waits")
def test_a_herd_and_a_dead_server() -> None:
    import asyncio
    import threading

    world = World()
    world.script.answers = [document(500)]
    world.script.open.clear()
    tasks = world.manager.asynchronous()
    outcomes: list[Any] = []

    async def herd() -> None:
        outcomes.extend(await asyncio.gather(*(tasks.get() for _ in range(1000)), return_exceptions=True))

    thread = threading.Thread(target=lambda: asyncio.run(herd()))
    thread.start()
    from tests.runtime.support import eventually, waiting

    eventually(lambda: waiting(world.manager) == 1000, "the herd")
    world.script.open.set()
    thread.join(30)
    assert len(world.script.requests) == 3
    check_errors(outcomes[:20], UnreachableError)
    assert len({id(error) for error in outcomes}) == 1000
    assert all(error == outcomes[0] for error in outcomes)
    assert type(outcome_of(world.manager.get)) is UnreachableError
    assert len(world.script.requests) == 3
    world.check_whole()


@covers("B30", outcome="STALE: no call fails, and attempts are a back-off apart")
def test_an_outage_as_long_as_the_token_lives() -> None:
    world = World(registration(renew_before=1800))
    world.script.answers = [issued(access_token=OLD_TOKEN, expires_in=7200)]
    old = world.manager.get()
    world.script.requests.clear()
    world.script.answers = [document(503)]
    world.go_to(old.renew_at)
    began = world.clock.now()
    while world.clock.now() < old.usable_until:
        assert world.manager.get(timeout=0) is old
        world.land()
        world.clock.advance(0.5)
    attempts = len(world.script.requests)
    assert attempts <= 3 * ((world.clock.now() - began) / 2.5 + 4)  # a flight of three, at most each 2.5 s
    assert attempts >= 3
    numbered(world)
    world.clock.advance(60)
    assert world.manager.get().value == f"{TOKEN}.0"
    world.check_whole()


@covers("B31", outcome="OK or UNREACHABLE: at most three attempts per flight")
@given(seed=st.integers(0, 2**32), failures=st.lists(st.booleans(), min_size=1, max_size=60))
def test_a_server_that_fails_every_other_time(seed: int, failures: list[bool]) -> None:
    world = World()
    world.manager._engine._random.seed(seed)
    answers = [document(500) if failed else issued(expires_in=60) for failed in failures]
    world.script.answers = [*answers, issued(expires_in=60)]
    flights = 0
    for _ in range(12):
        before = len(world.script.requests)
        outcome = outcome_of(world.manager.get)
        world.land()
        made = len(world.script.requests) - before
        assert made <= 3
        flights += made > 0
        assert isinstance(outcome, AccessToken | UnreachableError)
        world.clock.advance(20)
    assert len(world.script.requests) <= 3 * flights
    world.check_whole()


@covers("B32", outcome="STALE: callers wait for nothing while the renewal runs into its deadline")
def test_a_server_that_is_always_too_late() -> None:
    world = World()
    world.script.answers = [issued(access_token=OLD_TOKEN)]
    old = world.manager.get()
    world.script.latency = 30.0
    world.go_to(old.renew_at)
    for _ in range(40):
        assert world.manager.get(timeout=0) is old
        world.land()
        world.clock.advance(0.25)
    assert world.clock.now() < old.usable_until
    assert len(world.script.requests) <= 6
    world.script.latency = 0.1
    world.check_whole()


@covers("J14", outcome="OK with the last good document; DISCOVERY where there was none")
@pytest.mark.parametrize(
    "later", [metadata("https://evil.example"), metadata(token_endpoint="http://idp.example/token"), document(500)]
)
def test_a_document_that_changes_for_the_worse(later: Any) -> None:
    world = World(registration(issuer=ISSUER))
    world.script.documents = [metadata()]
    numbered(world)
    world.manager.get()
    world.script.documents = [later]
    world.clock.advance(2 * 3600)
    assert world.manager.get().value == f"{TOKEN}.1"
    assert {request.url for request in world.script.requests} == {"https://idp.example/token"}
    assert len(world.script.fetches) > 1
    world.check_whole()


@covers("J14", outcome="OK with the new document once it is in order again")
def test_a_document_that_changes_for_the_better() -> None:
    world = World(registration(issuer=ISSUER))
    world.script.documents = [metadata()]
    numbered(world)
    world.manager.get()
    world.script.documents = [metadata(token_endpoint="https://idp.example/moved")]
    world.clock.advance(2 * 3600)
    world.manager.get()
    assert [request.url for request in world.script.requests] == [
        "https://idp.example/token",
        "https://idp.example/moved",
    ]
    assert all(isinstance(kept[0], ServerMetadata) for kept in world.manager._engine._driver._metadata.values())


@covers("P02", "P04", outcome="OK: the wall clock neither kills a token nor revives one")
@pytest.mark.parametrize("jump", [-600.0, -10 * DAY, 600.0, 10 * DAY])
def test_the_wall_clock_jumps(jump: float) -> None:
    world = World()
    numbered(world)
    token = world.manager.get()
    world.clock.jump_wall(jump)
    assert world.manager.get(timeout=0) is token
    world.go_to(token.usable_until - 1)
    assert world.manager.peek() is token
    world.go_to(token.usable_until)
    assert world.manager.peek() is None
    assert world.manager.get().value == f"{TOKEN}.1"
    world.check_whole()


@covers("P03", outcome="OK: the clock that tokens age on runs through suspend")
def test_a_suspend_of_eight_hours() -> None:
    world = World()
    numbered(world)
    token = world.manager.get()
    world.clock.advance(8 * 3600)  # as CLOCK_BOOTTIME has it; CLOCK_MONOTONIC would not have moved
    assert token.expires_within(0)
    assert world.manager.peek() is None
    assert world.manager.get().value == f"{TOKEN}.1"
    clock = SystemClock()
    if hasattr(time, "CLOCK_BOOTTIME"):
        assert abs(clock.now() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1.0
    world.check_whole()


@covers("P04", outcome="OK: a leap forward costs one request")
@pytest.mark.parametrize("leap", [3600.0, 30 * DAY, 100 * 365 * DAY])
def test_a_clock_that_leaps(leap: float) -> None:
    world = World()
    numbered(world)
    world.manager.get()
    world.clock.advance(leap)
    token = world.manager.get()
    assert token.value == f"{TOKEN}.1"
    assert world.clock.now() < token.usable_until
    assert len(world.script.requests) == 2
    world.check_whole()


@covers("P07", outcome="OK: life is what the server says in seconds, whatever its Date says")
@pytest.mark.parametrize("date", ["Tue, 14 Nov 2023 22:03:20 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "soon", ""])
def test_a_server_whose_clock_differs(date: str) -> None:
    world = World()
    world.script.answers = [
        document(headers=(("date", date), ("expires", date)), access_token=TOKEN, token_type="Bearer", expires_in=3600)
    ]
    began = world.clock.now()
    token = world.manager.get()
    assert token.ends_at == began + 3600
    assert token.usable_until == began + 3590
    world.check_whole()


@covers("P09", outcome="OK: seconds since the epoch, no calendar")
@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this platform has no tzset")
@pytest.mark.parametrize("wall", [0.0, 2.0**31 - 10, 2.0**31, 2.0**32, 4_102_444_800.0, 253_402_300_790.0, 1e12])
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Apia", "Europe/Berlin", "nonsense/zone"])
def test_dates_at_the_edge(wall: float, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    world = World()
    world.clock.jump_wall(wall - world.clock.wall())
    world.script.answers = [document(429, (("retry-after", "Tue, 19 Jan 2038 03:14:08 GMT"),)), issued()]
    refusal = outcome_of(world.manager.get)
    assert isinstance(refusal, AccreditError)
    check_error(refusal)
    world.clock.advance(301)
    token = world.manager.get()
    assert token.expires_at == pytest.approx(world.clock.wall() + 3600 - 0.1)
    monkeypatch.delenv("TZ")
    time.tzset()
    world.check_whole()


@covers("P09", outcome="a leap second, and dates that no calendar has, are no error")
@pytest.mark.parametrize(
    "date",
    ["Sat, 31 Dec 2016 23:59:60 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 30 Feb 2026 00:00:00 GMT",
     "Sun, 00 Nov 1994 25:61:61 GMT", "Sun Nov  6 08:49:37 1994", "Sunday, 06-Nov-94 08:49:37 GMT"],
)  # fmt: skip
def test_dates_of_other_calendars(date: str) -> None:
    seconds = parse_retry_after([date], now_wall=1_700_000_000.0)
    assert seconds is None or 0 <= seconds <= 300


class Trembling(SteerableClock):
    """A clock that loses a microsecond every other time it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def now(self) -> float:
        self.reads += 1
        return super().now() - (self.reads % 2) * 1e-6


@covers("P10", outcome="OK: no negative wait, no error")
def test_a_clock_that_loses_a_microsecond() -> None:
    world = World()
    clock = Trembling()
    with TokenManager(registration(), transport=world.script, clock=clock) as manager:
        numbered(world)
        for _ in range(50):
            token = manager.get()
            assert token.usable_until > clock.now()
            clock.advance(0.0)
            manager.renew()
        assert len(world.script.requests) == 51


@covers("P14", outcome="OK: the clock is an argument, and no thread hangs on one that stands still")
def test_clocks_that_others_replace(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> float:
        raise AssertionError("the clock of the module was read")

    world = World()
    numbered(world)
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", broken)
        token = world.manager.get()
        assert world.manager.get(timeout=0) is token
        assert world.manager.renew().value == f"{TOKEN}.1"
    assert isinstance(world.manager.asynchronous(), AsyncTokenManager)
    assert token_request_for(registration()).identity == world.slot.request.identity
    assert os.getpid()
    world.check_whole()
