"""Protected resource metadata (RFC 9728): the document an API publishes about itself, and whether to believe one."""

from __future__ import annotations

import json
from collections.abc import Collection
from http import HTTPStatus
from typing import Final, NamedTuple, NoReturn

from accredit.core.messages import Response
from accredit.core.strict import (
    StrictError,
    check_scope_token,
    is_json_media_type,
    parse_json_object,
    parse_url,
)
from accredit.core.value import Value, frozen
from accredit.errors import ConfigurationError, DiscoveryError

__all__ = ["ProtectedResource", "ResourceMetadata", "parse_resource_metadata", "resource_metadata_url"]

_WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
_MAX_BYTES: Final = 256 * 1024
_MAX_NAMES: Final = 100


def resource_metadata_url(resource: str) -> str:
    """Return where the metadata of a resource is: the well-known part between host and path (RFC 9728, section 3.1).

    Raises:
        StrictError: the resource identifier is no URL that this library contacts, or has a fragment.

    """
    url = parse_url(resource, allow_insecure_http=True, purpose="resource")
    path = url.path if url.path != "/" else ""
    return f"{url.origin}{_WELL_KNOWN}{path}" + (f"?{url.query}" if url.query else "")


@frozen(kw_only=True)
class ResourceMetadata(Value):
    """The metadata that an API publishes about itself (RFC 9728, section 2).

    Attributes:
        resource: its resource identifier: an absolute URL without fragment, the very one its tokens have in ``aud``.
        authorization_servers: the issuers whose tokens it accepts.
        scopes_supported: scopes that it knows, or those of them that it wants to show.
        resource_name: its name for people.
        resource_documentation: the URL of its documentation for developers.
        resource_policy_uri: the URL of what it says on the use of its data.
        resource_tos_uri: the URL of its terms of service.

    """

    resource: str
    authorization_servers: tuple[str, ...] = ()
    scopes_supported: tuple[str, ...] = ()
    resource_name: str | None = None
    resource_documentation: str | None = None
    resource_policy_uri: str | None = None
    resource_tos_uri: str | None = None

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigurationError: naming the field at fault.

        """
        for key in ("authorization_servers", "scopes_supported"):
            if not isinstance(getattr(self, key), tuple):
                raise ConfigurationError("it is not a tuple.", advice="Write ('...',).", key=key)
        urls = [("resource", self.resource)]
        urls += [("authorization_servers", issuer) for issuer in self.authorization_servers]
        for key in ("resource_documentation", "resource_policy_uri", "resource_tos_uri"):
            if (url := getattr(self, key)) is not None:
                urls.append((key, url))
        fault = ("", "")
        try:
            for key, text in urls:
                fault = (key, "")
                parse_url(text, allow_insecure_http=True, purpose=key)
            for scope in self.scopes_supported:
                fault = ("scopes_supported", "")
                check_scope_token(scope)
            fault = ("", "")
        except StrictError as error:
            fault = (fault[0], str(error))
        if fault[0]:
            raise ConfigurationError(f"{fault[1]}.", advice="See RFC 9728, section 2.", key=fault[0])

    @property
    def url(self) -> str:
        """Where the document is published."""
        return resource_metadata_url(self.resource)

    @property
    def path(self) -> str:
        """The path of :attr:`url`, for the routes of the API."""
        return parse_url(self.url, allow_insecure_http=True).path

    @property
    def document(self) -> bytes:
        """The JSON document. Tokens are taken from the header only, and it says so (``bearer_methods_supported``)."""
        members: dict[str, object] = {"resource": self.resource}
        if self.authorization_servers:
            members["authorization_servers"] = list(self.authorization_servers)
        if self.scopes_supported:
            members["scopes_supported"] = list(self.scopes_supported)
        members["bearer_methods_supported"] = ["header"]
        for key in ("resource_name", "resource_documentation", "resource_policy_uri", "resource_tos_uri"):
            if (value := getattr(self, key)) is not None:
                members[key] = value
        return json.dumps(members).encode()

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The fields of the answer that carries the document."""
        return (
            ("content-type", "application/json"),
            ("content-length", str(len(self.document))),
            ("cache-control", "public, max-age=3600"),
            # It holds nothing secret, and clients in browsers look for it (RFC 9728, section 3).
            ("access-control-allow-origin", "*"),
        )


