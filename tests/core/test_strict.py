"""The strict parsers: seconds, access tokens, scopes, error codes, base64url."""

from __future__ import annotations

import base64
import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit.core.strict import (
    StrictError,
    b64url_decode,
    b64url_encode,
    check_scope_token,
    parse_access_token,
    parse_scope_member,
    parse_seconds,
    safe_error_code,
)

VISIBLE = {chr(code) for code in range(0x21, 0x7F)}


class TestParseSeconds:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            (3600, 3600),
            (0, 0),
            (-5, -5),
            ("3600", 3600),
            ("0", 0),
            ("0003600", 3600),
            (3600.0, 3600),
            (3599.9, 3599),
            (0.5, 0),
            (-0.5, -1),
            (315360000, 315360000),
            (2**53 - 1, 2**53 - 1),
            ("9" * 15, 10**15 - 1),
        ],
        ids=[
            "A13",
            "A14-zero",
            "A14-negative",
            "A15",
            "A15-zero",
            "A15-zeros",
            "A17",
            "A17-floor",
            "A17-half",
            "A17-minus-half",
            "A20",
            "largest",
            "digits",
        ],
    )
    def test_seconds(self, value: object, seconds: int) -> None:
        found = parse_seconds(value)
        assert found == seconds
        assert type(found) is int

    @pytest.mark.parametrize(
        "value",
        [
            "\uff13\uff16\uff10\uff10",
            "3_600",
            " 3600 ",
            "3600\n",
            "+3600",
            "-1",
            "0x10",
            "1e3",
            "3600s",
            "",
            "3600.0",
            "²",
            "9" * 17,
            "9" * 5000,
        ],
    )
    def test_a16_strings_that_are_not_digits(self, value: str) -> None:
        with pytest.raises(StrictError, match=r"^not a number of seconds$"):
            parse_seconds(value)

    @pytest.mark.parametrize(
        "value", [True, False, [], [3600], {}, {"s": 1}, None, b"3600", math.nan, math.inf, -math.inf]
    )
    def test_a18_a19_other_kinds(self, value: object) -> None:
        with pytest.raises(StrictError, match=r"^not a number of seconds$"):
            parse_seconds(value)

    @pytest.mark.parametrize("value", [2**53, -(2**53), 10**400, 1e300, -1e300, "9" * 16])
    def test_a19_out_of_all_proportion(self, value: object) -> None:
        with pytest.raises(StrictError, match=r"^a number of seconds out of all proportion$"):
            parse_seconds(value)

    @given(st.text() | st.floats() | st.integers() | st.none())
    def test_only_one_error(self, value: object) -> None:
        try:
            found = parse_seconds(value)
        except StrictError:
            return
        assert math.floor(float(str(value))) == found


class TestParseAccessToken:
    @given(st.text(max_size=30) | st.text(sorted(VISIBLE), max_size=30))
    def test_which_characters(self, text: str) -> None:
        if text and set(text) <= VISIBLE - set('"\\,'):
            assert parse_access_token(text) == text
            return
        with pytest.raises(StrictError) as caught:
            parse_access_token(text)
        if text:
            assert text[int(str(caught.value).rpartition(" ")[2])] not in VISIBLE - set('"\\,')

    @pytest.mark.parametrize("value", [None, "", 123, 0, True, [], ["x"], {}, b"abc", 1.5])
    def test_a07_other_kinds(self, value: object) -> None:
        with pytest.raises(StrictError, match=r"^not a string, or empty$"):
            parse_access_token(value)

    @pytest.mark.parametrize(
        "code", [0x0, 0x9, 0xA, 0xD, 0x1F, 0x20, 0x22, 0x2C, 0x5C, 0x7F, 0x80, 0xA0, 0xE9, 0xD800, 0x1F600]
    )
    @pytest.mark.parametrize("place", [0, 6, 12])
    def test_a08_the_message_names_the_character_and_never_the_value(self, code: int, place: int) -> None:
        text = "canarycanary"
        with pytest.raises(StrictError) as caught:
            parse_access_token(text[:place] + chr(code) + text[place:])
        assert str(caught.value) == f"a character that cannot be in an access token: U+{code:04X} at position {place}"

    @pytest.mark.parametrize("text", [" abc", "abc ", "Bearer abc", "abc\n", "a b"])
    def test_a09_nothing_is_stripped(self, text: str) -> None:
        with pytest.raises(StrictError):
            parse_access_token(text)

    @pytest.mark.parametrize("text", ["00D!AQ.x", "123|abc", "a:b", "a=b", "~{}[]()<>@;?'`^#$%&*"])
    def test_a10_more_than_token68(self, text: str) -> None:
        assert parse_access_token(text) == text

    def test_a11_length(self) -> None:
        for length in (1, 16 * 1024, 64 * 1024):
            assert len(parse_access_token("x" * length)) == length
        with pytest.raises(StrictError, match=r"^65537 characters, where 65536 are allowed$"):
            parse_access_token("x" * (64 * 1024 + 1))


