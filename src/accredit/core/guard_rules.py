"""Which scope a path needs, for guards that stand before a whole application.

A guard and the application behind it may read one path in two ways. So a path that can be read in several ways
(``//orders``, ``/x/../orders``) needs what every one of them needs, and a rule that lets *everybody* in reads it to the
byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Final

from accredit.core.guarding import RequiredScope, required_scope
from accredit.core.value import Value, frozen
from accredit.errors import ConfigurationError

__all__ = ["PUBLIC", "GuardRule", "Rules", "public", "rule"]

_ANY_METHOD: Final = ""
_MAX_PATH: Final = 8192


@frozen()
class GuardRule(Value):
    """What one path, or everything below one, needs. Made by :func:`rule` and :func:`public`.

    Attributes:
        path: the path, without the part that the server takes off (``root_path``, ``SCRIPT_NAME``).
        below: whether it stands for everything below it as well.
        methods: the HTTP methods it is for, in upper case; empty for all.
        needed: the scope; None for no token at all.

    """

    path: str
    below: bool
    methods: tuple[str, ...]
    needed: RequiredScope | None


#: What :meth:`Rules.find` returns for a path that everybody may ask for.
PUBLIC: Final = None


def rule(
    path: str,
    scope: str | Iterable[str] = (),
    *,
    any_of: str | Iterable[str] = (),
    methods: str | Iterable[str] = (),
) -> GuardRule:
    """Return a rule that demands scopes: ``rule("/orders", "orders:read", methods="GET")``.

    Args:
        path: a path, or one that ends in ``/*`` for itself and everything below it.
        scope: the scopes of which every one is needed: one text with spaces, or several.
        any_of: scopes of which one is enough.
        methods: HTTP methods; all when left out. ``GET`` is for ``HEAD`` as well.

    Raises:
        ConfigurationError: naming the argument at fault.

    """
    plain, below = _path(path)
    return GuardRule(plain, below, _methods(methods), required_scope(scope, any_of))


def public(path: str, *, methods: str | Iterable[str] = ()) -> GuardRule:
    """Return a rule that needs no token: ``public("/health")``. A token that is presented is not looked at.

    Raises:
        ConfigurationError: naming the argument at fault.

    """
    plain, below = _path(path)
    return GuardRule(plain, below, _methods(methods), None)


def _path(text: str) -> tuple[str, bool]:
    given = text if isinstance(text, str) else "no path"
    below = given.endswith("/*")
    plain = given.removesuffix("/*") if below else given
    if (not plain.startswith("/") and not (below and not plain)) or "*" in plain or _canonical(plain) != (plain or "/"):
        raise ConfigurationError(
            "it is not a plain absolute path.",
            advice="Write '/orders', '/orders/*' or '/*': no empty or dotted segment, no slash at the end, no pattern.",
            key="path",
        )
    return plain or "/", below


def _methods(given: str | Iterable[str]) -> tuple[str, ...]:
    several = given.split() if isinstance(given, str) else given
    names = tuple(several) if isinstance(several, Iterable) else (several,)
    if not all(isinstance(name, str) and name.isascii() and name.isalpha() and name == name.upper() for name in names):
        raise ConfigurationError("it is no HTTP method.", advice="Write 'GET' or ('PUT', 'PATCH').", key="methods")
    return names


def _read(path: str, *, backslash: bool, parameters: bool, dots: bool, empty: bool) -> str:
    """Return the path as one kind of reader understands it; each flag names something that it makes nothing of."""
    text = path.replace("\\", "/") if backslash else path
    segments: list[str] = []
    for segment in text.removeprefix("/").removesuffix("/").split("/"):
        # What follows a semicolon are parameters of a segment, which some readers drop.
        name = segment.partition(";")[0] if parameters else segment
        if dots and name == "..":
            del segments[-1:]
        elif not (dots and name == ".") and not (empty and not name):
            segments.append(name)
    return "/" + "/".join(segments)


def _canonical(path: str) -> str:
    """Return the path as the most lenient reader would understand it."""
    return _read(path, backslash=True, parameters=True, dots=True, empty=True)


def _readings(path: str) -> tuple[str, ...]:
    """Return the path in every way in which some application reads it, the most lenient one first."""
    doubtful = ("\\" in path, ";" in path, "/." in path or "\\." in path or path[:1] == ".")
    if not any(doubtful) and "//" not in path:
        return (_read(path, backslash=False, parameters=False, dots=False, empty=False),)
    kinds = product(*((True, False) if each else (True,) for each in (*doubtful, True)))
    return tuple(
        dict.fromkeys(
            _read(path, backslash=backslash, parameters=parameters, dots=dots, empty=empty)
            for backslash, parameters, dots, empty in kinds
        )
    )


def _together(needs: Iterable[RequiredScope]) -> RequiredScope:
    """Return what is enough for all of them; of several choices all but the first are demanded whole."""
    distinct = tuple(dict.fromkeys(needs))
    if len(distinct) == 1:
        return distinct[0]
    first, *others = (*dict.fromkeys(each.any_of for each in distinct if each.any_of), ())
    every = (scope for group in (*(each.all_of for each in distinct), *others) for scope in group)
    return RequiredScope(tuple(dict.fromkeys(every)), first)


class Rules:
    """The rules of one guard. The longest path wins, then the rule that names the method, then the first one."""

    def __init__(self, rules: Iterable[GuardRule], otherwise: RequiredScope) -> None:
        """Keep the rules, and the scope that a path without a rule needs.

        Raises:
            ConfigurationError: one of them is no rule.

        """
        rules = tuple(rules) if isinstance(rules, Iterable) else (None,)
        if not all(isinstance(each, GuardRule) for each in rules):
            raise ConfigurationError(
                "it is no list of rules.",
                advice="Give [rule('/orders/*', 'orders:read'), public('/health')].",
                key="rules",
            )
        self._otherwise = otherwise
        self._exact: dict[tuple[str, str], GuardRule] = {}
        self._below: dict[tuple[str, str], GuardRule] = {}
        for each in rules:
            for method in each.methods or (_ANY_METHOD,):
                for name in (method, "HEAD") if method == "GET" else (method,):
                    self._exact.setdefault((each.path, name), each)
                    if each.below:
                        self._below.setdefault((each.path, name), each)
        self._any = bool(self._exact)
        demands = [each.needed for each in self._exact.values() if each.needed is not None]
        self._everything = _together((otherwise, *demands))
        self._depth = max((path.count("/") for path, _ in self._below), default=0)

    def find(self, path: str, method: str) -> RequiredScope | None:
        """Return the scope that a request needs; None (:data:`PUBLIC`) when it needs no token."""
        if not self._any:
            return self._otherwise
        if len(path) > _MAX_PATH:
            return self._everything  # Nobody asks for such a path in earnest, and to read it in every way is work.
        readings = _readings(path)
        if len(readings) > 1:
            # Which of them is that of the application is not known, so what any of them demands is demanded.
            demanded = (self._needed(each, method, plain=False) for each in readings)
            return _together(each for each in demanded if each is not None)
        # A percent sign that is left was escaped twice; who knows how often the application decodes.
        return self._needed(readings[0], method, plain=path == readings[0] and "%" not in path)

    def _needed(self, path: str, method: str, *, plain: bool) -> RequiredScope | None:
        for found in self._matching(path, method):
            if found.needed is not None or plain:
                return found.needed
        return self._otherwise

    def _matching(self, path: str, method: str) -> Iterator[GuardRule]:
        yield from _both(self._exact, path, method)
        # No deeper than the deepest rule: whoever sends a long path must not make us look up each part of it.
        parts = path.split("/", self._depth + 1)
        for end in range(len(parts) - 1, 0, -1):
            yield from _both(self._below, "/".join(parts[:end]) or "/", method)


def _both(table: Mapping[tuple[str, str], GuardRule], path: str, method: str) -> Iterator[GuardRule]:
    for name in (method, _ANY_METHOD):
        found = table.get((path, name))
        if found is not None:
            yield found
