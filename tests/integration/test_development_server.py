"""Clients and validators that nobody here wrote take what the development server issues: it is a standard one."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import jwt
import pytest
import requests
from authlib.integrations.base_client import OAuthError  # type: ignore[import-untyped]
from authlib.integrations.requests_client import OAuth2Session  # type: ignore[import-untyped]
from authlib.oauth2.rfc6750 import BearerTokenValidator  # type: ignore[import-untyped]
from authlib.oauth2.rfc7523 import PrivateKeyJWT  # type: ignore[import-untyped]
from authlib.oauth2.rfc7662 import IntrospectTokenValidator  # type: ignore[import-untyped]
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata  # type: ignore[import-untyped]
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator  # type: ignore[import-untyped]
from authlib.oauth2.rfc9068.claims import JWTAccessTokenClaims  # type: ignore[import-untyped]
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import ECKey, KeySet
from requests_oauth2client import OAuth2Client
from requests_oauthlib import OAuth2Session as OauthlibSession  # type: ignore[import-untyped]

from accredit.core.secret import Secret
from accredit.devserver import DevClient, DevConfig, DevServer
from tests.servers.nodejs import ensure_installed, node_executable
from tests.servers.process import ServerUnavailableError

pytestmark = pytest.mark.real_server

CLIENT, SECRET, ODD = "orders-worker", "s:e%41c+r t/=&~!", "odd:100%25 +worker"
API, REPORTS = "https://api.example", "https://reports.example"
NODE = Path(__file__).parents[1] / "servers" / "oidc_provider"
KEY = ECKey.generate_key("P-256", {"kid": "k1", "alg": "ES256", "use": "sig"})


def config(**settings: Any) -> DevConfig:
    def client(name: str, **more: Any) -> DevClient:
        return DevClient(client_id=name, audiences=(REPORTS,), **more)

    return DevConfig(
        clients=(
            client(CLIENT, client_secret=Secret(SECRET)),
            client(ODD, client_secret=Secret(SECRET)),
            client("signer", auth_methods=("private_key_jwt",), jwks=(KEY.as_dict(private=False),)),
            client("opaque", client_secret=Secret(SECRET), token_format="opaque"),
        ),
        **settings,
    )


@pytest.fixture
def server() -> Iterator[DevServer]:
    with DevServer(config()) as running:
        yield running


def metadata(server: DevServer) -> dict[str, Any]:
    found: dict[str, Any] = httpx2.get(f"{server.issuer}/.well-known/oauth-authorization-server").json()
    return found


def token(server: DevServer, client_id: str = CLIENT, **form: str) -> str:
    answer = httpx2.post(
        server.token_endpoint,
        data={"grant_type": "client_credentials", "client_id": client_id, "client_secret": SECRET, **form},
    )
    return str(answer.json()["access_token"])


def test_authlib_finds_the_metadata_in_order(server: DevServer) -> None:
    found = AuthorizationServerMetadata(metadata(server))
    # Not response_types_supported: RFC 8414 demands it, there is none here, and an empty list is nothing to Authlib.
    for member in (
        "issuer", "token_endpoint", "jwks_uri", "scopes_supported", "grant_types_supported",
        "token_endpoint_auth_methods_supported", "token_endpoint_auth_signing_alg_values_supported",
        "revocation_endpoint", "introspection_endpoint",
    ):  # fmt: skip
        getattr(found, f"validate_{member}")()
        assert member in found


@pytest.mark.parametrize("client", [CLIENT, ODD], ids=["basic", "post"])
def test_authlib_gets_introspects_and_revokes(server: DevServer, client: str) -> None:
    secret, method = SECRET, "client_secret_post"
    if client == CLIENT:
        # Authlib does not encode what it puts into Basic (RFC 6749, section 2.3.1), so it is given the encoded form.
        secret, method = quote(SECRET, safe=""), "client_secret_basic"
    with OAuth2Session(
        client,
        secret,
        token_endpoint_auth_method=method,
        revocation_endpoint_auth_method=method,
        scope="orders:read",
        token_endpoint=server.token_endpoint,
    ) as session:
        granted = session.fetch_token(grant_type="client_credentials")
        assert granted["token_type"] == "Bearer"
        found = metadata(server)
        introspected = session.introspect_token(found["introspection_endpoint"], token=granted["access_token"]).json()
        assert (introspected["active"], introspected["scope"], introspected["client_id"]) == (
            True,
            "orders:read",
            client,
        )
        assert session.get(f"{server.api_url}/orders").json()["orders"]
        assert session.revoke_token(found["revocation_endpoint"], token=granted["access_token"]).status_code == 200
        gone = session.introspect_token(found["introspection_endpoint"], token=granted["access_token"]).json()
        assert gone == {"active": False}


def test_authlib_signs_an_assertion_for_the_token_endpoint() -> None:
    """Authlib's audience is the token endpoint, as RFC 7523 once had it: refused, unless the configuration says so."""
    for accepts in (False, True):
        with DevServer(config(accept_endpoint_audience=accepts)) as server:
            with OAuth2Session(
                "signer",
                KEY,
                token_endpoint_auth_method="private_key_jwt",
                token_endpoint=server.token_endpoint,
            ) as session:
                session.register_client_auth_method(PrivateKeyJWT(server.token_endpoint, alg="ES256"))
                if accepts:
                    assert session.fetch_token(grant_type="client_credentials")["access_token"]
                else:
                    with pytest.raises(OAuthError, match="invalid_client"):
                        session.fetch_token(grant_type="client_credentials")
            assert [entry.status for entry in server.requests("/token")] == [200 if accepts else 401]


