"""Group B: the network fails, as the transport tells it."""

from __future__ import annotations

from typing import Any

from accredit.core.events import AttemptFailed
from accredit.core.messages import Failure
from tests.bad_inputs.model import Case, bad, case, issued, ok

FIRST = (1.0, 2.0)
THRICE: dict[str, Any] = {"requests": 3, "hold": FIRST, "event": AttemptFailed, "status": None}

CASES: tuple[Case, ...] = (
    case(
        "B20",
        "does not resolve",
        Failure("resolve", "the host name could not be resolved"),
        bad("UNREACHABLE", **THRICE),
    ),
    case("B20", "slow resolver", issued(), bad("UNREACHABLE", requests=1), latency=11.0),
    case("B21", "refused", Failure("connect", "the connection was refused"), bad("UNREACHABLE", **THRICE)),
    case("B21", "slow connects", Failure("connect", "timed out"), bad("UNREACHABLE", requests=3), latency=3.0),
    case(
        "B21",
        "slow connects, short deadline",
        Failure("connect", "timed out"),
        bad("UNREACHABLE", requests=1),
        latency=0.99,
        deadline=1.0,
    ),
    case("A49", "cut off", Failure("read", "the connection broke"), bad("UNREACHABLE", **THRICE)),
    case("A49", "cut off once", (Failure("read", "the connection broke"), issued()), ok(requests=2)),
    case(
        "B23",
        "reset then a token",
        (Failure("read", "the connection was closed"), issued()),
        ok(requests=2, event=AttemptFailed),
    ),
    case("B26", "gone away then a token", (Failure("connect", "reset"), issued()), ok(requests=2)),
    case(
        "A47",
        "too large",
        Failure("too_large", "the answer passed 262144 bytes"),
        bad("MALFORMED", requests=1, hold=FIRST),
    ),
    case(
        "K01",
        "certificate",
        Failure("tls", "the certificate is not valid"),
        bad("UNREACHABLE", requests=1, says=("certificate",)),
    ),
    case(
        "B14", "proxy", Failure("proxy", "the proxy wants credentials"), bad("UNREACHABLE", requests=3, says=("proxy",))
    ),
    case("J07", "blocked address", Failure("blocked", "the address is link-local"), bad("UNREACHABLE", requests=1)),
    case("B32", "30 s late", issued(), bad("UNREACHABLE", requests=1), latency=30.0),
    case("B25", "too late", issued(), bad("UNREACHABLE", requests=1), latency=10.0001),
)
