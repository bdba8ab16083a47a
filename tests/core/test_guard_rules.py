"""Which scope a path needs: no spelling of a path gets more than its plain form does."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit.core.guard_rules import PUBLIC, Rules, public, rule
from accredit.core.guarding import RequiredScope
from accredit.errors import ConfigurationError

OTHERWISE = RequiredScope(("other",))
READ, WRITE, ADMIN = (RequiredScope((name,)) for name in ("read", "write", "admin"))


def every(*names: str) -> RequiredScope:
    return RequiredScope(names)


RULES = Rules(
    [
        public("/health"),
        public("/static/*"),
        rule("/orders", "read", methods="GET"),
        rule("/orders", "write", methods=("POST", "PUT")),
        rule("/orders/*", "admin"),
        rule("/orders/free", "read"),
        public("/orders/help", methods="GET"),
    ],
    OTHERWISE,
)


@pytest.mark.parametrize(
    ("path", "method", "needed"),
    [
        ("/", "GET", OTHERWISE),
        ("/health", "GET", PUBLIC),
        ("/health", "POST", PUBLIC),
        ("/health/", "GET", OTHERWISE),
        ("//health", "GET", OTHERWISE),
        ("/healthy", "GET", OTHERWISE),
        ("/health/more", "GET", OTHERWISE),
        ("/static", "GET", PUBLIC),
        ("/static/a/b.css", "GET", PUBLIC),
        ("/static/../orders", "GET", every("read", "other")),
        ("/static/..", "GET", OTHERWISE),
        ("/static/%2e%2e/orders", "GET", OTHERWISE),
        ("/static/..\\orders", "GET", every("read", "other")),
        ("/static/a;x=/../../orders", "GET", every("read", "other")),
        ("/orders", "GET", READ),
        ("/orders", "HEAD", READ),
        ("/orders", "POST", WRITE),
        ("/orders", "PUT", WRITE),
        ("/orders", "DELETE", ADMIN),
        ("/orders/", "GET", READ),
        ("//orders//", "POST", every("write", "other")),
        ("/./orders/.", "GET", every("read", "other")),
        ("/orders;jsessionid=1", "GET", every("read", "other")),
        ("/x/../orders", "GET", every("read", "other")),
        ("/orders/7", "GET", ADMIN),
        ("/orders/7/lines", "POST", ADMIN),
        ("/orders/free", "POST", READ),
        ("/orders/help", "GET", PUBLIC),
        ("/orders/help", "HEAD", PUBLIC),
        ("/orders/help", "POST", ADMIN),
        ("/orders/help/", "GET", ADMIN),
        ("/Orders", "GET", OTHERWISE),
        ("", "GET", OTHERWISE),
        ("/orders/../x", "GET", every("other", "admin")),
        ("/orders/7/..", "GET", every("read", "admin")),
        ("/orders\\..\\x", "GET", every("other", "admin")),
        ("/orders/free;x", "GET", every("read", "admin")),
        ("/orders//free", "GET", every("read", "admin")),
        ("/" + "a/" * 5000, "GET", every("other", "read", "write", "admin")),
        ("/orders/" + "a" * 9000, "GET", every("other", "read", "write", "admin")),
    ],
)
def test_a_path(path: str, method: str, needed: RequiredScope | None) -> None:
    assert RULES.find(path, method) == needed


def test_a_choice_of_scopes_is_kept_where_one_can_be_and_otherwise_demanded_whole() -> None:
    rules = Rules([rule("/a/*", any_of="one two"), rule("/b", any_of="three four"), rule("/c", "read")], OTHERWISE)
    assert rules.find("/a/../c", "GET") == RequiredScope(("read",), ("one", "two"))
    assert rules.find("/a/../b", "GET") == RequiredScope(("one", "two"), ("three", "four"))


SEGMENTS = st.lists(
    st.sampled_from(["orders", "static", "free", "7", "", ".", "..", "a;b", "..;x", "orders\\..", "%2e"]), max_size=6
)


def readers() -> list[Callable[[str], str]]:
    """Return how applications read paths: as they are, or without what some of them drop or resolve."""

    def resolved(path: str) -> str:
        return posixpath.normpath("/" + path.lstrip("/"))

    def merged(path: str) -> str:
        return re.sub("//+", "/", path)

    def stripped(path: str) -> str:
        return re.sub(";[^/]*", "", path)

    def turned(path: str) -> str:
        return path.replace("\\", "/")

    return [
        lambda path: path,
        resolved,
        merged,
        stripped,
        lambda path: resolved(stripped(path)),
        lambda path: merged(stripped(path)),
        lambda path: resolved(turned(path)),
        lambda path: merged(turned(path)),
        lambda path: resolved(stripped(turned(path))),
    ]


@given(SEGMENTS, st.sampled_from(readers()), st.sampled_from(["GET", "POST"]))
def test_whoever_reads_the_path_it_needs_no_less_than_what_is_read(
    segments: list[str], reader: Callable[[str], str], method: str
) -> None:
    path = "/" + "/".join(segments)
    read = reader(path)
    # What the application makes of it, by the rules for a path that can be read in one way only.
    plain = RULES._needed(read.rstrip("/") or "/", method, plain=False)
    needed = RULES.find(path, method)
    assert plain is not None
    assert needed is PUBLIC or set(plain.all_of) <= set(needed.all_of)


def test_without_rules_everything_needs_the_same() -> None:
    assert Rules([], OTHERWISE).find("//what/ever/..", "GET") is OTHERWISE


def test_everything_below_the_root() -> None:
    rules = Rules([public("/*"), rule("/a", "read")], OTHERWISE)
    assert rules.find("/", "GET") is PUBLIC
    assert rules.find("/b/c", "POST") is PUBLIC
    assert rules.find("//b", "GET") == OTHERWISE
    assert rules.find("/a", "GET") == READ
    assert rules.find("/a/", "GET") == READ
    assert Rules([public("/")], OTHERWISE).find("/b", "GET") == OTHERWISE


def test_a_rule_deep_down_and_a_path_deeper_still() -> None:
    rules = Rules([rule("/a/b/c/*", "read"), rule("/*", "write"), public("/a/b")], OTHERWISE)
    assert rules.find("/a/b/c", "GET") == READ
    assert rules.find("/a/b/c" + "/d" * 1000, "GET") == READ
    assert rules.find("/a/b/x" + "/d" * 1000, "GET") == WRITE
    assert rules.find("/a/b", "GET") is PUBLIC
    assert rules.find("/a/b/", "GET") == WRITE


def test_a_long_path_is_looked_up_no_more_often_than_rules_are_deep(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[str] = []

    class Counting(dict[Any, Any]):
        def get(self, key: Any, default: Any = None) -> Any:
            looked_up.append(key)
            return super().get(key, default)

    monkeypatch.setattr(RULES, "_below", Counting(RULES._below))
    assert RULES.find("/x" * 4000, "GET") == OTHERWISE
    assert len(looked_up) <= 6


def test_of_two_rules_for_one_path_the_first_counts_and_one_that_names_the_method_before() -> None:
    assert Rules([rule("/a", "read"), rule("/a", "write")], OTHERWISE).find("/a", "GET") == READ
    assert Rules([rule("/a", "read"), rule("/a", "write", methods="GET")], OTHERWISE).find("/a", "GET") == WRITE


@given(st.lists(st.sampled_from(["orders", "static", "health", "", ".", "..", "7", "free", "%2e"]), max_size=6))
def test_only_the_plain_spelling_is_let_through_without_a_token(segments: list[str]) -> None:
    path = "/" + "/".join(segments)
    if RULES.find(path, "GET") is PUBLIC:
        assert path == "/health" or path.split("/")[1] == "static" or path == "/orders/help"
        assert not {"", ".", ".."} & set(path.split("/")[1:])


@pytest.mark.parametrize(
    "path",
    [
        None,
        5,
        b"/orders",
        "",
        "orders",
        "/orders/",
        "//orders",
        "/a/../b",
        "/a/*/b",
        "/a*",
        "*",
        "/a/./b",
        "/a;b",
        "/a\\b",
    ],
)
def test_a_path_that_is_no_plain_path(path: Any) -> None:
    for make in (rule, public):
        with pytest.raises(ConfigurationError) as error:
            make(path)
        assert error.value.key == "path"


@pytest.mark.parametrize("methods", ["get", 5, None, ["GET", 7], "G3T", "ÄB"])
def test_what_is_no_method(methods: Any) -> None:
    for make in (rule, public):
        with pytest.raises(ConfigurationError) as error:
            make("/a", methods=methods)
        assert error.value.key == "methods"


def test_a_scope_that_is_none() -> None:
    with pytest.raises(ConfigurationError):
        rule("/a", ["a b"])


@pytest.mark.parametrize("rules", [["/orders"], [None], rule("/a"), 5, "/a", [rule("/a"), READ]])
def test_what_is_no_list_of_rules(rules: Any) -> None:
    with pytest.raises(ConfigurationError) as error:
        Rules(rules, OTHERWISE)
    assert error.value.key == "rules"
