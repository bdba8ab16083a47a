"""JSON Web Key Sets (RFC 7517, section 5): which keys may verify a token, and when to ask for the set again.

Decisions only: whoever fetches the document does so elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from accredit.core.jose import VerificationKey, import_public_jwk, same_algorithm
from accredit.core.strict import StrictError, parse_json_object
from accredit.errors import MalformedResponseError

MAX_JWKS_BYTES: Final = 512 * 1024
MAX_KEYS: Final = 100
#: Most keys tried for a token that names none of them.
MAX_CANDIDATES: Final = 4


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of a JWKS document.

    Attributes:
        keys: keys for verification, in the order of the document.
        skipped: how many members were not usable (RFC 7517, section 5: they are ignored).
        private: how many members carried private material, which was not loaded; its owner should be told.

    """

    keys: tuple[VerificationKey, ...]
    skipped: int = 0
    private: int = 0

    def select(self, *, algorithm: str, kid: str | None) -> tuple[VerificationKey, ...]:
        """Return the keys that may have signed: of that algorithm, and of that ``kid`` when the token names one.

        A token without ``kid`` gets at most :data:`MAX_CANDIDATES` keys, so that it cannot buy a hundred verifications.
        """
        fitting = [key for key in self.keys if same_algorithm(key.algorithm, algorithm)]
        if kid is not None:
            fitting = [key for key in fitting if key.kid == kid]
        return tuple(fitting[:MAX_CANDIDATES])


def parse_jwks(body: bytes, *, endpoint: str | None = None) -> KeySet:
    """Read a JWKS document.

    Args:
        body: the document, at most 512 KiB and 100 members.
        endpoint: the URL it came from, for the error.

    Raises:
        MalformedResponseError: it is no JWKS, is too large, or holds no usable key. Keep the last good set then.

    """
    fault = ""
    try:
        members = parse_json_object(body, max_bytes=MAX_JWKS_BYTES).get("keys")
    except StrictError as error:
        members, fault = None, f"the JWKS document is not strict JSON: {error}"
    if not fault and not isinstance(members, list):
        fault = "the JWKS document has no list 'keys'"
    elif isinstance(members, list) and len(members) > MAX_KEYS:
        fault = f"the JWKS document has more than {MAX_KEYS} keys"
    keys: list[VerificationKey] = []
    count = 0
    if not fault and isinstance(members, list):
        count = len(members)
        for member in members:
            try:
                if isinstance(member, dict):
                    keys.append(import_public_jwk(member))
            except ValueError:  # JwkError, or what this build of OpenSSL does not do
                continue
        if not keys:
            fault = "the JWKS document holds no usable key"
    if fault:
        message = f"{fault}."
        raise MalformedResponseError(
            message, advice="Check the jwks_uri of the authorization server.", endpoint=endpoint
        )
    return KeySet(tuple(keys), count - len(keys), sum(key.had_private_part for key in keys))


@dataclass(frozen=True, slots=True)
class JwksPolicy:
    """When to fetch the set again; all values in seconds.

    Attributes:
        cool_down: least time between two fetches that unknown key ids cause.
        min_age: a set is never fetched again sooner on schedule, whatever ``max-age`` says.
        max_age: a set is fetched again after this time at the latest.
        max_stale: a set that cannot be renewed serves no longer than this.

    """

    cool_down: float = 30.0
    min_age: float = 300.0
    max_age: float = 86400.0
    max_stale: float = 86400.0

    def renewal_due(self, *, fetched_at: float, now: float, server_max_age: float | None = None) -> bool:
        """Tell whether the set should be fetched again; the server's ``max-age`` counts within the limits."""
        wanted = self.min_age if server_max_age is None else server_max_age
        return now - fetched_at >= min(max(wanted, self.min_age), self.max_age)

    def may_fetch_for_unknown_key(self, *, last_attempt: float | None, now: float) -> bool:
        """Tell whether an unknown key id may cause a fetch now (a flood of them must not become a flood of fetches)."""
        return last_attempt is None or now - last_attempt >= self.cool_down

    def usable(self, *, fetched_at: float, now: float) -> bool:
        """Tell whether a set that could not be renewed may still verify."""
        return now - fetched_at <= self.max_age + self.max_stale
