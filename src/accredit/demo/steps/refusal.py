"""A token revoked at the server: the API answers 401, and the call is sent once more with a new token."""

from __future__ import annotations

from accredit.clock import SystemClock
from accredit.demo.report import Kind, Report, Row, duration
from accredit.demo.stage import Stage


def play(stage: Stage, report: Report) -> None:
    """Call, revoke, call twice; then look at what the API answered and what the callers got."""
    now = SystemClock().now
    with stage.manager() as manager, stage.client(manager) as client:
        before = stage.saw(client.get("/orders"))
        if stage.sabotage != "no-revocation":
            stage.server.revoke_client()
        began = now()
        healed = stage.saw(client.get("/orders"))
        took = now() - began
        after = stage.saw(client.get("/orders"))
    counts = stage.counts()
    answers = counts.statuses()
    got = [before.status, healed.status, after.status]

    def dots(statuses: list[int | None]) -> tuple[Kind, ...]:
        return tuple("ok" if status == 200 else "bad" for status in statuses)

    report.picture = lambda: (
        Row("the API", dots(answers), "answered " + ", ".join(map(str, answers))),
        Row("callers", dots([*got]), "got " + ", ".join(map(str, got))),
    )
    why = ", of which 1 s for a token so young to reach every part of the API" if 1 <= took < 2 else ""
    report.note("took", f"{duration(took)}{why}")
    report.equal(answers.count(401), 1, "call that the API refused")
    report.all_of(got.count(200), len(got), "calls answered 200, as their callers see it")
    report.equal(len(answers), 4, "calls that reached the API: the refused one was sent once more")
    report.equal(len(counts.token_requests), 2, "token requests: the first, and one renewal")
    changed = before.token_id != healed.token_id == after.token_id
    report.equal("yes" if changed else "no", "yes", "a new token is in use from then on")
    stage.cross_check(counts, report)
