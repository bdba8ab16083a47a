"""Secrets print as ``***`` and go nowhere by accident."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest

from accredit.core.secret import CallableSecret, EnvironmentSecret, FileSecret, LiteralSecret, Secret


@pytest.mark.parametrize(
    "shown",
    [
        repr(Secret("can4ry")),
        str(Secret("can4ry")),
        f"{Secret('can4ry')}",
        f"{Secret('can4ry'):>10}",
        f"{Secret('can4ry')!r}",
        "%s" % Secret("can4ry"),  # noqa: UP031 - one more way to print
        "{}".format(Secret("can4ry")),
        repr([Secret("can4ry")]),
        repr(LiteralSecret(Secret("can4ry"))),
        str({"a": LiteralSecret(Secret("can4ry"))}),
    ],
)
def test_a_secret_prints_as_stars(shown: str) -> None:
    assert "***" in shown
    assert "can4ry" not in shown


def test_a_secret_can_be_revealed_on_purpose() -> None:
    assert Secret("can4ry").reveal() == "can4ry"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_refuses_to_be_pickled(protocol: int) -> None:
    for value in (Secret("can4ry"), LiteralSecret(Secret("can4ry"))):
        with pytest.raises(TypeError, match="refuses to be pickled") as caught:
            pickle.dumps(value, protocol)
        assert "can4ry" not in str(caught.value)


def test_a_secret_is_not_copied_or_written_as_json() -> None:
    for write in (copy.copy, copy.deepcopy, json.dumps):
        with pytest.raises(TypeError):
            write(Secret("can4ry"))


def test_secrets_are_values() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert hash(Secret("a")) == hash(Secret("a"))
    assert not hasattr(Secret("a"), "__dict__")


def test_sources_are_plain_data() -> None:
    def function() -> str:
        return "x"

    assert Secret.from_file("/run/x") == FileSecret(Path("/run/x"))
    assert Secret.from_environment("X") == EnvironmentSecret("X")
    assert Secret.from_function(function) == CallableSecret(function)
    assert "function" not in repr(CallableSecret(function))
