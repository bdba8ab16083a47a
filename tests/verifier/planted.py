"""Planted faults: each takes one check of the verifier away, and names a test that must fail then.

``python -m tests.verifier.planted`` reads numbers from its input, one a line, and answers each with the exit code of
pytest for the tests of that fault; ``-1`` runs the tests of all faults without any fault, which must pass. A fault that
cannot be planted, since the text it replaces is not there any more, is an error: the list is to be kept in step.
"""

# ruff: noqa: E501 - a table whose lines are the texts that they replace
from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "accredit"


class Fault(NamedTuple):
    """One change of a file of the library, and the tests that must notice it."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def module(self) -> str:
        return "accredit." + self.file.removesuffix(".py").replace("/", ".")

    def source(self) -> str:
        text = (SOURCE / self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise LookupError(f"{text.count(self.old)} times in {self.file}: {self.old}")
        return text.replace(self.old, self.new)


ACCESS = "tests/core/test_access_token.py"
JOSE = "tests/core/test_jose.py"
JWK = "tests/core/test_jwk.py"
KEYS = "tests/verifier/test_keys.py"
PROFILES = "tests/verifier/test_profiles.py"
QUESTIONS = "tests/verifier/test_introspection.py"
SIGNED = "tests/verifier/test_signed_introspection.py"
VERDICTS = "tests/verifier/test_verdicts.py"
FACES = "tests/verifier/test_faces.py"
PRESENTED = "tests/bad_inputs/test_presented.py"
PUBLISHED = "tests/bad_inputs/test_published_keys.py"


def no(condition: str) -> tuple[str, str]:
    """Return the change that lets a condition never hold."""
    return f"if {condition}:", "if False:"


def fault(file: str, change: tuple[str, str], *tests: str) -> Fault:
    return Fault(file, *change, tests)


_A, _J, _K, _S, _I = "core/access_token.py", "core/jose.py", "core/jwk.py", "core/jwks.py", "core/introspection.py"
_T, _V = "core/trust.py", "core/verification.py"
_R, _Q, _D, _U, _E = (f"runtime/{name}.py" for name in ("keyring", "questions", "verdicts", "trusted", "verification"))
_F = "verifier.py"
_ONE = f"{PROFILES}::test_one_mark_at_a_time"
_POLICY = f"{ACCESS}::test_policy_without_a_needed_check"
_NO_ANSWER = f"{QUESTIONS}::TestAnswers::test_no_answer_is_never_the_fault_of_the_token"
_REFUSED = f"{QUESTIONS}::TestAnswers::test_refused"
_SIGNED = f"{SIGNED}::TestSigned::test_refused"
_TRUST = f"{PROFILES}::TestConstruction::test_what_makes_no_sense"

FAULTS: Sequence[Fault] = (
    # What a policy must say.
    fault(_A, no("not isinstance(self.issuer, str) or not self.issuer"), _POLICY),
    fault(
        _A,
        ("not self.audience and (profile.audience_required or self.clients is None)", "False"),
        _POLICY,
    ),
    fault(_A, ("if not _are_texts(self.audience) or (", "if ("), _POLICY),
    fault(_A, ("or not set(self.algorithms) <= ALGORITHMS", ""), _POLICY),
    fault(_A, ("or not self.algorithms or", "or"), _POLICY),
    fault(_A, ("0 <= self.leeway <= MAX_LEEWAY or", "True or"), _POLICY),
    fault(_A, ("and math.isfinite(self.max_token_age) and self.max_token_age > 0", ""), _POLICY),
    fault(_A, no("self.clients is not None and (not self.clients or not _are_texts(self.clients))"), _TRUST),
    fault(_A, no("not profile.audience_required and self.clients is None"),
          f"{PROFILES}::TestConstruction::test_cognito_needs_clients_in_place_of_an_audience"),
    fault(_A, no('self.accept_typ_jwt and self.profile != "rfc9068"'), _TRUST),
    # Whose token it is, and who signed it.
    fault(_A, no("presented.issuer != policy.issuer"), f"{ACCESS}::test_whose_token_it_is_comes_before_its_key"),
    fault(
        _A,
        no("presented.algorithm not in policy.algorithms"),
        f"{VERDICTS}::TestSeveralIssuers::test_each_has_its_own_demands",
    ),
    fault(_A, no("not candidates"), f"{KEYS}::TestUnknownKeys::test_a_new_key_is_found_at_once"),
    fault(
        _A,
        ("key = find_key(presented._jws, candidates)", "key = candidates[0]"),
        f"{ACCESS}::TestWholeTokens::test_key_of_another",
    ),
    # The kind of token.
    fault(_A, no('not (name in profile.types or plain) or "cty" in header'), f"{ACCESS}::TestType::test_refused"),
    fault(_A, ('if not (name in profile.types or plain) or "cty" in header:', "if not (name in profile.types or plain):"),
          f"{ACCESS}::TestType::test_nested"),
    fault(_A, ('kind == "at+jwt" and "cty" not in header and', 'kind == "at+jwt" and'), f"{ACCESS}::TestType::test_nested"),
    fault(_A, (' and "at+jwt" in profile.types:', ":"), f"{PROFILES}::test_a_jwt_of_rfc_9068_where_none_is_issued"),
    fault(_A, no("not (partial and name not in claims) and not any(\n            type(value) is type(each) and value == each for each in values\n        )"), _ONE),
    fault(_A, ("type(value) is type(each) and value == each", "value == each"), _ONE),
    fault(_A, no("not (partial and name not in claims) and not (isinstance(value, str) and value.startswith(start))"), _ONE),
    fault(_A, no("foreign and not foreign.isdisjoint(claims)"), f"{PROFILES}::test_what_only_id_tokens_carry"),
    fault(_A, ("ID_TOKEN_CLAIMS if policy.accept_typ_jwt else profile.foreign", "profile.foreign"),
          f"{PRESENTED}::test_a_jwt_of_another_kind"),
    fault(_A, no('not isinstance(tenant, str) or tenant not in policy.issuer.split("/")[3:]'), _ONE),
    fault(_A, ('policy.issuer.split("/")[3:]', 'policy.issuer.split("/")'), _ONE),
    fault(_A, no('"cnf" in claims and not policy.accept_bound_tokens'), f"{PROFILES}::test_the_rules_that_all_have"),
    fault(_A, no("client_id in audience and not profile.audience_of_client"), _ONE),
    fault(_A, no("profile.permission_required and not scope and policy.clients is None"), _ONE),
    # Claims.
    fault(_A, no("nested"), f"{ACCESS}::test_no_request_can_change_the_claims_that_the_next_one_is_given"),
    fault(_A, no('claims.get("iss") != policy.issuer'), f"{ACCESS}::test_other_issuer"),
    fault(_A, no("not any(name in policy.audience for name in audience)"), f"{ACCESS}::TestAudience::test_refused"),
    fault(_A, (" or len(value) > _MAX_AUDIENCES", ""), f"{ACCESS}::TestAudience::test_refused"),
    fault(_A, (" or not all(isinstance(name, str) for name in value)", ""), f"{ACCESS}::TestAudience::test_refused"),
    fault(_A, no("expires_at is not None and not now < expires_at + policy.leeway"), f"{ACCESS}::TestTimes::test_expired"),
    fault(_A, ("not now < expires_at + policy.leeway", "not now <= expires_at + policy.leeway"), f"{ACCESS}::TestTimes::test_expired"),
    fault(_A, no("max(not_before, issued_at or 0.0) > now + policy.leeway"), f"{ACCESS}::TestTimes::test_ahead"),
    fault(_A, ("max(not_before, issued_at or 0.0)", "not_before"), f"{ACCESS}::TestTimes::test_ahead"),
    fault(_A, ("max(not_before, issued_at or 0.0)", "(issued_at or 0.0)"), f"{ACCESS}::TestTimes::test_ahead"),
    fault(_A, no("expires_at - issued_at > policy.max_token_age"), f"{ACCESS}::TestTimes::test_longest_age"),
    fault(_A, ("isinstance(value, bool) or not isinstance(value, int | float) or", "not isinstance(value, int | float) or"),
          f"{ACCESS}::TestTimes::test_not_a_time"),
    fault(_A, (" or not 0 <= value <= LAST_SECOND", ""), f"{ACCESS}::TestTimes::test_not_a_time"),
    fault(_A, ('_time(claims, "iat") if required or', '_time(claims, "iat") if'), f"{ACCESS}::TestTimes::test_required"),
    fault(_A, ("        _text(claims, name)\n    check_kind", "        pass\n    check_kind"), f"{ACCESS}::test_required_texts"),
    fault(_A, ('if not isinstance(value, str) or not value:\n        _deny(f"the claim {name} of the token is missing or not a string"',
               'if not isinstance(value, str):\n        _deny(f"the claim {name} of the token is missing or not a string"'),
          f"{ACCESS}::test_required_texts"),
    fault(_A, no("client_id is not None and found != client_id"), _ONE),
    fault(_A, no("policy.clients is not None and client_id not in policy.clients"), f"{PROFILES}::test_the_rules_that_all_have"),
    fault(_A, no("client_id is None"), _ONE),
    fault(_A, ("check_scope_token(_scope_text(each))", "_scope_text(each)"), f"{ACCESS}::TestScope::test_malformed"),
    fault(_A, (" and len(value) <= _MAX_SCOPES:", ":"), f"{ACCESS}::TestScope::test_malformed"),
    fault(_A, ("max_bytes=_MAX_PAYLOAD, max_depth=_MAX_DEPTH", "max_bytes=_MAX_PAYLOAD, max_depth=10**6"),
          f"{ACCESS}::test_claims_too_deep"),
    # The form of a token.
    fault(_J, no("len(token) > max_bytes"), f"{JOSE}::TestForm::test_size_is_checked_first"),
    fault(_J, ('if not token.isascii() or token.count(".") != 2:\n        _deny', "if not token.isascii():\n        _deny"), f"{JOSE}::TestForm::test_segments"),
    fault(_J, no("not (head and body and tail)"), f"{JOSE}::TestForm::test_segments"),
    fault(_J, no('raw.startswith(b"\\xef\\xbb\\xbf")'), f"{JOSE}::TestForm::test_header"),
    fault(_J, ("max_depth=_MAX_HEADER_DEPTH", "max_depth=32"), f"{PRESENTED}::test_a_header_that_is_not_strict_json"),
    fault(_J, (" or algorithm not in algorithms:", ":"), f"{JOSE}::TestAlgorithm::test_not_listed"),
    fault(_J, (" or algorithm not in ALGORITHMS or", " or"), f"{JOSE}::TestAlgorithm::test_a_list_that_names_none"),
    fault(_J, ('"crit" in header or', ""), f"{JOSE}::TestAlgorithm::test_extensions"),
    fault(_J, (' or header.get("b64", True) is not True:', ":"), f"{JOSE}::TestAlgorithm::test_extensions"),
    fault(_J, (" or len(kid) > MAX_KID_LENGTH:", ":"), f"{PRESENTED}::test_key_ids_that_are_more_than_ids"),
    fault(_J, ("if not isinstance(kid, str) or len", "if isinstance(kid, str) and len"), f"{PRESENTED}::test_key_ids_that_are_more_than_ids"),
    fault(_J, ("[key for key in keys if key.algorithm == plain]", "list(keys)"), f"{JOSE}::TestAlgorithm::test_key_has_one_algorithm"),
    fault("core/strict.py", ("if not raw or raw[-1] in last:", "if True:"), f"{PRESENTED}::test_bits_that_are_left_over"),
    fault("core/strict.py", ("padding, strict_mode=True)", "padding)"), f"{PRESENTED}::test_characters_that_are_not_base64url"),
    fault("core/strict.py", no("len(members) != len(pairs)"), f"{PRESENTED}::test_a_header_that_is_not_strict_json"),
    # Signatures and keys.
    fault(_K, ("len(signature) != 2 * size or r == 0 or s == 0", "r == 0 or s == 0"), f"{JOSE}::TestSignature::test_lengths_by_ourselves"),
    fault(_K, ("len(signature) != 2 * size or r == 0 or s == 0", "len(signature) != 2 * size or s == 0"), f"{JOSE}::TestSignature::test_zeros_by_ourselves"),
    fault(_K, ("len(signature) != 2 * size or r == 0 or s == 0", "len(signature) != 2 * size or r == 0"), f"{JOSE}::TestSignature::test_zeros_by_ourselves"),
    fault(_K, no("len(signature) != (public.key_size + 7) // 8"), f"{JOSE}::TestSignature::test_lengths_by_ourselves"),
    fault(_K, no("n.bit_length() not in _RSA_BITS"), f"{JWK}::TestPublicKeys::test_refused"),
    fault(_K, ("n % 2 == 0 or e not in _RSA_EXPONENTS", "n % 2 == 0"), f"{JWK}::TestPublicKeys::test_refused"),
    fault(_K, ("n % 2 == 0 or e not in _RSA_EXPONENTS", "e not in _RSA_EXPONENTS"), f"{JWK}::TestPublicKeys::test_refused"),
    fault(_K, no("_is_roca(n)"), f"{JWK}::TestPublicKeys::test_weak_generator"),
    fault(_K, no("y >= _ED25519_P or y in _ED25519_WEAK"), f"{JWK}::TestPublicKeys::test_refused"),
    fault(_K, no("algorithm not in possible"), f"{JWK}::TestPublicKeys::test_refused"),
    fault(_K, no('_text_or_none(members, "use") not in {None, "sig"}'), f"{JWK}::TestPublicKeys::test_refused"),
    fault(_K, ('isinstance(operations, list) and ("verify" in operations or (private and "sign" in operations))', "True"), f"{JWK}::TestPublicKeys::test_refused"),
    fault(_K, no("length is not None and len(octets) != length"), f"{JWK}::TestPublicKeys::test_refused"),
    fault(_K, no("length is None and octets[0] == 0"), f"{JWK}::TestPublicKeys::test_refused"),
    fault(_S, (" and (kid is None or key.kid == kid)", ""), f"{KEYS}::TestUnknownKeys::test_one_fetch_for_a_flood_of_unknown_keys"),
    fault(_S, ("key.algorithm == plain and", "True and"), f"{JWK}::TestKeySets::test_select"),
    fault(_S, ("fitting[:MAX_CANDIDATES]", "fitting"), f"{PRESENTED}::test_no_key_id"),
    fault(_S, no("len(members) > MAX_KEYS"), f"{PUBLISHED}::test_a_key_set_too_large"),
    fault(_S, no("not keys"), f"{PUBLISHED}::test_a_key_set_that_is_none"),
    fault(_S, ("max_bytes=MAX_JWKS_BYTES", "max_bytes=10**9"), f"{PUBLISHED}::test_a_key_set_too_large"),
    fault(_S, ("min(max(wanted, self.min_age), self.max_age)", "min(wanted, self.max_age)"), f"{JWK}::TestKeySets::test_ages"),
    fault(_S, ("min(max(wanted, self.min_age), self.max_age)", "max(wanted, self.min_age)"), f"{JWK}::TestKeySets::test_ages"),
    # Where keys come from.
    fault(_T, ('for name in ("jwks_uri", "metadata_url"):\n            text', 'for name in ("metadata_url",):\n            text'), _TRUST),
    fault(_V, ("    if status != 200:\n        redirect", "    if False:\n        redirect"), f"{PUBLISHED}::test_a_redirect_of_a_key_set"),
    fault(_V, ("if not trust.lenient_content_type and not is_json_media_type", "if False and not is_json_media_type"), f"{PUBLISHED}::test_media_types_of_a_key_set"),
    # When they are fetched, and how long they serve.
    fault(_R, ("serves = trusted.serves(now)", "serves = True"), f"{KEYS}::TestRenewal::test_after_too_long_an_outage_nothing_is_vouched_for"),
    fault(_R, ("trusted.flight is None and now >=", "now >="), f"{FACES}::test_threads_two_loops_and_trio_share_one_fetch"),
    fault(_R, ("now >= max(trusted.retry_at, trusted.renew_at)", "now >= trusted.renew_at"), f"{KEYS}::TestTrouble::test_no_keys_is_never_the_fault_of_the_token"),
    fault(_R, no("rest > 0"), f"{KEYS}::TestUnknownKeys::test_one_fetch_for_a_flood_of_unknown_keys"),
    fault(_R, ("return denied if trusted.error is None else held_back(trusted.error, rest)", "return denied"), f"{KEYS}::TestUnknownKeys::test_while_nobody_can_look_nobody_can_say_that_a_token_is_wrong"),
    fault(_R, ("return denied if landed.error is None else landed.error.fresh()", "return denied"), f"{KEYS}::TestUnknownKeys::test_while_nobody_can_look_nobody_can_say_that_a_token_is_wrong"),
    fault(_R, no("landed is not None:\n            return denied if landed.error is None else landed.error.fresh()\n        if trusted.trust.pinned_keys is not None"), f"{KEYS}::TestFetching::test_pinned_keys_are_never_fetched"),
    fault(_R, ("self._withdraw(trusted, gone)", "pass"), f"{KEYS}::TestRotation::test_a_withdrawn_key_verifies_nothing_after_the_next_look"),
    fault(_U, ("self.keys, self.key_ids = fetched.keys, new", "self.keys, self.key_ids = fetched.keys, new | self.key_ids"), f"{KEYS}::TestRotation::test_what_a_withdrawn_key_verifies_is_not_kept"),
    fault(_E, ("until=trusted.renew_at,", 'until=float("inf"),'), f"{KEYS}::TestRotation::test_the_traffic_of_one_token_alone_notices_a_withdrawn_key"),
    fault(_D, no("verdict.key is None or verdict.key in verdict.trusted.key_ids"), f"{VERDICTS}::test_the_same_token_is_verified_once"),
    fault(_D, ("if verdict.key is None or verdict.key in verdict.trusted.key_ids:", "if True:"), f"{KEYS}::TestRotation::test_a_set_that_lands_while_a_token_is_verified_counts"),
    fault(_D, ("make_room(self.known, self._most)", "pass"), f"{VERDICTS}::test_verdicts_are_bounded"),
    fault(_E, ('if denied.reason != "unknown_key" and not (denied.reason == "signature" and presented.kid is None):', 'if denied.reason != "unknown_key":'), f"{KEYS}::TestUnknownKeys::test_without_a_key_id_a_new_key_is_found_by_its_signature"),
    fault(_E, ('denied.reason == "signature" and presented.kid is None', 'denied.reason == "signature"'), f"{KEYS}::TestUnknownKeys::test_a_wrong_signature_under_a_known_key_causes_no_fetch"),
    # Verdicts.
    fault(_F, ("        outcome: VerifiedToken | AccreditError\n        if not isinstance(token, str) or len(token) > MAX_TOKEN_BYTES or not token.isascii():\n            outcome = _unreadable(token)\n            self._engine.rejected(outcome)\n        else:\n            digest = sha256(token.encode()).digest()\n            known = self._known.get(digest)\n            if known is not None and self._now() < known.until and self._wall() < known.ends:\n                return known.token\n            outcome = self._decide",
               "        outcome: VerifiedToken | AccreditError\n        if not isinstance(token, str) or len(token) > MAX_TOKEN_BYTES or not token.isascii():\n            outcome = _unreadable(token)\n            self._engine.rejected(outcome)\n        else:\n            digest = sha256(token.encode()).digest()\n            known = self._known.get(digest)\n            if known is not None and self._now() < known.until:\n                return known.token\n            outcome = self._decide"),
          f"{VERDICTS}::test_a_jump_of_the_wall_clock_ends_what_it_ends"),
    fault(_F, ("        del token\n        if isinstance(outcome, AccreditError):\n            raise outcome\n        return outcome\n\n    def asynchronous", "        if isinstance(outcome, AccreditError):\n            raise outcome\n        return outcome\n\n    def asynchronous"), f"{FACES}::test_neither_token_nor_secret_shows"),
    fault(_F, ("return outcome.fresh() if isinstance(outcome, AccreditError) else outcome", "return outcome"), f"{QUESTIONS}::TestKeeping::test_a_failure_reaches_all_who_wait_each_with_its_own_error"),
    fault(_E, ('self._issuers.get(presented.issuer or "")', "next(iter(self._issuers.values()))"), f"{VERDICTS}::TestSeveralIssuers::test_each_is_bound_to_its_own_keys"),
    fault(_E, no("each.issuer in found"), f"{VERDICTS}::test_a_verifier_that_makes_no_sense"),
    fault(_E, no("len(asked) > 1"), f"{QUESTIONS}::TestQuestions::test_no_server_sees_the_tokens_of_another"),
    # Questions.
    fault(_E, ('settings is None or settings.tokens != "all"', "True"), f"{QUESTIONS}::TestBoth::test_both_must_agree"),
    fault(_E, ("presented is not None and trusted.trust.verifies_here", "presented is not None and settings is None"), f"{QUESTIONS}::TestBoth::test_both_must_agree"),
    fault(_E, no("not good"), f"{QUESTIONS}::TestQuestions::test_what_no_server_can_have_issued_is_not_asked_about"),
    fault(_Q, no("flying is not None"), f"{QUESTIONS}::TestKeeping::test_a_thousand_checks_of_one_token_are_one_question"),
    fault(_Q, no("known is not None and desk.now() < known[0]"), f"{QUESTIONS}::TestKeeping::test_an_inactive_token_is_asked_about_again_soon"),
    fault(_Q, no("held is not None"), f"{QUESTIONS}::TestTrouble::test_throttling_holds_every_token"),
    fault(_Q, no("len(self.asked) >= MOST_ASKED"), f"{QUESTIONS}::TestKeeping::test_too_many_at_once_are_turned_away"),
    fault(_Q, ("make_room(self.inactive, self._most)", "pass"), f"{QUESTIONS}::TestKeeping::test_a_flood_of_made_up_tokens_grows_nothing"),
    fault(_Q, ("self._verdicts.forget(question.digest)", "pass"), f"{QUESTIONS}::TestKeeping::test_a_token_that_was_revoked_is_forgotten"),
    fault(_Q, ("now - known.asked_at <= settings.keep_through_outage and", ""), f"{QUESTIONS}::TestTrouble::test_by_default_an_outage_lets_nothing_through"),
    fault(_Q, (" and self._desk.wall() < known.ends", ""), f"{QUESTIONS}::TestTrouble::test_the_setting_is_for_outages_only"),
    fault(_Q, (" or not isinstance(error, UnreachableError | ThrottledError):", ":"), f"{QUESTIONS}::TestTrouble::test_the_setting_is_for_outages_only"),
    fault(_Q, ("min(expiries, default=None)", "max(expiries, default=None)"), f"{QUESTIONS}::TestBoth::test_the_shorter_life_counts"),
    fault(_Q, ("now + question.settings.keep_active", "now + 300.0"), f"{QUESTIONS}::TestKeeping::test_an_active_token_is_asked_about_again_after_a_while"),
    # Answers.
    fault(_I, no('claims.get("active") is not True'), _REFUSED),
    fault(_I, no('not problem and not isinstance(claims.get("active"), bool)'), _NO_ANSWER),
    fault(_I, no("response.status != 200"), _NO_ANSWER),
    fault(_I, no('not lenient_content_type and not is_json_media_type(response.header("content-type"))'), _NO_ANSWER),
    fault(_I, no('claims.get("iss", policy.issuer) != policy.issuer'), _REFUSED),
    fault(_I, ("use is not None and use not in _ACCESS_TOKEN_USES", "False"), _REFUSED),
    fault(_I, ('kind is not None and not (isinstance(kind, str) and kind.lower() in {"bearer", "access_token", "dpop"})', "False"), _REFUSED),
    fault(_I, ('audience = check_audience(claims.get("aud"), policy, required=settings.require_audience)', "audience = ()"), _REFUSED),
    fault(_I, ("required=settings.require_audience", "required=False"), f"{QUESTIONS}::TestAnswers::test_settings_that_demand_more"),
    fault(_I, ("expires_at, issued_at = check_times(claims, policy, now=now_wall, required=False)", "expires_at = issued_at = None"), _REFUSED),
    fault(_I, ("    check_kind(claims, policy, profile, partial=True)\n", ""), _REFUSED),
    fault(_I, no("essence != SIGNED_MEDIA_TYPE"), f"{SIGNED}::TestSigned::test_a_plain_answer_with_a_signature_in_it"),
    fault(_I, no('not isinstance(kind, str) or kind.lower().removeprefix("application/") != _SIGNED_TYPE'), _SIGNED),
    fault(_I, ("payload = verify_jws(jws, candidates)", "payload = jws._payload"), _SIGNED),
    fault(_I, no('claims.get("iss") != policy.issuer'), _SIGNED),
    fault(_I, no("settings.client_id not in ours"), _SIGNED),
    fault(_I, no("issued_at is None"), _SIGNED),
    fault(_I, ("isinstance(value, bool) or not isinstance(value, int | float) or", "not isinstance(value, int | float) or"), _SIGNED),
    fault(_I, (" or not 0 <= value <= LAST_SECOND", ""), _SIGNED),
    fault(_I, no('isinstance(kind, str) and kind.lower() == "dpop" and not policy.accept_bound_tokens'), _REFUSED),
    fault(_I, no("not abs(now_wall - issued_at) <= policy.leeway + MAX_KEPT_STATEMENT"), _SIGNED),
    fault(_I, no("expiry is None or not now_wall < expiry + policy.leeway"), _SIGNED),
    fault(_I, no("not isinstance(inner, dict)"), _SIGNED),
    fault(_I, ("code if code is None or code in _KNOWN_CODES else", "code if True else"), f"{QUESTIONS}::TestAnswers::test_an_error_code_that_repeats_something"),
    fault(_Q, no("trusted.trust.pinned_keys is not None or trusted.search_rest(now) > 0"), f"{SIGNED}::TestSigned::test_keys_that_were_given_are_never_looked_for"),
    fault(_Q, ("            trusted.searched_at = now\n            return True", "            return True"), f"{SIGNED}::TestSigned::test_of_many_answers_by_a_new_key_one_looks_for_it"),
    fault(_Q, ("                trusted.fail(fetched, now, desk.jitter())", "                pass"), f"{SIGNED}::TestSigned::test_a_look_for_a_new_key_that_failed_is_no_fault_of_a_token"),
    fault(_V, ("if refused is not None and refused.credential == credential.tag:", "if False:"), f"{QUESTIONS}::TestTrouble::test_a_refused_credential_is_held"),
    fault(_U, ("        elif asked is None and not (isinstance(error, UnreachableError) and error.status is None):\n            return", "        elif False:\n            return"), f"{QUESTIONS}::TestTrouble::test_a_token_that_the_server_stumbles_over_stops_no_other"),
)  # fmt: skip


class _Planted(importlib.abc.Loader):
    """Loads one module from a changed text."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.text, self.file, "exec"), module.__dict__)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds that module, and no other."""

    def __init__(self, planted: Fault) -> None:
        self.name = planted.module()
        self.loader = _Planted(planted.source(), str(SOURCE / planted.file))

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self.loader) if fullname == self.name else None


