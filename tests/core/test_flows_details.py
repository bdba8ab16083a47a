"""What flows put into each effect and each result: the members that no scenario as a whole depends on."""

from __future__ import annotations

import dataclasses

import pytest

from accredit.core import effects
from accredit.core.events import AttemptFailed
from accredit.core.flows import Failed, Obtained, Past, renew_refused, throttle_key
from accredit.core.messages import Failure
from accredit.core.records import Claimed, Hold, Record, Satisfied, Stored, StoreDown, Wait
from accredit.errors import (
    AuthorizationServerError,
    CredentialRefusedError,
    MalformedResponseError,
    ThrottledError,
    UnreachableError,
)
from tests.support.scripted import (
    ORIGIN,
    TOKEN_ENDPOINT,
    Process,
    Run,
    World,
    answer,
    events_of,
    failed,
    issued,
    obtained,
    pauses,
    registration,
    sends,
    wanted,
)

REQUEST = wanted()
DEADLINE = REQUEST.registration.deadline
SOURCE = REQUEST.registration.client_auth.source
BEFORE = (6 << 32) | 5  # a generation that will not do


class Answering(World):
    """A world whose store answers the effects of one kind with what is given, and then by itself."""

    def __init__(self, kind: type, *answers: object) -> None:
        super().__init__()
        self.kind = kind
        self.answers = list(answers)

    def perform_store(self, effect: effects.Effect) -> object:
        if isinstance(effect, self.kind) and self.answers:
            return self.answers.pop(0)
        return super().perform_store(effect)


def found(**changes: object) -> Record:
    record = Record(REQUEST.identity.encoded, "stored", 3600.0, 1e12, (7 << 32) | 1)
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


def of_kind(run: Run, kind: type) -> list[effects.Effect]:
    return [effect for effect in run.trace if isinstance(effect, kind)]


def always_draw(world: World, number: float) -> None:
    world.random.random = lambda: number  # type: ignore[method-assign]


# -- claiming --------------------------------------------------------------------------------------------------


def test_the_secret_is_read_from_the_source_of_the_registration_each_time() -> None:
    world = World()
    world.server.script = [answer(401, error="invalid_client")]
    run = world.run(Process("p", "old", later_secrets=["new"]), REQUEST)
    run.finish()
    assert [effect.source for effect in run.trace if isinstance(effect, effects.ReadSecret)] == [SOURCE, SOURCE]


def test_waiting_begins_with_short_pauses_that_double_up_to_fifty_milliseconds() -> None:
    world = Answering(effects.Claim, *[Claimed(None, Wait(5.0))] * 4)
    always_draw(world, 1.0)
    run = world.run(Process("p"), REQUEST)
    run.finish()
    assert pauses(run) == pytest.approx([0.02, 0.04, 0.05, 0.05])


def test_waiting_ends_at_the_deadline_itself() -> None:
    world = Answering(effects.Claim, *[Claimed(None, Wait(0.0))] * 9)
    run = world.run(Process("p"), REQUEST)
    run.advance_to(effects.Pause)
    run.step()
    world.now = 1_000.0 + DEADLINE
    result = run.finish()
    assert isinstance(result, Failed)
    assert (len(pauses(run)), world.server.count) == (1, 0)
    assert isinstance(result.error, UnreachableError)
    assert result.error.endpoint == TOKEN_ENDPOINT
    assert result.error.advice


@pytest.mark.parametrize(
    "claimed",
    [
        StoreDown(),
        Claimed(None, Satisfied()),
        Claimed(Stored(found(identity=b"another"), 3000.0), Satisfied()),
    ],
)
def test_whoever_goes_on_alone_still_asks_for_what_is_newer_and_claims_once(claimed: object) -> None:
    world = Answering(effects.Claim, claimed)
    run = world.run(Process("p"), REQUEST, BEFORE)
    result = run.finish()
    (publish,) = of_kind(run, effects.Publish)
    assert isinstance(publish, effects.Publish)
    assert (publish.based_on, publish.record.generation >> 32) == (BEFORE, 7)
    assert result.source == "server"
    assert len(of_kind(run, effects.Claim)) == 1


def test_a_lease_is_for_half_the_deadline_and_no_longer_than_the_flight() -> None:
    world = World()
    world.server.latency = 3.0
    world.server.always = lambda _: answer(500)
    always_draw(world, 0.0)
    run = world.run(Process("p"), REQUEST, BEFORE)
    run.finish()
    claims = [effect for effect in run.trace if isinstance(effect, effects.Claim)]
    assert [each.lease for each in claims] == [5.0, 5.0, 4.0, 1.0]
    assert {each[:4] for each in claims} == {(REQUEST.identity, BEFORE, "tag of s3cret", claims[0].owner)}
    assert claims[0].owner.startswith("p-")


