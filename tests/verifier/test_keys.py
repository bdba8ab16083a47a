"""The keys of an issuer: fetched once, renewed beside the traffic, kept through outages, never by a flood."""

from __future__ import annotations

import base64
import json
import math
import threading
from typing import Any

import pytest

from accredit.core.messages import Failure, Response
from accredit.errors import (
    AccreditError,
    ConfigurationError,
    DiscoveryError,
    InvalidTokenError,
    MalformedResponseError,
    ThrottledError,
    UnreachableError,
)
from accredit.verifier import JwksPolicy, KeysFailed, KeysFetched, VerifiedToken
from tests.runtime.support import eventually
from tests.verifier.support import ISSUER, JWKS_URI, MISSING, World, document, key_of

REFUSED = Failure("connect", "refused")
DAY = 86400.0


def landed(world: World) -> None:
    world.settle()


class TestFetching:
    def test_nothing_is_fetched_before_the_first_token(self) -> None:
        world = World()
        assert world.fetches() == 0
        assert world.verifier.verify(world.token()).client_id == "orders"
        assert world.fetches() == 1

    def test_one_fetch_serves_all_tokens(self) -> None:
        world = World()
        for number in range(20):
            assert world.verifier.verify(world.token(jti=str(number))).token_id == str(number)
        assert world.fetches() == 1

    def test_the_request_is_plain_and_bounded(self) -> None:
        world = World()
        world.verifier.verify(world.token())
        (request,) = world.server.requests
        assert (request.method, request.url, request.body) == ("GET", JWKS_URI, b"")
        assert [name for name, _ in request.headers] == ["accept"]
        assert request.max_bytes == 512 * 1024

    def test_keys_are_found_through_the_metadata(self) -> None:
        world = World(jwks_uri=None)
        assert world.verifier.verify(world.token()).issuer == ISSUER
        assert [request.url for request in world.server.requests] == [
            f"{ISSUER}/.well-known/oauth-authorization-server",
            JWKS_URI,
        ]

    def test_an_issuer_without_a_token_endpoint_is_good_enough(self) -> None:
        world = World(jwks_uri=None)
        world.server.metadata = world.server.described(token_endpoint=MISSING, introspection_endpoint=MISSING)
        assert world.verifier.verify(world.token()).issuer == ISSUER

    def test_metadata_without_keys(self) -> None:
        world = World(jwks_uri=None)
        world.server.metadata = world.server.described(jwks_uri=MISSING)
        error = world.error(world.token())
        assert isinstance(error, DiscoveryError)
        assert "jwks_uri" in str(error)

    def test_metadata_of_another_issuer(self) -> None:
        world = World(jwks_uri=None)
        world.server.metadata = world.server.described(issuer=ISSUER + "/")
        assert isinstance(world.error(world.token()), DiscoveryError)
        assert world.fetches() == 0

    def test_metadata_is_read_anew_and_moves_the_keys(self) -> None:
        world = World(jwks_uri=None, jwks_policy=JwksPolicy(min_age=3000.0, max_age=4000.0))
        world.verifier.verify(world.token())
        world.server.metadata = world.server.described(jwks_uri=f"{ISSUER}/elsewhere/jwks")
        world.clock.advance(4001)
        assert world.accepts(world.token(jti="2"))
        landed(world)
        assert world.server.count("/elsewhere/jwks") == 1

    def test_pinned_keys_are_never_fetched(self) -> None:
        key = key_of("pinned")
        world = World(jwks={"keys": [dict(key.public_jwk)]})
        assert world.verifier.verify(world.token(key)).client_id == "orders"
        world.clock.advance(400 * DAY)
        assert world.verifier.verify(world.token(key)).client_id == "orders"
        assert world.reason(world.token()) == "unknown_key"
        assert world.server.requests == []


