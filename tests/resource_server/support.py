"""What guards say, and a verifier that fails."""

from __future__ import annotations

from accredit.core.access_token import VerifiedToken
from accredit.errors import AccreditError

INVALID = (
    'error="invalid_token", error_description="The access token is expired, revoked, malformed or not for this API"'
)
SCOPE = 'error="insufficient_scope", error_description="The access token lacks a scope that this request needs"'
SEVERAL = 'error="invalid_request", error_description="The request has an access token in more than one place"'
FIELDS = 'error="invalid_request", error_description="The request has more than one Authorization field"'
MALFORMED = 'error="invalid_request", error_description="The Authorization field is malformed"'


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
