"""The edges of the core: where a bound lies to the last digit, and what is passed on to whom."""

from __future__ import annotations

from typing import Any

import pytest

from accredit.core import effects
from accredit.core.challenge import parse_challenges
from accredit.core.client_auth import ClientSecretPost
from accredit.core.discovery import METADATA_LIFETIME, discover, failure_error, metadata_key, metadata_of
from accredit.core.effects import Instant
from accredit.core.header import parse_header_date, parse_retry_after
from accredit.core.messages import Failure, Response
from accredit.core.metadata import ServerMetadata
from accredit.core.registration import ClientRegistration, token_request_for
from accredit.core.renewal import BACK_OFF_LAST, back_off
from accredit.core.secret import Secret
from accredit.core.strict import StrictError, check_scope_token
from accredit.core.token import parse_token_response
from accredit.errors import (
    ConfigurationError,
    DiscoveryError,
    MalformedResponseError,
    RequestRefusedError,
    ThrottledError,
    UnreachableError,
)
from tests.support.scripted import ISSUER, JSON, TOKEN_ENDPOINT, answer, registration

RFC_URL = f"{ISSUER}/.well-known/oauth-authorization-server"
OIDC_URL = f"{ISSUER}/.well-known/openid-configuration"
METADATA = ServerMetadata(ISSUER, TOKEN_ENDPOINT)
GOOD = answer(issuer=ISSUER, token_endpoint=TOKEN_ENDPOINT)


class Talk:
    """A flow and whoever answers it, by hand: clocks that stand still unless told, and a list of answers."""

    def __init__(self, flow: Any, *, draw: float = 0.5) -> None:
        self.flow, self.draw = flow, draw
        self.now = 100.0
        self.trace: list[Any] = []
        self.kept: tuple[ServerMetadata, float] | None = None

    def run(self, *answers: Response | Failure | ConfigurationError, shared: object = None, slow: float = 0.0) -> Any:
        replies = list(answers)
        reply: object = None
        while True:
            try:
                effect = self.flow.send(reply)
            except StopIteration as end:
                return end.value
            self.trace.append(effect)
            match effect:
                case effects.Now():
                    reply = Instant(self.now, 1_700_000_000.0 + self.now)
                case effects.Random():
                    reply = self.draw
                case effects.LoadMetadata():
                    reply = self.kept
                case effects.Share():
                    reply = shared
                case effects.Pause(seconds):
                    self.now += seconds
                    reply = None
                case effects.Send():
                    self.now += slow
                    reply = replies.pop(0)
                case _:
                    reply = None

    def all(self, kind: type) -> list[Any]:
        return [effect for effect in self.trace if isinstance(effect, kind)]


# -- discovery -------------------------------------------------------------------------------------------------


def test_a_document_serves_for_an_hour_to_the_second() -> None:
    for age, asked in ((METADATA_LIFETIME - 0.001, 0), (METADATA_LIFETIME, 1)):
        talk = Talk(metadata_of(registration(issuer=ISSUER), 110.0))
        talk.kept = (METADATA, age)
        assert talk.run(shared=None) == METADATA
        assert len(talk.all(effects.Share)) == asked


def test_a_discovery_gets_all_the_time_there_is_or_half_of_it_when_it_could_be_done_without() -> None:
    for kept, seconds in ((None, 10.0), ((METADATA, METADATA_LIFETIME), 5.0)):
        talk = Talk(metadata_of(registration(issuer=ISSUER), 110.0))
        talk.kept = kept
        talk.run(shared=METADATA)
        (share,) = talk.all(effects.Share)
        assert share.timeout == seconds


def test_a_discovery_is_shared_by_those_that_would_accept_the_same_document() -> None:
    keys = set()
    for settings in ({}, {"allow_insecure_http": True}, {"metadata_url": RFC_URL}):
        one = registration(issuer=ISSUER, **settings)
        talk = Talk(metadata_of(one, 110.0))
        talk.run(shared=METADATA)
        (share,) = talk.all(effects.Share)
        assert metadata_key(one) in share.key
        keys.add(share.key)
    assert len(keys) == 3


def test_a_discovery_that_did_not_end_says_whose() -> None:
    error = Talk(metadata_of(registration(issuer=ISSUER), 110.0)).run(shared=None)
    assert isinstance(error, UnreachableError)
    assert error.endpoint == ISSUER