class ProtectedResource(NamedTuple):
    """What the metadata document of a resource says, as far as a client may care.

    Attributes:
        resource: the resource identifier, to the byte that was asked for.
        authorization_servers: issuers that it names. **None of them is trusted because of that**; see
            :meth:`issuer_among`.
        scopes_supported: scopes that it names.

    """

    resource: str
    authorization_servers: tuple[str, ...] = ()
    scopes_supported: tuple[str, ...] = ()

    def issuer_among(self, trusted: Collection[str]) -> str:
        """Return the first named issuer that the caller trusts already, compared to the byte.

        A resource can only choose among the authorization servers that a client was configured with: else any API that
        is called could have the client's credential sent wherever it likes (RFC 9728, section 7.2).

        Raises:
            DiscoveryError: it names none of them.

        """
        # One text is one issuer: no part of it is trusted.
        issuers = (trusted,) if isinstance(trusted, str) else trusted
        for issuer in self.authorization_servers:
            if issuer in issuers:
                return issuer
        raise DiscoveryError(
            "The protected resource names no authorization server that this client is configured to trust.",
            advice="If you trust one of those it names, register the client there and configure that issuer.",
            endpoint=self.resource,
        )


def parse_resource_metadata(
    response: Response, *, url: str, resource: str, allow_insecure_http: bool = False
) -> ProtectedResource:
    """Return what a metadata document says, once it was found to be the document of that resource.

    Args:
        response: the answer to the request for the document. Redirects are not followed.
        url: the URL that was asked.
        resource: the resource identifier whose document was asked for; when the URL came out of a challenge, the URL
            that was called. The document must name it to the byte (RFC 9728, section 3.3).
        allow_insecure_http: whether it may name issuers with plain http on hosts other than loopback.

    Raises:
        DiscoveryError: it is no metadata document, or one of another resource.

    """
    endpoint = url.partition("?")[0]

    def refuse(problem: str, advice: str = "") -> NoReturn:
        text = f"The protected resource metadata at {endpoint} {problem}."
        raise DiscoveryError(text, advice=advice, endpoint=endpoint, status=response.status)

    if response.status != HTTPStatus.OK:
        refuse(f"could not be had (HTTP {response.status})", "Configure the issuer and the audience instead.")
    if not is_json_media_type(response.header("content-type")):
        refuse("is not said to be JSON by its Content-Type")
    fault = ""
    members: dict[str, object] = {}
    servers: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    try:
        members = parse_json_object(response.body, max_bytes=_MAX_BYTES)
        servers = _names(members, "authorization_servers")
        for issuer in servers:
            parse_url(issuer, allow_insecure_http=allow_insecure_http, purpose="authorization_servers")
        scopes = _names(members, "scopes_supported")
        for scope in scopes:
            check_scope_token(scope)
    except StrictError as error:
        fault = str(error)
    if fault:
        refuse(f"cannot be used: {fault}")
    found = members.get("resource")
    if not isinstance(found, str) or found != resource:
        refuse(
            "is of another resource than the one that was asked for",
            "Nothing in it is used: an API must not speak for another (RFC 9728, section 3.3).",
        )
    return ProtectedResource(found, servers, scopes)


def _names(members: dict[str, object], member: str) -> tuple[str, ...]:
    value = members.get(member)
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > _MAX_NAMES or not all(isinstance(name, str) for name in value):
        raise StrictError(f"{member}: not a short list of strings")
    return tuple(value)
