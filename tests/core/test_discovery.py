"""Discovery: which document is asked for, how often, by how many flows, and what it costs when it fails."""

from __future__ import annotations

from typing import Any

import pytest

from accredit.core import effects
from accredit.core.discovery import METADATA_LIFETIME, metadata_key
from accredit.core.flows import Failed, Obtained
from accredit.core.messages import Failure, Request, Response
from accredit.core.registration import TokenRequest
from accredit.errors import ConfigurationError, DiscoveryError, UnreachableError
from tests.support.scripted import (
    ISSUER,
    TOKEN_ENDPOINT,
    Process,
    World,
    answer,
    explore,
    issued,
    pauses,
    registration,
    run_all,
    sends,
    wanted,
)

RFC_URL = f"{ISSUER}/.well-known/oauth-authorization-server"
OIDC_URL = f"{ISSUER}/.well-known/openid-configuration"
REQUEST = wanted(issuer=ISSUER)
GOOD = answer(issuer=ISSUER, token_endpoint=TOKEN_ENDPOINT)


def serve(world: World, pages: dict[str, Response | Failure]) -> None:
    """Let the server answer each URL with its page, and the token endpoint with a token."""

    def always(request: Request) -> Response | Failure:
        return pages.get(request.url) or (issued("token") if request.url == TOKEN_ENDPOINT else answer(404))

    world.server.always = always


def urls(world: World) -> list[str]:
    return [request.url for _, request in world.server.requests]


def run(world: World, process: Process | None = None, request: TokenRequest = REQUEST) -> Any:
    return world.run(process or Process("p"), request).finish()


def test_the_rfc_8414_document_comes_first_and_is_kept_for_an_hour() -> None:
    world, process = World(), Process("p")
    serve(world, {RFC_URL: GOOD})
    first = run(world, process)
    assert isinstance(first, Obtained)
    assert urls(world) == [RFC_URL, TOKEN_ENDPOINT]
    world.run(process, REQUEST, first.stored.record.generation).finish()
    assert urls(world)[2:] == [TOKEN_ENDPOINT]
    world.now += METADATA_LIFETIME
    run(world, process)
    assert urls(world)[3:] == [RFC_URL, TOKEN_ENDPOINT]


def test_the_oidc_document_serves_when_the_first_gives_no_valid_one() -> None:
    for first in (
        answer(404),
        answer(200, issuer="https://evil.example", token_endpoint="https://evil.example/t"),
        answer(503),
    ):
        world = World()
        serve(world, {RFC_URL: first, OIDC_URL: GOOD})
        assert isinstance(run(world), Obtained)
        assert urls(world)[-2:] == [OIDC_URL, TOKEN_ENDPOINT]


def test_the_metadata_url_overrides_where_the_document_is() -> None:
    world = World()
    where = "https://as.example/custom"
    serve(world, {where: GOOD})
    assert isinstance(run(world, request=wanted(issuer=ISSUER, metadata_url=where)), Obtained)
    assert isinstance(run(world, Process("q"), wanted(metadata_url=where)), Obtained)
    assert urls(world) == [where, TOKEN_ENDPOINT] * 2


def test_no_credential_goes_to_the_metadata_document() -> None:
    world = World()
    serve(world, {RFC_URL: GOOD})
    run(world)
    _, request = world.server.requests[0]
    assert (request.method, request.body) == ("GET", b"")
    assert request.headers == (("accept", "application/json"),)


def test_the_most_telling_error_is_given() -> None:
    world = World()
    wrong = answer(200, issuer=f"{ISSUER}/", token_endpoint=TOKEN_ENDPOINT)
    serve(world, {RFC_URL: wrong})
    result = run(world)
    assert isinstance(result, Failed)
    assert isinstance(result.error, DiscoveryError)
    assert f'configure issuer = "{ISSUER}/"' in str(result.error)
    assert result.hold > 0
    assert TOKEN_ENDPOINT not in urls(world)


def test_a_fault_of_the_server_tells_more_than_a_document_that_is_not_there() -> None:
    world = World()
    serve(world, {RFC_URL: answer(404), OIDC_URL: answer(502)})
    result = run(world)
    assert isinstance(result.error, UnreachableError)
    assert result.error.status == 502
    assert len(urls(world)) == 4


def test_no_answer_at_all_is_tried_three_times_and_the_other_document_not() -> None:
    world = World()
    serve(world, {RFC_URL: Failure("connect", "refused"), OIDC_URL: GOOD})
    result = run(world)
    assert isinstance(result.error, UnreachableError)
    assert urls(world) == [RFC_URL] * 3


@pytest.mark.parametrize("kind", ["tls", "blocked"])
def test_what_will_not_pass_is_tried_once(kind: Any) -> None:
    world = World()
    serve(world, {RFC_URL: Failure(kind, "no")})
    assert isinstance(run(world).error, UnreachableError)
    assert urls(world) == [RFC_URL]


def test_an_answer_too_large_is_a_document_that_is_wrong() -> None:
    world = World()
    serve(world, {RFC_URL: Failure("too_large", "more than 262144 bytes")})
    result = run(world)
    assert isinstance(result.error, DiscoveryError)
    assert urls(world) == [RFC_URL, OIDC_URL]


def test_a_redirect_is_refused_c01_j09() -> None:
    world = World()
    moved = answer(301, (("location", "https://evil.example/"),))
    serve(world, {RFC_URL: moved, OIDC_URL: moved})
    result = run(world)
    assert isinstance(result.error, DiscoveryError)
    assert "redirect" in str(result.error)
    assert all(url.startswith(ISSUER) for url in urls(world))