def run(number: int) -> int:
    """Run, in this process, the tests of one fault with it planted; return the exit code of pytest."""
    import pytest

    if any(name.partition(".")[0] == "accredit" for name in sys.modules):
        raise RuntimeError("the library was imported before the fault could be planted")
    tests = {test for each in FAULTS for test in each.tests}
    if number >= 0:
        sys.meta_path.insert(0, _Finder(FAULTS[number]))
        tests = set(FAULTS[number].tests)
    options = ["-q", "-x", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov"]
    # The nursery has imported some of them already, so that not every child has to.
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    os.chdir(ROOT)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        code = int(pytest.main([*options, "--rootdir", str(ROOT), *sorted(tests)]))
    if code not in {0, 1} or number < 0:
        sys.stderr.write(output.getvalue()[-3000:])
    return code


def serve() -> None:
    """Answer each number on the input; the library is imported in children only, each time anew."""
    import anyio
    import hypothesis
    import joserfc.jwt
    import pytest
    import trio
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    del anyio, hypothesis, joserfc, pytest, trio, ec, ed25519, padding, rsa
    for line in sys.stdin:
        sys.stdout.write(f"{apart(int(line))}\n")
        sys.stdout.flush()


def apart(number: int) -> int:
    """Run the tests of one fault in a process of its own; return the exit code of pytest."""
    if not hasattr(os, "fork"):
        return subprocess.call([sys.executable, "-m", "tests.verifier.planted", str(number)], cwd=ROOT)
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = run(number)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(run(int(sys.argv[1])))
    serve()