def test_a_flow_of_discovery_ends_by_the_deadline_it_was_given() -> None:
    talk = Talk(discover(registration(issuer=ISSUER), 103.0))
    talk.run(GOOD)
    (send,) = talk.all(effects.Send)
    assert send.timeout == 3.0


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999])
def test_pauses_between_attempts_double(draw: float) -> None:
    talk = Talk(discover(registration(issuer=ISSUER, metadata_url=RFC_URL), 200.0), draw=draw)
    error = talk.run(*[answer(500)] * 3)
    assert [pause.seconds for pause in talk.all(effects.Pause)] == [0.25 * draw, 0.5 * draw]
    assert (error.status, error.endpoint) == (500, RFC_URL)


def test_a_pause_that_would_end_at_the_deadline_is_not_made_and_the_last_error_stands() -> None:
    talk = Talk(discover(registration(issuer=ISSUER, metadata_url=RFC_URL), 100.25), draw=1.0)
    error = talk.run(answer(500))
    assert (talk.all(effects.Pause), error.status) == ([], 500)


def test_at_the_deadline_nothing_is_asked_any_more() -> None:
    talk = Talk(discover(registration(issuer=ISSUER, metadata_url=RFC_URL), 100.0))
    error = talk.run()
    assert talk.all(effects.Send) == []
    assert isinstance(error, UnreachableError)
    assert error.endpoint == RFC_URL


def test_time_that_runs_out_between_attempts_leaves_the_error_of_the_last_one() -> None:
    talk = Talk(discover(registration(issuer=ISSUER, metadata_url=RFC_URL), 101.0), draw=0.0)
    error = talk.run(answer(502), slow=1.0)
    assert error.status == 502


WRONG = answer(200, issuer="https://other.example", token_endpoint=TOKEN_ENDPOINT)


@pytest.mark.parametrize(
    ("first", "second", "kind", "status"),
    [
        (WRONG, answer(404), DiscoveryError, 200),
        (answer(404), WRONG, DiscoveryError, 200),
        (answer(503), WRONG, DiscoveryError, 200),
        (WRONG, answer(503), DiscoveryError, 200),
        (answer(404), answer(503), UnreachableError, 503),
        (answer(503), answer(404), UnreachableError, 503),
        (answer(404), answer(410), DiscoveryError, 404),
    ],
)
def test_of_two_errors_the_more_telling_one_is_given(
    first: Response, second: Response, kind: type, status: int
) -> None:
    pages = [page for page in (first, second) for _ in range(3 if page.status == 503 else 1)]
    error = Talk(discover(registration(issuer=ISSUER), 200.0)).run(*pages)
    assert (type(error), error.status) == (kind, status)
    assert error.endpoint in {RFC_URL, OIDC_URL}


@pytest.mark.parametrize(("status", "kind", "asked"), [(499, DiscoveryError, 1), (500, UnreachableError, 3)])
def test_from_500_on_a_document_is_asked_for_again(status: int, kind: type, asked: int) -> None:
    talk = Talk(discover(registration(issuer=ISSUER, metadata_url=RFC_URL), 200.0))
    error = talk.run(*[answer(status)] * asked)
    assert (type(error), error.endpoint, error.status) == (kind, RFC_URL, status)


def test_what_a_registration_allows_is_asked_of_the_document() -> None:
    plain_http = answer(issuer=ISSUER, token_endpoint="http://as.example/token")
    unlabelled = Response(200, (("content-type", "text/plain"),), GOOD.body)
    elsewhere = answer(issuer=ISSUER, token_endpoint="https://token.example/token")
    for document, settings, good in (
        (plain_http, {}, False),
        (plain_http, {"allow_insecure_http": True}, True),
        (unlabelled, {}, False),
        (unlabelled, {"lenient_content_type": True}, True),
        (elsewhere, {}, True),
        (elsewhere, {"allowed_endpoint_hosts": ("token.example",)}, True),
        (elsewhere, {"allowed_endpoint_hosts": ("as.example",)}, False),
    ):
        one = registration(issuer=ISSUER, metadata_url=RFC_URL, **settings)
        found = Talk(discover(one, 200.0)).run(document)
        assert isinstance(found, ServerMetadata if good else DiscoveryError), (document, settings)


ADVICE = {
    "deadline": "deadline",
    "resolve": "host name",
    "tls": "SSL_CERT_FILE",
    "proxy": "proxy",
    "blocked": "Link-local",
    "connect": "up and reachable",
    "read": "up and reachable",
}


@pytest.mark.parametrize("kind", ADVICE)
def test_the_advice_fits_the_failure(kind: Any) -> None:
    error = failure_error(Failure(kind, "the detail"), TOKEN_ENDPOINT, "the token endpoint")
    assert isinstance(error, UnreachableError)
    assert ADVICE[kind] in error.advice
    assert error.summary == "the token endpoint could not be reached: the detail."
    assert error.endpoint == TOKEN_ENDPOINT


