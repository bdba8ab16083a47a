"""Every check of a token by name, passed or failed, for people who want to know why it is refused.

Verifying stops at the first fault. Here what a fault stands in the way of is put right, one thing at a time, in a copy
of the claims, and the same code looks again: so each line is what verifying itself says, and none is written twice.
Never for an answer to a caller: it tells whoever forges tokens what to mend.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from accredit.core.access_token import (
    AccessTokenPolicy,
    PresentedToken,
    VerifiedToken,
    read_access_token,
    read_scope,
    validate_access_token,
    verify_presented,
)
from accredit.core.jose import ALGORITHMS, find_key
from accredit.core.jwks import KeySet
from accredit.core.profiles import ID_TOKEN_CLAIMS, PROFILES
from accredit.errors import InvalidTokenError

__all__ = ["CHECKS", "Check", "Explanation", "explain_access_token"]

#: Every check in the order in which it is shown, with what it is about.
CHECKS: Final[Mapping[str, str]] = MappingProxyType({
    "form": "a compact JWS of canonical base64url and strict JSON, not too large",
    "algorithm": "signed with an algorithm that this API accepts",
    "extensions": "demands no extension that is not understood",
    "issuer": "of the issuer that is trusted, to the byte",
    "key": "signed with a key that the issuer publishes",
    "signature": "the signature is right",
    "type": "an access token, and nothing else that this issuer signs",
    "audience": "for this API",
    "expiry": "has not expired",
    "not_before": "is valid already",
    "age": "lives no longer than this API accepts",
    "claims": "every claim that has to be there is, and is of the right kind",
    "tenant": "of the tenant of its issuer",
    "bound": "not bound to a key that its presenter would have to prove",
    "client": "of a client that may call this API",
    "scope": "what it grants can be read",
    "needed_scope": "grants the scope that is needed",
})  # fmt: skip
_OF_REASON: Final[Mapping[str, str]] = MappingProxyType({
    "algorithm": "algorithm", "critical": "extensions", "issuer": "issuer", "unknown_key": "key", "key": "key",
    "signature": "signature", "type": "type", "audience": "audience", "expired": "expiry",
    "not_yet_valid": "not_before", "too_old": "age", "tenant": "tenant", "bound": "bound", "client": "client",
    "scope": "scope",
})  # fmt: skip
_CLAIMS: Final = (
    "type", "audience", "expiry", "not_before", "age", "claims", "tenant", "bound", "client", "scope",
)  # fmt: skip
_CLAIM_AT_FAULT: Final = re.compile(r"the claim (\S+) of the token")
_MOST_FAULTS: Final = 32


class Check(NamedTuple):
    """One check.

    Attributes:
        name: one of :data:`CHECKS`.
        passed: None when it could not be made, since another failed.
        detail: why it failed; what it is about otherwise. Never a value out of the token.

    """

    name: str
    passed: bool | None
    detail: str


class Explanation(NamedTuple):
    """What verifying says, and why.

    Attributes:
        token: the verified token; None when any check failed, but for the scope that is needed.
        checks: every one of :data:`CHECKS`, in order.

    """

    token: VerifiedToken | None
    checks: tuple[Check, ...]

    @property
    def accepted(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def explain_access_token(
    token: str, keys: KeySet, policy: AccessTokenPolicy, *, now: float, needed: Collection[str] = ()
) -> Explanation:
    """Make every check of a JWT access token that can be made.

    Args:
        token: the token.
        keys: the keys of ``policy.issuer``.
        policy: what to demand.
        now: seconds since the epoch.
        needed: the scopes of which every one is needed.

    """
    failed: dict[str, str] = {}
    presented = verified = None
    try:
        presented = read_access_token(token, algorithms=ALGORITHMS)
    except InvalidTokenError as error:
        _note(failed, error, "form")
    if presented is None:
        # The form is looked at first, then the algorithm; what is behind them cannot be read.
        unknown = set(CHECKS) - {"form"} - ({"algorithm"} if "extensions" in failed else set())
        return Explanation(None, _checks(failed, unknown))
    unknown = _signed(presented, keys, policy, failed) | _claimed(presented, policy, now, failed)
    try:
        verified = verify_presented(presented, keys, policy, now=now).token
    except InvalidTokenError as error:
        _note(failed, error, "claims")
    granted = _granted(presented, policy)
    if granted is None:
        unknown.add("needed_scope")
    elif missing := [scope for scope in needed if scope not in granted]:
        failed["needed_scope"] = f"it lacks {' '.join(missing)}."
    return Explanation(verified, _checks(failed, unknown))


def _note(failed: dict[str, str], error: InvalidTokenError, otherwise: str) -> str:
    name = _OF_REASON.get(error.reason, otherwise)
    known = failed.get(name, "")
    if error.summary not in known:
        failed[name] = f"{known} {error.summary}".strip()
    return name


def _checks(failed: Mapping[str, str], unknown: Collection[str]) -> tuple[Check, ...]:
    made = []
    for name, about in CHECKS.items():
        if name in failed:
            made.append(Check(name, False, failed[name]))
        else:
            made.append(Check(name, None if name in unknown else True, f"{about}."))
    return tuple(made)


def _signed(presented: PresentedToken, keys: KeySet, policy: AccessTokenPolicy, failed: dict[str, str]) -> set[str]:
    """Look at issuer, algorithm, key and signature; return what could not be looked at."""
    if presented.algorithm not in policy.algorithms:
        failed["algorithm"] = "the algorithm of the token is not accepted."
    if presented.issuer != policy.issuer:
        failed["issuer"] = "the token is of another issuer."
    candidates = keys.select(algorithm=presented.algorithm, kid=presented.kid)
    if not candidates:
        failed["key"] = "the key that signed the token is not known."
        return {"signature"}
    try:
        find_key(presented._jws, candidates)  # noqa: SLF001 - nothing of it is believed because of this
    except InvalidTokenError as error:
        _note(failed, error, "signature")
    return set()


def _claimed(presented: PresentedToken, policy: AccessTokenPolicy, now: float, failed: dict[str, str]) -> set[str]:
    """Look at header and claims, as if they had been signed; return what could not be looked at."""
    mended = _Mended(presented, policy, now)
    for _ in range(_MOST_FAULTS):
        name = ""
        fault = ""
        try:
            validate_access_token(mended.header, mended.claims, policy, now=now)
        except InvalidTokenError as error:
            name, fault = _note(failed, error, "claims"), error.summary
        if not name:
            return set()
        if not mended.mend(name, fault):
            break
    return set(_CLAIMS) - failed.keys()


def _granted(presented: PresentedToken, policy: AccessTokenPolicy) -> tuple[str, ...] | None:
    try:
        return read_scope(presented._claims, PROFILES[policy.profile])  # noqa: SLF001 - nothing of it is believed
    except InvalidTokenError:
        return None


class _Mended:
    """Header and claims of a token, in which what was found wrong is put right."""

    def __init__(self, presented: PresentedToken, policy: AccessTokenPolicy, now: float) -> None:
        self.header: dict[str, object] = dict(presented._jws.header)  # noqa: SLF001 - a copy that is never handed out
        self.claims: dict[str, object] = {**presented._claims, "iss": policy.issuer}  # noqa: SLF001 - as above
        self._policy = policy
        self._profile = PROFILES[policy.profile]
        self._now = now

    def mend(self, name: str, fault: str) -> bool:
        """Put right what that check found; return whether anything changed."""
        before = (dict(self.header), dict(self.claims))
        match name:
            case "type":
                self._mend_type()
            case "claims":
                self._mend_claim(fault)
            case "expiry" | "not_before" | "age":
                self._mend_times(name)
            case "client":
                self._mend_client()
            case "audience" if self._policy.audience:
                self.claims["aud"] = self._policy.audience[0]
            case "audience":
                self.claims.pop("aud", None)
            case "tenant":
                self.claims[self._profile.tenant or ""] = self._tenant()
            case "bound":
                self.claims.pop("cnf", None)
            case _:  # the scope
                for each in self._profile.scope:
                    self.claims.pop(each, None)
                if self._profile.permission_required:
                    self.claims[self._profile.scope[0]] = "any"
        return (self.header, self.claims) != before

    def _mend_type(self) -> None:
        self.header = {"typ": min(self._profile.types)} if self._profile.types else {}
        for name in ID_TOKEN_CLAIMS | self._profile.foreign:
            self.claims.pop(name, None)
        for name, values in self._profile.fixed.items():
            self.claims[name] = values[0]
        for name, start in self._profile.prefixes.items():
            self.claims[name] = f"{start}any"
        names = self._audience()
        if not self._profile.audience_of_client and any(
            self.claims.get(name) in names for name in self._profile.client
        ):
            self._mend_client()

    def _mend_claim(self, fault: str) -> None:
        found = _CLAIM_AT_FAULT.search(fault)
        name = found[1] if found else ""
        if name in self._profile.client:
            self._mend_client()
        elif name == self._profile.tenant:
            self.claims[name] = self._tenant()
        elif name == "exp":
            self.claims[name] = self._now + 1
        elif name in {"iat", "nbf"}:
            self.claims[name] = self._now
        elif name:
            self.claims[name] = f"{self._profile.prefixes.get(name, '')}any"

    def _mend_times(self, name: str) -> None:
        exp, iat = self.claims["exp"], self.claims["iat"]
        life = exp - iat if isinstance(exp, int | float) and isinstance(iat, int | float) else 0
        if name == "age" or life <= 0:
            life = min(self._policy.max_token_age or 1.0, 1.0)
        # It begins now and lives as long as it did, so that its age is judged as it was.
        self.claims |= {"iat": self._now, "exp": self._now + life}
        if name == "not_before":
            self.claims.pop("nbf", None)

    def _mend_client(self) -> None:
        names = self._audience()
        allowed = next((each for each in self._policy.clients or ("another",) if each not in names), "another")
        for name in self._profile.client:
            self.claims[name] = allowed

    def _audience(self) -> list[object]:
        audience = self.claims.get("aud")
        return audience if isinstance(audience, list) else [audience]

    def _tenant(self) -> str:
        return "".join(self._policy.issuer.split("/")[3:4])
