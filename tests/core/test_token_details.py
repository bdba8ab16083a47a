"""Token responses: what each error says and names, and the exact bounds of numbers."""

from __future__ import annotations

from typing import Any

import pytest

from accredit.core.messages import Response
from accredit.core.secret import Secret
from accredit.core.token import AccessToken, IssuedToken, parse_token_response
from accredit.errors import AuthorizationServerError, MalformedResponseError, RequestRefusedError
from tests.support.scripted import TOKEN_ENDPOINT, answer, issued, wanted

SECRET = "abcdefghijklmnop"


def outcome_of(response: Response, **settings: object) -> IssuedToken | AuthorizationServerError:
    request = wanted(**settings)
    return parse_token_response(response, request, TOKEN_ENDPOINT, Secret(SECRET), now_wall=1_700_000_000.0)


def token_of(response: Response) -> IssuedToken:
    outcome = outcome_of(response)
    assert isinstance(outcome, IssuedToken)
    return outcome


def error_of(response: Response, **settings: object) -> AuthorizationServerError:
    outcome = outcome_of(response, **settings)
    assert isinstance(outcome, AuthorizationServerError)
    assert (outcome.status, outcome.endpoint) == (response.status, TOKEN_ENDPOINT)
    assert outcome.advice
    return outcome


def test_a_token_prints_as_its_repr() -> None:
    token = AccessToken("Bearer abc", 1.0, 1.0, None, {}, 1, 1.0, 1.0, 1.0, 1.0, b"", lambda: 0.0)
    assert str(token) == repr(token) == "AccessToken(expires_at=1.0, lifetime=1.0)"


def test_ten_thousand_years_are_clamped_and_more_is_refused() -> None:
    assert token_of(issued("a", 10**12)).clamped_from == 1e12
    error = error_of(issued("a", 10**12 + 1))
    assert isinstance(error, MalformedResponseError)
    assert error.summary == "the token response is malformed: expires_in is beyond any lifetime."


@pytest.mark.parametrize(("hint", "kept"), [(0, None), (1, 1.0), (59, 59.0), (60, None)])
def test_a_hint_counts_within_the_life_of_the_token(hint: int, kept: float | None) -> None:
    assert token_of(issued("a", 60, refresh_in=hint)).refresh_in == kept


@pytest.mark.parametrize(
    ("token_type", "problem"),
    [(None, "token_type is missing"), ("mac", "token_type is not Bearer"), (7, "token_type is not Bearer")],
)
def test_the_error_says_what_is_wrong_with_the_token_type(token_type: object, problem: str) -> None:
    error = error_of(answer(access_token="a", token_type=token_type))
    assert error.summary == f"the token response is malformed: {problem}."


def test_a_scope_that_is_missing_is_named_by_the_error() -> None:
    error = error_of(issued("a", scope="x"), scope="x y z", require_scope=True)
    assert isinstance(error, RequestRefusedError)
    assert (error.summary, error.error_code) == (
        "the token was granted without the scope y z.",
        "insufficient_scope",
    )


def test_a_status_that_is_neither_success_nor_failure_is_named() -> None:
    error = error_of(Response(204))
    assert isinstance(error, MalformedResponseError)
    assert error.summary == "the token endpoint answered HTTP 204, which is no token response."


def test_a_refusal_names_the_registration_and_nothing_that_was_not_said() -> None:
    error = error_of(Response(404))
    assert error.summary == "the authorization server refuses the token request of registration 'api' (HTTP 404)."
    error = error_of(answer(403, error="invalid_client"))
    assert error.summary == (
        "the authorization server refuses the credential of registration 'api' (HTTP 403): invalid_client."
    )


def test_advice_is_that_of_the_error_code() -> None:
    advice = {code: error_of(answer(400, error=code)).advice for code in ("invalid_scope", "invalid_target", "odd")}
    assert "scope" in advice["invalid_scope"]
    assert "RFC 8707" in advice["invalid_target"]
    assert len(set(advice.values())) == 3
    assert advice["odd"] == error_of(answer(400)).advice


@pytest.mark.parametrize(("said", "shown"), [(SECRET[-6:], False), (SECRET[-5:], True), (SECRET[:5], True)])
def test_six_characters_of_the_secret_are_a_part_of_it_and_five_are_not(said: str, *, shown: bool) -> None:
    error = error_of(answer(400, error="invalid_request", error_description=f"<{said}>"))
    assert (f'"<{said}>"' in error.summary) is shown


@pytest.mark.parametrize(
    ("member", "value"),
    [("access_token", 7), ("access_token", "a b"), ("expires_in", "soon"), ("scope", ["orders:read"])],
)
def test_the_member_that_is_wrong_is_named_and_not_repeated(member: str, value: object) -> None:
    members: dict[str, Any] = {"access_token": "a", "token_type": "Bearer", member: value}
    error = error_of(answer(**members))
    assert isinstance(error, MalformedResponseError)
    assert error.summary.startswith(f"the token response is malformed: {member} is ")
    assert repr(value) not in str(error)
