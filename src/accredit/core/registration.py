"""Client registrations, and the token request that one call makes of a registration.

What a caller may vary per call is in :class:`TokenRequest`; all the rest is in :class:`ClientRegistration`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from typing import NamedTuple, NoReturn, Protocol, runtime_checkable

from accredit.core.client_auth import ClientAuthentication, first_control
from accredit.core.identity import Identity, make_identity
from accredit.core.strict import StrictError, check_scope_token, origin_of, parse_json, parse_url
from accredit.core.value import Value, frozen
from accredit.errors import ConfigurationError

DEFAULT_PRINCIPAL = "service-account"
ID_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,64}")
RESERVED_PARAMETERS = frozenset(
    {
        "assertion",
        "audience",
        "authorization_details",
        "client_assertion",
        "client_assertion_type",
        "client_id",
        "client_secret",
        "grant_type",
        "refresh_token",
        "resource",
        "scope",
    }
)
_MAX_TEXT = 2048
_MAX_DETAILS = 64 * 1024


@runtime_checkable
class Grant(Protocol):
    """An OAuth 2.0 grant as a value: what it adds to the token request."""

    @property
    def grant_type(self) -> str:
        """The ``grant_type`` parameter."""

    def parameters(self) -> Sequence[tuple[str, str]]:
        """Further parameters of this grant."""


@frozen()
class ClientCredentials(Value):
    """The client credentials grant (RFC 6749, section 4.4)."""

    @property
    def grant_type(self) -> str:
        """``client_credentials``."""
        return "client_credentials"

    def parameters(self) -> Sequence[tuple[str, str]]:
        """Nothing beyond the grant type."""
        return ()


@frozen(kw_only=True)
class ClientRegistration(Value):
    """What this service knows about one client at one authorization server.

    Exactly one of ``issuer`` (with discovery), ``token_endpoint`` and ``metadata_url`` is needed;
    ``metadata_url`` may stand beside ``issuer`` and overrides where its document is read.

    Attributes:
        id: the name callers use, ``[A-Za-z0-9._-]{1,64}``.
        client_id: the client id at the authorization server (RFC 6749, section 2.2).
        client_auth: how the client authenticates, such as ``ClientSecretBasic(secret)``.
        issuer: issuer identifier; endpoints come from its metadata (RFC 8414, OpenID Connect Discovery).
        token_endpoint: explicit token endpoint; no discovery takes place.
        metadata_url: explicit URL of the metadata document.
        scope: scopes asked for, a space-separated text or an iterable (RFC 6749, section 3.3).
        resource: resource indicators, absolute URIs (RFC 8707).
        audience: ``audience`` parameter as Auth0 and others want it.
        authorization_details: RFC 9396 objects, sent as one JSON array.
        extra_parameters: further form parameters of the token request.
        principal: whose token it is; part of the identity.
        grant: the grant, ``ClientCredentials()`` unless given.
        api_origins: origins (``https://host[:port]``) the token may be sent to; None means any https origin.
        deadline: seconds one flight may take in total, name resolution and further attempts included.
        renew_before: seconds; the renewal point lies between one and two times this ahead of expiry, at
            most a quarter of the lifetime.
        leeway: seconds before expiry at which a token is no longer handed out, at most a tenth of the lifetime.
        default_lifetime: seconds a token is kept when the server does not say ``expires_in``.
        max_lifetime: seconds; longer lifetimes are clamped to it.
        require_scope: refuse a token whose stated scope lacks one that was asked for.
        allow_insecure_http: allow plain http to the authorization server and the API beyond loopback (service meshes).
        allowed_endpoint_hosts: hosts that endpoints of the metadata document may name; None means any.
        assume_bearer: accept a token response without ``token_type`` (breaks RFC 6749, section 7.1).
        lenient_content_type: accept a JSON answer whose Content-Type is not JSON.
        keep_members: members of the token response to keep for the application (``instance_url`` of Salesforce).
        use_refresh_token: renew with the refresh token that came with the token, if one did (RFC 6749, section 6), and
            by the grant when that is refused. This grant has none (section 4.4.3), so it is ignored unless asked for.

    Raises:
        ConfigurationError: naming the key, the reason and the fix.

    """

    id: str
    client_id: str
    client_auth: ClientAuthentication
    issuer: str | None = None
    token_endpoint: str | None = None
    metadata_url: str | None = None
    scope: str | Iterable[str] = ()
    resource: str | Iterable[str] = ()
    audience: str | None = None
    authorization_details: Sequence[Mapping[str, object]] = ()
    extra_parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    principal: str = DEFAULT_PRINCIPAL
    grant: Grant = field(default_factory=ClientCredentials)
    api_origins: str | Iterable[str] | None = None
    deadline: float = 10.0
    renew_before: float = 300.0
    leeway: float = 10.0
    default_lifetime: float = 300.0
    max_lifetime: float = 31 * 86400.0
    require_scope: bool = False
    allow_insecure_http: bool = False
    allowed_endpoint_hosts: Iterable[str] | None = None
    assume_bearer: bool = False
    lenient_content_type: bool = False
    keep_members: Iterable[str] = ()
    use_refresh_token: bool = False

    def __post_init__(self) -> None:
        """Check every value and bring it into its canonical form."""
        if not isinstance(self.id, str) or not ID_PATTERN.fullmatch(self.id):
            self._refuse(
                "id",
                "is not of the form [A-Za-z0-9._-]{1,64}.",
                "Rename the registration, for example to 'api-client'.",
            )
        self._check_texts()
        self._check_server()
        self._check_numbers()
        self._set("scope", checked_scope(self.scope, key=self._key("scope")))
        self._set("resource", checked_resource(self.resource, key=self._key("resource")))
        self._set("principal", checked_principal(self.principal, key=self._key("principal")))
        self._set("authorization_details", self._canonical_details())
        self._set("api_origins", self._checked_origins())
        self._set("extra_parameters", self._checked_extra())
        self._set("keep_members", self._checked_members())
        if self.allowed_endpoint_hosts is not None:
            self._set(
                "allowed_endpoint_hosts",
                self._checked_hosts(self.allowed_endpoint_hosts),
            )
        if not isinstance(self.client_auth, ClientAuthentication):
            self._refuse(
                "client_auth",
                f"is a {type(self.client_auth).__name__}, not a client authentication method.",
                "Give for example ClientSecretBasic(secret).",
            )
        if not isinstance(self.grant, Grant):
            self._refuse("grant", "is not a grant.", "Leave it out for ClientCredentials().")
        self.client_auth.check(self.client_id)

    def __hash__(self) -> int:
        """Hash by id; equal registrations have equal ids."""
        return hash(self.id)

    # -- canonical views, for the rest of the core ------------------------------------------------

    @property
    def scopes(self) -> tuple[str, ...]:
        """The configured scopes, sorted."""
        return tuple(self.scope)

    @property
    def resources(self) -> tuple[str, ...]:
        """The configured resources, sorted."""
        return tuple(self.resource)

    @property
    def origins(self) -> frozenset[str] | None:
        """The allowed API origins; None for any."""
        return self.api_origins if isinstance(self.api_origins, frozenset) else None

    @property
    def endpoint_hosts(self) -> frozenset[str] | None:
        """The hosts that endpoints may name; None for any."""
        return self.allowed_endpoint_hosts if isinstance(self.allowed_endpoint_hosts, frozenset) else None

    @property
    def server(self) -> str:
        """The URL that names the authorization server in messages."""
        return self.issuer or self.metadata_url or self.token_endpoint or ""

    @property
    def needs_token_endpoint(self) -> bool:
        """True: a metadata document without a token endpoint is of no use to a client."""
        return True

    # -- checks ------------------------------------------------------------------------------------

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _key(self, name: str) -> str:
        return f"registration.{self.id}.{name}"

    def _refuse(self, name: str, reason: str, fix: str) -> NoReturn:
        label = self._key(name) if isinstance(self.id, str) and ID_PATTERN.fullmatch(self.id) else name
        raise ConfigurationError(f"{name} {reason}", advice=fix, key=label)

    def _check_texts(self) -> None:
        checked_text(self.client_id, "client_id", key=self._key("client_id"))
        if self.audience is not None:
            checked_text(self.audience, "audience", key=self._key("audience"))

    def _check_server(self) -> None:
        given = [name for name in ("issuer", "token_endpoint", "metadata_url") if getattr(self, name) is not None]
        if not given:
            self._refuse(
                "issuer",
                "is missing, and so are token_endpoint and metadata_url.",
                "Set issuer to the authorization server's issuer URL, or token_endpoint to its token endpoint.",
            )
        if "token_endpoint" in given and len(given) > 1:
            self._refuse(
                "token_endpoint",
                f"stands beside {given[0] if given[0] != 'token_endpoint' else given[1]}.",
                "Keep one of them: issuer for discovery, or token_endpoint without it.",
            )
        for name in given:
            text = getattr(self, name)
            if not isinstance(text, str):
                self._refuse(
                    name,
                    f"is a {type(text).__name__}, not a text.",
                    "Give an absolute https URL.",
                )
            problem = ""
            url = None
            try:
                url = parse_url(text, allow_insecure_http=self.allow_insecure_http, purpose=name)
            except StrictError as error:
                problem = str(error)
            if url is None:
                self._refuse(
                    name,
                    f"is not a usable URL: {problem}.",
                    "Give an absolute https URL without user, fragment or odd characters"
                    " (plain http works on loopback, or with allow_insecure_http).",
                )
            if name == "issuer" and "?" in text:
                self._refuse(
                    name,
                    "has a query (RFC 8414, section 2).",
                    "Remove the part from '?' on.",
                )

    def _check_numbers(self) -> None:
        for name, low, high in (
            ("deadline", 0.05, 300.0),
            ("renew_before", 0.0, 86400.0),
            ("leeway", 0.0, 300.0),
            ("default_lifetime", 1.0, 86400.0),
            ("max_lifetime", 1.0, 366 * 86400.0),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                self._refuse(
                    name,
                    "is not a number of seconds.",
                    f"Give seconds between {low:g} and {high:g}.",
                )
            if not low <= value <= high:
                self._refuse(
                    name,
                    f"is {value:g} seconds.",
                    f"Give seconds between {low:g} and {high:g}.",
                )
            self._set(name, float(value))
        for name in (
            "require_scope",
            "allow_insecure_http",
            "assume_bearer",
            "lenient_content_type",
            "use_refresh_token",
        ):
            if not isinstance(getattr(self, name), bool):
                self._refuse(name, "is neither true nor false.", "Write true or false.")

    def _checked_hosts(self, hosts: Iterable[str]) -> frozenset[str]:
        checked: set[str] = set()
        listed = _listed(hosts)
        for host in ("",) if listed is None else listed:
            parsed = None
            with suppress(StrictError):
                parsed = parse_url(f"https://{host}/")
            if parsed is None or parsed.path != "/" or parsed.query or ":" in str(host):
                self._refuse("allowed_endpoint_hosts", "holds what is not a host name.", "Write host names only.")
            checked.add(parsed.host)
        return frozenset(checked)

    def _checked_members(self) -> tuple[str, ...]:
        members = _listed(self.keep_members)
        if members is None or not all(isinstance(name, str) for name in members):
            self._refuse("keep_members", "is not a list of texts.", 'Write for example ["instance_url"].')
        return tuple(map(str, members))

    def _canonical_details(self) -> tuple[str, ...]:
        details: list[str] = []
        listed = _listed(self.authorization_details)
        for given in (None,) if listed is None else listed:
            item: object = given
            if isinstance(given, str):  # canonical already: dataclasses.replace() brings it back
                with suppress(StrictError):
                    item = parse_json(given.encode("utf-8", "replace"), max_bytes=_MAX_DETAILS)
            if not isinstance(item, Mapping) or not isinstance(item.get("type"), str):
                self._refuse(
                    "authorization_details",
                    "holds something that is not an object with a 'type' (RFC 9396, section 2).",
                    'Write [{type = "...", ...}].',
                )
            try:
                text = json.dumps(
                    item,
                    sort_keys=True,
                    separators=(",", ":"),
                    ensure_ascii=True,
                    allow_nan=False,
                )
            except (TypeError, ValueError, RecursionError):
                text = ""
            if not text:
                self._refuse(
                    "authorization_details",
                    "cannot be written as JSON.",
                    "Use plain JSON values only.",
                )
            details.append(text)
        return tuple(sorted(details))

    def _checked_origins(self) -> frozenset[str] | None:
        if self.api_origins is None:
            return None
        origins: set[str] = set()
        listed = _listed(self.api_origins)
        for value in (None,) if listed is None else listed:
            origin = None
            with suppress(StrictError):
                origin = origin_of(value) if isinstance(value, str) else None
            if origin is None or not isinstance(value, str) or re.search(r"[?#]|[^:/]/.", value):
                self._refuse(
                    "api_origins",
                    "holds something that is not an origin.",
                    "Write scheme, host and port only, such as 'https://api.example.com'.",
                )
            origins.add(origin)
        return frozenset(origins)

    def _checked_extra(self) -> Mapping[str, str]:
        if not isinstance(self.extra_parameters, Mapping):
            self._refuse("extra_parameters", "is not a table of names and texts.", 'Write {name = "value"}.')
        for name, value in self.extra_parameters.items():
            if name in RESERVED_PARAMETERS:
                self._refuse(
                    "extra_parameters",
                    f"sets {name!r}, which accredit itself sets.",
                    f"Use the registration's own key for {name!r}.",
                )
            checked_text(name, "extra parameter name", key=self._key("extra_parameters"))
            if not isinstance(value, str) or first_control(value) is not None or len(value) > _MAX_TEXT:
                self._refuse(
                    "extra_parameters",
                    f"has a value for {name!r} that is not a plain text.",
                    "Give a text without control characters.",
                )
        return dict(sorted(self.extra_parameters.items()))


class TokenRequest(NamedTuple):
    """One token request: a registration, and what this call varies.

    Attributes:
        registration: the registration.
        scopes: sorted scopes.
        resources: sorted resources.
        audience: the audience, or None.
        principal: the principal.
        identity: what the token is kept under.

    """

    registration: ClientRegistration
    scopes: tuple[str, ...]
    resources: tuple[str, ...]
    audience: str | None
    principal: str
    identity: Identity

    def parameters(self, refresh_token: str | None = None) -> list[tuple[str, str]]:
        """Return the form parameters, client authentication left out (RFC 6749, sections 4.4.2 and 6).

        Args:
            refresh_token: ask with this one instead of by the grant.

        """
        registration = self.registration
        form = (
            [("grant_type", registration.grant.grant_type), *registration.grant.parameters()]
            if refresh_token is None
            else [("grant_type", "refresh_token"), ("refresh_token", refresh_token)]
        )
        if self.scopes:
            form.append(("scope", " ".join(self.scopes)))
        form += [("resource", resource) for resource in self.resources]
        if self.audience is not None:
            form.append(("audience", self.audience))
        if registration.authorization_details:
            form.append(
                (
                    "authorization_details",
                    f"[{','.join(map(str, registration.authorization_details))}]",
                )
            )
        form += registration.extra_parameters.items()
        return form


def token_request_for(
    registration: ClientRegistration,
    *,
    scope: str | Iterable[str] | None = None,
    resource: str | Iterable[str] | None = None,
    audience: str | None = None,
    principal: str | None = None,
) -> TokenRequest:
    """Return the token request of a call; None means what the registration says.

    Raises:
        ConfigurationError: when an argument breaks the grammar of its parameter.

    """
    scopes = registration.scopes if scope is None else checked_scope(scope, key="scope")
    resources = registration.resources if resource is None else checked_resource(resource, key="resource")
    if audience is None:
        audience = registration.audience
    else:
        checked_text(audience, "audience", key="audience")
    whose = registration.principal if principal is None else checked_principal(principal, key="principal")
    identity = make_identity(
        registration.id,
        whose,
        (
            ("issuer", optional(registration.issuer)),
            ("metadata_url", optional(registration.metadata_url)),
            ("token_endpoint", optional(registration.token_endpoint)),
            ("client_id", (registration.client_id,)),
            ("client_auth", (registration.client_auth.method,)),
            (
                "grant",
                (
                    registration.grant.grant_type,
                    *(part for pair in registration.grant.parameters() for part in pair),
                ),
            ),
            ("scope", scopes),
            ("resource", resources),
            ("audience", optional(audience)),
            (
                "authorization_details",
                tuple(map(str, registration.authorization_details)),
            ),
            (
                "extra",
                tuple(part for pair in registration.extra_parameters.items() for part in pair),
            ),
        ),
    )
    return TokenRequest(registration, scopes, resources, audience, whose, identity)


def _listed(given: object) -> tuple[object, ...] | None:
    """Return the items given: a text alone is one item; None when nothing can be listed."""
    if isinstance(given, str | Mapping):
        return (given,)
    return tuple(given) if isinstance(given, Iterable) else None


def kept_texts(texts: object, *, key: str) -> str | tuple[str, ...]:
    """Return what a call gives as one text or several, so that it can be compared and kept.

    An iterator could be read once only, and a list could change behind our back.

    Raises:
        ConfigurationError: it is neither, under the name ``key``.

    """
    if isinstance(texts, str):
        return texts
    listed = _listed(texts)
    if listed is None or not all(isinstance(text, str) for text in listed):
        raise ConfigurationError(
            f"{key} is neither a text nor a list of texts.",
            advice='Give for example "orders:read", or ["orders:read", "orders:write"].'
            if key == "scope"
            else 'Give for example "https://api.example.com/orders", or a list of such texts.',
            key=key,
        )
    return tuple(map(str, listed))


def optional(text: str | None) -> tuple[str, ...]:
    """Return a list of none or one, so that an absent value and an empty one differ."""
    return () if text is None else (text,)


def checked_text(text: object, what: str, *, key: str) -> str:
    """Return ``text`` if it is a non-blank text without control characters; raise ConfigurationError otherwise."""
    if not isinstance(text, str):
        raise ConfigurationError(
            f"{what} is a {type(text).__name__}, not a text.",
            advice="Give a text.",
            key=key,
        )
    if not text.strip():
        raise ConfigurationError(f"{what} is empty.", advice="Fill it in, or leave the key out.", key=key)
    if len(text) > _MAX_TEXT:
        raise ConfigurationError(
            f"{what} is longer than {_MAX_TEXT} characters.",
            advice="Check its source.",
            key=key,
        )
    bad = first_control(text)
    if bad is not None:
        raise ConfigurationError(
            f"{what} has the character U+{bad[1]:04X} at position {bad[0]}.",
            advice="Remove it; look for a stray line break.",
            key=key,
        )
    return text


def checked_scope(scope: str | Iterable[str], *, key: str) -> tuple[str, ...]:
    """Return the scopes sorted and without repetition (RFC 6749, section 3.3 and appendix A.4)."""
    items = [item for item in scope.split(" ") if item] if isinstance(scope, str) else _listed(scope)
    scopes: set[str] = set()
    for item in (None,) if items is None else items:
        problem = None
        try:
            scopes.add(check_scope_token(item) if isinstance(item, str) else "")
        except StrictError as error:
            problem = str(error)
        if problem is not None or not isinstance(item, str):
            raise ConfigurationError(
                f"a scope is not allowed: {problem or 'not a text'}.",
                advice='Give each scope as a text of its own, such as ["orders:read", "orders:write"].',
                key=key,
            )
    return tuple(sorted(scopes))


def checked_resource(resource: str | Iterable[str], *, key: str) -> tuple[str, ...]:
    """Return the resources sorted and without repetition: absolute URIs without fragment (RFC 8707, section 2)."""
    items = _listed(resource)
    for item in (None,) if items is None else items:
        checked_text(item, "resource", key=key)
        if not isinstance(item, str) or not _ABSOLUTE_URI.fullmatch(item):
            raise ConfigurationError(
                "resource is not an absolute URI without fragment (RFC 8707, section 2).",
                advice="Write for example 'https://api.example.com/orders'.",
                key=key,
            )
    return tuple(sorted({str(item) for item in items or ()}))


_ABSOLUTE_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!$-;=?-Z_a-z~%\[\]]+")


def checked_principal(principal: object, *, key: str) -> str:
    """Return the principal: any text without controls, at most 256 characters."""
    text = checked_text(principal, "principal", key=key)
    if len(text) > 256:
        raise ConfigurationError("principal is longer than 256 characters.", advice="Shorten it.", key=key)
    return text
