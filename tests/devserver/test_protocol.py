"""The protocol core of the development server: no sockets, every request in memory."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from accredit.core.access_token import AccessTokenPolicy, VerifiedToken, verify_access_token
from accredit.core.jwks import parse_jwks
from accredit.core.messages import Response
from accredit.core.secret import Secret
from accredit.devserver.config import DevClient, DevConfig, Place, config_from_mapping, config_to_mapping
from accredit.devserver.core import Authority
from accredit.devserver.forms import MAX_BODY_BYTES, Incoming, claimed_client_id
from accredit.devserver.keys import new_signing_key
from accredit.devserver.log import MAX_ENTRIES, LogEntry, RequestLog
from accredit.errors import ConfigurationError

NOW = 1_800_000_000.0
ISSUER = "https://as.example"
API, OTHER_API = "https://api.example", "https://other.example"
ODD_ID, ODD_SECRET = "a:b %+é/=", "s:e%c+ r é~🔑"
CONFIG = DevConfig(
    issuer=ISSUER,
    clients=(
        DevClient(
            client_id="api-client", client_secret=Secret("dev-secret"), audiences=(OTHER_API, "urn:x:y", "plain")
        ),
        DevClient(client_id=ODD_ID, client_secret=Secret(ODD_SECRET), scopes=(), token_lifetime=5),
        DevClient(client_id="basic-only", client_secret=Secret("s"), auth_methods=("client_secret_basic",)),
        DevClient(client_id="post-only", client_secret=Secret("s"), auth_methods=("client_secret_post",)),
    ),
)
KEY = new_signing_key()
FORM_TYPE = ("content-type", "application/x-www-form-urlencoded")


def authority(config: DevConfig = CONFIG) -> Authority:
    return Authority(config, [KEY])


def basic(client_id: str = "api-client", secret: str = "dev-secret") -> tuple[str, str]:
    text = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
    return ("authorization", "Basic " + base64.b64encode(text.encode()).decode())


def raw_basic(raw: bytes) -> tuple[str, str]:
    return ("authorization", "Basic " + base64.b64encode(raw).decode())


def post(
    server: Authority,
    form: dict[str, object] | list[tuple[str, str]] | bytes,
    *headers: tuple[str, str],
    path: str = "/token",
    now: float = NOW,
) -> Response:
    body = form if isinstance(form, bytes) else urlencode(form, doseq=True).encode()
    incoming = Incoming("POST", path, (FORM_TYPE, *headers), body)
    return server.handle(incoming, now=now, random_id="r" * 24).response


def get(server: Authority, path: str, method: str = "GET") -> Response:
    return server.handle(Incoming(method, path), now=NOW, random_id="r").response


def members(response: Response) -> dict[str, object]:
    parsed = json.loads(response.body)
    assert isinstance(parsed, dict)
    return parsed


def refused(response: Response) -> tuple[int, object]:
    """Return status and error code, having checked what all refusals have in common."""
    assert response.header("cache-control") == "no-store"
    assert response.header("pragma") == "no-cache"
    assert response.header("content-type") == "application/json"
    challenge = response.header("www-authenticate")
    assert (challenge or "").startswith("Basic ") == (response.status == 401)
    assert "access_token" not in members(response)
    return response.status, members(response)["error"]


def token_of(response: Response, server: Authority, *, now: float = NOW) -> VerifiedToken:
    """Verify the issued token as an API would, from the published JWKS."""
    assert response.status == 200, response.body
    keys = parse_jwks(get(server, "/jwks").body)
    policy = AccessTokenPolicy(issuer=server.config.issuer, audience=(API, OTHER_API, "urn:x:y", "plain"), leeway=0)
    return verify_access_token(str(members(response)["access_token"]), keys, policy, now=now)


GRANT: dict[str, object] = {"grant_type": "client_credentials"}


class TestTokens:
    def test_success(self) -> None:
        server = authority()
        response = post(server, {**GRANT, "scope": "orders:read", "unknown": "ignored"}, basic())
        assert (response.header("cache-control"), response.header("pragma")) == ("no-store", "no-cache")
        assert response.header("content-type") == "application/json"
        answer = members(response)
        assert set(answer) == {"access_token", "token_type", "expires_in", "scope"}
        assert (answer["token_type"], answer["expires_in"], answer["scope"]) == ("Bearer", 3600, "orders:read")
        token = token_of(response, server)
        assert (token.client_id, token.subject, token.audience) == ("api-client", "client:api-client", (API,))
        assert (token.issued_at, token.expires_at, token.scope) == (NOW, NOW + 3600, ("orders:read",))

    def test_post_authentication(self) -> None:
        server = authority()
        credentials = {"client_id": "api-client", "client_secret": "dev-secret"}
        assert token_of(post(server, {**GRANT, **credentials}), server).scope == ("orders:read", "orders:write")

    def test_any_characters_in_id_and_secret(self) -> None:
        server = authority()
        for response in (
            post(server, GRANT, basic(ODD_ID, ODD_SECRET)),
            post(server, {**GRANT, "client_id": ODD_ID, "client_secret": ODD_SECRET}),
        ):
            assert token_of(response, server).client_id == ODD_ID
            assert "scope" not in members(response)

    def test_plus_is_a_space(self) -> None:
        server = authority()
        encoded = urlencode({ODD_ID: ODD_SECRET}).replace("=", ":").encode()
        assert b"+" in encoded
        assert post(server, GRANT, raw_basic(encoded)).status == 200

    def test_server_that_does_not_decode(self) -> None:
        client = DevClient(client_id="a%20b", client_secret=Secret("x+y:z"))
        server = authority(DevConfig(issuer=ISSUER, clients=(client,), basic_encoding="raw"))
        assert post(server, GRANT, raw_basic(b"a%20b:x+y:z")).status == 200
        assert refused(post(server, GRANT, basic("a%20b", "x+y:z"))) == (401, "invalid_client")

    def test_lifetimes(self) -> None:
        server = authority()
        assert members(post(server, GRANT, basic(ODD_ID, ODD_SECRET)))["expires_in"] == 5
        server.token_lifetime = 7
        assert members(post(server, GRANT, basic(ODD_ID, ODD_SECRET)))["expires_in"] == 7

    def test_resources(self) -> None:
        server = authority()
        several = [("grant_type", "client_credentials"), ("resource", OTHER_API), ("resource", "urn:x:y")]
        assert token_of(post(server, several, basic()), server).audience == (OTHER_API, "urn:x:y")
        assert token_of(post(server, {**GRANT, "audience": "plain"}, basic()), server).audience == ("plain",)

    def test_switches(self) -> None:
        server = authority()
        server.omit_expires_in = server.omit_scope = True
        assert set(members(post(server, GRANT, basic()))) == {"access_token", "token_type"}

    def test_same_token(self) -> None:
        server = authority()
        server.same_token = True
        first = members(post(server, GRANT, basic()))
        second = members(post(server, GRANT, basic(), now=NOW + 100))
        assert second["access_token"] == first["access_token"]
        assert (first["expires_in"], second["expires_in"]) == (3600, 3500)
        other = members(post(server, {**GRANT, "scope": "orders:read"}, basic(), now=NOW + 100))
        late = members(post(server, GRANT, basic(), now=NOW + 3600))
        server.rotate(new_signing_key())
        rotated = members(post(server, GRANT, basic(), now=NOW + 3600))
        assert len({str(answer["access_token"]) for answer in (first, other, late, rotated)}) == 4

    def test_each_token_is_new(self) -> None:
        server = authority()
        assert (
            members(post(server, GRANT, basic()))["access_token"]
            != members(post(server, GRANT, basic()))["access_token"]
        )


class TestRefusals:
    @pytest.mark.parametrize(
        "header",
        [
            basic(secret="wrong"),
            basic(secret="dev-secret "),
            basic(secret="ö🔑"),
            basic("nobody"),
            basic("API-CLIENT"),
            basic(secret=""),
            basic(client_id=""),
            raw_basic(b"no colon"),
            raw_basic(b""),
            raw_basic(b"api-client:%zz"),
            raw_basic(b"api-client:%4"),
            raw_basic(b"%:dev-secret"),
            raw_basic(b"api-client:\xff\xfe"),
            raw_basic(b"api-client:%ff"),
            raw_basic(b"\xc3\x28:x"),
            raw_basic(b"a" * 1_000_000 + b":x"),
            ("authorization", "Basic"),
            ("authorization", "Basic !!!"),
            ("authorization", "Basic YXBp=LWNs"),
            ("authorization", "Basic é"),
            ("authorization", "Bearer abc"),
            ("authorization", ""),
            ("authorization", "Negotiate"),
        ],
        ids=lambda header: header[1][:40],
    )
    def test_bad_basic_credentials(self, header: tuple[str, str]) -> None:
        assert refused(post(authority(), GRANT, header)) == (401, "invalid_client")

    @pytest.mark.parametrize(
        "form",
        [
            {},
            {"client_id": "api-client"},
            {"client_secret": "dev-secret"},
            {"client_id": "api-client", "client_secret": ""},
            {"client_id": "api-client", "client_secret": "wrong"},
            {"client_id": "nobody", "client_secret": ""},
            {"client_id": "basic-only", "client_secret": "s"},
        ],
    )
    def test_bad_credentials_in_the_body(self, form: dict[str, object]) -> None:
        assert refused(post(authority(), {**GRANT, **form})) == (401, "invalid_client")

    def test_method_that_is_not_for_this_client(self) -> None:
        assert refused(post(authority(), GRANT, basic("post-only", "s"))) == (401, "invalid_client")

    def test_two_methods_at_once(self) -> None:
        both = {**GRANT, "client_id": "api-client", "client_secret": "dev-secret"}
        assert refused(post(authority(), both, basic())) == (400, "invalid_request")
        assert refused(post(authority(), GRANT, basic(), basic())) == (400, "invalid_request")
        assert refused(post(authority(), {**GRANT, "client_id": "other"}, basic())) == (400, "invalid_request")
        assert post(authority(), {**GRANT, "client_id": "api-client"}, basic()).status == 200

    @pytest.mark.parametrize(
        "body",
        [
            b"grant_type=client_credentials&grant_type=client_credentials",
            b"grant_type=client_credentials&scope=orders:read&scope=orders:write",
            b"grant_type=client_credentials&scope=&scope=",
            b"grant_type=client_credentials&%67rant_type=x",
            b"grant_type=client_credentials&x=%zz",
            b"grant_type=client_credentials&x=%ff",
            b"grant_type=client_credentials&\xff=1",
            b"&".join(b"p%d=1" % index for index in range(200)),
            b"",
            b"grant_type=",
            b"=client_credentials",
            b"\0\0\0",
            b'{"grant_type":"client_credentials"}',
        ],
    )
    def test_bad_body(self, body: bytes) -> None:
        assert refused(post(authority(), body, basic())) == (400, "invalid_request")

    def test_huge_body(self) -> None:
        assert refused(post(authority(), b"a" * (MAX_BODY_BYTES + 1), basic())) == (413, "invalid_request")

    @pytest.mark.parametrize("kind", ["application/json", "", "multipart/form-data", "text/plain"])
    def test_media_type(self, kind: str) -> None:
        incoming = Incoming("POST", "/token", (("content-type", kind), basic()), b"grant_type=client_credentials")
        response = authority().handle(incoming, now=NOW, random_id="r").response
        assert refused(response) == (400, "invalid_request")

    def test_empty_is_omitted(self) -> None:
        server = authority()
        response = post(server, b"grant_type=client_credentials&scope=&resource=&audience=&client_id=", basic())
        assert token_of(response, server).scope == ("orders:read", "orders:write")

    @pytest.mark.parametrize(
        "grant", ["authorization_code", "refresh_token", "password", "x", "Client_Credentials", "é"]
    )
    def test_grant(self, grant: str) -> None:
        assert refused(post(authority(), {"grant_type": grant}, basic())) == (400, "unsupported_grant_type")

    @pytest.mark.parametrize(
        "scope",
        ["admin", "orders:read admin", 'orders:read "', "orders:read\\", "é", " ", "orders:read  orders:write", "a\tb"],
    )
    def test_scope(self, scope: str) -> None:
        assert refused(post(authority(), {**GRANT, "scope": scope}, basic())) == (400, "invalid_scope")

    @pytest.mark.parametrize(
        "target",
        [
            {"resource": "https://unknown.example"},
            {"resource": [OTHER_API, "https://unknown.example"]},
            {"resource": API + "#fragment"},
            {"resource": OTHER_API + "/"},
            {"resource": "relative"},
            {"resource": "/path"},
            {"resource": "http://[broken"},
            {"resource": "é://x"},
            {"resource": "plain"},
            {"audience": "unknown"},
        ],
    )
    def test_target(self, target: dict[str, object]) -> None:
        assert refused(post(authority(), {**GRANT, **target}, basic())) == (400, "invalid_target")

    def test_resource_of_another_client(self) -> None:
        form = {**GRANT, "resource": OTHER_API}
        assert refused(post(authority(), form, basic("basic-only", "s"))) == (400, "invalid_target")


class TestDocuments:
    @pytest.mark.parametrize("path", ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"])
    def test_metadata(self, path: str) -> None:
        response = get(authority(), path)
        document = members(response)
        assert response.header("content-type") == "application/json"
        assert document["issuer"] == ISSUER
        assert document["token_endpoint"] == f"{ISSUER}/token"
        assert document["jwks_uri"] == f"{ISSUER}/jwks"
        assert document["grant_types_supported"] == ["client_credentials"]
        assert document["token_endpoint_auth_methods_supported"] == ["client_secret_basic", "client_secret_post"]

    def test_issuer_with_a_path(self) -> None:
        server = authority(DevConfig(issuer=f"{ISSUER}/tenant", issuer_path="/tenant"))
        for path in ("/.well-known/oauth-authorization-server/tenant", "/tenant/.well-known/openid-configuration"):
            assert members(get(server, path))["token_endpoint"] == f"{ISSUER}/tenant/token"
        assert get(server, "/.well-known/oauth-authorization-server").status == 404
        assert post(server, GRANT, basic(), path="/tenant/token").status == 200
        assert post(server, GRANT, basic()).status == 404

    def test_rotation(self) -> None:
        server = authority()
        old = post(server, GRANT, basic())
        server.rotate(new_signing_key())
        new = post(server, GRANT, basic())
        assert token_of(old, server).client_id == token_of(new, server).client_id
        server.rotate(new_signing_key(), forget_old=True)
        assert len(parse_jwks(get(server, "/jwks").body).keys) == 1

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/token", 405),
            ("PUT", "/token", 405),
            ("POST", "/jwks", 405),
            ("DELETE", "/x", 404),
            ("HEAD", "/jwks", 200),
            ("GET", "/token/", 404),
            ("GET", "//token", 404),
            ("BREW", "/revoke", 405),
        ],
    )
    def test_methods_and_paths(self, method: str, path: str, status: int) -> None:
        response = get(authority(), path, method)
        assert response.status == status
        assert (response.header("allow") is not None) == (status == 405)


class TestRevocationAndIntrospection:
    def issue(self, server: Authority) -> str:
        return str(members(post(server, GRANT, basic()))["access_token"])

    def active(self, server: Authority, token: str, *, now: float = NOW) -> bool:
        answer = members(post(server, {"token": token}, basic(), path="/introspect", now=now))
        assert answer["active"] is True or answer == {"active": False}
        return bool(answer["active"])

    def test_introspection(self) -> None:
        server = authority()
        token = self.issue(server)
        answer = members(post(server, {"token": token}, basic("basic-only", "s"), path="/introspect"))
        assert (answer["active"], answer["client_id"], answer["aud"]) == (True, "api-client", API)
        assert not self.active(server, token, now=NOW + 3600)
        for other in ("nonsense", token + "x", token[:-8] + "AAAAAAAA", "é"):
            assert not self.active(server, other)

    def test_revocation(self) -> None:
        server = authority()
        token, other = self.issue(server), self.issue(server)
        assert post(server, {"token": token}, basic(), path="/revoke").status == 200
        assert not self.active(server, token)
        assert self.active(server, other)
        assert post(server, {"token": "unknown"}, basic(), path="/revoke").status == 200

    def test_revocation_is_for_the_owner(self) -> None:
        server = authority()
        token = self.issue(server)
        response = post(server, {"token": token}, basic("basic-only", "s"), path="/revoke")
        assert refused(response) == (400, "unauthorized_client")
        assert self.active(server, token)

    def test_revocation_of_a_client(self) -> None:
        server = authority()
        token = self.issue(server)
        server.revoke_client("api-client")
        assert not self.active(server, token)
        assert self.active(server, self.issue(server))

    @pytest.mark.parametrize("path", ["/revoke", "/introspect"])
    def test_refusals(self, path: str) -> None:
        assert refused(post(authority(), {}, basic(), path=path)) == (400, "invalid_request")
        assert refused(post(authority(), {"token": "x"}, path=path)) == (401, "invalid_client")
        assert refused(post(authority(), b"token=a&token=b", basic(), path=path)) == (400, "invalid_request")


class TestConfiguration:
    def test_round_trip(self) -> None:
        assert config_from_mapping(json.loads(json.dumps(config_to_mapping(CONFIG)))) == CONFIG

    @pytest.mark.parametrize(
        "wrong",
        [
            {"unknown": 1},
            {"clients": {}},
            {"clients": ["x"]},
            {"clients": [{"client_id": "a"}]},
            {"clients": [{"client_id": "a", "client_secret": 5}]},
            {"clients": [{"client_id": "a", "client_secret": "b", "unknown": 1}]},
            {"clients": [{"client_id": "", "client_secret": "b"}]},
            {"clients": [{"client_id": "a", "client_secret": "b\n"}]},
            {"clients": [{"client_id": "a", "client_secret": "b", "scopes": ["a b"]}]},
            {"clients": [{"client_id": "a", "client_secret": "b", "auth_methods": ["none"]}]},
            {"clients": [{"client_id": "a", "client_secret": "b", "auth_methods": []}]},
            {"clients": [{"client_id": "a", "client_secret": "b", "token_lifetime": 0}]},
            {"clients": [{"client_id": "a", "client_secret": "b"}, {"client_id": "a", "client_secret": "c"}]},
            {"token_lifetime": "60"},
            {"token_lifetime": True},
            {"default_audience": ""},
            {"issuer_path": "tenant"},
            {"issuer_path": "/tenant/"},
            {"basic_encoding": "base64"},
            {"basic_encoding": []},
            {"default_audience": 5},
            {"issuer": 5},
            {"issuer_path": ["/tenant"]},
            {"token_format": []},
            {"clients": [{"client_id": "a", "client_secret": "b", "scopes": "orders:read"}]},
            {"clients": [{"client_id": "a", "client_secret": "b", "scopes": [5]}]},
            {"clients": [{"client_id": "a", "client_secret": "b", "audiences": "https://api.example"}]},
            {"clients": [{"client_id": "a", "client_secret": "b", "audiences": [5]}]},
            {"clients": [{"client_id": "a", "client_secret": "b", "auth_methods": "client_secret_basic"}]},
            {"clients": [{"client_id": "a", "client_secret": "b", "jwks": 5}]},
            {"clients": [{"client_id": "a", "client_secret": "b", "jwks": {"keys": []}}]},
        ],
    )
    def test_wrong(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ConfigurationError) as caught:
            config_from_mapping(wrong)
        assert caught.value.key
        assert caught.value.advice

    @pytest.mark.parametrize("name", ["scopes", "audiences"])
    def test_a_text_is_no_list_of_its_letters(self, name: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            DevClient(client_id="a", client_secret=Secret("b"), **{name: "orders"})  # type: ignore[arg-type]
        assert caught.value.key == f"clients.{name}"

    def test_secrets_are_not_shown(self) -> None:
        assert "dev-secret" not in repr(CONFIG)

    @pytest.mark.parametrize(
        "place",
        [
            Place(host="0.0.0.0"),
            Place(host="192.0.2.1"),
            Place(host="example.com"),
            Place(host="::"),
            Place(environment={"PROD": "1"}),
            Place(environment={"PROD": "true"}),
            Place(environment={"ENVIRONMENT": "Production"}),
            Place(environment={"APP_ENV": "prod"}),
        ],
    )
    def test_places_that_are_refused(self, place: Place) -> None:
        with pytest.raises(ConfigurationError, match="--i-know-this-is-for-tests"):
            place.check()
        Place(host=place.host, environment=place.environment, for_tests=True).check()

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
    def test_places_that_are_fine(self, host: str) -> None:
        Place(host=host, environment={"PROD": "0", "ENVIRONMENT": "development"}).check()
        assert Place(host=host).port == 0

    def test_certificate_without_key(self) -> None:
        with pytest.raises(ConfigurationError):
            Place(certfile="c.pem").check()


def test_log_is_bounded_but_counts_on() -> None:
    log = RequestLog()
    for index in range(MAX_ENTRIES + 5):
        log.add(LogEntry(float(index), "as", "POST", "/token", client_id="a"))
    log.add(LogEntry(0.0, "api", "GET", "/hello"))
    assert len(log.entries()) == MAX_ENTRIES
    assert log.count("/token") == MAX_ENTRIES + 5
    assert log.count("/token", client_id="a") == MAX_ENTRIES - 1
    assert log.count(server="api") == 1
    log.clear()
    assert (log.count(), log.entries()) == (0, [])


HEADERS = st.lists(
    st.tuples(st.sampled_from(["authorization", "content-type", "x"]), st.text(max_size=60) | st.just(FORM_TYPE[1]))
    | st.binary(max_size=60).map(raw_basic)
    | st.just(basic())
    | st.just(FORM_TYPE),
    max_size=4,
)
FIELDS = st.lists(
    st.tuples(
        st.sampled_from(["grant_type", "scope", "resource", "audience", "client_id", "client_secret", "token", "x"]),
        st.text(max_size=30) | st.sampled_from(["client_credentials", "api-client", "dev-secret", "orders:read", API]),
    ),
    max_size=6,
)
BODIES = st.binary(max_size=200) | FIELDS.map(lambda fields: urlencode(fields, errors="replace").encode())
PATHS = st.sampled_from(["/token", "/revoke", "/introspect", "/jwks"]) | st.text(max_size=30)


@given(st.sampled_from(["POST", "GET", "HEAD", "PUT"]), PATHS, HEADERS, BODIES, st.floats(min_value=0, max_value=2e9))
@example("POST", "/token", [FORM_TYPE, basic()], b"grant_type=client_credentials", NOW)
@example("POST", "/token", [FORM_TYPE], "client_id=\udcff".encode("utf-8", "surrogatepass"), NOW)
def test_any_request_is_answered(
    method: str, path: str, headers: list[tuple[str, str]], body: bytes, now: float
) -> None:
    """Never an exception, always a well-formed response that says whose fault it is."""
    server = authority()
    incoming = Incoming(method, path, tuple(headers), body)
    outcome = server.handle(incoming, now=now, random_id="r" * 24)
    response = outcome.response
    assert response.status in {200, 400, 401, 404, 405}
    assert response.header("content-length") == str(len(response.body))
    if response.body:
        parsed = members(response)
        assert ("error" in parsed) == (response.status != 200)
    assert all(name == name.lower() and "\n" not in value for name, value in response.headers)
    assert claimed_client_id(incoming, CONFIG) in {None, *(client.client_id for client in CONFIG.clients)}
    assert (outcome.token_id is not None) == (b'"access_token"' in response.body)