def test_an_answer_without_measure_is_the_fault_of_the_server() -> None:
    error = failure_error(Failure("too_large", "more than 9 bytes"), TOKEN_ENDPOINT, "the token endpoint")
    assert isinstance(error, MalformedResponseError)
    assert error.endpoint == TOKEN_ENDPOINT
    document = Talk(discover(registration(issuer=ISSUER, metadata_url=RFC_URL), 200.0)).run(
        Failure("too_large", "more than 9 bytes")
    )
    assert isinstance(document, DiscoveryError)
    assert "more than 9 bytes" in document.summary
    assert document.summary.startswith("the metadata document")
    assert document.endpoint == RFC_URL


# -- registrations -------------------------------------------------------------------------------------------

BOUNDS = {
    "deadline": (0.05, 300.0),
    "renew_before": (0.0, 86400.0),
    "leeway": (0.0, 300.0),
    "default_lifetime": (1.0, 86400.0),
    "max_lifetime": (1.0, 366 * 86400.0),
}


@pytest.mark.parametrize("field", BOUNDS)
def test_seconds_have_bounds_that_belong_to_them(field: str) -> None:
    low, high = BOUNDS[field]
    for value in (low, high):
        assert getattr(registration(**{field: value}), field) == value
    for value in (low - 0.01, high + 0.5):
        with pytest.raises(ConfigurationError) as caught:
            registration(**{field: value})
        assert f"{low:g} and {high:g}" in caught.value.advice


def test_texts_may_be_as_long_as_said() -> None:
    assert registration(extra_parameters={"x": "a" * 2048}).extra_parameters == {"x": "a" * 2048}
    assert token_request_for(registration(), principal="p" * 256).principal == "p" * 256
    assert registration(audience="a" * 2048).audience == "a" * 2048
    for settings in ({"extra_parameters": {"x": "a" * 2049}}, {"principal": "p" * 257}, {"audience": "a" * 2049}):
        with pytest.raises(ConfigurationError) as caught:
            registration(**settings)
        assert caught.value.key == f"registration.api.{next(iter(settings))}"


@pytest.mark.parametrize("argument", ["audience", "principal", "resource"])
def test_a_refused_argument_of_a_call_is_named(argument: str) -> None:
    for value in ("", "a\nb"):
        with pytest.raises(ConfigurationError) as caught:
            token_request_for(registration(), **{argument: value})
        assert caught.value.key == argument
        assert caught.value.summary.startswith(argument)
    with pytest.raises(ConfigurationError) as caught:
        token_request_for(registration(), principal="p" * 257)
    assert caught.value.key == "principal"


