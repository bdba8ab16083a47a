"""What a guard decides: who is let in, and the exact answer to everybody else."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from accredit.core.challenge import concerns_token, parse_challenges
from accredit.core.guarding import (
    MAX_TOKEN,
    GuardPolicy,
    Refusal,
    RequiredScope,
    carries_token,
    is_form,
    required_scope,
)
from accredit.core.strict import StrictError, parse_access_token
from accredit.errors import (
    AccreditError,
    AuthorizationServerError,
    ConfigurationError,
    InvalidTokenError,
    ThrottledError,
    UnreachableError,
)

POLICY = GuardPolicy()
ANY = RequiredScope()
READ = RequiredScope(("orders:read",))
INVALID = (
    'error="invalid_token", error_description="The access token is expired, revoked, malformed or not for this API"'
)


def refusal(given: Any) -> Refusal:
    assert isinstance(given, Refusal)
    return given


class TestReading:
    @pytest.mark.parametrize(
        "field", ["Bearer abc", "bearer abc", "BEARER abc", "bEaReR   abc", b"Bearer abc", "Bearer !#$%&'()*+-./:;<=>?"]
    )
    def test_a_token(self, field: str | bytes) -> None:
        text = field.decode() if isinstance(field, bytes) else field
        assert POLICY.read([field], ANY) == text.rpartition(" ")[2]

    @given(st.text(st.characters(codec="latin-1"), max_size=12))
    @example("[]")
    @example("a,b")
    @example("a\\b")
    @example('a"b')
    def test_the_tokens_that_clients_may_send_are_those_that_are_read(self, token: str) -> None:
        try:
            expected = parse_access_token(token)
        except StrictError:
            assert isinstance(POLICY.read([f"Bearer {token}"], ANY), Refusal) or token.startswith(" ")
        else:
            assert POLICY.read([f"Bearer {token}"], ANY) == expected

    @pytest.mark.parametrize(
        ("fields", "status", "reason"),
        [
            ([], 401, "no_token"),
            (["Basic dXNlcjpwYXNz"], 401, "other_scheme"),
            (["Bearerabc"], 401, "other_scheme"),
            (["DPoP abc"], 401, "other_scheme"),
            ([""], 401, "other_scheme"),
            (["ſBearer abc"], 401, "other_scheme"),
            (["Bearer"], 400, "malformed_field"),
            (["Bearer "], 400, "malformed_field"),
            (["Bearer\tabc"], 400, "malformed_field"),
            (["Bearer \tabc\t"], 400, "malformed_field"),
            (["Bearer a b"], 400, "malformed_field"),
            (["Bearer a,Bearer b"], 400, "malformed_field"),
            (["Bearer a,b"], 400, "malformed_field"),
            (["Bearer a", "Bearer a"], 400, "several_fields"),
            (["Bearer a", "Basic b"], 400, "several_fields"),
            ([b"Bearer \xe9\xff"], 401, "malformed"),
            (['Bearer "a"'], 401, "malformed"),
            (["Bearer a\x00b"], 401, "malformed"),
            (["Bearer " + "a" * (MAX_TOKEN + 1)], 401, "too_large"),
            (["Bearer " + "a " * MAX_TOKEN], 401, "too_large"),
        ],
    )
    def test_no_token(self, fields: list[str], status: int, reason: str) -> None:
        found = refusal(POLICY.read(fields, ANY))
        assert (found.status, found.reason) == (status, reason)

    def test_a_token_of_the_longest_length(self) -> None:
        assert POLICY.read(["Bearer " + "a" * MAX_TOKEN], ANY) == "a" * MAX_TOKEN
        assert refusal(GuardPolicy(max_token=3).read(["Bearer abcd"], ANY)).reason == "too_large"

    @given(st.lists(st.binary(max_size=40) | st.text(max_size=40), max_size=3))
    def test_whatever_is_in_the_fields(self, fields: list[str | bytes]) -> None:
        found = POLICY.read(fields, READ)
        if isinstance(found, Refusal):
            assert found.status in {400, 401}
            assert found.challenge is not None
            assert all(value.isascii() and value.isprintable() for _, value in found.all_headers)
        else:
            assert parse_access_token(found) == found


class TestAnswers:
    """Each challenge to the byte (RFC 6750, section 3)."""

    def test_no_token_has_no_error(self) -> None:
        found = refusal(POLICY.read([], ANY))
        assert found.challenge == 'Bearer realm="api"'
        assert (found.status, found.error, found.retry_after) == (401, None, None)
        assert json.loads(found.body) == {
            "error": "token_required",
            "error_description": "This request needs an access token.",
        }

    def test_the_scope_that_is_needed(self) -> None:
        assert refusal(POLICY.read([], READ)).challenge == 'Bearer realm="api", scope="orders:read"'
        several = RequiredScope(("a", "b"), ("c", "d"))
        assert refusal(POLICY.read([], several)).challenge == 'Bearer realm="api", scope="a b c"'

    @pytest.mark.parametrize("reason", ["expired", "signature", "audience", "issuer", "malformed"])
    def test_every_fault_of_a_token_has_one_answer(self, reason: str) -> None:
        found = POLICY.refuse(InvalidTokenError("it is wrong.", reason=reason), READ)
        assert found.challenge == f'Bearer realm="api", {INVALID}, scope="orders:read"'
        assert (found.status, found.error, found.reason) == (401, "invalid_token", reason)
        assert reason not in found.body.decode().replace("expired, revoked, malformed", "")

    def test_a_lack_of_scope(self) -> None:
        assert POLICY.judge(("orders:read", "x"), READ) is None
        found = refusal(POLICY.judge(("x",), READ))
        assert found.challenge == (
            'Bearer realm="api", error="insufficient_scope",'
            ' error_description="The access token lacks a scope that this request needs", scope="orders:read"'
        )
        assert (found.status, found.error, found.reason) == (403, "insufficient_scope", "scope")

    def test_two_methods_and_two_fields(self) -> None:
        assert POLICY.several_methods(READ).challenge == (
            'Bearer realm="api", error="invalid_request",'
            ' error_description="The request has an access token in more than one place"'
        )
        assert refusal(POLICY.read(["Bearer a", "Bearer b"], READ)).challenge == (
            'Bearer realm="api", error="invalid_request",'
            ' error_description="The request has more than one Authorization field"'
        )
        assert refusal(POLICY.read(["Bearer"], READ)).challenge == (
            'Bearer realm="api", error="invalid_request", error_description="The Authorization field is malformed"'
        )

    def test_the_metadata_of_the_resource(self) -> None:
        url = "https://api.example/.well-known/oauth-protected-resource"
        policy = GuardPolicy(realm="Orders, all of them", resource_metadata=url)
        assert refusal(policy.read([], READ)).challenge == (
            f'Bearer realm="Orders, all of them", scope="orders:read", resource_metadata="{url}"'
        )

    @pytest.mark.parametrize(
        ("error", "seconds", "reason"),
        [
            (UnreachableError("down."), 10, "network"),
            (UnreachableError("down.", retry_after=2.1), 3, "network"),
            (ThrottledError("later.", retry_after=0.2), 1, "authorization_server"),
            (ThrottledError("later.", retry_after=0.0), 1, "authorization_server"),
            (ThrottledError("later.", retry_after=-5.0), 1, "authorization_server"),
            (ThrottledError("later.", retry_after=1e9), 3600, "authorization_server"),
            (ThrottledError("later.", retry_after=float("inf")), 3600, "authorization_server"),
            (ThrottledError("later.", retry_after=float("nan")), 1, "authorization_server"),
            (AuthorizationServerError("refuses us.", status=401), 10, "authorization_server"),
            (ConfigurationError("wrong."), 10, "configuration"),
            (AccreditError("wrong."), 10, "configuration"),
        ],
    )
    def test_what_is_no_fault_of_the_token_is_503_and_has_no_challenge(
        self, error: AccreditError, seconds: int, reason: str
    ) -> None:
        found = POLICY.refuse(error, READ)
        assert (found.status, found.challenge, found.retry_after) == (503, None, seconds)
        assert (found.error, found.reason) == ("temporarily_unavailable", reason)
        assert found.headers == (("cache-control", "no-store"), ("retry-after", str(seconds)))

    def test_the_fields_of_an_answer(self) -> None:
        found = refusal(POLICY.read([], ANY))
        assert found.all_headers == (
            ("content-type", "application/json"),
            ("content-length", str(len(found.body))),
            ("cache-control", "no-store"),
            ("www-authenticate", 'Bearer realm="api"'),
        )

    @given(
        st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20).filter(
            lambda text: not set(text) & set('"\\')
        ),
        st.sampled_from([InvalidTokenError("x."), UnreachableError("x.")]),
    )
    def test_our_own_client_understands_every_challenge(self, realm: str, error: AccreditError) -> None:
        policy = GuardPolicy(realm=realm, resource_metadata="https://api.example/x")
        for found, renew in (
            (refusal(policy.read([], READ)), True),
            (policy.refuse(error, READ), True),
            (refusal(policy.judge((), READ)), False),
            (policy.several_methods(READ), False),
        ):
            if found.challenge is not None:
                (challenge,) = parse_challenges([found.challenge])
                assert challenge.scheme == "bearer"
                assert challenge.params["realm"] == realm
                assert challenge.params.get("error") == found.error
                assert challenge.params["resource_metadata"] == "https://api.example/x"
                assert concerns_token([challenge]) is renew


class TestPolicy:
    @pytest.mark.parametrize(
        ("changes", "key"),
        [
            ({"realm": ""}, "realm"),
            ({"realm": 5}, "realm"),
            ({"realm": None}, "realm"),
            ({"resource_metadata": 5}, "resource_metadata"),
            ({"resource_metadata": ""}, "resource_metadata"),
            ({"retry_after": "10"}, "retry_after"),
            ({"retry_after": None}, "retry_after"),
            ({"retry_after": True}, "retry_after"),
            ({"realm": 'a"b'}, "realm"),
            ({"realm": "a\\b"}, "realm"),
            ({"realm": "a\r\nb"}, "realm"),
            ({"realm": "é"}, "realm"),
            ({"resource_metadata": "a\nb"}, "resource_metadata"),
            ({"retry_after": 0}, "retry_after"),
            ({"retry_after": 3601}, "retry_after"),
            ({"retry_after": float("nan")}, "retry_after"),
            ({"max_token": 0}, "max_token"),
        ],
    )
    def test_what_cannot_be_said_is_refused(self, changes: dict[str, Any], key: str) -> None:
        with pytest.raises(ConfigurationError) as error:
            GuardPolicy(**changes)
        assert error.value.key == key

    def test_a_policy_is_a_value(self) -> None:
        assert dataclasses.replace(POLICY, realm="x") == GuardPolicy(realm="x")
        assert dataclasses.replace(POLICY, retry_after=1, max_token=1).retry_after == 1


class TestScope:
    @pytest.mark.parametrize(
        ("needed", "granted", "met"),
        [
            (ANY, (), True),
            (READ, (), False),
            (READ, ("orders:read",), True),
            (READ, ("orders:reader", "orders"), False),
            (READ, "orders:reader orders", False),  # from a verifier of somebody's own
            (READ, "orders orders:read", True),
            (required_scope(any_of="orders:read x"), "orders:reader", False),
            (required_scope("a b"), ("a",), False),
            (required_scope("a b"), ("b", "a"), True),
            (required_scope(any_of=("a", "b")), ("b",), True),
            (required_scope(any_of=("a", "b")), (), False),
            (required_scope("c", any_of="a b"), ("a",), False),
            (required_scope("c", any_of="a b"), ("c",), False),
            (required_scope("c", any_of="a b"), ("c", "b"), True),
        ],
    )
    def test_all_of_and_any_of(self, needed: RequiredScope, granted: Collection[str], met: bool) -> None:
        assert needed.met_by(granted) is met

    @given(st.sets(st.sampled_from("abcd")), st.lists(st.sampled_from("abcd")), st.lists(st.sampled_from("abcd")))
    def test_what_a_challenge_names_is_enough(self, granted: set[str], all_of: list[str], any_of: list[str]) -> None:
        needed = required_scope(all_of, any_of)
        assert needed.met_by(needed.sufficient)
        assert needed.met_by(granted) == (granted >= set(all_of) and (not any_of or bool(granted & set(any_of))))

    def test_one_text_or_several(self) -> None:
        assert required_scope("a  b a") == required_scope(["a", "b"]) == RequiredScope(("a", "b"))

    @pytest.mark.parametrize("wrong", [["a b"], [""], ['"'], "é", [7], ["a", None], 5, None, b"a", len])
    def test_what_is_no_scope(self, wrong: Any) -> None:
        with pytest.raises(ConfigurationError) as error:
            required_scope(wrong)
        assert error.value.key == "scope"
        with pytest.raises(ConfigurationError) as error:
            required_scope((), wrong)
        assert error.value.key == "any_of"


class TestForms:
    @pytest.mark.parametrize(
        ("form", "found"),
        [
            (b"", False),
            (b"access_token=x", True),
            (b"a=1&access_token=x", True),
            (b"a=1&access_token", True),
            (b"a=1&%61ccess%5Ftoken=x", True),
            (b"a=access_token", False),
            (b"a=1&access_tokens=x", False),
            (b"xaccess_token=1", False),
            (b"access_token%00=1", False),
            (b"%", False),
            (b"%zz=1&%6", False),
            (b"a=%61ccess_token", False),
            (b"%61" * 50_000, False),
            (b"&" * 100_000 + b"access_token=", True),
        ],
    )
    def test_a_token_in_a_form(self, form: bytes, found: bool) -> None:
        assert carries_token(form) is found

    @given(st.sets(st.integers(0, 11)))
    def test_in_every_spelling(self, escaped: set[int]) -> None:
        name = "".join(
            f"%{ord(character):02x}" if index in escaped else quote(character)
            for index, character in enumerate("access_token")
        )
        assert carries_token(f"x=1&{name}=2".encode())

    @pytest.mark.parametrize(
        ("fields", "form"),
        [
            ([], False),
            (["application/json"], False),
            (["application/x-www-form-urlencoded"], True),
            ([b"Application/X-WWW-Form-Urlencoded ; charset=utf-8"], True),
            (["text/plain", "application/x-www-form-urlencoded"], True),
            ([b"\xff"], False),
        ],
    )
    def test_what_is_a_form(self, fields: list[str | bytes], form: bool) -> None:
        assert is_form(fields) is form
