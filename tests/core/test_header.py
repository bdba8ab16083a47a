"""Values of header fields: media types, dates, Retry-After, X-Rate-Limit-Reset."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit.core.strict import is_json_media_type, parse_header_date, parse_rate_limit_reset, parse_retry_after

NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT
# Hypothesis wants its bounds without a time zone, and adds that of `timezones`.
OLDEST = datetime(1900, 1, 1)  # noqa: DTZ001
NEWEST = datetime(9999, 12, 31)  # noqa: DTZ001
RFC_EXAMPLE = 784_111_777.0  # the example of RFC 9110, section 5.6.7


class TestMediaType:
    @pytest.mark.parametrize(
        "text",
        [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=UTF-8",
            " application/json ",
            "application/jwk-set+json",
            "application/vnd.x.y+json;q=1",
        ],
    )
    def test_json(self, text: str) -> None:
        assert is_json_media_type(text)

    @pytest.mark.parametrize(
        "text",
        [
            None,
            "",
            "text/html",
            "text/plain",
            "text/json",
            "application/jsonp",
            "application/jwt",
            "application/json, text/html",
            "application/+json",
            "application/x+xml",
            "json",
            "application/json\n",
            "text/html; application/json",
        ],
    )
    def test_a36_a37_not_json(self, text: str | None) -> None:
        assert not is_json_media_type(text)

    def test_time_is_linear(self) -> None:
        before = time.thread_time()
        assert not is_json_media_type("application/" + "a+" * 100_000 + "x")
        assert time.thread_time() - before < 2


class TestDate:
    @pytest.mark.parametrize(
        "text",
        [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            " Sun, 06 Nov 1994 08:49:37 GMT\t",
        ],
    )
    def test_the_three_forms(self, text: str) -> None:
        assert parse_header_date(text, now_wall=NOW) == RFC_EXAMPLE

    @given(st.datetimes(min_value=OLDEST, max_value=NEWEST, timezones=st.just(UTC)))
    def test_what_the_standard_library_writes(self, moment: datetime) -> None:
        moment = moment.replace(microsecond=0)
        assert parse_header_date(format_datetime(moment, usegmt=True), now_wall=NOW) == moment.timestamp()

    @pytest.mark.parametrize(("year", "full"), [("27", 2027), ("77", 2077), ("78", 1978), ("94", 1994), ("00", 2000)])
    def test_two_digits_are_never_more_than_fifty_years_ahead(self, year: str, full: int) -> None:
        expected = datetime(full, 11, 6, tzinfo=UTC).timestamp()
        assert parse_header_date(f"Sunday, 06-Nov-{year} 00:00:00 GMT", now_wall=NOW) == expected

    def test_p09_leap_second(self) -> None:
        expected = datetime(2017, 1, 1, tzinfo=UTC).timestamp()
        assert parse_header_date("Sat, 31 Dec 2016 23:59:60 GMT", now_wall=NOW) == expected

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "soon",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 0000 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Son, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Now 1994 08:49:37 GMT",
            "Sun, \uff106 Nov 1994 08:49:37 GMT",
            "1994-11-06T08:49:37Z",
            "Sun, 06 Nov 1994 08:49:37 GMT\n",
        ],
    )
    def test_no_date(self, text: str) -> None:
        assert parse_header_date(text, now_wall=NOW) is None

    @given(st.text())
    def test_never_raises(self, text: str) -> None:
        assert parse_header_date(text, now_wall=NOW) is None


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("values", "seconds"),
        [
            (["7"], 7.0),
            (["0"], 0.0),
            ([" 7\t"], 7.0),
            (["007"], 7.0),
            (["300"], 300.0),
            (["301"], 300.0),
            (["1000000000"], 300.0),
            (["9" * 9000], 300.0),
            (["Fri, 15 Jan 2027 08:00:42 GMT"], 42.0),
            (["Sun, 06 Nov 1994 08:49:37 GMT"], 0.0),
            (["Fri, 15 Jan 2037 08:00:00 GMT"], 300.0),
            (["7", "7"], 7.0),
        ],
        ids=[
            "B09",
            "zero",
            "space",
            "zeros",
            "at-cap",
            "over-cap",
            "B10-1e9",
            "B10-huge",
            "date",
            "B10-past",
            "B10-ten-years",
            "B10-two-equal",
        ],
    )
    def test_understood(self, values: list[str], seconds: float) -> None:
        assert parse_retry_after(values, now_wall=NOW) == seconds

    @pytest.mark.parametrize(
        "values",
        [
            [],
            ["-1"],
            ["soon"],
            ["1e9"],
            ["1.5"],
            [""],
            ["7", "8"],
            ["7, 8"],
            ["\uff17"],
            ["+7"],
            ["inf"],
            ["nan"],
            ["7s"],
            ["7\n"],
        ],
    )
    def test_b10_garbage(self, values: list[str]) -> None:
        assert parse_retry_after(values, now_wall=NOW) is None

    def test_another_cap(self) -> None:
        assert parse_retry_after(["7"], now_wall=NOW, cap=5.0) == 5.0

    @given(st.lists(st.text() | st.from_regex(r"[0-9]{1,20}")), st.floats(0, 4e9))
    def test_always_within_bounds(self, values: list[str], now: float) -> None:
        seconds = parse_retry_after(values, now_wall=now)
        assert seconds is None or 0 <= seconds <= 300


class TestRateLimitReset:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [("1800000042", 42.0), (" 1800000042 ", 42.0), ("1799999999", 0.0), ("1900000000", 300.0), ("9" * 12, 300.0)],
    )
    def test_understood(self, value: str, seconds: float) -> None:
        assert parse_rate_limit_reset(value, now_wall=NOW) == seconds

    @pytest.mark.parametrize(
        "value", [None, "", "30", "-1800000042", "1800000042.5", "1e10", "soon", "9" * 13, "1800000042\n"]
    )
    def test_garbage(self, value: str | None) -> None:
        assert parse_rate_limit_reset(value, now_wall=NOW) is None

    def test_another_cap(self) -> None:
        assert parse_rate_limit_reset("1800000042", now_wall=NOW, cap=5.0) == 5.0
