"""Signed answers about tokens (RFC 9701): who made the statement, for whom, and when."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from accredit.core.jose import SigningKey, sign_jws
from accredit.core.messages import Response
from accredit.errors import MalformedResponseError, UnreachableError
from tests.runtime.support import eventually, threads
from tests.verifier.support import API, CLIENT, ISSUER, MISSING, World, document, key_of
from tests.verifier.test_introspection import OPAQUE, world_of


class TestSigned:
    """RFC 9701."""

    def statement(
        self, world: World, /, key: SigningKey | None = None, typ: str = "token-introspection+jwt", **changes: object
    ) -> Response:
        claims: dict[str, object] = {
            "iss": ISSUER,
            "aud": CLIENT,
            "iat": world.clock.wall(),
            "token_introspection": {"active": True, "client_id": "orders"},
            **changes,
        }
        claims = {name: value for name, value in claims.items() if value is not MISSING}
        body = sign_jws(json.dumps(claims).encode(), key or key_of("one"), header={"typ": typ})
        return Response(200, (("content-type", "application/token-introspection+jwt"),), body.encode())

    def test_good(self) -> None:
        world = world_of(signed=True)
        world.server.about = lambda _: self.statement(world, aud=["x", CLIENT])
        assert world.verifier.verify(OPAQUE).client_id == "orders"
        (question,) = [request for request in world.server.requests if request.method == "POST"]
        assert ("accept", "application/token-introspection+jwt") in question.headers

    def test_good_for_a_while(self) -> None:
        world = world_of(signed=True)
        world.server.about = lambda _: self.statement(world, exp=world.clock.wall() + 60)
        assert world.verifier.verify(OPAQUE).client_id == "orders"

    def test_inactive(self) -> None:
        world = world_of(signed=True)
        world.server.about = self.statement(world, token_introspection={"active": False})
        assert world.reason(OPAQUE) == "inactive"

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"iss": "https://else.example"}, "another issuer"),
            ({"iss": MISSING}, "another issuer"),
            ({"aud": MISSING}, "another resource server"),
            ({"aud": API}, "another resource server"),
            ({"aud": []}, "another resource server"),
            ({"iat": MISSING}, "when it was made"),
            ({"iat": "now"}, "when it was made"),
            ({"iat": True}, "when it was made"),
            ({"iat": 1}, "not made now"),
            ({"iat": 4e9}, "not made now"),
            ({"iat": 10**400}, "when it was made"),
            ({"iat": -1}, "when it was made"),
            ({"exp": 1}, "expired"),
            ({"exp": 10**400}, "expired"),
            ({"exp": "x"}, "expired"),
            ({"token_introspection": MISSING}, "token_introspection"),
            ({"token_introspection": []}, "token_introspection"),
            ({"token_introspection": {"active": "yes"}}, "active"),
            ({"typ": "JWT"}, "typ"),
            ({"typ": "at+jwt"}, "typ"),
            ({"key": key_of("one", number=7)}, "signature"),
            ({"key": key_of("else")}, "unknown_key"),
        ],
    )
    def test_refused(self, changes: dict[str, Any], says: str) -> None:
        world = world_of(signed=True)
        world.server.about = self.statement(world, **changes)
        error = world.error(OPAQUE)
        assert isinstance(error, MalformedResponseError)
        assert says in str(error) or says == "unknown_key"

    def test_a_plain_answer_where_a_signed_one_is_demanded(self) -> None:
        assert isinstance(world_of(signed=True).error(OPAQUE), MalformedResponseError)

    def test_a_plain_answer_with_a_signature_in_it(self) -> None:
        world = world_of(signed=True)
        good = self.statement(world)
        world.server.about = Response(200, (("content-type", "application/json"),), good.body)
        assert isinstance(world.error(OPAQUE), MalformedResponseError)

    @pytest.mark.parametrize("body", [b"", b"x", b"\xff\xfe", b"a.b.c", b"{}"])
    def test_nonsense_that_says_to_be_signed(self, body: bytes) -> None:
        world = world_of(Response(200, (("content-type", "application/token-introspection+jwt"),), body), signed=True)
        assert isinstance(world.error(OPAQUE), MalformedResponseError)

    def test_a_statement_is_no_access_token(self) -> None:
        world = world_of(signed=True)
        token = self.statement(
            world, sub="s", client_id="c", jti="1", exp=world.clock.wall() + 60, aud=API
        ).body.decode()
        assert world.reason(token) == "type"

    def test_a_new_key_is_looked_for(self) -> None:
        world = world_of(signed=True)
        world.server.about = lambda _: self.statement(world, key=world.server.keys[0])
        world.verifier.verify(OPAQUE)
        world.server.keys = [key_of("two"), key_of("one")]
        assert world.verifier.verify("another").client_id == "orders"
        assert world.fetches() == 2

    def test_a_new_key_that_cannot_be_had(self) -> None:
        world = world_of(signed=True)
        world.server.about = lambda _: self.statement(world, key=key_of("two"))
        assert isinstance(world.error(OPAQUE), MalformedResponseError)
        world.server.jwks = document({}, 404)
        world.clock.advance(30)
        error = world.error(OPAQUE)
        assert isinstance(error, MalformedResponseError)
        assert "key that signed it" in str(error)
        assert world.fetches() == 3

    def test_of_many_answers_by_a_new_key_one_looks_for_it(self) -> None:
        world = world_of(signed=True)
        world.server.about = lambda _: self.statement(world)
        world.verifier.verify(OPAQUE)
        world.server.about = lambda _: self.statement(world, key=key_of("two"))
        world.server.open.clear()
        with threads([partial(world.verdict, f"token{each}") for each in range(8)]) as answers:
            eventually(lambda: world.asked() >= 3, "questions under way")
            world.server.open.set()
        assert [type(outcome) for outcome in answers.results] == [MalformedResponseError] * 8
        assert world.fetches() == 2

    def test_a_look_for_a_new_key_that_failed_is_no_fault_of_a_token(self) -> None:
        world = world_of(signed=True)
        world.server.about = lambda _: self.statement(world)
        world.verifier.verify(OPAQUE)
        world.server.about = lambda _: self.statement(world, key=key_of("two"))
        world.server.jwks = document({}, 404)
        for each in range(3):
            assert isinstance(world.error(f"token{each}"), MalformedResponseError)
        assert world.fetches() == 2
        # Nobody knows whether its key is good, until the next look.
        assert isinstance(world.error(world.token(key_of("three"))), MalformedResponseError)
        assert world.fetches() == 2

    def test_keys_that_were_given_are_never_looked_for(self) -> None:
        trust = {"jwks": {"keys": [dict(key_of("one").public_jwk)]}}
        world = world_of(signed=True, jwks_uri=None, policy=trust)
        world.server.about = lambda _: self.statement(world, key=key_of("two"))
        assert isinstance(world.error(OPAQUE), MalformedResponseError)
        assert world.fetches() == 0

    def test_without_keys_nothing_is_believed(self) -> None:
        world = world_of(signed=True)
        world.server.jwks = document({}, 500)
        assert isinstance(world.error(OPAQUE), UnreachableError)
        assert world.asked() == 0
