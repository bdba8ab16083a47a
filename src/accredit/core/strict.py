"""The strict parsers for what comes from the network: JSON, numbers, tokens, scopes, base64url.

All raise :class:`StrictError`, and nothing else, on anything that is not exactly right. All take linear time.
URLs are in :mod:`accredit.core.url` and header fields in :mod:`accredit.core.header`; their names can be imported
from here as well.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final, NoReturn

from accredit.core.fault import StrictError, describe
from accredit.core.header import (
    is_json_media_type,
    parse_header_date,
    parse_rate_limit_reset,
    parse_retry_after,
)
from accredit.core.url import Url, is_link_local, origin_of, parse_url

__all__ = [
    "StrictError",
    "Url",
    "b64url_decode",
    "b64url_encode",
    "check_scope_token",
    "is_json_media_type",
    "is_link_local",
    "origin_of",
    "parse_access_token",
    "parse_header_date",
    "parse_json",
    "parse_json_object",
    "parse_rate_limit_reset",
    "parse_retry_after",
    "parse_scope_member",
    "parse_seconds",
    "parse_url",
    "safe_error_code",
]

# --- JSON (RFC 8259) ---------------------------------------------------------------------------------------

_BOM: Final = b"\xef\xbb\xbf"
_MAX_NUMBER: Final = 4300  # characters; the default bound of CPython for integers, kept also where that is lifted
# Possessive, and matching a string that never ends: no input makes it go over the same bytes twice.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEPS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_SURROGATE_ESCAPE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE: Final = "[\ud800-\udfff]"  # rarely needed, and expensive to compile
_KINDS: Final = {
    list: "an array",
    str: "a string",
    bool: "true or false",
    type(None): "null",
}


def parse_json(data: bytes, *, max_bytes: int, max_depth: int = 32) -> object:
    """Return the value of a JSON text (RFC 8259, and the advice of RFC 8725, section 3.5 on duplicates).

    Args:
        data: UTF-8, nothing else; a byte order mark before it is tolerated.
        max_bytes: most bytes that ``data`` may have.
        max_depth: most arrays and objects inside each other.

    Raises:
        StrictError: too long, too deep, not UTF-8, not JSON, a member name twice (however it is escaped), a lone
            surrogate, NaN or infinity (``1e999`` included), or a number of more than 4300 characters.

    """
    if len(data) > max_bytes:
        raise StrictError(f"{len(data)} bytes, where {max_bytes} are allowed")
    data = data.removeprefix(_BOM)
    # Nothing is deeper than it has opening brackets; to count them is a fraction of the work.
    if data.count(b"{") + data.count(b"[") > max_depth and _depth(data) > max_depth:
        raise StrictError(f"JSON nested deeper than {max_depth}")
    # The errors of the standard library hold the whole text, so they must be gone when ours is raised.
    value: object = None
    fault = ""
    try:
        text = data.decode("utf-8")
        # Where no number can be too long, none has to be looked at.
        decoder = _DECODER if len(text) > _MAX_NUMBER else _SHORT_DECODER
        value, end = decoder.raw_decode(text) if text[:1] in _BEGINS else (None, -1)
        if end != len(text):  # white space around it, or a fault, which is then told exactly
            value = decoder.decode(text)
    except UnicodeDecodeError as error:
        fault = f"not UTF-8 at byte {error.start}"
    except json.JSONDecodeError as error:
        fault = f"not JSON at character {error.pos}"
    except StrictError as error:
        fault = str(error)
    except ValueError:  # the program lowered the bound of the interpreter
        fault = "a number longer than this interpreter is set to read"
    if (
        not fault
        and b"\\u" in data
        and _SURROGATE_ESCAPE.search(data)
        and any(re.search(_SURROGATE, text) for text in _strings(value))
    ):
        fault = "a lone surrogate in a JSON string"
    if fault:
        raise StrictError(fault)
    return value


def parse_json_object(data: bytes, *, max_bytes: int, max_depth: int = 32) -> dict[str, object]:
    """Return the members of a JSON text that is an object; otherwise as :func:`parse_json`.

    Raises:
        StrictError: as there, and when the JSON text is not an object.

    """
    value = parse_json(data, max_bytes=max_bytes, max_depth=max_depth)
    if not isinstance(value, dict):
        raise StrictError(f"{_KINDS.get(type(value), 'a number')} where a JSON object is required")
    return value


def _depth(data: bytes) -> int:
    """Return how deep the brackets outside strings go; right for as much of ``data`` as is JSON at all."""
    brackets = _STRING.sub(b"", data).translate(None, _NOT_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _strings(item)


def _unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise StrictError("a member name twice in one JSON object")
    return members


def _bounded(number: str) -> str:
    if len(number) > _MAX_NUMBER:
        raise StrictError(f"a number of {len(number)} characters, where {_MAX_NUMBER} are allowed")
    return number


def _parse_int(text: str) -> int:
    return int(_bounded(text))


def _parse_float(text: str) -> float:
    value = float(_bounded(text))
    if math.isinf(value):
        raise StrictError("a number too large to be read")
    return value


def _refuse_constant(_name: str) -> NoReturn:
    raise StrictError("NaN or infinity, which are not JSON")


def _decoder(parse_int: Callable[[str], int] | None) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_unique_members,
        parse_int=parse_int,
        parse_float=_parse_float,
        parse_constant=_refuse_constant,
    )


_DECODER: Final = _decoder(_parse_int)
_SHORT_DECODER: Final = _decoder(None)
_BEGINS: Final = frozenset("{[")

# --- members of a token response (RFC 6749, section 5.1) ---------------------------------------------------

_MAX_SECONDS: Final = 2**53 - 1  # the integers that every JSON reader agrees on (RFC 8259, section 6)
_DIGITS: Final = re.compile(r"[0-9]{1,16}")
_MAX_TOKEN: Final = 64 * 1024
_NOT_IN_TOKEN: Final = re.compile(r'[^\x21-\x7e]|["\\,]')
_NOT_IN_SCOPE: Final = re.compile(r'[^\x20-\x7e]|["\\]')
_ERROR_CODE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def parse_seconds(value: object) -> int:
    """Return a number of seconds, such as ``expires_in``; zero and below are for the caller to judge.

    A string of ASCII digits is taken for the number, which some servers mean; fractions are dropped downwards.

    Raises:
        StrictError: another kind of value (``true`` and null included), NaN, or beyond 2**53 - 1 either way.

    """
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    elif isinstance(value, float) and math.isfinite(value):
        value = math.floor(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise StrictError("not a number of seconds")
    if abs(value) > _MAX_SECONDS:
        raise StrictError("a number of seconds out of all proportion")
    return value


def parse_access_token(value: object) -> str:
    r"""Return an access token that can be put into a header field as it is.

    Visible ASCII (RFC 6749, appendix A.12) but ``"``, ``\`` and the comma; wider than the ``token68`` of RFC 6750,
    since servers in use are. Nothing is stripped. At most 64 KiB.

    Raises:
        StrictError: not a string, empty, too long, or a character that is not allowed.

    """
    if not isinstance(value, str) or not value:
        raise StrictError("not a string, or empty")
    if len(value) > _MAX_TOKEN:
        raise StrictError(f"{len(value)} characters, where {_MAX_TOKEN} are allowed")
    if found := _NOT_IN_TOKEN.search(value):
        raise StrictError(f"a character that cannot be in an access token: {describe(value, found.start())}")
    return value


def parse_scope_member(value: object) -> tuple[str, ...]:
    """Return the scopes of a ``scope`` member in their order, each once (RFC 6749, section 3.3).

    Several spaces count as one; an empty member is no scope at all, which is not the same as no member.

    Raises:
        StrictError: not a string, or a character that no scope can have.

    """
    if not isinstance(value, str):
        raise StrictError("not a string")
    if found := _NOT_IN_SCOPE.search(value):
        raise StrictError(f"a character that cannot be in a scope: {describe(value, found.start())}")
    return tuple(dict.fromkeys(filter(None, value.split(" "))))


def check_scope_token(text: str) -> str:
    """Return ``text`` if it is one scope (RFC 6749, appendix A.4).

    Raises:
        StrictError: empty, or with a space or another character that a scope cannot have.

    """
    if not text:
        raise StrictError("an empty scope")
    found = _NOT_IN_SCOPE.search(text)
    index = found.start() if found else text.find(" ")
    if index >= 0:
        raise StrictError(f"a character that cannot be in a scope: {describe(text, index)}")
    return text


def safe_error_code(value: object) -> str | None:
    """Return an ``error`` member (RFC 6749, section 5.2) fit for logs and messages.

    None when it is absent (or null), ``"unknown_error"`` when it is not ``[A-Za-z0-9_.:-]{1,64}``.
    """
    if value is None:
        return None
    return value if isinstance(value, str) and _ERROR_CODE.fullmatch(value) else "unknown_error"


# --- base64url (RFC 4648, section 5; RFC 7515, section 2) --------------------------------------------------

_NOT_BASE64URL: Final = re.compile(r"[^A-Za-z0-9_-]")
_LETTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# To the plain alphabet; whatever is not of the URL-safe one becomes something that the decoder refuses.
_TO_BASE64: Final = bytes(
    _LETTERS[byte_at] if byte_at < 62 else b"+/"[byte_at - 62] if byte_at >= 0 else ord("!")
    for byte_at in map(_LETTERS.find, (bytes([byte]) for byte in range(256)))
)
# By the length of what is left over: the padding, and the last letters whose unused bits are zero.
_LEFT_OVER: Final = {
    0: (b"", frozenset(_LETTERS)),
    2: (b"==", frozenset(_LETTERS[::16])),
    3: (b"=", frozenset(_LETTERS[::4])),
}


def b64url_decode(text: str) -> bytes:
    """Return the bytes of a base64url text without padding; each sequence of bytes has one text only.

    Raises:
        StrictError: padding, any other character, an impossible length, or bits left over that are not zero.

    """
    try:
        raw = text.encode("ascii")
        padding, last = _LEFT_OVER[len(raw) % 4]
        if not raw or raw[-1] in last:
            return binascii.a2b_base64(raw.translate(_TO_BASE64) + padding, strict_mode=True)
    except (UnicodeEncodeError, KeyError, binascii.Error):
        pass  # What is wrong is found out below, when the error that may quote the text is gone.
    if found := _NOT_BASE64URL.search(text):
        raise StrictError(f"not base64url: {describe(text, found.start())}")
    if len(text) % 4 == 1:
        raise StrictError(f"not base64url: no bytes have an encoding of {len(text)} characters")
    raise StrictError("not base64url: the bits left over at the end are not zero")


def b64url_encode(data: bytes) -> str:
    """Return the base64url text of ``data``, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