@pytest.mark.parametrize(
    ("record", "remaining", "left"),
    [
        (found(lifetime=1.0), 0.9, 0.9),
        (found(lifetime=31 * 86400.0), 3600.0, 3600.0),
        (found(), 9999.0, 3600.0),
        (found(expires_at=1_700_000_000.0 + 1_000.0 + 77.0), 3000.0, 77.0),
        (found(), 10.001, 10.001),
    ],
)
def test_a_record_is_used_for_as_long_as_every_clock_grants_it(record: Record, remaining: float, left: float) -> None:
    world = Answering(effects.Claim, Claimed(Stored(record, remaining, suspect=True), Satisfied()))
    assert obtained(world) == Obtained(Stored(record, left, suspect=True), 1_000.0, "store")


def test_a_record_is_expired_when_its_leeway_begins() -> None:
    world = Answering(effects.Claim, Claimed(Stored(found(), 10.0), Satisfied()))
    assert obtained(world).source == "server"


def test_a_hold_of_the_store_says_how_long_it_still_is() -> None:
    world = World()
    world.server.always = lambda _: answer(400, error="invalid_scope")
    failed(world)
    held = failed(world)
    assert isinstance(held.error, AuthorizationServerError)
    assert held.error.retry_after == held.hold > 0


# -- asking ----------------------------------------------------------------------------------------------------


def test_the_token_endpoint_is_asked_as_it_was_checked() -> None:
    request = wanted(token_endpoint="https://bücher.example/token")
    run = World().run(Process("p"), request)
    run.finish()
    assert [effect.request.url for effect in sends(run)] == ["https://xn--bcher-kva.example/token"]


def test_nothing_is_asked_at_the_deadline_itself() -> None:
    world = World()
    run = world.run(Process("p"), REQUEST)
    run.advance_to(effects.EndpointHold)
    world.now = 1_000.0 + DEADLINE
    result = run.finish()
    assert (result.error.endpoint, world.server.count) == (TOKEN_ENDPOINT, 0)


def test_the_endpoint_that_was_discovered_is_the_one_that_errors_name() -> None:
    world = World()
    request = wanted(issuer="https://as.example")
    world.server.script = [
        answer(issuer="https://as.example", token_endpoint="https://login.example/token"),
        Failure("tls", "no"),
    ]
    result = failed(world, request)
    assert isinstance(result.error, UnreachableError)
    assert result.error.endpoint == "https://login.example/token"
    assert "the token endpoint could not be reached" in str(result.error)


def test_an_error_of_the_server_names_the_endpoint_and_keeps_the_secret_out() -> None:
    world = World()
    world.server.always = lambda _: answer(400, error="invalid_request", error_description="you sent s3cret, did you")
    result = failed(world)
    assert isinstance(result.error, AuthorizationServerError)
    assert result.error.endpoint == TOKEN_ENDPOINT
    assert "s3cret" not in str(result.error)


def test_a_date_to_come_back_at_is_read_by_the_wall_clock() -> None:
    world = World()
    world.wall_base = 0.0  # so the wall clock says a quarter past midnight, more or less: 1000 s and the latency
    date = "Thu, 01 Jan 1970 00:17:20 GMT"
    world.server.always = lambda _: answer(429, (("retry-after", date),))
    result = failed(world)
    assert result.hold == pytest.approx(1040.0 - 1000.1)


def test_a_token_with_no_more_than_its_leeway_left_is_expired_on_arrival() -> None:
    world = World()
    world.server.latency = 9.0
    world.server.lifetime = 10
    result = failed(world)
    assert isinstance(result.error, MalformedResponseError)
    assert (result.error.status, result.error.endpoint) == (200, TOKEN_ENDPOINT)
    assert result.error.advice


def test_pauses_between_attempts_double_and_are_told() -> None:
    world = World()
    world.server.always = lambda _: answer(500)
    always_draw(world, 1.0)
    process = Process("p")
    run = world.run(process, wanted(principal="who"))
    result = run.finish()
    assert pauses(run) == [0.25, 0.5]
    first, second = events_of(process, AttemptFailed)
    assert isinstance(first, AttemptFailed)
    assert isinstance(first.error, UnreachableError)
    assert first == AttemptFailed("api", "who", first.error, 0.25)
    assert second == AttemptFailed("api", "who", first.error, 0.5)
    assert result.error == first.error.held_for(result.hold)


def test_no_attempt_begins_at_the_deadline_and_the_last_error_is_what_is_told() -> None:
    world = World()
    world.server.latency = 9.75
    world.server.script = [answer(500)]
    always_draw(world, 1.0)
    run = world.run(Process("p"), REQUEST)
    result = run.finish()
    assert (pauses(run), world.server.count) == ([], 1)
    assert "HTTP 500" in str(result.error)


# -- publishing ------------------------------------------------------------------------------------------------


