"""Proxies: from the settings and the environment, tunnels and plain forwarding, credentials."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit.core.messages import Request
from accredit.errors import ConfigurationError
from accredit.transport import HttpTransport, TransportSettings
from accredit.transport.proxies import is_exempt, parse_proxy, proxy_variable
from tests.transport.hostile import ConnectProxy, Server, answer, answering
from tests.transport.test_answers import answered, failed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.certificates import Authority

CREDENTIALS = "Basic " + base64.b64encode("us er:pässword-canary".encode()).decode()
USERINFO = "us%20er:p%C3%A4ssword-canary@"


def only_the_proxy(host: str, port: int) -> Sequence[str]:
    """Resolve the name of the proxy and no other: names of targets are the proxy's business."""
    assert port
    if host != "proxy.test":
        raise OSError
    return ["127.0.0.1"]


@pytest.fixture
def target(authority: Authority, tmp_path: Path) -> Iterator[Server]:
    """Return an https server that is called idp.test."""
    context = authority.issue("idp.test").server_context(tmp_path)
    with Server(answering(answer(body=b"end to end")), context=context) as server:
        yield server


@pytest.fixture
def ca_file(authority: Authority, tmp_path: Path) -> Path:
    """Return the file of the authority."""
    return authority.write(tmp_path)


def through(proxy: str, ca_file: Path) -> HttpTransport:
    """Return a transport that uses the proxy at that URL."""
    return HttpTransport(TransportSettings(proxy=proxy, ca_file=ca_file, resolve=only_the_proxy))


def test_a_tunnel(target: Server, ca_file: Path) -> None:
    request = Request(
        "POST", f"https://idp.test:{target.port}/token", (("Authorization", "Basic canary"),), b"x=canary"
    )
    with Server(ConnectProxy(target.port)) as proxy:
        response = answered(through(f"proxy.test:{proxy.port}", ca_file).send(request, timeout=10))
        assert response.body == b"end to end"
        head = proxy.requests[0].decode()
    assert head.startswith(f"CONNECT idp.test:{target.port} HTTP/1.1\r\n")
    assert "canary" not in head
    assert b"canary" in target.requests[0]
    assert target.requests[0].startswith(b"POST /token HTTP/1.1\r\n")


@pytest.mark.parametrize("default_port", [True, False])
def test_a_tunnel_with_credentials(target: Server, ca_file: Path, default_port: object) -> None:
    url = "https://idp.test/" if default_port else f"https://idp.test:{target.port}/"
    with Server(ConnectProxy(target.port, authorization=CREDENTIALS)) as proxy:
        good = through(f"http://{USERINFO}proxy.test:{proxy.port}/", ca_file)
        assert answered(good.send(Request("GET", url), timeout=10)).body == b"end to end"
        assert f"Proxy-Authorization: {CREDENTIALS}".encode() in proxy.requests[0]
        if default_port:
            assert proxy.requests[0].startswith(b"CONNECT idp.test:443 ")
        wrong = through(f"http://user:wrong-canary@proxy.test:{proxy.port}", ca_file)
        failure = failed(wrong.send(Request("GET", url), timeout=10), "proxy")
        assert "407" in failure.detail
        assert "canary" not in failure.detail
    assert b"proxy-authorization" not in target.requests[0].lower()


def test_a_tunnel_through_an_https_proxy(authority: Authority, target: Server, ca_file: Path, tmp_path: Path) -> None:
    """TLS to the target inside TLS to the proxy; each certificate must be right."""
    (tmp_path / "p").mkdir()
    context = authority.issue("proxy.test").server_context(tmp_path / "p")
    with Server(ConnectProxy(target.port), context=context) as proxy:
        transport = through(f"https://proxy.test:{proxy.port}", ca_file)
        request = Request("GET", f"https://idp.test:{target.port}/")
        assert answered(transport.send(request, timeout=10)).body == b"end to end"
        wrong_name = Request("GET", f"https://other.test:{target.port}/")
        assert "another host name" in failed(transport.send(wrong_name, timeout=10), "tls").detail
    with Server(ConnectProxy(target.port), context=authority.issue("x.test").server_context(tmp_path / "p")) as proxy:
        transport = through(f"https://proxy.test:{proxy.port}", ca_file)
        failed(transport.send(request, timeout=10), "tls")


