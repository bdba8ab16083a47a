"""The keys of a registration, and what kind of value each takes.

Everything is checked by type here, so that a configuration file can say anything and still meets a
:class:`~accredit.errors.ConfigurationError` that names the key. The rules behind the types (the grammar of a scope, of
a URL, ...) are those of :class:`~accredit.ClientRegistration`, whichever way it is made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal

from accredit.core.strict import StrictError, parse_json
from accredit.errors import ConfigurationError

Kind = Literal["text", "texts", "seconds", "flag", "text table", "objects", "secret"]

KEYS: Final[Mapping[str, Kind]] = {
    "issuer": "text",
    "token_endpoint": "text",
    "metadata_url": "text",
    "client_id": "text",
    "client_secret": "secret",
    "client_auth": "text",
    "basic_encoding": "text",
    "scope": "texts",
    "resource": "texts",
    "audience": "text",
    "authorization_details": "objects",
    "extra_parameters": "text table",
    "principal": "text",
    "grant": "text",
    "api_origins": "texts",
    "deadline": "seconds",
    "renew_before": "seconds",
    "leeway": "seconds",
    "default_lifetime": "seconds",
    "max_lifetime": "seconds",
    "require_scope": "flag",
    "allow_insecure_http": "flag",
    "allowed_endpoint_hosts": "texts",
    "assume_bearer": "flag",
    "lenient_content_type": "flag",
    "keep_members": "texts",
    "use_refresh_token": "flag",
}

_FIX: Final[Mapping[Kind, str]] = {
    "text": 'Write a text in quotes: {key} = "...".',
    "texts": 'Write a text or a list of texts: {key} = ["...", "..."].',
    "seconds": "Write seconds as a plain number: {key} = 30.",
    "flag": "Write {key} = true or {key} = false.",
    "text table": 'Write a table of texts: {key} = {{ name = "value" }}.',
    "objects": 'Write a list of tables: {key} = [{{ type = "..." }}].',
    "secret": 'Write {key} = {{ file = "PATH" }}, {{ env = "NAME" }}, or the text itself.',
}
_FIX_VARIABLE: Final[Mapping[Kind, str]] = {
    "seconds": "Give seconds in plain digits, such as 30 or 2.5.",
    "flag": "Give true or false.",
    "text table": 'Give a JSON object of texts, such as {"name": "value"}.',
    "objects": 'Give a JSON array of objects, such as [{"type": "..."}].',
}
_SECONDS: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_MAX_JSON: Final = 64 * 1024


def checked_value(name: str, value: object, *, key: str) -> object:
    """Return the value of a TOML file for the key ``name`` of a registration, lists as tuples.

    Args:
        name: one of :data:`KEYS`, but not ``client_secret``.
        value: what the file says.
        key: the full key, for the message.

    Raises:
        ConfigurationError: it is of another type than the key takes.

    """
    kind = KEYS[name]
    match kind, value:
        case "text" | "texts", str():
            return value if kind == "text" else _words(name, value)
        case "texts", list() if all(isinstance(item, str) for item in value):
            return tuple(value)
        case "seconds", int() | float() if not isinstance(value, bool) and _is_float(value):
            return float(value)
        case "flag", bool():
            return value
        case "text table", dict() if all(isinstance(item, str) for item in value.values()):
            return value
        case "objects", list() if all(isinstance(item, dict) for item in value):
            return tuple(value)
    raise ConfigurationError(f"{name} is {_described(value, kind)}.", advice=_FIX[kind].format(key=name), key=key)


def value_of_variable(name: str, text: str) -> object:
    """Return what the text of an environment variable means for the key ``name``: the same as in a TOML file.

    Lists are separated by spaces, tables and lists of tables are JSON.

    Raises:
        ConfigurationError: the text does not fit the key. It is not repeated.

    """
    kind = KEYS[name]
    found: object = None
    match kind:
        case "text":
            found = text
        case "texts":
            found = [item for item in text.split(" ") if item] or None
        case "seconds":
            found = float(text) if _SECONDS.fullmatch(text) else None
        case "flag":
            found = {"true": True, "false": False}.get(text)
        case "text table" | "objects":
            found = _json(text)
        case "secret":
            pass
    if found is not None:
        problem = None
        try:
            return checked_value(name, found, key=name)
        except ConfigurationError as error:
            problem = error.summary
    else:
        problem = f"{name} is not understood."
    raise ConfigurationError(problem, advice=_FIX_VARIABLE.get(kind, "Give a text."), key=name)


def unknown_key(name: str, known: Iterable[str], *, key: str, what: str = "key") -> ConfigurationError:
    """Return the error for a name that is not known, with the one that may have been meant."""
    known = sorted(known)
    meant = nearest(name, known)
    advice = f"Did you mean {meant}?" if meant else f"Known: {', '.join(known)}."
    shown = repr(name) if _PLAIN_NAME.fullmatch(name) else "with odd characters"
    return ConfigurationError(f"the {what} {shown} is not known.", advice=advice, key=key)


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.7) -> str | None:
    """Return the known name that looks most like ``name``, or None."""
    import difflib

    matches = difflib.get_close_matches(name[:64].replace("-", "_"), list(known), n=1, cutoff=cutoff)
    return matches[0] if matches else None


def plain(name: str) -> str:
    """Return a name for a message: itself when it is harmless, else a stand-in."""
    return name if _PLAIN_NAME.fullmatch(name) else "(odd name)"


def type_name(value: object) -> str:
    """Return what a TOML value is, in the words of TOML."""
    match value:
        case bool():
            return "true or false"
        case str():
            return "a text"
        case int() | float():
            return "a number"
        case list() | tuple():
            return "a list"
        case dict():
            return "a table"
    return "a date or time"


def _words(name: str, text: str) -> object:
    # Scopes and resources have rules of their own for a text; names of hosts, origins and members have no spaces.
    return text if name in {"scope", "resource"} else tuple(text.split(" "))


def _described(value: object, kind: Kind) -> str:
    if kind == "seconds" and isinstance(value, int) and not isinstance(value, bool):
        return "too large a number"
    if isinstance(value, list) and kind in {"texts", "objects"}:
        return "a list that holds something else than " + ("texts" if kind == "texts" else "tables")
    if isinstance(value, dict) and kind == "text table":
        return "a table that holds something else than texts"
    expected = {"text": "a text", "texts": "a text or a list", "seconds": "a number", "flag": "true or false"}
    return f"{type_name(value)}, not {expected.get(kind, 'a table' if kind == 'text table' else 'a list of tables')}"


def _is_float(value: float) -> bool:
    try:
        return not math.isnan(float(value))
    except OverflowError:
        return False


def _json(text: str) -> object:
    try:
        return parse_json(text.encode("utf-8", "surrogatepass"), max_bytes=_MAX_JSON)
    except StrictError:
        return None
