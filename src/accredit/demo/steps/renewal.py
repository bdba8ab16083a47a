"""A renewal ahead of expiry, held up at the server, while calls go on."""

from __future__ import annotations

import statistics
import time

from accredit.clock import SystemClock
from accredit.demo.report import Report, Timeline, duration
from accredit.demo.stage import Stage
from accredit.demo.steps.caller import Caller


def play(stage: Stage, report: Report) -> None:
    """Call on while the token grows old; stop its renewal at the server for a while, and look who waited."""
    lifetime = 4 if stage.fast else 6
    held_for = 0.35
    now = SystemClock().now
    settings: dict[str, float] = {"leeway": 0.1}
    if stage.sabotage == "no-renewal":
        settings["renew_before"] = 0.0
    stage.server.set_token_lifetime(lifetime)
    with stage.manager(**settings) as manager, stage.client(manager) as client:
        token = manager.get()
        stage.settle_clock(token)
        timeline = Timeline(now, lifetime + 0.3)
        report.picture = timeline.rows
        timeline.state("token", "first")
        stage.server.hold()
        with Caller(stage, manager, client, timeline) as caller:
            stage.server.wait_for_waiting(1, timeout=lifetime + 2.0)
            asked = now()
            timeline.state("renewal", "held")
            time.sleep(held_for)
            released = now()
            stage.server.release()
            caller.wait_for(lambda _: manager.peek() not in {None, token}, 5.0)
            arrived = now()
            timeline.state("renewal", "none")
            timeline.state("token", "second")
            caller.wait_for(lambda sample: sample.began > arrived + 0.2, 5.0)
        samples = caller.samples()
        renewed = manager.peek() not in {None, token}
    counts = stage.counts()
    meanwhile = [sample for sample in samples if sample.began < released and sample.had_token > asked]
    waits = [sample.had_token - sample.began for sample in meanwhile] or [held_for]
    ahead = token.ends_at - asked
    report.note("token", f"lives {lifetime} s; its renewal was asked for {ahead:.1f} s before its end")
    report.note("waits", f"{duration(statistics.median(waits))} (median) for a token while the renewal was held")
    report.equal("yes" if renewed and asked < token.usable_until else "no", "yes", "it was renewed ahead of expiry")
    report.equal(len(counts.token_requests), 2, "token requests: the first, and one renewal")
    report.at_least(len(meanwhile), 3, f"calls in the {duration(held_for)} that the renewal was held")
    report.quicker(max(waits), held_for / 2, "the longest that one of them waited for its token")
    report.all_of(sum(sample.ok for sample in samples), len(samples), "calls answered 200")
    stage.cross_check(counts, report)