class TestTrouble:
    @pytest.mark.parametrize(
        ("answer", "kind", "requests"),
        [
            (REFUSED, UnreachableError, 3),
            (Failure("tls", "the certificate is of another host"), UnreachableError, 1),
            (Failure("deadline", "late"), UnreachableError, 3),
            (Failure("too_large", "more than 524288 bytes"), MalformedResponseError, 1),
            (document({}, 500), UnreachableError, 3),
            (document({}, 503, ("retry-after", "7")), ThrottledError, 1),
            (document({}, 429), ThrottledError, 1),
            (document({}, 404), MalformedResponseError, 1),
            (document({}, 302, ("location", "https://evil.example/jwks")), MalformedResponseError, 1),
            (document({}, 307, ("location", "https://evil.example/jwks")), MalformedResponseError, 1),
            (document({"keys": []}), MalformedResponseError, 1),
            (document([]), MalformedResponseError, 1),
            (Response(200, (("content-type", "text/html"),), b"<html>"), MalformedResponseError, 1),
        ],
    )
    def test_no_keys_is_never_the_fault_of_the_token(
        self, answer: Any, kind: type[AccreditError], requests: int
    ) -> None:
        world = World()
        world.server.jwks = answer
        error = world.error(world.token())
        assert type(error) is kind
        assert world.fetches() == requests
        assert isinstance(world.error(world.token(jti="2")), kind)
        assert world.fetches() == requests  # held back
        assert all(request.url == JWKS_URI for request in world.server.requests)
        (event,) = [event for event in world.events if isinstance(event, KeysFailed)]
        assert (event.issuer, event.error, event.serving) == (ISSUER, error, False)

    def test_an_error_says_for_how_long_nothing_is_asked(self) -> None:
        world = World()
        world.server.jwks = document({}, 503, ("retry-after", "7"))
        world.error(world.token())
        world.clock.advance(3)
        error = world.error(world.token())
        assert isinstance(error, ThrottledError)
        assert error.retry_after is not None
        assert 3.9 < error.retry_after <= 4.0
        world.server.jwks = None
        world.clock.advance(4)
        assert world.accepts(world.token())

    def test_metadata_that_takes_all_the_time_there_is(self) -> None:
        world = World(jwks_uri=None, deadline=2.0)
        world.server.latency = 2.0
        error = world.error(world.token())
        assert isinstance(error, UnreachableError)
        assert "no time left" in str(error)
        assert world.fetches() == 0

    def test_recovery_is_soon(self) -> None:
        world = World()
        world.server.down = REFUSED
        for _ in range(20):
            world.error(world.token())
            world.clock.advance(5.0)
        world.server.down = None
        assert world.accepts(world.token())  # at most five seconds after its return

    @pytest.mark.parametrize("content_type", ["application/jwk-set+json", "application/json; charset=utf-8"])
    def test_media_types(self, content_type: str) -> None:
        world = World()
        world.server.jwks = Response(200, (("content-type", content_type),), world.server.published().body)
        assert world.accepts(world.token())

    @pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream"])
    def test_other_media_types_by_setting(self, content_type: str) -> None:
        for lenient in (False, True):
            world = World(lenient_content_type=lenient)
            world.server.jwks = Response(200, (("content-type", content_type),), world.server.published().body)
            assert isinstance(world.verdict(world.token()), VerifiedToken if lenient else MalformedResponseError)

    def test_what_a_transport_cannot_do_is_a_fault_of_the_configuration(self) -> None:
        world = World()

        def send(*_: object, **__: object) -> Response:
            raise ConfigurationError("the CA file is missing.", key="ca_file")

        world.server.send = send  # type: ignore[method-assign]
        assert isinstance(world.error(world.token()), ConfigurationError)


