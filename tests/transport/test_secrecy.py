"""What goes over the wire is found nowhere else; nothing is left open; importing is cheap."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING

import pytest

from accredit.core.messages import Failure, Request
from accredit.errors import ConfigurationError
from accredit.transport import HttpTransport, TransportSettings
from tests.transport.conftest import loopback
from tests.transport.hostile import Server, answer, answering, black_hole
from tests.transport.test_answers import answered

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.certificates import Authority

CANARY = "canary-4f1c"
REQUEST_FIELDS = (("Authorization", f"Basic {CANARY}"), ("DPoP", CANARY))
ECHOES = {
    "in a field": answer("200 OK", b"{}", f"X-Echo: {CANARY}", f"Set-Cookie: {CANARY}"),
    "in the body": answer("400 Bad Request", CANARY.encode()),
    "not as HTTP": f"HTTP/1.1 200 OK\r\nbad {CANARY}\r\n\r\n".encode(),
    "in the reason": f"HTTP/1.1 200 {CANARY}\r\nContent-Length: 0\r\n\r\n".encode(),
    "cut off": f"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{CANARY}".encode(),
    "in a coding": answer("200 OK", b"", f"Content-Encoding: {CANARY}"),
}


@pytest.mark.parametrize("case", ECHOES)
def test_no_log_record_or_repr_shows_what_was_sent_or_echoed(
    case: str, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("httpcore2").setLevel(logging.DEBUG)
    settings = TransportSettings(ca_file=authority.write(tmp_path), resolve=loopback)
    context = authority.issue("idp.test").server_context(tmp_path)
    with Server(answering(ECHOES[case])) as plain, Server(answering(ECHOES[case]), context=context) as tls:
        for url in (f"http://idp.test:{plain.port}/", f"https://idp.test:{tls.port}/"):
            request = Request("POST", url, REQUEST_FIELDS, f"client_secret={CANARY}".encode())
            outcome = HttpTransport(settings).send(request, timeout=10)
            assert CANARY not in repr(outcome)
            assert CANARY not in repr(request)
        assert CANARY in plain.requests[0].decode()
        assert CANARY in tls.requests[0].decode()
    assert caplog.records == []
    captured = capfd.readouterr()
    assert CANARY not in captured.out + captured.err


def test_a_failure_leaves_no_exception_behind() -> None:
    """Neither the value nor an error that the caller raises next leads to a frame that holds the request."""
    with Server(answering(b"")) as server:
        request = Request("POST", server.url, REQUEST_FIELDS, CANARY.encode())
        failure = HttpTransport().send(request, timeout=5)
    assert isinstance(failure, Failure)
    assert sys.exc_info() == (None, None, None)
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError(failure.detail)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("ca_file", "request_fields", "proxy"),
    [
        ("/nowhere/ca.pem", REQUEST_FIELDS, f"http://user:{CANARY}@proxy.test"),
        (None, (("Authorization", f"Basic {CANARY}\n"),), f"http://user:{CANARY}@proxy.test"),
        (None, REQUEST_FIELDS, f"socks5://user:{CANARY}@proxy.test"),
    ],
    ids=["trust store", "field", "proxy variable"],
)
def test_an_error_of_ours_holds_no_secret_in_its_frames(
    ca_file: str | None, request_fields: tuple[tuple[str, str], ...], proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    settings = TransportSettings(ca_file=ca_file)
    request = Request("POST", "https://idp.test/", request_fields, CANARY.encode())
    with pytest.raises((ConfigurationError, ValueError)) as caught:
        HttpTransport(settings).send(request, timeout=5)
    assert CANARY not in str(caught.value)
    ours = [frame for frame, _ in traceback.walk_tb(caught.tb)][1:]  # all but the frame of this test
    assert ours
    for frame in ours:
        for name, value in frame.f_locals.items():
            assert CANARY not in repr(value), (frame.f_code.co_name, name)


def test_netrc_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login someone password {CANARY}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_bytes(netrc.read_bytes())
    with Server(answering(answer("401 Unauthorized", b"", "WWW-Authenticate: Basic"))) as server:
        assert answered(HttpTransport().send(Request("GET", server.url), timeout=5)).status == 401
        assert server.connections == 1
        assert b"authorization" not in server.requests[0].lower()


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_every_socket_is_closed(authority: Authority, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    settings = TransportSettings(ca_file=authority.write(tmp_path), resolve=loopback)
    transport = HttpTransport(settings)
    context = authority.issue("other.test").server_context(tmp_path)
    with Server(answering(answer())) as good, Server(black_hole) as slow, Server(black_hole, context=context) as wrong:
        urls = (good.url, slow.url, f"https://idp.test:{wrong.port}/", "http://127.0.0.1:1/")
        for url in urls:
            transport.send(Request("GET", url), timeout=0.3)
            gc.collect()
    assert [warning for warning in recwarn if warning.category is ResourceWarning] == []


def test_importing_the_package_imports_no_http_library() -> None:
    code = (
        "import sys, accredit.transport\n"
        "accredit.transport.HttpTransport().close()\n"
        "print(sorted({'httpx2', 'httpcore2', 'h11', 'ssl', 'socket'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"
