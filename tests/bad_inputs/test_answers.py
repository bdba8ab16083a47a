"""Every case of the tables, through the whole library: cold, and with a token that is still usable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from accredit import AccessToken
from accredit.errors import AccreditError, AuthorizationServerError
from tests.bad_inputs.invariants import check_error, check_hidden, check_log
from tests.bad_inputs.model import ERRORS, OLD_TOKEN, Case, issued
from tests.bad_inputs.rows import CASES
from tests.bad_inputs.world import World, check_errors, outcome_of, registration, running

TOKEN_CHECKS: dict[str, Callable[[AccessToken], object]] = {
    "value": lambda token: token.value,
    "lifetime": lambda token: token.lifetime,
    "scope": lambda token: token.granted_scope,
    "members": lambda token: token.members,
}
ERROR_CHECKS: dict[str, Callable[[Any], object]] = {
    "status": lambda error: error.status,
    "code": lambda error: error.error_code,
}


def check_outcome(case: Case, world: World, outcome: object, texts: list[str]) -> set[str]:
    """Check all that the case expects of an outcome; return the names of what was checked."""
    expect = case.expect
    checked = {"outcome", "requests", "fetches"}
    if expect.outcome == "OK":
        assert isinstance(outcome, AccessToken), repr(outcome)
    else:
        assert type(outcome) is ERRORS[expect.outcome], repr(outcome)
    assert len(world.script.requests) == expect.requests
    assert len(world.script.fetches) == expect.fetches
    for name in expect.given() - checked:
        wanted: Any = getattr(expect, name)
        if name in TOKEN_CHECKS:
            assert isinstance(outcome, AccessToken)
            assert TOKEN_CHECKS[name](outcome) == wanted
        elif name in ERROR_CHECKS:
            assert ERROR_CHECKS[name](outcome) == wanted
        elif name == "hold":
            assert isinstance(outcome, AuthorizationServerError)
            assert outcome.retry_after is not None
            assert wanted[0] <= outcome.retry_after <= wanted[1]
        elif name == "says":
            assert all(text in str(outcome) for text in wanted), str(outcome)
        elif name == "never_says":
            assert not any(text.casefold() in shown.casefold() for text in wanted for shown in [str(outcome), *texts])
        else:
            assert name == "event"
            assert any(isinstance(event, wanted) for event in world.events)
        checked.add(name)
    return checked


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_without_a_token(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    world = World(registration(**case.settings))
    world.script.answers, world.script.documents = list(case.answers), list(case.documents)
    world.script.latency = case.latency
    outcomes = world.callers()
    world.land()
    first = outcomes[0]
    texts = [record.getMessage() for record in caplog.records] + [repr(event) for event in world.events]
    assert check_outcome(case, world, first, texts) == case.expect.given()
    if isinstance(first, AccessToken):
        assert all(outcome is first for outcome in outcomes)
        assert world.manager.get() is first
        world.go_to(first.usable_until)
        assert world.manager.peek() is None
    else:
        check_errors(outcomes, ERRORS[case.expect.outcome])
        assert world.manager.peek() is None
        # Held: who comes next gets the same without a request.
        again = outcome_of(world.manager.get)
        assert type(again) is type(first)
        assert isinstance(again, AccreditError)
        check_error(again)
        assert (len(world.script.requests), len(world.script.fetches)) == (case.expect.requests, case.expect.fetches)
    world.script.latency = 0.0
    world.check_whole()
    check_log(caplog.records)


@pytest.mark.parametrize("case", [case for case in CASES if not case.documents], ids=lambda case: case.name)
def test_with_a_token_that_is_still_usable(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    world = World(registration(**case.settings))
    world.script.answers = [issued(access_token=OLD_TOKEN, expires_in=3600)]
    old = world.manager.get()
    assert old.value == OLD_TOKEN
    world.script.requests.clear()
    world.script.answers = list(case.answers)
    world.script.latency = case.latency
    world.go_to(old.renew_at)
    outcomes: list[object] = []
    world.script.open.clear()
    with running([lambda: outcomes.append(outcome_of(world.manager.get))] * 3):
        pass
    world.script.open.set()
    assert outcomes == [old] * 3  # at once, and nobody waits
    world.land()
    assert len(world.script.requests) == case.expect.requests
    if case.expect.outcome == "OK":
        token = world.manager.get(timeout=0)
        assert check_outcome(case, world, token, []) == case.expect.given()
    else:
        check_stale(case, world, old)
    world.script.latency = 0.0
    world.check_whole()
    check_log(caplog.records)
    for record in caplog.records:
        check_hidden(record.getMessage(), "the log")


def check_stale(case: Case, world: World, old: AccessToken) -> None:
    """I4: the token goes on to be handed out until the very end of its usable life, and not beyond."""
    assert world.manager.get(timeout=0) is old
    assert world.manager.peek() is old
    world.go_to(old.usable_until - 0.01)
    if world.clock.now() < old.usable_until:
        assert world.manager.get(timeout=0) is old
    world.land()
    world.go_to(old.usable_until)
    assert world.manager.peek() is None
    world.clock.advance(400.0)  # beyond any hold
    late = outcome_of(world.manager.get)
    assert type(late) is ERRORS[case.expect.outcome]
    check_error(late)
    world.land()
