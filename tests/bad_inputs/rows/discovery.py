"""Group J: the metadata of the server is wrong."""

from __future__ import annotations

import json
from typing import Any

from accredit.core.messages import Failure
from tests.bad_inputs.model import ISSUER, TOKEN_ENDPOINT, Answer, Case, Expect, case, issued, ok, reply

UNSET: Any = object()


def metadata(issuer: object = ISSUER, token_endpoint: object = TOKEN_ENDPOINT, **members: object) -> Answer:
    """Return a metadata document."""
    values = {"issuer": issuer, "token_endpoint": token_endpoint, **members}
    return reply(json.dumps({name: value for name, value in values.items() if value is not UNSET}).encode())


def refused(
    row: str, variant: str, *documents: Answer, fetches: int = 2, outcome: Any = "DISCOVERY", **more: Any
) -> Case:
    """Return a case whose documents are all refused: no token request is made."""
    names = {"says", "never_says", "hold", "status"} & set(more)
    expected = {name: more.pop(name) for name in names}
    expect = Expect(outcome, requests=0, fetches=fetches, **expected)
    return case(row, variant, issued(), expect, **{"issuer": ISSUER, "documents": documents, **more})


def accepted(row: str, variant: str, *documents: Answer, fetches: int = 1, **settings: Any) -> Case:
    """Return a case in which a document is used."""
    return case(row, variant, issued(), ok(fetches=fetches), **{"issuer": ISSUER, "documents": documents, **settings})


GOOD = metadata()
NOT_FOUND = reply(b"", status=404)
BODY = json.dumps({"issuer": ISSUER, "token_endpoint": TOKEN_ENDPOINT}).encode()

CASES: tuple[Case, ...] = (
    *(
        refused("J01", name, metadata(issuer), says=("another issuer",))
        for name, issuer in {
            "slash": ISSUER + "/",
            "case": "https://IdP.example",
            "scheme case": "HTTPS://idp.example",
            "port": ISSUER + ":443",
            "path": ISSUER + "/tenant",
            "http": "http://idp.example",
            "prefix": ISSUER[:-1],
            "longer": ISSUER + ".evil.example",
            "escaped": "https://idp.exampl%65",
            "space": ISSUER + " ",
        }.items()
    ),
    refused("J01", "slash, with the fix", metadata(ISSUER + "/"), says=('issuer = "https://idp.example/"',)),
    *(
        refused("J01", name, metadata(issuer))
        for name, issuer in {"missing": UNSET, "null": None, "list": [ISSUER], "number": 7, "empty": ""}.items()
    ),
    refused("J01", "first of another, second none", metadata(ISSUER + "/x"), NOT_FOUND, says=("another issuer",)),
    accepted("J01", "first of another, second good", metadata(ISSUER + "/x"), GOOD, fetches=2),
    accepted("J01", "first good", GOOD),
    *(
        refused("J04", name, metadata(token_endpoint=endpoint))
        for name, endpoint in {
            "http": "http://idp.example/token",
            "http loopback": "http://127.0.0.1/token",
            "relative": "/token",
            "no scheme": "idp.example/token",
            "fragment": TOKEN_ENDPOINT + "#x",
            "user": "https://u:p@idp.example/token",
            "missing": UNSET,
            "list": [TOKEN_ENDPOINT],
            "null": None,
            "number": 7,
            "empty": "",
            "file": "file:///etc/passwd",
            "space": "https://idp.example/a b",
            "newline": "https://idp.example/\nx",
            "backslash": "https://idp.example\\@e.example/",
            "link-local": "https://169.254.169.254/token",
            "link-local v6": "https://[fe80::1]/token",
            "mapped": "https://[::ffff:169.254.169.254]/token",
            "object": {"u": TOKEN_ENDPOINT},
        }.items()
    ),
    refused(
        "J04",
        "host not allowed",
        metadata(token_endpoint="https://evil.example/token"),
        allowed_endpoint_hosts=("idp.example",),
        says=("allowed_endpoint_hosts",),
    ),
    *(
        refused(
            "J09",
            f"{status} elsewhere",
            reply(b"", ("location", "https://evil.example/"), status=status),
            says=("redirect",),
            never_says=("evil.example",),
        )
        for status in (301, 302, 307, 308)
    ),
    refused("J10", "2 MB", reply(BODY + b" " * 2_000_000)),
    refused("J10", "2 MB, told by the transport", Failure("too_large", "the answer passed 262144 bytes")),
    refused("J10", "page", reply(b"<html>t0k3nCanary", ("content-type", "text/html")), never_says=("<html>",)),
    refused("J10", "page that says JSON", reply(b"<html>t0k3nCanary"), never_says=("<html>",)),
    refused("J10", "twice", reply(BODY[:-1] + b',"issuer":"https://idp.example"}')),
    refused("J10", "deep", reply(BODY[:-1] + b',"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}")),
    refused("J10", "text/plain", reply(BODY, ("content-type", "text/plain"))),
    refused("J10", "array", reply(b"[" + BODY + b"]")),
    refused("J10", "NaN", reply(BODY[:-1] + b',"x":NaN}')),
    refused("J10", "404", NOT_FOUND, status=404),
    refused("J10", "500", reply(b"", status=500), fetches=6, outcome="UNREACHABLE", status=500),
    refused("J10", "unreachable", Failure("connect", "refused"), fetches=3, outcome="UNREACHABLE"),
    refused("J10", "certificate", Failure("tls", "the certificate is not valid"), fetches=1, outcome="UNREACHABLE"),
    accepted("J10", "lenient", reply(BODY, ("content-type", "text/plain")), lenient_content_type=True),
    accepted("J10", "once cut off", Failure("read", "cut off"), GOOD, fetches=2),
    accepted("J11", "methods absent", GOOD),
    accepted("J11", "methods null", metadata(token_endpoint_auth_methods_supported=None)),
    accepted("J11", "only another method", metadata(token_endpoint_auth_methods_supported=["private_key_jwt"])),
    accepted("J12", "none only", metadata(token_endpoint_auth_methods_supported=["none"])),
    refused("J11", "methods of the wrong kind", metadata(token_endpoint_auth_methods_supported=[7])),
    accepted("J13", "signed metadata", metadata(signed_metadata="e30.e30.")),
    accepted(
        "J13",
        "signed metadata with another endpoint",
        metadata(signed_metadata="e30.eyJ0b2tlbl9lbmRwb2ludCI6Imh0dHBzOi8vZXZpbC5leGFtcGxlLyJ9."),
    ),
    refused("J20", "longer issuer", metadata("https://idp.example/a/b"), issuer="https://idp.example/a"),
    refused("J20", "shorter issuer", metadata("https://idp.example/a"), issuer="https://idp.example/a/b"),
    accepted("J23", "nothing but accept", GOOD),
)
