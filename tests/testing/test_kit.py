"""The test kit: tokens of every shape, counting, trouble, the clock; and the same from unittest."""

from __future__ import annotations

import subprocess
import sys
import threading
import unittest
from collections.abc import Iterator

import httpx2
import pytest

from accredit import ClientRegistration, ClientSecretBasic, TokenManager
from accredit.devserver import DevServer, DevServerProcess
from accredit.devserver.handle import Switches
from accredit.errors import InvalidTokenError, MalformedResponseError, UnreachableError
from accredit.testing import (
    SteerableClock,
    TokenMaker,
    TokenRequestCounter,
    failing,
    garbage,
    holding,
    running_server,
    slow,
)
from accredit.verifier import TokenVerifier, TrustedIssuer


@pytest.fixture(scope="module", params=[DevServer, DevServerProcess])
def server(request: pytest.FixtureRequest) -> Iterator[Switches]:
    with request.param() as server:
        yield server


@pytest.fixture
def verifier(server: Switches) -> Iterator[TokenVerifier]:
    with TokenVerifier(TrustedIssuer(server.issuer, server.config.default_audience, leeway=0)) as verifier:
        yield verifier


def manager(server: Switches) -> TokenManager:
    return TokenManager(
        ClientRegistration(
            id="x", issuer=server.issuer, client_id="api-client", client_auth=ClientSecretBasic("dev-secret")
        )
    )


REASONS = {
    "expired": "expired",
    "not_yet_valid": "not_yet_valid",
    "wrong_audience": "audience",
    "no_audience": "audience",
    "wrong_issuer": "issuer",
    "wrong_key": "signature",
    "unknown_key": "unknown_key",
    "tampered": "signature",
    "unsigned": "malformed",
    "wrong_type": "type",
    "no_client_id": "malformed",
    "not_a_token": "malformed",
}


def test_every_shape_has_a_reason_of_its_own(server: Switches, verifier: TokenVerifier) -> None:
    tokens = TokenMaker(server)
    found = {}
    for shape in TokenMaker.SHAPES:
        with pytest.raises(InvalidTokenError) as error:
            verifier.verify(tokens.of_shape(shape))
        found[shape] = error.value.reason
    assert found == REASONS


def test_good_tokens(server: Switches, verifier: TokenVerifier) -> None:
    tokens = TokenMaker(server)
    token = verifier.verify(tokens.valid())
    assert (token.client_id, token.scope) == ("api-client", ("orders:read", "orders:write"))
    assert verifier.verify(tokens.valid(scope="")).scope == ()
    assert verifier.verify(tokens.without_scope("orders:read")).scope == ("orders:write",)
    assert verifier.verify(tokens.without_scope()).scope == ()
    assert verifier.verify(tokens.valid(client_id="other", extra=7)).claims["extra"] == 7
    life = verifier.verify(tokens.valid(lifetime=60))
    assert life.expires_at is not None
    assert life.issued_at is not None
    assert life.expires_at - life.issued_at == 60
    other = TokenMaker(server, client_id="b", scope="c d", audience=server.config.default_audience)
    assert verifier.verify(other.valid()).scope == ("c", "d")
    assert "b" not in repr(TokenMaker.SHAPES)
    assert server.issuer in repr(tokens)


def test_the_api_of_the_server_agrees(server: Switches) -> None:
    tokens = TokenMaker(server)

    def status(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx2.get(f"{server.api_url}/orders", headers=headers, trust_env=False).status_code

    assert status(tokens.valid()) == 200
    assert status(tokens.without_scope("orders:read")) == 403
    assert {status(tokens.of_shape(shape)) for shape in TokenMaker.SHAPES} == {401}


def test_a_token_keeps_its_key_published_through_a_rotation(server: Switches, verifier: TokenVerifier) -> None:
    tokens = TokenMaker(server)
    before = tokens.valid()
    server.rotate_key()
    assert verifier.verify(tokens.valid()).client_id == verifier.verify(before).client_id
    server.rotate_key(forget_old=True)
    with TokenVerifier(TrustedIssuer(server.issuer, tokens.audience)) as another, pytest.raises(InvalidTokenError):
        another.verify(before)


def test_a_shape_that_there_is_not(server: Switches) -> None:
    with pytest.raises(LookupError):
        TokenMaker(server).of_shape("valid")


def test_token_requests_are_counted(server: Switches) -> None:
    with manager(server) as tokens:
        tokens.get()
        counter = TokenRequestCounter(server)
        assert counter.count == 0
        tokens.get()
        assert counter.count == 0
        tokens.get(scope="orders:read")
        assert counter.wait_for(1) == 1
        assert repr(counter) == "<TokenRequestCounter: 1>"
        counter.reset()
        assert counter.count == 0
        with pytest.raises(TimeoutError):
            counter.wait_for(1, timeout=0.01)


def test_trouble_ends_with_its_block(server: Switches) -> None:
    with manager(server) as tokens, pytest.raises(UnreachableError), failing(server, 503):
        tokens.get()
    with manager(server) as tokens, pytest.raises(MalformedResponseError), garbage(server, "html"):
        tokens.get()
    with manager(server) as tokens, slow(server, 0.001):
        assert tokens.get().value
    with manager(server) as tokens:
        assert tokens.get().value


def test_requests_are_held(server: Switches) -> None:
    found: list[str] = []
    with manager(server) as tokens:
        with holding(server):
            thread = threading.Thread(target=lambda: found.append(tokens.get().value))
            thread.start()
            server.wait_for_waiting(1)
            assert found == []
        thread.join(30)
    assert len(found) == 1


def test_a_token_expires_on_the_steerable_clock(accredit_clock: SteerableClock) -> None:
    with running_server() as server:
        trusted = TrustedIssuer(server.issuer, server.config.default_audience, leeway=0)
        with TokenVerifier(trusted, clock=accredit_clock) as verifier:
            token = TokenMaker(server).valid(lifetime=600)
            assert verifier.verify(token).client_id == "api-client"
            accredit_clock.advance(590)
            assert verifier.verify(token).client_id == "api-client"
            accredit_clock.advance(20)
            with pytest.raises(InvalidTokenError, match="expired"):
                verifier.verify(token)


class WithUnittest(unittest.TestCase):
    """As somebody would write it who does not use pytest."""

    def setUp(self) -> None:
        self.server = self.enterContext(running_server())
        self.tokens = TokenMaker(self.server)
        self.requests = TokenRequestCounter(self.server)

    def test_a_token(self) -> None:
        with manager(self.server) as tokens:
            assert tokens.get().value
        assert self.requests.count == 1
        assert self.tokens.valid().count(".") == 2


def test_the_kit_needs_no_pytest() -> None:
    code = (
        "import sys\nsys.modules['pytest'] = None\n"
        "from accredit.testing import TokenMaker, running_server, SteerableClock\n"
        "with running_server() as server: print(TokenMaker(server).valid().count('.'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("2\n", "")