def test_plain_http_is_forwarded(ca_file: Path) -> None:
    with Server(ConnectProxy(1, authorization=CREDENTIALS)) as proxy:
        transport = through(f"http://{USERINFO}proxy.test:{proxy.port}", ca_file)
        assert answered(transport.send(Request("GET", "http://idp.test/a?b=c"), timeout=10)).body == b"forwarded"
        assert proxy.requests[0].startswith(b"GET http://idp.test/a?b=c HTTP/1.1\r\nHost: idp.test\r\n")
        wrong = through(f"http://proxy.test:{proxy.port}", ca_file)
        failed(wrong.send(Request("GET", "http://idp.test/"), timeout=10), "proxy")


BROKEN = {
    "closes": b"",
    "is not HTTP": b"hello\r\n\r\n",
    "refuses": b"HTTP/1.1 403 canary\r\nContent-Length: 0\r\n\r\n",
    "redirects": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n",
    "talks first": b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "floods": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_proxy_that_fails(ca_file: Path, case: str) -> None:
    with Server(answering(BROKEN[case])) as proxy:
        transport = through(f"http://proxy.test:{proxy.port}", ca_file)
        failure = failed(transport.send(Request("GET", "https://idp.test/"), timeout=10), "proxy")
    assert "canary" not in failure.detail


def test_a_proxy_that_cannot_be_reached(ca_file: Path) -> None:
    request = Request("GET", "https://idp.test/")
    for url in ("http://nowhere.test:1", "http://proxy.test:1"):
        assert "reached" in failed(through(url, ca_file).send(request, timeout=10), "proxy").detail


def test_a_silent_proxy_meets_the_deadline(ca_file: Path) -> None:
    with Server(lambda peer: peer.gone()) as proxy:
        transport = through(f"http://proxy.test:{proxy.port}", ca_file)
        failed(transport.send(Request("GET", "https://idp.test/"), timeout=0.3), "deadline")


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]"])
def test_a_link_local_target_is_not_asked_of_a_proxy(ca_file: Path, host: str) -> None:
    with Server(ConnectProxy(1)) as proxy:
        transport = through(f"http://proxy.test:{proxy.port}", ca_file)
        failed(transport.send(Request("GET", f"http://{host}/"), timeout=10), "blocked")
        assert proxy.connections == 0


