"""Values of header fields (RFC 9110), read strictly; what cannot be understood is None, never an error."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

__all__ = ["is_json_media_type", "parse_header_date", "parse_rate_limit_reset", "parse_retry_after"]

# Patterns are compiled by the first use, and cached by re: compiling them all shows in the import time.
_JSON_MEDIA_TYPE: Final = r"application/(?:[a-z0-9!#$&^_.+-]+\+)?json"
_DELAY: Final = r"[0-9]+"
_EPOCH: Final = r"[0-9]{10,12}"
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY: Final = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY: Final = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_MONTH: Final = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME: Final = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DATES: Final = (
    f"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",
    f"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",  # RFC 850
    f"{_DAY} {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})",  # asctime
)


def is_json_media_type(content_type: str | None) -> bool:
    """Tell whether a ``Content-Type`` says ``application/json`` or ``application/…+json`` (RFC 6839, section 3.1)."""
    essence = (content_type or "").partition(";")[0].strip(" \t").lower()
    return re.fullmatch(_JSON_MEDIA_TYPE, essence) is not None


def parse_header_date(value: str, *, now_wall: float) -> float | None:
    """Return the seconds since the epoch of an HTTP date in any of its three forms, or None (RFC 9110, section 5.6.7).

    ``now_wall`` (seconds since the epoch) tells the century of a year of two digits.
    """
    found = next(filter(None, (re.fullmatch(form, value.strip(" \t")) for form in _DATES)), None)
    if found is None:
        return None
    year = int(found["year"])
    if len(found["year"]) == 2:  # the form of RFC 850
        this_year = int(1970 + now_wall // 31_556_952)
        year += this_year - this_year % 100
        year -= 100 * (year > this_year + 50)
    second = int(found["second"])
    leap = second == 60  # a leap second is written so
    try:
        moment = datetime(
            year,
            _MONTHS.index(found["month"]) + 1,
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            second - leap,
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return moment.timestamp() + leap


def parse_retry_after(values: Sequence[str], *, now_wall: float, cap: float = 300.0) -> float | None:
    """Return for how many seconds a ``Retry-After`` asks us to stay away (RFC 9110, section 10.2.3).

    Args:
        values: every field of that name; several are believed only if they agree.
        now_wall: now, in seconds since the epoch.
        cap: most seconds that are granted.

    Returns:
        From 0 (a date in the past) to ``cap``; None when there is no field, or nothing that can be understood.

    """
    distinct = {value.strip(" \t") for value in values}
    if len(distinct) != 1:
        return None
    (text,) = distinct
    if re.fullmatch(_DELAY, text):
        # A number too long to be converted is beyond any cap.
        return min(float(text), cap)
    date = parse_header_date(text, now_wall=now_wall)
    return None if date is None else min(max(date - now_wall, 0.0), cap)


def parse_rate_limit_reset(value: str | None, *, now_wall: float, cap: float = 300.0) -> float | None:
    """Return for how many seconds an ``X-Rate-Limit-Reset`` (seconds since the epoch, as Okta sends it) holds us off.

    From 0 to ``cap``; None when it is absent or no plausible time, such as a number of seconds to wait.
    """
    text = (value or "").strip(" \t")
    return min(max(float(text) - now_wall, 0.0), cap) if re.fullmatch(_EPOCH, text) else None
