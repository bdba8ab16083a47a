"""Whom an API trusts to issue access tokens, as one value: what to demand, where the keys are, how to introspect."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Final, NoReturn

from accredit.core.access_token import DEFAULT_ALGORITHMS, AccessTokenPolicy
from accredit.core.introspection import Introspection
from accredit.core.jwks import JwksPolicy, KeySet, read_jwks
from accredit.core.metadata import metadata_urls
from accredit.core.strict import StrictError, parse_url
from accredit.errors import ConfigurationError

_FLAGS: Final = (
    "allow_insecure_http",
    "lenient_content_type",
    "accept_typ_jwt",
    "accept_bound_tokens",
    "allow_long_leeway",
)


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """One authorization server whose access tokens an API accepts. Issuer and audience are mandatory.

    Attributes:
        issuer: the only ``iss`` accepted, to the byte; its metadata is found by it unless a URL or keys are given.
        audience: the names of this API, one or several; a token must carry at least one in ``aud``. Only the profile
            ``cognito`` does without, and then ``clients`` is mandatory.
        profile: how the tokens of this server look: ``"rfc9068"``, ``"auth0"``, ``"okta"``, ``"entra"``,
            ``"keycloak"`` or ``"cognito"``.
        algorithms: the signature algorithms accepted (asymmetric ones only).
        leeway: seconds of clock difference allowed, 0 to 300.
        max_token_age: longest ``exp - iat`` in seconds, or None for no limit.
        clients: the only client ids accepted, or None for any.
        jwks_uri: URL of the keys; no discovery takes place then.
        jwks: the keys themselves, a parsed JWKS document; nothing is ever fetched then.
        metadata_url: explicit URL of the metadata document (RFC 8414, OpenID Connect Discovery).
        introspection: how to ask about tokens, or None to verify JWTs only.
        jwks_policy: when keys are fetched again, and how long the last good ones serve through an outage.
        deadline: seconds that one fetch or introspection may take in total, further attempts included.
        allow_insecure_http: allow plain http to the server beyond loopback (service meshes).
        allowed_endpoint_hosts: hosts that endpoints of the metadata document may name; None means any.
        lenient_content_type: accept a JSON answer whose Content-Type is not JSON.
        accept_typ_jwt: with the profile ``rfc9068``, also accept ``typ`` ``JWT`` or none.
        accept_bound_tokens: accept tokens bound to a key (``cnf``), whose proof the application then checks itself.
        allow_long_leeway: allow a ``leeway`` above 300 seconds.

    Raises:
        ConfigurationError: naming the argument, the reason and the fix.

    """

    issuer: str
    audience: str | Iterable[str] = ()
    _: KW_ONLY
    profile: str = "rfc9068"
    algorithms: Iterable[str] = DEFAULT_ALGORITHMS
    leeway: float = 60.0
    max_token_age: float | None = None
    clients: str | Iterable[str] | None = None
    jwks_uri: str | None = None
    jwks: Mapping[str, object] | None = field(default=None, repr=False, hash=False)
    metadata_url: str | None = None
    introspection: Introspection | None = None
    jwks_policy: JwksPolicy = field(default_factory=JwksPolicy)
    deadline: float = 10.0
    allow_insecure_http: bool = False
    allowed_endpoint_hosts: Iterable[str] | None = None
    lenient_content_type: bool = False
    accept_typ_jwt: bool = False
    accept_bound_tokens: bool = False
    allow_long_leeway: bool = False
    _policy: AccessTokenPolicy = field(init=False, repr=False, compare=False)
    _pinned: KeySet | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        """Check every value and bring it into its canonical form."""
        self._set("audience", _texts(self.audience, "audience"))
        self._set("algorithms", _texts(self.algorithms, "algorithms"))
        clients = None if self.clients is None else _texts(self.clients, "clients")
        self._set("clients", clients)
        policy = AccessTokenPolicy(
            issuer=self.issuer,
            audience=tuple(self.audience),
            algorithms=tuple(self.algorithms),
            leeway=self.leeway,
            max_token_age=self.max_token_age,
            accept_typ_jwt=self.accept_typ_jwt,
            allow_long_leeway=self.allow_long_leeway,
            profile=self.profile,
            clients=clients,
            accept_bound_tokens=self.accept_bound_tokens,
        )
        self._set("_policy", policy)
        if isinstance(self.deadline, bool) or not isinstance(self.deadline, int | float):
            _refuse("deadline", "is not a number of seconds", "Give seconds from 0.05 to 300.")
        if not math.isfinite(self.deadline) or not 0.05 <= self.deadline <= 300:
            _refuse("deadline", "is out of bounds", "Give seconds from 0.05 to 300.")
        for name in _FLAGS:
            # The text "false" of a configuration file would count as true.
            if not isinstance(getattr(self, name), bool):
                _refuse(name, "is neither true nor false", "Give True or False.")
        if not isinstance(self.jwks_policy, JwksPolicy):
            _refuse("jwks_policy", "is no JwksPolicy", "Leave it out, or give one.")
        if self.introspection is not None and not isinstance(self.introspection, Introspection):
            _refuse("introspection", "is no Introspection", "Give Introspection(client_id=..., client_auth=...).")
        self._check_hosts()
        self._check_places()

    @property
    def policy(self) -> AccessTokenPolicy:
        """What is demanded of a token."""
        return self._policy

    @property
    def pinned_keys(self) -> KeySet | None:
        """The keys that were given, or None."""
        return self._pinned

    @property
    def server(self) -> str:
        """The URL that names the authorization server in messages."""
        return self.metadata_url or self.jwks_uri or self.issuer

    @property
    def endpoint_hosts(self) -> frozenset[str] | None:
        """The hosts that endpoints may name; None for any."""
        return self.allowed_endpoint_hosts if isinstance(self.allowed_endpoint_hosts, frozenset) else None

    @property
    def needs_token_endpoint(self) -> bool:
        """False: who verifies tokens asks for none."""
        return False

    @property
    def verifies_here(self) -> bool:
        """Whether JWTs are verified with the keys of the issuer."""
        return self.introspection is None or self.introspection.tokens != "only"

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_hosts(self) -> None:
        if self.allowed_endpoint_hosts is None:
            return
        hosts: set[str] = set()
        for host in _texts(self.allowed_endpoint_hosts, "allowed_endpoint_hosts"):
            parsed = None
            try:
                parsed = parse_url(f"https://{host}/")
            except StrictError:
                parsed = None
            if parsed is None or parsed.path != "/" or parsed.query or ":" in host:
                _refuse("allowed_endpoint_hosts", "holds what is not a host name", "Write host names only.")
            hosts.add(parsed.host)
        self._set("allowed_endpoint_hosts", frozenset(hosts))

    def _check_places(self) -> None:
        given = [name for name in ("jwks", "jwks_uri", "metadata_url") if getattr(self, name) is not None]
        if len(given) > 1:
            _refuse(given[1], f"stands beside {given[0]}", "Keep one of them.")
        if self.jwks is not None:
            keys = read_jwks(self.jwks) if isinstance(self.jwks, Mapping) else "is no JWKS document"
            if isinstance(keys, str):
                _refuse("jwks", keys, "Give the parsed JWKS document with the public keys of the issuer.")
            self._set("_pinned", keys)
        for name in ("jwks_uri", "metadata_url"):
            text = getattr(self, name)
            if text is not None:
                self._check_url(name, text)
        if self.introspection is not None:
            self.introspection.check_endpoint(allow_insecure_http=self.allow_insecure_http)
        if not given and (self.verifies_here or self._introspects_by_metadata()):
            # Discovery starts from the issuer, which then has to be one (RFC 8414, section 2).
            self._check_url("issuer", self.issuer)
            problem = ""
            try:
                metadata_urls(self.issuer)
            except StrictError as error:
                problem = str(error)
            if problem:
                _refuse("issuer", f"is not one that has metadata: {problem}", "Give jwks_uri or metadata_url.")
        if self._introspects_by_metadata() and (self.jwks_uri is not None or self.jwks is not None):
            _refuse("introspection", "has no endpoint, and no metadata is read", "Give the endpoint.")

    def _introspects_by_metadata(self) -> bool:
        return self.introspection is not None and self.introspection.endpoint is None

    def _check_url(self, name: str, text: object) -> None:
        problem = "it is no text"
        if isinstance(text, str):
            try:
                parse_url(text, allow_insecure_http=self.allow_insecure_http, purpose=name)
                problem = ""
            except StrictError as error:
                problem = str(error)
        if problem:
            _refuse(
                name,
                f"is not a usable URL: {problem}",
                "Give an absolute https URL without user, fragment or odd characters (plain http works on loopback, or"
                " with allow_insecure_http); or give jwks_uri, metadata_url or jwks for an issuer that is no URL.",
            )


def _texts(value: object, key: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    texts = tuple(value) if isinstance(value, Iterable) and not isinstance(value, bytes | Mapping) else None
    if texts is None or not all(isinstance(text, str) for text in texts):
        _refuse(key, "is neither a text nor a list of texts", "Write one text, or several.")
    return texts


def _refuse(key: str, reason: str, fix: str) -> NoReturn:
    raise ConfigurationError(f"{key} {reason}.", advice=fix, key=key)
