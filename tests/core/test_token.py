"""Token responses: what is issued, what is refused, and whose fault it is; the token that callers get."""

from __future__ import annotations

import copy
import json
import pickle
from base64 import b64encode
from email.utils import formatdate
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit.core.client_auth import ClientSecretPost, percent_encode
from accredit.core.messages import Response
from accredit.core.registration import TokenRequest
from accredit.core.secret import Secret
from accredit.core.token import AccessToken, IssuedToken, parse_token_response, token_request
from accredit.errors import (
    AuthorizationServerError,
    CredentialRefusedError,
    MalformedResponseError,
    RequestRefusedError,
    ThrottledError,
    UnreachableError,
)
from tests.support.scripted import JSON, TOKEN_ENDPOINT, wanted

REQUEST = wanted()
WALL = 1_700_000_000.0
GOOD: dict[str, Any] = {"access_token": "a.b.c", "token_type": "Bearer", "expires_in": 3600}
SECRET = "can4ry:s3cret/+é x"


def parse(
    body: object = None,
    status: int = 200,
    headers: tuple[tuple[str, str], ...] = JSON,
    request: TokenRequest = REQUEST,
    **members: Any,
) -> IssuedToken | AuthorizationServerError:
    data = body if isinstance(body, bytes) else json.dumps({**GOOD, **members} if body is None else body).encode()
    return parse_token_response(Response(status, headers, data), request, TOKEN_ENDPOINT, Secret(SECRET), now_wall=WALL)


def issued(*args: Any, **members: Any) -> IssuedToken:
    outcome = parse(*args, **members)
    assert isinstance(outcome, IssuedToken), outcome
    return outcome


def malformed(*args: Any, **members: Any) -> MalformedResponseError:
    outcome = parse(*args, **members)
    assert isinstance(outcome, MalformedResponseError)
    assert (outcome.status, outcome.endpoint) == (200, TOKEN_ENDPOINT)
    assert "a.b.c" not in str(outcome)
    assert outcome.advice
    return outcome


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


# -- A: answers of status 200 ----------------------------------------------------------------------------------


def test_a01_the_least_there_is() -> None:
    assert issued() == IssuedToken("a.b.c", 3600.0)


@pytest.mark.parametrize("token_type", ["bearer", "BEARER", "bEaReR", "Bearer"])
def test_a02_bearer_in_any_case(token_type: str) -> None:
    assert issued(token_type=token_type).value == "a.b.c"


@pytest.mark.parametrize("body", [without("token_type"), {**GOOD, "token_type": None}])
def test_a03_no_token_type(body: object) -> None:
    assert "token_type" in str(malformed(body))
    assert issued(body, request=wanted(assume_bearer=True)).value == "a.b.c"


@pytest.mark.parametrize("token_type", ["mac", "N_A", "", 7, ["Bearer"], "Bearer ", "DPoP"])
def test_a04_a06_another_token_type(token_type: object) -> None:
    malformed(token_type=token_type)
    malformed(token_type=token_type, request=wanted(assume_bearer=True))


@pytest.mark.parametrize("token", [None, "", 123, ["a"], {"a": "b"}, True])
def test_a07_no_token(token: object) -> None:
    malformed(access_token=token)
    malformed(without("access_token"))


@pytest.mark.parametrize("character", ["\r", "\n", "\x00", "\t", "\x7f", " ", "é", '"', "\\", ",", "\u2028"])
def test_a08_a09_characters_that_cannot_be_sent(character: str) -> None:
    error = malformed(access_token=f"can4ry{character}x")
    assert f"U+{ord(character):04X} at position 6" in str(error)
    assert "can4ry" not in str(error)
    malformed(access_token=f"{character}can4ry")


def test_a09_the_scheme_is_no_part_of_the_token() -> None:
    malformed(access_token="Bearer a.b.c")


@pytest.mark.parametrize("token", ["00D!a.b", "a|b", "a:b", "a b".replace(" ", "~"), "=" * 10])
def test_a10_visible_characters_beyond_token68(token: str) -> None:
    assert issued(access_token=token).value == token


def test_a11_long_tokens() -> None:
    assert len(issued(access_token="x" * 16384).value) == 16384
    assert issued(access_token="x" * 65536).value
    malformed(access_token="x" * 65537)


