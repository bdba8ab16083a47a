"""What went wrong in libraries of this kind, each as a test that would have found it here."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit import ClientRegistration, ClientSecretBasic, ClientSecretPost, TokenManager
from accredit.core.messages import Request, Response
from accredit.core.registration import token_request_for
from accredit.errors import AccreditError, ConfigurationError
from accredit.transport import HttpTransport, TransportSettings
from tests.bad_inputs.model import OLD_TOKEN, SECRET, TOKEN, document, issued
from tests.bad_inputs.world import World, outcome_of, registration, running
from tests.runtime.support import eventually, waiting
from tests.transport.hostile import Server, answer, answering

TEXT = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x24F, exclude_categories=["Cc", "Cs"]), min_size=1)
SCOPE = st.text("abAB:,.-|", min_size=1, max_size=4)
URI = st.sampled_from(["https://a.example", "https://a.example/", "https://b.example/x", "urn:a", "urn:a:b", "urn:A"])


@st.composite
def registrations(draw: st.DrawFn) -> ClientRegistration:
    """Draw a registration of which every part of the identity varies, few values each so that some are equal."""
    server = draw(
        st.sampled_from(
            [{"issuer": "https://a.example"}, {"issuer": "https://a.example/"}, {"token_endpoint": "https://a.example"},
             {"metadata_url": "https://a.example"}, {"issuer": "https://b.example"}]
        )
    )  # fmt: skip
    auth = draw(
        st.sampled_from(
            [
                ClientSecretBasic("x"),
                ClientSecretPost("x"),
                ClientSecretBasic("x", basic_encoding="raw"),
                ClientSecretPost("y"),
            ]
        )
    )
    return registration(
        id=draw(st.sampled_from(["main", "MAIN", "other"])),
        client_id=draw(st.sampled_from(["a", "A", "ab", "a b"])),
        client_auth=auth,
        scope=draw(st.lists(SCOPE, max_size=3)),
        resource=draw(st.lists(URI, max_size=2)),
        audience=draw(st.none() | st.sampled_from(["a", "A", "a b"])),
        principal=draw(st.sampled_from(["service-account", "tenant-1", "tenant-10"])),
        extra_parameters=draw(st.dictionaries(st.sampled_from(["tenant", "tenan", "t"]), st.sampled_from(["1", "t1"]))),
        authorization_details=draw(st.lists(st.fixed_dictionaries({"type": st.sampled_from(["a", "b"])}), max_size=2)),
        **server,
    )  # fmt: skip


def canonical(of: ClientRegistration) -> object:
    """Return all that makes a token request what it is, as a value that Python compares."""
    return (
        of.id, of.principal, of.issuer, of.token_endpoint, of.metadata_url, of.client_id, of.client_auth.method,
        tuple(sorted(set(of.scopes))), tuple(sorted(set(of.resources))), of.audience, tuple(of.authorization_details),
        tuple(sorted(of.extra_parameters.items())),
    )  # fmt: skip


@given(one=registrations(), two=registrations())
def test_a_cache_key_that_leaves_out_a_parameter_httpx_auth_97_duende_1396_msal_144(
    one: ClientRegistration, two: ClientRegistration
) -> None:
    identities = [token_request_for(each).identity for each in (one, two)]
    assert (identities[0] == identities[1]) == (canonical(one) == canonical(two))
    assert (identities[0].store_key() == identities[1].store_key()) == (canonical(one) == canonical(two))


def test_no_two_joined_or_folded_keys_meet_msal_token_cache() -> None:
    pairs: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"client_id": "a", "audience": "b-c"}, {"client_id": "a-b", "audience": "c"}),
        ({"scope": ["a", "b"]}, {"scope": ["a,b"]}),
        ({"client_id": "Orders"}, {"client_id": "orders"}),
        ({"extra_parameters": {"a": "b"}}, {"extra_parameters": {"a": "", "b": ""}}),
        ({"resource": "urn:a:b"}, {"audience": "urn:a:b"}),
    ]
    for one, two in pairs:
        assert token_request_for(registration(**one)).identity != token_request_for(registration(**two)).identity
    assert (
        token_request_for(registration(scope="a b")).identity
        == token_request_for(registration(scope=["b", "a"])).identity
    )


VARIED: list[dict[str, Any]] = [
    {}, {"scope": "a"}, {"scope": "a b"}, {"scope": "b"}, {"resource": "https://a.example"}, {"audience": "x"},
    {"resource": ("https://a.example", "https://b.example")}, {"principal": "tenant-1"}, {"principal": "tenant-2"},
    {"scope": "a", "principal": "tenant-1"},
]  # fmt: skip


def naming(parameters: list[tuple[str, str]]) -> str:
    """Return a token that names the parameters that it was asked for with."""
    told = sorted(item for item in parameters if not item[0].startswith("client_"))
    return f"{TOKEN}.{repr(told).encode().hex()}"


def test_callers_with_other_parameters_in_one_flight_cve_2025_26620_duende_360() -> None:
    world = World()
    world.script.open.clear()
    world.script.answer = lambda request: issued(access_token=naming(parse_qsl(request.body.decode())))
    tasks = world.manager.asynchronous()
    got: list[tuple[int, str]] = []

    async def one(number: int, arguments: dict[str, Any]) -> None:
        got.append((number, (await tasks.get(**arguments)).value))

    async def all_of_them() -> None:
        await asyncio.gather(*(one(number, arguments) for number, arguments in list(enumerate(VARIED)) * 20))

    with running([lambda: asyncio.run(all_of_them())]):
        eventually(lambda: waiting(world.manager) == 20 * len(VARIED), "the wait of all")
        world.script.open.set()
    by_number = {number: {value for other, value in got if other == number} for number in range(len(VARIED))}
    assert all(len(values) == 1 for values in by_number.values())
    assert len(world.script.requests) == len(VARIED)
    for number, arguments in enumerate(VARIED):
        assert by_number[number] == {naming(token_request_for(registration(), **arguments).parameters())}
    world.check_whole()


@pytest.mark.parametrize("secrets", [("one-secret", "two-secret")])
def test_a_process_wide_cache_across_tenants_drt_1156(secrets: tuple[str, str]) -> None:
    worlds = [World(registration(client_auth=ClientSecretPost(secret))) for secret in secrets]
    for number, world in enumerate(worlds):
        world.script.answers = [issued(access_token=f"{TOKEN}.{number}")]
    assert [world.manager.get().value for world in worlds] == [f"{TOKEN}.0", f"{TOKEN}.1"]


def test_a_token_per_end_user_spring_10083() -> None:
    world = World()
    world.script.answers = [issued()]
    for _ in range(1000):
        world.manager.get()
    assert len(world.script.requests) == 1


def test_an_empty_scope_is_not_what_was_asked_for_cve_2022_31690() -> None:
    for scope, granted in ((None, None), ("", ()), ("a", ("a",))):
        world = World(registration(scope="a b"))
        world.script.answers = [issued(scope=scope)]
        assert world.manager.get().granted_scope == granted
        world.check_whole()


def test_the_second_token_lives_as_long_as_the_server_says_duende_287_298() -> None:
    world = World()
    world.script.answers = [issued(expires_in=lifetime) for lifetime in (60, 7200, 90)]
    for lifetime in (60.0, 7200.0, 90.0):
        token = world.manager.renew()
        assert token.lifetime == lifetime
        assert token.ends_at - world.clock.now() == pytest.approx(lifetime - 0.1)


def test_a_renewal_that_fails_with_a_valid_token_authlib_google_auth_botocore_msal() -> None:
    """At every instant of the life at which others raise, or block, the token is handed out at once."""
    for before_end in (600.0, 299.0, 225.0, 59.0, 29.0, 19.0, 11.0):
        world = World()
        world.script.answers = [issued(access_token=OLD_TOKEN), document(500)]
        old = world.manager.get()
        world.go_to(old.ends_at - before_end)
        for _ in range(3):
            assert world.manager.get(timeout=0) is old
            world.land()
        assert len(world.script.requests) <= 1 + 3
        world.check_whole()


def test_one_slow_server_does_not_delay_another_registration_httpx_auth_global_lock() -> None:
    world = World()
    world.script.answers = [issued()]
    world.script.open.clear()
    outcomes: list[object] = []
    with running([lambda: outcomes.append(outcome_of(world.manager.get))]):
        eventually(lambda: waiting(world.manager) == 1, "the wait of the first")
        assert world.manager.get("other").lifetime == 3600
        assert outcomes == []
        world.script.open.set()
    world.check_whole()


def test_secrets_and_tokens_in_the_debug_log_requests_oauthlib_httpx_auth(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.script.answers = [issued()]
    token = world.manager.get()
    text = caplog.text + repr(world.events)
    assert caplog.records
    for hidden in (SECRET, token.value, token.fingerprint.hex(), world.slot.request.identity.fingerprint.hex()):
        assert hidden not in text  # nor a digest of the secret, against which one could guess


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location",
    ["http://{other}/", "http://{same}/again", "//{other}/", "http://user:x@{other}/", "http://{other}\\@{same}/"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_redirects_times_codes_requests_urllib3_aiohttp(status: int, location: str, method: Any) -> None:
    fields = (("AUTHORIZATION", "Basic x"), ("DPoP", "p"), ("OAuth-Client-Attestation", "a"), ("X-Api-Key", "k"))
    with Server(answering(answer())) as other:

        def redirect(peer: Any) -> None:
            target = location.format(other=f"127.0.0.1:{other.port}", same=f"127.0.0.1:{server.port}")
            peer.send(answer(f"{status} Go", b"", f"Location: {target}", "Set-Cookie: a=b"))

        with Server(redirect) as server:
            transport = HttpTransport()
            outcome = transport.send(
                Request(method, server.url, fields, b"" if method == "GET" else b"x=y"), timeout=10
            )
            assert isinstance(outcome, Response)
            assert outcome.status == status
            assert server.connections == 1
        assert other.connections == 0


def test_credentials_of_a_proxy_go_to_the_proxy_alone_cve_2023_32681() -> None:
    with (
        Server(answering(answer())) as target,
        Server(answering(answer("302 Go", b"", f"Location: {target.url}"))) as proxy,
    ):
        settings = TransportSettings(proxy=f"http://user:pass@127.0.0.1:{proxy.port}", resolve=lambda *_: ["127.0.0.1"])
        HttpTransport(settings).send(Request("GET", "http://idp.test/"), timeout=10)
        assert target.connections == 0
        assert b"proxy-authorization" in proxy.requests[0].lower()


@pytest.mark.parametrize("place", ["token_endpoint", "issuer", "metadata_url"])
@pytest.mark.parametrize("injected", ["\r\nX: y", "\n", "\0", " HTTP/1.1\r\n", "\t", "\u2028"])
def test_injection_through_a_url_cpython_urllib3(place: str, injected: str) -> None:
    settings: dict[str, Any] = {place: f"https://idp.example/{injected}"}
    with pytest.raises(ConfigurationError):
        registration(**settings)


FIELDS: list[tuple[str, Callable[[ClientRegistration], ClientRegistration]]] = [
    ("id", lambda r: replace(r, id="else")),
    ("client_id", lambda r: replace(r, client_id="else")),
    ("client_auth", lambda r: replace(r, client_auth=ClientSecretBasic(SECRET))),
    ("token_endpoint", lambda r: replace(r, token_endpoint="https://idp.example/else")),
    ("scope", lambda r: replace(r, scope="else")),
    ("resource", lambda r: replace(r, resource="urn:else")),
    ("audience", lambda r: replace(r, audience="else")),
    ("authorization_details", lambda r: replace(r, authorization_details=[{"type": "else"}])),
    ("extra_parameters", lambda r: replace(r, extra_parameters={"else": "1"})),
    ("principal", lambda r: replace(r, principal="else")),
]


@pytest.mark.parametrize(("one", "two"), list(itertools.combinations([None, *range(len(FIELDS))], 2)))
def test_every_field_of_the_identity_has_a_token_of_its_own(one: int | None, two: int | None) -> None:
    """Two registrations in one repository under one id, as when it changes at run time: never the other's token."""
    variants = [registration() if which is None else FIELDS[which][1](registration()) for which in (one, two)]
    world = World()
    current = [variants[0]]

    class Repository:
        def get(self, registration_id: str, /) -> ClientRegistration:
            return current[0]

    world.script.answers = [issued(access_token=f"{TOKEN}.one"), issued(access_token=f"{TOKEN}.two")]
    with TokenManager(Repository(), default="main", transport=world.script, clock=world.clock) as manager:
        assert manager.get().value == f"{TOKEN}.one"
        current[0] = variants[1]
        assert manager.get().value == f"{TOKEN}.two"
        current[0] = variants[0]
        assert manager.get(timeout=0).value == f"{TOKEN}.one"
        assert len(world.script.requests) == 2


@given(scope=TEXT, description=TEXT)
def test_no_text_makes_a_parser_burn_or_fail_oauthlib_cve_2022_36087(scope: str, description: str) -> None:
    world = World()
    world.script.answers = [
        document(400, error=scope * 50, error_description=description * 5000, error_uri=scope * 900)
    ]
    outcome = outcome_of(world.manager.get)
    assert isinstance(outcome, AccreditError)
    assert len(str(outcome)) < 1000
    world.land()
    world.manager.close()
