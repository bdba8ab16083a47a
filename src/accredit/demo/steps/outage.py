"""An outage of the authorization server: ridden through with a valid token, told clearly after it, and over at once."""

from __future__ import annotations

import textwrap
import time

from accredit.clock import SystemClock
from accredit.demo.report import Report, Timeline
from accredit.demo.stage import Stage
from accredit.demo.steps.caller import Caller, Sample
from accredit.errors import AccreditError, AuthorizationServerError, UnreachableError
from accredit.manager import TokenManager


def play(stage: Stage, report: Report) -> None:
    """Let the server fail for longer than the token lives, call on, and let it come back."""
    lifetime = 3 if stage.fast else 5
    now = SystemClock().now
    stage.server.set_token_lifetime(lifetime)
    with stage.manager() as manager, stage.client(manager) as client:
        token = manager.get()
        stage.settle_clock(token)
        timeline = Timeline(now, lifetime + 2.0)
        report.picture = timeline.rows
        timeline.state("server", "up")
        with Caller(stage, manager, client, timeline) as caller:
            begin = now()
            caller.wait_for(lambda sample: sample.ok and sample.began > begin + 0.3, 5.0)
            if stage.sabotage != "no-outage":
                stage.server.fail(503, path="*")
            down = now()
            timeline.state("server", "down")
            if stage.sabotage == "drop-token":
                caller.before = manager.remove
            time.sleep(max(0.0, token.usable_until - now()))
            # A few calls more, so that the error is seen to be the same for all.
            last = caller.wait_for(lambda sample: sample.began > token.usable_until + 0.15, 15.0)
        samples = caller.samples()
        carried = [sample for sample in samples if sample.began >= down and sample.had_token < token.usable_until]
        later = [sample for sample in samples if sample.began >= token.usable_until]
        _tell(report, carried, later, last)
        counts = stage.counts()
        report.all_of(counts.statuses().count(200), len(counts.api), "calls that were sent had a valid token")
        back_in = _held_for(manager)
        if stage.sabotage != "no-recovery":
            stage.server.recover()
        timeline.state("server", "up")
        time.sleep(back_in)
        response = client.get("/orders")
        timeline.dot("calls", "ok" if stage.saw(response).status == 200 else "bad")
    recovered = stage.counts()
    report.note("recovery", f"the back-off had {back_in:.1f} s to go when the server came back")
    report.equal(response.status_code, 200, "the status of the first call after that")
    report.equal(len(recovered.token_requests) - len(counts.token_requests), 1, "token request brought everything back")
    stage.cross_check(recovered, report)


def _tell(report: Report, carried: list[Sample], later: list[Sample], last: Sample | None) -> None:
    error = last.error if last is not None else None
    if error is not None:
        text = f"{type(error).__name__}: {error}"
        for number, line in enumerate(textwrap.wrap(text, 62)):
            report.note("" if number else "error", line)
    answered = sum(sample.ok for sample in carried)
    report.at_least(len(carried), 10, "calls in the outage while the token was valid")
    report.all_of(answered, len(carried), "of these were answered 200")
    clear = sum(isinstance(sample.error, UnreachableError) for sample in later)
    report.all_of(clear, len(later), "calls after expiry got a clear error, not a 401")


def _held_for(manager: TokenManager) -> float:
    """Return the seconds until the manager will ask the server again."""
    try:
        manager.get()
    except AuthorizationServerError as error:
        return (error.retry_after or 0.0) + 0.05
    except AccreditError:
        return 0.0
    return 0.0
