"""Decisions about one call: what it is to carry, where it goes, what a 401 means for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit.core.calls import Choice, call_origin, judge_refusal, second_report
from accredit.errors import ConfigurationError


def test_a_choice_that_names_a_registration_starts_from_it() -> None:
    base = Choice("api", scope="a", audience="x", principal="p", resource="https://r.example")
    assert base.vary("other", scope=["b", "c"]) == Choice("other", scope=("b", "c"))


def test_a_choice_that_names_none_keeps_the_rest() -> None:
    base = Choice("api", scope="a", audience="x")
    assert base.vary(scope=iter(["b"])) == Choice("api", scope=("b",), audience="x")
    assert base.vary(resource="r", audience="y", principal="p") == Choice("api", "a", "r", "y", "p")
    assert base.vary() == base


@pytest.mark.parametrize(
    ("option", "choice"),
    [
        ("other", Choice("other")),
        ({}, Choice("api", scope="a")),
        ({"registration": "other", "scope": "b"}, Choice("other", scope="b")),
        ({"audience": "x"}, Choice("api", scope="a", audience="x")),
    ],
)
def test_the_option_of_a_call(option: object, choice: Choice) -> None:
    assert Choice("api", scope="a").vary_by(option) == choice


@pytest.mark.parametrize("option", [3, None, ["other"], {"scopes": "a"}, {1: 2}, b"other"])
def test_an_option_that_is_none(option: object) -> None:
    with pytest.raises(ConfigurationError, match="audience, principal, registration"):
        Choice().vary_by(option)


@pytest.mark.parametrize(
    ("scheme", "authority", "origin"),
    [
        ("https", "api.example.com", "https://api.example.com"),
        ("https", "API.example.com:443", "https://api.example.com"),
        ("https", "[::1]:8443", "https://[::1]:8443"),
        ("http", "127.0.0.1:80", "http://127.0.0.1"),
        ("wss", "api.example.com", "https://api.example.com"),
        ("ws", "localhost:9", "http://localhost:9"),
        # Open to two readings: the origin of nothing, and so none of the allowed ones.
        ("https", "api.example.com.", "https://api.example.com.?"),
        ("ftp", "Api.example.com", "ftp://api.example.com?"),
        ("https", "", "https://?"),
    ],
)
def test_the_origin_of_a_call(scheme: str, authority: str, origin: str) -> None:
    assert call_origin(scheme, authority) == origin


@given(st.text(), st.text())
def test_any_authority_has_an_answer(scheme: str, authority: str) -> None:
    assert len(call_origin(scheme, authority)) <= 301 or call_origin(scheme, authority).startswith("http")


INVALID = 'Bearer error="invalid_token"'


@pytest.mark.parametrize(
    ("challenges", "settings", "verdict"),
    [
        ([INVALID], {}, "retry"),
        ([], {}, "retry"),
        ([INVALID], {"retried": True}, "final"),
        ([INVALID], {"retried": True, "replayable": False}, "final"),
        ([INVALID], {"replayable": False}, "report"),
        ([INVALID], {"carried": False}, "surface"),
        ([INVALID], {"carried": False, "retried": True}, "surface"),
        (["Basic realm=x"], {}, "surface"),
        (["Basic realm=x"], {"retried": True}, "surface"),
        (["Basic realm=x", INVALID], {}, "retry"),
        (['Bearer error="insufficient_scope"'], {}, "surface"),
    ],
)
def test_the_verdict_on_a_401(challenges: list[str], settings: dict[str, Any], verdict: str) -> None:
    circumstances = {"carried": True, "replayable": True, "retried": False} | settings
    assert judge_refusal(challenges, **circumstances) == verdict


@pytest.mark.parametrize(
    ("before", "second"),
    [
        (None, False),
        ((7, 95.0), False),  # the same generation: calls that were on their way together
        ((6, 95.0), True),
        ((6, 90.0), False),  # long ago
    ],
)
def test_a_second_report(before: tuple[int, float] | None, second: bool) -> None:
    assert second_report(before, 7, 100.0, within=10.0) is second