def test_a_transport_that_cannot_be_configured_is_the_result() -> None:
    world = World()
    error = ConfigurationError("the CA file is gone", key="SSL_CERT_FILE")
    world.server.always = lambda _: error
    assert run(world).error == error
    assert urls(world) == [RFC_URL]


def test_discovery_and_token_request_share_one_deadline() -> None:
    world = World()
    world.server.latency = 60.0
    result = run(world)
    assert isinstance(result, Failed)
    assert world.now <= 1_000.0 + REQUEST.registration.deadline


def test_discovery_does_not_pause_past_the_deadline() -> None:
    world = World()
    world.server.latency = 0.95
    world.random.random = lambda: 0.99  # type: ignore[method-assign]
    serve(world, {RFC_URL: answer(500), OIDC_URL: answer(500)})
    flow = world.run(Process("p"), wanted(issuer=ISSUER, deadline=1.0))
    assert isinstance(flow.finish(), Failed)
    assert world.now <= 1_001.0
    assert (len(sends(flow)), pauses(flow)) == (2, [])


def test_a_process_that_slept_past_the_deadline_does_not_ask() -> None:
    world = World()
    serve(world, {RFC_URL: GOOD})
    flow = world.run(Process("p"), REQUEST)
    flow.advance_to(effects.Share)
    world.now += 60
    result = flow.finish()
    assert isinstance(result.error, UnreachableError)
    assert urls(world) == []


def test_a_kept_document_serves_on_when_the_server_cannot_show_it_again() -> None:
    for fault in (answer(404), answer(503), Failure("connect", "refused"), answer(200, issuer="https://other.example")):
        world, process = World(), Process("p")
        serve(world, {RFC_URL: GOOD})
        run(world, process)
        world.now += METADATA_LIFETIME + 1
        serve(world, {RFC_URL: fault, OIDC_URL: fault})
        assert isinstance(run(world, process), Obtained)


def test_a_metadata_document_that_hangs_leaves_time_for_the_token_request() -> None:
    class HangingMetadata(World):
        pass

    world, process = HangingMetadata(), Process("p")
    serve(world, {RFC_URL: GOOD})
    generation = run(world, process).stored.record.generation
    world.now += METADATA_LIFETIME + 1
    flow = world.run(process, REQUEST, generation)
    flow.advance_to(effects.Send)
    world.server.latency = 60.0
    flow.step()
    world.now = flow.ready_at
    world.server.latency = 0.1
    flow.step()
    assert isinstance(flow.finish(), Obtained)


def test_flows_of_one_process_share_one_discovery() -> None:
    other = wanted(issuer=ISSUER, scope="another")

    def scenario(choose: Any) -> None:
        world, process = World(), Process("p")
        serve(world, {RFC_URL: GOOD})
        runs = [world.run(process, REQUEST), world.run(process, other)]
        run_all(runs, choose)
        assert [type(one.result) for one in runs] == [Obtained, Obtained]
        assert urls(world).count(RFC_URL) == 1

    assert explore(scenario, depth=10) > 1


def test_who_shares_a_discovery_that_does_not_end_in_time_gives_up_in_time() -> None:
    world, process = World(), Process("p")
    world.server.latency = 3.0
    serve(world, {RFC_URL: GOOD})
    first = world.run(process, REQUEST)
    second = world.run(process, wanted(id="quick", issuer=ISSUER, deadline=1.0))
    run_all([first, second], lambda _: 0)
    assert isinstance(first.result, Obtained)
    assert "discovery did not end in time" in str(second.result.error)


def test_a_crash_during_discovery_yields_nothing_and_costs_nothing() -> None:
    points = 20
    for point in range(points):
        world = World()
        serve(world, {RFC_URL: GOOD})
        victim = world.run(Process("a"), REQUEST)
        while not victim.done and len(victim.trace) <= point:
            world.now = max(world.now, victim.ready_at)
            victim.step()
        if not victim.done:
            victim.crash()
        assert isinstance(run(world, Process("b")), Obtained)
        assert urls(world).count(TOKEN_ENDPOINT) <= 2


def test_documents_are_kept_apart_by_all_that_decides_whether_they_are_accepted() -> None:
    variants = [
        registration(issuer=ISSUER),
        registration(issuer=f"{ISSUER}/tenant"),
        registration(metadata_url=RFC_URL),
        registration(issuer=ISSUER, metadata_url=RFC_URL),
        registration(issuer=ISSUER, allow_insecure_http=True),
        registration(issuer=ISSUER, lenient_content_type=True),
        registration(issuer=ISSUER, allowed_endpoint_hosts=()),
        registration(issuer=ISSUER, allowed_endpoint_hosts=("as.example",)),
        registration(issuer=ISSUER, allowed_endpoint_hosts=("as.example", "b.example")),
    ]
    assert len({metadata_key(variant) for variant in variants}) == len(variants)
    assert metadata_key(registration(issuer=ISSUER, id="x", client_id="y")) == metadata_key(variants[0])


@pytest.mark.parametrize("kind", ["deadline", "resolve", "connect", "tls", "proxy", "read", "blocked"])
def test_each_failure_says_what_to_do(kind: Any) -> None:
    world = World()
    serve(world, {RFC_URL: Failure(kind, "the detail")})
    error = run(world).error
    assert "the detail" in error.summary
    assert error.advice
