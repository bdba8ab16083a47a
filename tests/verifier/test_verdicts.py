"""Verdicts that are kept: by digest, bounded, ended by the life of the token, and never another token's."""

from __future__ import annotations

import math
from typing import Any

import pytest

from accredit.core.jose import SigningKey
from accredit.errors import ConfigurationError, InvalidTokenError
from accredit.verifier import JwksPolicy, TokenRejected, TokenVerifier, TrustedIssuer
from tests.verifier.support import API, ISSUER, World, claims_of, key_of, sign


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Give what signatures were looked at."""
    from accredit.core.jwk import VerificationKey

    seen: list[bytes] = []
    real = VerificationKey.verifies

    def verifies(self: VerificationKey, data: bytes, signature: bytes) -> bool:
        seen.append(data)
        return real(self, data, signature)

    monkeypatch.setattr(VerificationKey, "verifies", verifies)
    return seen


def test_the_same_token_is_verified_once(verifications: list[bytes]) -> None:
    world = World()
    token = world.token()
    first = world.verifier.verify(token)
    assert all(world.verifier.verify(token) is first for _ in range(1000))
    assert len(verifications) == 1


def test_a_hit_takes_no_lock_and_makes_no_request() -> None:
    world = World()
    token = world.token()
    first = world.verifier.verify(token)
    with world.engine._desk.lock:  # It is held: whoever wanted it would stand still here.
        assert world.verifier.verify(token) is first
        assert world.verifier.asynchronous().verify(token).send_none() if False else True
    assert len(world.server.requests) == 1


def test_a_known_key_takes_no_lock_but_to_keep_its_verdict() -> None:
    world = World()
    world.verifier.verify(world.token())
    kept: list[object] = []
    world.engine._keep = lambda *arguments: kept.append(arguments)  # type: ignore[method-assign]
    with world.engine._desk.lock:
        assert world.verifier.verify(world.token(jti="2")).token_id == "2"
        assert world.reason(world.token(aud="other")) == "audience"
    assert len(kept) == 1


@pytest.mark.parametrize("leeway", [0.0, 60.0])
def test_a_verdict_ends_with_the_token(leeway: float) -> None:
    world = World(leeway=leeway, jwks_policy=JwksPolicy(min_age=86400))
    token = world.token(exp=world.clock.wall() + 100)
    world.verifier.verify(token)
    world.clock.advance(100 + leeway - 1)
    assert world.accepts(token)
    world.clock.advance(1)
    assert world.reason(token) == "expired"


def test_a_jump_of_the_wall_clock_ends_what_it_ends() -> None:
    """A verdict that was kept says the same as a new one would, whatever the clock does."""
    world = World()
    token = world.token(exp=world.clock.wall() + 100)
    world.verifier.verify(token)
    world.clock.jump_wall(161)
    assert world.reason(token) == "expired"
    world.clock.jump_wall(-161)
    assert world.accepts(token)


def test_a_refused_token_is_not_remembered_as_good(verifications: list[bytes]) -> None:
    world = World()
    token = world.token(aud="other")
    for _ in range(3):
        assert world.reason(token) == "audience"
    assert len(verifications) == 3
    assert world.engine.known == {}


def test_verdicts_are_bounded() -> None:
    world = World(max_entries=100)
    tokens = [world.token(jti=str(number)) for number in range(350)]
    for token in tokens:
        world.verifier.verify(token)
        assert len(world.engine.known) <= 100
    assert all(world.verifier.verify(token).token_id == str(number) for number, token in enumerate(tokens))


def test_a_verdict_belongs_to_the_whole_text() -> None:
    world = World()
    token = world.token()
    world.verifier.verify(token)
    head, body, tail = token.split(".")
    for other in (f"{head}.{body}.{tail[:-4]}AAAA", f"{head}.{body[:-4]}AAAA.{tail}", token + "A", token[:-1]):
        assert isinstance(world.verdict(other), InvalidTokenError)
    assert all(token.encode() not in digest for digest in world.engine.known)


def test_a_token_of_high_s_is_another_token() -> None:
    """ECDSA has two signatures for everything; both are good, and each has a verdict of its own."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    from accredit.core.strict import b64url_decode, b64url_encode

    world = World()
    token = world.token()
    signed, _, tail = token.rpartition(".")
    raw = b64url_decode(tail)
    other = raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    twin = f"{signed}.{b64url_encode(other)}"
    assert world.verifier.verify(token) == world.verifier.verify(twin)
    assert len(world.engine.known) == 2


