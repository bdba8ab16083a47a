"""Certificates, versions and trust stores."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
import warnings
from typing import TYPE_CHECKING

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from accredit.core.messages import Failure, Request, Response
from accredit.core.secret import Secret
from accredit.errors import ConfigurationError
from accredit.transport import ClientCertificate, HttpTransport, TransportSettings
from accredit.transport.tls import build_context
from tests.transport.conftest import loopback
from tests.transport.hostile import Server, answer, answering, black_hole
from tests.transport.test_answers import answered, failed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.certificates import Authority, Leaf


@pytest.fixture
def ca_file(authority: Authority, tmp_path: Path) -> Path:
    """Return the file of the authority."""
    return authority.write(tmp_path)


@pytest.fixture
def trusting(ca_file: Path) -> HttpTransport:
    """Return a transport that trusts the authority."""
    return HttpTransport(TransportSettings(ca_file=ca_file, resolve=loopback))


def ask(transport: HttpTransport, leaf: Leaf, directory: Path, *, host: str = "idp.test") -> Response | Failure:
    """Send one request to a server with that certificate."""
    with Server(answering(answer()), context=leaf.server_context(directory)) as server:
        outcome = transport.send(Request("GET", f"https://{host}:{server.port}/"), timeout=10)
        if isinstance(outcome, Failure):
            assert server.requests == []
        return outcome


@pytest.mark.parametrize("host", ["idp.test", "IDP.test", "127.0.0.1"])
def test_own_authority(authority: Authority, trusting: HttpTransport, tmp_path: Path, host: str) -> None:
    assert answered(ask(trusting, authority.issue("idp.test", "127.0.0.1"), tmp_path, host=host)).status == 200


def test_the_name_is_sent_in_the_handshake(authority: Authority, trusting: HttpTransport, tmp_path: Path) -> None:
    names: list[str | None] = []
    context = authority.issue("idp.test").server_context(tmp_path)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with Server(answering(answer()), context=context) as server:
        answered(trusting.send(Request("GET", f"https://idp.test:{server.port}/"), timeout=10))
    assert names == ["idp.test"]


@pytest.mark.parametrize(
    ("phrase", "issue"),
    [
        ("self-signed", lambda a: a.issue("idp.test", self_signed=True)),
        ("has expired", lambda a: a.issue("idp.test", valid_from=-9, valid_to=-1)),
        ("not valid yet", lambda a: a.issue("idp.test", valid_from=1)),
        ("another host name", lambda a: a.issue("other.test")),
        ("another host name", lambda a: a.issue(common_name="idp.test")),
        ("another host name", lambda a: a.issue("*.test.example", "*.idp.test")),
        ("another host name", lambda a: a.issue("*")),
        ("could not be verified", lambda a: a.issue("idp.test", purpose=ExtendedKeyUsageOID.CLIENT_AUTH)),
    ],
)  # fmt: skip
def test_a_wrong_certificate(
    authority: Authority, trusting: HttpTransport, tmp_path: Path, phrase: str, issue: object
) -> None:
    assert callable(issue)
    assert phrase in failed(ask(trusting, issue(authority), tmp_path), "tls").detail


def test_a_wrong_address(authority: Authority, trusting: HttpTransport, tmp_path: Path) -> None:
    outcome = ask(trusting, authority.issue("127.0.0.9", "idp.test"), tmp_path, host="127.0.0.1")
    assert "another IP address" in failed(outcome, "tls").detail


def test_an_unknown_authority(authority: Authority, tmp_path: Path) -> None:
    outcome = ask(HttpTransport(TransportSettings(resolve=loopback)), authority.issue("idp.test"), tmp_path)
    assert "not trusted" in failed(outcome, "tls").detail


def test_contexts_start_at_tls_1_2(ca_file: Path) -> None:
    for settings in (TransportSettings(), TransportSettings(ca_file=ca_file)):
        context = build_context(settings)
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert not context.hostname_checks_common_name


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_a_server_with_tls_1_1_only(authority: Authority, trusting: HttpTransport, tmp_path: Path) -> None:
    context = authority.issue("idp.test").server_context(tmp_path)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with Server(answering(answer()), context=context) as server:
        failed(trusting.send(Request("GET", f"https://idp.test:{server.port}/"), timeout=10), "tls")
        assert server.requests == []


def test_plain_http_on_the_tls_port(trusting: HttpTransport) -> None:
    with Server(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"), read=False) as server:
        failed(trusting.send(Request("GET", f"https://idp.test:{server.port}/"), timeout=10), "tls")


def test_a_handshake_that_is_cut_off(trusting: HttpTransport) -> None:
    with Server(answering(b""), read=False) as server:
        failed(trusting.send(Request("GET", f"https://idp.test:{server.port}/"), timeout=10), "connect")


def test_a_handshake_that_stalls(ca_file: Path) -> None:
    with Server(black_hole, read=False) as server:
        request = Request("GET", f"https://idp.test:{server.port}/")
        transport = HttpTransport(TransportSettings(ca_file=ca_file, resolve=loopback, connect_timeout=0.2))
        assert "not finished" in failed(transport.send(request, timeout=10), "connect").detail
        transport = HttpTransport(TransportSettings(ca_file=ca_file, resolve=loopback))
        started = time.monotonic()
        failed(transport.send(request, timeout=0.3), "deadline")
        assert time.monotonic() - started < 1.5


def test_a_dripping_body_over_tls_meets_the_deadline(
    authority: Authority, trusting: HttpTransport, tmp_path: Path
) -> None:
    with Server(
        lambda peer: peer.drip((b"%c" % byte for byte in answer(body=b"x" * 500)), 0.05),
        context=authority.issue("idp.test").server_context(tmp_path),
    ) as server:
        started = time.monotonic()
        failed(trusting.send(Request("GET", f"https://idp.test:{server.port}/"), timeout=0.5), "deadline")
        assert 0.5 <= time.monotonic() - started < 2


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_trust_stores_of_the_environment(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    file = authority.write(tmp_path)
    directory = tmp_path / "hashed"
    directory.mkdir()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(file)
    digest = subject_hash(file)
    (directory / f"{digest}.0").write_bytes(authority.pem)
    monkeypatch.setenv(variable, str(file if variable == "SSL_CERT_FILE" else directory))
    leaf = authority.issue("idp.test")
    assert answered(ask(HttpTransport(TransportSettings(resolve=loopback)), leaf, tmp_path)).status == 200
    failed(ask(HttpTransport(TransportSettings(resolve=loopback, trust_env=False)), leaf, tmp_path), "tls")
    by_path = TransportSettings(resolve=loopback, ca_path=directory, trust_env=False)
    assert answered(ask(HttpTransport(by_path), leaf, tmp_path)).status == 200


def subject_hash(file: Path) -> str:
    """Return the name under which OpenSSL looks for the certificate in a directory."""
    command = ["openssl", "x509", "-hash", "-noout", "-in", str(file)]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()


@pytest.mark.parametrize("content", [None, b"", b"no certificate here", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
@pytest.mark.parametrize("key", ["ca_file", "SSL_CERT_FILE"])
def test_a_missing_or_empty_trust_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, content: bytes | None
) -> None:
    file = tmp_path / "authorities.pem"
    if content is not None:
        file.write_bytes(content)
    if key == "SSL_CERT_FILE":
        monkeypatch.setenv(key, str(file))
    transport = HttpTransport(TransportSettings(ca_file=file) if key == "ca_file" else None)
    with pytest.raises(ConfigurationError) as caught:
        transport.send(Request("GET", "https://127.0.0.1:9/"), timeout=1)
    assert caught.value.key == key
    assert caught.value.advice
    assert caught.value.__context__ is None


@pytest.mark.parametrize("key", ["ca_path", "SSL_CERT_DIR"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_directory_without_authorities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, exists: object
) -> None:
    directory = tmp_path if exists else tmp_path / "missing"
    if key == "SSL_CERT_DIR":
        monkeypatch.setenv(key, str(directory))
    transport = HttpTransport(TransportSettings(ca_path=directory) if key == "ca_path" else None)
    with pytest.raises(ConfigurationError, match="rehash") as caught:
        transport.send(Request("GET", "https://127.0.0.1:9/"), timeout=1)
    assert caught.value.key == key


def test_plain_http_needs_no_trust_store(tmp_path: Path) -> None:
    with Server(answering(answer())) as server:
        transport = HttpTransport(TransportSettings(ca_file=tmp_path / "missing"))
        assert answered(transport.send(Request("GET", server.url), timeout=5)).status == 200


@pytest.mark.skipif(sys.platform == "win32", reason="permission bits mean something else there")
def test_a_trust_store_that_anyone_can_change(ca_file: Path) -> None:
    ca_file.chmod(0o666)
    with pytest.warns(UserWarning, match="ca_file: anyone"):
        build_context(TransportSettings(ca_file=ca_file))


def lax_context() -> ssl.SSLContext:
    """Return a context that verifies nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def nameless_context() -> ssl.SSLContext:
    """Return a context that takes any host's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return context


def old_context() -> ssl.SSLContext:
    """Return a context that still speaks TLS 1.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    return context


