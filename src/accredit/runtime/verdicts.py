"""Verified tokens, kept by the digest of their text: bounded, and no longer than what vouches for them."""

from __future__ import annotations

import math
from itertools import islice
from typing import TypeVar

from accredit.core.access_token import VerifiedToken
from accredit.core.jose import KeyId
from accredit.runtime.trusted import Trusted

T = TypeVar("T")
_BATCHES = 64


class Verdict:
    """A token that was verified.

    Attributes:
        token: the token.
        until: local time; from then on it is looked at again.
        ends: seconds since the epoch; the end of its life, leeway included.
        trusted: whose it is.
        key: the id of the key that verified it; None when the authorization server alone vouches for it.
        asked_at: local time at which the authorization server called it active; None if it was not asked.

    """

    __slots__ = ("asked_at", "ends", "key", "token", "trusted", "until")

    def __init__(
        self,
        token: VerifiedToken,
        trusted: Trusted,
        key: KeyId | None,
        *,
        until: float,
        expires_at: float | None,
        asked_at: float | None = None,
    ) -> None:
        """Keep all of it; ``expires_at`` is in seconds since the epoch, None when nobody knows."""
        self.token: VerifiedToken = token
        self.trusted: Trusted = trusted
        self.key: KeyId | None = key
        self.until: float = until
        self.ends: float = math.inf if expires_at is None else expires_at + trusted.trust.policy.leeway
        self.asked_at: float | None = asked_at


class Verdicts:
    """The verdicts of one verifier. Looked up without the lock, changed under it.

    Attributes:
        known: every verdict under the SHA-256 of its token.

    """

    def __init__(self, most: int) -> None:
        """Keep at most that many."""
        self.known: dict[bytes, Verdict] = {}
        self._most = most

    def keep(self, digest: bytes, verdict: Verdict) -> None:
        """Keep a verdict, unless its key was withdrawn meanwhile."""
        if verdict.key is None or verdict.key in verdict.trusted.key_ids:
            make_room(self.known, self._most)
            self.known[digest] = verdict

    def forget(self, digest: bytes) -> None:
        """Forget one token."""
        self.known.pop(digest, None)

    def withdraw(self, trusted: Trusted, gone: frozenset[KeyId]) -> None:
        """Forget what keys that are gone have verified."""
        stale = [digest for digest, each in self.known.items() if each.trusted is trusted and each.key in gone]
        for digest in stale:
            del self.known[digest]


def make_room(entries: dict[bytes, T], most: int) -> None:
    """Let a batch of the oldest entries go when there are as many as there may be."""
    if len(entries) >= most:
        for digest in list(islice(entries, 1 + most // _BATCHES)):
            del entries[digest]
