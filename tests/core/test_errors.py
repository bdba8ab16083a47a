"""Errors say whose fault it is and what to do; each waiter gets an equal one of its own."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from accredit import errors
from accredit.errors import (
    AccreditError,
    AuthorizationServerError,
    ConfigurationError,
    InvalidTokenError,
    StoreError,
    ThrottledError,
    UnreachableError,
)

SERVER_ERRORS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AuthorizationServerError)
]
ALL = [
    *(
        kind("it failed.", advice="Mend it.", endpoint="https://as.example/t", status=503, error_code="x")
        for kind in SERVER_ERRORS
    ),
    AccreditError("it failed.", advice="Mend it."),
    ConfigurationError("it failed.", advice="Mend it.", key="registration.a.scope"),
    StoreError("it failed.", advice="Mend it."),
    InvalidTokenError("it failed.", advice="Mend it.", reason="expired"),
]


def name(error: AccreditError) -> str:
    return type(error).__name__


def test_the_tree_is_complete() -> None:
    assert {kind.__name__ for kind in SERVER_ERRORS} == {
        "AuthorizationServerError",
        "RefusedError",
        "CredentialRefusedError",
        "RequestRefusedError",
        "ThrottledError",
        "MalformedResponseError",
        "UnreachableError",
        "DiscoveryError",
    }


@pytest.mark.parametrize("error", ALL, ids=name)
def test_an_error_says_what_and_what_to_do(error: AccreditError) -> None:
    assert str(error).endswith("it failed. Mend it.")
    assert (error.summary, error.advice) == ("it failed.", "Mend it.")
    assert error.args == ("it failed.",)
    assert error.fault in {"configuration", "authorization server", "network", "store", "token"}


@pytest.mark.parametrize("error", ALL, ids=name)
def test_a_fresh_error_is_equal_and_has_no_past(error: AccreditError) -> None:
    thrown = error.fresh()
    thrown.add_note("a note")
    thrown.__cause__ = thrown.__context__ = ValueError()
    with pytest.raises(type(error)):
        raise thrown
    fresh = thrown.fresh()
    assert fresh is not thrown
    assert fresh == thrown == error
    assert hash(fresh) == hash(error)
    assert vars(fresh) == {key: value for key, value in vars(thrown).items() if key != "__notes__"}
    assert fresh.__traceback__ is None
    assert (fresh.__context__, fresh.__cause__) == (None, None)
    assert not hasattr(fresh, "__notes__")


@pytest.mark.parametrize("error", ALL, ids=name)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_travels_between_processes(error: AccreditError, protocol: int) -> None:
    assert pickle.loads(pickle.dumps(error, protocol)) == error
    assert copy.deepcopy(error) == error


@pytest.mark.parametrize("error", ALL, ids=name)
def test_errors_differ_in_type_text_and_data(error: AccreditError) -> None:
    assert error != type(error)("another.", advice="Mend it.")
    assert error != type(error)("it failed.")
    assert error != "it failed."
    others = [other for other in ALL if type(other) is not type(error)]
    assert error not in others


def test_a_server_error_has_safe_data() -> None:
    error = ThrottledError(
        "slow.", endpoint="https://as.example/t", status=429, error_code="slow_down", retry_after=7.0
    )
    assert (error.endpoint, error.status, error.error_code, error.retry_after) == (
        "https://as.example/t",
        429,
        "slow_down",
        7.0,
    )
    held = error.held_for(3.0)
    assert (type(held), held.retry_after, held.status) == (ThrottledError, 3.0, 429)
    assert held != error


@pytest.mark.parametrize("kind", SERVER_ERRORS)
def test_an_endpoint_is_told_without_its_query(kind: Any) -> None:
    error = kind("x", endpoint="https://as.example/t?key=can4ry")
    assert error.endpoint == "https://as.example/t"
    assert error == error.fresh()
    assert "can4ry" not in repr(vars(error))


def test_a_configuration_error_is_a_value_error_and_names_its_key() -> None:
    error = ConfigurationError("is wrong.", key="registration.a.scope")
    assert isinstance(error, ValueError)
    assert str(error) == "registration.a.scope: is wrong."
    assert str(ConfigurationError("is wrong.")) == "is wrong."


def test_whose_fault_it_is() -> None:
    assert [kind("x").fault for kind in (ConfigurationError, ThrottledError, UnreachableError, StoreError)] == [
        "configuration",
        "authorization server",
        "network",
        "store",
    ]
    invalid = InvalidTokenError("x")
    assert (invalid.fault, invalid.reason) == ("token", "invalid")