class TestRenewal:
    def test_keys_are_renewed_beside_the_traffic(self) -> None:
        world = World()
        world.verifier.verify(world.token())
        world.server.open.clear()
        world.clock.advance(331)
        for number in range(5):
            assert world.accepts(world.token(jti=f"b{number}"))  # nobody waits
        eventually(lambda: world.fetches() == 2, "the renewal")
        world.server.open.set()
        landed(world)
        assert world.fetches() == 2

    @pytest.mark.parametrize(
        ("headers", "least", "most"),
        [
            ((), 300, 330),
            ((("cache-control", "max-age=0"),), 300, 330),
            ((("cache-control", "no-store, max-age=7200"),), 300, 330),
            ((("cache-control", "public, max-age=600"),), 600, 660),
            ((("cache-control", "max-age=900"), ("age", "300")), 600, 660),
            ((("cache-control", "max-age=31536000"),), DAY, DAY),
            ((("cache-control", "max-age=nonsense"),), 300, 330),
        ],
    )
    def test_the_server_says_how_long_within_limits(
        self, headers: tuple[tuple[str, str], ...], least: float, most: float
    ) -> None:
        for _ in range(10):
            world = World()
            world.server.jwks_headers = headers
            world.verifier.verify(world.token())
            (trusted,) = world.engine._issuers.values()
            assert least <= trusted.renew_at - world.clock.now() <= most
            assert trusted.unusable_at - world.clock.now() == 2 * DAY

    def test_a_day_without_the_server_rejects_no_token_of_a_known_key(self) -> None:
        world = World()
        world.verifier.verify(world.token())
        world.server.down = REFUSED
        accepted = 0
        for minute in range(24 * 60):
            world.clock.advance(60)
            assert world.accepts(world.token(jti=f"m{minute}"))
            landed(world)
            accepted += 1
        assert accepted == 1440
        failures = [event for event in world.events if isinstance(event, KeysFailed)]
        assert failures
        assert all(event.serving for event in failures)
        assert world.fetches() <= 1 + 3 * 24 * 60  # three attempts, at most once a minute

    @pytest.mark.parametrize(
        "answer",
        [REFUSED, document({}, 500), document({"keys": []}), Response(200, (("content-type", "text/html"),), b"<p>")],
    )
    def test_no_answer_makes_good_keys_go_away(self, answer: Any) -> None:
        world = World()
        world.verifier.verify(world.token())
        world.server.jwks = answer
        for _ in range(3):
            world.clock.advance(400)
            assert world.accepts(world.token())
            landed(world)
            assert world.fetches() > 1
        world.server.jwks = None
        world.clock.advance(61)
        assert world.accepts(world.token())
        landed(world)
        assert isinstance(world.events[-1], KeysFetched)

    def test_after_too_long_an_outage_nothing_is_vouched_for(self) -> None:
        world = World()
        world.verifier.verify(world.token())
        world.server.down = REFUSED
        world.clock.advance(2 * DAY - 1)
        assert world.accepts(world.token())
        landed(world)
        world.clock.advance(2)
        assert isinstance(world.error(world.token()), UnreachableError)
        world.server.down = None
        world.clock.advance(5)
        assert world.accepts(world.token())

    def test_a_renewal_that_hangs_is_waited_for_by_nobody(self) -> None:
        world = World()
        world.verifier.verify(world.token())
        world.server.open.clear()
        world.clock.advance(400)
        for step in range(10):
            assert world.accepts(world.token(jti=str(step)))
            world.clock.advance(60)
        world.server.open.set()
        landed(world)
        assert world.fetches() == 2