class TestScope:
    @pytest.mark.parametrize(
        ("text", "scopes"),
        [
            ("a b", ("a", "b")),
            ("b a b", ("b", "a")),
            ("a  b ", ("a", "b")),
            (" a", ("a",)),
            ("", ()),
            (" ", ()),
            ("https://api.example/.default", ("https://api.example/.default",)),
            ("a,b", ("a,b",)),
        ],
        ids=["plain", "A30-repeated", "A30-spaces", "A30-leading", "empty", "space", "url", "comma"],
    )
    def test_member(self, text: str, scopes: tuple[str, ...]) -> None:
        assert parse_scope_member(text) == scopes

    @pytest.mark.parametrize("value", [["a", "b"], None, 1, True, {}, b"a"])
    def test_a31_other_kinds(self, value: object) -> None:
        with pytest.raises(StrictError, match=r"^not a string$"):
            parse_scope_member(value)

    @pytest.mark.parametrize("character", ['"', "\\", "\n", "\t", "\x00", "\x7f", "é", "\u2028", "\ud800"])
    def test_a31_d08_characters(self, character: str) -> None:
        fault = f"^a character that cannot be in a scope: U\\+{ord(character):04X} at position 2$"
        with pytest.raises(StrictError, match=fault):
            parse_scope_member(f"ok{character}")
        with pytest.raises(StrictError, match=fault):
            check_scope_token(f"ok{character}")

    def test_d08_one_scope(self) -> None:
        assert check_scope_token("orders:read") == "orders:read"
        with pytest.raises(StrictError, match=r"^an empty scope$"):
            check_scope_token("")
        with pytest.raises(StrictError, match=r"U\+0020 at position 1$"):
            check_scope_token("a b")

    @given(st.text(max_size=20) | st.text(sorted(VISIBLE | {" "}), max_size=20))
    def test_members_are_made_of_scopes(self, text: str) -> None:
        allowed = set(text) <= (VISIBLE | {" "}) - set('"\\')
        if not allowed:
            with pytest.raises(StrictError):
                parse_scope_member(text)
            return
        scopes = parse_scope_member(text)
        assert set(scopes) == {check_scope_token(scope) for scope in text.split(" ") if scope}
        assert len(scopes) == len(set(scopes))
        assert parse_scope_member(" ".join(scopes)) == scopes


class TestErrorCode:
    @pytest.mark.parametrize("value", ["invalid_client", "AADSTS70011", "urn:x.y-z", "x" * 64])
    def test_a_safe_code(self, value: str) -> None:
        assert safe_error_code(value) == value

    def test_none(self) -> None:
        assert safe_error_code(None) is None

    @pytest.mark.parametrize(
        "value",
        [
            "",
            1,
            True,
            [],
            {"code": "x"},
            "a b",
            "invalid_client\n",
            "a\r\nb",
            "\x1b[2J",
            "\u202ex",
            "ﬁ",
            "x" * 65,
            "x" * 10_000_000,
            "\ud800",
        ],
    )
    def test_b16_anything_else(self, value: object) -> None:
        assert safe_error_code(value) == "unknown_error"

    @given(st.text())
    def test_b16_always_safe(self, value: str) -> None:
        code = safe_error_code(value)
        assert code is not None
        assert 1 <= len(code) <= 64
        assert set(code) <= set(string.ascii_letters + string.digits + "_.:-")


class TestBase64Url:
    @given(st.binary())
    def test_there_and_back(self, data: bytes) -> None:
        text = b64url_encode(data)
        assert text == base64.urlsafe_b64encode(data).decode().rstrip("=")
        assert b64url_decode(text) == data

    @given(st.text("ABab01-_") | st.text(max_size=8))
    def test_f15_each_sequence_of_bytes_has_one_text(self, text: str) -> None:
        try:
            data = b64url_decode(text)
        except StrictError:
            return
        assert b64url_encode(data) == text

    @pytest.mark.parametrize("character", [*list("=+/ \n\t!.%"), "é", "\uff21", "\x00", "�"])
    @pytest.mark.parametrize("place", [0, 2, 4])
    def test_f15_junk(self, character: str, place: int) -> None:
        text = "YWJj"
        with pytest.raises(StrictError, match=f"U\\+{ord(character):04X} at position {place}$"):
            b64url_decode(text[:place] + character + text[place:])

    @pytest.mark.parametrize("text", ["A", "YWJjA"])
    def test_f15_impossible_length(self, text: str) -> None:
        with pytest.raises(StrictError, match=f"no bytes have an encoding of {len(text)} characters$"):
            b64url_decode(text)

    @pytest.mark.parametrize("text", ["AB", "YR", "AAB", "YWK"])
    def test_f15_bits_left_over(self, text: str) -> None:
        with pytest.raises(StrictError, match=r"are not zero$"):
            b64url_decode(text)
