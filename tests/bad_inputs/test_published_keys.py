"""Group G: what may be found where an issuer publishes its keys."""

from __future__ import annotations

import json
from typing import Any

import pytest

from accredit.core.jose import import_private_jwk, import_public_jwk
from accredit.core.jwk import JwkError
from accredit.core.jwks import parse_jwks
from accredit.core.messages import Failure, Response
from accredit.core.strict import b64url_encode
from accredit.errors import ConfigurationError, MalformedResponseError, UnreachableError
from accredit.verifier import JwksPolicy, KeysFailed, KeysFetched, VerifiedToken
from tests.bad_inputs.invariants import check_error, check_events
from tests.bad_inputs.model import covers
from tests.verifier.support import JSON, JWKS_URI, World, document, key_of

GOOD = dict(key_of("one").public_jwk)
REFUSED = Failure("connect", "refused")
BAD_MEMBERS: list[object] = [
    None, 5, "key", [], {}, {"kty": "EC"}, {"kty": ["EC"]}, {**GOOD, "kid": "x", "crv": "P-257"}, {**GOOD, "kid": 5},
    {**GOOD, "x": 5}, {**GOOD, "x": GOOD["x"] + "="}, {**GOOD, "alg": "none"}, {**GOOD, "use": "enc"},
    {**GOOD, "key_ops": ["sign"]}, {"kty": "oct", "k": "AAAA"}, {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
]  # fmt: skip


def settled(world: World) -> None:
    world.settle()


def failed(world: World, token: str) -> BaseException:
    error = world.error(token)
    check_error(error)
    check_events(world.events)  # type: ignore[arg-type]  # they are events of another kind
    return error


@covers("G01", outcome="OK with the good ones; the others are counted")
@pytest.mark.parametrize("bad", BAD_MEMBERS, ids=range(len(BAD_MEMBERS)))
def test_a_malformed_key_among_good_ones(bad: object) -> None:
    world = World()
    world.server.jwks = document({"keys": [bad, GOOD, bad]})
    assert world.accepts(world.token())
    (event,) = [event for event in world.events if isinstance(event, KeysFetched)]
    assert (event.keys, event.skipped) == (1, 2)


@covers("G02", outcome="503, and the last good set serves on")
@pytest.mark.parametrize(
    "answer",
    [
        document({"keys": BAD_MEMBERS}),
        document({"keys": []}),
        document({}),
        document({"keys": {"one": GOOD}}),
        document({"keys": None}),
        document([GOOD]),
        document("keys"),
        Response(200, (("content-type", "text/html"),), b"<html>"),
        Response(200, (JSON,), b"<html>"),
        Response(200, (JSON,), b""),
        Response(200, (JSON,), b'{"keys":[],"keys":[]}'),
        Response(200, (JSON,), b'{"keys":' + b"[" * 99999 + b"}"),
    ],
    ids=range(12),
)
def test_a_key_set_that_is_none(answer: Response) -> None:
    world = World()
    world.server.jwks = answer
    assert isinstance(failed(world, world.token()), MalformedResponseError)
    world.server.jwks = None
    world.clock.advance(6)
    assert world.accepts(world.token())
    world.server.jwks = answer
    world.clock.advance(400)
    assert world.accepts(world.token(jti="2"))
    settled(world)
    assert world.accepts(world.token(jti="3"))
    assert isinstance(world.events[-1], KeysFailed)


@covers("G03", outcome="OK: the last good keys serve on, for two days here")
@pytest.mark.parametrize("trouble", [document({}, 500), Failure("deadline", "late"), Failure("resolve", "no name")])
def test_the_keys_are_gone_for_a_while(trouble: Any) -> None:
    world = World(jwks_policy=JwksPolicy(max_stale=86400))
    token = world.token(exp=world.clock.wall() + 400_000)
    assert world.accepts(token)
    world.server.down = trouble
    for _ in range(24):
        world.clock.advance(3600)
        assert world.accepts(token)
        assert world.accepts(world.token())
        settled(world)
    world.clock.advance(86400)
    assert isinstance(failed(world, token), UnreachableError)


@covers("G05", outcome="DENY401 after one look; none within the cool-down")
def test_a_key_that_is_not_known() -> None:
    world = World()
    world.accepts(world.token())
    for _ in range(50):
        assert world.reason(world.token(key_of("else"))) == "unknown_key"
    assert world.fetches() == 2
    world.clock.advance(30)
    assert world.reason(world.token(key_of("else"))) == "unknown_key"
    assert world.fetches() == 3


@covers("G06", outcome="DENY401 each: one fetch in a cool-down, whatever comes, and nothing grows")
def test_a_flood_of_keys_that_are_not_known() -> None:
    world = World()
    world.accepts(world.token())
    rest = world.token().partition(".")[2]
    for number in range(2000):
        head = b64url_encode(json.dumps({"alg": "ES256", "kid": f"k{number}", "typ": "at+jwt"}).encode())
        assert world.reason(f"{head}.{rest}") == "unknown_key"
    assert world.fetches() == 2
    assert len(world.engine.known) == 1
    assert world.engine._questions.inactive == {}


@covers("G07", outcome="OK while both are published; DENY401 for the old one after the next look")
def test_keys_that_are_rotated() -> None:
    world = World()
    old, new = world.token(), key_of("two")
    assert world.accepts(old)
    world.server.keys = [new, key_of("one")]
    assert world.accepts(world.token(new))
    assert world.accepts(old)
    world.server.keys = [new]
    world.clock.advance(331)
    world.accepts(world.token(new, jti="2"))
    settled(world)
    assert world.reason(old) == "unknown_key"


@covers("G09", outcome="OK: chosen by id and algorithm")
def test_two_keys_of_one_name() -> None:
    world = World()
    world.server.keys = [key_of("one", "RS256"), key_of("one", "EdDSA"), key_of("one")]
    assert all(world.accepts(world.token(key)) for key in world.server.keys)


@covers("G11", outcome="OK with the public part, and a warning")
def test_private_keys_for_all_to_read(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.server.jwks = document({"keys": [{**GOOD, "d": "c2VjcmV0LWNhbmFyeQ"}]})
    assert world.accepts(world.token())
    (event,) = [event for event in world.events if isinstance(event, KeysFetched)]
    assert event.private == 1
    assert [record.levelname for record in caplog.records if "PRIVATE" in record.message] == ["WARNING"]
    assert "c2VjcmV0" not in caplog.text + repr(world.engine._issuers)


def number(value: int) -> str:
    return b64url_encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))