@pytest.mark.parametrize("body", [without("expires_in"), {**GOOD, "expires_in": None}])
def test_a13_a23_no_expires_in(body: object) -> None:
    assert issued(body).lifetime == 300.0
    assert issued(body, request=wanted(default_lifetime=60)).lifetime == 60.0
    short = issued(body, request=wanted(max_lifetime=60))
    assert (short.lifetime, short.clamped_from) == (60.0, None)  # the server stated nothing that was clamped


@pytest.mark.parametrize("seconds", [0, -1, "0", 0.9, -0.5])
def test_a14_expired_on_arrival(seconds: object) -> None:
    assert "expired on arrival" in str(malformed(expires_in=seconds))


@pytest.mark.parametrize(("stated", "seconds"), [("3600", 3600.0), (3600.0, 3600.0), (3599.9, 3599.0), (1, 1.0)])
def test_a15_a17_numbers_of_seconds(stated: object, seconds: float) -> None:
    assert issued(expires_in=stated).lifetime == seconds


@pytest.mark.parametrize(
    "seconds",
    ["３６００", "3_600", " 3600 ", "+3600", "0x10", "1e3", "3600s", "", True, False, [3600], {"a": 1}, 10**13],
)
def test_a16_a18_what_is_no_number_of_seconds(seconds: object) -> None:
    malformed(expires_in=seconds)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1e999", b"1" + b"0" * 400, b"-Infinity", b"9" * 5000])
def test_a19_a45_numbers_out_of_range(number: bytes) -> None:
    malformed(b'{"access_token":"a.b.c","token_type":"Bearer","expires_in":' + number + b"}")


def test_a20_a_lifetime_too_long_is_clamped() -> None:
    token = issued(expires_in=315_360_000)
    assert (token.lifetime, token.clamped_from) == (31 * 86400.0, 315_360_000.0)
    token = issued(expires_in=7200, request=wanted(max_lifetime=3600))
    assert (token.lifetime, token.clamped_from) == (3600.0, 7200.0)
    assert issued(expires_in=31 * 86400).clamped_from is None


def test_a25_a_member_twice() -> None:
    malformed(b'{"access_token":"x","acc\\u0065ss_token":"y","token_type":"Bearer"}')


def test_a28_less_scope_than_asked_for() -> None:
    request = wanted(scope="a b c")
    assert issued(scope="a", request=request).granted_scope == ("a",)
    strict = wanted(scope="a b c", require_scope=True)
    outcome = parse(scope="a", request=strict)
    assert isinstance(outcome, RequestRefusedError)
    assert "without the scope b c" in str(outcome)
    assert outcome.error_code == "insufficient_scope"
    assert issued(scope="c b a extra", request=strict).granted_scope == ("c", "b", "a", "extra")
    assert issued(request=strict).granted_scope is None


@pytest.mark.parametrize(
    ("scope", "granted"), [("b a", ("b", "a")), ("a  b a", ("a", "b")), ("", ()), (None, None), (" ", ())]
)
def test_a30_scope_is_a_set(scope: object, granted: object) -> None:
    assert issued(scope=scope).granted_scope == granted


@pytest.mark.parametrize("scope", [["a"], 'a"b', "a\\b", "a\nb", "é", 7])
def test_a31_scope_of_another_kind(scope: object) -> None:
    malformed(scope=scope)


def test_a32_a33_what_is_not_asked_for_is_ignored() -> None:
    many = {f"member{number}": number for number in range(500)}
    outcome = issued(refresh_token="can4ry", id_token="can4ry", session_state="x", cnf={"jkt": "x"}, **many)
    assert outcome == IssuedToken("a.b.c", 3600.0)


def test_members_an_application_needs_are_kept_and_no_credential_is() -> None:
    names = ["instance_url", "missing", "number", "refresh_token", "id_token", "access_token"]
    outcome = issued(
        request=wanted(keep_members=names), instance_url="https://x", number=7, refresh_token="r", id_token="i"
    )
    assert outcome.members == (("instance_url", "https://x"),)


def test_a35_success_and_error_at_once() -> None:
    malformed(error="invalid_request")
    assert issued(error=None).value == "a.b.c"


