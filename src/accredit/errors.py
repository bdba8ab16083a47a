"""Every error that accredit raises, in one tree.

Read the tree as a list of people to talk to::

    AccreditError
    ├── ConfigurationError             you: the configuration or the call is wrong
    ├── AuthorizationServerError       (base of everything that went wrong at the authorization server)
    │   ├── RefusedError               (base of a well-formed refusal)
    │   │   ├── CredentialRefusedError     it does not accept this client's credential
    │   │   ├── RequestRefusedError        it does not grant what was asked (scope, resource, grant)
    │   │   └── ThrottledError             it asked us to come back later
    │   ├── MalformedResponseError     it answered nonsense
    │   ├── UnreachableError           it could not be reached in time
    │   └── DiscoveryError             its metadata document is missing or wrong
    ├── StoreError                     the shared store (an event for operators; never reaches a caller of ``get``)
    └── InvalidTokenError              the token presented to this API is not acceptable

No error ever holds a secret, a token, an assertion or a response body. Two errors are equal when they
say the same thing, and :meth:`AccreditError.fresh` makes an equal one without traceback, so that each
of many waiters can be given its own.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

Fault = Literal["configuration", "authorization server", "network", "store", "token"]


class AccreditError(Exception):
    """Base of every error of this library.

    Attributes:
        fault: whose fault it is: ``"configuration"``, ``"authorization server"``, ``"network"``,
            ``"store"`` or ``"token"``.
        summary: one sentence that says what happened.
        advice: one sentence that says what to do next; may be empty.

    """

    fault: ClassVar[Fault] = "configuration"

    def __init__(self, summary: str, *, advice: str = "", **safe: Any) -> None:
        """Keep ``summary`` and ``advice`` (both free of secrets), and the safe data of the subclass."""
        self.summary = summary
        self.advice = advice
        self._safe: dict[str, Any] = safe
        super().__init__(summary)

    def fresh(self) -> Self:
        """Return an equal error without traceback, cause, context or notes."""
        return type(self)(self.summary, advice=self.advice, **self._safe)

    def __str__(self) -> str:
        """Return the summary and the advice."""
        return f"{self.summary} {self.advice}" if self.advice else self.summary

    def __eq__(self, other: object) -> bool:
        """Tell whether the other error is of the same type and says the same."""
        if type(self) is not type(other) or not isinstance(other, AccreditError):
            return NotImplemented
        return (self.summary, self.advice, self._safe) == (
            other.summary,
            other.advice,
            other._safe,
        )

    def __hash__(self) -> int:
        """Hash by type and summary."""
        return hash((type(self), self.summary))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as plain data, without traceback."""
        return (_rebuild, (type(self), self.summary, self.advice, self._safe))


def _rebuild(kind: type[AccreditError], summary: str, advice: str, safe: dict[str, Any]) -> AccreditError:
    return kind(summary, advice=advice, **safe)


class ConfigurationError(AccreditError, ValueError):
    """The configuration, or an argument of the call, is wrong. Nothing was sent anywhere.

    Attributes:
        key: the configuration key or argument at fault, such as ``"registration.api-client.scope"``.

    """

    def __init__(self, summary: str, *, advice: str = "", key: str | None = None) -> None:
        """Name the ``key`` at fault, the reason and the fix."""
        super().__init__(summary, advice=advice, key=key)
        self.key = key

    def __str__(self) -> str:
        """Return ``key: reason fix``."""
        text = super().__str__()
        return f"{self.key}: {text}" if self.key else text


class AuthorizationServerError(AccreditError):
    """Something went wrong at, or on the way to, the authorization server.

    Attributes:
        endpoint: the URL that was asked (never with a query or credentials), or None.
        status: the HTTP status of its answer, or None when there was none.
        error_code: the ``error`` member of its answer (RFC 6749, section 5.2), sanitised to
            ``[A-Za-z0-9_.:-]{1,64}``, or None.
        retry_after: seconds until accredit itself will ask again, or None when it is not holding back.

    """

    fault: ClassVar[Fault] = "authorization server"

    def __init__(
        self,
        summary: str,
        *,
        advice: str = "",
        endpoint: str | None = None,
        status: int | None = None,
        error_code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Keep the safe data beside the text; a query of ``endpoint`` is not kept."""
        endpoint = None if endpoint is None else endpoint.partition("?")[0]
        super().__init__(
            summary,
            advice=advice,
            endpoint=endpoint,
            status=status,
            error_code=error_code,
            retry_after=retry_after,
        )
        self.endpoint = endpoint
        self.status = status
        self.error_code = error_code
        self.retry_after = retry_after

    def held_for(self, seconds: float) -> Self:
        """Return an equal error that says for how long (seconds) no further request will be made."""
        return type(self)(self.summary, advice=self.advice, **{**self._safe, "retry_after": seconds})


class RefusedError(AuthorizationServerError):
    """The authorization server answered, properly, and said no (RFC 6749, section 5.2)."""


class CredentialRefusedError(RefusedError):
    """It does not accept the client's credential: ``invalid_client``, ``unauthorized_client``, a bare 401 or 403."""


class RequestRefusedError(RefusedError):
    """It does not grant what was asked: ``invalid_scope``, ``invalid_target``, ``unsupported_grant_type``, ..."""


class ThrottledError(RefusedError):
    """It asked us to come back later: 429, ``slow_down``, or 503 with ``Retry-After`` (RFC 9110, section 10.2.3)."""


class MalformedResponseError(AuthorizationServerError):
    """It answered something that is not a token response (RFC 6749, section 5.1). Nothing of it was kept."""


class UnreachableError(AuthorizationServerError):
    """It could not be reached, or did not answer, in time: name resolution, connection, TLS, time-out, 5xx."""

    fault: ClassVar[Fault] = "network"


class DiscoveryError(AuthorizationServerError):
    """Its metadata document (RFC 8414, OpenID Connect Discovery) is missing, wrong or of another issuer."""


class StoreError(AccreditError):
    """The shared store failed. It is reported as an event; a caller that asks for a token never sees it.

    Attributes:
        reason: a short, stable word for logs and metrics, such as ``"timeout"`` or ``"authentication"``.

    """

    fault: ClassVar[Fault] = "store"

    def __init__(self, summary: str, *, advice: str = "", reason: str = "failed") -> None:
        """Keep the stable ``reason`` beside the text."""
        super().__init__(summary, advice=advice, reason=reason)
        self.reason = reason


class InvalidTokenError(AccreditError):
    """The access token presented to this API is not acceptable (RFC 6750, section 3.1; RFC 9068, section 4).

    Attributes:
        reason: a short, stable word for logs and metrics, such as ``"expired"`` or ``"audience"``.

    """

    fault: ClassVar[Fault] = "token"

    def __init__(self, summary: str, *, advice: str = "", reason: str = "invalid") -> None:
        """Keep the stable ``reason`` beside the text."""
        super().__init__(summary, advice=advice, reason=reason)
        self.reason = reason