@pytest.mark.parametrize("context", [lax_context(), nameless_context(), old_context()])
def test_a_context_that_does_not_protect(context: ssl.SSLContext) -> None:
    transport = HttpTransport(TransportSettings(ssl_context=context))
    with pytest.raises(ConfigurationError) as caught:
        transport.send(Request("GET", "https://127.0.0.1:9/"), timeout=1)
    assert caught.value.key == "ssl_context"


def test_a_ready_context(authority: Authority, ca_file: Path, tmp_path: Path) -> None:
    transport = HttpTransport(
        TransportSettings(ssl_context=ssl.create_default_context(cafile=str(ca_file)), resolve=loopback)
    )
    assert answered(ask(transport, authority.issue("idp.test"), tmp_path)).status == 200


def test_a_client_certificate(authority: Authority, ca_file: Path, tmp_path: Path) -> None:
    files = authority.issue(common_name="client", purpose=ExtendedKeyUsageOID.CLIENT_AUTH).write(tmp_path, "client")
    context = authority.issue("idp.test").server_context(tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca_file)
    with Server(answering(answer()), context=context) as server:
        request = Request("GET", f"https://idp.test:{server.port}/")
        with_cert = TransportSettings(ca_file=ca_file, resolve=loopback, cert=ClientCertificate(*files))
        assert answered(HttpTransport(with_cert).send(request, timeout=10)).status == 200
        outcome = HttpTransport(TransportSettings(ca_file=ca_file, resolve=loopback)).send(request, timeout=10)
        assert isinstance(outcome, Failure)
        assert outcome.kind in {"tls", "read", "connect"}


