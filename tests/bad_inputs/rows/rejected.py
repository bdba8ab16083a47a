"""Group A: answers that look like a grant and must not be taken."""

from __future__ import annotations

from typing import Any

from tests.bad_inputs.model import TOKEN, Case, bad, case, issued, reply

MINIMAL = b'{"access_token":"%s","token_type":"Bearer","expires_in":3600}' % TOKEN.encode()
HELD: dict[str, Any] = {"status": 200, "hold": (1.0, 2.0)}


def expiring(text: str) -> bytes:
    """Return an answer with ``expires_in`` as written."""
    return MINIMAL.replace(b"3600", text.encode())


def html(body: bytes) -> bytes:
    """Return a page that has a form with it."""
    return b"<!doctype html><title>Sign in</title><form><input value='" + body + b"'></form>"


CASES: tuple[Case, ...] = (
    case("A03", "no type", issued(token_type=None), bad(**HELD, says=("token_type",))),
    *(
        case("A04", name, issued(token_type=value), bad(**HELD, says=("token_type",)))
        for name, value in {
            "mac": "mac",
            "N_A": "N_A",
            "empty": "",
            "number": 7,
            "list": ["Bearer"],
            "padded": " Bearer",
            "true": True,
            "object": {"Bearer": 1},
            "dotless": "Bearer\u0131",
        }.items()
    ),
    case("A04", "null", reply(MINIMAL.replace(b'"Bearer"', b"null")), bad(**HELD, says=("token_type is missing",))),
    *(
        case("A04", f"{name} although assumed", issued(token_type=value), bad(), assume_bearer=True)
        for name, value in {"mac": "mac", "number": 7}.items()
    ),
    case("A06", "DPoP", issued(token_type="DPoP"), bad(**HELD, says=("token_type",))),
    case("A07", "missing", issued(access_token=None), bad(**HELD)),
    *(
        case("A07", name, reply(MINIMAL.replace(b'"%s"' % TOKEN.encode(), text)), bad(**HELD))
        for name, text in {
            "null": b"null",
            "empty": b'""',
            "number": b"123",
            "list": b'["t0k3nCanary"]',
            "true": b"true",
            "object": b'{"v":"t0k3nCanary"}',
        }.items()
    ),
    *(
        case(
            "A08",
            name,
            issued(access_token=f"{TOKEN}{character}X-Injected: 1"),
            bad(**HELD, says=(f"U+{ord(character):04X}", str(len(TOKEN)))),
        )
        for name, character in {
            "CR": "\r",
            "LF": "\n",
            "NUL": "\0",
            "TAB": "\t",
            "DEL": "\x7f",
            "ESC": "\x1b",
            "NEL": "\x85",
            "e acute": "é",
            "override": "\u202e",
            "emoji": "\U0001f600",
            "quote": '"',
            "backslash": "\\",
            "comma": ",",
        }.items()
    ),
    case("A08", "CRLF", issued(access_token=f"{TOKEN}\r\nX-Injected: 1"), bad(**HELD)),
    *(
        case("A09", name, issued(access_token=value), bad(**HELD))
        for name, value in {
            "space before": f" {TOKEN}",
            "space behind": f"{TOKEN} ",
            "newline behind": f"{TOKEN}\n",
            "scheme before": f"Bearer {TOKEN}",
            "space inside": TOKEN.replace(".", " "),
        }.items()
    ),
    case("A11", "64 KiB and one", issued(access_token=TOKEN + "x" * (65537 - len(TOKEN))), bad(**HELD)),
    *(
        case("A14", name, reply(expiring(text)), bad(**HELD, requests=1, says=("expired on arrival",)))
        for name, text in {
            "zero": "0",
            "minus one": "-1",
            "text": '"0"',
            "below one": "0.9",
            "minus zero": "-0.0",
        }.items()
    ),
    *(
        case("A16", name, issued(expires_in=text), bad(**HELD))
        for name, text in {
            "full width": "３６００",
            "underscore": "3_600",
            "spaces": " 3600 ",
            "plus": "+3600",
            "hex": "0x10",
            "exponent": "1e3",
            "unit": "3600s",
            "newline": "3600\n",
            "minus": "-3600",
            "empty": "",
            "arabic": "٣٦٠٠",
        }.items()
    ),
    *(
        case("A18", name, reply(expiring(text)), bad(**HELD))
        for name, text in {"true": "true", "false": "false", "list": "[3600]", "object": '{"s":3600}'}.items()
    ),
    *(
        case("A19", name, reply(expiring(text)), bad(**HELD))
        for name, text in {
            "NaN": "NaN",
            "Infinity": "Infinity",
            "minus infinity": "-Infinity",
            "1e999": "1e999",
            "400 digits": "1" + "0" * 400,
            "1e300": "1e300",
        }.items()
    ),
    case("A22", "one second", issued(expires_in=1), bad(**HELD, says=("expired on arrival",)), latency=2.0),
    case("A22", "within the leeway", issued(expires_in=10), bad(says=("expired on arrival",)), latency=9.5),
    case("A25", "escaped twin", reply(MINIMAL[:-1] + rb',"acc\u0065ss_token":"x"}'), bad(**HELD, says=("twice",))),
    case("A25", "twin", reply(MINIMAL[:-1] + b',"access_token":"x"}'), bad(**HELD, says=("twice",))),
    case("A25", "twin of another member", reply(MINIMAL[:-1] + b',"scope":"a","scope":"b"}'), bad(**HELD)),
    case("A25", "twin inside", reply(MINIMAL[:-1] + b',"x":[{"a":1,"a":2}]}'), bad(**HELD)),
    case(
        "A28",
        "unmet",
        issued(scope="orders:read"),
        bad("REQUEST", status=200, code="insufficient_scope", hold=(1.0, 2.0), says=("orders:write",)),
        scope="orders:read orders:write",
        require_scope=True,
    ),
    case("A31", "list", issued(scope=["a", "b"]), bad(**HELD), scope="a b"),
    *(
        case("A31", name, issued(scope=f"a{character}b"), bad(**HELD))
        for name, character in {
            "quote": '"',
            "backslash": "\\",
            "newline": "\n",
            "e acute": "é",
            "tab": "\t",
            "DEL": "\x7f",
        }.items()
    ),
    case("A35", "both", issued(error="invalid_client"), bad(**HELD, says=("error",))),
    case("A35", "both, odd", issued(error=["x"]), bad(**HELD)),
    case(
        "A36",
        "login page",
        reply(html(TOKEN.encode()), ("content-type", "text/html")),
        bad(**HELD, says=("Content-Type", "login page"), never_says=("Sign in", "<form")),
    ),
    case(
        "A36",
        "portal that says JSON",
        reply(html(b"x"), ("content-type", "application/json")),
        bad(**HELD, never_says=("Sign in", "<form")),
    ),
    case("A37", "text/plain", reply(MINIMAL, ("content-type", "text/plain")), bad(**HELD, says=("Content-Type",))),
    case("A37", "no type", reply(MINIMAL, ("x-other", "1")), bad(**HELD)),
    case(
        "A37", "two types", reply(MINIMAL, ("content-type", "application/json"), ("content-type", "text/html")), bad()
    ),
    case(
        "A37",
        "form",
        reply(b"access_token=x&token_type=bearer", ("content-type", "application/x-www-form-urlencoded")),
        bad(),
    ),
    *(
        case("A42", name, reply(text), bad(**HELD))
        for name, text in {
            "array": b"[" + MINIMAL + b"]",
            "string": b'"t0k3nCanary"',
            "number": b"7",
            "null": b"null",
            "empty": b"",
            "two documents": MINIMAL + MINIMAL,
            "UTF-16": MINIMAL.decode().encode("utf-16"),
            "tail": MINIMAL + b"x",
            "not UTF-8": MINIMAL[:-1] + b',"x":"\xff"}',
        }.items()
    ),
    case(
        "A44", "depth 33", reply(MINIMAL[:-1] + b',"x":' + b"[" * 32 + b"]" * 32 + b"}"), bad(**HELD, says=("deeper",))
    ),
    case("A44", "depth 100,000", reply(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), bad(**HELD)),
    case("A44", "depth never closed", reply(b'{"x":' * 40_000), bad(**HELD)),
    case("A45", "5,000 digits", reply(MINIMAL[:-1] + b',"x":' + b"7" * 5000 + b"}"), bad(**HELD)),
    case("A45", "5,000 digits as life", reply(expiring("7" * 5000)), bad(**HELD)),
    case("A45", "5,000 digits of a fraction", reply(expiring("1." + "7" * 5000)), bad(**HELD)),
    case("A46", "in the token", reply(MINIMAL.replace(b"payload", rb"\ud800")), bad(**HELD)),
    case("A46", "in the scope", reply(MINIMAL[:-1] + rb',"scope":"\udfff"}'), bad(**HELD)),
    case("A46", "in a name", reply(MINIMAL[:-1] + rb',"\ud800":1}'), bad(**HELD)),
    case("A47", "256 KiB and one", reply(MINIMAL + b" " * (256 * 1024 + 1 - len(MINIMAL))), bad(**HELD)),
    case("A14", "other 2xx", reply(MINIMAL, status=201), bad(status=201, says=("201",))),
    case("A07", "204", reply(b"", status=204), bad(status=204, says=("204",))),
)
