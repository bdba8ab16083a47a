"""Tokens that the authorization server is asked about: once, with our credential, and never on its own word alone."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import pytest

from accredit import ClientSecretBasic, ClientSecretPost, Secret
from accredit.core.messages import Failure, Request, Response
from accredit.errors import (
    AccreditError,
    AuthorizationServerError,
    ConfigurationError,
    CredentialRefusedError,
    MalformedResponseError,
    RequestRefusedError,
    ThrottledError,
    UnreachableError,
)
from accredit.runtime import questions
from accredit.verifier import Introspection, IntrospectionFailed, TokenVerifier, TrustedIssuer, VerifiedToken
from tests.runtime.support import eventually, threads
from tests.verifier.support import (
    API,
    CLIENT,
    INTROSPECTION_ENDPOINT,
    ISSUER,
    JSON,
    JWKS_URI,
    MISSING,
    SECRET,
    World,
    active,
    asking,
    document,
    key_of,
)

OPAQUE = "2YotnFZFEjr1zCsicMWpAA"
REFUSED = Failure("connect", "refused")


def world_of(
    answer: Any = None, /, *, jwks_uri: str | None = JWKS_URI, policy: dict[str, Any] | None = None, **settings: Any
) -> World:
    world = World(introspection=asking(**settings), jwks_uri=jwks_uri, **(policy or {}))
    world.server.about = active() if answer is None else answer
    return world


class TestQuestions:
    @pytest.mark.parametrize("method", [ClientSecretBasic, ClientSecretPost])
    def test_the_request(self, method: Any) -> None:
        world = world_of(client_auth=method(SECRET))
        token = "a&client_id=evil=%26+b"
        world.verifier.verify(token)
        (request,) = world.server.requests
        form = parse_qs(request.body.decode(), strict_parsing=True)
        assert form.pop("token") == [token]
        assert form.pop("token_type_hint") == ["access_token"]
        authorization = [value for name, value in request.headers if name == "authorization"]
        if method is ClientSecretBasic:
            assert (len(authorization), form) == (1, {})
        else:
            assert (authorization, form) == ([], {"client_id": [CLIENT], "client_secret": [SECRET]})
        assert (request.method, request.url, request.max_bytes) == ("POST", INTROSPECTION_ENDPOINT, 256 * 1024)
        assert SECRET not in repr(request)

    def test_the_endpoint_comes_from_the_metadata(self) -> None:
        world = world_of(endpoint=None, jwks_uri=None)
        assert world.verifier.verify(OPAQUE).issuer == ISSUER
        assert world.asked() == 1
        world.server.metadata = world.server.described(introspection_endpoint=MISSING)
        other = world_of(endpoint=None, jwks_uri=None)
        other.server.metadata = world.server.metadata
        assert "introspection_endpoint" in str(other.error(OPAQUE))

    def test_jwts_are_verified_here(self) -> None:
        world = world_of()
        assert world.verifier.verify(world.token()).client_id == "orders"
        assert world.asked() == 0

    @pytest.mark.parametrize("shape", ["a.b.c", "a.b", "a.b.c.d.e", "e30.e30.e30", "x" * 4096, "~|!:/+="])
    def test_what_is_no_jwt_is_asked_about(self, shape: str) -> None:
        world = world_of()
        assert world.verifier.verify(shape).issuer == ISSUER
        assert world.asked() == 1

    @pytest.mark.parametrize("wrong", ["", " ", "a b", "a\nb", 'a"b', "a\\b", "a,b", "é", "x" * 16385, "a\x7f"])
    def test_what_no_server_can_have_issued_is_not_asked_about(self, wrong: str) -> None:
        world = world_of()
        assert world.reason(wrong) in {"malformed", "too_large"}
        assert world.server.requests == []

    def test_an_opaque_token_without_introspection(self) -> None:
        assert World().reason(OPAQUE) == "malformed"

    def test_a_forged_jwt_is_not_asked_about(self) -> None:
        world = world_of()
        for token in (
            world.token(key_of("one", number=3)),
            world.token(aud="else"),
            world.token(iss="https://x.example"),
        ):
            world.reason(token)
        assert world.asked() == 0

    def test_no_server_sees_the_tokens_of_another(self) -> None:
        two = [TrustedIssuer(f"https://{name}.example", API, introspection=asking()) for name in "ab"]
        with pytest.raises(ConfigurationError) as caught:
            TokenVerifier(two)
        assert caught.value.key == "introspection"
        world = World(TrustedIssuer("https://else.example", API, introspection=asking(tokens="only")))
        world.verifier.verify(world.token())
        assert world.reason(world.token(iss="https://third.example")) == "issuer"
        assert world.asked() == 0

    def test_only_introspection_needs_no_keys(self) -> None:
        world = world_of(tokens="only", jwks_uri=None)
        for token in (OPAQUE, world.token(), "a.b.c"):
            assert world.verifier.verify(token).issuer == ISSUER
        assert [request.url for request in world.server.requests] == [INTROSPECTION_ENDPOINT] * 3

    def test_only_introspection_beside_an_issuer_with_keys(self) -> None:
        key = key_of("other")
        other = TrustedIssuer("https://other.example", API, jwks={"keys": [dict(key.public_jwk)]})
        world = World(other, introspection=asking(tokens="only"), jwks_uri=None)
        world.server.about = active()
        assert world.verifier.verify(world.token(key, iss="https://other.example")).issuer == "https://other.example"
        assert world.asked() == 0
        assert world.verifier.verify(world.token()).issuer == ISSUER
        assert world.verifier.verify(OPAQUE).issuer == ISSUER
        assert world.asked() == 2


class TestAnswers:
    def test_a_minimal_answer(self) -> None:
        world = world_of()
        token = world.verifier.verify(OPAQUE)
        assert token == VerifiedToken(None, None, None, (), (), None, None, {"active": True}, ISSUER)

    def test_a_whole_answer(self) -> None:
        world = world_of()
        now = world.clock.wall()
        members = {"client_id": "orders", "sub": "s", "jti": "1", "aud": [API, "x"], "scope": "b a", "iss": ISSUER}
        world.server.about = active(**members, iat=now - 5, nbf=now - 5, exp=now + 50, token_type="bearer")
        token = world.verifier.verify(OPAQUE)
        assert (token.client_id, token.subject, token.token_id, token.audience) == ("orders", "s", "1", (API, "x"))
        assert (token.scope, token.issued_at, token.expires_at) == (("b", "a"), now - 5, now + 50)

    @pytest.mark.parametrize(
        ("members", "reason"),
        [
            ({"active": False}, "inactive"),
            ({"active": False, "exp": 5, "scope": "a"}, "inactive"),
            ({"exp": 1}, "expired"),
            ({"exp": "soon"}, "malformed"),
            ({"exp": True}, "malformed"),
            ({"nbf": 4e9}, "not_yet_valid"),
            ({"iat": 4e9}, "not_yet_valid"),
            ({"iss": "https://else.example"}, "issuer"),
            ({"iss": None}, "issuer"),
            ({"aud": "else"}, "audience"),
            ({"aud": ["else"]}, "audience"),
            ({"aud": []}, "audience"),
            ({"aud": 5}, "audience"),
            ({"scope": 5}, "scope"),
            ({"client_id": 5}, "malformed"),
            ({"sub": ["a"]}, "malformed"),
            ({"token_type": "refresh_token"}, "type"),
            ({"token_type": 5}, "type"),
            ({"token_use": "refresh"}, "type"),
            ({"token_use": "id"}, "type"),
            ({"cnf": {"jkt": "x"}}, "bound"),
            ({"cnf": None}, "bound"),
            ({"token_type": "DPoP"}, "bound"),
            ({"token_type": "dpop", "cnf": {"jkt": "x"}}, "bound"),
        ],
    )
    def test_refused(self, members: dict[str, object], reason: str) -> None:
        world = world_of(active(**members))
        assert world.reason(OPAQUE) == reason
        assert world.reason(OPAQUE) == reason
        assert world.asked() == 1

    def test_null_counts_as_unstated(self) -> None:
        world = world_of(active(exp=None, iat=None, nbf=None, aud=None, scope=None, sub=None))
        assert world.verifier.verify(OPAQUE).expires_at is None

    def test_settings_that_demand_more(self) -> None:
        assert world_of(require_audience=True).reason(OPAQUE) == "audience"
        assert world_of(active(aud=API), require_audience=True).verifier.verify(OPAQUE).audience == (API,)
        assert world_of(policy={"clients": ("a",)}).reason(OPAQUE) == "client"
        assert world_of(active(client_id="b"), policy={"clients": ("a",)}).reason(OPAQUE) == "client"
        assert world_of(active(client_id="a"), policy={"clients": ("a",)}).verifier.verify(OPAQUE).client_id == "a"
        assert world_of(policy={"max_token_age": 60}).reason(OPAQUE) == "too_old"
        bound = world_of(active(cnf={"jkt": "x"}), policy={"accept_bound_tokens": True})
        assert bound.verifier.verify(OPAQUE).claims["cnf"] == {"jkt": "x"}
        bound = world_of(active(token_type="DPoP"), policy={"accept_bound_tokens": True})
        assert bound.verifier.verify(OPAQUE).claims["token_type"] == "DPoP"

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            (document({}), MalformedResponseError),
            (document({"active": "true"}), MalformedResponseError),
            (document({"active": 1}), MalformedResponseError),
            (document({"active": None}), MalformedResponseError),
            (document([True]), MalformedResponseError),
            (Response(200, (JSON,), b'{"active":true,"active":false}'), MalformedResponseError),
            (Response(200, (JSON,), b'{"active":true,"x":' + b"[" * 99 + b"]" * 99 + b"}"), MalformedResponseError),
            (Response(200, (("content-type", "text/html"),), b'{"active":true}'), MalformedResponseError),
            (Response(200, (), b'{"active":true}'), MalformedResponseError),
            (Response(302, (("location", "https://evil.example"),)), MalformedResponseError),
            (Response(204), MalformedResponseError),
            (document({}, 400), RequestRefusedError),
            (document({"error": "invalid_request"}, 400), RequestRefusedError),
            (document({"error": "invalid_client"}, 400), CredentialRefusedError),
            (document({}, 401), CredentialRefusedError),
            (document({}, 403), CredentialRefusedError),
            (document({}, 404), RequestRefusedError),
            (document({}, 429), ThrottledError),
            (document({}, 503, ("retry-after", "3")), ThrottledError),
            (document({}, 503), UnreachableError),
            (document({}, 500), UnreachableError),
            (Failure("too_large", "too much"), MalformedResponseError),
            (REFUSED, UnreachableError),
        ],
    )  # fmt: skip
    def test_no_answer_is_never_the_fault_of_the_token(self, answer: Any, kind: type[AccreditError]) -> None:
        world = world_of(answer)
        error = world.error(OPAQUE)
        assert type(error) is kind
        assert isinstance(error, AuthorizationServerError)
        assert OPAQUE not in str(error) + repr(vars(error))
        (event,) = world.events
        assert isinstance(event, IntrospectionFailed)
        assert (event.issuer, event.error) == (ISSUER, error)

    @pytest.mark.parametrize("echo", [OPAQUE, SECRET, "x" * 5000, "\x1b[2J"])
    def test_an_error_code_that_repeats_something(self, echo: str) -> None:
        error = world_of(document({"error": echo, "error_description": echo}, 400)).error(OPAQUE)
        assert isinstance(error, RequestRefusedError)
        assert error.error_code == "unknown_error"
        assert echo not in str(error)

    def test_a_media_type_by_setting(self) -> None:
        world = world_of(
            Response(200, (("content-type", "text/plain"),), b'{"active":true}'), policy={"lenient_content_type": True}
        )
        assert world.accepts(OPAQUE)


class TestKeeping:
    def test_an_active_token_is_asked_about_again_after_a_while(self) -> None:
        world = world_of()
        first = world.verifier.verify(OPAQUE)
        world.clock.advance(29)
        assert world.verifier.verify(OPAQUE) is first
        world.clock.advance(1)
        world.verifier.verify(OPAQUE)
        assert world.asked() == 2

    def test_it_ends_with_its_life(self) -> None:
        world = world_of(keep_active=300)
        world.server.about = active(exp=world.clock.wall() + 5)
        world.verifier.verify(OPAQUE)
        world.clock.advance(65)
        assert world.reason(OPAQUE) == "expired"
        assert world.asked() == 2

    def test_a_jump_of_the_wall_clock_keeps_nothing_longer(self) -> None:
        world = world_of()
        world.verifier.verify(OPAQUE)
        world.clock.jump_wall(-3600)
        world.clock.advance(30)
        world.verifier.verify(OPAQUE)
        assert world.asked() == 2

    def test_an_inactive_token_is_asked_about_again_soon(self) -> None:
        world = world_of(document({"active": False}))
        for _ in range(3):
            assert world.reason(OPAQUE) == "inactive"
        assert world.asked() == 1
        world.clock.advance(5)
        world.server.about = active()
        assert world.accepts(OPAQUE)

    def test_a_token_that_was_revoked_is_forgotten(self) -> None:
        world = world_of()
        world.verifier.verify(OPAQUE)
        world.server.about = document({"active": False})
        world.clock.advance(30)
        assert world.reason(OPAQUE) == "inactive"
        assert world.engine.known == {}

    def test_a_flood_of_made_up_tokens_grows_nothing(self) -> None:
        world = World(introspection=asking(), jwks_uri=JWKS_URI, max_entries=64)
        world.server.about = active()
        good = world.verifier.verify(OPAQUE)
        world.server.about = document({"active": False})
        for number in range(300):
            world.reason(f"made-up-{number}")
            assert len(world.engine._questions.inactive) <= 64
        assert world.verifier.verify(OPAQUE) is good  # they do not push good ones out
        assert world.engine._questions.asked == {}

    def test_too_many_at_once_are_turned_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(questions, "MOST_ASKED", 3)
        world = world_of()
        world.server.open.clear()
        with threads([lambda n=n: world.verdict(f"token-{n}") for n in range(3)]) as answers:  # type: ignore[misc]
            eventually(lambda: world.waiting() == 3, "the wait")
            error = world.error("token-4")
            assert isinstance(error, ThrottledError)
            assert error.retry_after == 1.0
            world.server.open.set()
        assert len(answers.results) == 3
        assert world.accepts("token-4")

    def test_a_thousand_checks_of_one_token_are_one_question(self) -> None:
        world = world_of()
        world.server.open.clear()
        with threads([lambda: world.verdict(OPAQUE)] * 64) as answers:
            eventually(lambda: world.waiting() == 64, "the wait")
            world.server.open.set()
        assert len({id(result) for result in answers.results}) == 1
        assert isinstance(answers.results[0], VerifiedToken)
        assert world.asked() == 1

    def test_a_failure_reaches_all_who_wait_each_with_its_own_error(self) -> None:
        world = world_of(document({}, 401))
        world.server.open.clear()
        with threads([lambda: world.verdict(OPAQUE)] * 16) as answers:
            eventually(lambda: world.waiting() == 16, "the wait")
            world.server.open.set()
        assert {type(result) for result in answers.results} == {CredentialRefusedError}
        assert len({id(result) for result in answers.results}) == 16
        assert world.asked() == 1


class TestTrouble:
    def test_a_refused_credential_is_held(self) -> None:
        world = world_of(document({"error": "invalid_client"}, 401))
        for number in range(5):
            assert isinstance(world.error(f"token-{number}"), CredentialRefusedError)
        assert world.asked() == 1
        for _ in range(100):
            world.clock.advance(1.0)
            world.error(OPAQUE)
        assert 2 <= world.asked() <= 10  # back-off of up to a minute

    def test_another_secret_ends_the_hold_at_once(self) -> None:
        secrets = ["old"]
        world = world_of(document({}, 401), client_auth=ClientSecretPost(lambda: secrets[0]))
        world.error(OPAQUE)
        secrets[0] = "new"
        world.server.about = active()
        world.clock.advance(1.0)
        assert world.accepts(OPAQUE)
        assert world.asked() == 2

    def test_a_secret_rotated_meanwhile_is_tried_once(self) -> None:
        secrets = iter(["old", "new", "new", "new"])
        world = world_of(client_auth=ClientSecretPost(lambda: next(secrets)))
        forms: list[str] = []
        real = world.server.send

        def send(request: Request, *, timeout: float) -> Response | Failure:
            real(request, timeout=timeout)
            forms.append(parse_qs(request.body.decode())["client_secret"][0])
            return document({}, 401) if forms[-1] == "old" else active()

        world.server.send = send  # type: ignore[method-assign]
        assert world.accepts(OPAQUE)
        assert forms == ["old", "new"]

    def test_a_secret_that_cannot_be_read(self) -> None:
        world = world_of(client_auth=ClientSecretBasic(Secret.from_environment("ACCREDIT_TEST_NOT_SET")))
        assert isinstance(world.error(OPAQUE), ConfigurationError)
        assert world.server.requests == []

    def test_throttling_holds_every_token(self) -> None:
        world = world_of(document({}, 429, ("retry-after", "20")))
        world.error("one")
        world.clock.advance(19)
        error = world.error("two")
        assert isinstance(error, ThrottledError)
        assert error.retry_after == pytest.approx(1.0)
        assert world.asked() == 1
        world.server.about = active()
        world.clock.advance(1)
        assert world.accepts("two")

    def test_a_token_that_the_server_stumbles_over_stops_no_other(self) -> None:
        answers = {"poison": document({}, 500), "odd": document({}, 400), "secret": document({}, 403)}
        world = world_of(lambda token: answers.get(token, active()))
        for poison in answers:
            world.error(poison)
            assert world.accepts(f"good-beside-{poison}")

    def test_by_default_an_outage_lets_nothing_through(self) -> None:
        world = world_of()
        world.verifier.verify(OPAQUE)
        world.server.down = REFUSED
        world.clock.advance(30)
        assert isinstance(world.error(OPAQUE), UnreachableError)

    def test_a_bounded_outage_by_setting(self) -> None:
        world = world_of(keep_through_outage=600)
        first = world.verifier.verify(OPAQUE)
        world.server.down = REFUSED
        for _ in range(9):
            world.clock.advance(60)
            assert world.verifier.verify(OPAQUE) is first
        assert isinstance(world.error("another"), UnreachableError)
        world.clock.advance(61)
        assert isinstance(world.error(OPAQUE), UnreachableError)

    def test_the_setting_is_for_outages_only(self) -> None:
        world = world_of(keep_through_outage=600)
        world.verifier.verify(OPAQUE)
        world.clock.advance(30)
        world.server.about = document({}, 401)
        assert isinstance(world.error(OPAQUE), CredentialRefusedError)
        world = world_of(keep_through_outage=600)
        world.server.about = active(exp=world.clock.wall() + 5)
        world.verifier.verify(OPAQUE)
        world.server.down = REFUSED
        world.clock.advance(66)
        assert isinstance(world.error(OPAQUE), UnreachableError)  # it has expired in any case

    def test_a_slow_server_costs_the_deadline(self) -> None:
        world = world_of(policy={"deadline": 2.0})
        world.server.latency = 5.0
        assert isinstance(world.error(OPAQUE), UnreachableError)
        assert world.asked() == 1


class TestBoth:
    """JWTs that are verified here and asked about as well."""

    def test_both_must_agree(self) -> None:
        world = world_of(tokens="all")
        token = world.verifier.verify(world.token())
        assert (token.client_id, token.claims["jti"]) == ("orders", "1")
        assert world.asked() == 1
        assert world.reason(world.token(aud="else")) == "audience"
        assert world.asked() == 1
        world.server.about = document({"active": False})
        assert world.reason(world.token(jti="2")) == "inactive"

    def test_revocation_is_noticed_within_half_a_minute(self) -> None:
        world = world_of(tokens="all")
        token = world.token()
        world.verifier.verify(token)
        world.server.about = document({"active": False})
        world.clock.advance(29)
        assert world.accepts(token)
        world.clock.advance(1)
        assert world.reason(token) == "inactive"

    def test_the_shorter_life_counts(self) -> None:
        world = world_of(tokens="all", keep_active=300)
        world.server.about = active(exp=world.clock.wall() + 10)
        token = world.token()
        world.verifier.verify(token)
        world.clock.advance(70)
        assert world.reason(token) == "expired"

    def test_a_withdrawn_key_ends_it_too(self) -> None:
        world = world_of(tokens="all", keep_active=300)
        token = world.token()
        world.verifier.verify(token)
        world.server.keys = [key_of("two")]
        world.verifier.verify(world.token())
        assert world.reason(token) == "unknown_key"


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"client_id": ""}, "client_id"),
        ({"client_id": "a\n"}, "client_id"),
        ({"client_id": 5}, "client_id"),
        ({"client_auth": "secret"}, "client_auth"),
        ({"client_id": "a:b", "client_auth": ClientSecretBasic("x", basic_encoding="raw")}, "client_id"),
        ({"tokens": "some"}, "tokens"),
        ({"tokens": ["all"]}, "tokens"),
        ({"signed": "false"}, "signed"),
        ({"require_audience": 1}, "require_audience"),
        ({"keep_active": 301}, "keep_active"),
        ({"keep_active": -1}, "keep_active"),
        ({"keep_active": True}, "keep_active"),
        ({"keep_inactive": 6}, "keep_inactive"),
        ({"keep_through_outage": float("nan")}, "keep_through_outage"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        asking(**settings)
    assert caught.value.key == key


def test_no_secret_shows() -> None:
    settings = asking()
    assert SECRET not in repr(settings) + str(settings)
    assert isinstance(settings, Introspection)
