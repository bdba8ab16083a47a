"""Answers of a token endpoint: odd but right ones, and faulty ones."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Seconds within which a call has to end. accredit's own deadline is 10 s unless configured.
LIMIT = 12.0
_TOKEN = "2YotnFZFEjr1zCsicMWpAA"
_OK = f'{{"access_token":"{_TOKEN}","token_type":"Bearer","expires_in":3600}}'

Respond = Callable[[Any, str], None]


def _message(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


@dataclass(frozen=True, slots=True)
class Case:
    """One answer.

    Attributes:
        name: what is odd or wrong about it.
        respond: sends it on a connection; given the URL of another host.
        good: whether its token is to be used.
        token: the token of a good one.

    """

    name: str
    respond: Respond
    good: bool = False
    token: str = _TOKEN

    @property
    def answer_of_other(self) -> bytes:
        """What the other host answers."""
        return _message("200 OK", _OK.encode(), "Content-Type: application/json")


def _raw(data: bytes) -> Respond:
    return lambda connection, _other: connection.sendall(data)


def _body(
    name: str, text: str | bytes, *, status: str = "200 OK", kind: str = "application/json", good: bool = False
) -> Case:
    body = text.encode() if isinstance(text, str) else text
    return Case(name, _raw(_message(status, body, f"Content-Type: {kind}")), good)


def _members(name: str, members: str, *, good: bool = False) -> Case:
    return _body(name, f"{{{members}}}", good=good)


def _token(name: str, literal: str) -> Case:
    return _members(name, f'"access_token":{literal},"token_type":"Bearer","expires_in":3600')


def _expires(name: str, literal: str, *, good: bool = False) -> Case:
    return _members(name, f'"access_token":"{_TOKEN}","token_type":"Bearer","expires_in":{literal}', good=good)


def _type(name: str, literal: str, *, good: bool = False) -> Case:
    return _members(name, f'"access_token":"{_TOKEN}","token_type":{literal},"expires_in":3600', good=good)


def _redirect(status: str) -> Case:
    def respond(connection: Any, other: str) -> None:
        connection.sendall(_message(status, b"", f"Location: {other}"))

    return Case(f"{status.partition(' ')[0]} to another host", respond)


def _slowly(head: bytes, piece: bytes, pause: float) -> Respond:
    def respond(connection: Any, _other: str) -> None:
        connection.sendall(head)
        until = time.monotonic() + LIMIT + 3
        while time.monotonic() < until:
            connection.sendall(piece)
            time.sleep(pause)

    return respond


_JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n" + f"{len(_OK):x}\r\n{_OK}\r\n0\r\n\r\n".encode()
_REST = '"token_type":"Bearer","expires_in":3600'
_WHOLE = f'"access_token":"{_TOKEN}",{_REST}'

GROUPS = {
    "odd but right": (
        _body("as in the RFC", _OK, good=True),
        _type("token_type in lower case", '"bearer"', good=True),
        _type("token_type in upper case", '"BEARER"', good=True),
        _members("unknown members", f'{_WHOLE},"x":{{"y":[1]}}', good=True),
        _members("a refresh token", f'{_WHOLE},"refresh_token":"tGzv3JOkF0XG5Qx2TlKWIA"', good=True),
        _members("members that are null", f'{_WHOLE},"scope":null,"id_token":null', good=True),
        _expires("expires_in as a text", '"3600"', good=True),
        _expires("expires_in as a float", "3600.0", good=True),
        _expires("expires_in of ten days", "864000", good=True),
        _expires("expires_in is null", "null", good=True),
        _members("no expires_in", f'"access_token":"{_TOKEN}","token_type":"Bearer"', good=True),
        _body("a charset", _OK, kind="application/json; charset=utf-8", good=True),
        _body("white space around", f"\r\n {_OK} \n", good=True),
        Case("chunked", _raw(_JSON_HEAD + _CHUNKED), good=True),
    ),
    "the token": (
        _members("no access_token", _REST),
        _token("the token is null", "null"),
        _token("the token is empty", '""'),
        _token("the token is a number", "12345"),
        _token("the token is true", "true"),
        _token("the token is a list", f'["{_TOKEN}"]'),
        _token("the token is an object", f'{{"value":"{_TOKEN}"}}'),
        _token("a space in the token", '"abc def"'),
        _token("a space before the token", '" abcdef"'),
        _token("a line break after the token", '"abcdef\\n"'),
        _token("a header in the token", '"abc\\r\\nX-Injected: 1"'),
        _token("a tab in the token", '"abc\\tdef"'),
        _token("a NUL in the token", '"abc\\u0000def"'),
        _token("a letter beyond ASCII in the token", '"abcdéf"'),
        _token("a lone surrogate in the token", '"abc\\ud800"'),
        _token("a quotation mark in the token", '"abc\\"def"'),
        _members("access_token twice", f'"access_token":"first",{_WHOLE}'),
        _members("access_token twice, once escaped", f'"access_token":"first","access\\u005ftoken":"{_TOKEN}",{_REST}'),
    ),
    "its type": (
        _members("no token_type", f'"access_token":"{_TOKEN}","expires_in":3600'),
        _type("token_type is null", "null"),
        _type("token_type is empty", '""'),
        _type("token_type is another", '"mac"'),
        _type("token_type is N_A", '"N_A"'),
        _type("token_type is a list", '["Bearer"]'),
    ),
    "its lifetime": (
        _expires("expires_in is true", "true"),
        _expires("expires_in is a word", '"soon"'),
        _expires("expires_in has a unit", '"3600s"'),
        _expires("expires_in is empty", '""'),
        _expires("expires_in is a list", "[3600]"),
        _expires("expires_in is negative", "-1"),
        _expires("expires_in is NaN", "NaN"),
        _expires("expires_in is infinite", "1e999"),
        _expires("expires_in beyond all measure", "1" + "0" * 5000),
        _members("expires_in twice", f'{_WHOLE},"expires_in":7200'),
    ),
    "the document": (
        _body("HTML with status 200", "<!doctype html><title>Sign in</title>", kind="text/html"),
        _body("an empty body", ""),
        _body("a JSON array", f"[{_OK}]"),
        _body("a JSON text", f'"{_TOKEN}"'),
        _body("half of the JSON", _OK[:40]),
        _body("something after the JSON", f"{_OK}garbage"),
        _body("not UTF-8", _OK.encode("utf-16")),
        _body("nested 100,000 deep", '{"a":' * 100_000 + "1" + "}" * 100_000),
        _members("an error with status 200", f'"error":"invalid_scope",{_WHOLE}'),
    ),
    "the status": (
        _body("a token with status 400", _OK, status="400 Bad Request"),
        _body("a token with status 500", _OK, status="500 Internal Server Error"),
        _body("a token with status 202", _OK, status="202 Accepted"),
        _redirect("302 Found"),
        _redirect("307 Temporary Redirect"),
        _redirect("308 Permanent Redirect"),
    ),
    "the connection": (
        Case("cut off", _raw(_JSON_HEAD + b"Content-Length: 5000\r\n\r\n" + _OK.encode())),
        Case("no HTTP", _raw(b"SSH-2.0-OpenSSH_9.2\r\n")),
        Case("no answer", _slowly(b"", b"", 0.5)),
        Case("a byte now and then", _slowly(_JSON_HEAD + b"Content-Length: 5000\r\n\r\n", b" ", 0.5)),
        Case("a body without end", _slowly(_JSON_HEAD + b"\r\n", b" " * 500_000, 0.05)),
    ),
}
