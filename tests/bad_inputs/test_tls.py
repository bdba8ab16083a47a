"""Group K: certificates and protocol versions that are wrong. Nothing is sent before the server has proved itself."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from accredit.errors import ConfigurationError
from accredit.transport import HttpTransport, TransportSettings
from accredit.transport.tls import build_context
from tests.bad_inputs.invariants import check_error
from tests.bad_inputs.model import TOKEN, covers
from tests.bad_inputs.wire import GOOD, WireWorld, loopback, tls
from tests.bad_inputs.world import outcome_of
from tests.support.certificates import Authority, Leaf
from tests.transport.hostile import Server, answering


@pytest.fixture
def ca_file(authority: Authority, tmp_path: Path) -> Path:
    return authority.write(tmp_path)


WRONG: dict[str, Callable[[Authority], Leaf]] = {
    "self-signed": lambda a: a.issue("idp.test", self_signed=True),
    "another authority": lambda _: Authority("another").issue("idp.test"),
    "expired": lambda a: a.issue("idp.test", valid_from=-9, valid_to=-1),
    "not valid yet": lambda a: a.issue("idp.test", valid_from=1),
    "another host": lambda a: a.issue("evil.test"),
    "common name only": lambda a: a.issue(common_name="idp.test"),
    "wildcard of a top level": lambda a: a.issue("*.test.", "*."),
    "wildcard": lambda a: a.issue("*"),
    "wildcard one level off": lambda a: a.issue("*.idp.test"),
    "an address": lambda a: a.issue("127.0.0.1"),
}


@covers("K01", outcome="UNREACHABLE: not tried again, nothing sent, no fallback")
@pytest.mark.parametrize("issue", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_certificate(
    authority: Authority, ca_file: Path, tmp_path: Path, issue: Callable[[Authority], Leaf]
) -> None:
    context = issue(authority).server_context(tmp_path)
    with Server(answering(GOOD), context=context) as server:
        world = WireWorld(tls(server), transport={"ca_file": ca_file})
        world.ask("UNREACHABLE", requests=1)
        assert server.requests == []
        assert server.connections == 1
        world.check_whole()


@covers("K01", outcome="UNREACHABLE: an address is not a name")
@pytest.mark.parametrize("names", [("idp.test",), ("127.0.0.9",)])
def test_a_wrong_address(authority: Authority, ca_file: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    with Server(answering(GOOD), context=authority.issue(*names).server_context(tmp_path)) as server:
        world = WireWorld(tls(server, "127.0.0.1"), transport={"ca_file": ca_file})
        world.ask("UNREACHABLE", requests=1)
        assert server.requests == []


@covers("K01", outcome="OK")
def test_a_right_certificate(authority: Authority, ca_file: Path, tmp_path: Path) -> None:
    with Server(answering(GOOD), context=authority.issue("idp.test").server_context(tmp_path)) as server:
        world = WireWorld(tls(server), transport={"ca_file": ca_file})
        world.ask("OK", requests=1)
        assert server.connections == 1
        world.check_whole()


def old_protocol(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")


def no_encryption(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("eNULL:@SECLEVEL=0")


def no_authentication(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:!eNULL:@SECLEVEL=0")


@covers("K02", outcome="UNREACHABLE: refused in the handshake")
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
@pytest.mark.parametrize("weaken", [old_protocol, no_encryption, no_authentication])
def test_protocols_and_ciphers_that_protect_nothing(
    authority: Authority, ca_file: Path, tmp_path: Path, weaken: Callable[[ssl.SSLContext], None]
) -> None:
    context = authority.issue("idp.test").server_context(tmp_path)
    weaken(context)
    with Server(answering(GOOD), context=context) as server:
        world = WireWorld(tls(server), transport={"ca_file": ca_file})
        world.ask("UNREACHABLE", requests=1)
        assert server.requests == []
        world.check_whole()


@covers("K02", outcome="the context itself: TLS 1.2 at least, no compression")
def test_the_context() -> None:
    context = build_context(TransportSettings())
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert not any("NULL" in cipher["name"] or "EXP" in cipher["name"] for cipher in context.get_ciphers())


@pytest.fixture
def careless() -> Iterator[ssl.SSLContext]:
    context = ssl.create_default_context()
    context.check_hostname = False
    yield context
    assert context.check_hostname is False


@covers("K03", outcome="CONFIGURATION: there is no such setting, and no context that does it")
def test_verification_cannot_be_switched_off(careless: ssl.SSLContext, ca_file: Path) -> None:
    for name in ("verify", "insecure", "check_hostname"):
        settings: dict[str, Any] = {name: False}
        with pytest.raises(TypeError):
            TransportSettings(**settings)
    for mode in (ssl.CERT_REQUIRED, ssl.CERT_NONE, ssl.CERT_OPTIONAL):
        careless.verify_mode = mode
        world = WireWorld("https://idp.test/token", transport={"ssl_context": careless})
        error = outcome_of(world.manager.get)
        assert type(error) is ConfigurationError
        check_error(error)
    # What tests on this machine use instead.
    assert TransportSettings(ca_file=ca_file).ca_file == ca_file


@covers("K05", outcome="OK: each name has a connection, and a handshake, of its own")
def test_two_names_at_one_address(authority: Authority, ca_file: Path, tmp_path: Path) -> None:
    names: list[str | None] = []
    contexts = {
        name: authority.issue(name).server_context(tmp_path, name.partition(".")[0]) for name in ("a.test", "b.test")
    }

    def choose(sock: ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        names.append(name)
        sock.context = contexts[name or "a.test"]

    front = authority.issue("a.test").server_context(tmp_path)
    front.sni_callback = choose  # type: ignore[assignment]  # typed for sockets that are not wrapped yet
    with Server(answering(GOOD), context=front) as server:
        transport = HttpTransport(TransportSettings(ca_file=ca_file, resolve=loopback))
        for name in ("a.test", "b.test", "a.test"):
            world = WireWorld(tls(server, name), transport={"ca_file": ca_file})
            world.real = transport
            world.routed.real = transport
            assert world.manager.get().value == TOKEN
        assert names == ["a.test", "b.test", "a.test"]
        assert server.connections == 3
        transport.close()
