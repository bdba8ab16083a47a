"""What a row is: what is given, what is expected, and the canaries that must be found nowhere."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar
from urllib.parse import quote, quote_plus

from accredit.core.events import Event
from accredit.core.messages import Failure, Response
from accredit.errors import (
    AccreditError,
    ConfigurationError,
    CredentialRefusedError,
    DiscoveryError,
    MalformedResponseError,
    RequestRefusedError,
    ThrottledError,
    UnreachableError,
)

F = TypeVar("F", bound=Callable[..., object])
Outcome = Literal[
    "OK", "STALE", "CONFIGURATION", "CREDENTIAL", "REQUEST", "THROTTLED", "MALFORMED", "UNREACHABLE", "DISCOVERY"
]
ERRORS: Mapping[str, type[AccreditError]] = {
    "CONFIGURATION": ConfigurationError,
    "CREDENTIAL": CredentialRefusedError,
    "REQUEST": RequestRefusedError,
    "THROTTLED": ThrottledError,
    "MALFORMED": MalformedResponseError,
    "UNREACHABLE": UnreachableError,
    "DISCOVERY": DiscoveryError,
}

CLIENT = "orders-worker"
SECRET = "s3cr3tCanary/Zq9+é%:w x"
TOKEN = "t0k3nCanary.Qx7-payload.sig"
OLD_TOKEN = "oldT0k3nCanary.Wv2"
OTHER_TOKEN = "otherT0k3nCanary.Ju5"
#: In every spelling in which one of them could turn up.
CANARIES: tuple[str, ...] = (
    "s3cr3tCanary",
    "T0k3nCanary",
    "t0k3nCanary",
    SECRET,
    quote(SECRET, safe="-._~"),
    quote_plus(SECRET),
    json.dumps(SECRET),
    b64encode(SECRET.encode()).decode(),
    b64encode(f"{CLIENT}:{SECRET}".encode()).decode(),
    b64encode(f"{quote(CLIENT, safe='-._~')}:{quote(SECRET, safe='-._~')}".encode()).decode(),
)

ISSUER = "https://idp.example"
TOKEN_ENDPOINT = "https://idp.example/token"
JSON = (("content-type", "application/json"),)
Answer = Response | Failure
_UNSET: Any = object()


@dataclass(frozen=True)
class Expect:
    """What must come of a case. What is left out is not looked at; an outcome alone is always looked at.

    Attributes:
        outcome: ``OK``, or the error that every caller gets.
        requests: token requests that the flight makes.
        fetches: requests for metadata that it makes.
        value: the token, for ``OK``.
        lifetime: seconds of its life.
        scope: what is said to be granted.
        members: what the application gets of the answer.
        status: the status that the error carries.
        code: the error code that it carries.
        hold: within which seconds the next request will not be made.
        says: texts that are in the error.
        never_says: texts that are neither in the error nor in a log.
        event: a kind of event that is sent.

    """

    outcome: Outcome
    requests: int = 1
    fetches: int = 0
    value: str = _UNSET
    lifetime: float = _UNSET
    scope: tuple[str, ...] | None = _UNSET
    members: Mapping[str, str] = _UNSET
    status: int | None = _UNSET
    code: str | None = _UNSET
    hold: tuple[float, float] = _UNSET
    says: tuple[str, ...] = _UNSET
    never_says: tuple[str, ...] = _UNSET
    event: type[Event] = _UNSET

    def given(self) -> set[str]:
        """Return the names of what is looked at."""
        return {item.name for item in fields(self) if getattr(self, item.name) is not _UNSET}


@dataclass(frozen=True)
class Case:
    """One variant of one row: the answers that a server gives, and what comes of them.

    Attributes:
        id: the row.
        variant: what tells this case from others of the row.
        answers: answers to token requests in order; the last one again and again.
        expect: what must come of it.
        settings: settings of the registration beside the usual ones.
        latency: virtual seconds that each answer takes.
        documents: answers to requests for metadata in order; the last one again and again.

    """

    id: str
    variant: str
    answers: tuple[Answer, ...]
    expect: Expect
    settings: Mapping[str, Any] = field(default_factory=dict)
    latency: float = 0.1
    documents: tuple[Answer, ...] = ()

    @property
    def name(self) -> str:
        """The name of the case in test reports."""
        return f"{self.id}-{self.variant}"


def case(row: str, variant: str, answers: Answer | Iterable[Answer], expect: Expect, **settings: Any) -> Case:
    """Return a case; settings named ``latency`` and ``documents`` are those of the case."""
    several = (answers,) if isinstance(answers, Response | Failure) else tuple(answers)
    latency = settings.pop("latency", 0.1)
    documents = settings.pop("documents", ())
    return Case(row, variant, several, expect, settings, latency, tuple(documents))


def ok(**expected: Any) -> Expect:
    """Expect a token; the canary token unless said otherwise."""
    return Expect("OK", **{"value": TOKEN, **expected})


def bad(outcome: Outcome = "MALFORMED", **expected: Any) -> Expect:
    """Expect an error: by default a malformed response."""
    return Expect(outcome, **expected)


def reply(body: bytes, *headers: tuple[str, str], status: int = 200) -> Response:
    """Return an answer with these bytes; JSON unless headers are given."""
    return Response(status, headers or JSON, body)


def document(status: int = 200, headers: tuple[tuple[str, str], ...] = (), **members: Any) -> Response:
    """Return an answer with a JSON object."""
    return Response(status, (*JSON, *headers), json.dumps(members).encode())


def issued(**members: Any) -> Response:
    """Return a token response with the canary token, for an hour; a member given as None is left out."""
    base = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}
    return document(**{name: value for name, value in {**base, **members}.items() if value is not None})


def covers(*rows: str, outcome: str) -> Callable[[F], F]:
    """Mark a test as the test of these rows; ``outcome`` says what it shows. Read from the source."""
    assert rows
    assert outcome

    def mark(function: F) -> F:
        return function

    return mark
