"""Every check that an API makes of an access token, one by one, each passed or failed with its reason. Pure.

The verdict is that of :func:`accredit.core.access_token.verify_access_token` and of the list of revoked tokens. A
single check asks the same code about one part of the token, with all other parts replaced by good ones, so that what is
shown here cannot differ from what an API does.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

from accredit.core.access_token import AccessTokenPolicy, VerifiedToken, validate_access_token, verify_access_token
from accredit.core.jose import MAX_TOKEN_BYTES, CompactJws, parse_jws, verify_jws
from accredit.core.strict import StrictError, b64url_decode, b64url_encode, parse_json_object
from accredit.devserver.core import Authority
from accredit.devserver.ledger import IssuedToken
from accredit.errors import InvalidTokenError

Result = Literal["passed", "failed", "skipped"]
_MAX_CLAIMS: Final = 16 * 1024
_MAX_DEPTH: Final = 16
_LAST_SECOND: Final = 253402300799


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: what was looked at.
        result: how it went; ``"skipped"`` when there was nothing to look at.
        detail: the reason, or what was found. It may repeat what the token says.

    """

    name: str
    result: Result
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of an examination.

    Attributes:
        accepted: whether the API would accept the token.
        reason: why not, one of the reasons of :class:`~accredit.errors.InvalidTokenError`, or ``insufficient_scope``.
        checks: every check, in the order in which an API makes them.
        header: the header, as JSON for people, when it could be read.
        claims: the claims likewise; nothing of them is true when the signature is wrong.
        issued: what the server remembers of the token.

    """

    accepted: bool
    reason: str | None
    checks: tuple[Check, ...]
    header: str | None = None
    claims: str | None = None
    issued: IssuedToken | None = field(default=None, repr=False)


def examine(
    token: str, authority: Authority, *, now: float, audience: str | None = None, scope: tuple[str, ...] = ()
) -> Verdict:
    """Examine a token as the protected API would; never raises, whatever the text is.

    Args:
        token: as somebody presents it, without scheme.
        authority: the server whose token it may be.
        now: seconds since the epoch.
        audience: the API that is asked for; None for the one of the development server, with all its audiences.
        scope: the scopes that the API demands.

    """
    policy = authority.policy()
    if audience is not None:
        policy = dataclasses.replace(policy, audience=(audience,))
    issued = authority.ledger.find(token)
    if issued is not None and issued.token_format == "opaque":  # noqa: S105 - the name of a format
        checks, shown = _opaque(issued, authority, policy, now)
    else:
        checks, shown = _jwt(token, authority, policy, now)
    reason, verified = _verdict(token, authority, policy, now)
    owner = verified or _known(issued)
    if owner is None:
        checks.append(Check("Revocation", "skipped", "The token is not known well enough to look it up."))
    elif authority.ledger.is_denied(*owner):
        checks.append(Check("Revocation", "failed", "The token, or every token of its client, was revoked."))
    else:
        checks.append(Check("Revocation", "passed", "It was not revoked."))
    granted = _granted_scope(token, issued)
    if scope:
        missing = [name for name in scope if name not in granted]
        detail = f"It lacks {' '.join(missing)}." if missing else "Every scope that is demanded was granted."
        checks.append(Check("Demanded scope", "failed" if missing else "passed", detail))
        if reason is None and missing:
            reason = "insufficient_scope"
    return Verdict(reason is None, reason, tuple(checks), *shown, issued)


def _verdict(
    token: str, authority: Authority, policy: AccessTokenPolicy, now: float
) -> tuple[str | None, tuple[str, str] | None]:
    """Return why the API refuses the token, and the id and the client of one that it verified."""
    try:
        verified: VerifiedToken | None = None
        issued = authority.ledger.find(token)
        if issued is not None and issued.token_format == "opaque":  # noqa: S105 - the name of a format
            claims = issued.claims(authority.config.issuer)
            verified = validate_access_token({"typ": "at+jwt"}, claims, policy, now=now)
        else:
            verified = verify_access_token(token, authority.key_set(), policy, now=now)
    except InvalidTokenError as error:
        return error.reason, None
    owner = verified.token_id or "", verified.client_id or ""
    return ("revoked" if authority.is_revoked(verified) else None), owner


def _known(issued: IssuedToken | None) -> tuple[str, str] | None:
    return None if issued is None else (issued.token_id, issued.client_id)


# ---- the parts of a JWT -------------------------------------------------------------------------------------


def _jwt(
    token: str, authority: Authority, policy: AccessTokenPolicy, now: float
) -> tuple[list[Check], tuple[str | None, str | None]]:
    header, payload = _segments(token)
    if header is None:
        problem = "It is not three parts of canonical base64url with dots between, or its header is not strict JSON."
        if len(token) > MAX_TOKEN_BYTES:
            problem = f"It is longer than {MAX_TOKEN_BYTES} characters."
        if authority.ledger.find(token) is None and "." not in token:
            problem = "It is no JWT, and no opaque token that this server issued."
        return [Check("Form", "failed", problem)], (None, None)
    checks = [Check("Form", "passed", "It is a compact JWS: three parts, and a header in strict JSON.")]
    algorithm = str(header.get("alg"))
    checks += [
        _ask_header({"alg": header["alg"]} if "alg" in header else {}, policy, "Algorithm", f"It is {algorithm}."),
        _ask_header(
            {"alg": policy.algorithms[0], **{name: header[name] for name in ("crit", "b64") if name in header}},
            policy,
            "Extensions",
            "It demands none.",
        ),
        _ask_claims({}, {name: header[name] for name in ("typ", "cty") if name in header}, policy, now, "Type"),
    ]
    claims = _parsed(payload)
    checks += [*_key_and_signature(token, header, authority, policy), *_claims(claims, policy, now)]
    shown = json.dumps(header, indent=2), None if claims is None else json.dumps(claims, indent=2)
    return checks, shown


def _segments(token: str) -> tuple[Mapping[str, object] | None, bytes]:
    parts = token.split(".")
    if len(token) > MAX_TOKEN_BYTES or not token.isascii() or len(parts) != 3 or not all(parts):
        return None, b""
    try:
        head, payload, _ = map(b64url_decode, parts)
        header = parse_json_object(head, max_bytes=MAX_TOKEN_BYTES, max_depth=8)
    except StrictError:
        return None, b""
    return (None, b"") if head.startswith(b"\xef\xbb\xbf") else (header, payload)


def _parsed(payload: bytes) -> Mapping[str, object] | None:
    try:
        return parse_json_object(payload, max_bytes=_MAX_CLAIMS, max_depth=_MAX_DEPTH)
    except StrictError:
        return None


def _ask_header(members: Mapping[str, object], policy: AccessTokenPolicy, name: str, good: str) -> Check:
    """Let the parser judge a token whose header has these members only."""
    token = f"{b64url_encode(json.dumps(members).encode())}.e30.AA"
    try:
        parse_jws(token, algorithms=policy.algorithms)
    except InvalidTokenError as error:
        return Check(name, "failed", _sentence(error.summary))
    return Check(name, "passed", good)


def _key_and_signature(
    token: str, header: Mapping[str, object], authority: Authority, policy: AccessTokenPolicy
) -> list[Check]:
    jws: CompactJws | None = None
    try:
        jws = parse_jws(token, algorithms=policy.algorithms)
    except InvalidTokenError:
        kid = _ask_header({"alg": policy.algorithms[0], "kid": header.get("kid", "")}, policy, "Key", "")
        later = Check("Signature", "skipped", "It is looked at only when the header is in order.")
        if kid.result == "failed":
            return [kid, later]
        return [Check("Key", "skipped", "It is chosen only when the header is in order."), later]
    candidates = authority.key_set().select(algorithm=jws.algorithm, kid=jws.kid)
    if not candidates:
        return [
            Check("Key", "failed", f"The key that signed it is not published: key id {jws.kid}."),
            Check("Signature", "skipped", "There is no key to verify it with."),
        ]
    roles = {entry.key.kid: entry.role for entry in authority.ring.entries}
    checks = [Check("Key", "passed", f"It is published ({roles.get(jws.kid, 'found by trying')}): key id {jws.kid}.")]
    try:
        verify_jws(jws, candidates)
    except InvalidTokenError as error:
        return [*checks, Check("Signature", "failed", _sentence(error.summary))]
    return [*checks, Check("Signature", "passed", "The key verifies it.")]


def _claims(claims: Mapping[str, object] | None, policy: AccessTokenPolicy, now: float) -> list[Check]:
    if claims is None:
        return [Check("Claims", "failed", "They are not a strict JSON object.")]
    checks = [Check("Claims", "passed", "They are a strict JSON object.")]
    for name, parts in (
        ("Issuer", ("iss",)),
        ("Audience", ("aud",)),
        ("Expiry", ("exp",)),
        ("Not before", ("iat", "nbf")),
        ("Subject, client and id", ("sub", "client_id", "jti")),
        ("Scope", ("scope",)),
        ("Binding", ("cnf",)),
    ):
        given = {part: claims.get(part) for part in parts}
        present = {part: value for part, value in given.items() if part in claims}
        checks.append(_ask_claims(present, {"typ": "at+jwt"}, policy, now, name, tuple(given)))
    return checks


def _ask_claims(
    claims: Mapping[str, object],
    header: Mapping[str, object],
    policy: AccessTokenPolicy,
    now: float,
    name: str,
    looked_at: tuple[str, ...] = (),
) -> Check:
    """Let the verifier judge a token that is good but for these claims and this header."""
    # Never negative, whatever the clock of the server says: these are to be beyond doubt.
    good: dict[str, object] = {
        "iss": policy.issuer, "aud": policy.audience[0], "sub": "-", "client_id": "-", "jti": "-",
        "iat": max(now - 1, 0.0), "exp": min(max(now, 0.0) + 60, float(_LAST_SECOND)),
    }  # fmt: skip
    for part in looked_at:
        good.pop(part, None)
    try:
        validate_access_token(header, {**good, **claims}, policy, now=now)
    except InvalidTokenError as error:
        return Check(name, "failed", f"{_sentence(error.summary)}{_found(claims, now)}")
    return Check(name, "passed", _found(claims, now).strip() or ("It is at+jwt." if header and not claims else "None."))


def _opaque(
    issued: IssuedToken, authority: Authority, policy: AccessTokenPolicy, now: float
) -> tuple[list[Check], tuple[str | None, str | None]]:
    claims = issued.claims(authority.config.issuer)
    known = Check("Form", "passed", "It is an opaque token that this server issued; introspection knows these claims.")
    return [known, *_claims(claims, policy, now)], (None, json.dumps(claims, indent=2))


def _granted_scope(token: str, issued: IssuedToken | None) -> tuple[str, ...]:
    if issued is not None:
        return issued.scope
    claims = _parsed(_segments(token)[1]) or {}
    text = claims.get("scope")
    return tuple(text.split(" ")) if isinstance(text, str) else ()


# ---- words --------------------------------------------------------------------------------------------------


def _sentence(summary: str) -> str:
    return summary[:1].upper() + summary[1:]


def _found(claims: Mapping[str, object], now: float) -> str:
    """Return what the claims say, as the tail of a sentence."""
    words = []
    for name, value in claims.items():
        if name in {"exp", "iat", "nbf"} and _is_time(value):
            words.append(f"{name} is {clock_time(float(str(value)))}, {distance(float(str(value)) - now)}")
        else:
            text = json.dumps(value, ensure_ascii=False)
            words.append(f"{name} is {text if len(text) <= 200 else text[:200] + '…'}")
    return f" {'; '.join(words)}." if words else ""


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LAST_SECOND


def clock_time(seconds: float) -> str:
    """Return a time for people: seconds since the epoch, shown in UTC."""
    bounded = min(max(seconds, 0.0), float(_LAST_SECOND))
    return datetime.fromtimestamp(bounded, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def distance(seconds: float) -> str:
    """Return how far away a time is, for people: ``in 59 min 30 s``, ``2 h ago``."""
    size = abs(round(seconds))
    days, hours, minutes = size // 86400, size // 3600 % 24, size // 60 % 60
    pieces = [(days, "d"), (hours, "h"), (minutes, "min"), (size % 60, "s")]
    first = next((number for number, (amount, _) in enumerate(pieces) if amount), 3)
    text = " ".join(f"{amount} {unit}" for amount, unit in pieces[first : first + 2] if amount) or "0 s"
    return f"in {text}" if seconds >= 0 else f"{text} ago"
