"""What every strict parser raises, and how it names a fault without repeating the value at fault."""

from __future__ import annotations


class StrictError(ValueError):
    """Something from outside is not exactly what its specification allows.

    The message names the kind of fault and its position, never the value: what is parsed may be a token.
    The frames on the traceback do hold the value, though, so whoever turns this into an error for a caller
    raises that one *after* the ``except`` block, where nothing hangs on its ``__context__``.
    """


def describe(text: str, index: int) -> str:
    """Return ``"U+000A at position 12"`` for the character of ``text`` at ``index`` (counted from 0)."""
    return f"U+{ord(text[index]):04X} at position {index}"