@pytest.mark.parametrize(
    "headers",
    [
        (("content-type", "text/html"),),
        (("content-type", "text/plain"),),
        (),
        (("content-type", "application/json"), ("content-type", "application/json")),
    ],
)
def test_a36_a37_what_is_not_said_to_be_json(headers: tuple[tuple[str, str], ...]) -> None:
    assert "Content-Type" in str(malformed(headers=headers))
    assert issued(headers=headers, request=wanted(lenient_content_type=True)).value == "a.b.c"


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/token+json"]
)
def test_json_by_other_spellings(content_type: str) -> None:
    assert issued(headers=(("content-type", content_type),)).value == "a.b.c"


def test_a36_a_login_page_is_not_shown() -> None:
    page = b"<html>can4ry</html>"
    for request in (REQUEST, wanted(lenient_content_type=True)):
        assert "can4ry" not in str(malformed(page, request=request))


def test_a40_a_byte_order_mark() -> None:
    assert issued(b"\xef\xbb\xbf" + json.dumps(GOOD).encode()).value == "a.b.c"


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"7", b"null", b"", b"{", b"\xff", json.dumps(GOOD).encode("utf-16")])
def test_a42_what_is_no_json_object(body: bytes) -> None:
    malformed(body)


@pytest.mark.parametrize("depth", [33, 100_000])
def test_a44_too_deep(depth: int) -> None:
    malformed(b'{"access_token":"a","token_type":"Bearer","x":' + b"[" * depth + b"]" * depth + b"}")


def test_a46_lone_surrogates() -> None:
    for member in ("access_token", "scope", "other"):
        malformed(b'{"access_token":"a","token_type":"Bearer","' + member.encode() + b'":"\\ud800"}')


def test_a47_too_large() -> None:
    malformed(b'{"access_token":"a","token_type":"Bearer","x":"' + b"x" * (256 * 1024) + b'"}')


@pytest.mark.parametrize(
    ("hint", "kept"), [(1800, 1800.0), ("60", 60.0), (0, None), (-5, None), (3600, None), ("x", None), ([], None)]
)
def test_a_hint_when_to_renew_is_never_a_reason_to_refuse(hint: object, kept: float | None) -> None:
    assert issued(refresh_in=hint).refresh_in == kept


# -- redirects and odd statuses --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_c01_a_redirect_is_not_followed(status: int) -> None:
    outcome = parse(status=status, headers=(("location", "https://evil.example/?can4ry"),))
    assert isinstance(outcome, MalformedResponseError)
    assert "redirect" in str(outcome)
    assert "evil" not in str(outcome)


@pytest.mark.parametrize("status", [100, 201, 202, 204, 206])
def test_other_successes_are_no_token_response(status: int) -> None:
    outcome = parse(status=status)
    assert isinstance(outcome, MalformedResponseError)
    assert outcome.status == status


# -- B: refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_client", CredentialRefusedError),
        (401, "invalid_client", CredentialRefusedError),
        (400, "unauthorized_client", CredentialRefusedError),
        (401, None, CredentialRefusedError),
        (401, "access_denied", CredentialRefusedError),
        (401, "invalid_scope", RequestRefusedError),
        (403, None, CredentialRefusedError),
        (400, "invalid_request", RequestRefusedError),
        (400, "invalid_scope", RequestRefusedError),
        (400, "invalid_target", RequestRefusedError),
        (400, "unsupported_grant_type", RequestRefusedError),
        (400, None, RequestRefusedError),
        (404, None, RequestRefusedError),
        (403, "access_denied", RequestRefusedError),
        (429, None, ThrottledError),
        (400, "slow_down", ThrottledError),
        (500, None, UnreachableError),
        (502, "server_error", UnreachableError),
        (503, None, UnreachableError),
        (599, None, UnreachableError),
        (407, None, UnreachableError),
    ],
)
def test_b01_b04_whose_fault_it_is(status: int, code: str | None, kind: type) -> None:
    outcome = parse({} if code is None else {"error": code}, status=status)
    assert type(outcome) is kind
    assert isinstance(outcome, AuthorizationServerError)
    assert (outcome.status, outcome.error_code, outcome.endpoint) == (status, code, TOKEN_ENDPOINT)
    assert outcome.advice
    assert str(status) in outcome.summary
    if code is not None:
        assert code in outcome.summary


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (["7"], 7.0),
        (["100000"], 300.0),
        ([formatdate(WALL + 60, usegmt=True)], 60.0),
        ([formatdate(WALL - 60, usegmt=True)], 0.0),
        ([formatdate(WALL + 10**8, usegmt=True)], 300.0),
        (["soon"], None),
        (["-1"], None),
        ([], None),
    ],
)
def test_b09_b10_retry_after(values: list[str], seconds: float | None) -> None:
    headers = (*JSON, *(("retry-after", value) for value in values))
    for status in (429, 503):
        outcome = parse({}, status=status, headers=headers)
        assert isinstance(outcome, ThrottledError if status == 429 or seconds is not None else UnreachableError)
        assert outcome.retry_after == seconds


