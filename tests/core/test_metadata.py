"""Authorization server metadata: where it is, and when it is believed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit.core.messages import Response
from accredit.core.metadata import ServerMetadata, metadata_urls, parse_metadata
from accredit.core.strict import StrictError
from accredit.errors import DiscoveryError

ISSUER = "https://as.example"
URL = "https://as.example/.well-known/oauth-authorization-server"
JSON = (("content-type", "application/json"),)


def document(**members: object) -> dict[str, object]:
    return {"issuer": ISSUER, "token_endpoint": f"{ISSUER}/token", **members}


def parse(
    body: object, *, issuer: str | None = ISSUER, url: str = URL, status: int = 200, headers: Any = JSON, **rest: Any
) -> ServerMetadata:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_metadata(Response(status, headers, data), url=url, issuer=issuer, **rest)


def refusal(body: object, **rest: Any) -> DiscoveryError:
    with pytest.raises(DiscoveryError) as caught:
        parse(body, **rest)
    error = caught.value
    assert error.__context__ is None
    assert error.__cause__ is None
    assert error.endpoint == rest.get("url", URL).partition("?")[0]
    assert error.status == rest.get("status", 200)
    assert str(error).isascii()
    assert str(error).isprintable()
    assert error == error.fresh()
    return error


class TestUrls:
    @pytest.mark.parametrize(
        ("issuer", "rfc8414", "openid"),
        [
            ("https://as.example", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"),
            ("https://as.example/", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"),
            (
                "https://as.example/t1",
                "/.well-known/oauth-authorization-server/t1",
                "/t1/.well-known/openid-configuration",
            ),
            (
                "https://as.example/t1/",
                "/.well-known/oauth-authorization-server/t1",
                "/t1/.well-known/openid-configuration",
            ),
            (
                "https://as.example/realms/a%2Fb",
                "/.well-known/oauth-authorization-server/realms/a%2Fb",
                "/realms/a%2Fb/.well-known/openid-configuration",
            ),
            (
                "https://as.example/t1//",
                "/.well-known/oauth-authorization-server/t1/",
                "/t1//.well-known/openid-configuration",
            ),
        ],
    )
    def test_both(self, issuer: str, rfc8414: str, openid: str) -> None:
        assert metadata_urls(issuer) == (ISSUER + rfc8414, ISSUER + openid)

    def test_port_and_international_name(self) -> None:
        assert metadata_urls("https://bücher.example:8443/x")[0] == (
            "https://xn--bcher-kva.example:8443/.well-known/oauth-authorization-server/x"
        )

    def test_plain_http_is_judged_elsewhere(self) -> None:
        assert metadata_urls("http://as.internal/x")[1] == "http://as.internal/x/.well-known/openid-configuration"

    @pytest.mark.parametrize(
        ("issuer", "fault"),
        [
            ("https://as.example?x=1", "a query, starting at position 18"),
            ("https://as.example/?", "a query, starting at position 19"),
            ("https://as.example/#", "a fragment"),
            ("as.example", "does not start with"),
            ("https://169.254.169.254", "a link-local address"),
        ],
    )
    def test_no_issuer(self, issuer: str, fault: str) -> None:
        with pytest.raises(StrictError, match=f"^issuer: {fault}"):
            metadata_urls(issuer)


class TestAccepted:
    def test_the_least(self) -> None:
        expected = ServerMetadata(ISSUER, f"{ISSUER}/token", None, ("client_secret_basic",))
        assert parse(document()) == expected

    def test_all_that_is_read(self) -> None:
        methods = ["private_key_jwt", "client_secret_post"]
        found = parse(document(jwks_uri=f"{ISSUER}/jwks?v=1", token_endpoint_auth_methods_supported=methods))
        assert found.jwks_uri == f"{ISSUER}/jwks?v=1"
        assert found.token_endpoint_auth_methods_supported == tuple(methods)

    @pytest.mark.parametrize(
        "methods", [{}, {"token_endpoint_auth_methods_supported": None}, {"token_endpoint_auth_methods_supported": []}]
    )
    def test_j11_no_methods_named(self, methods: dict[str, object]) -> None:
        assert parse(document(**methods)).token_endpoint_auth_methods_supported == ("client_secret_basic",)

    def test_j11_named_methods_are_not_amended(self) -> None:
        found = parse(document(token_endpoint_auth_methods_supported=["none"]))
        assert found.token_endpoint_auth_methods_supported == ("none",)

    def test_j13_signed_metadata_and_unknown_members_are_ignored(self) -> None:
        noise = {
            "signed_metadata": "e30.e30.x",
            "scopes_supported": 7,
            "mtls_endpoint_aliases": [],
            "x" * 300: {"y": [None]},
        }
        assert parse(document(**noise)) == parse(document())

    def test_null_counts_as_absent(self) -> None:
        assert parse(document(jwks_uri=None)).jwks_uri is None

    def test_endpoints_may_be_elsewhere(self) -> None:
        found = parse(document(token_endpoint="https://STS.other.example:443/t?x=1", jwks_uri="https://keys.example/"))
        assert found.token_endpoint == "https://sts.other.example/t?x=1"

    @pytest.mark.parametrize("hosts", [{"as.example"}, {"as.example", "other.example"}])
    def test_endpoint_on_an_allowed_host(self, hosts: set[str]) -> None:
        assert parse(document(jwks_uri=f"{ISSUER}:8443/j"), allowed_endpoint_hosts=frozenset(hosts)).jwks_uri

    def test_an_allowed_ipv6_address_with_or_without_brackets(self) -> None:
        found = document(token_endpoint="https://[2001:db8::1]/t")
        for host in ("[2001:db8::1]", "2001:db8::1"):
            assert parse(found, allowed_endpoint_hosts=frozenset({host})).token_endpoint == "https://[2001:db8::1]/t"

    def test_loopback_over_plain_http(self) -> None:
        issuer = "http://127.0.0.1:8080"
        found = document(issuer=issuer, token_endpoint=f"{issuer}/token")
        assert parse(found, issuer=issuer, url=metadata_urls(issuer)[0]).token_endpoint == f"{issuer}/token"

    def test_plain_http_by_permission(self) -> None:
        found = document(token_endpoint="http://as.mesh/token")
        assert parse(found, allow_insecure_http=True).token_endpoint == "http://as.mesh/token"

    @pytest.mark.parametrize("issuer", ["https://elsewhere.example/x", "https://as.example/{tenant}/v2.0"])
    def test_the_url_of_the_document_was_configured(self, issuer: str) -> None:
        assert parse(document(issuer=issuer), issuer=None).issuer == issuer

    def test_byte_order_mark(self) -> None:
        assert parse(b"\xef\xbb\xbf" + json.dumps(document()).encode()) == parse(document())

    @pytest.mark.parametrize("value", ["application/json; charset=utf-8", "Application/JSON", "application/x+json"])
    def test_content_types(self, value: str) -> None:
        assert parse(document(), headers=(("content-type", value),)).issuer == ISSUER

    @pytest.mark.parametrize("headers", [(), (("content-type", "text/plain"),)])
    def test_lenient_content_type(self, headers: object) -> None:
        assert parse(document(), headers=headers, lenient_content_type=True).issuer == ISSUER


class TestIssuer:
    @pytest.mark.parametrize(
        ("configured", "found"),
        [
            ("https://as.example", "https://as.example/"),
            ("https://as.example/", "https://as.example"),
            ("https://as.example/t", "https://as.example/t/"),
        ],
    )
    def test_j01_slash_at_the_end(self, configured: str, found: str) -> None:
        error = refusal(document(issuer=found), issuer=configured)
        assert error.advice == f'They differ in the slash at the end only: configure issuer = "{found}"'

    @pytest.mark.parametrize(
        "found",
        [
            "https://AS.example",
            "https://as.example:443",
            "https://as.example/path",
            "http://as.example",
            "https://as.example.evil.example",
            "https://as.exampl",
            "https://other.example",
            "https://as.example//",
        ],
        ids=["J01-case", "J01-port", "J01-path", "J01-http", "J20-prefix", "J20-shorter", "other", "two-slashes"],
    )
    def test_j01_the_error_says_what_to_configure(self, found: str) -> None:
        assert f'configure exactly issuer = "{found}"' in refusal(document(issuer=found)).advice

    def test_what_to_configure_is_written_so_that_it_can_be_seen(self) -> None:
        advice = refusal(document(issuer="https://\u0430s.example")).advice
        assert 'configure exactly issuer = "https://\\u0430s.example"' in advice

    @pytest.mark.parametrize(
        "found",
        [
            "https://as.example/{tenant}",
            "https://as.example?x",
            "https://as.example#x",
            "not a url",
            "https://as.example/\x1b[2J",
            "https://as.example/\u202e",
            "https://as.example/" + "x" * 3000,
            "https://user:canary@as.example",
        ],
    )
    def test_what_could_not_be_configured_is_not_repeated(self, found: str) -> None:
        error = refusal(document(issuer=found))
        assert error.advice.startswith("What it names is no usable issuer")
        assert found not in str(error)

    @pytest.mark.parametrize("found", [None, "", 1, True, [ISSUER], {}])
    @pytest.mark.parametrize("configured", [ISSUER, None])
    def test_missing_or_of_the_wrong_kind(self, found: object, configured: str | None) -> None:
        assert "has no issuer" in str(refusal(document(issuer=found), issuer=configured))

    def test_absent(self) -> None:
        assert "has no issuer" in str(refusal({"token_endpoint": f"{ISSUER}/token"}, issuer=None))

    @pytest.mark.parametrize("found", ["a b", "x\n", "é", "https://as.example/" + "x" * 2048])
    def test_not_printable_where_none_is_configured(self, found: str) -> None:
        assert "an issuer that is not a URL" in str(refusal(document(issuer=found), issuer=None))


class TestEndpoints:
    @pytest.mark.parametrize(
        ("endpoint", "fault"),
        [
            ("http://as.example/token", "plain http"),
            ("/token", "does not start with"),
            ("https://as.example/token#x", "a fragment"),
            ("https://user:canary@as.example/token", "user information"),
            ("", "0 characters"),
            ("https://169.254.169.254/token", "a link-local address"),
            ("https://as.example\\@evil.example/", "control character, white space or backslash"),
            (["https://as.example/token"], "that is not a string"),
            ({"url": "https://as.example/token"}, "that is not a string"),
            (7, "that is not a string"),
        ],
        ids=[
            "J04-http",
            "J04-relative",
            "J04-fragment",
            "J04-userinfo",
            "empty",
            "link-local",
            "D22",
            "J04-list",
            "object",
            "number",
        ],
    )
    @pytest.mark.parametrize("member", ["token_endpoint", "jwks_uri"])
    def test_j04(self, member: str, endpoint: object, fault: str) -> None:
        error = refusal(document(**{member: endpoint}))
        assert fault in str(error)
        assert member in str(error)
        assert "canary" not in str(error)

    @pytest.mark.parametrize(
        "found", [{"issuer": ISSUER}, document(token_endpoint=None)], ids=["J04-missing", "J04-null"]
    )
    def test_j04_no_token_endpoint(self, found: dict[str, object]) -> None:
        assert "has no token_endpoint" in str(refusal(found))

    @pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]"])
    def test_no_way_out_of_tls_even_to_loopback(self, host: str) -> None:
        error = refusal(document(token_endpoint=f"http://{host}/token"))
        assert "was read over https but has a token_endpoint with plain http" in str(error)

    @pytest.mark.parametrize("hosts", [frozenset({"other.example"}), frozenset({"as.example.evil"}), frozenset()])
    def test_a_host_that_is_not_allowed(self, hosts: frozenset[str]) -> None:
        error = refusal(document(), allowed_endpoint_hosts=hosts)
        assert "a token_endpoint on the host as.example, which is not in allowed_endpoint_hosts" in str(error)

    def test_keys_on_a_host_that_is_not_allowed(self) -> None:
        found = document(jwks_uri="https://keys.example/jwks")
        assert "a jwks_uri on the host keys.example" in str(
            refusal(found, allowed_endpoint_hosts=frozenset({"as.example"}))
        )

    @pytest.mark.parametrize(
        "methods",
        ["client_secret_basic", {"client_secret_basic": 1}, 7, [7], ["client_secret_basic", None], [["none"]]],
    )
    def test_methods_of_the_wrong_kind(self, methods: object) -> None:
        error = refusal(document(token_endpoint_auth_methods_supported=methods))
        assert "a token_endpoint_auth_methods_supported that is not a list of strings" in str(error)


class TestResponse:
    @pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 304])
    def test_j09_redirects(self, status: int) -> None:
        headers = (*JSON, ("location", "https://evil.example/"))
        error = refusal(document(), status=status, headers=headers)
        assert f"is a redirect (HTTP {status}), and redirects are never followed" in str(error)
        assert "evil" not in str(error)

    @pytest.mark.parametrize("status", [201, 204, 206, 400, 401, 404, 500, 503])
    def test_other_statuses(self, status: int) -> None:
        assert f"could not be had (HTTP {status})" in str(refusal(document(), status=status))

    @pytest.mark.parametrize(
        "headers", [(), (("content-type", "text/html"),), (("content-type", "text/plain"),), JSON + JSON]
    )
    def test_j10_content_types(self, headers: object) -> None:
        assert "is not said to be JSON" in str(refusal(document(), headers=headers))

    @pytest.mark.parametrize(
        ("body", "fault"),
        [
            (b" " * (2 * 1024 * 1024), "2097152 bytes, where 262144 are allowed"),
            (json.dumps(document()).encode() + b" " * 256 * 1024, "bytes, where 262144 are allowed"),
            (b"<html>canary</html>", "not JSON at character 0"),
            (b"", "not JSON at character 0"),
            (b'{"issuer":"a","issu\\u0065r":"b"}', "a member name twice"),
            (b'{"x":' * 40 + b"1" + b"}" * 40, "JSON nested deeper than 32"),
            (b'["https://as.example"]', "an array where a JSON object is required"),
            (b"null", "null where a JSON object is required"),
            (b'{"x":"\\ud800"}', "a lone surrogate"),
            ('{"issuer":"x"}'.encode("utf-16"), "not UTF-8"),
        ],
        ids=["J10-2MB", "J10-size", "J10-html", "empty", "J10-dup", "J10-deep", "array", "null", "surrogate", "utf-16"],
    )
    def test_j10_bodies(self, body: bytes, fault: str) -> None:
        error = refusal(body)
        assert fault in str(error)
        assert "canary" not in str(error)

    def test_the_error_has_no_query(self) -> None:
        error = refusal(b"", url="https://as.example/meta?key=canary", issuer=None)
        assert "canary" not in str(error)

    @given(
        st.binary()
        | st.dictionaries(
            st.sampled_from(["issuer", "token_endpoint", "jwks_uri", "token_endpoint_auth_methods_supported"]),
            st.none() | st.text() | st.integers() | st.lists(st.text()) | st.just(ISSUER),
        ).map(lambda members: json.dumps(members).encode()),
        st.sampled_from([ISSUER, None]),
    )
    def test_one_error_only(self, body: bytes, issuer: str | None) -> None:
        try:
            found = parse(body, issuer=issuer)
        except DiscoveryError:
            return
        assert found.token_endpoint.startswith("https://")
        assert issuer in {found.issuer, None}
