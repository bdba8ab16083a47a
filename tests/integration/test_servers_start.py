"""The real authorization servers start, end, and speak OAuth with a plain HTTP client.

These tests pin what the servers do, so that a test of the library on top of them that fails points at the library.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, urlsplit

import httpx2
import pytest

from tests.servers import fixtures, nodejs
from tests.servers.process import ServerUnavailableError, running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.process import Client, RunningServer

SERVERS = ("oidc_provider", "authlib_server")
OIDC_PROVIDER_FOLDER = Path(nodejs.__file__).parent / "oidc_provider"


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> RunningServer:
    running: RunningServer = request.getfixturevalue(request.param)
    return running


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(trust_env=False) as client:
        yield client


def percent(text: str) -> str:
    return quote(text, safe="-._~")


def raw(text: str) -> str:
    return text


def basic(client: Client, encode: Callable[[str], str] = percent) -> dict[str, str]:
    pair = f"{encode(client.client_id)}:{encode(client.client_secret)}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def ask(http: httpx2.Client, server: RunningServer, client: Client, **form: str) -> httpx2.Response:
    """Send a token request as that client, by its own method."""
    data = {"grant_type": "client_credentials", **form}
    if client.method == "client_secret_basic":
        return http.post(server.token_endpoint, data=data, headers=basic(client))
    data |= {"client_id": client.client_id, "client_secret": client.client_secret}
    return http.post(server.token_endpoint, data=data)


def bearer(response: httpx2.Response) -> dict[str, str]:
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


def at_root(server: RunningServer, path: str) -> str:
    return f"http://{urlsplit(server.issuer).netloc}{path}"


def test_every_client_gets_a_token_that_the_api_accepts(http: httpx2.Client, server: RunningServer) -> None:
    for name, client in server.clients.items():
        response = ask(http, server, client, scope="api:read")

        assert response.status_code == 200, name
        assert response.headers["content-type"].startswith("application/json"), name
        assert response.headers["cache-control"] == "no-store", name
        token = response.json()
        assert token["token_type"] == "Bearer", name
        assert token["scope"] == "api:read", name
        assert token["expires_in"] == (client.lifetime or server.lifetime), name
        answer = http.get(server.api, headers=bearer(response))
        assert (answer.status_code, answer.json()) == (200, {"scopes": ["api:read"]}), name


@pytest.mark.parametrize("name", ["basic", "post"])
def test_a_wrong_secret_is_refused_as_invalid_client(
    http: httpx2.Client, server: RunningServer, authlib_server: RunningServer, name: str
) -> None:
    response = ask(http, server, server.clients[name]._replace(client_secret="wrong"))

    assert response.status_code == 401
    assert response.json()["error"] == "invalid_client"
    # oidc-provider challenges only a client that came with an Authorization field; Authlib always.
    challenged = name == "basic" or server is authlib_server
    assert response.headers.get("www-authenticate", "").startswith("Basic ") == challenged


def test_odd_characters_must_be_percent_encoded_for_basic(http: httpx2.Client, server: RunningServer) -> None:
    names = [name for name in server.clients if name in {"odd_basic", "unicode_basic"}]
    assert "odd_basic" in names
    for name in names:
        client = server.clients[name]
        answers = {
            encode: http.post(
                server.token_endpoint, data={"grant_type": "client_credentials"}, headers=basic(client, encode)
            ).status_code
            for encode in (percent, raw)
        }
        assert answers == {percent: 200, raw: 401}, name


def test_only_oidc_provider_takes_a_plus_for_a_space_in_basic(
    http: httpx2.Client, oidc_provider: RunningServer, authlib_server: RunningServer
) -> None:
    for server, status in ((oidc_provider, 200), (authlib_server, 401)):
        headers = basic(server.clients["odd_basic"], quote_plus)
        response = http.post(server.token_endpoint, data={"grant_type": "client_credentials"}, headers=headers)
        assert response.status_code == status


def test_oidc_provider_knows_printable_ascii_only(http: httpx2.Client, oidc_provider: RunningServer) -> None:
    client = oidc_provider.clients["basic"]._replace(client_secret="sécret")

    response = ask(http, oidc_provider, client)

    assert (response.status_code, response.json()["error"]) == (400, "invalid_request")


def test_an_unknown_scope(http: httpx2.Client, oidc_provider: RunningServer, authlib_server: RunningServer) -> None:
    refused = ask(http, authlib_server, authlib_server.clients["basic"], scope="api:read no:such")
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_scope")

    # oidc-provider leaves out what it does not know, and refuses what it knows and this client may not have.
    narrowed = ask(http, oidc_provider, oidc_provider.clients["basic"], scope="api:read no:such")
    assert (narrowed.status_code, narrowed.json()["scope"]) == (200, "api:read")
    refused = ask(http, oidc_provider, oidc_provider.clients["basic"], scope="api:read api:admin")
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_scope")


def test_no_scope_asked_no_scope_stated(http: httpx2.Client, server: RunningServer) -> None:
    response = ask(http, server, server.clients["basic"])

    assert response.status_code == 200
    assert "scope" not in response.json()


def test_the_api_tells_no_token_a_bad_token_and_a_token_without_the_scope(
    http: httpx2.Client, server: RunningServer
) -> None:
    good = bearer(ask(http, server, server.clients["basic"], scope="api:read"))

    missing = http.get(server.api)
    bad = http.get(server.api, headers={"Authorization": "Bearer nonsense"})
    narrow = http.get(server.api, params={"scope": "api:write"}, headers=good)

    assert (missing.status_code, bad.status_code, narrow.status_code) == (401, 401, 403)
    assert missing.headers["www-authenticate"].lower().startswith("bearer ")
    assert 'error="invalid_token"' in bad.headers["www-authenticate"]
    assert narrow.json()["error"] == "insufficient_scope"


def test_a_revoked_token_is_refused_by_the_api(http: httpx2.Client, server: RunningServer) -> None:
    client = server.clients["basic"]
    response = ask(http, server, client, scope="api:read")
    form = {"token": response.json()["access_token"]}

    before = http.post(server.introspection_endpoint, data=form, headers=basic(client)).json()
    revoked = http.post(server.revocation_endpoint, data=form, headers=basic(client))
    after = http.post(server.introspection_endpoint, data=form, headers=basic(client)).json()

    assert (before["active"], before["scope"]) == (True, "api:read")
    assert revoked.status_code == 200
    assert after == {"active": False}
    assert http.get(server.api, headers=bearer(response)).status_code == 401


def test_a_resource_gets_a_signed_token_for_that_audience(http: httpx2.Client, oidc_provider: RunningServer) -> None:
    resource = oidc_provider.resources[0]

    response = ask(http, oidc_provider, oidc_provider.clients["basic"], scope="api:read", resource=resource)

    header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in jwt_parts(response))
    assert (header["typ"], header["alg"]) == ("at+jwt", "ES256")
    assert (claims["aud"], claims["iss"], claims["scope"]) == (resource, oidc_provider.issuer, "api:read")
    assert claims["exp"] - claims["iat"] == oidc_provider.lifetime
    assert http.get(oidc_provider.api, headers=bearer(response)).status_code == 200


def jwt_parts(response: httpx2.Response) -> list[str]:
    parts: list[str] = response.json()["access_token"].split(".")
    return parts[:2]


@pytest.mark.parametrize("resource", ["https://api.example.com/unknown", "both"])
def test_an_unknown_resource_and_two_at_once_are_refused(
    http: httpx2.Client, oidc_provider: RunningServer, resource: str
) -> None:
    resources = list(oidc_provider.resources) if resource == "both" else [resource]
    data = {"grant_type": "client_credentials", "resource": resources}

    response = http.post(oidc_provider.token_endpoint, data=data, headers=basic(oidc_provider.clients["basic"]))

    assert (response.status_code, response.json()["error"]) == (400, "invalid_target")


def test_oidc_provider_serves_both_metadata_documents_at_its_root(
    http: httpx2.Client, oidc_provider: RunningServer
) -> None:
    for name in ("oauth-authorization-server", "openid-configuration"):
        response = http.get(at_root(oidc_provider, f"/.well-known/{name}"))

        assert response.status_code == 200
        assert response.json()["issuer"] == oidc_provider.issuer
        assert response.json()["token_endpoint"] == oidc_provider.token_endpoint


def test_oidc_provider_under_a_path_serves_only_the_appended_documents(http: httpx2.Client) -> None:
    with fixtures.required_or_skipped(fixtures.start_oidc_provider(path="/op")) as server:
        inserted = http.get(at_root(server, "/.well-known/oauth-authorization-server/op"))
        appended = http.get(f"{server.issuer}/.well-known/openid-configuration")
        token = ask(http, server, server.clients["basic"])

    assert inserted.status_code == 404
    assert appended.json()["issuer"] == server.issuer
    assert appended.json()["token_endpoint"] == server.token_endpoint
    assert token.status_code == 200


def test_authlib_serves_the_document_before_the_path_of_its_issuer(
    http: httpx2.Client, authlib_server: RunningServer
) -> None:
    path = urlsplit(authlib_server.issuer).path
    assert path == "/tenant"

    inserted = http.get(at_root(authlib_server, f"/.well-known/oauth-authorization-server{path}"))
    appended = http.get(f"{authlib_server.issuer}/.well-known/openid-configuration")

    assert inserted.json()["issuer"] == authlib_server.issuer
    assert inserted.json()["token_endpoint"] == authlib_server.token_endpoint
    assert appended.status_code == 404


def test_requests_are_counted_at_the_server(http: httpx2.Client, server: RunningServer) -> None:
    before = server.count(server.token_endpoint)

    for _ in range(3):
        ask(http, server, server.clients["basic"])
    ask(http, server, server.clients["basic"]._replace(client_secret="wrong"))

    assert server.count(server.token_endpoint) == before + 4
    assert server.count(urlsplit(server.token_endpoint).path) == before + 4
    assert server.count("/never/asked/for") == 0


@pytest.mark.parametrize("start", [fixtures.start_oidc_provider, fixtures.start_authlib_server])
def test_the_lifetime_of_tokens_is_a_setting_and_the_process_ends_with_the_context(
    http: httpx2.Client, start: Callable[..., fixtures.StartingServer]
) -> None:
    with fixtures.required_or_skipped(start(lifetime=3)) as server:
        response = ask(http, server, server.clients["basic"])

    assert response.json()["expires_in"] == 3
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)
    with pytest.raises(httpx2.ConnectError):
        http.get(server.api)


PARENT = """
import sys
from tests.servers import fixtures
with getattr(fixtures, sys.argv[1])() as server:
    print(server.api, flush=True)
    sys.stdin.read()