def test_b09_the_reset_time_of_okta() -> None:
    outcome = parse({}, status=429, headers=(("x-rate-limit-reset", str(int(WALL) + 42)),))
    assert isinstance(outcome, ThrottledError)
    assert outcome.retry_after == 42.0
    both = (("retry-after", "7"), ("x-rate-limit-reset", str(int(WALL) + 42)))
    outcome = parse({}, status=429, headers=both)
    assert isinstance(outcome, ThrottledError)
    assert outcome.retry_after == 7.0


@pytest.mark.parametrize(
    "code", [7, ["invalid_client"], {"a": 1}, True, "x" * 65, "a\r\nb", "\x1b[2J", "\u202egnp", "", "a b"]
)
def test_b16_an_error_code_that_is_none(code: object) -> None:
    outcome = parse({"error": code}, status=400)
    assert isinstance(outcome, RequestRefusedError)
    assert outcome.error_code == "unknown_error"
    assert str(outcome).isascii()
    assert str(outcome).isprintable()


def test_b17_an_error_code_that_repeats_the_credential_is_dropped() -> None:
    body = json.dumps({"error": "s3cret-can4ry"}).encode()
    response = Response(400, JSON, body)
    outcome = parse_token_response(response, REQUEST, TOKEN_ENDPOINT, Secret("s3cret-can4ry"), now_wall=WALL)
    assert isinstance(outcome, RequestRefusedError)
    assert outcome.error_code == "unknown_error"
    assert "can4ry" not in str(outcome)
    other = parse_token_response(response, REQUEST, TOKEN_ENDPOINT, None, now_wall=WALL)
    assert isinstance(other, RequestRefusedError)
    assert other.error_code == "s3cret-can4ry"


def test_b16_an_error_of_ten_megabytes() -> None:
    outcome = parse({"error": "x" * 10**7}, status=400)
    assert isinstance(outcome, RequestRefusedError)
    assert outcome.error_code is None


ECHOES = [
    SECRET,
    f"bad secret {SECRET}!",
    percent_encode(SECRET),
    quote_plus(SECRET),
    b64encode(SECRET.encode()).decode(),
    b64encode(f"orders:{SECRET}".encode()).decode(),
    b64encode(f"{percent_encode('orders')}:{percent_encode(SECRET)}".encode()).decode(),
    SECRET.upper(),
    SECRET[4:12],
    SECRET.encode("unicode_escape").decode(),
]


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_b17_a_description_that_repeats_the_credential_is_dropped(echo: str, status: int) -> None:
    outcome = parse({"error": "invalid_client", "error_description": f"what is {echo}"}, status=status)
    assert isinstance(outcome, AuthorizationServerError)
    assert "what is" not in str(outcome)


def test_b17_a_short_secret_is_found_too() -> None:
    body = json.dumps({"error": "invalid_client", "error_description": "no: +b"}).encode()
    outcome = parse_token_response(Response(400, JSON, body), REQUEST, TOKEN_ENDPOINT, Secret("+b"), now_wall=WALL)
    assert "no:" not in str(outcome)
    without_secret = parse_token_response(Response(400, JSON, body), REQUEST, TOKEN_ENDPOINT, None, now_wall=WALL)
    assert '"no: +b"' in str(without_secret)


