"""Every client, every case: what the caller gets, and what arrived at the authorization server and at the API."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from accredit import ConfigurationError, CredentialRefusedError, TokenManager
from accredit.core.flows import COOL_DOWN
from accredit.devserver import DevServer
from accredit.instrumentation import TokenRefused, TokenWithheld
from tests.integrations.api import Reply, ScriptedApi, redirect, refusal
from tests.integrations.callers import BODY, REWINDING, Caller
from tests.integrations.conftest import MakeCaller
from tests.runtime.support import Events, JumpClock


def tokens(server: DevServer) -> int:
    return server.count("/token")


def calls(server: DevServer) -> int:
    return server.count(server="api")


# -- the protected API, which truly verifies ---------------------------------------------------------------


def test_ok(server: DevServer, caller: Caller) -> None:
    assert caller.call(f"{server.api_url}/orders").status == 200
    assert caller.call(f"{server.api_url}/hello").status == 200
    assert (tokens(server), calls(server)) == (1, 2)


def test_expired(server: DevServer, caller: Caller, manager: TokenManager, clock: JumpClock) -> None:
    token = manager.get()
    server.advance_clock(token.lifetime)
    clock.expire(token)
    assert caller.call(f"{server.api_url}/orders").status == 200
    assert (tokens(server), calls(server)) == (2, 1)


def test_revoked(server: DevServer, caller: Caller, manager: TokenManager, events: Events) -> None:
    before = manager.get()
    server.revoke_client()
    answer = caller.call(f"{server.api_url}/orders")
    assert answer.status == 200
    assert b"espresso" in answer.body
    assert manager.get().generation != before.generation
    assert (tokens(server), calls(server)) == (2, 2)
    assert [event.outcome for event in events.of(TokenRefused)] == ["renewing"]
    # Healed for good.
    assert caller.call(f"{server.api_url}/orders").status == 200
    assert (tokens(server), calls(server)) == (2, 3)


def test_revoked_with_a_body(server: DevServer, make_caller: MakeCaller, make_manager: Callable[..., TokenManager],
                             clock: JumpClock) -> None:  # fmt: skip
    manager = make_manager(scope="orders:write")
    manager.get()
    clock.shift += 10
    caller = make_caller(manager)
    for kind in ("bytes", "multipart"):
        if kind in caller.kinds:
            server.revoke_client()
            clock.shift += 10
            answer = caller.call(f"{server.api_url}/orders", "POST", body=kind)
            assert answer.status == 200
            assert (b'"length":0' in answer.body.replace(b" ", b"")) is False


def test_always_401(server: DevServer, caller: Caller, manager: TokenManager, clock: JumpClock) -> None:
    server.fail(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}, path="*", server="api")
    url = f"{server.api_url}/orders"
    assert caller.call(url).status == 401
    assert (tokens(server), calls(server)) == (2, 2)
    # A misconfigured API causes nothing more until the cool-down is over.
    for number in (3, 4, 5):
        clock.shift += 10
        assert caller.call(url).status == 401
        assert (tokens(server), calls(server)) == (2, number)
    clock.shift += COOL_DOWN
    assert caller.call(url).status == 401
    assert (tokens(server), calls(server)) == (3, 7)


def test_403_and_others_reach_the_caller(server: DevServer, caller: Caller) -> None:
    assert caller.call(f"{server.api_url}/orders", "POST", body="bytes").status == 403
    assert caller.call(f"{server.api_url}/nowhere").status == 404
    server.fail(500, path="*", server="api", times=1)
    assert caller.call(f"{server.api_url}/orders").status == 500
    assert (tokens(server), calls(server)) == (1, 3)


def test_stream(server: DevServer, caller: Caller) -> None:
    server.revoke_client()
    answer = caller.call(f"{server.api_url}/orders", stream=True)
    assert answer.status == 200
    assert b"espresso" in answer.body
    assert (tokens(server), calls(server)) == (2, 2)


def test_no_newer_token_to_be_had(server: DevServer, caller: Caller, manager: TokenManager) -> None:
    before = manager.get()
    server.revoke_client()
    server.fail(400, error="invalid_client")
    for stream in (False, True):
        answer = caller.call(f"{server.api_url}/orders", stream=stream)
        assert answer.status == 401
        # Unchanged: also for a caller who reads what came over the wire.
        assert b"invalid_token" in answer.body
    # Other APIs may still take it.
    assert manager.get().generation == before.generation
    assert (tokens(server), calls(server)) == (2, 2)


def test_no_token_to_be_had(server: DevServer, make_caller: MakeCaller,
                            make_manager: Callable[..., TokenManager]) -> None:  # fmt: skip
    server.fail(401, error="invalid_client")
    caller = make_caller(make_manager())
    with pytest.raises(CredentialRefusedError):
        caller.call(f"{server.api_url}/orders")
    assert calls(server) == 0


def test_unknown_registration(server: DevServer, make_caller: MakeCaller) -> None:
    caller = make_caller(settings={"registration": "nobody"})
    with pytest.raises(ConfigurationError, match="nobody"):
        caller.call(f"{server.api_url}/orders")
    assert calls(server) == 0


def test_a_choice_per_call(server: DevServer, caller: Caller) -> None:
    other = caller.auth.using(scope="orders:write")
    assert caller.call(f"{server.api_url}/orders", "POST", body="bytes", auth=other).status == 200
    assert caller.call(f"{server.api_url}/orders", "POST", body="bytes").status == 403
    assert caller.call(f"{server.api_url}/orders", "POST", body="bytes", auth=other).status == 200
    assert (tokens(server), calls(server)) == (2, 3)


def test_the_asynchronous_face_will_do_for_all(server: DevServer, make_caller: MakeCaller,
                                               manager: TokenManager) -> None:  # fmt: skip
    caller = make_caller(manager.asynchronous())
    server.revoke_client()
    assert caller.call(f"{server.api_url}/orders").status == 200
    assert (tokens(server), calls(server)) == (2, 2)


# -- odd APIs --------------------------------------------------------------------------------------------------


def test_over_tls(make_caller: MakeCaller, manager: TokenManager, tls_api: ScriptedApi, ca: object,
                  server: DevServer) -> None:  # fmt: skip
    caller = make_caller(ca=ca)
    stale = manager.get().value
    tls_api.script = lambda seen: refusal() if seen.token == stale else Reply()
    # The first finds the slot, the others take the short way: fresh, refused, and fresh again.
    tls_api.script, refuse = (lambda seen: Reply()), tls_api.script
    assert [caller.call(tls_api.url).status for _ in range(2)] == [200, 200]
    tls_api.script = refuse
    assert [caller.call(tls_api.url).status for _ in range(2)] == [200, 200]
    new = manager.get().value
    assert tls_api.tokens == [stale, stale, stale, new, new]
    assert caller.call(tls_api.url, headers={"Authorization": "Basic own"}).status == 200
    assert tls_api.seen[-1].authorization == "Basic own"
    assert tokens(server) == 2


@pytest.mark.parametrize(
    ("challenges", "renewals"),
    [
        ((None,), 1),
        (("Bearer",), 1),
        (("Bearer realm=x",), 1),
        (("Unknown",), 1),
        (('Basic realm="x"', 'Bearer error="invalid_token"'), 1),
        (('Basic realm="x"',), 0),
        (("Negotiate", "Digest realm=x"), 0),
        (('Bearer error="insufficient_scope"',), 0),
    ],
)
def test_what_a_401_says(
    server: DevServer, caller: Caller, api: ScriptedApi, challenges: tuple[str | None, ...], renewals: int
) -> None:
    api.script = lambda seen: refusal(*challenges) if api.count == 1 else Reply()
    answer = caller.call(api.url)
    assert answer.status == (200 if renewals else 401)
    assert (tokens(server), api.count) == (1 + renewals, 1 + renewals)


def test_the_callers_own_header_wins(server: DevServer, make_caller: MakeCaller, api: ScriptedApi) -> None:
    api.script = lambda seen: refusal()
    assert make_caller().call(api.url, headers={"authorization": "Bearer mine"}).status == 401
    assert make_caller(client_headers={"Authorization": "Basic mine"}).call(api.url).status == 401
    assert [seen.authorization for seen in api.seen] == ["Bearer mine", "Basic mine"]
    assert tokens(server) == 1


def test_api_origins(make_caller: MakeCaller, make_manager: Callable[..., TokenManager], api: ScriptedApi,
                     other_api: ScriptedApi, events: Events) -> None:  # fmt: skip
    caller = make_caller(make_manager(api_origins=[api.url]))
    other_api.script = lambda seen: refusal()
    assert caller.call(api.url).status == 200
    assert caller.call(other_api.url).status == 401
    assert api.seen[0].token is not None
    assert [seen.authorization for seen in other_api.seen] == [None]
    assert [event.origin for event in events.of(TokenWithheld)] == [other_api.url]


@pytest.mark.parametrize("status", [302, 303, 307])
def test_a_redirect_to_another_origin(
    server: DevServer, caller: Caller, api: ScriptedApi, other_api: ScriptedApi, status: int
) -> None:
    api.script = lambda seen: redirect(f"{other_api.url}/x", status) if seen.path == "/" else Reply()
    other_api.script = lambda seen: refusal()
    assert caller.call(api.url).status == 401
    assert caller.call(api.url, "POST", body="bytes").status == 401
    # It never saw a token, is not sent one, and its 401 renews nothing.
    assert [seen.authorization for seen in other_api.seen] == [None, None]
    assert (tokens(server), api.count) == (1, 2)
    # Nor does it come back with the call.
    other_api.script = lambda seen: redirect(f"{api.url}/back")
    assert caller.call(api.url).status == 200
    assert api.seen[-1].authorization is None
    # The next call is another one.
    assert caller.call(f"{other_api.url}/y", redirects=False).status == 302
    assert other_api.seen[-1].token is not None


def test_a_redirect_from_another_origin(make_caller: MakeCaller, make_manager: Callable[..., TokenManager],
                                        api: ScriptedApi, other_api: ScriptedApi) -> None:  # fmt: skip
    # The caller named another host, which has no say in where the token goes.
    caller = make_caller(make_manager(api_origins=[api.url]))
    other_api.script = lambda seen: redirect(f"{api.url}/x")
    assert caller.call(other_api.url).status == 200
    assert [seen.authorization for seen in (*other_api.seen, *api.seen)] == [None, None]
    # Neither does the caller's own header make room for ours when it is left behind.
    assert caller.call(other_api.url, headers={"Authorization": "Basic own"}).status == 200
    assert [seen.authorization for seen in (other_api.seen[-1], api.seen[-1])] == ["Basic own", None]


def test_a_redirect_within_the_origin(server: DevServer, caller: Caller, manager: TokenManager,
                                      api: ScriptedApi) -> None:  # fmt: skip
    stale = manager.get().value

    def script(seen: object) -> Reply:
        last = api.seen[-1]
        if last.path == "/":
            return redirect("/next", 303)
        return refusal() if last.token == stale else Reply()

    api.script = script
    assert caller.call(api.url, "POST", body="bytes").status == 200
    # The hop that was refused is sent again; the one that was served is not.
    assert [(seen.method, seen.path) for seen in api.seen] == [("POST", "/"), ("GET", "/next"), ("GET", "/next")]
    assert api.tokens == [stale, stale, manager.get().value]
    assert tokens(server) == 2


def test_a_retry_that_is_redirected(server: DevServer, caller: Caller, manager: TokenManager, api: ScriptedApi,
                                    other_api: ScriptedApi) -> None:  # fmt: skip
    stale = manager.get().value

    def script(seen: object) -> Reply:
        last = api.seen[-1]
        if last.path == "/next":
            return redirect(other_api.url)
        return refusal() if last.token == stale else redirect("/next")

    api.script = script
    assert caller.call(api.url).status == 200
    assert api.tokens == [stale, manager.get().value, manager.get().value]
    assert other_api.tokens == [None]
    assert tokens(server) == 2


def test_no_third_try(server: DevServer, caller: Caller, api: ScriptedApi) -> None:
    """The retry is redirected within the origin and refused there."""

    def script(seen: object) -> Reply:
        last = api.seen[-1]
        if last.path == "/next":
            return refusal()
        return refusal() if api.count == 1 else redirect("/next")

    api.script = script
    assert caller.call(api.url).status == 401
    assert [seen.path for seen in api.seen] == ["/", "/", "/next"]
    assert tokens(server) == 2
    # That was the second refusal.
    api.script = lambda seen: refusal()
    assert caller.call(api.url).status == 401
    assert (tokens(server), api.count) == (2, 4)


def test_plain_http_beyond_loopback(make_caller: MakeCaller, api: ScriptedApi, server: DevServer, events: Events,
                                    monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("http_proxy", api.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    caller = make_caller(trust_env=True)
    assert caller.call("http://api.example.com/orders").status == 200
    assert [(seen.path, seen.authorization) for seen in api.seen] == [("http://api.example.com/orders", None)]
    assert [event.origin for event in events.of(TokenWithheld)] == ["http://api.example.com"]


# -- bodies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["none", "bytes", "multipart", "file", "stream"])
def test_bodies(
    server: DevServer, caller: Caller, library: str, manager: TokenManager, api: ScriptedApi, kind: str
) -> None:
    if kind not in caller.kinds:
        kind = "bytes"
    stale = manager.get()
    api.script = lambda seen: refusal() if seen.token == stale.value else Reply()
    again = kind in {"none", "bytes", "multipart"} or (kind == "file" and library in REWINDING)
    answer = caller.call(api.url, "POST", body=kind)
    if again:
        assert answer.status == 200
        assert len({seen.body for seen in api.seen}) == 1
        assert (BODY in api.seen[1].body) is (kind != "none")
    else:
        assert answer.status == 401
        assert [seen.body for seen in api.seen] == [BODY]
        assert answer.body == b"refused"
    # Either way the next call goes with a newer token.
    assert caller.call(api.url, "POST", body=kind).status == 200
    assert manager.get().generation != stale.generation
    assert tokens(server) == 2


def test_refused_streams_are_no_storm(server: DevServer, caller: Caller, api: ScriptedApi, clock: JumpClock) -> None:
    api.script = lambda seen: refusal()
    for number in range(1, 6):
        assert caller.call(api.url, "POST", body="stream").status == 401
        assert api.count == number
    # One renewal; the second refusal, although of another call, begins the cool-down.
    assert tokens(server) == 2


def test_the_connection_is_kept(caller: Caller, manager: TokenManager, api: ScriptedApi, library: str) -> None:
    stale = manager.get().value
    api.script = lambda seen: refusal() if seen.token == stale else Reply()
    assert caller.call(api.url).status == 200
    assert caller.call(api.url).status == 200
    assert (api.count, api.connections) == (3, 1)


def test_a_refusal_of_unknown_length(caller: Caller, manager: TokenManager, api: ScriptedApi) -> None:
    stale = manager.get().value
    chunked = Reply(401, (("Transfer-Encoding", "chunked"),), b"5\r\nhello\r\n0\r\n\r\n")
    api.script = lambda seen: chunked if seen.token == stale else Reply()
    assert caller.call(api.url).status == 200
    assert api.count == 2


def test_cookies_are_untouched(caller: Caller, manager: TokenManager, api: ScriptedApi) -> None:
    stale = manager.get().value
    first = Reply(401, (("Set-Cookie", "a=1; Path=/"),), b"no")
    api.script = lambda seen: first if seen.token == stale else Reply()
    url = f"http://localhost:{api.port}"
    assert caller.call(url, headers={"Cookie": "mine=1"}).status == 200
    assert caller.call(url).status == 200
    assert [seen.headers.get("cookie") for seen in api.seen] == ["mine=1", "mine=1", "a=1"]


def test_netrc_never_replaces_the_token(make_caller: MakeCaller, api: ScriptedApi, manager: TokenManager,
                                        tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    netrc = tmp_path / "netrc"  # type: ignore[operator]
    netrc.write_text("machine 127.0.0.1 login canary password canary-password\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    stale = manager.get().value

    def script(seen: object) -> Reply:
        last = api.seen[-1]
        if last.path == "/":
            return redirect("/next")
        return refusal() if last.token == stale else Reply()

    api.script = script
    caller = make_caller(trust_env=True)
    assert caller.call(api.url).status == 200
    new = manager.get().value
    assert api.tokens == [stale, stale, new]
    assert caller.call(api.url).status == 200
    assert api.tokens[3:] == [new, new]
