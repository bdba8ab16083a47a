"""Groups B and C: the server refuses, throttles, fails or points elsewhere."""

from __future__ import annotations

from base64 import b64encode
from typing import Any
from urllib.parse import quote

from accredit.core.events import AttemptFailed
from accredit.core.messages import Response
from tests.bad_inputs.model import CLIENT, SECRET, TOKEN, Case, bad, case, document, issued, ok, reply
from tests.bad_inputs.world import OTHER_CLIENT

FIRST = (1.0, 2.0)
PAST, FAR = "Sun, 06 Nov 1994 08:49:37 GMT", "Tue, 01 Jan 2036 00:00:00 GMT"
ANSI, OVERRIDE = "\x1b[2J", "\u202e"


def throttled(*after: str, status: int = 429) -> Response:
    """Return a request to come back later."""
    return document(status, tuple(("retry-after", value) for value in after), error="temporarily_unavailable")


def describing(text: str, **members: Any) -> Response:
    """Return a refusal with a description."""
    return document(400, error="invalid_scope", error_description=text, **members)


SERVER_FAULT: dict[str, Any] = {"requests": 3, "hold": FIRST, "event": AttemptFailed}

CASES: tuple[Case, ...] = (
    case(
        "B01",
        "400",
        document(400, error="invalid_client"),
        bad("CREDENTIAL", status=400, code="invalid_client", hold=FIRST, requests=1),
    ),
    case(
        "B01",
        "unauthorized_client",
        document(400, error="unauthorized_client"),
        bad("CREDENTIAL", code="unauthorized_client", hold=FIRST),
    ),
    case(
        "B02",
        "Basic",
        document(401, (("www-authenticate", 'Basic realm="x"'),), error="invalid_client"),
        bad("CREDENTIAL", status=401, code="invalid_client", hold=FIRST, requests=1),
    ),
    case(
        "B02",
        "bare 401",
        reply(b"", ("www-authenticate", "Negotiate"), status=401),
        bad("CREDENTIAL", status=401, code=None, hold=FIRST),
    ),
    case("B02", "bare 403", reply(b"", status=403), bad("CREDENTIAL", status=403, code=None, hold=FIRST)),
    *(
        case("B04", code, document(400, error=code), bad("REQUEST", status=400, code=code, hold=FIRST, requests=1))
        for code in ("invalid_request", "invalid_scope", "invalid_target", "unsupported_grant_type", "server-made")
    ),
    case(
        "B04",
        "404",
        reply(b"not here", ("content-type", "text/plain"), status=404),
        bad("REQUEST", status=404, code=None),
    ),
    case("B09", "429", throttled("7"), bad("THROTTLED", status=429, hold=(7.0, 7.0), requests=1)),
    case("B09", "503", throttled("7", status=503), bad("THROTTLED", status=503, hold=(7.0, 7.0), requests=1)),
    case(
        "B09", "slow_down", document(400, error="slow_down"), bad("THROTTLED", status=400, code="slow_down", hold=FIRST)
    ),
    case(
        "B09",
        "rate limit reset",
        document(429, (("x-rate-limit-reset", "1700000030"),)),
        bad("THROTTLED", hold=(29.8, 30.0)),
        latency=0.1,
    ),
    *(
        case("B10", name, throttled(*after), bad("THROTTLED", hold=hold))
        for name, (after, hold) in {
            "past": ((PAST,), (1.0, 1.0)),
            "ten years": ((FAR,), (300.0, 300.0)),
            "minus": (("-1",), FIRST),
            "huge": (("1000000000",), (300.0, 300.0)),
            "huge digits": (("9" * 400,), (300.0, 300.0)),
            "word": (("soon",), FIRST),
            "two that differ": (("5", "6"), FIRST),
            "two that agree": (("5", "5"), (5.0, 5.0)),
            "zero": (("0",), (1.0, 1.0)),
            "fraction": (("1.5",), FIRST),
            "other digits": (("７",), FIRST),
            "empty": (("",), FIRST),
            "1e9": (("1e9",), FIRST),
        }.items()
    ),
    case(
        "B14",
        "407",
        reply(b"", ("proxy-authenticate", "Basic"), status=407),
        bad("UNREACHABLE", status=407, requests=3, says=("proxy",)),
    ),
    *(
        case("B16", name, document(400, error=value), bad("REQUEST", code="unknown_error", status=400))
        for name, value in {
            "number": 7,
            "list": ["invalid_client"],
            "object": {"a": 1},
            "true": True,
            "empty": "",
            "CRLF": "invalid\r\nX: y",
            "terminal": f"invalid{ANSI}",
            "override": f"invalid{OVERRIDE}",
            "65 characters": "e" * 65,
            "long": "e" * 200_000,
            "space": "invalid client",
        }.items()
    ),
    case(
        "B16",
        "10 MB",
        reply(b'{"error":"' + b"e" * 10_000_000 + b'"}', status=400),
        bad("REQUEST", code=None, status=400),
    ),
    case("B16", "null", reply(b'{"error":null}', status=400), bad("REQUEST", code=None, status=400)),
    *(
        case("B17", name, describing(f"no {text} here"), bad("REQUEST", code="invalid_scope", never_says=(text,)))
        for name, text in {
            "plain": SECRET,
            "encoded": quote(SECRET, safe=""),
            "base64": b64encode(f"{CLIENT}:{SECRET}".encode()).decode(),
            "a part": SECRET[3:12],
            "other case": SECRET.upper(),
            "reprinted": SECRET.encode("unicode_escape").decode(),
        }.items()
    ),
    case(
        "B17",
        "in the code",
        document(400, error="s3cr3tCanary"),
        bad("REQUEST", status=400, never_says=("s3cr3tCanary",)),
    ),
    case(
        "B17",
        "as credential code",
        document(401, error="s3cr3tCanary.x"),
        bad("CREDENTIAL", status=401, never_says=("s3cr3tCanary",)),
    ),
    case("B02", "access_denied", document(401, error="access_denied"), bad("CREDENTIAL", status=401, hold=FIRST)),
    case("B02", "about the request", document(401, error="invalid_scope"), bad("REQUEST", status=401, hold=FIRST)),
    case(
        "B17", "harmless", describing("unknown scope orders:fly"), bad("REQUEST", says=('"unknown scope orders:fly"',))
    ),
    case(
        "B18", "script", describing("no", error_uri="javascript:alert(1)"), bad("REQUEST", never_says=("javascript",))
    ),
    case(
        "B18",
        "5 kB",
        describing("no", error_uri="https://e.example/" + "x" * 5000),
        bad("REQUEST", never_says=("e.example", "xxxx")),
    ),
    case("B19", "empty", reply(b"", status=400), bad("REQUEST", status=400, code=None)),
    case("B19", "not JSON", reply(b"{]", status=400), bad("REQUEST", status=400, code=None)),
    case(
        "B19",
        "page",
        reply(b"<html>", ("content-type", "text/html"), status=400),
        bad("REQUEST", status=400, code=None),
    ),
    case("B19", "deep", reply(b"[" * 100_000, status=400), bad("REQUEST", status=400, code=None)),
    case("B19", "array", reply(b"[]", status=401), bad("CREDENTIAL", status=401, code=None)),
    case(
        "A46",
        "lone surrogate in a description",
        reply(rb'{"error":"invalid_scope","error_description":"\ud800"}', status=400),
        bad("REQUEST", status=400),
    ),
    case("B31", "500 three times", document(500), bad("UNREACHABLE", status=500, **SERVER_FAULT)),
    case("B31", "500 then a token", (document(500), issued()), ok(requests=2, event=AttemptFailed)),
    case("B31", "408 then a token", (reply(b"", status=408), issued()), ok(requests=2)),
    case("B31", "two 500 then a token", (document(500), document(502), issued()), ok(requests=3)),
    case("B31", "503 without a time", document(503), bad("UNREACHABLE", status=503, requests=3)),
    case(
        "B31", "500 then a refusal", (document(500), document(400, error="invalid_scope")), bad("REQUEST", requests=2)
    ),
    *(
        case(
            row,
            f"{status} {name}",
            reply(b"", ("location", location), status=status),
            bad(status=status, requests=1, hold=FIRST, says=("redirect",), never_says=("evil.example",)),
        )
        for row, name, location in (
            ("C02", "other origin", "https://evil.example/token"),
            ("C02", "other port", "https://idp.example:8443/token"),
            ("C02", "no authority", "//evil.example/token"),
            ("C03", "downgrade", "http://idp.example/token"),
            ("C02", "same place", "https://idp.example/token"),
        )
        for status in (301, 302, 303, 307, 308)
    ),
    case(
        "C02",
        "300 with a token",
        reply(b'{"access_token":"%s","token_type":"Bearer"}' % TOKEN.encode(), status=300),
        bad(status=300),
    ),
)
assert CLIENT != OTHER_CLIENT
