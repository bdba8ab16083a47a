"""Ends of a call that no server had a part in: no token, cancelled while waiting for one, out of time."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

import grpc
from grpc.aio import AioRpcError, Metadata

from accredit.errors import AccreditError, ConfigurationError, CredentialRefusedError, RequestRefusedError

__all__ = ["LocalOutcome", "NoTokenError", "code_of", "deadline_exceeded", "locally_cancelled"]

# What waiting or asking again does not mend. Everything else may pass, and gRPC's own retry policies know that by
# the code.
_LASTING = (ConfigurationError, CredentialRefusedError, RequestRefusedError)


if TYPE_CHECKING:
    _Future = grpc.Future[Any]
else:
    _Future = grpc.Future  # generic in the stubs alone


class LocalOutcome(AioRpcError, grpc.Call, _Future):  # type: ignore[misc]  # noqa: N818 - an end, if not always an error
    """The end of a call, as an error that ``grpc`` and ``grpc.aio`` raise alike, and as a call that is over."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[Any, ...] = ()) -> None:
        """Keep the code, the text, and the metadata if there is any."""
        super().__init__(code, Metadata(), Metadata(*trailing_metadata), details, details)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as plain data."""
        return (LocalOutcome, (self.code(), self.details(), tuple(self.trailing_metadata() or ())))

    # -- grpc.Call --------------------------------------------------------------------------------------------

    def is_active(self) -> bool:
        """Return False: it is over."""
        return False

    def time_remaining(self) -> float | None:  # type: ignore[override]  # the stub forgets None, which gRPC documents
        """Return None: there is nothing to wait for."""
        return None

    def cancel(self) -> bool:
        """Return False: it is over."""
        return False

    def add_callback(self, callback: Callable[[], None]) -> bool:  # noqa: ARG002 - it is over
        """Return False: it is over, and the callback will not be called."""
        return False

    # -- grpc.Future ------------------------------------------------------------------------------------------

    def cancelled(self) -> bool:
        """Tell whether it was the caller who ended it."""
        return self.code() is grpc.StatusCode.CANCELLED

    def running(self) -> bool:
        """Return False: it is over."""
        return False

    def done(self) -> bool:
        """Return True."""
        return True

    def result(self, timeout: float | None = None) -> NoReturn:  # noqa: ARG002 - it is over
        """Raise itself, or FutureCancelledError as gRPC does."""
        if self.cancelled():
            raise grpc.FutureCancelledError
        raise self

    def exception(self, timeout: float | None = None) -> Self:  # noqa: ARG002 - it is over
        """Return itself, or raise FutureCancelledError as gRPC does."""
        if self.cancelled():
            raise grpc.FutureCancelledError
        return self

    def traceback(self, timeout: float | None = None) -> TracebackType | None:  # noqa: ARG002 - it is over
        """Return the traceback, if it was raised."""
        return self.__traceback__

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call ``fn`` with itself at once."""
        fn(self)

    # -- a stream of responses --------------------------------------------------------------------------------

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> NoReturn:
        """Raise itself."""
        raise self


class NoTokenError(LocalOutcome):
    """No token could be had, and the call was not sent. An error of ``grpc`` and of ``grpc.aio``.

    ``code()`` is UNAUTHENTICATED when the credential, the request or the configuration is at fault, and UNAVAILABLE
    when the authorization server is, which may pass. ``details()`` is the text of ``error``.

    Attributes:
        error: the typed error, as :meth:`accredit.TokenManager.get` raises it.

    """

    def __init__(self, error: AccreditError) -> None:
        """Keep the error; it holds no secret."""
        super().__init__(code_of(error), str(error))
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the typed error."""
        return (type(self), (self.error,))


def code_of(error: AccreditError) -> grpc.StatusCode:
    """Return the status code of a call for which no token could be had."""
    return grpc.StatusCode.UNAUTHENTICATED if isinstance(error, _LASTING) else grpc.StatusCode.UNAVAILABLE


def deadline_exceeded() -> LocalOutcome:
    """Return the end of a call whose time ran out while it waited for a token."""
    return LocalOutcome(
        grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline exceeded while waiting for an access token (accredit)"
    )


def locally_cancelled() -> LocalOutcome:
    """Return the end of a call that was cancelled while it waited for a token."""
    return LocalOutcome(grpc.StatusCode.CANCELLED, "Cancelled while waiting for an access token (accredit)")