class _Authlib(JWTBearerTokenValidator):  # type: ignore[misc]  # Authlib has no types
    def __init__(self, server: DevServer) -> None:
        super().__init__(issuer=server.issuer, resource_server=API)
        self._keys = server.issuer + "/jwks"

    def get_jwks(self) -> Any:
        return KeySet.import_key_set(httpx2.get(self._keys).json())


def test_authlib_validates_a_token_by_rfc_9068(server: DevServer) -> None:
    validator = _Authlib(server)
    claims = validator.authenticate_token(token(server, scope="orders:read"))
    assert isinstance(claims, JWTAccessTokenClaims)
    validator.validate_token(claims, ["orders:read"], None)
    with pytest.raises(Exception, match="scope"):
        validator.validate_token(claims, ["orders:write"], None)
    assert issubclass(_Authlib, BearerTokenValidator)


def test_authlib_validates_an_opaque_token_by_introspection(server: DevServer) -> None:
    class Introspecting(IntrospectTokenValidator):  # type: ignore[misc]  # Authlib has no types
        def introspect_token(self, token_string: str) -> Any:
            url = metadata(server)["introspection_endpoint"]
            return requests.post(
                url, data={"token": token_string, "client_id": CLIENT, "client_secret": SECRET}, timeout=20
            ).json()

    validator = Introspecting()
    opaque = token(server, "opaque", scope="orders:read")
    assert "." not in opaque
    found = validator.authenticate_token(opaque)
    validator.validate_token(found, ["orders:read"], None)
    assert found["client_id"] == "opaque"
    server.revoke_client("opaque")
    with pytest.raises(Exception, match="invalid_token"):
        validator.validate_token(validator.authenticate_token(opaque), None, None)


def test_pyjwt_knows_a_key_that_was_published_ahead(server: DevServer) -> None:
    """PyJWT looks for an unknown key once, and then not for a while: a rotation without overlap would be an outage."""
    staged = server.stage_key()
    keys = jwt.PyJWKClient(server.issuer + "/jwks")
    kids = []
    for _ in range(2):
        bearer = token(server)
        key = keys.get_signing_key_from_jwt(bearer)
        kids.append(key.key_id)
        claims = jwt.decode(
            bearer, key, algorithms=["ES256"], audience=API, issuer=server.issuer,
            options={"require": ["exp", "iat", "iss", "aud", "sub", "jti"]},
        )  # fmt: skip
        assert claims["client_id"] == CLIENT
        assert server.rotate_key() != kids[0]
    assert kids[1] == staged != kids[0]
    assert server.count("/jwks") == 1


def test_joserfc_verifies_a_token(server: DevServer) -> None:
    bearer = token(server, resource=REPORTS)
    keys = KeySet.import_key_set(httpx2.get(f"{server.issuer}/jwks").json())
    verified = joserfc_jwt.decode(bearer, keys, algorithms=["ES256"])
    assert verified.header["typ"] == "at+jwt"
    joserfc_jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": server.issuer},
        aud={"essential": True, "value": REPORTS},
        exp={"essential": True},
    ).validate(verified.claims)


def test_requests_oauth2client_gets_introspects_and_revokes(server: DevServer) -> None:
    client = OAuth2Client.from_discovery_document(metadata(server), issuer=None, client_id=CLIENT, client_secret=SECRET,
                                                  testing=True)  # fmt: skip
    granted = client.client_credentials(scope="orders:read", resource=REPORTS)
    assert granted.scope == "orders:read"
    found: Any = client.introspect_token(granted)
    assert (found["active"], found["aud"]) == (True, REPORTS)
    client.revoke_access_token(granted)
    assert client.introspect_token(granted) == {"active": False}


def test_requests_oauthlib_gets_a_token(server: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from oauthlib.oauth2 import BackendApplicationClient  # type: ignore[import-untyped]

    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    with OauthlibSession(client=BackendApplicationClient(client_id="opaque", scope=["orders:read"])) as session:
        session.fetch_token(server.token_endpoint, client_id="opaque", client_secret=SECRET, include_client_id=True)
        assert session.get(f"{server.api_url}/orders").status_code == 200


@pytest.fixture(scope="module")
def node() -> list[str]:
    try:
        ensure_installed(NODE)
        return [str(node_executable()), str(NODE / "relying_party.mjs")]
    except ServerUnavailableError as error:
        if os.environ.get("ACCREDIT_REQUIRE_REAL_SERVERS") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


def test_openid_client_oauth4webapi_and_jose(server: DevServer, node: list[str]) -> None:
    settings = {
        "issuer": server.issuer,
        "api": f"{server.api_url}/hello",
        "audience": API,
        "resource": REPORTS,
        "client_id": CLIENT,
        "client_secret": SECRET,
        "jwt_client_id": "signer",
        "private_jwk": KEY.as_dict(private=True),
        "token": token(server),
    }
    done = subprocess.run(
        node, input=json.dumps(settings) + "\n", capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    for way, client in (("basic", CLIENT), ("post", CLIENT), ("jwt", "signer")):
        assert seen[way]["granted"]["token_type"] == "bearer"
        assert seen[way]["before"]["active"] is True
        assert (seen[way]["before"]["client_id"], seen[way]["before"]["aud"]) == (client, REPORTS)
        assert seen[way]["after"] == {"active": False}
    assert seen["oauth4webapi"]["claims"]["client_id"] == CLIENT
    assert seen["oauth4webapi"]["introspected"]["active"] is True
    assert seen["oauth4webapi"]["error"] == [401, "basic"]
    assert seen["jose"]["protectedHeader"]["typ"] == "at+jwt"
    assert seen["jose"]["payload"]["iss"] == server.issuer
