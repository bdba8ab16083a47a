"""What the fuzz targets look for in messages, and the marks that stand for a canary in their inputs.

In an input ``@S`` stands for the client secret, ``@U``, ``@Q`` and ``@B`` for its percent, form and Basic encodings,
and ``@T`` for a canary of the kind of a token; a mutation can move them anywhere.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, quote_plus

from accredit.errors import AccreditError

# No six characters of it in a row could be a name, which some messages repeat.
SECRET: Final = "7/f+9 é2:b/x+q 1&w=z/8"
TOKEN: Final = "t0ken-canary-5c1d"
CLIENT_ID: Final = "orders:worker"
MAX_INPUT: Final = 4096
_WINDOW: Final = 6

_STANDS_FOR: Final[Mapping[bytes, bytes]] = {
    b"@S": SECRET.encode(),
    b"@U": quote(SECRET, safe="-._~").encode(),
    b"@Q": quote_plus(SECRET).encode(),
    b"@B": base64.b64encode(f"{quote(CLIENT_ID, safe='-._~')}:{quote(SECRET, safe='-._~')}".encode()),
    b"@T": TOKEN.encode(),
}
_PLAIN: Final = (SECRET, quote(SECRET, safe="-._~"), quote_plus(SECRET))
_ALL: Final = (*_PLAIN, _STANDS_FOR[b"@B"].decode())


class FindingError(AssertionError):
    """The library did something that it must not."""


def check(good: object, what: str) -> None:
    """Raise a finding unless ``good``; it shows no value, the input is kept anyway."""
    if not good:
        raise FindingError(what)


def filled(data: bytes) -> bytes:
    """Return the input, cut to size, with the marks replaced."""
    data = data[:MAX_INPUT]
    for mark, text in _STANDS_FOR.items():
        data = data.replace(mark, text)
    return data


def text_of(data: bytes) -> str:
    """Return text of all kinds: UTF-8, lone surrogates too, and other bytes as Latin-1."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def check_silent(error: BaseException, *more: str, plain: bool = False) -> None:
    """Check what an error and those that hang on it say, as :func:`check_text` does."""
    seen: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and not any(each is one for one in seen):
        seen.append(each)
        said = [str(each), repr(each), repr(each.args)]
        if isinstance(each, AccreditError):
            said += [each.summary, each.advice, repr(vars(each))]
        check_text("\n".join(said), *more, plain=plain)
        each = each.__cause__ or each.__context__


def check_text(text: str, *more: str, plain: bool = False) -> None:
    """Raise a finding if a text has six characters of the secret in a row, in whatever encoding, or any of ``more``.

    With ``plain`` the Basic encoding does not count: it may look like a name, and names are shown.
    """
    folded = text.casefold()
    for form in (item.casefold() for item in (_PLAIN if plain else _ALL)):
        windows = (form[start : start + _WINDOW] for start in range(len(form) - _WINDOW + 1))
        check(not any(window in folded for window in windows), "a message repeats the secret")
    check(not any(item.casefold() in folded for item in more), "a message repeats a value")


def check_printable(text: str) -> None:
    """Raise a finding if a message has characters that a terminal or a log might act on."""
    check(text.isascii() and text.isprintable(), "control or other odd characters in a message")