def test_variables_of_the_environment(target: Server, ca_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = HttpTransport(TransportSettings(ca_file=ca_file, resolve=only_the_proxy))
    request = Request("GET", f"https://idp.test:{target.port}/")
    with Server(ConnectProxy(target.port)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://proxy.test:{proxy.port}")
        assert answered(transport.send(request, timeout=10)).body == b"end to end"
        monkeypatch.setenv("NO_PROXY", "other.test, idp.test")
        failed(transport.send(request, timeout=10), "resolve")  # directly, and this resolver knows only the proxy
        monkeypatch.delenv("NO_PROXY")
        for settings in (
            TransportSettings(ca_file=ca_file, resolve=only_the_proxy, trust_env=False),
            TransportSettings(ca_file=ca_file, resolve=only_the_proxy, proxy=""),
        ):
            failed(HttpTransport(settings).send(request, timeout=10), "resolve")
        assert proxy.connections == 1


def test_requests_to_this_machine_take_no_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(answering(answer())) as server, Server(ConnectProxy(1)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        for host in ("127.0.0.1", "localhost"):
            request = Request("POST", f"http://{host}:{server.port}/", body=b"secret")
            assert answered(HttpTransport().send(request, timeout=10)).status == 200
        assert proxy.connections == 0


@pytest.mark.parametrize(
    ("environ", "scheme", "expected"),
    [
        ({}, "https", None),
        ({"HTTPS_PROXY": "a"}, "https", "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "a", "https_proxy": "b"}, "https", "https_proxy"),
        ({"HTTPS_PROXY": "a"}, "http", None),
        ({"HTTP_PROXY": "a"}, "http", "HTTP_PROXY"),
        ({"HTTP_PROXY": "a", "REQUEST_METHOD": "GET"}, "http", None),
        ({"ALL_PROXY": "a"}, "http", "ALL_PROXY"),
        ({"all_proxy": "a", "HTTPS_PROXY": ""}, "https", "all_proxy"),
        ({"HTTPS_PROXY": "a", "NO_PROXY": "*"}, "https", None),
        ({"HTTPS_PROXY": "a", "no_proxy": "b.test", "NO_PROXY": "*"}, "https", "HTTPS_PROXY"),
    ],
)
def test_which_variable_counts(environ: dict[str, str], scheme: str, expected: str | None) -> None:
    assert proxy_variable(scheme, "idp.test", 443, environ) == expected


@pytest.mark.parametrize(
    ("host", "no_proxy", "exempt"),
    [
        ("idp.test", "idp.test", True),
        ("a.idp.test", "idp.test", True),
        ("aidp.test", "idp.test", False),
        ("idp.test", "IDP.TEST.", True),
        ("idp.test", "x idp.test", True),
        ("idp.test", "idp.test:443", True),
        ("idp.test", "idp.test:8443", False),
        ("idp.test", ".idp.test", False),
        ("a.idp.test", ".idp.test", True),
        ("a.idp.test", "*.idp.test", True),
        ("idp.test", "*.idp.test", False),
        ("idp.test", "", False),
        ("idp.test", ",,:443,.,*.", False),
        ("idp.test", "10.0.0.0/8", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.0.0.1/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "10.0.0.0/99", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "1.2.3", False),
        ("fd00::1", "[fd00::1]", True),
        ("fd00::1", "[fd00::1]:443", True),
        ("fd00::1", "fd00:0::1", True),
        ("fd00::1", "fd00::/8", True),
    ],
)
def test_no_proxy(host: str, no_proxy: str, exempt: object) -> None:
    assert is_exempt(host, 443, no_proxy) is exempt


@given(st.sampled_from(["idp.test", "10.1.2.3", "fd00::1"]), st.text(alphabet="*.,:[]/ 0af%", max_size=20))
def test_any_no_proxy_can_be_read(host: str, no_proxy: str) -> None:
    assert is_exempt(host, 443, no_proxy) in {True, False}
    assert is_exempt(host, 443, f"{no_proxy},*") is True


WRONG = [
    "socks5://a:1",
    "ftp://a",
    "http://",
    "http://a:99999",
    "http://a:b",
    "http://a/path",
    "http://a b",
    "http://[::1",
]


@pytest.mark.parametrize("url", WRONG)
def test_a_proxy_url_that_is_wrong(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_proxy(url) is None
    with pytest.raises(ConfigurationError) as caught:
        TransportSettings(proxy=url)
    assert caught.value.key == "proxy"
    monkeypatch.setenv("HTTPS_PROXY", url)
    with pytest.raises(ConfigurationError) as caught:
        HttpTransport().send(Request("GET", "https://idp.test/"), timeout=1)
    assert caught.value.key == "HTTPS_PROXY"


def test_credentials_are_not_shown() -> None:
    url = "http://user:canary@proxy.test"
    assert "canary" not in repr(TransportSettings(proxy=url))
    proxy = parse_proxy(url)
    assert proxy is not None
    assert proxy.authorization is not None
    assert proxy.authorization not in repr(proxy)
