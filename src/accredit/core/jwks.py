"""JSON Web Key Sets (RFC 7517, section 5): which keys may verify a token, and when to ask for the set again.

Decisions only: whoever fetches the document does so elsewhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from accredit.core.jose import VerificationKey, import_public_jwk, plain_name
from accredit.core.messages import Response
from accredit.core.strict import StrictError, parse_json_object
from accredit.errors import ConfigurationError, MalformedResponseError

MAX_JWKS_BYTES: Final = 512 * 1024
MAX_KEYS: Final = 100
#: Most keys tried for a token that names none of them.
MAX_CANDIDATES: Final = 4
_SECONDS: Final = r"[0-9]{1,10}"


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
        plain = plain_name(algorithm)
        fitting = [key for key in self.keys if key.algorithm == plain and (kid is None or key.kid == kid)]
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
    document: dict[str, object] = {}
    try:
        document = parse_json_object(body, max_bytes=MAX_JWKS_BYTES)
    except StrictError as error:
        fault = f"is not strict JSON: {error}"
    keys = read_jwks(document) if not fault else None
    if isinstance(keys, str):
        fault = keys
    if not isinstance(keys, KeySet):
        raise MalformedResponseError(
            f"the JWKS document {fault}.", advice="Check the jwks_uri of the authorization server.", endpoint=endpoint
        )
    return keys


def read_jwks(document: Mapping[str, object]) -> KeySet | str:
    """Return the usable keys of a parsed JWKS document, or what is wrong with it."""
    members = document.get("keys")
    if not isinstance(members, list):
        return "has no list 'keys'"
    if len(members) > MAX_KEYS:
        return f"has more than {MAX_KEYS} keys"
    keys: list[VerificationKey] = []
    for member in members:
        try:
            if isinstance(member, dict):
                keys.append(import_public_jwk(member))
        except ValueError:  # JwkError, or what this build of OpenSSL does not do
            continue
    if not keys:
        return "holds no usable key"
    return KeySet(tuple(keys), len(members) - len(keys), sum(key.had_private_part for key in keys))


def freshness(response: Response) -> float | None:
    """Return for how many seconds the server wants its answer to be kept (RFC 9111, sections 4.2.1 and 5.2.2).

    ``no-store`` and ``no-cache`` count as 0, an ``Age`` is taken off; None when nothing is said that can be understood.
    """
    wanted: float | None = None
    for directive in ",".join(response.header_values("cache-control")).split(","):
        name, _, value = directive.strip(" \t").partition("=")
        if name.lower() in {"no-store", "no-cache"}:
            return 0.0
        seconds = value.strip('"')
        if name.lower() == "max-age" and wanted is None and re.fullmatch(_SECONDS, seconds):
            wanted = float(seconds)
    age = response.header("age")
    if wanted is not None and age is not None and re.fullmatch(_SECONDS, age):
        wanted = max(wanted - float(age), 0.0)
    return wanted


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

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            ConfigurationError: a value is no number of seconds, is negative, or ``min_age`` is above ``max_age``.

        """
        for name in ("cool_down", "min_age", "max_age", "max_stale"):
            value = getattr(self, name)
            good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not good or value < 0:
                raise ConfigurationError(f"{name} is not a number of seconds.", advice="Give seconds.", key=name)
        if self.min_age > self.max_age:
            raise ConfigurationError("min_age is above max_age.", advice="Lower it.", key="min_age")

    def lifetime(self, server_max_age: float | None = None) -> float:
        """Return for how many seconds a set is kept before it is fetched again; the server counts within the limits."""
        wanted = self.min_age if server_max_age is None else server_max_age
        return min(max(wanted, self.min_age), self.max_age)

    def renewal_due(self, *, fetched_at: float, now: float, server_max_age: float | None = None) -> bool:
        """Tell whether the set should be fetched again; the server's ``max-age`` counts within the limits."""
        return now - fetched_at >= self.lifetime(server_max_age)

    def may_fetch_for_unknown_key(self, *, last_attempt: float | None, now: float) -> bool:
        """Tell whether an unknown key id may cause a fetch now (a flood of them must not become a flood of fetches)."""
        return last_attempt is None or now - last_attempt >= self.cool_down

    def usable(self, *, fetched_at: float, now: float) -> bool:
        """Tell whether a set that could not be renewed may still verify."""
        return now - fetched_at <= self.max_age + self.max_stale