def test_a_client_certificate_that_cannot_be_loaded(authority: Authority, tmp_path: Path) -> None:
    cert_file, key_file = authority.issue(common_name="client").write(tmp_path, "client")
    _, other_key = authority.issue(common_name="other").write(tmp_path, "other")
    for cert in (
        ClientCertificate(tmp_path / "missing"),
        ClientCertificate(cert_file),
        ClientCertificate(cert_file, other_key, Secret("canary")),
        ClientCertificate(key_file, cert_file),
    ):
        with pytest.raises(ConfigurationError) as caught:
            build_context(TransportSettings(cert=cert))
        assert caught.value.key == "cert"


def test_the_context_is_built_once_and_late(ca_file: Path, trusting: HttpTransport) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        request = Request("GET", f"https://127.0.0.1:{sock.getsockname()[1]}/")
        failed(trusting.send(request, timeout=5), "connect")
        ca_file.unlink()
        failed(trusting.send(request, timeout=5), "connect")


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_settings_that_make_no_sense(seconds: float) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TransportSettings(connect_timeout=seconds)
    assert caught.value.key == "connect_timeout"
    with pytest.raises(ConfigurationError, match="printable"):
        TransportSettings(user_agent="a\r\nb: c")
    with pytest.raises(ConfigurationError, match="excludes"):
        TransportSettings(ssl_context=nameless_context(), ca_file="x")
