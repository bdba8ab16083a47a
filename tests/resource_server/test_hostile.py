"""What nobody well-meaning sends: never a 500, never a way in, and little work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accredit.core.guarding import RequiredScope
from accredit.errors import ConfigurationError, InvalidTokenError, UnreachableError
from accredit.resource_server import Guard
from accredit.resource_server.asgi import AsgiGuard
from accredit.resource_server.wsgi import WsgiGuard
from accredit.testing import TokenMaker
from tests.resource_server.apps import EVERY
from tests.resource_server.serving import raw
from tests.resource_server.support import Failing

HOSTILE = {
    "bytes that are no text": b"Authorization: Bearer \xff\xfe\x80abc",
    "UTF-8": "Authorization: Bearer tökén✓".encode(),
    "a name that is no text": b"Authoriz\xe9tion: Bearer abc",
    "a quotation mark": b'Authorization: Bearer "abc"',
    "a backslash": b"Authorization: Bearer a\\b",
    "nothing": b"Authorization:",
    "spaces": b"Authorization:      ",
    "only dots": b"Authorization: Bearer ..",
    "many dots": b"Authorization: Bearer " + b"." * 10_000,
    "long": b"Authorization: Bearer " + b"a" * 20_000,
    "very long": b"Authorization: Bearer " + b"a" * 60_000,
    "a long scheme": b"Authorization: " + b"b" * 20_000,
    "many spaces": b"Authorization: Bearer" + b" " * 20_000 + b"x",
    "deep JSON": b"Authorization: Bearer " + b"W1tbW1tbW1tbW1tb" * 600 + b".e30.AA",
    "percent": b"Authorization: Bearer %00%0d%0a",
    "a token of another kind": b"Authorization: Bearer eyJhbGciOiJub25lIn0.e30.",
}


@pytest.mark.parametrize("field", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_field(service: str, field: bytes) -> None:
    answer = raw(service, "/orders", field)
    # 431 and an answer without challenge are those of a server that refused the request before the guard saw it.
    assert answer.status in {400, 401, 431}
    if answer.challenge is not None:
        assert answer.challenge.startswith('Bearer realm="api"')


def test_thousands_of_fields(service: str, tokens: TokenMaker) -> None:
    junk = [b"X-Junk-%d: %d" % (number, number) for number in range(3000)]
    answer = raw(service, "/orders", *junk)
    assert answer.status in {400, 401, 431}
    many = [b"Authorization: Bearer a"] * 2000
    assert raw(service, "/orders", *many).status in {400, 431}


@pytest.mark.parametrize("path", ["/orders?%", "/orders?access_token", "/orders?" + "a" * 8000, "/orders?\xff=1"])
def test_a_hostile_query(service: str, tokens: TokenMaker, path: str) -> None:
    assert raw(service, path).status in {400, 401}
    answer = raw(service, path, f"Authorization: Bearer {tokens.valid()}".encode())
    assert answer.status == (400 if "access_token" in path else 200) or (answer.status == 400 and "\xff" in path)


@pytest.mark.parametrize("length", [b"-1", b"abc", b"9" * 30, "١".encode()])
def test_a_hostile_length_of_a_form(service: str, tokens: TokenMaker, length: bytes) -> None:
    fields = [
        f"Authorization: Bearer {tokens.valid()}".encode(),
        b"Content-Type: application/x-www-form-urlencoded",
        b"Content-Length: " + length,
        b"Expect: nothing",
    ]
    answer = raw(service, "/health", *fields, method="GET")
    assert answer.status in {200, 400, 411, 413}


def test_too_much_to_be_a_token_is_refused_before_anybody_looks_at_it(serve: Callable[..., str]) -> None:
    for name in EVERY:
        verifier = Failing(UnreachableError("down."))
        url = serve(name, verifier)
        assert raw(url, "/orders", b"Authorization: Bearer " + b"a" * 16_385).status == 401
        assert raw(url, "/orders", b"Authorization: Bearer a b").status == 400
        assert verifier.asked == 0
        assert raw(url, "/orders", b"Authorization: Bearer " + b"a" * 16_384).status == 503
        assert verifier.asked == 1


# ------------------------------------------------------------------------------------------- without a server around


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("the application was reached")


def _asgi(headers: list[tuple[bytes, bytes]], guard: Any) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": headers}
    anyio.run(guard, scope, receive, send)
    return sent


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=60), max_size=4), st.sampled_from([b"", b"Bearer ", b"bearer  "]))
def test_any_bytes_are_answered_and_never_let_in(values: list[bytes], start: bytes) -> None:
    guard = AsgiGuard(_nothing, Failing(InvalidTokenError("no.", reason="signature")))
    sent = _asgi([(b"authorization", start + value) for value in values], guard)
    assert sent[0]["status"] in {400, 401}
    assert dict(sent[0]["headers"])[b"www-authenticate"].startswith(b'Bearer realm="api"')
    assert all(b"\r" not in value and b"\n" not in value for _, value in sent[0]["headers"])


@settings(max_examples=200)
@given(st.text(st.characters(codec="latin-1"), max_size=60), st.text(max_size=20), st.text(max_size=20))
def test_any_environment_is_answered_and_never_let_in(field: str, query: str, length: str) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        raise AssertionError("the application was reached")

    answers: list[str] = []
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": query,
        "QUERY_STRING": query,
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "CONTENT_LENGTH": length,
        "HTTP_AUTHORIZATION": field,
    }
    guard: Any = WsgiGuard(app, Failing(InvalidTokenError("no.", reason="signature")))
    guard(environ, lambda status, headers: answers.append(status))
    assert answers[0][:3] in {"400", "401"}


def test_a_kind_of_connection_that_is_not_known_is_not_let_in() -> None:
    guard: Any = AsgiGuard(_nothing, Failing(InvalidTokenError("no.")))
    with pytest.raises(ConfigurationError, match="cannot be guarded"):
        anyio.run(guard, {"type": "webtransport", "headers": []}, None, None)


def test_a_guard_keeps_no_token(tokens: TokenMaker, verifier: Any) -> None:
    token = tokens.valid()
    guard = Guard(verifier)
    admitted: Any = guard.admit([f"Bearer {token}"], RequiredScope())
    assert admitted.client_id == "orders-worker"
    assert token not in repr(guard)
    assert all(token not in str(value) for value in vars(guard).values())


def test_what_the_log_says_of_refusals(service: str, tokens: TokenMaker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="accredit.resource_server")
    expired = tokens.expired()
    raw(service, "/orders", f"Authorization: Bearer {expired}".encode())
    raw(service, "/orders", b"Authorization: Bearer evil\x1b[2Jline")
    said = [record.getMessage() for record in caplog.records if record.name == "accredit.resource_server"]
    assert "refused a request: 401 invalid_token (expired)" in said
    assert not any(expired in line or "evil" in line or "\x1b" in line for line in said)


def test_a_hook_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []

    def hook(refusal: Any) -> None:
        seen.append(refusal.reason)
        raise RuntimeError("the hook")

    guard = Guard(Failing(InvalidTokenError("no.", reason="expired")), on_refusal=hook)
    assert guard.admit(["Bearer a"], RequiredScope()).status == 401
    assert guard.admit([], RequiredScope()).status == 401
    assert seen == ["expired", "no_token"]
    assert "the hook" not in caplog.text
    assert "on_refusal" in caplog.text