@covers("G13", outcome="not imported")
@pytest.mark.parametrize(
    ("n", "e"),
    [
        (2**511 + 1, 65537), (2**1022 + 1, 65537), (2**16383 + 1, 65537), (2**2047 + 2, 65537), (2**2047 + 1, 1),
        (2**2047 + 1, 2), (2**2047 + 1, 65536), (2**2047 + 1, 2**40 + 1),
    ],
    ids=range(8),
)  # fmt: skip
def test_rsa_keys_too_weak_too_large_or_broken(n: int, e: int) -> None:
    with pytest.raises(JwkError) as caught:
        import_public_jwk({"kty": "RSA", "n": number(n), "e": number(e)})
    assert "RSA" in str(caught.value)
    world = World()
    world.server.jwks = document({"keys": [GOOD, {"kty": "RSA", "n": number(n), "e": number(e)}]})
    assert world.accepts(world.token())


@covers("G14", outcome="not imported")
@pytest.mark.parametrize(
    "changes",
    [
        {"x": b64url_encode(bytes(32))}, {"x": b64url_encode(bytes(32)), "y": b64url_encode(bytes(32))},
        {"x": b64url_encode(b"\xff" * 32)}, {"x": b64url_encode(b"\1" * 31)}, {"x": b64url_encode(b"\0" + b"\1" * 32)},
        {"crv": "secp256k1"}, {"crv": "P-384"}, {"crv": "sect163k1"}, {"crv": None},
        {"kty": "OKP", "crv": "Ed25519", "x": b64url_encode(b"\1" + bytes(31))},
        {"kty": "OKP", "crv": "X25519", "x": b64url_encode(b"\1" * 32)},
    ],
)  # fmt: skip
def test_points_that_are_not_on_their_curve(changes: dict[str, object]) -> None:
    with pytest.raises(JwkError) as caught:
        import_public_jwk({**GOOD, **changes})
    assert str(changes.get("x")) not in str(caught.value)


@covers("G15", outcome="CONFIGURATION")
def test_a_private_key_that_is_not_that_of_its_public_part() -> None:
    ed = key_of("ed", "EdDSA")
    with pytest.raises(ConfigurationError) as caught:
        import_private_jwk({**ed.public_jwk, "d": b64url_encode(b"\7" * 32)})
    check_error(caught.value)
    assert b64url_encode(b"\7" * 32) not in str(caught.value)


@covers("G16", outcome="503: refused as a whole")
def test_a_key_set_too_large() -> None:
    for body in (
        json.dumps({"keys": [GOOD] * 101}).encode(),
        json.dumps({"keys": [GOOD], "x": "y" * (512 * 1024)}).encode(),
    ):
        with pytest.raises(MalformedResponseError):
            parse_jwks(body)
        world = World()
        world.server.jwks = Response(200, (JSON,), body)
        assert isinstance(failed(world, world.token()), MalformedResponseError)
    assert len(parse_jwks(json.dumps({"keys": [GOOD] * 100}).encode()).keys) == 100
    world = World()
    world.server.jwks = Failure("too_large", "more than 524288 bytes")
    assert isinstance(failed(world, world.token()), MalformedResponseError)
    assert world.fetches() == 1