"""


@pytest.mark.usefixtures("server")  # what it needs is there, or the fixture has skipped this
@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_a_server_ends_when_the_process_that_runs_the_tests_is_killed(request: pytest.FixtureRequest) -> None:
    command = [sys.executable, "-c", PARENT, f"start_{request.node.callspec.params['server']}"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        api = urlsplit(parent.stdout.readline().strip())
        with socket.create_connection((str(api.hostname), int(api.port or 0)), timeout=30) as connection:
            parent.kill()
            try:
                last = connection.recv(1)  # the end of the connection is the end of the server
            except ConnectionResetError:
                last = b""
    assert last == b""


def test_the_npm_lock_pins_every_package_by_hash_and_names_no_host() -> None:
    text = (OIDC_PROVIDER_FOLDER / "package-lock.json").read_text(encoding="utf-8")
    packages = json.loads(text)["packages"]

    assert "://" not in text
    assert "node_modules/oidc-provider" in packages
    assert [name for name, package in packages.items() if name and "integrity" not in package] == []


@pytest.mark.usefixtures("oidc_provider")
def test_locked_packages_are_not_installed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(nodejs, "_run_npm", lambda command, _folder: calls.append(command))

    nodejs.ensure_installed(OIDC_PROVIDER_FOLDER)

    assert calls == []


def test_a_server_that_fails_to_start_says_what_it_wrote() -> None:
    program = "import sys; sys.stderr.write('no such luck'); sys.exit(3)"

    with (
        pytest.raises(RuntimeError, match="no such luck"),
        running_server([sys.executable, "-c", program], clients={}, lifetime=1),
    ):
        pytest.fail("it cannot have started")


def test_a_server_that_cannot_be_had_skips_or_fails_as_the_run_demands(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def missing() -> Iterator[RunningServer]:
        message = "needs a thing"
        raise ServerUnavailableError(message)
        yield

    monkeypatch.delenv(fixtures.REQUIRE_VARIABLE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs a thing"), fixtures.required_or_skipped(missing()):
        pytest.fail("there is no server")

    monkeypatch.setenv(fixtures.REQUIRE_VARIABLE, "1")
    with pytest.raises(pytest.fail.Exception, match="needs a thing"), fixtures.required_or_skipped(missing()):
        pytest.fail("there is no server")
