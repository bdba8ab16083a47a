"""Group I, and what of H concerns it: what an authorization server may say about a token."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl

import pytest

from accredit.core.jose import sign_jws
from accredit.core.messages import Failure, Response
from accredit.errors import (
    AuthorizationServerError,
    CredentialRefusedError,
    InvalidTokenError,
    MalformedResponseError,
    ThrottledError,
    UnreachableError,
)
from accredit.verifier import IntrospectionFailed
from tests.bad_inputs.invariants import check_error
from tests.bad_inputs.model import covers
from tests.runtime.support import eventually, threads
from tests.verifier.support import (
    API,
    CLIENT,
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

OPAQUE = "opaque.T0k3nCanary"
REFUSED = Failure("connect", "refused")


def world_of(answer: Any, /, **settings: Any) -> World:
    world = World(introspection=asking(**settings), jwks_uri=JWKS_URI)
    world.server.about = answer
    return world


def trouble(world: World, token: str = OPAQUE) -> AuthorizationServerError:
    error = world.error(token)
    check_error(error)
    assert SECRET not in str(error) + repr(vars(error))
    assert isinstance(error, AuthorizationServerError)
    return error


@covers("H10", outcome="503: it says nothing")
@pytest.mark.parametrize(
    "wrong",
    [
        {"typ": "JWT"},
        {"aud": MISSING},
        {"aud": "another"},
        {"iss": "https://evil.example"},
        {"iat": -3600},
        {"iat": 3600},
    ],
)
def test_a_signed_response_that_is_none_or_not_for_us(wrong: dict[str, Any]) -> None:
    world = world_of(None, signed=True)

    def statement(**changes: Any) -> Response:
        typ = changes.pop("typ", "token-introspection+jwt")
        members = {"iss": ISSUER, "aud": CLIENT, "token_introspection": {"active": True}, **changes}
        members["iat"] = world.clock.wall() + changes.get("iat", 0)
        claims = {name: value for name, value in members.items() if value is not MISSING}
        body = sign_jws(json.dumps(claims).encode(), key_of("one"), header={"typ": typ}).encode()
        return Response(200, (("content-type", "application/token-introspection+jwt"),), body)

    world.server.about = statement(**wrong)
    assert isinstance(trouble(world), MalformedResponseError)
    world.server.about = statement()
    assert world.accepts("another")


@covers("H11", outcome="DENY401: its type says what it is")
def test_a_signed_response_as_a_token() -> None:
    world = World()
    claims: dict[str, Any] = {"aud": API, "token_introspection": {"active": True}}
    assert world.reason(world.token(header={"typ": "token-introspection+jwt"}, **claims)) == "type"
    assert world.accepts(world.token(**claims))


@covers("I01", outcome="OK without any scope, and for half a minute only")
def test_active_and_nothing_else() -> None:
    world = world_of(active())
    token = world.verifier.verify(OPAQUE)
    assert (token.scope, token.expires_at, token.has_scope("a")) == ((), None, False)
    world.clock.advance(30)
    world.server.about = document({"active": False})
    assert world.reason(OPAQUE) == "inactive"


@covers("I04", outcome="DENY401")
def test_active_and_expired() -> None:
    world = world_of(None)
    world.server.about = active(exp=world.clock.wall() - 61)
    assert world.reason(OPAQUE) == "expired"


@covers("I06", outcome="503, an event, and no storm of questions")
@pytest.mark.parametrize("answer", [document({}, 401), document({"error": "invalid_client"}, 401), document({}, 403)])
def test_the_server_refuses_this_api(answer: Response) -> None:
    world = world_of(answer)
    assert isinstance(trouble(world), CredentialRefusedError)
    assert [type(event) for event in world.events] == [IntrospectionFailed]


@covers("I07", outcome="503; by setting, what was active a short while ago is accepted")
@pytest.mark.parametrize(
    "answer", [document({}, 500), document({}, 503, ("retry-after", "9")), Failure("deadline", "late"), REFUSED]
)
def test_the_server_gives_no_answer(answer: Any) -> None:
    world = world_of(active())
    assert world.accepts(OPAQUE)
    world.clock.advance(30)
    world.server.about = answer
    assert isinstance(trouble(world), UnreachableError | ThrottledError)
    lenient = world_of(active(), keep_through_outage=60)
    assert lenient.accepts(OPAQUE)
    lenient.clock.advance(30)
    lenient.server.about = answer
    assert lenient.accepts(OPAQUE)
    assert isinstance(trouble(lenient, "another"), UnreachableError | ThrottledError)
    lenient.clock.advance(31)
    assert isinstance(trouble(lenient), UnreachableError | ThrottledError)


@covers("I08", outcome="one question; a bad answer is kept for five seconds at most")
def test_a_thousand_checks_of_one_token() -> None:
    for answer, good in ((active(), True), (document({"active": False}), False)):
        world = world_of(answer)
        world.server.open.clear()
        with threads([lambda world=world: world.accepts(OPAQUE)] * 50) as answers:  # type: ignore[misc]
            eventually(lambda world=world: world.waiting() == 50, "the wait")  # type: ignore[misc]
            world.server.open.set()
        assert answers.results == [good] * 50
        assert [world.accepts(OPAQUE) for _ in range(950)] == [good] * 950
        assert world.asked() == 1
        if not good:
            world.server.about = active()
            world.clock.advance(5)
            assert world.accepts(OPAQUE)


@covers("I09", outcome="DENY401 without a question for what cannot be a token; else bounded")
def test_a_flood_of_made_up_tokens() -> None:
    world = World(introspection=asking(), jwks_uri=JWKS_URI, max_entries=32)
    for token in ("x" * 16385, "a b", "é" * 5, "\0", 'a"', "a,b"):
        assert world.reason(token) in {"malformed", "too_large"}
    assert world.server.requests == []
    for number in range(200):
        assert world.reason(f"random-{number}") == "inactive"
    assert len(world.engine._questions.inactive) <= 32
    assert world.engine.known == {}


@covers("I10", outcome="OK: a digest, and never the token itself")
def test_what_a_verdict_is_kept_under() -> None:
    world = world_of(active())
    world.accepts(OPAQUE)
    assert list(world.engine.known) == [sha256(OPAQUE.encode()).digest()]
    world.server.about = document({"active": False})
    world.reason("another")
    assert list(world.engine._questions.inactive) == [sha256(b"another").digest()]
    state = repr(world.engine.known) + repr(world.engine._questions.inactive) + repr(vars(world.verifier))
    assert OPAQUE not in state


@covers("I11", outcome="DENY401 unless the application says that it checks the proof")
@pytest.mark.parametrize("cnf", [{"jkt": "x"}, {"x5t#S256": "x"}, {}, None, "x"])
def test_a_token_bound_to_a_key(cnf: object) -> None:
    assert world_of(active(cnf=cnf)).reason(OPAQUE) == "bound"
    plain = World()
    assert plain.reason(plain.token(cnf=cnf)) == "bound"
    careful = World(accept_bound_tokens=True)
    assert careful.verifier.verify(careful.token(cnf=cnf)).claims["cnf"] == cnf


@covers("I12", outcome="OK: one parameter, whatever is in it")
@pytest.mark.parametrize("token", ["a&b=c", "a=b", "a%26b", "a+b", "a;b", "&token_type_hint=x", "a#b", "a?b"])
def test_a_token_with_characters_of_a_form(token: str) -> None:
    world = world_of(active())
    assert world.accepts(token)
    form = parse_qsl(world.server.requests[-1].body.decode(), strict_parsing=True)
    assert form == [("token", token), ("token_type_hint", "access_token")]


@covers("I13", outcome="503, in bounded time and memory")
@pytest.mark.parametrize(
    "answer",
    [
        Failure("too_large", "more than 262144 bytes"),
        Response(200, (JSON,), b'{"active":true,"active":true}'),
        Response(200, (JSON,), b'{"active":true,"\\u0061ctive":true}'),
        Response(200, (JSON,), b'{"active":true,"x":' + b"[" * 100_000 + b"}"),
        Response(200, (JSON,), b'{"active":true,"exp":1' + b"0" * 5000 + b"}"),
        Response(200, (JSON,), b'{"active":true,"x":NaN}'),
        Response(200, (JSON,), b"\xff\xfe{}"),
        Response(200, (JSON,), b'{"active":true,"x":"' + b"y" * 300_000 + b'"}'),
    ],
    ids=range(8),
)
def test_an_answer_without_measure(answer: Any) -> None:
    world = world_of(answer)
    assert isinstance(trouble(world), MalformedResponseError)
    assert world.server.requests[-1].max_bytes == 256 * 1024
    assert not isinstance(world.verdict(OPAQUE), InvalidTokenError)
