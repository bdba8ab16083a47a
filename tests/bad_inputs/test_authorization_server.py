"""Rows of the authorization server side: what the development server says to clients that get it wrong."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlencode

import httpx2
import pytest

from accredit.core.jose import SigningKey, sign_jws
from accredit.core.messages import Response
from accredit.core.secret import Secret
from accredit.core.strict import b64url_encode
from accredit.devserver import DevClient, DevConfig, DevServer
from accredit.devserver.assertions import JWT_BEARER, LEEWAY, MAX_LIFE
from accredit.devserver.config import Place
from accredit.devserver.core import Authority
from accredit.devserver.forms import Incoming
from accredit.devserver.keys import new_signing_key
from accredit.devserver.ledger import IssuedToken, digest_of
from accredit.errors import ConfigurationError
from tests.bad_inputs.model import covers

NOW = 1_800_000_000.0
ISSUER, API, REPORTS = "https://as.example", "https://api.example", "https://reports.example"
SECRET = "s3cr3tCanary-é-🔑"
KEY, OTHER_KEY, SERVER_KEY = new_signing_key(), new_signing_key(), new_signing_key()
CONFIG = DevConfig(
    issuer=ISSUER,
    clients=(
        DevClient(client_id="api-client", client_secret=Secret(SECRET), audiences=(REPORTS,)),
        DevClient(client_id="signer", auth_methods=("private_key_jwt",), jwks=(dict(KEY.public_jwk),)),
        DevClient(client_id="other", auth_methods=("private_key_jwt",), jwks=(dict(OTHER_KEY.public_jwk),)),
    ),
)
FORM = ("content-type", "application/x-www-form-urlencoded")
GRANT = [("grant_type", "client_credentials")]


def basic(client_id: str = "api-client", secret: str = SECRET) -> tuple[str, str]:
    pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
    return ("authorization", "Basic " + base64.b64encode(pair.encode()).decode())


def ask(
    body: list[tuple[str, str]] | bytes,
    *headers: tuple[str, str],
    path: str = "/token",
    server: Authority | None = None,
) -> Response:
    raw = body if isinstance(body, bytes) else urlencode(body).encode()
    incoming = Incoming("POST", path, (FORM, *headers), raw)
    asked = server or Authority(CONFIG, [SERVER_KEY])
    return asked.handle(incoming, now=NOW, random_id="r" * 24, random_value="v" * 43).response


def said(response: Response) -> tuple[int, str | None]:
    """Return status and error code; whatever it is, it says nothing of a secret, and grants nothing with an error."""
    assert b"s3cr3tCanary" not in response.body
    members: dict[str, Any] = json.loads(response.body or b"{}")
    assert ("access_token" in members) == (response.status == 200)
    return response.status, members.get("error")


@covers("R03", outcome="DENY400 invalid_request for what is repeated; what is empty counts as omitted")
def test_parameters_that_are_repeated_or_empty() -> None:
    for name in ("grant_type", "scope", "audience", "client_id", "unheard_of"):
        assert said(ask([*GRANT, (name, "x"), (name, "x")], basic())) == (400, "invalid_request"), name
    answer = ask([*GRANT, ("scope", ""), ("resource", ""), ("client_id", "")], basic())
    assert said(answer) == (200, None)
    assert json.loads(answer.body)["scope"] == "orders:read orders:write"
    assert said(ask([("grant_type", "")], basic())) == (400, "invalid_request")


@covers("R04", outcome="OK: ignored")
def test_unknown_parameters() -> None:
    answer = ask([*GRANT, ("prompt", "none"), ("é", "x"), ("access_token", "t")], basic())
    assert said(answer) == (200, None)
    assert set(json.loads(answer.body)) == {"access_token", "token_type", "expires_in", "scope"}


@covers("R05", outcome="OK: never stored by a cache, JSON, and no refresh token")
def test_how_a_grant_is_answered() -> None:
    answer = ask(GRANT, basic())
    assert (answer.header("cache-control"), answer.header("pragma")) == ("no-store", "no-cache")
    assert answer.header("content-type") == "application/json"
    assert "refresh_token" not in json.loads(answer.body)


@covers("R07", outcome="DENY401 invalid_client, with a challenge; never a 500")
@pytest.mark.parametrize(
    "value",
    [
        "Basic " + base64.b64encode(raw).decode()
        for raw in (
            b"api-client:%zz",
            b"api-client",
            b"",
            b":x",
            b"\xff\xfe:x",
            b"api-client:\xff",
            b"a" * 1_000_000 + b":x",
        )
    ]
    + ["Basic", "Basic ???", "Basic é", "basic  "],
    ids=lambda value: value[:30],
)
def test_basic_credentials_that_are_none(value: str) -> None:
    answer = ask(GRANT, ("authorization", value))
    assert said(answer) == (401, "invalid_client")
    assert (answer.header("www-authenticate") or "").startswith("Basic realm=")


@covers("R08", outcome="bytes are compared: OK with the right secret, DENY401 with any other")
def test_secrets_that_are_not_ascii() -> None:
    assert said(ask(GRANT, basic())) == (200, None)
    # The same letters, composed in another way: other bytes.
    for wrong in (SECRET.replace("é", "e\u0301"), SECRET[:-1], SECRET + "é", "ö"):
        assert said(ask(GRANT, basic(secret=wrong))) == (401, "invalid_client")
        form = [*GRANT, ("client_id", "api-client"), ("client_secret", wrong)]
        assert said(ask(form)) == (401, "invalid_client")


# ---- signed assertions --------------------------------------------------------------------------------------


def claims(**changes: object) -> dict[str, object]:
    good: dict[str, object] = {"iss": "signer", "sub": "signer", "aud": ISSUER, "jti": "j", "iat": NOW, "exp": NOW + 60}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def assertion(key: SigningKey = KEY, header: dict[str, object] | None = None, **changes: object) -> str:
    return sign_jws(json.dumps(claims(**changes)).encode(), key, header=header or {"typ": "JWT"})


def authenticated_by(token: str, *more: tuple[str, str], server: Authority | None = None) -> tuple[int, str | None]:
    form = [*GRANT, ("client_assertion_type", JWT_BEARER), ("client_assertion", token), *more]
    return said(ask(form, server=server))


@covers("R09", outcome="DENY400 invalid_request")
def test_two_ways_of_authentication_at_once() -> None:
    pair = [("client_id", "api-client"), ("client_secret", SECRET)]
    signed = [("client_assertion_type", JWT_BEARER), ("client_assertion", assertion())]
    assert said(ask([*GRANT, *pair], basic())) == (400, "invalid_request")
    assert said(ask([*GRANT, *signed], basic())) == (400, "invalid_request")
    assert said(ask([*GRANT, *signed, *pair])) == (400, "invalid_request")
    assert said(ask(GRANT, basic(), basic())) == (400, "invalid_request")
    # An assertion without a signature does not stand in for one that is demanded, nor for the secret of another.
    unsigned = [("client_assertion_type", JWT_BEARER), ("client_assertion", "")]
    assert said(ask([*GRANT, *unsigned], basic())) == (400, "invalid_request")


def bare(header: dict[str, object], signature: str = "AA") -> str:
    body = b64url_encode(json.dumps(claims()).encode())
    return f"{b64url_encode(json.dumps(header).encode())}.{body}.{signature}"


def hmac_signed() -> str:
    text = bare({"alg": "HS256", "kid": KEY.kid}).rpartition(".")[0]
    public = json.dumps(dict(KEY.public_jwk)).encode()
    return f"{text}.{b64url_encode(hmac.digest(public, text.encode(), hashlib.sha256))}"


@covers("R10", outcome="DENY401 invalid_client for each; OK for the one that is right, in any of its forms")
@pytest.mark.parametrize(
    "token",
    [
        pytest.param(assertion(sub="api-client"), id="sub is not iss"),
        pytest.param(assertion(iss="api-client", sub="api-client"), id="of a client with a secret"),
        pytest.param(assertion(iss="nobody", sub="nobody"), id="of nobody"),
        pytest.param(assertion(iss=None), id="no iss"),
        pytest.param(assertion(sub=None), id="no sub"),
        pytest.param(assertion(iss=["signer"]), id="iss is a list"),
        pytest.param(assertion(exp=None), id="no exp"),
        pytest.param(assertion(exp=NOW - 60), id="expired"),
        pytest.param(assertion(exp=NOW + 365 * 86400), id="lives a year"),
        pytest.param(assertion(exp=str(int(NOW + 60))), id="exp is a text"),
        pytest.param(assertion(exp=True), id="exp is true"),
        pytest.param(assertion(exp=1e300), id="exp is no time"),
        pytest.param(assertion(iat=NOW + 3600, exp=NOW + 3660), id="from the future"),
        pytest.param(assertion(iat=NOW - 86400), id="from yesterday"),
        pytest.param(assertion(nbf=NOW + 60), id="not valid yet"),
        pytest.param(assertion(nbf="now"), id="nbf is a text"),
        pytest.param(assertion(aud=None), id="no aud"),
        pytest.param(assertion(aud=[ISSUER]), id="aud is a list"),
        pytest.param(assertion(aud=[ISSUER, "https://evil.example"]), id="aud names others too"),
        pytest.param(assertion(aud=f"{ISSUER}/token"), id="aud is the token endpoint"),
        pytest.param(assertion(aud=f"{ISSUER}/"), id="aud with a slash"),
        pytest.param(assertion(aud=ISSUER[:-1]), id="aud is the beginning"),
        pytest.param(assertion(aud=f"{ISSUER}.evil.example"), id="aud begins with the issuer"),
        pytest.param(assertion(jti=None), id="no jti"),
        pytest.param(assertion(jti=""), id="empty jti"),
        pytest.param(assertion(jti=7), id="jti is a number"),
        pytest.param(assertion(jti="j" * 257), id="jti is huge"),
        pytest.param(assertion(OTHER_KEY), id="key of another client"),
        pytest.param(assertion(header={"typ": "at+jwt"}), id="an access token"),
        pytest.param(bare({"alg": "none"}, ""), id="alg none without signature"),
        pytest.param(bare({"alg": "none"}), id="alg none with a signature"),
        pytest.param(bare({"alg": "None"}), id="alg None"),
        pytest.param(bare({}), id="no alg"),
        pytest.param(hmac_signed(), id="HMAC with the public key"),
        pytest.param(bare({"alg": "ES256", "jwk": dict(OTHER_KEY.public_jwk)}), id="brings its own key"),
        pytest.param(json.dumps({"payload": b64url_encode(json.dumps(claims()).encode()), "header": {"alg": "ES256"},
                                 "signature": ""}), id="unsigned header in the JSON form"),
        pytest.param(assertion()[:-4] + "AAAA", id="tampered"),
        pytest.param("x", id="no JWT"),
        pytest.param("a" * 100_000, id="huge"),
        pytest.param("é.é.é", id="not ASCII"),
    ],
)  # fmt: skip
def test_assertions_that_prove_nothing(token: str) -> None:
    assert authenticated_by(token) == (401, "invalid_client")
    assert authenticated_by(assertion()) == (200, None)
    assert authenticated_by(assertion(header={"typ": "client-authentication+jwt"}), ("client_id", "signer")) == (
        200,
        None,
    )


@covers("R10", outcome="DENY401 invalid_client: the client_id beside it must be the same")
def test_an_assertion_and_another_client_id() -> None:
    assert authenticated_by(assertion(), ("client_id", "other")) == (401, "invalid_client")
    assert said(ask([*GRANT, ("client_assertion", assertion())])) == (401, "invalid_client")
    form = [*GRANT, ("client_assertion_type", "urn:x"), ("client_assertion", assertion())]
    assert said(ask(form)) == (401, "invalid_client")


@covers("R10", outcome="DENY401 invalid_client for a replay, also long after, until the assertion has expired")
def test_an_assertion_serves_once() -> None:
    server = Authority(CONFIG, [SERVER_KEY])
    # One that is refused for something else is not used up by it.
    assert authenticated_by(assertion(), ("client_id", "other"), server=server) == (401, "invalid_client")
    assert authenticated_by(assertion(), server=server) == (200, None)
    assert authenticated_by(assertion(), server=server) == (401, "invalid_client")
    again = assertion(exp=NOW + MAX_LIFE)
    assert authenticated_by(again, server=server) == (401, "invalid_client")  # the jti counts, not the text
    assert authenticated_by(assertion(jti="k"), server=server) == (200, None)


@covers("R10", outcome="DENY401 invalid_client for a replay in the very last moment in which it is accepted")
def test_an_assertion_serves_once_to_the_last_moment() -> None:
    server = Authority(CONFIG, [SERVER_KEY])
    # At that very moment its jti may be forgotten, so it must not be accepted any more either.
    assert authenticated_by(assertion(exp=NOW - LEEWAY), server=server) == (401, "invalid_client")
    last = assertion(exp=NOW - LEEWAY + 0.001)
    assert authenticated_by(last, server=server) == (200, None)
    assert authenticated_by(last, server=server) == (401, "invalid_client")


@covers("R10", outcome="exactly one of many that are sent at once is OK")
def test_the_same_assertion_many_times_at_once() -> None:
    with DevServer(dataclasses.replace(CONFIG, issuer="")) as server:
        now = time.time()
        text = assertion(aud=server.issuer, iat=now, exp=now + 60)
        form = {"grant_type": "client_credentials", "client_assertion_type": JWT_BEARER, "client_assertion": text}
        start = threading.Barrier(16)

        def one(_: int) -> int:
            with httpx2.Client(timeout=30) as http:
                start.wait()
                return http.post(server.token_endpoint, data=form).status_code

        with ThreadPoolExecutor(16) as pool:
            statuses = sorted(pool.map(one, range(16)))
    assert statuses == [200] + [401] * 15


@covers("R12", outcome="OK: what one client or one kind of object used up is still there for another")
def test_identifiers_that_serve_once_have_namespaces() -> None:
    server = Authority(CONFIG, [SERVER_KEY])
    assert authenticated_by(assertion(jti="same"), server=server) == (200, None)
    other = assertion(OTHER_KEY, iss="other", sub="other", jti="same")
    assert authenticated_by(other, server=server) == (200, None)
    assert server.ledger.use("something else", "same", until=NOW + 60, now=NOW)
    assert not server.ledger.use("something else", "same", until=NOW + 60, now=NOW)
    # No spelling of one pair is another pair.
    assert server.ledger.use("client_assertion:signer:x", "y", until=NOW + 60, now=NOW)
    assert server.ledger.use("client_assertion:signer", "x:y", until=NOW + 60, now=NOW)


@covers("R13", outcome="DENY400 invalid_scope; what is granted is said")
@pytest.mark.parametrize(
    "scope", ["admin", "orders:read admin", 'a"b', "a\\b", "é", "a\tb", " ", "orders:read  orders:write"]
)
def test_scopes_that_are_not_for_this_client(scope: str) -> None:
    assert said(ask([*GRANT, ("scope", scope)], basic())) == (400, "invalid_scope")
    granted = ask([*GRANT, ("scope", "orders:read")], basic())
    assert json.loads(granted.body)["scope"] == "orders:read"


@covers("R14", outcome="DENY400 invalid_target; OK for several that are allowed")
def test_resources() -> None:
    for wrong in ("https://unknown.example", f"{API}#part", f"{REPORTS}/", "reports", "/x", "http://[x", "é://x"):
        assert said(ask([*GRANT, ("resource", wrong)], basic())) == (400, "invalid_target"), wrong
        assert said(ask([*GRANT, ("resource", API), ("resource", wrong)], basic())) == (400, "invalid_target"), wrong
    assert said(ask([*GRANT, ("resource", API), ("resource", REPORTS)], basic())) == (200, None)


@covers("R15", outcome="DENY400 unsupported_grant_type, or invalid_request when there is none")
def test_other_grants() -> None:
    for grant in ("authorization_code", "password", "refresh_token", "Client_Credentials", "é"):
        assert said(ask([("grant_type", grant)], basic())) == (400, "unsupported_grant_type")
    assert said(ask([("scope", "orders:read")], basic())) == (400, "invalid_request")


@covers("R16", outcome="OK: the subject of a client is in a namespace of its own")
def test_a_client_that_is_named_like_a_user() -> None:
    client = DevClient(client_id="alice", client_secret=Secret(SECRET))
    server = Authority(dataclasses.replace(CONFIG, clients=(client,)), [SERVER_KEY])
    answer = ask(GRANT, basic("alice"), server=server)
    body = json.loads(answer.body)["access_token"].split(".")[1]
    found = json.loads(base64.urlsafe_b64decode(body + "=="))
    assert (found["client_id"], found["sub"]) == ("alice", "client:alice")


@covers("R21", outcome="refused, and the error names the switch that overrides it")
@pytest.mark.parametrize(
    "settings",
    [
        {"host": "0.0.0.0"}, {"host": "::"}, {"host": "192.0.2.7"}, {"host": "example.com"},
        *({"environment": {name: "production"}} for name in ("ENVIRONMENT", "APP_ENV", "NODE_ENV", "FLASK_ENV")),
        {"environment": {"PROD": "1"}}, {"environment": {"PROD": "TRUE "}}, {"environment": {"PRODUCTION": "yes"}},
    ],
    ids=str,
)  # fmt: skip
def test_places_where_it_does_not_run(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Place(**settings).check()
    assert "--i-know-this-is-for-tests" in caught.value.advice
    Place(**settings, for_tests=True).check()
    Place(environment={"PROD": "0", "ENVIRONMENT": "staging"}).check()


@pytest.fixture
def running() -> Iterator[DevServer]:
    with DevServer() as server:
        yield server


@covers("R27", outcome="DENY403 without the token of the server; no page of a browser can")
def test_time_travel(running: DevServer) -> None:
    url, body = f"{running.url}/_admin/advance_clock", {"seconds": 3600}
    good = {"X-Admin-Token": running.admin_token}
    before = running.advance_clock(0)
    for headers in (
        {},
        {"X-Admin-Token": ""},
        {"X-Admin-Token": "x"},
        {"Authorization": f"Bearer {running.admin_token}"},
    ):
        assert httpx2.post(url, json=body, headers=headers).status_code == 403
    assert httpx2.post(url, json=body, headers={**good, "Origin": running.url}).status_code == 405
    for seconds in (float("inf"), 1e300, "x", None):
        raw = json.dumps({"seconds": seconds}).encode()
        assert httpx2.post(url, content=raw, headers=good).status_code == 400
    assert running.advance_clock(0) < before + 3000
    assert httpx2.post(url, json=body, headers=good).json()["result"] >= before + 3600
    assert running.reset_clock() < before + 3000


@covers("I12", outcome="OK: the token is taken as it is, and becomes no parameter")
@pytest.mark.parametrize("token", ["a&b=c", "a&client_id=other&active=true", "a+b %26=é", "=&=", "a#b?c/d;e"])
def test_tokens_with_characters_of_a_form(token: str) -> None:
    server = Authority(CONFIG, [SERVER_KEY])
    text = digest_of(token)
    server.ledger.add(IssuedToken("1.x", "api-client", (), (API,), int(NOW), int(NOW) + 60, "opaque", text))
    found = ask([("token", token)], basic(), path="/introspect", server=server)
    assert json.loads(found.body)["jti"] == "1.x"
    # Not encoded, it is another token, and two parameters of one name are refused.
    broken = ask(f"token={token}&&".encode(), basic(), path="/introspect", server=server)
    altered = any(sign in token for sign in "&+%")
    assert (broken.status == 400 or json.loads(broken.body) == {"active": False}) == altered
    assert ask([("token", token)], basic(), path="/revoke", server=server).status == 200
    again = ask([("token", token)], basic(), path="/introspect", server=server)
    assert json.loads(again.body) == {"active": False}


@covers("I15", outcome="503 with Retry-After: nothing is revoked yet; OK when it is tried again")
def test_a_revocation_that_has_to_wait(running: DevServer) -> None:
    client = ("api-client", "dev-secret")
    token = httpx2.post(running.token_endpoint, data=dict(GRANT), auth=client).json()["access_token"]
    running.inject(status=503, retry_after="7", path="/revoke", times=1)

    def active() -> bool:
        answer = httpx2.post(f"{running.issuer}/introspect", data={"token": token}, auth=client)
        return bool(answer.json()["active"])

    refused = httpx2.post(f"{running.issuer}/revoke", data={"token": token}, auth=client)
    assert (refused.status_code, refused.headers["retry-after"], active()) == (503, "7", True)
    done = httpx2.post(f"{running.issuer}/revoke", data={"token": token}, auth=client)
    assert (done.status_code, active()) == (200, False)
    assert [entry.fault for entry in running.requests("/revoke")] == ["status 503", None]
