"""Verifiers for tests that are about guards and not about verifying."""

from __future__ import annotations

import time

from accredit.core.access_token import AccessTokenPolicy, VerifiedToken, verify_access_token
from accredit.core.jwk import import_public_jwk
from accredit.core.jwks import KeySet
from accredit.devserver.handle import Switches
from accredit.errors import AccreditError

INVALID = (
    'error="invalid_token", error_description="The access token is expired, revoked, malformed or not for this API"'
)
SCOPE = 'error="insufficient_scope", error_description="The access token lacks a scope that this request needs"'
SEVERAL = 'error="invalid_request", error_description="The request has an access token in more than one place"'
FIELDS = 'error="invalid_request", error_description="The request has more than one Authorization field"'
MALFORMED = 'error="invalid_request", error_description="The Authorization field is malformed"'


class PlainVerifier:
    """Verifies with the keys that a server had when this was made; counts how often it was asked."""

    def __init__(self, server: Switches) -> None:
        keys = server.command("signing_keys")
        self._keys = KeySet(tuple(import_public_jwk(key) for key in keys))
        self._policy = AccessTokenPolicy(issuer=server.issuer, audience=(server.config.default_audience,))
        self.asked = 0

    def verify(self, token: str) -> VerifiedToken:
        self.asked += 1
        return verify_access_token(token, self._keys, self._policy, now=time.time())


class Both:
    """A verifier with two faces, as the real one has."""

    def __init__(self, plain: PlainVerifier) -> None:
        self.plain = plain

    def verify(self, token: str) -> VerifiedToken:
        return self.plain.verify(token)

    def asynchronous(self) -> BothAsync:
        return BothAsync(self.plain)


class BothAsync:
    """Its other face."""

    def __init__(self, plain: PlainVerifier) -> None:
        self.plain = plain

    async def verify(self, token: str) -> VerifiedToken:
        return self.plain.verify(token)

    def synchronous(self) -> Both:
        return Both(self.plain)


class Failing:
    """A verifier that fails with this error, in both kinds of code."""

    def __init__(self, error: AccreditError) -> None:
        self.error = error
        self.asked = 0

    def verify(self, token: str) -> VerifiedToken:
        self.asked += 1
        raise self.error.fresh()

    def asynchronous(self) -> FailingAsync:
        return FailingAsync(self)


class FailingAsync:
    """Its other face."""

    def __init__(self, plain: Failing) -> None:
        self._plain = plain

    async def verify(self, token: str) -> VerifiedToken:
        return self._plain.verify(token)