class TestRotation:
    def test_both_keys_verify_while_both_are_published(self) -> None:
        world = World()
        old, new = key_of("one"), key_of("two")
        world.verifier.verify(world.token(old))
        world.server.keys = [new, old]
        assert world.verifier.verify(world.token(new)).client_id == "orders"
        assert world.verifier.verify(world.token(old, jti="2")).client_id == "orders"
        assert world.fetches() == 2

    def test_a_withdrawn_key_verifies_nothing_after_the_next_look(self) -> None:
        world = World()
        old, new = key_of("one"), key_of("two")
        token = world.token(old)
        world.verifier.verify(token)
        world.server.keys = [new]
        assert world.accepts(token)  # nobody has looked yet
        world.verifier.verify(world.token(new))
        assert world.reason(token) == "unknown_key"
        event = world.events[-2]
        assert isinstance(event, KeysFetched)
        assert (event.keys, event.removed) == (1, 1)

    def test_what_a_withdrawn_key_verifies_is_not_kept(self) -> None:
        world = World()
        world.accepts(world.token())
        (trusted,) = world.engine._issuers.values()
        world.server.keys = [key_of("two")]
        world.accepts(world.token())
        assert trusted.key_ids == {key.id for key in (trusted.keys.keys if trusted.keys else ())}

    def test_the_traffic_of_one_token_alone_notices_a_withdrawn_key(self) -> None:
        world = World()
        token = world.token()
        world.verifier.verify(token)
        world.server.keys = [key_of("two")]
        world.clock.advance(331)
        world.server.open.clear()
        world.verifier.verify(token)  # starts the renewal
        world.server.open.set()
        landed(world)
        assert world.reason(token) == "unknown_key"

    def test_the_same_name_for_another_key(self) -> None:
        world = World()
        token = world.token()
        world.verifier.verify(token)
        world.server.keys = [key_of("one", number=1)]
        world.clock.advance(331)
        world.server.open.clear()
        world.verifier.verify(token)
        world.server.open.set()
        landed(world)
        assert world.reason(token) == "signature"
        assert world.accepts(world.token(jti="2"))

    def test_a_set_that_lands_while_a_token_is_verified_counts(self) -> None:
        """A verdict of a key that was withdrawn meanwhile is not kept."""
        world = World()
        token = world.token()
        world.verifier.verify(token)
        (trusted,) = world.engine._issuers.values()
        digest, verdict = next(iter(world.engine.known.items()))
        world.engine.known.clear()
        trusted.key_ids = frozenset()
        world.engine._verdicts.keep(digest, verdict)
        assert world.engine.known == {}


