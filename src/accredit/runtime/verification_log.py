"""The hook that logs what concerns verification under ``accredit``. No token, no claim, no secret."""

from __future__ import annotations

import logging
from collections.abc import Callable

from accredit.core.verification_events import IntrospectionFailed, KeysFailed, KeysFetched, VerificationEvent

_LOG = logging.getLogger("accredit")
_LOG.addHandler(logging.NullHandler())
_REPEAT_SECONDS = 60.0
_MOST_REMEMBERED = 1024


class VerificationLog:
    """Trouble is a warning, at most once a minute for each kind and issuer; the rest is for debugging."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Start with nothing logged; ``now`` reads a clock in seconds."""
        self._now = now
        self._last: dict[tuple[str, ...], float] = {}

    def __call__(self, event: VerificationEvent, /) -> None:
        """Log ``event``."""
        match event:
            case KeysFailed(issuer, error, serving, seconds) if self._is_due("keys", issuer):
                then = "the last good ones serve on" if serving else "no token can be verified"
                _LOG.warning("no keys of %s after %.3f s, %s: %s", issuer, seconds, then, error)
            case KeysFetched(issuer, private=private) if private and self._is_due("private", issuer):
                _LOG.warning(
                    "the JWKS of %s holds %d PRIVATE keys for all to read; tell its owner (only public parts are used)",
                    issuer,
                    private,
                )
            case IntrospectionFailed(issuer, error, seconds) if self._is_due("introspection", issuer):
                _LOG.warning("no word on a token from %s after %.3f s: %s", issuer, seconds, error)
            case _:
                if _LOG.isEnabledFor(logging.DEBUG):
                    _LOG.debug("%r", event)

    def _is_due(self, *what: str) -> bool:
        now = self._now()
        last = self._last.get(what)
        if last is not None and now < last + _REPEAT_SECONDS:
            return False
        if len(self._last) >= _MOST_REMEMBERED:
            self._last.clear()
        self._last[what] = now
        return True