def test_a_closed_verifier_knows_nothing() -> None:
    world = World()
    token = world.token()
    with world.verifier as verifier:
        verifier.verify(token)
    assert isinstance(world.verdict(token), ConfigurationError)
    assert world.engine.known == {}


def test_what_is_rejected_is_told_once_each() -> None:
    world = World()
    world.reason(world.token(aud="other"))
    world.reason(sign(claims_of(world.clock.wall(), iss="https://else.example"), key_of("one")))
    world.reason("nonsense")
    world.reason("é")
    rejected = [event for event in world.events if isinstance(event, TokenRejected)]
    assert rejected == [
        TokenRejected(ISSUER, "audience"),
        TokenRejected("", "issuer"),
        TokenRejected("", "malformed"),
        TokenRejected("", "malformed"),
    ]


@pytest.mark.parametrize("wrong", ["", ".", "..", "a.b.c", "\ud800", "é", "x" * 16385, None, 5, b"x", ["x"]])
def test_what_is_no_token(wrong: Any) -> None:
    world = World()
    error = world.verdict(wrong)
    assert isinstance(error, InvalidTokenError)
    assert error.reason in {"malformed", "too_large"}
    assert world.server.requests == []


class TestSeveralIssuers:
    OTHER = "https://as.example/tenant"

    def world(self, **settings: Any) -> tuple[World, SigningKey]:
        key = key_of("other")
        other = TrustedIssuer(self.OTHER, API, jwks={"keys": [dict(key.public_jwk)]}, **settings)
        return World(other), key

    def test_each_is_bound_to_its_own_keys(self) -> None:
        world, key = self.world()
        assert world.verifier.verify(world.token()).issuer == ISSUER
        assert world.verifier.verify(world.token(key, iss=self.OTHER)).issuer == self.OTHER
        assert world.reason(world.token(key)) == "unknown_key"
        assert world.reason(world.token(iss=self.OTHER)) == "unknown_key"
        # The same key id does not help either.
        assert world.reason(world.token(key, header={"kid": "one"})) == "signature"
        assert world.reason(world.token(iss=self.OTHER, header={"kid": "other"})) == "signature"

    @pytest.mark.parametrize(
        "issuer", ["https://as.example/", "https://as.example/tenant/", "https://as.example/ten", "https://as", ""]
    )
    def test_one_that_begins_like_another_is_another(self, issuer: str) -> None:
        world, key = self.world()
        for each in (key, key_of("one")):
            assert world.reason(world.token(each, iss=issuer)) == "issuer"
        assert world.server.requests == []

    def test_each_has_its_own_demands(self) -> None:
        world, key = self.world(algorithms=("RS256",))
        assert world.reason(world.token(key, iss=self.OTHER)) == "algorithm"
        world, key = self.world(clients=("billing",))
        assert world.reason(world.token(key, iss=self.OTHER)) == "client"
        assert world.accepts(world.token())

    def test_trouble_of_one_is_no_trouble_of_the_other(self) -> None:
        from accredit.core.messages import Failure

        world, key = self.world()
        world.server.down = Failure("connect", "refused")
        world.error(world.token())
        assert world.accepts(world.token(key, iss=self.OTHER))


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"trusted": ()}, "trusted"),
        ({"trusted": ["x"]}, "trusted"),
        ({"trusted": 5}, "trusted"),
        ({"trusted": [TrustedIssuer(ISSUER, API), TrustedIssuer(ISSUER, "other")]}, "issuer"),
        ({"max_entries": 0}, "max_entries"),
        ({"max_entries": True}, "max_entries"),
        ({"max_entries": math.inf}, "max_entries"),
        ({"renewal": "sometimes"}, "renewal"),
        ({"renewal": ["thread"]}, "renewal"),
    ],
)
def test_a_verifier_that_makes_no_sense(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TokenVerifier(**{"trusted": TrustedIssuer(ISSUER, API), **settings})
    assert caught.value.key == key