class TestUnknownKeys:
    def test_one_fetch_for_a_flood_of_unknown_keys(self) -> None:
        world = World(jwks_policy=JwksPolicy(min_age=DAY))
        world.verifier.verify(world.token())
        forged = [world.token(header={"kid": f"unknown-{number}"}) for number in range(200)]
        refused = 0
        for cool_down in range(3):
            for second in range(30):
                for token in forged[: 200 if second == 0 else 20]:
                    assert world.reason(token) == "unknown_key"
                    refused += 1
                world.clock.advance(1)
            assert world.fetches() == 2 + cool_down
        assert refused == 3 * (200 + 29 * 20)
        assert world.accepts(world.token(jti="2"))

    def test_ten_thousand_in_a_second_make_one_fetch(self) -> None:
        world = World()
        world.verifier.verify(world.token())
        rest = world.token().partition(".")[2]
        for number in range(10_000):
            header = json.dumps({"alg": "ES256", "typ": "at+jwt", "kid": f"k{number}"}).encode()
            token = f"{base64.urlsafe_b64encode(header).rstrip(b'=').decode()}.{rest}"
            with pytest.raises(InvalidTokenError) as caught:
                world.verifier.verify(token)
            assert caught.value.reason == "unknown_key"
        assert world.fetches() == 2
        assert len(world.engine.known) == 1

    def test_a_new_key_is_found_at_once(self) -> None:
        world = World()
        world.verifier.verify(world.token())
        world.server.keys = [key_of("two"), key_of("one")]
        assert world.verifier.verify(world.token(key_of("two"))).client_id == "orders"
        assert world.fetches() == 2

    def test_while_nobody_can_look_nobody_can_say_that_a_token_is_wrong(self) -> None:
        world = World()
        world.verifier.verify(world.token())
        world.server.down = REFUSED
        new = world.token(key_of("two"))
        assert isinstance(world.error(new), UnreachableError)
        error = world.error(new)
        assert isinstance(error, UnreachableError)
        assert error.retry_after is not None
        assert 20 < error.retry_after <= 30
        assert world.accepts(world.token(jti="2"))  # the known key goes on
        world.server.down = None
        world.server.keys = [key_of("two")]
        world.clock.advance(30)
        assert world.accepts(new)

    def test_a_first_token_of_an_unknown_key_causes_one_fetch_not_two(self) -> None:
        world = World()
        assert world.reason(world.token(key_of("two"))) == "unknown_key"
        assert world.fetches() == 1

    def test_without_a_key_id_a_new_key_is_found_by_its_signature(self) -> None:
        world = World()
        world.server.keys = [key_of(None)]
        assert world.accepts(world.token())
        world.server.keys = [key_of(None, number=1)]
        assert world.accepts(world.token())
        assert world.fetches() == 2
        assert world.reason(world.token(key_of(None, number=2))) == "signature"
        assert world.fetches() == 2

    def test_a_wrong_signature_under_a_known_key_causes_no_fetch(self) -> None:
        world = World()
        world.verifier.verify(world.token())
        other = key_of("one", number=5)
        assert world.reason(world.token(other)) == "signature"
        assert world.fetches() == 1

    def test_a_search_joins_the_renewal_that_is_up(self) -> None:
        world = World()
        world.verifier.verify(world.token())
        (trusted,) = world.engine._issuers.values()
        world.server.keys = [key_of("two"), key_of("one")]
        world.clock.advance(331)
        world.server.open.clear()
        world.verifier.verify(world.token(key_of("one"), jti="2"))
        assert trusted.flight is not None
        outcomes: list[object] = []
        thread = threading.Thread(target=lambda: outcomes.append(world.verdict(world.token(key_of("two")))))
        thread.start()
        eventually(lambda: world.waiting() == 1, "the wait")
        world.server.open.set()
        thread.join(30)
        assert isinstance(outcomes[0], VerifiedToken)
        assert world.fetches() == 2


class TestSeveral:
    @pytest.mark.parametrize("place", range(6))
    def test_a_token_without_key_id_is_tried_with_four_keys_of_its_algorithm(self, place: int) -> None:
        world = World()
        unnamed = [key_of(None, number=number) for number in range(6)]
        others = [key_of("rsa", "RS256"), key_of("ed", "EdDSA")]
        world.server.keys = [*others, *unnamed]
        token = world.token(unnamed[place])
        if place < 4:
            assert world.verifier.verify(token).client_id == "orders"
        else:
            assert world.reason(token) == "signature"

    def test_two_keys_of_one_name_are_told_apart_by_their_algorithm(self) -> None:
        world = World()
        world.server.keys = [key_of("one", "RS256"), key_of("one"), key_of("one", "PS256")]
        for key in world.server.keys:
            assert world.verifier.verify(world.token(key)).client_id == "orders"
        assert world.reason(world.token(key_of("one", "EdDSA"))) == "unknown_key"

    def test_private_keys_are_told_of(self, caplog: pytest.LogCaptureFixture) -> None:
        world = World()
        member = {**world.server.keys[0].public_jwk, "d": "AQAB"}
        world.server.jwks = document({"keys": [member, {"kty": "oct", "k": "AAAA"}]})
        assert world.accepts(world.token())
        (event,) = [event for event in world.events if isinstance(event, KeysFetched)]
        assert (event.keys, event.private, event.skipped) == (1, 1, 1)
        assert "PRIVATE" in caplog.text


def test_a_policy_that_makes_no_sense() -> None:
    for wrong in (-1.0, math.nan, math.inf, True, "30"):
        with pytest.raises(ConfigurationError) as caught:
            JwksPolicy(cool_down=wrong)  # type: ignore[arg-type]
        assert caught.value.key == "cool_down"
    with pytest.raises(ConfigurationError):
        JwksPolicy(min_age=2, max_age=1)
