"""What all guards share: the verifier, how to speak to callers, and the one way in for both kinds of code."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from accredit.core.guarding import GuardPolicy, Refusal, RequiredScope
from accredit.core.protected_resource import ResourceMetadata
from accredit.errors import AccreditError, ConfigurationError

__all__ = ["TOKEN", "AsyncVerifier", "Guard", "Verified", "Verifier"]

#: Where guards leave the verified token: in the scope of ASGI, in the environment of WSGI.
TOKEN: Final = "accredit.token"  # noqa: S105 - a name, no token
_log = logging.getLogger("accredit.resource_server")
T = TypeVar("T")


class Verified(Protocol):
    """What a guard needs of a verified token; :class:`accredit.core.access_token.VerifiedToken` is one."""

    @property
    def subject(self) -> str | None:
        """Whom the token is about, if it says so."""

    @property
    def client_id(self) -> str | None:
        """Which client it was issued to, if it says so."""

    @property
    def scope(self) -> tuple[str, ...]:
        """The granted scopes."""

    @property
    def claims(self) -> Mapping[str, object]:
        """All claims."""


@runtime_checkable
class Verifier(Protocol):
    """Verifies tokens for code that blocks; :class:`accredit.verifier.TokenVerifier` is one."""

    def verify(self, token: str, /) -> Any:
        """Return the verified token (see :class:`Verified`).

        Raises:
            InvalidTokenError: the token is not acceptable: the caller gets 401.
            AccreditError: it could not be checked, for any other reason: the caller gets 503.

        """


@runtime_checkable
class AsyncVerifier(Protocol):
    """Verifies tokens for asynchronous code; :class:`accredit.verifier.AsyncTokenVerifier` is one."""

    async def verify(self, token: str, /) -> Any:
        """Return the verified token; raises as :meth:`Verifier.verify`."""


class Guard:
    """Decides about requests by their ``Authorization`` fields.

    Args:
        verifier: a verifier of either kind. Of a :class:`accredit.verifier.TokenVerifier` and its asynchronous face,
            either will do everywhere; any other verifier must be of the kind that the application calls.
        realm: names the protected space in challenges; printable ASCII.
        metadata: what the API publishes about itself (RFC 9728): challenges name the document, and guards that stand
            before an application serve it.
        resource_metadata: the URL of that document where something else serves it.
        retry_after: seconds for ``Retry-After`` when tokens cannot be checked and nothing better is known.
        on_refusal: called with every refusal, for metrics; what it raises is logged and goes no further.

    Raises:
        ConfigurationError: naming the argument at fault.

    """

    def __init__(
        self,
        verifier: Verifier | AsyncVerifier,
        *,
        realm: str = "api",
        metadata: ResourceMetadata | None = None,
        resource_metadata: str | None = None,
        retry_after: float = 10.0,
        on_refusal: Callable[[Refusal], object] | None = None,
    ) -> None:
        """Keep what requests are judged by."""
        if metadata is not None and resource_metadata is not None:
            raise ConfigurationError(
                "metadata and resource_metadata were both given.",
                advice="Give the document, or the URL of one that something else serves.",
                key="resource_metadata",
            )
        if metadata is not None and not isinstance(metadata, ResourceMetadata):
            raise ConfigurationError("it is no ResourceMetadata.", advice="Give one, or leave it out.", key="metadata")
        if on_refusal is not None and not callable(on_refusal):
            raise ConfigurationError("it cannot be called.", advice="Give a function.", key="on_refusal")
        self.metadata: ResourceMetadata | None = metadata
        self.policy: GuardPolicy = GuardPolicy(
            realm=realm,
            resource_metadata=resource_metadata if metadata is None else metadata.url,
            retry_after=retry_after,
        )
        self._verify = _face(verifier, "synchronous", asynchronous=False)
        self._verify_async = _face(verifier, "asynchronous", asynchronous=True)
        if self._verify is None and self._verify_async is None:
            raise ConfigurationError(
                "it is no verifier.", advice="Give an accredit.verifier.TokenVerifier.", key="verifier"
            )
        self._on_refusal = on_refusal

    def __repr__(self) -> str:
        """Show the realm."""
        return f"<{type(self).__name__} of the realm {self.policy.realm!r}>"

    def authenticate(self, fields: Sequence[str | bytes], needed: RequiredScope) -> Any | Refusal:
        """Return the verified token of a request, whatever its scope, or a refusal; for code that blocks.

        Args:
            fields: the value of every ``Authorization`` field.
            needed: the scope to name in a challenge.

        Raises:
            ConfigurationError: the verifier is for asynchronous code only.

        """
        verify = _need(self._verify, "synchronous")
        token = self.policy.read(fields, needed)
        if isinstance(token, Refusal):
            return self.refused(token)
        try:
            return verify(token)
        except AccreditError as error:
            return self.refused(self.policy.refuse(error, needed))

    def admit(self, fields: Sequence[str | bytes], needed: RequiredScope) -> Any | Refusal:
        """Return the verified token of a request, or the refusal to answer it with; for code that blocks.

        Args:
            fields: the value of every ``Authorization`` field.
            needed: the scope that the request needs.

        Raises:
            ConfigurationError: the verifier is for asynchronous code only.

        """
        return self.judge(self.authenticate(fields, needed), needed)

    async def admit_async(self, fields: Sequence[str | bytes], needed: RequiredScope) -> Any | Refusal:
        """Do the same in asynchronous code.

        Raises:
            ConfigurationError: the verifier is for code that blocks only: it would stop the event loop.

        """
        verify = _need(self._verify_async, "asynchronous")
        token = self.policy.read(fields, needed)
        if isinstance(token, Refusal):
            return self.refused(token)
        try:
            verified = await verify(token)
        except AccreditError as error:
            return self.refused(self.policy.refuse(error, needed))
        return self.judge(verified, needed)

    def judge(self, admitted: Any | Refusal, needed: RequiredScope) -> Any | Refusal:
        """Return the token if its scope suffices, or the refusal; a refusal stays what it is."""
        if isinstance(admitted, Refusal):
            return admitted
        refusal = self.policy.judge(admitted.scope, needed)
        return admitted if refusal is None else self.refused(refusal)

    def refused(self, refusal: Refusal) -> Refusal:
        """Report a refusal, and return it."""
        # 503 is ours to mend, everything else is the daily business of an API.
        level = logging.WARNING if refusal.status >= 500 else logging.INFO
        _log.log(level, "refused a request: %d %s (%s)", refusal.status, refusal.error or "no token", refusal.reason)
        if self._on_refusal is not None:
            try:
                self._on_refusal(refusal)
            except Exception as error:
                _log.warning("the on_refusal hook of a guard raised %s", type(error).__name__)
        return refusal


def _face(verifier: Any, other: str, *, asynchronous: bool) -> Callable[[str], Any] | None:
    """Return how to verify in that kind of code; None if the verifier cannot."""
    if inspect.isclass(verifier):
        return None
    change = getattr(verifier, other, None)
    face = verifier if change is None else change()
    verify = getattr(face, "verify", None)
    if not callable(verify) or inspect.iscoroutinefunction(verify) is not asynchronous:
        return None
    return verify  # type: ignore[no-any-return]  # what a verifier of anybody has under that name


def _need(verify: Callable[[str], T] | None, kind: str) -> Callable[[str], T]:
    if verify is None:
        raise ConfigurationError(
            f"this application needs a verifier for {kind} code.",
            advice="Give an accredit.verifier.TokenVerifier, which has both faces.",
            key="verifier",
        )
    return verify
