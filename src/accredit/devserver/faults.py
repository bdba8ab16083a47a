"""What a development server can do wrong on demand: the plan of a fault, and how a request asks for one. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from accredit.core.messages import Response
from accredit.devserver.core import TWISTS, json_response

#: The header field and the parameter by which a request asks for a fault, where the configuration allows it.
FAULT_HEADER: Final = "x-accredit-fault"
FAULT_PARAMETER: Final = "accredit_fault"
MAX_SECONDS: Final = 3600.0
_MAX_TEXT: Final = 1000
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

#: What `garbage` can answer instead of a token: (content type, body).
GARBAGE: Final[Mapping[str, tuple[str, bytes]]] = {
    "html": ("text/html; charset=utf-8", b"<!doctype html><title>Sign in</title><form>...</form>"),
    "empty": ("application/json", b""),
    "not_json": ("application/json", b"{access_token: yes"),
    "list": ("application/json", b"[]"),
    "duplicate": ("application/json", b'{"access_token":"one","access_token":"two","token_type":"Bearer"}'),
    "no_token": ("application/json", b'{"token_type":"Bearer","expires_in":60}'),
    "control_character": ("application/json", b'{"access_token":"a\\nb","token_type":"Bearer","expires_in":60}'),
    "bad_expiry": ("application/json", b'{"access_token":"abc","token_type":"Bearer","expires_in":"soon"}'),
    "no_type": ("application/json", b'{"access_token":"abc","expires_in":60}'),
    "huge": ("application/json", b'{"access_token":"' + b"a" * (2 * 1024 * 1024) + b'","token_type":"Bearer"}'),
    "deep": ("application/json", b"[" * 100_000),
}


@dataclass(slots=True)
class Fault:
    """A planned fault.

    Attributes:
        response: what to answer instead of the truth; None for the true answer, delivered as the rest says.
        remaining: for how many requests; None until it is ended.
        latency: seconds before the answer.
        truncate: announce the whole body, send half of it and break the connection.
        drip: seconds between one byte of the body and the next; 0 to send it at once.
        hang_up: close the connection instead of answering.
        twist: what is wrong with the answer itself, of :data:`accredit.devserver.core.TWISTS`.

    """

    response: Response | None
    remaining: int | None = None
    truncate: bool = False
    latency: float = 0.0
    drip: float = 0.0
    hang_up: bool = False
    twist: frozenset[str] = frozenset()

    def label(self) -> str:
        """Return what it is, in a few words, for the log and the page; it repeats nothing that anybody sent."""
        words = [
            f"{self.latency:g} s late" if self.latency else "",
            f"status {self.response.status}" if self.response is not None else "",
            "cut off" if self.truncate else "",
            "slow drip" if self.drip else "",
            "hang-up" if self.hang_up else "",
            *(name.replace("_", " ") for name in sorted(self.twist)),
        ]
        return ", ".join(filter(None, words)) or "none"


def make_fault(
    *,
    status: int | None = None,
    error: str | None = None,
    retry_after: str | None = None,
    garbage: str | None = None,
    latency: float = 0.0,
    truncate: bool = False,
    drip: float = 0.0,
    hang_up: bool = False,
    twist: Sequence[str] = (),
    headers: Sequence[Sequence[str]] = (),
    body: str | None = None,
    times: int | None = None,
) -> Fault:
    """Return the plan for what was asked; :meth:`accredit.devserver.handle.Switches.inject` tells what is what.

    Raises:
        ValueError: a value is out of bounds, or two of them exclude each other; it does not repeat the value.

    """
    latency, drip = checked_seconds("latency", latency), checked_seconds("drip", drip)
    if not set(twist) <= set(TWISTS):
        msg = f"twist must be some of {', '.join(TWISTS)}"
        raise ValueError(msg)
    if status is not None and (type(status) is not int or not 200 <= status <= 599):
        msg = "status must be a whole number from 200 to 599"
        raise ValueError(msg)
    if times is not None and type(times) is not int:
        msg = "times must be a whole number"
        raise ValueError(msg)
    for name, text in (("error", error), ("body", body)):
        if text is not None and not isinstance(text, str):
            msg = f"{name} must be a text"
            raise ValueError(msg)
    replaced = status is not None or garbage is not None or error is not None or body is not None
    if (status is not None or error is not None or body is not None) and garbage is not None:
        msg = "status, error and body on the one hand and garbage on the other exclude each other"
        raise ValueError(msg)
    if replaced and twist:
        msg = "a twist is one of the true answer, so status, error, body and garbage exclude it"
        raise ValueError(msg)
    extra = [(_name(name), _field(value)) for name, value in headers]
    if retry_after is not None:
        extra.append(("retry-after", _field(retry_after)))
    response = None
    if garbage is not None:
        response = _garbage(garbage)
    elif replaced or extra:
        response = _failure(503 if status is None else status, error, body)
    if response is not None:
        response = dataclasses.replace(response, headers=(*response.headers, *extra))
    return Fault(response, times, truncate, latency, drip, hang_up, frozenset(twist))


def checked_seconds(name: str, seconds: float) -> float:
    """Return a delay that the server can keep.

    Raises:
        ValueError: it is no number of seconds, or out of bounds.

    """
    # NaN is not within the bounds either.
    if type(seconds) not in {int, float} or not 0 <= seconds <= MAX_SECONDS:
        msg = f"{name} must be from 0 to {MAX_SECONDS:g} seconds"
        raise ValueError(msg)
    return float(seconds)


def _failure(status: int, error: str | None, body: str | None) -> Response:
    if body is not None:
        raw = body.encode()
        return Response(status, (("content-length", str(len(raw))),), raw)
    if error is not None or status >= 400:
        return json_response(status, {"error": error or "server_error"}, ("cache-control", "no-store"))
    return Response(status, (("content-length", "0"),))


def _garbage(kind: str) -> Response:
    if kind not in GARBAGE:
        msg = f"garbage must be one of {', '.join(GARBAGE)}"
        raise ValueError(msg)
    content_type, body = GARBAGE[kind]
    return Response(200, (("content-type", content_type), ("content-length", str(len(body)))), body)


def _field(text: str) -> str:
    # No rule but that it stays one field that can be sent: what odd values do to a client is what tests want to know.
    if not isinstance(text, str) or any(bad in text for bad in "\r\n\0") or any(letter > "\xff" for letter in text):
        msg = "a header field must be a text of one line, in Latin-1"
        raise ValueError(msg)
    return text


def _name(text: str) -> str:
    # The HTTP server sends no other, and closes the connection instead.
    if not isinstance(text, str) or not _TOKEN.fullmatch(text):
        msg = "the name of a header field must be a token of RFC 9110, section 5.6.2"
        raise ValueError(msg)
    return text.lower()


def parse_fault(text: str) -> Fault:
    """Read what a request asks for: ``status=503; retry-after=7``, ``garbage=html``, ``drip=0.5``, ``hang-up``.

    The names are ``status``, ``error``, ``retry-after``, ``garbage``, ``latency``, ``drip``, and without a value
    ``truncate``, ``hang-up``, ``expired-key``, ``wrong-issuer``.

    Raises:
        ValueError: it is something else.

    """
    if len(text) > _MAX_TEXT:
        msg = "the fault that is asked for is too long"
        raise ValueError(msg)
    values: dict[str, object] = {}
    twist: list[str] = []
    for item in filter(None, (piece.strip() for piece in text.split(";"))):
        name, equals, value = item.partition("=")
        key = name.strip().replace("-", "_")
        read = _VALUES.get(key)
        if bool(equals) != (read is not None) or (read is None and key not in _FLAGS) or key in values:
            msg = f"the names of faults are {', '.join(_VALUES)}, each with a value, and {', '.join(_FLAGS)} without"
            raise ValueError(msg)
        if read is not None:
            values[key] = read(value.strip())
        elif key in TWISTS:
            twist.append(key)
        else:
            values[key] = True
    if not values and not twist:
        msg = "no fault is asked for"
        raise ValueError(msg)
    return make_fault(**values, twist=twist)  # type: ignore[arg-type]  # each was read as what it is


def _number(text: str) -> float:
    # Not float(): it reads "nan", underscores and digits of other scripts.
    whole, point, part = text.partition(".")
    if not (text.isascii() and whole.isdigit() and (part.isdigit() or not point) and len(text) < 10):
        msg = "a number of seconds is needed"
        raise ValueError(msg)
    return float(text)


def _status(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) == 3):
        msg = "a status has three digits"
        raise ValueError(msg)
    return int(text)


_VALUES: Final[Mapping[str, Callable[[str], object]]] = {
    "status": _status,
    "error": str,
    "retry_after": str,
    "garbage": str,
    "latency": _number,
    "drip": _number,
}
_FLAGS: Final = ("truncate", "hang_up", *TWISTS)
