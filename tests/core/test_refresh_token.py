"""Refresh tokens: ignored unless the registration says otherwise, and then never worse than the grant alone."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import pytest

from accredit.core import effects
from accredit.core.flows import Failed, Obtained
from accredit.core.messages import Request
from accredit.core.registration import RESERVED_PARAMETERS
from accredit.errors import CredentialRefusedError, RequestRefusedError, UnreachableError
from tests.support.scripted import Process, World, answer, issued, wanted

USES = wanted(use_refresh_token=True, scope="b a", audience="x", extra_parameters={"tenant": "7"})


def form(request: Request) -> dict[str, list[str]]:
    return parse_qs(request.body.decode(), keep_blank_values=True)


def forms(world: World) -> list[dict[str, list[str]]]:
    return [form(request) for _, request in world.server.requests]


def renewed(world: World, *answers: Any, request: Any = USES) -> Any:
    """Obtain a token with the first answer and renew it with the others; return what the renewal came to."""
    world.server.script = list(answers)
    first = world.run(Process("p"), request).finish()
    assert isinstance(first, Obtained)
    return world.run(Process("q"), request, first.stored.record.generation).finish()


def test_it_is_ignored_unless_asked_for() -> None:
    world = World()
    plain = wanted()
    result = renewed(world, issued("one", refresh_token="r3fresh"), issued("two"), request=plain)
    assert isinstance(result, Obtained)
    assert [one["grant_type"] for one in forms(world)] == [["client_credentials"]] * 2
    assert result.stored.record.refresh_token is None
    kept = world.store.read(plain.identity)
    assert kept is not None
    assert kept.record.refresh_token is None


def test_a_renewal_asks_with_it_and_with_all_the_rest_of_the_request() -> None:
    world = World()
    result = renewed(world, issued("one", refresh_token="r3fresh"), issued("two", refresh_token="r3fresh2"))
    assert isinstance(result, Obtained)
    first, second = forms(world)
    assert first["grant_type"] == ["client_credentials"]
    assert "refresh_token" not in first
    changed = {"grant_type": ["refresh_token"], "refresh_token": ["r3fresh"]}
    assert second == {**first, **changed}
    assert result.stored.record.refresh_token == "r3fresh2"


def test_one_that_is_not_replaced_stays_in_force() -> None:
    world = World()
    result = renewed(world, issued("one", refresh_token="r3fresh"), issued("two"))
    assert result.stored.record.refresh_token == "r3fresh"
    third = world.run(Process("r"), USES, result.stored.record.generation).finish()
    assert isinstance(third, Obtained)
    assert forms(world)[2]["refresh_token"] == ["r3fresh"]


@pytest.mark.parametrize("code", ["invalid_grant", "unsupported_grant_type", "invalid_scope"])
def test_one_that_is_refused_falls_back_to_the_grant_at_once(code: str) -> None:
    world = World()
    result = renewed(world, issued("one", refresh_token="r3fresh"), answer(400, error=code), issued("two"))
    assert isinstance(result, Obtained)
    assert [one["grant_type"][0] for one in forms(world)] == [
        "client_credentials",
        "refresh_token",
        "client_credentials",
    ]
    assert result.stored.record.refresh_token is None


def test_what_the_grant_is_refused_for_then_is_the_error() -> None:
    world = World()
    refused = answer(400, error="invalid_scope")
    result = renewed(world, issued("one", refresh_token="r"), answer(400, error="invalid_grant"), refused)
    assert isinstance(result, Failed)
    assert isinstance(result.error, RequestRefusedError)
    assert result.error.error_code == "invalid_scope"
    assert world.server.count == 3


def test_a_refused_credential_does_not_fall_back() -> None:
    world = World()
    result = renewed(world, issued("one", refresh_token="r"), answer(401, error="invalid_client"))
    assert isinstance(result.error, CredentialRefusedError)
    assert world.server.count == 2


def test_a_fault_that_passes_is_tried_again_with_it() -> None:
    world = World()
    result = renewed(world, issued("one", refresh_token="r"), answer(503), issued("two"))
    assert isinstance(result, Obtained)
    assert [one["grant_type"][0] for one in forms(world)][1:] == ["refresh_token"] * 2


def test_no_time_for_the_fallback_is_no_answer_in_time() -> None:
    world = World()
    world.server.script = [issued("one", refresh_token="r"), answer(400, error="invalid_grant")]
    first = world.run(Process("p"), USES).finish()
    run = world.run(Process("q"), USES, first.stored.record.generation)
    run.advance_to(effects.Send)
    run.step()
    world.now += 60.0
    result = run.finish()
    assert isinstance(result.error, UnreachableError)
    assert world.server.count == 2


@pytest.mark.parametrize("value", [7, ["r"], {}, "", "a b", "r\n", "é", None])
def test_one_that_could_not_be_sent_is_no_reason_to_refuse_the_token(value: object) -> None:
    world = World()
    result = renewed(world, issued("one", refresh_token=value), issued("two"))
    assert isinstance(result, Obtained)
    assert [one["grant_type"][0] for one in forms(world)] == ["client_credentials"] * 2


def test_a_refusal_that_repeats_it_is_not_quoted() -> None:
    for members in ({"error_description": "no such token: r3freshCanary!"}, {"error": "r3freshCanary"}):
        world = World()
        document: dict[str, Any] = {"error": "invalid_client", **members}
        result = renewed(world, issued("one", refresh_token="r3freshCanary"), answer(401, **document))
        assert isinstance(result, Failed)
        assert "Canary" not in f"{result.error} {result.error!r} {vars(result.error)}"


def test_it_is_shown_nowhere_and_cannot_be_set_by_hand() -> None:
    world = World()
    result = renewed(world, issued("one", refresh_token="r3freshCanary"), issued("two"))
    assert "Canary" not in repr(result)
    assert "refresh_token" in RESERVED_PARAMETERS


def test_a_registration_that_no_longer_uses_it_leaves_it() -> None:
    world = World()
    world.server.script = [issued("one", refresh_token="r"), issued("two")]
    first = world.run(Process("p"), USES).finish()
    plain = wanted(scope="b a", audience="x", extra_parameters={"tenant": "7"})
    assert plain.identity == USES.identity
    world.run(Process("q"), plain, first.stored.record.generation).finish()
    assert forms(world)[1]["grant_type"] == ["client_credentials"]
