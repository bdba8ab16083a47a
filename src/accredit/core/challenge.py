"""The challenges of a 401 (RFC 9110, section 11.6.1), and whether a newer token could answer them.

Servers are careless with this field, so it is read leniently: what cannot be understood is passed over, and
nothing here ever raises. Reading takes linear time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

_MAX_CHARACTERS: Final = 16 * 1024
_MAX_CHALLENGES: Final = 64

_WORD: Final = "[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_GAP: Final = re.compile(r"[\s,;]*+")
# A scheme is a token that no equals sign follows; a token before an equals sign is the name of a parameter.
_SCHEME: Final = re.compile(rf"({_WORD})(?!\s*=)\s*+")
_TOKEN68: Final = re.compile(r"([A-Za-z0-9._~+/-]++=*+)(?=\s*(?:,|\Z))")
_NAME: Final = re.compile(rf"({_WORD})\s*+=\s*+")
# The closing quote may be missing: then the value goes on to the end.
_QUOTED: Final = re.compile(r'"((?:[^"\\]++|\\.)*+)"?', re.DOTALL)
_UNQUOTED: Final = re.compile(r'[^\s,;"]*+')
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_BETWEEN: Final = re.compile(r"[\s;]*+")
_JUNK: Final = re.compile(r'(?:[^",]++|"(?:[^"\\]++|\\.)*+"?)*+', re.DOTALL)

_TOKEN_SCHEMES: Final = frozenset({"bearer", "dpop"})
_OTHER_CREDENTIALS: Final = frozenset({"basic", "digest", "negotiate", "ntlm"})


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way in which a server would let itself be convinced.

    Attributes:
        scheme: the authentication scheme, in lower case.
        token68: the single value that some schemes have in place of parameters, or None.
        params: the parameters, their names in lower case. One that was given twice with different values
            means nothing certain, and is left out.

    """

    scheme: str
    token68: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(values: Sequence[str]) -> tuple[Challenge, ...]:
    """Return the challenges in every ``WWW-Authenticate`` field of a response, in order.

    Several fields are one list (RFC 9110, section 5.3). One of more than 16 Ki characters, or of more than 64
    challenges, counts as having none.
    """
    if sum(map(len, values)) + len(values) > _MAX_CHARACTERS:
        return ()
    reader = _Reader()
    for value in values:
        reader.read(value)
    if len(reader.challenges) > _MAX_CHALLENGES:
        return ()
    return tuple(
        Challenge(
            scheme, token68, MappingProxyType({name: found.pop() for name, found in params.items() if len(found) == 1})
        )
        for scheme, token68, params in reader.challenges
    )


def concerns_token(challenges: Sequence[Challenge]) -> bool:
    """Tell whether a 401 with these challenges is about the access token that the request carried.

    It is when a challenge says ``invalid_token`` (RFC 6750, section 3.1). It is not when ``Bearer`` or ``DPoP`` name
    another error: a newer token would not help against ``insufficient_scope``. Without any error it is when ``Bearer``,
    ``DPoP`` or an unknown scheme is asked for, or nothing at all; not when only credentials of another kind are.
    """
    errors = [(challenge.scheme, _error(challenge)) for challenge in challenges]
    if any(error == "invalid_token" for _, error in errors):
        return True
    if any(error and scheme in _TOKEN_SCHEMES for scheme, error in errors):
        return False
    return not errors or any(scheme not in _OTHER_CREDENTIALS for scheme, _ in errors)


def nonce_demanded(challenges: Sequence[Challenge]) -> bool:
    """Tell whether all that is wanted is a proof with the nonce of this response (RFC 9449, section 9)."""
    errors = {(challenge.scheme, error) for challenge in challenges if (error := _error(challenge))}
    return errors == {("dpop", "use_dpop_nonce")}


def _error(challenge: Challenge) -> str:
    return challenge.params.get("error", "").lower()


class _Reader:
    """Where the reading of a list stands; a parameter belongs to the scheme before it, even in another field."""

    def __init__(self) -> None:
        self.challenges: list[tuple[str, str | None, dict[str, set[str]]]] = []

    def read(self, text: str) -> None:
        """Read one field value."""
        position = _end(_GAP, text, 0)
        while position < len(text) and len(self.challenges) <= _MAX_CHALLENGES:
            if scheme := _SCHEME.match(text, position):
                position = self._begin(scheme[1].lower(), text, scheme.end())
            position = self._read_params(text, position)
            # What is left of this element could not be understood.
            position = _end(_GAP, text, _end(_JUNK, text, position))

    def _begin(self, scheme: str, text: str, position: int) -> int:
        """Begin a challenge whose scheme ended just before ``position``, and return where its parameters begin."""
        value = _TOKEN68.match(text, position) if text[position - 1].isspace() else None
        self.challenges.append((scheme, value[1] if value else None, {}))
        return value.end() if value else position

    def _read_params(self, text: str, position: int) -> int:
        """Read parameters with nothing but space (or a semicolon, as some servers write) between them."""
        while name := _NAME.match(text, position):
            if quoted := _QUOTED.match(text, name.end()):
                value, position = _ESCAPE.sub(r"\1", quoted[1]), quoted.end()
            else:
                position = _end(_UNQUOTED, text, name.end())
                value = text[name.end() : position]
            if self.challenges:
                self.challenges[-1][2].setdefault(name[1].lower(), set()).add(value)
            position = _end(_BETWEEN, text, position)
        return position


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    """Return where the match of a pattern that can match nothing ends."""
    found = pattern.match(text, position)
    return found.end() if found else position
