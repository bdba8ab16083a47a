"""Group A: answers with a token that is to be taken."""

from __future__ import annotations

from accredit.core.events import LifetimeClamped
from tests.bad_inputs.model import JSON, TOKEN, Case, case, document, issued, ok, reply

MONTH = 31 * 86400.0
MINIMAL = b'{"access_token":"%s","token_type":"Bearer","expires_in":3600}' % TOKEN.encode()
DETAILS = [{"type": "payment", "actions": ["initiate"]}]

CASES: tuple[Case, ...] = (
    case("A01", "minimal", issued(), ok(lifetime=3600.0, scope=None, members={})),
    case("A01", "slow", issued(), ok(lifetime=3600.0), latency=8.0),
    *(case("A02", name, issued(token_type=name), ok(lifetime=3600.0)) for name in ("bearer", "BEARER", "bEaReR")),
    case("A03", "assumed", issued(token_type=None), ok(), assume_bearer=True),
    *(
        case("A10", name, issued(access_token=TOKEN + character + "tail"), ok(value=TOKEN + character + "tail"))
        for name, character in {"bang": "!", "bar": "|", "colon": ":", "at": "@", "brace": "{"}.items()
    ),
    case("A11", "16 KiB", issued(access_token=TOKEN + "x" * 16384), ok(value=TOKEN + "x" * 16384)),
    case("A13", "default", issued(expires_in=None), ok(lifetime=300.0)),
    case("A13", "configured", issued(expires_in=None), ok(lifetime=120.0), default_lifetime=120),
    case("A15", "digits", issued(expires_in="3600"), ok(lifetime=3600.0)),
    case("A17", "whole", issued(expires_in=3600.0), ok(lifetime=3600.0)),
    case("A17", "floored", issued(expires_in=3599.9), ok(lifetime=3599.0)),
    case("A20", "ten years", issued(expires_in=315_360_000), ok(lifetime=MONTH, event=LifetimeClamped)),
    case("A20", "configured", issued(expires_in=86400), ok(lifetime=7200.0, event=LifetimeClamped), max_lifetime=7200),
    case("A23", "null", reply(MINIMAL.replace(b"3600", b"null")), ok(lifetime=300.0)),
    case("A28", "narrower", issued(scope="orders:read"), ok(scope=("orders:read",)), scope="orders:read orders:write"),
    case("A30", "reordered", issued(scope="b a"), ok(scope=("b", "a")), scope="a b", require_scope=True),
    case("A30", "repeated", issued(scope="b a b"), ok(scope=("b", "a")), scope="a b", require_scope=True),
    case("A30", "spaces", issued(scope="a  b "), ok(scope=("a", "b")), scope="a b", require_scope=True),
    case("A32", "refresh token", issued(refresh_token="refreshT0k3nCanary"), ok(members={})),
    case(
        "A32",
        "asked to keep it",
        issued(refresh_token="refreshT0k3nCanary"),
        ok(members={}),
        keep_members=("refresh_token", "id_token"),
    ),
    case(
        "A33",
        "500 more",
        issued(id_token="a.b.T0k3nCanary", session_state="x", **{f"member_{n}": "y" * 20 for n in range(500)}),
        ok(members={}),
    ),
    case(
        "A33",
        "kept",
        issued(instance_url="https://na1.example", other="y"),
        ok(members={"instance_url": "https://na1.example"}),
        keep_members=("instance_url",),
    ),
    case("A37", "lenient", reply(MINIMAL, ("content-type", "text/plain")), ok(), lenient_content_type=True),
    case("A40", "byte order mark", reply(b"\xef\xbb\xbf" + MINIMAL), ok()),
    case("A46", "a pair is no lone surrogate", reply(MINIMAL[:-1] + rb',"x":"\ud83d\ude00"}'), ok()),
    case(
        "A53",
        "cacheable",
        document(
            headers=(("cache-control", "public, max-age=600"), ("etag", '"1"'), ("age", "0")),
            access_token=TOKEN,
            token_type="Bearer",
            expires_in=3600,
        ),
        ok(lifetime=3600.0),
    ),
    case(
        "A54",
        "details kept",
        issued(authorization_details="[]"),
        ok(members={"authorization_details": "[]"}),
        authorization_details=DETAILS,
        keep_members=("authorization_details",),
    ),
    case("A54", "details not asked for", issued(authorization_details=[{"type": "other"}]), ok(members={})),
    case("A55", "issued type", issued(issued_token_type="urn:x", cnf={"jkt": "x" * 43}), ok(members={})),
    case("A35", "error null", reply(MINIMAL[:-1] + b',"error":null}'), ok()),
    case("A44", "depth 32", reply(MINIMAL[:-1] + b',"x":' + b"[" * 31 + b"]" * 31 + b"}"), ok()),
    case("A37", "suffix", reply(MINIMAL, ("content-type", "application/token+json; charset=utf-8")), ok()),
    case("A42", "whitespace around", reply(b" \r\n" + MINIMAL + b"\n", *JSON), ok()),
)
