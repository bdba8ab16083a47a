"""Protected resource metadata (RFC 9728): what an API publishes, and what a client believes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit.core.messages import Response
from accredit.core.protected_resource import (
    ProtectedResource,
    ResourceMetadata,
    parse_resource_metadata,
    resource_metadata_url,
)
from accredit.core.strict import StrictError
from accredit.errors import ConfigurationError, DiscoveryError

API = "https://api.example/orders"
URL = "https://api.example/.well-known/oauth-protected-resource/orders"
JSON = (("content-type", "application/json"),)


def answer(members: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = JSON) -> Response:
    return Response(status, headers, json.dumps(members).encode())


def read(response: Response, **settings: Any) -> ProtectedResource:
    return parse_resource_metadata(response, **{"url": URL, "resource": API, **settings})


@pytest.mark.parametrize(
    ("resource", "url"),
    [
        ("https://api.example", "https://api.example/.well-known/oauth-protected-resource"),
        ("https://api.example/", "https://api.example/.well-known/oauth-protected-resource"),
        ("https://api.example/a/b", "https://api.example/.well-known/oauth-protected-resource/a/b"),
        ("https://api.example/a?k=v", "https://api.example/.well-known/oauth-protected-resource/a?k=v"),
        ("http://127.0.0.1:8000/a", "http://127.0.0.1:8000/.well-known/oauth-protected-resource/a"),
    ],
)
def test_where_the_document_is(resource: str, url: str) -> None:
    """The examples of RFC 9728, section 3.1, and more."""
    assert resource_metadata_url(resource) == url


@pytest.mark.parametrize("resource", ["", "api", "ftp://api.example", "https://api.example/#x", "https://a b"])
def test_a_resource_that_has_no_document(resource: str) -> None:
    with pytest.raises(StrictError):
        resource_metadata_url(resource)


class TestPublishing:
    def test_the_whole_document(self) -> None:
        metadata = ResourceMetadata(
            resource=API,
            authorization_servers=("https://idp.example", "https://idp.example/tenant"),
            scopes_supported=("orders:read", "orders:write"),
            resource_name="Orders",
            resource_documentation="https://api.example/docs",
            resource_policy_uri="https://api.example/policy",
            resource_tos_uri="https://api.example/terms",
        )
        assert json.loads(metadata.document) == {
            "resource": API,
            "authorization_servers": ["https://idp.example", "https://idp.example/tenant"],
            "scopes_supported": ["orders:read", "orders:write"],
            "bearer_methods_supported": ["header"],
            "resource_name": "Orders",
            "resource_documentation": "https://api.example/docs",
            "resource_policy_uri": "https://api.example/policy",
            "resource_tos_uri": "https://api.example/terms",
        }
        assert metadata.url == URL
        assert metadata.path == "/.well-known/oauth-protected-resource/orders"
        assert dict(metadata.headers)["content-length"] == str(len(metadata.document))
        assert dict(metadata.headers)["content-type"] == "application/json"

    def test_the_smallest_document(self) -> None:
        document = json.loads(ResourceMetadata(resource=API).document)
        assert document == {"resource": API, "bearer_methods_supported": ["header"]}

    @pytest.mark.parametrize(
        ("members", "key"),
        [
            ({"resource": "orders"}, "resource"),
            ({"resource": API + "#x"}, "resource"),
            ({"authorization_servers": "https://idp.example"}, "authorization_servers"),
            ({"authorization_servers": ("idp",)}, "authorization_servers"),
            ({"scopes_supported": ["a"]}, "scopes_supported"),
            ({"scopes_supported": ("a b",)}, "scopes_supported"),
            ({"resource_documentation": "docs"}, "resource_documentation"),
            ({"resource_policy_uri": "javascript:alert(1)"}, "resource_policy_uri"),
            ({"resource_tos_uri": ""}, "resource_tos_uri"),
        ],
    )
    def test_what_cannot_be_published(self, members: dict[str, Any], key: str) -> None:
        with pytest.raises(ConfigurationError) as error:
            ResourceMetadata(**{"resource": API, **members})
        assert error.value.key == key

    @given(st.sampled_from([API, "https://api.example", "http://localhost:1/x"]), st.lists(st.sampled_from("abc")))
    def test_there_and_back(self, resource: str, scopes: list[str]) -> None:
        metadata = ResourceMetadata(
            resource=resource, authorization_servers=("https://idp.example",), scopes_supported=tuple(scopes)
        )
        response = Response(200, metadata.headers, metadata.document)
        found = read(response, url=metadata.url, resource=resource)
        assert found == (resource, ("https://idp.example",), tuple(scopes))


class TestBelieving:
    def test_what_it_says(self) -> None:
        found = read(answer({"resource": API, "authorization_servers": ["https://idp.example"], "other": {"x": 1}}))
        assert found == ProtectedResource(API, ("https://idp.example",), ())
        assert read(answer({"resource": API, "scopes_supported": None})).scopes_supported == ()

    @pytest.mark.parametrize(
        "resource",
        [None, 7, "", API + "/", "https://api.example", "https://evil.example/orders", API.upper(), [API]],
    )
    def test_a_document_of_another_resource(self, resource: Any) -> None:
        with pytest.raises(DiscoveryError, match="another resource") as error:
            read(answer({"resource": resource, "authorization_servers": ["https://evil.example"]}))
        assert "evil" not in str(error.value)

    @pytest.mark.parametrize(
        ("response", "says"),
        [
            (answer({"resource": API}, status=404), "HTTP 404"),
            (answer({"resource": API}, status=302), "HTTP 302"),
            (answer({"resource": API}, headers=(("content-type", "text/html"),)), "Content-Type"),
            (answer([API]), "an array"),
            (Response(200, JSON, b'{"resource":"a","resource":"b"}'), "twice"),
            (answer({"resource": API, "authorization_servers": API}), "authorization_servers"),
            (answer({"resource": API, "authorization_servers": [7]}), "authorization_servers"),
            (answer({"resource": API, "authorization_servers": ["x"] * 101}), "authorization_servers"),
            (answer({"resource": API, "authorization_servers": ["file:///etc/passwd"]}), "authorization_servers"),
            (answer({"resource": API, "authorization_servers": ["http://idp.example"]}), "plain http"),
            (answer({"resource": API, "scopes_supported": ["a b"]}), "scope"),
            (answer({"resource": API, "scopes_supported": {"a": 1}}), "scopes_supported"),
        ],
    )
    def test_what_is_no_document(self, response: Response, says: str) -> None:
        with pytest.raises(DiscoveryError, match=says) as error:
            read(response)
        assert error.value.endpoint == URL

    def test_plain_http_where_it_is_permitted(self) -> None:
        response = answer({"resource": API, "authorization_servers": ["http://idp.example"]})
        assert read(response, allow_insecure_http=True).authorization_servers == ("http://idp.example",)

    def test_no_named_server_is_trusted_because_of_that(self) -> None:
        found = ProtectedResource(API, ("https://evil.example", "https://idp.example"))
        assert found.issuer_among({"https://idp.example"}) == "https://idp.example"
        assert found.issuer_among("https://idp.example") == "https://idp.example"
        for trusted in ([], ["https://idp.example/"], ["https://IDP.example"], "https://idp.example.org"):
            with pytest.raises(DiscoveryError, match="no authorization server") as error:
                found.issuer_among(trusted)
            assert "evil" not in str(error.value)
