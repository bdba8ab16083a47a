"""The first call, and proof that the API would have refused a token that is not good."""

from __future__ import annotations

import httpx2

from accredit.clock import SystemClock
from accredit.demo.report import Report, duration, plural
from accredit.demo.stage import Call, Stage, forged
from accredit.manager import TokenManager


def play(stage: Stage, report: Report) -> None:
    """Make a call with a manager that knows no token, then one more; then knock with tokens that are not good."""
    if stage.sabotage == "open-door":
        body = '{"orders": ["espresso", "ristretto"], "token_id": "whatever"}'
        stage.server.fail(200, server="api", path="/orders", body=body)
    now = SystemClock().now
    with stage.manager() as manager, stage.client(manager) as client:
        began = now()
        call = stage.saw(client.get("/orders"))
        cold = now() - began
        began = now()
        again = stage.saw(client.get("/orders"))
        warm = now() - began
        counts = stage.counts()
        because = f" ({call.reason})" if call.reason else ""
        report.note("request", "GET /orders, with httpx2.Client(auth=AccreditAuth(manager))")
        report.note("answer", f"{call.status}{because}, after {duration(cold)}; the next one after {duration(warm)}")
        report.equal(call.status, 200, "the status of the first call")
        report.equal(again.status, 200, "the status of the second call")
        requests = len(counts.token_requests)
        report.equal(requests, 1, f"{plural(requests, 'token request')}, for both")
        stage.cross_check(counts, report)
        if call.status == 200:
            _knock(stage, manager, report, call)


def _knock(stage: Stage, manager: TokenManager, report: Report, call: Call) -> None:
    good = manager.get()
    narrow = manager.get(scope="orders:read")
    with httpx2.Client(base_url=stage.server.api_url, trust_env=False, timeout=30) as client:

        def knock(method: str, token: str | None) -> tuple[int, str | None]:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            seen = stage.saw(client.request(method, "/orders", headers=headers))
            return seen.status, seen.reason

        answers = {
            "no token": (knock("GET", None), (401, "token_required")),
            "forged signature": (knock("GET", forged(good.value)), (401, "signature")),
            "scope too small": (knock("POST", narrow.value), (403, "insufficient_scope")),
        }
        stage.server.advance_clock(good.lifetime + 1)
        answers["expired"] = (knock("GET", good.value), (401, "expired"))
        stage.server.advance_clock(-good.lifetime - 1)
        stage.server.revoke_token_id(call.token_id or "")
        answers["revoked"] = (knock("GET", good.value), (401, "revoked"))
    refused = [name for name, (seen, expected) in answers.items() if seen == expected]
    report.note("refused", ", ".join(refused) or "nothing")
    report.all_of(len(refused), len(answers), "calls with a token that is not good were refused")