def test_the_record_says_all_that_the_server_said() -> None:
    world = World()
    request = wanted(keep_members=["instance_url"])
    world.server.script = [
        issued("new", 600, scope="b a", refresh_in=300, instance_url="https://a.example"),
    ]
    run = world.run(Process("p"), request, BEFORE)
    result = run.finish()
    (publish,) = of_kind(run, effects.Publish)
    assert isinstance(publish, effects.Publish)
    assert publish.record == Record(
        request.identity.encoded,
        "new",
        600.0,
        1_700_001_600.0,
        publish.record.generation,
        ("b", "a"),
        300.0,
        (("instance_url", "https://a.example"),),
    )
    assert publish.credential == "tag of s3cret"
    assert (result.stored.record, result.stored.suspect) == (publish.record, False)


def test_the_generation_that_the_store_gave_is_the_only_change() -> None:
    kept = dataclasses.replace(found(), value="new", generation=(9 << 32) | 9)
    world = Answering(effects.Publish, Stored(kept, 3600.0))
    world.server.script = [issued("new", 600, scope="a", refresh_in=300)]
    run = world.run(Process("p"), REQUEST)
    result = run.finish()
    (publish,) = of_kind(run, effects.Publish)
    assert isinstance(publish, effects.Publish)
    assert result.stored.record == dataclasses.replace(publish.record, generation=kept.generation)


def test_a_token_that_another_published_meanwhile_lives_by_the_clock_of_the_store() -> None:
    world = Answering(effects.Publish, Stored(found(), 3000.0))
    assert obtained(world) == Obtained(Stored(found(), 3000.0), 1_000.1, "store")


def test_a_store_that_cannot_keep_a_record_gets_its_lease_back() -> None:
    world = Answering(effects.Publish, StoreDown())
    run = world.run(Process("p"), REQUEST)
    result = run.finish()
    (claim,) = of_kind(run, effects.Claim)
    assert isinstance(claim, effects.Claim)
    assert of_kind(run, effects.Fail) == [effects.Fail(REQUEST.identity, claim.owner, None)]
    (publish,) = of_kind(run, effects.Publish)
    assert isinstance(publish, effects.Publish)
    assert result.stored.record == publish.record


# -- holding ---------------------------------------------------------------------------------------------------


def test_only_a_refused_credential_is_held_under_its_tag() -> None:
    tags = []
    for response in (
        answer(400, error="invalid_scope"),
        answer(500),
        answer(429),
        answer(401, error="invalid_client"),
    ):
        world = World()
        world.server.always = lambda _, response=response: response
        run = world.run(Process("p"), REQUEST)
        result = run.finish()
        (fail,) = of_kind(run, effects.Fail)
        assert isinstance(fail, effects.Fail)
        assert fail.hold is not None
        assert fail.hold.credential == result.credential
        tags.append(result.credential)
    assert tags == ["", "", "", "tag of s3cret"]


def test_a_throttle_is_kept_with_the_count_of_failures_and_says_how_long_it_still_is() -> None:
    world = World()
    world.server.always = lambda _: answer(429, (("retry-after", "60"),))
    run = world.run(Process("p"), REQUEST, past=Past(failures=2))
    result = run.finish()
    key = throttle_key(REQUEST.registration)
    kept = [effect for effect in run.trace if isinstance(effect, effects.HoldEndpoint)]
    assert [(each.key, each.hold.seconds, each.hold.failures) for each in kept] == [(key, 60.0, 3)]
    assert isinstance(result.error, ThrottledError)
    world.store = type(world.store)(clock=lambda: world.now)
    world.store.hold_endpoint(key, Hold(30.0, ThrottledError("slow."), 1))
    held = failed(world)
    assert isinstance(held.error, ThrottledError)
    assert held.error.retry_after == held.hold == pytest.approx(30.0)


def test_a_throttle_is_of_the_server_as_configured() -> None:
    other = "https://other.example"
    by_issuer = registration(issuer="https://as.example")
    keys = [
        throttle_key(each)
        for each in (
            by_issuer,
            registration(issuer=other),
            registration(metadata_url="https://as.example/m"),
            registration(metadata_url=f"{other}/m"),
            registration(token_endpoint="https://as.example/t"),
            registration(token_endpoint=f"{other}/t"),
        )
    ]
    assert len(set(keys)) == 6
    both = registration(issuer="https://as.example", metadata_url=f"{other}/m")
    assert throttle_key(both) == throttle_key(by_issuer)


def test_what_the_process_remembers_holds_for_a_renewal_after_a_refusal_too() -> None:
    world = World()
    process = Process("p")
    refused = Failed(CredentialRefusedError("no"), 8.0, "tag of s3cret", counts=False)
    flow = renew_refused(REQUEST, generation=BEFORE, age=60.0, origin=ORIGIN, owner="p-1", past=Past(3, refused))
    assert Run(world, process, flow).finish() is refused
    assert world.server.count == 0
