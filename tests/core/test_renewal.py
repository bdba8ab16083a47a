"""When a token is renewed: the numbers that are promised."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit.core.renewal import (
    attempt_pause,
    back_off,
    leeway_for,
    no_progress_until,
    renewal_lead,
    schedule,
)

LIFETIMES = st.floats(1, 31 * 86400)
JITTER = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("lifetime", "earliest", "latest"),
    [
        (3600.0, 600.0, 300.0),  # one hour: 5 to 10 minutes ahead
        (300.0, 75.0, 37.5),  # five minutes: 38 to 75 s ahead
        (60.0, 15.0, 7.5),
        (5.0, 1.25, 0.625),
        (86400.0, 600.0, 300.0),
    ],
)
def test_the_lead_is_uniform_between_half_and_all_of_late(lifetime: float, earliest: float, latest: float) -> None:
    assert renewal_lead(lifetime, 300.0, 10.0, 0.0) == pytest.approx(max(latest, leeway_for(lifetime, 10.0)))
    assert renewal_lead(lifetime, 300.0, 10.0, 1.0 - 1e-12) == pytest.approx(earliest)
    middle = renewal_lead(lifetime, 300.0, 10.0, 0.5)
    assert middle == pytest.approx((earliest + latest) / 2)


@pytest.mark.parametrize(("lifetime", "leeway"), [(3600.0, 10.0), (100.0, 10.0), (50.0, 5.0), (5.0, 0.5), (1.0, 0.1)])
def test_the_leeway_is_ten_seconds_at_most_a_tenth(lifetime: float, leeway: float) -> None:
    assert leeway_for(lifetime, 10.0) == pytest.approx(leeway)


@given(LIFETIMES, st.floats(0, 86400), st.floats(0, 300), JITTER)
def test_the_lead_lies_between_leeway_and_what_is_late(
    lifetime: float, renew_before: float, leeway: float, jitter: float
) -> None:
    lead = renewal_lead(lifetime, renew_before, leeway, jitter)
    late = min(2 * renew_before, lifetime / 4)
    assert leeway_for(lifetime, leeway) <= lead <= max(late, leeway_for(lifetime, leeway))
    assert lead >= late / 2


@given(LIFETIMES, st.floats(0, 1e6), JITTER, st.one_of(st.none(), st.floats(0, 1e6)))
def test_renewal_comes_before_the_end_of_use_and_that_before_expiry(
    lifetime: float, since: float, jitter: float, refresh_in: float | None
) -> None:
    plan = schedule(
        since=since,
        remaining=lifetime,
        lifetime=lifetime,
        renew_before=300.0,
        leeway=10.0,
        jitter=jitter,
        refresh_in=refresh_in,
    )
    assert plan.renew_at <= plan.usable_until < plan.expires_at == since + lifetime
    assert plan.state(plan.usable_until) == "expired"
    assert plan.state(plan.expires_at) == "expired"
    if plan.renew_at < plan.usable_until:
        assert plan.state(plan.renew_at) == "renewable"
    if refresh_in is None:
        assert plan.state(since) == "fresh"


def test_states_of_an_hour() -> None:
    plan = schedule(since=0.0, remaining=3600.0, lifetime=3600.0, renew_before=300.0, leeway=10.0, jitter=0.5)
    assert plan == (3150.0, 3590.0, 3600.0)
    states = [plan.state(now) for now in (0.0, 3149.9, 3150.0, 3589.9, 3590.0, 1e9)]
    assert states == ["fresh", "fresh", "renewable", "renewable", "expired", "expired"]


def test_what_the_store_gave_counts_from_what_is_left() -> None:
    plan = schedule(since=50.0, remaining=1000.0, lifetime=3600.0, renew_before=300.0, leeway=10.0, jitter=0.0)
    assert plan == (750.0, 1040.0, 1050.0)


def test_the_server_may_say_when_to_renew() -> None:
    plan = schedule(
        since=0.0, remaining=3600.0, lifetime=3600.0, renew_before=300.0, leeway=10.0, jitter=0.5, refresh_in=1800.0
    )
    assert plan.renew_at == 1800.0
    late = schedule(
        since=0.0, remaining=3600.0, lifetime=3600.0, renew_before=300.0, leeway=10.0, jitter=0.5, refresh_in=3599.0
    )
    assert late.renew_at == late.usable_until
    from_store = schedule(
        since=1000.0, remaining=2600.0, lifetime=3600.0, renew_before=300.0, leeway=10.0, jitter=0.5, refresh_in=1800.0
    )
    assert from_store.renew_at == 1800.0


@given(JITTER)
def test_a_token_of_five_seconds_is_renewed_once_per_life_a21(jitter: float) -> None:
    now, renewals = 0.0, 0
    while now < 60.0:
        plan = schedule(since=now, remaining=5.0, lifetime=5.0, renew_before=300.0, leeway=10.0, jitter=jitter)
        assert plan.renew_at - now >= 3.75
        now = plan.renew_at
        renewals += 1
    assert renewals <= 16


@pytest.mark.parametrize(("rest", "pause"), [(600.0, 300.0), (20.0, 10.0), (8.0, 5.0), (0.0, 5.0)])
def test_the_same_token_again_is_asked_for_at_half_the_rest(rest: float, pause: float) -> None:
    assert no_progress_until(100.0, 100.0 + rest) == 100.0 + pause


def test_back_off_doubles_from_one_second_to_its_last() -> None:
    lows = [back_off(failures, 0.0) for failures in range(1, 9)]
    assert lows == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    highs = [back_off(failures, 1.0) for failures in range(1, 9)]
    assert highs == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert back_off(10**9, 1.0) == 60.0
    assert back_off(10, 1.0, last=5.0) == 5.0
    assert back_off(1, 0.5, last=5.0) == 1.5


@given(st.integers(1, 10**6), JITTER)
def test_back_off_is_bounded(failures: int, jitter: float) -> None:
    assert 1.0 <= back_off(failures, jitter) <= 60.0


def test_the_pause_between_attempts_has_full_jitter() -> None:
    assert [attempt_pause(attempt, 1.0) for attempt in range(3)] == [0.25, 0.5, 1.0]
    assert [attempt_pause(attempt, 0.0) for attempt in range(3)] == [0.0, 0.0, 0.0]
