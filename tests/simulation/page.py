"""The page of the scale report."""

from __future__ import annotations

from collections.abc import Sequence

from tests.simulation.scale import LATENCY, LIFETIME, PACE, START_WITHIN, Measured

HEAD = f"""# What a fleet costs

How many token requests, store round trips and seconds of waiting a fleet of 10 to LARGEST processes costs, with and
without a shared store. Nothing here was measured on a network: the [simulator](simulator.md) ran fleets in virtual time,
with the real flows, engines, guards and stores of the library in every process, and all its invariants watching.
`./run simulate --report` writes this page and its plots, and goes on where it was interrupted.

Each process keeps one token fresh (`keep_fresh()`) and sees a caller every {PACE:.0f} s on average. Tokens live {LIFETIME} s;
the authorization server answers in {LATENCY * 1000:.0f} ms unless it is in trouble, the store in about 1 ms. All processes start
within {START_WITHIN:.0f} s, which is the hardest case for jitter. A fleet of 100,000 is looked at for five minutes (a cold start and
one renewal) and with jitter only, the others for ten.

## Nothing goes wrong

| processes | shared store | jitter | minutes | token requests | most a second, once all run | store round trips | most a second | callers that waited | longest wait |
|---|---|---|---|---|---|---|---|---|---|
"""

STEADY = """
![Token requests of a fleet](scale/requests.svg)

With a shared store a fleet of any size makes one token request for each renewal: three in ten minutes. Without one,
each process makes its own. A store sees about one round trip for each process and renewal, plus the looks of those who wait
while the first token is on its way.

Jitter spreads renewals over the window in which they are due. Without it, a fleet that started together renews
together, each time:

![Token requests a second with and without jitter](scale/jitter.svg)

## Something goes wrong

The authorization server is down from 200 s to 350 s: renewals are due from 225 s on, and tokens end at 290 s at the earliest. The
store is down from 200 s to 260 s. The overloaded server can do a hundredth of the fleet's requests each second (10 for 1,000
processes), has five seconds of work queued at most, and answers 503 beyond; work that is queued is done even when nobody
waits for it any more.

| processes | what | shared store | jitter | token requests | tokens issued | most a second | store round trips | most a second | calls with an error | longest wait |
|---|---|---|---|---|---|---|---|---|---|---|
"""

TROUBLES = """
![The authorization server is down](scale/server-outage.svg)

While the authorization server is down, callers notice nothing until their token ends; then each gets a typed error at
once, and a token within five seconds of the server's return. With a shared store one process asks for all of
them, and the server comes back to a handful of requests rather than to the whole fleet. The price is paid by the store: a fleet
that has nothing to renew with looks into it each time that a hold ends, all processes at the same time.

![The store is down](scale/store-outage.svg)

While the store is down, renewals wait for it to come back for half of the time that is left; then each process renews on
its own, spread by its jitter. No caller notices.

![An overloaded authorization server](scale/overload.svg)

A server that can do a hundredth of the fleet each second is overloaded by a cold start without a shared store: it does
work for callers that have gone, and what it drops comes again. With a shared store it does not notice the fleet.

## What was run, and what was not

Every row is one run of one seed. Steps are effects and happenings of the simulator; "ran for" is
what the machine took, which was shared with other work.

| processes | shared store | jitter | what | steps | ran for |
|---|---|---|---|---|---|
"""


def text(measured: Sequence[Measured]) -> str:
    """Return the page."""
    steady = "".join(_steady(one) for one in measured if one.case.trouble == "none")
    troubled = "".join(_troubled(one) for one in measured if one.case.trouble != "none")
    largest = f"{max(one.case.processes for one in measured):,}"
    return (
        HEAD.replace("LARGEST", largest)
        + steady
        + STEADY
        + troubled
        + TROUBLES
        + "".join(_effort(one) for one in measured)
    )


def _row(*cells: object) -> str:
    return "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells) + " |\n"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1.0 else f"{value:.1f} s"


def _steady(one: Measured) -> str:
    case = one.case
    head = case.processes, _yes(case.shared), _yes(case.jitter), int(case.horizon / 60)
    waits = one.waited, _seconds(one.wait_most)
    return _row(*head, one.token_requests, one.peak_renewals, one.store_trips, one.peak_trips, *waits)


def _troubled(one: Measured) -> str:
    case = one.case
    what = {"server": "server down", "store": "store down", "overload": "server overloaded"}[case.trouble]
    head = case.processes, what, _yes(case.shared), _yes(case.jitter)
    store = one.store_trips, one.peak_trips
    return _row(*head, one.token_requests, one.issued, one.peak_requests, *store, one.errors, _seconds(one.wait_most))


def _effort(one: Measured) -> str:
    case = one.case
    what = {"none": "nothing wrong", "server": "server down", "store": "store down", "overload": "overload"}[
        case.trouble
    ]
    return _row(case.processes, _yes(case.shared), _yes(case.jitter), what, one.steps, f"{one.seconds:.1f} s")
