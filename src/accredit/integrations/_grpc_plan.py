"""What the interceptors of both kinds of channel decide alike: whose token a call carries, and what a refusal means."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import grpc

from accredit.core.calls import Choice
from accredit.core.token import AccessToken
from accredit.integrations._tokens import Tokens
from accredit.runtime.slot import Slot

__all__ = ["CallDetails", "Plan", "Planner", "choice_of_this_context", "choosing"]

_AUTHORIZATION = "authorization"
_CHALLENGE = "www-authenticate"

# What a caller chose for its calls, by manager; the innermost comes first.
_chosen: ContextVar[tuple[tuple[Tokens, Choice], ...]] = ContextVar("accredit_grpc_chosen", default=())


@contextmanager
def choosing(tokens: Tokens, choice: Choice) -> Iterator[None]:
    """Let the calls that begin in this context carry the token of that choice."""
    reset = _chosen.set(((tokens, choice), *_chosen.get()))
    try:
        yield
    finally:
        _chosen.reset(reset)


def choice_of_this_context(tokens: Tokens, default: Choice) -> Choice:
    """Return what was chosen for the calls of this context, else the default."""
    for owner, choice in _chosen.get():
        if owner is tokens:
            return choice
    return default


class _Fields(NamedTuple):
    method: Any
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any


class CallDetails(_Fields, grpc.ClientCallDetails):
    """The details of a call on a synchronous channel, of which gRPC only gives the interface."""


class _Masked(str):
    """A header that does not print: interceptors of others see the details of a call, and may log them."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Plan:
    """One call that carries a token: until when, to whom, and with which token.

    Attributes:
        slot: the identity whose token it is.
        origin: the origin it goes to.
        token: the token of the latest attempt.

    """

    __slots__ = ("_ends", "_tokens", "origin", "slot", "token")

    def __init__(self, tokens: Tokens, slot: Slot, origin: str, timeout: float | None) -> None:
        """Begin now; ``timeout`` is the call's own, in seconds."""
        self._tokens = tokens
        self._ends = None if timeout is None else time.monotonic() + timeout
        self.slot: Slot = slot
        self.origin: str = origin
        self.token: AccessToken | None = None

    def remaining(self) -> float | None:
        """Return the seconds that are left of the call, 0 or more; None when it has no deadline."""
        return None if self._ends is None else max(self._ends - time.monotonic(), 0.0)

    def is_over(self) -> bool:
        """Tell whether the call has no time left."""
        return self._ends is not None and time.monotonic() >= self._ends

    def metadata(self, given: Iterable[Any] | None, token: AccessToken) -> tuple[Any, ...]:
        """Return the metadata of an attempt with that token."""
        self.token = token
        return (*(given or ()), (_AUTHORIZATION, _Masked(token.authorization)))

    def is_worth_a_retry(self, metadata: Iterable[Any], *, replayable: bool, retried: bool) -> bool:
        """Deal with UNAUTHENTICATED: tell whether to send the call once more.

        Args:
            metadata: the trailing metadata.
            replayable: the request can be sent again.
            retried: it was sent again already.

        """
        token = self.token
        return token is not None and self._tokens.worth_a_retry(
            self.slot,
            token,
            _challenges(metadata),
            origin=self.origin,
            carried=True,
            replayable=replayable,
            retried=retried,
        )


class Planner:
    """Makes the plan of each call of one channel."""

    __slots__ = ("_default", "origin", "tokens")

    def __init__(self, tokens: Tokens, default: Choice, origin: str) -> None:
        """Take the manager, the choice for calls that choose nothing, and the origin of the channel."""
        self.tokens: Tokens = tokens
        self._default = default
        self.origin: str = origin

    def plan(self, details: Any) -> Plan | None:
        """Return the plan of a call; None when it is to go as it is.

        Credentials of the call's own, and an ``authorization`` of its own, win.

        Raises:
            ConfigurationError: the registration that was chosen does not exist, or a value is wrong.

        """
        own = any(str(key).lower() == _AUTHORIZATION for key, _ in details.metadata or ())
        if own or details.credentials is not None:
            return None
        slot = self.tokens.slot(choice_of_this_context(self.tokens, self._default))
        if not self.tokens.allows(slot, self.origin):
            return None
        return Plan(self.tokens, slot, self.origin, details.timeout)


def _challenges(metadata: Iterable[Any]) -> list[str]:
    return [value for key, value in metadata if key == _CHALLENGE and isinstance(value, str)]