@covers("G17", outcome="OK: from five minutes to a day")
@pytest.mark.parametrize(
    ("headers", "sooner", "later"),
    [
        ((("cache-control", "max-age=0"),), 299, 331),
        ((("cache-control", "max-age=31536000"),), 86399, 86401),
        ((), 299, 331),
        ((("cache-control", "max-age=1000"), ("age", "100")), 899, 991),
    ],
)
def test_how_long_a_key_set_may_be_kept(headers: tuple[tuple[str, str], ...], sooner: float, later: float) -> None:
    world = World()
    world.server.jwks_headers = headers
    world.accepts(world.token())
    world.clock.advance(sooner)
    world.accepts(world.token())
    settled(world)
    assert world.fetches() == 1
    world.clock.advance(later - sooner)
    world.accepts(world.token())
    settled(world)
    assert world.fetches() == 2


@covers("G19", outcome="not imported: a key of another kind is no secret for HMAC")
def test_keys_for_no_algorithm_or_for_a_symmetric_one() -> None:
    rsa = dict(key_of("rsa", "RS256").public_jwk)
    for member in ({**GOOD, "alg": "none"}, {**rsa, "alg": "HS256"}, {"kty": "oct", "k": "AAAA", "alg": "HS256"}):
        with pytest.raises(JwkError):
            import_public_jwk(member)
    unnamed = {name: value for name, value in rsa.items() if name != "alg"}
    assert import_public_jwk(unnamed).algorithm == "RS256"
    with pytest.raises(ConfigurationError):
        World(algorithms=("HS256",))


@covers("G20", outcome="OK for JSON and application/jwk-set+json; others by setting")
def test_media_types_of_a_key_set() -> None:
    for content_type, good in (
        ("application/json", True), ("application/jwk-set+json", True), ("Application/JSON; charset=UTF-8", True),
        ("text/plain", False), ("text/html", False), ("", False), ("application/jsonx", False),
    ):  # fmt: skip
        for lenient in (False, True):
            world = World(lenient_content_type=lenient)
            world.server.jwks = Response(200, (("content-type", content_type),), world.server.published().body)
            assert isinstance(world.verdict(world.token()), VerifiedToken) == (good or lenient)


@covers("G21", outcome="OK for other members and orders; not imported in other spellings")
def test_thumbprints_of_keys_in_odd_spellings() -> None:
    rsa = dict(key_of("rsa", "RS256").public_jwk)
    plain = import_public_jwk(rsa).thumbprint
    assert import_public_jwk({"x5c": ["a"], **dict(reversed(rsa.items()))}).thumbprint == plain
    from accredit.core.strict import b64url_decode

    with pytest.raises(JwkError):
        import_public_jwk({**rsa, "n": b64url_encode(b"\0" + b64url_decode(rsa["n"]))})
    with pytest.raises(JwkError):
        import_public_jwk({**rsa, "n": rsa["n"] + "=="})


@covers("G22", outcome="OK: the next look comes, spread by chance")
def test_a_renewal_that_fails_in_the_background() -> None:
    waits = set()
    for _ in range(8):
        world = World()
        world.accepts(world.token())

        def send(*_: object, **__: object) -> Response:
            raise RuntimeError("of the thread")

        real, world.server.send = world.server.send, send  # type: ignore[method-assign]
        world.clock.advance(331)
        assert world.accepts(world.token(jti="2"))
        settled(world)
        (trusted,) = world.engine._issuers.values()
        waits.add(round(trusted.retry_at - world.clock.now(), 6))
        assert 0 < trusted.retry_at - world.clock.now() <= 60
        world.server.send = real  # type: ignore[method-assign]
        world.clock.advance(60)
        assert world.accepts(world.token(jti="3"))
        settled(world)
        assert isinstance(world.events[-1], KeysFetched)
    assert len(waits) > 1


@covers("C12", outcome="503: a redirect of a key set is never followed")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_a_key_set(status: int) -> None:
    world = World()
    world.server.jwks = Response(status, (("location", "https://evil.example/jwks"),))
    error = failed(world, world.token())
    assert isinstance(error, MalformedResponseError)
    assert "redirect" in str(error)
    assert [request.url for request in world.server.requests] == [JWKS_URI]


@covers("J14", outcome="OK with the last good document and keys; another issuer in it changes nothing")
def test_metadata_that_becomes_that_of_another_issuer() -> None:
    world = World(jwks_uri=None, jwks_policy=JwksPolicy(min_age=4000, max_age=4000))
    assert world.accepts(world.token())
    world.server.metadata = world.server.described(issuer="https://evil.example", jwks_uri="https://evil.example/jwks")
    for _ in range(3):
        world.clock.advance(4001)
        assert world.accepts(world.token())
        settled(world)
    assert not any("evil" in request.url for request in world.server.requests)


@covers("J23", outcome="OK: keys are fetched as a stranger would")
def test_keys_are_fetched_without_credentials() -> None:
    from tests.verifier.support import asking

    world = World(introspection=asking(), jwks_uri=JWKS_URI)
    world.accepts(world.token())
    (request,) = world.server.requests
    assert request.body == b""
    assert {name for name, _ in request.headers} == {"accept"}
