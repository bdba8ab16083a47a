"""HTML that cannot be broken out of: text and attributes are always escaped, and tags come from the program only."""

from __future__ import annotations

import html
import re
from typing import Final

_VOID: Final = frozenset({"meta", "link", "input", "br", "hr"})
_NAME: Final = re.compile(r"[a-z][a-z0-9-]*")
_MAX_SHOWN: Final = 2000


class Markup(str):
    """HTML made by :func:`h`. A plain text is never taken for one."""

    __slots__ = ()


Child = str | int | None | list["Child"]


def visible(text: str) -> str:
    r"""Return a text in which nothing is invisible: controls, bidirectional overrides and the like as ``\u202e``."""
    if text.isprintable() and len(text) <= _MAX_SHOWN:
        return text
    shown = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
    return "".join(
        letter
        if letter.isprintable()
        else f"\\u{ord(letter):04x}"
        if ord(letter) < 0x10000
        else f"\\U{ord(letter):08x}"
        for letter in shown
    )


def h(tag: str, *children: Child, **attributes: str | int | bool | None) -> Markup:
    """Return an element.

    Args:
        tag: its name, written in the program.
        children: markup as it is, anything else as escaped text.
        attributes: ``class_`` and ``for_`` for words of Python, ``aria_label`` for ``aria-label``; True is an attribute
            without value, and None or False is none.

    """
    parts = [f"<{_known(tag)}"]
    for name, value in attributes.items():
        if value is not None and value is not False:
            written = _known(name.removesuffix("_").replace("_", "-"))
            parts.append(f" {written}" if value is True else f' {written}="{_attribute(written, value)}"')
    parts.append(">")
    if tag not in _VOID:
        parts.append(_inside(list(children)))
        parts.append(f"</{tag}>")
    return Markup("".join(parts))


def pre(text: str) -> Markup:
    """Return a text of several lines, as it is."""
    lines = (visible(line) for line in text.split("\n"))
    return Markup(f'<pre tabindex="0">{html.escape(chr(10).join(lines))}</pre>')


def raw(tag: str, text: str) -> Markup:
    """Return a ``style`` or ``script`` element with a text of the program itself, which no outsider has a part in."""
    return Markup(f"<{_known(tag)}>{text}</{tag}>")


def _inside(child: Child) -> str:
    if isinstance(child, Markup):
        return child
    if isinstance(child, list):
        return "".join(map(_inside, child))
    return "" if child is None else html.escape(_shown(child), quote=True)


def _shown(value: str | int) -> str:
    return visible(value) if isinstance(value, str) else str(value)


def _attribute(name: str, value: str | int) -> str:
    if name != "value" or not isinstance(value, str):
        return html.escape(_shown(value), quote=True)
    # What a form sends back must be the very text: as references, so that a browser reads even line breaks as they are.
    return "".join(letter if letter.isalnum() or letter in "-._:/ " else f"&#{ord(letter)};" for letter in value)


def _known(name: str) -> str:
    if not _NAME.fullmatch(name):
        msg = "a name of an element or attribute comes from the program"
        raise ValueError(msg)
    return name