@pytest.mark.parametrize("name", ["", "a\nb"])
def test_a_refused_name_of_a_parameter_is_told(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        registration(extra_parameters={name: "x"})
    assert caught.value.summary.startswith("extra parameter name")


def test_what_a_server_url_is_instead_of_a_text_is_told() -> None:
    for kind in (bytes, list):
        with pytest.raises(ConfigurationError) as caught:
            registration(issuer=kind())
        assert kind.__name__ in caught.value.summary


def test_registrations_of_one_issuer_differ_by_where_its_document_is() -> None:
    plain, elsewhere = registration(issuer=ISSUER), registration(issuer=ISSUER, metadata_url=RFC_URL)
    assert token_request_for(plain).identity != token_request_for(elsewhere).identity


def test_details_are_written_in_ascii_whatever_is_in_them() -> None:
    made = registration(authorization_details=[{"type": "é", "x": "\ud800"}])
    assert isinstance(made, ClientRegistration)
    assert list(map(str, made.authorization_details)) == ['{"type":"\\u00e9","x":"\\ud800"}']
    with pytest.raises(ConfigurationError):
        registration(authorization_details=['{"type":"\ud800"'])


def test_a_scope_that_is_refused_says_why() -> None:
    for text, position in (("a b c", 1), ('x"', 1)):
        with pytest.raises(StrictError, match=f"position {position}"):
            check_scope_token(text)
        with pytest.raises(ConfigurationError) as caught:
            registration(scope=[text])
        assert f"position {position}" in caught.value.summary
    with pytest.raises(ConfigurationError, match="not a text"):
        registration(scope=[7])


def test_registrations_hash_by_what_they_are_equal_by() -> None:
    assert hash(registration()) == hash(registration())
    assert hash(registration(id="a")) != hash(registration(id="b"))


# -- secrets ---------------------------------------------------------------------------------------------------


def test_a_secret_shows_stars_and_nothing_else() -> None:
    secret = Secret("hunter2")
    assert (repr(secret), str(secret), f"{secret:>9}") == ("Secret('***')", "***", "***")
    assert hash(secret) == hash(Secret("hunter2")) != hash(Secret("hunter3"))


# -- header fields -----------------------------------------------------------------------------------------------

NOON_2026 = 1_795_694_400.0  # 2026-11-26 12:00:00 UTC


@pytest.mark.parametrize(
    ("year", "meant"), [("26", 2026), ("76", 2076), ("77", 1977), ("99", 1999), ("00", 2000), ("27", 2027)]
)
def test_a_year_of_two_digits_is_within_fifty_years(year: str, meant: int) -> None:
    found = parse_header_date(f"Monday, 01-Jan-{year} 00:00:00 GMT", now_wall=NOON_2026)
    exact = parse_header_date(f"Mon, 01 Jan {meant} 00:00:00 GMT", now_wall=NOON_2026)
    assert found == exact is not None


def test_the_last_and_the_first_second_of_a_year_are_of_their_own_year() -> None:
    new_year = 1_798_761_600.0  # 2027-01-01 00:00:00 UTC
    for now, meant in ((new_year - 86_400.0, 2076), (new_year + 86_400.0, 2077)):
        found = parse_header_date(f"Monday, 01-Jan-{meant % 100} 00:00:00 GMT", now_wall=now)
        assert found == parse_header_date(f"Mon, 01 Jan {meant} 00:00:00 GMT", now_wall=now) is not None


def test_a_date_is_in_utc() -> None:
    assert parse_header_date("Thu, 26 Nov 2026 12:00:00 GMT", now_wall=0.0) == NOON_2026


def test_a_date_of_the_old_form_can_ask_to_stay_away() -> None:
    when = ("Thursday, 26-Nov-26 12:00:30 GMT",)
    assert parse_retry_after(when, now_wall=NOON_2026) == 30.0


# -- token responses -----------------------------------------------------------------------------------------------


def refusal(status: int, *headers: tuple[str, str], **members: Any) -> Any:
    request = token_request_for(registration(client_auth=ClientSecretPost("s3cretvalue")))
    response = answer(status, (*JSON, *headers), **members)
    return parse_token_response(response, request, TOKEN_ENDPOINT, Secret("s3cretvalue"), now_wall=NOON_2026)


def test_a_throttle_is_capped_whichever_field_asks_for_it() -> None:
    for field, value in (("retry-after", "9999"), ("x-rate-limit-reset", str(int(NOON_2026) + 9999))):
        error = refusal(429, (field, value))
        assert isinstance(error, ThrottledError)
        assert error.retry_after == 300.0
    assert refusal(429).retry_after is None
    assert refusal(429, ("x-rate-limit-reset", str(int(NOON_2026) + 7))).retry_after == 7.0


@pytest.mark.parametrize(
    ("code", "advice"),
    [("invalid_scope", "scope"), ("invalid_target", "RFC 8707"), ("unsupported_grant_type", "grant"), ("x", "scope,")],
)
def test_the_advice_fits_the_refusal(code: str, advice: str) -> None:
    error = refusal(400, error=code)
    assert isinstance(error, RequestRefusedError)
    assert advice in error.advice
    assert (error.endpoint, error.status, error.error_code) == (TOKEN_ENDPOINT, 400, code)


@pytest.mark.parametrize("status", [301, 399, 408, 407, 429, 401, 403, 404, 500, 599])
def test_every_refusal_says_where_it_came_from(status: int) -> None:
    error = refusal(status, detail="x")
    assert (error.endpoint, error.status) == (TOKEN_ENDPOINT, status)


def test_between_success_and_error_is_neither() -> None:
    for status in (199, 201, 299):
        assert isinstance(refusal(status), MalformedResponseError)
    assert isinstance(refusal(400), RequestRefusedError)


# -- challenges and renewal ---------------------------------------------------------------------------------------


def test_what_stands_for_no_element_of_a_list_is_passed_over() -> None:
    found = parse_challenges([" , ,, Bearer error=invalid_token"])
    assert [(one.scheme, dict(one.params)) for one in found] == [("bearer", {"error": "invalid_token"})]


def test_a_long_row_of_failures_holds_for_the_longest_time_and_no_longer() -> None:
    assert back_off(10_000, 1.0) == back_off(16, 1.0) == BACK_OFF_LAST
