"""Authorization server metadata: where it is (RFC 8414, OpenID Connect Discovery 1.0) and whether to believe it."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Final, NamedTuple, NoReturn, Protocol

from accredit.core.messages import Response
from accredit.core.strict import StrictError, Url, is_json_media_type, parse_json_object, parse_url
from accredit.errors import DiscoveryError

__all__ = ["MetadataSource", "ServerMetadata", "metadata_urls", "parse_metadata"]

_MAX_BYTES: Final = 256 * 1024
_MAX_ISSUER: Final = 2048
_NOT_PRINTABLE: Final = re.compile(r"[^\x21-\x7e]")
_DEFAULT_METHODS: Final = ("client_secret_basic",)


class ServerMetadata(NamedTuple):
    """What a metadata document says, as far as it concerns a client of the token endpoint (RFC 8414, section 2).

    Attributes:
        issuer: the issuer identifier, to the byte as the document has it.
        token_endpoint: the URL to send token requests to, checked, its host in ASCII; empty when the
            document was read for keys and introspection only.
        jwks_uri: the URL of the keys that sign its tokens, checked likewise; None when there is none.
        token_endpoint_auth_methods_supported: the client authentication methods it names, in its order;
            ``("client_secret_basic",)`` when it names none.
        introspection_endpoint: the URL to ask about tokens (RFC 7662), checked likewise; None when there is none,
            or when the document was read for the token endpoint.

    """

    issuer: str
    token_endpoint: str
    jwks_uri: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = _DEFAULT_METHODS
    introspection_endpoint: str | None = None


class MetadataSource(Protocol):
    """What has to be known to find and judge a metadata document: a client registration, or a trusted issuer."""

    @property
    def issuer(self) -> str | None:
        """The issuer identifier that the document must name."""

    @property
    def metadata_url(self) -> str | None:
        """Where the document is, if that does not follow from the issuer."""

    @property
    def server(self) -> str:
        """The URL that names the server in messages."""

    @property
    def allow_insecure_http(self) -> bool:
        """Whether plain http is allowed beyond loopback."""

    @property
    def endpoint_hosts(self) -> frozenset[str] | None:
        """The only hosts that endpoints may have; None for any."""

    @property
    def lenient_content_type(self) -> bool:
        """Whether the document is read whatever its ``Content-Type`` says."""

    @property
    def needs_token_endpoint(self) -> bool:
        """Whether a document without a token endpoint is of no use."""


def metadata_urls(issuer: str) -> tuple[str, str]:
    """Return where the metadata of an issuer may be: as RFC 8414 and as OpenID Connect Discovery have it.

    RFC 8414 (section 3.1) puts the well-known part between host and path, OpenID Connect Discovery (section 4) behind
    the path; either first takes one slash off the end. Whether plain http is permitted is not judged here.

    Raises:
        StrictError: the issuer is no URL, or has a query or a fragment, which no issuer may have.

    """
    url = parse_url(issuer, allow_insecure_http=True, purpose="issuer")
    if "?" in issuer:
        raise StrictError(f"issuer: a query, starting at position {issuer.index('?')}")
    path = url.path.removesuffix("/")
    return (
        f"{url.origin}/.well-known/oauth-authorization-server{path}",
        f"{url.origin}{path}/.well-known/openid-configuration",
    )


def parse_metadata(
    response: Response,
    *,
    url: str,
    issuer: str | None,
    allow_insecure_http: bool = False,
    allowed_endpoint_hosts: frozenset[str] | None = None,
    lenient_content_type: bool = False,
    needs_token_endpoint: bool = True,
) -> ServerMetadata:
    """Return what a metadata document says, once all of it that matters was found to be in order.

    Members that are not known are ignored, ``signed_metadata`` among them; null counts as absent.

    Args:
        response: the answer to the request for the document.
        url: the URL that was asked.
        issuer: the configured issuer, which the document must name to the byte (RFC 8414, section 3.3); None when
            the document's own URL was configured instead.
        allow_insecure_http: whether endpoints may be plain http on hosts other than loopback.
        allowed_endpoint_hosts: the only hosts that endpoints may have, in lower case and ASCII; None for any.
        lenient_content_type: whether the document is read whatever its ``Content-Type`` says.
        needs_token_endpoint: whether the document is read for its token endpoint and refused without; else it is read
            for keys and introspection (issuers of workload identities have no token endpoint).

    Raises:
        DiscoveryError: it is not a metadata document, or not one to be used.

    """
    reader = _Reader(url, allow_insecure_http=allow_insecure_http, allowed_hosts=allowed_endpoint_hosts)
    reader.check_head(response, lenient_content_type=lenient_content_type)
    document = reader.parse_body(response.body)
    found_issuer = reader.check_issuer(document.get("issuer"), issuer)
    # What is of no concern is not judged: a fault in it is no reason to do without the rest.
    token_endpoint = reader.parse_endpoint(document, "token_endpoint") if needs_token_endpoint else ""
    if token_endpoint is None:
        reader.refuse("has no token_endpoint", "Configure token_endpoint in place of issuer if you know where it is.")
    return ServerMetadata(
        issuer=found_issuer,
        token_endpoint=token_endpoint,
        jwks_uri=reader.parse_endpoint(document, "jwks_uri"),
        token_endpoint_auth_methods_supported=reader.parse_names(document, "token_endpoint_auth_methods_supported")
        or _DEFAULT_METHODS,
        introspection_endpoint=(
            None if needs_token_endpoint else reader.parse_endpoint(document, "introspection_endpoint")
        ),
    )


class _Reader:
    """What all the checks of one document share. No error is raised while another one is being handled."""

    def __init__(self, url: str, *, allow_insecure_http: bool, allowed_hosts: frozenset[str] | None) -> None:
        self.endpoint = url.partition("?")[0]
        self.secure = url[:6].lower() == "https:"
        self.allow_insecure_http = allow_insecure_http
        self.allowed_hosts = allowed_hosts
        self.status: int | None = None

    def refuse(self, problem: str, advice: str = "") -> NoReturn:
        raise DiscoveryError(
            f"The metadata document at {self.endpoint} {problem}.",
            advice=advice,
            endpoint=self.endpoint,
            status=self.status,
        )

    def check_head(self, response: Response, *, lenient_content_type: bool) -> None:
        self.status = response.status
        if HTTPStatus.MULTIPLE_CHOICES <= response.status < HTTPStatus.BAD_REQUEST:
            self.refuse(
                f"is a redirect (HTTP {response.status}), and redirects are never followed",
                "Configure the issuer or metadata_url that it leads to, if you trust it.",
            )
        if response.status != HTTPStatus.OK:
            self.refuse(
                f"could not be had (HTTP {response.status})",
                "Check the issuer, or configure metadata_url or token_endpoint.",
            )
        if not lenient_content_type and not is_json_media_type(response.header("content-type")):
            self.refuse(
                "is not said to be JSON by its Content-Type",
                "If it is the right document, set lenient_content_type for this registration.",
            )

    def parse_body(self, body: bytes) -> dict[str, object]:
        document: dict[str, object] = {}
        fault = ""
        try:
            document = parse_json_object(body, max_bytes=_MAX_BYTES)
        except StrictError as error:
            fault = str(error)
        if fault:
            self.refuse(f"is not one: {fault}", "Check the issuer: something else answers at this URL.")
        return document

    def check_issuer(self, found: object, configured: str | None) -> str:
        if not isinstance(found, str) or not found:
            self.refuse("has no issuer", "RFC 8414 requires one; configure token_endpoint if it cannot be mended.")
        if configured is None:
            if len(found) > _MAX_ISSUER or _NOT_PRINTABLE.search(found):
                self.refuse("has an issuer that is not a URL", "Configure token_endpoint in place of metadata_url.")
        elif found != configured:
            self.refuse("is of another issuer than the configured one", _issuer_advice(found, configured))
        return found

    def parse_endpoint(self, document: dict[str, object], member: str) -> str | None:
        text = document.get(member)
        if text is None:
            return None
        if not isinstance(text, str):
            self.refuse(f"has a {member} that is not a string")
        url = None
        fault = ""
        try:
            url = parse_url(text, allow_insecure_http=self.allow_insecure_http, purpose=member)
        except StrictError as error:
            fault = str(error)
        if url is None:
            self.refuse(f"names an endpoint that cannot be used: {fault}")
        self._check_policy(url, member)
        return url.wire

    def _check_policy(self, url: Url, member: str) -> None:
        if self.secure and url.scheme == "http" and not self.allow_insecure_http:
            # Loopback or not: what was trusted because of TLS must not lead out of it.
            self.refuse(f"was read over https but has a {member} with plain http")
        if self.allowed_hosts is not None and self.allowed_hosts.isdisjoint({url.host, f"[{url.host}]"}):
            self.refuse(
                f"has a {member} on the host {url.host}, which is not in allowed_endpoint_hosts",
                "Add the host there if you trust it.",
            )

    def parse_names(self, document: dict[str, object], member: str) -> tuple[str, ...]:
        names = document.get(member)
        if names is None:
            return ()
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            self.refuse(f"has a {member} that is not a list of strings")
        return tuple(names)


def _issuer_advice(found: str, configured: str) -> str:
    """Say what to configure, provided that what the document names could be configured at all."""
    usable = len(found) <= _MAX_ISSUER
    try:
        metadata_urls(found)
    except StrictError:
        usable = False
    if not usable:
        return (
            "What it names is no usable issuer; check that the configured one is complete, or configure token_endpoint."
        )
    # ASCII JSON is a TOML string, too, and shows look-alikes and invisible characters for what they are.
    value = json.dumps(found)
    if found.removesuffix("/") == configured.removesuffix("/"):
        return f"They differ in the slash at the end only: configure issuer = {value}"
    return f"If you trust it, configure exactly issuer = {value} (it is compared to the byte)."