@pytest.mark.parametrize(
    ("description", "shown"),
    [
        ("Client unknown.", '"Client unknown."'),
        ("a\r\nb\x1b[2J\u202e", '"a??b?[2J?"'),
        ('quo"te\\', '"quo?te?"'),
        ("x" * 500, f'"{"x" * 200}"'),
    ],
)
def test_b17_a_description_is_shown_in_printable_ascii(description: str, shown: str) -> None:
    outcome = parse({"error": "invalid_scope", "error_description": description}, status=400)
    assert isinstance(outcome, RequestRefusedError)
    assert f"invalid_scope {shown}" in outcome.summary


@pytest.mark.parametrize("description", [7, None, ["x"], ""])
def test_a_description_of_another_kind_is_left_out(description: object) -> None:
    outcome = parse({"error": "invalid_scope", "error_description": description}, status=400)
    assert isinstance(outcome, RequestRefusedError)
    assert outcome.summary.endswith(": invalid_scope.")


def test_b18_the_error_uri_is_dropped() -> None:
    outcome = parse({"error": "invalid_scope", "error_uri": "javascript:alert(1)"}, status=400)
    assert "javascript" not in str(outcome)


@pytest.mark.parametrize("body", [b"", b"<html>can4ry", b"{", b"[]", b'{"error_description":"\\ud800"}', b"\xff"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_b19_no_json_in_a_refusal(body: bytes, status: int) -> None:
    outcome = parse(body, status=status)
    assert isinstance(outcome, AuthorizationServerError)
    assert outcome.error_code is None
    assert "can4ry" not in str(outcome)


@given(
    st.integers(100, 599),
    st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
            lambda inner: st.dictionaries(
                st.sampled_from([*GOOD, "error", "error_description", "scope", "refresh_in", "x"]), inner
            ),
        ).map(lambda value: json.dumps(value).encode()),
    ),
    st.lists(
        st.tuples(st.sampled_from(["content-type", "retry-after", "x-rate-limit-reset"]), st.text(max_size=20)),
        max_size=3,
    ),
)
def test_any_answer_is_a_token_or_an_error_and_nothing_is_raised(
    status: int, body: bytes, headers: list[tuple[str, str]]
) -> None:
    outcome = parse(body, status, (*JSON, *headers), wanted(lenient_content_type=True))
    assert isinstance(outcome, IssuedToken | AuthorizationServerError)
    assert outcome == parse(body, status, (*JSON, *headers), wanted(lenient_content_type=True))


def test_the_request_and_what_is_issued_hide_what_they_hold() -> None:
    request = wanted(client_auth=ClientSecretPost("can4ry"))
    assert "can4ry" not in repr(token_request(request, TOKEN_ENDPOINT, Secret("can4ry")))
    assert "can4ry" not in repr(issued(access_token="can4ry"))
    assert "can4ry" not in repr(Response(200, JSON, b"can4ry"))


# -- the token that callers get --------------------------------------------------------------------------------


def token(now: float = 100.0, **changes: Any) -> AccessToken:
    values: dict[str, Any] = {
        "authorization": "Bearer can4ry.token",
        "expires_at": WALL,
        "lifetime": 60.0,
        "granted_scope": None,
        "members": {"id": "can4ry"},
        "generation": 1 << 32,
        "renew_at": 145.0,
        "usable_until": 154.0,
        "ends_at": 160.0,
        "received_at": 100.0,
        "fingerprint": b"x" * 16,
        "clock": lambda: now,
    }
    return AccessToken(**{**values, **changes})


def test_a_token_gives_its_header_and_its_value() -> None:
    assert token().authorization == "Bearer can4ry.token"
    assert token().value == "can4ry.token"
    assert token().token_type == "Bearer"


@pytest.mark.parametrize(("now", "seconds", "soon"), [(100.0, 60.0, True), (100.0, 59.9, False), (160.0, 0.0, True)])
def test_a_token_knows_whether_it_ends_within_seconds(now: float, seconds: float, soon: bool) -> None:
    assert token(now).expires_within(seconds) is soon


def test_a_token_is_never_printed_copied_or_pickled() -> None:
    for text in (repr(token()), str(token()), f"{token()}", f"{[token()]}"):
        assert "can4ry" not in text
    for write in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="refuses to be pickled"):
            write(token())


def test_tokens_are_values() -> None:
    assert token() == token(now=200.0)
    assert token() != token(generation=2 << 32)
    assert hash(token()) == hash(token())
    assert len({token(), token()}) == 1
