"""Access tokens of any shape, signed with the key of a test server, for tests of what an API accepts and refuses."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Mapping
from typing import Any, Final

from accredit.core.jose import sign_jws
from accredit.core.strict import b64url_decode, b64url_encode
from accredit.devserver.handle import Switches
from accredit.devserver.keys import new_signing_key

__all__ = ["TokenMaker"]

_HOUR: Final = 3600


class TokenMaker:
    """Makes access tokens as the server would issue them (RFC 9068), and wrong in one respect each.

    Every method returns the compact form. Each wrong token is right in everything but what its name says, so that a
    test that refuses it shows that this one check is made. :data:`SHAPES` has the names of all the wrong ones.

    Attributes:
        audience: the ``aud`` of tokens.
        client_id: the ``client_id`` of tokens.
        scope: the scopes of tokens.

    """

    #: The names of the methods that make wrong tokens; an API refuses every one of them with 401.
    SHAPES: Final = (
        "expired", "not_yet_valid", "wrong_audience", "no_audience", "wrong_issuer", "wrong_key", "unknown_key",
        "tampered", "unsigned", "wrong_type", "no_client_id", "not_a_token",
    )  # fmt: skip

    def __init__(
        self,
        server: Switches,
        *,
        audience: str | None = None,
        client_id: str | None = None,
        scope: str | None = None,
    ) -> None:
        """Keep what tokens are to look like.

        Args:
            server: the server whose key signs them, and whose clock counts.
            audience: by default that of the server.
            client_id: by default that of its first client.
            scope: scopes separated by spaces; by default those of its first client.

        """
        self._server = server
        self.audience: str = server.config.default_audience if audience is None else audience
        self.client_id: str = server.client.client_id if client_id is None else client_id
        self.scope: str = " ".join(server.client.scopes) if scope is None else scope

    def __repr__(self) -> str:
        """Name the server."""
        return f"<TokenMaker of {self._server.issuer}>"

    # ---- right ones -------------------------------------------------------------------------------------------

    def valid(self, *, scope: str | None = None, lifetime: float = _HOUR, **claims: object) -> str:
        """Return a token that every API of that audience accepts.

        Args:
            scope: scopes separated by spaces; by default those of the maker, and none at all when empty.
            lifetime: seconds.
            claims: more claims, or other values for the usual ones.

        """
        return self.make(self.claims(scope=scope, lifetime=lifetime, **claims))

    def without_scope(self, *missing: str) -> str:
        """Return a valid token that lacks these scopes; without arguments, one without any: an API answers 403."""
        kept = [scope for scope in self.scope.split() if missing and scope not in missing]
        return self.valid(scope=" ".join(kept))

    def claims(self, *, scope: str | None = None, lifetime: float = _HOUR, **claims: object) -> dict[str, object]:
        """Return the claims of a valid token, for :meth:`make`; a claim given as None is left out."""
        now = int(self._now())
        wanted = self.scope if scope is None else scope
        usual: dict[str, object] = {
            "iss": self._server.issuer,
            "sub": f"client:{self.client_id}",
            "client_id": self.client_id,
            "aud": self.audience,
            "iat": now,
            "exp": now + int(lifetime),
            # The serial number first, as the server has it: it revokes by number.
            "jti": f"{2**31}.{secrets.token_urlsafe(18)}",
            "scope": wanted or None,
        }
        return {name: value for name, value in (usual | claims).items() if value is not None}

    def make(self, claims: Mapping[str, object], *, header: Mapping[str, object] | None = None) -> str:
        """Return these very claims, signed with the key of the server; ``alg`` and ``kid`` are those of the key.

        Args:
            claims: all claims.
            header: further header members; by default ``{"typ": "at+jwt"}``.

        Raises:
            RuntimeError: the server refused, or does not run.

        """
        return self._server.sign(claims, header={"typ": "at+jwt"} if header is None else header)

    # ---- wrong ones -------------------------------------------------------------------------------------------

    def expired(self) -> str:
        """Return a token that ended an hour ago."""
        now = int(self._now())
        return self.valid(iat=now - 2 * _HOUR, exp=now - _HOUR)

    def not_yet_valid(self) -> str:
        """Return a token that begins in an hour."""
        return self.valid(lifetime=3 * _HOUR, nbf=int(self._now()) + _HOUR)

    def wrong_audience(self) -> str:
        """Return a token for another API."""
        return self.valid(aud="https://another-api.example")

    def no_audience(self) -> str:
        """Return a token without ``aud``."""
        return self.valid(aud=None)

    def wrong_issuer(self) -> str:
        """Return a token that names another issuer, though the key is that of the server."""
        return self.valid(iss="https://another-issuer.example")

    def wrong_key(self) -> str:
        """Return a token signed with another key that bears the key id of the server's."""
        key = new_signing_key()
        kid = self._server.command("signing_keys")[0]["kid"]
        return self._signed_by(dataclasses.replace(key, kid=kid))

    def unknown_key(self) -> str:
        """Return a token signed with a key that the server does not publish."""
        return self._signed_by(new_signing_key())

    def _signed_by(self, key: Any) -> str:
        return sign_jws(json.dumps(self.claims()).encode(), key, header={"typ": "at+jwt"})

    def tampered(self) -> str:
        """Return a valid token to which a scope was added after it was signed."""
        head, body, signature = self.valid().split(".")
        claims = json.loads(b64url_decode(body))
        claims["scope"] = f"{self.scope} admin".strip()
        return f"{head}.{b64url_encode(json.dumps(claims).encode())}.{signature}"

    def unsigned(self) -> str:
        """Return a token with ``alg`` ``none`` and an empty signature (RFC 7519, section 6)."""
        header = b64url_encode(json.dumps({"alg": "none", "typ": "at+jwt"}).encode())
        return f"{header}.{b64url_encode(json.dumps(self.claims()).encode())}."

    def wrong_type(self) -> str:
        """Return a token with ``typ`` ``JWT``: an ID token, say, signed with the same key."""
        return self.make(self.claims(), header={"typ": "JWT"})

    def no_client_id(self) -> str:
        """Return a token without ``client_id`` (RFC 9068, section 2.2)."""
        return self.valid(client_id=None)

    def not_a_token(self) -> str:
        """Return a text that may be in the header but is no token."""
        return "not-a-token"

    def of_shape(self, name: str) -> str:
        """Return the wrong token of that name, one of :data:`SHAPES`.

        Raises:
            LookupError: there is no such shape.

        """
        if name not in self.SHAPES:
            raise LookupError(name)
        return str(getattr(self, name)())

    def _now(self) -> float:
        return self._server.advance_clock(0.0)
