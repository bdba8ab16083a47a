"""JSON, read strictly and in bounds."""

from __future__ import annotations

import contextlib
import json
import sys
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from accredit.core.strict import StrictError, parse_json, parse_json_object, parse_seconds

LIMIT = 256 * 1024

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


def refusal(data: bytes, *, max_bytes: int = LIMIT) -> str:
    with pytest.raises(StrictError) as caught:
        parse_json(data, max_bytes=max_bytes)
    # The errors of the standard library hold the whole text.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return str(caught.value)


class TestParseJson:
    @pytest.mark.parametrize("ascii_only", [True, False])
    @given(value=json_values)
    def test_reads_what_the_standard_library_writes(self, ascii_only: bool, value: object) -> None:
        data = json.dumps(value, ensure_ascii=ascii_only).encode()
        assert parse_json(data, max_bytes=len(data)) == value

    @given(st.binary() | st.text('[]{}",:\\ud8efaNI0123456789.+- \t\n').map(str.encode))
    @example(b'"\\')
    @example(b'{"a":"\\ud800"}')
    def test_accepts_nothing_that_the_standard_library_reads_otherwise(self, data: bytes) -> None:
        try:
            value = parse_json(data, max_bytes=LIMIT)
        except StrictError:
            return
        assert value == json.loads(data.removeprefix(b"\xef\xbb\xbf").decode("utf-8"))

    def test_a10_fractions_and_integers_keep_their_kind(self) -> None:
        found = parse_json(b"[3600, 3600.0, -0, 1e3, 5e-324, 1e-999]", max_bytes=LIMIT)
        assert found == [3600, 3600.0, 0, 1000.0, 5e-324, 0.0]
        assert isinstance(found, list)
        assert [type(item) for item in found] == [int, float, int, float, float, float]

    @pytest.mark.parametrize(
        "number",
        ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, "-" + "9" * 5000, "0." + "1" * 5000],
        ids=["A19-nan", "A19-inf", "A19-minus-inf", "A19-1e999", "A19-minus-1e999", "A45", "A45-minus", "A45-fraction"],
    )
    @pytest.mark.parametrize("place", ['{"expires_in":%s}', '{"x":[[%s]]}', "%s"])
    def test_unreadable_numbers(self, number: str, place: str) -> None:
        message = refusal((place % number).encode())
        assert "999" not in message
        assert len(message) < 80

    def test_a19_a_large_integer_is_read_but_is_no_number_of_seconds(self) -> None:
        value = parse_json(b"1" + b"0" * 400, max_bytes=LIMIT)
        assert value == 10**400
        with pytest.raises(StrictError):
            parse_seconds(value)

    def test_a45_at_the_bound(self) -> None:
        assert parse_json(b"9" * 4300, max_bytes=LIMIT) == 10**4300 - 1
        assert refusal(b"9" * 4301) == "a number of 4301 characters, where 4300 are allowed"

    def test_a45_when_the_program_lowered_the_bound_of_the_interpreter(self) -> None:
        before = sys.get_int_max_str_digits()
        sys.set_int_max_str_digits(700)
        try:
            message = refusal(b"[%s]" % (b"9" * 701))
        finally:
            sys.set_int_max_str_digits(before)
        assert message == "a number longer than this interpreter is set to read"

    @pytest.mark.parametrize(
        "text",
        [
            '{"access_token":"a","acc\\u0065ss_token":"b"}',
            '{"a":1,"a":1}',
            '[{"x":{"a":1,"b":2,"\\u0061":3}}]',
            '{"\\/":1,"/":2}',
            '{"":1,"":2}',
            '{"\\ud83d\\ude00":1,"😀":2}',
        ],
        ids=["A25", "same", "nested", "solidus", "empty", "pair"],
    )
    def test_duplicate_members(self, text: str) -> None:
        assert refusal(text.encode()) == "a member name twice in one JSON object"

    def test_the_same_member_in_two_objects_is_no_duplicate(self) -> None:
        assert parse_json(b'[{"a":{"a":1}},{"a":2}]', max_bytes=LIMIT) == [{"a": {"a": 1}}, {"a": 2}]

    @pytest.mark.parametrize("escape", ["\\ud800", "\\udfff", "\\uDBFF x", "\\ude00\\ud83d", "\\ud83d\\ud83d\\ude00"])
    @pytest.mark.parametrize("place", ['"%s"', '{"%s":1}', '{"a":[{"b":"%s"}]}', '[["x",["%s"]]]', '{"a":{"%s":{}}}'])
    def test_a46_lone_surrogates(self, escape: str, place: str) -> None:
        assert refusal((place % escape).encode()) == "a lone surrogate in a JSON string"

    def test_a46_pairs_and_escaped_backslashes_are_no_lone_surrogates(self) -> None:
        assert parse_json(rb'["\ud83d\ude00", "\\ud800", {"k": 1}]', max_bytes=LIMIT) == ["😀", "\\ud800", {"k": 1}]

    def test_a46_surrogates_encoded_as_bytes(self) -> None:
        assert refusal(b'"\xed\xa0\x80"') == "not UTF-8 at byte 1"

    def test_a40_one_byte_order_mark(self) -> None:
        assert parse_json(b'\xef\xbb\xbf{"a":1}', max_bytes=LIMIT) == {"a": 1}
        assert refusal(b'\xef\xbb\xbf\xef\xbb\xbf{"a":1}') == "not JSON at character 0"

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
    def test_other_encodings(self, encoding: str) -> None:
        assert refusal('{"access_token":"canary"}'.encode(encoding)).startswith("not ")

    def test_latin_1(self) -> None:
        assert refusal('{"a":"é"}'.encode("latin-1")) == "not UTF-8 at byte 6"

    @pytest.mark.parametrize("brackets", ["[]", '{"":}'])
    def test_a44_depth(self, brackets: str) -> None:
        opening, closing = brackets[:-1], brackets[-1]
        for depth in (1, 31, 32):
            assert parse_json((opening * depth + "1" + closing * depth).encode(), max_bytes=LIMIT)
        for depth in (33, 1000, 50_000):
            text = opening * depth + "1" + closing * depth
            assert refusal(text.encode(), max_bytes=len(text)) == "JSON nested deeper than 32"
        assert refusal((opening * 100_000).encode(), max_bytes=10**6) == "JSON nested deeper than 32"

    def test_a44_brackets_in_strings_and_side_by_side_are_not_depth(self) -> None:
        value = ["[" * 40, '\\"{' * 40, [], {}, [[]]]
        data = json.dumps(value * 50).encode()
        assert parse_json(data, max_bytes=LIMIT, max_depth=3) == value * 50
        with pytest.raises(StrictError):
            parse_json(data, max_bytes=LIMIT, max_depth=2)

    @given(json_values)
    def test_a44_depth_is_that_of_the_value(self, value: object) -> None:
        def depth(item: object) -> int:
            if isinstance(item, dict):
                return 1 + max(map(depth, item.values()), default=0)
            return 1 + max(map(depth, item), default=0) if isinstance(item, list) else 0

        data = json.dumps(value).encode()
        assert parse_json(data, max_bytes=len(data), max_depth=depth(value)) == value
        if depth(value):
            with pytest.raises(StrictError, match="nested deeper"):
                parse_json(data, max_bytes=len(data), max_depth=depth(value) - 1)

    def test_a47_size(self) -> None:
        data = b'"' + b"x" * 98 + b'"'
        assert parse_json(data, max_bytes=100) == "x" * 98
        assert refusal(data, max_bytes=99) == "100 bytes, where 99 are allowed"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "{",
            '{"a":1',
            '{"a"',
            "{'a':1}",
            '{"a":1,}',
            "[1,]",
            "{} {}",
            "// x\n{}",
            '{"a":01}',
            '{"a":+1}',
            '{"a":.5}',
            '{"a":1.}',
            '{"a":0x10}',
            '{"a":\uff13\uff16\uff10\uff10}',
            '"\t"',
            '"\n"',
            '"\x00"',
            '"\\x41"',
            '"\\u00g0"',
            "nul",
            "True",
            "<html>",
            "\u00a0{}",
            "\x00{}",
            "]",
            "[}",
            '"abc\\',
        ],
    )
    def test_not_json(self, text: str) -> None:
        assert refusal(text.encode()).startswith("not JSON at character ")

    def test_the_message_never_repeats_what_it_read(self) -> None:
        for text in ('{"access_token":"canary"', '{"canary":1,"canary":2}', '{"canary":"\\ud800"}', '["canary", NaN]'):
            assert "canary" not in refusal(text.encode())

    @pytest.mark.parametrize(
        "data",
        [
            b"[" * LIMIT,
            b'"' + b'\\"' * (LIMIT // 2 - 1) + b"\\",
            b'"' * LIMIT,
            b"[" + b"[]," * (LIMIT // 3 - 1) + b"1]",
            b"{" * (LIMIT // 2) + b"}" * (LIMIT // 2),
            b"\\" * LIMIT,
            b"0." + b"1" * (LIMIT - 2),
            b"[" + b",".join([b"9" * 4300] * 60) + b"]",
            b'["' + b"\\ud83d\\ude00" * (LIMIT // 12 - 1) + b'"]',
        ],
        ids=["open", "escapes", "quotes", "wide", "braces", "backslashes", "fraction", "integers", "pairs"],
    )
    def test_time_is_linear(self, data: bytes) -> None:
        before = time.thread_time()
        with contextlib.suppress(StrictError):
            parse_json(data, max_bytes=LIMIT)
        # Milliseconds when linear, minutes when not.
        assert time.thread_time() - before < 2


class TestParseJsonObject:
    def test_an_object(self) -> None:
        assert parse_json_object(b'{"a":{}}', max_bytes=8, max_depth=2) == {"a": {}}

    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            ("[]", "an array"),
            ('"x"', "a string"),
            ("1", "a number"),
            ("1.5", "a number"),
            ("null", "null"),
            ("true", "true or false"),
        ],
        ids=["A42-array", "A42-string", "A42-number", "A42-fraction", "A42-null", "A42-bool"],
    )
    def test_something_else(self, text: str, kind: str) -> None:
        with pytest.raises(StrictError, match=f"^{kind} where a JSON object is required$"):
            parse_json_object(text.encode(), max_bytes=100)

    @pytest.mark.parametrize("arguments", [{"max_bytes": 1}, {"max_bytes": 100, "max_depth": 1}])
    def test_the_limits_are_passed_on(self, arguments: dict[str, int]) -> None:
        with pytest.raises(StrictError):
            parse_json_object(b'{"a":{}}', **arguments)
