"""The fuzz targets of verification: key sets as they are fetched, tokens of every profile, introspection responses."""

from __future__ import annotations

import json
from functools import cache
from typing import Final

from accredit.core.access_token import AccessTokenPolicy, VerifiedToken, verify_access_token
from accredit.core.client_auth import ClientSecretPost
from accredit.core.introspection import Introspection, UnknownKey, parse_introspection
from accredit.core.jose import is_compact_jws
from accredit.core.jwks import MAX_KEYS, JwksPolicy, freshness, parse_jwks
from accredit.core.messages import Response
from accredit.core.profiles import PROFILES
from accredit.core.secret import Secret
from accredit.errors import AuthorizationServerError, InvalidTokenError, MalformedResponseError
from tests.fuzz.checks import CLIENT_ID, SECRET, TOKEN, check, check_printable, check_silent, filled, text_of
from tests.fuzz.inputs import WALL, key_set, response_of, signed

ENDPOINT: Final = "https://idp.example.com/oauth2/introspect"
ISSUER: Final = "https://idp.example.com"
API: Final = "https://api.example.com"


@cache
def policy_of(profile: str) -> AccessTokenPolicy:
    """Return the policy for tokens of a profile."""
    clients = ("c",) if profile == "cognito" else None
    return AccessTokenPolicy(issuer=ISSUER, audience=(API,), profile=profile, clients=clients)


def token(data: bytes) -> None:
    """The first line names a profile; then header and claims to sign, or a token. Only what obeys it is accepted."""
    name, _, rest = filled(data).partition(b"\n")
    profile = name.decode("latin-1")
    policy = policy_of(profile if profile in PROFILES else "rfc9068")
    head, newline, claims = rest.partition(b"\n")
    text = signed(head, claims) if newline else text_of(head)
    check(isinstance(is_compact_jws(text), bool), "neither true nor false")
    try:
        verified = verify_access_token(text, key_set(), policy, now=WALL)
    except InvalidTokenError as error:
        check_silent(error, TOKEN)
        check_printable(str(error))
        return
    check(bool(newline), "a token that we did not sign")
    check_verified(verified, policy)
    check(verified.client_id, "a token without a client")


def check_verified(verified: VerifiedToken, policy: AccessTokenPolicy) -> None:
    """Check what holds of every token that is accepted."""
    check(verified.issuer == ISSUER, "a token of another issuer")
    check(verified.expires_at is None or verified.expires_at > WALL - policy.leeway, "a token that has expired")
    check(not verified.audience or API in verified.audience, "a token for another API")
    check("cnf" not in verified.claims, "a bound token")
    check(all(scope and " " not in scope for scope in verified.scope), "a scope that is none")
    check(policy.clients is None or verified.client_id in policy.clients, "a client that is not allowed")


def jwks(data: bytes) -> None:
    """A key set is read within its bounds or refused; for how long it is kept is within limits too."""
    response, _ = response_of(data)
    policy = JwksPolicy()
    wanted = freshness(response)
    check(wanted is None or 0 <= wanted < 1e11, "an age out of bounds")
    check(policy.min_age <= policy.lifetime(wanted) <= policy.max_age, "a life out of bounds")
    try:
        keys = parse_jwks(response.body, endpoint=ENDPOINT)
    except MalformedResponseError as error:
        check_silent(error, TOKEN)
        check_printable(str(error))
        return
    check(0 < len(keys.keys) <= MAX_KEYS, "a number of keys out of bounds")
    for key in keys.keys:
        chosen = keys.select(algorithm=key.algorithm, kid=key.kid)
        check(0 < len(chosen) <= 4, "a number of candidates out of bounds")
        fitting = all(key.kid in {None, each.kid} and each.algorithm == key.algorithm for each in chosen)
        check(fitting, "a key of another name or algorithm")
        check(not key.verifies(b"data", b"signature"), "a signature that is none")


def introspection(data: bytes) -> None:
    """A response is a token that obeys the policy, a refusal, or an error, always as a value."""
    response, options = response_of(data)
    wants_signed = "signed" in options
    settings = Introspection(
        client_id=CLIENT_ID, client_auth=ClientSecretPost(Secret(SECRET)), signed=wants_signed,
        require_audience="audience" in options,
    )  # fmt: skip
    policy = policy_of(next((name for name in PROFILES if name in options), "rfc9068"))
    if wants_signed and b"\n" in response.body:
        head, _, claims = response.body.partition(b"\n")
        response = Response(response.status, response.headers, signed(head, claims).encode("utf-8", "replace"))
    outcome = parse_introspection(
        response, policy, settings, keys=key_set(), endpoint=ENDPOINT, now_wall=WALL,
        lenient_content_type="lenient" in options,
    )  # fmt: skip
    if isinstance(outcome, VerifiedToken):
        check(response.status == 200, "a token from an answer that is no success")
        check(json.dumps(outcome.claims.get("active")) == "true", "a token that is not active")
        check_verified(outcome, policy)
        check(outcome.audience or not settings.require_audience, "a token without the audience that is demanded")
        return
    error = outcome.error if isinstance(outcome, UnknownKey) else outcome
    check(isinstance(error, InvalidTokenError | AuthorizationServerError), "an outcome of an unknown kind")
    check(isinstance(error, InvalidTokenError) <= (response.status == 200), "a refusal without a word about the token")
    check_silent(error, TOKEN)
    check_printable(str(error))
    check(len(str(error)) < 1000, "a message without end")
