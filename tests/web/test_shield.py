"""Who may see and use the page: names of the host, origins, the session, the token of forms. Over plain HTTP."""

from __future__ import annotations

import asyncio
import http.client
import re
import socket
import ssl
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit.core.secret import Secret
from accredit.devserver import DevClient, DevConfig, DevServer, DevServerProcess
from accredit.devserver.forms import Incoming
from accredit.devserver.web import allowed_origins
from accredit.devserver.web.assets import asset, source_hash
from accredit.devserver.web.markup import Markup, h, pre, visible
from accredit.devserver.web.shield import Shield
from tests.support.certificates import Authority

SECRET = "s3cr3tCanary-page"


class Answer:
    """An answer, fully read."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()


class Visitor:
    """Sends exactly what a test says, as a browser or as somebody who wants to pass for one."""

    def __init__(self, server: DevServer | DevServerProcess) -> None:
        self.origin = server.url
        self.host = server.url.partition("://")[2]
        where = urlsplit(server.page_link)
        self.key = where.query.partition("=")[2]
        self.cookie = ""
        self.form_token = ""

    def ask(self, method: str, path: str, form: dict[str, str] | None = None, **headers: str | None) -> Answer:
        name, _, port = self.host.rpartition(":")
        connection = http.client.HTTPConnection(name, int(port), timeout=20)
        fields = {"Host": self.host, "Cookie": self.cookie, "Origin": self.origin if method == "POST" else None}
        fields |= {key.replace("_", "-"): value for key, value in headers.items()}
        body = urlencode(form).encode() if form is not None else None
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for key, value in fields.items():
            if value:
                connection.putheader(key, value)
        if body is not None:
            connection.putheader("Content-Type", "application/x-www-form-urlencoded")
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = Answer(connection.getresponse())
        connection.close()
        return answer

    def enter(self) -> None:
        answer = self.ask("GET", f"/_ui/enter?key={self.key}")
        assert (answer.status, answer.headers["Location"]) == (303, "/_ui/")
        self.cookie = answer.headers["Set-Cookie"].partition(";")[0]
        page = self.ask("GET", "/_ui/")
        assert page.status == 200
        found = re.search(r'name="form_token" value="([0-9a-f]{64})"', page.text)
        assert found
        self.form_token = found[1]

    def rotate(self, **headers: Any) -> Answer:
        return self.ask("POST", "/_ui/do/rotate", {"form_token": self.form_token}, **headers)


@pytest.fixture(scope="module")
def server() -> Iterator[DevServer]:
    client = DevClient(client_id="api-client", client_secret=Secret(SECRET))
    with DevServer(DevConfig(clients=(client,)), web=True) as running:
        yield running


@pytest.fixture
def visitor(server: DevServer) -> Visitor:
    made = Visitor(server)
    made.enter()
    return made


def test_a_form_of_the_page_does_something(visitor: Visitor, server: DevServer) -> None:
    kid = server.command("signing_keys")[0]["kid"]
    answer = visitor.rotate()
    assert (answer.status, answer.headers["Location"]) == (303, "/_ui/?done=rotate#notice")
    assert server.command("signing_keys")[0]["kid"] != kid
    assert "The key was rotated." in visitor.ask("GET", "/_ui/?done=rotate").text
    # The address cannot put words into the mouth of the page.
    assert "<b>x" not in visitor.ask("GET", "/_ui/?done=%3Cb%3Ex").text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:{port}"}, 421),
        ({"Host": "127.0.0.1"}, 421),
        ({"Host": "127.0.0.1:1"}, 421),
        ({"Host": "127.0.0.1.evil.example:{port}"}, 421),
        ({"Host": None}, 400),
        ({"Origin": None}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "https://127.0.0.1:{port}"}, 403),
        ({"Origin": "http://localhost:{port}"}, 403),
        ({"Origin": "http://127.0.0.1:{port}/"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "document"}, 403),
        ({"Cookie": None}, 403),
        ({"Cookie": "accredit-{port}=wrong"}, 403),
        ({"Cookie": "accredit-{port}=x; {cookie}"}, 403),
    ],
    ids=str,
)
def test_what_changes_something_must_come_from_the_page(
    visitor: Visitor, server: DevServer, headers: dict[str, str | None], status: int
) -> None:
    kid = server.command("signing_keys")[0]["kid"]
    port = visitor.host.rpartition(":")[2]
    filled = {name: value and value.format(port=port, cookie=visitor.cookie) for name, value in headers.items()}
    assert visitor.rotate(**filled).status == status
    assert server.command("signing_keys")[0]["kid"] == kid


def test_other_names_of_this_machine_are_ours_too(visitor: Visitor) -> None:
    port = visitor.host.rpartition(":")[2]
    for name in ("localhost", "LOCALHOST", "[::1]"):
        answer = visitor.rotate(Host=f"{name}:{port}", Origin=f"http://{name.lower()}:{port}")
        assert answer.status == 303


@pytest.mark.parametrize("token", ["", "x", "0" * 64])
def test_a_form_without_its_token(visitor: Visitor, server: DevServer, token: str) -> None:
    kid = server.command("signing_keys")[0]["kid"]
    for action in ("do/rotate", "do/heal", "do/revoke-client", "check"):
        answer = visitor.ask("POST", f"/_ui/{action}", {"form_token": token, "client_id": "api-client", "token": "x"})
        assert answer.status == 403
        assert "older than the server" in answer.text
    assert server.command("signing_keys")[0]["kid"] == kid


def test_reading_needs_the_session_and_not_another_page(server: DevServer) -> None:
    stranger = Visitor(server)
    for path in ("/_ui/", "/_ui/events", "/_ui/do/rotate", "/_ui/anything"):
        answer = stranger.ask("GET", path)
        assert answer.status == 403
        assert "api-client" not in answer.text
    for key in ("", "x", stranger.key[:-1], stranger.key + "x", server.admin_token):
        answer = stranger.ask("GET", f"/_ui/enter?{urlencode({'key': key})}")
        assert (answer.status, answer.headers["Set-Cookie"]) == (403, None)
        assert stranger.ask("POST", "/_ui/enter", {"key": key}).status == 403
    assert stranger.ask("POST", "/_ui/enter", {"key": stranger.key}, Origin="https://evil.example").status == 403
    assert stranger.ask("GET", "/").headers["Location"] == "/_ui/"
    stranger.enter()
    for site, mode, dest, status in (
        ("cross-site", "cors", "empty", 403),
        ("same-site", "no-cors", "image", 403),
        ("same-site", "navigate", "iframe", 403),
        ("cross-site", "navigate", "document", 200),
        ("same-origin", "cors", "empty", 200),
        ("none", "navigate", "document", 200),
    ):
        answer = stranger.ask("GET", "/_ui/", Sec_Fetch_Site=site, Sec_Fetch_Mode=mode, Sec_Fetch_Dest=dest)
        assert answer.status == status, site


def test_the_cookie(server: DevServer) -> None:
    made = Visitor(server)
    cookie = made.ask("GET", f"/_ui/enter?key={made.key}").headers["Set-Cookie"]
    port = made.host.rpartition(":")[2]
    assert re.fullmatch(rf"accredit-{port}=[\w-]{{43}}; Path=/_ui/; HttpOnly; SameSite=Strict", cookie)
    assert made.key not in cookie
    with DevServer(web=True) as other:
        stranger = Visitor(other)
        # What one server gave opens no other.
        assert stranger.ask("GET", "/_ui/", Cookie=cookie.partition(";")[0]).status == 403


def test_every_answer_carries_its_protection(visitor: Visitor) -> None:
    for method, path in (("GET", "/_ui/"), ("GET", "/_ui/nowhere"), ("GET", "/"), ("PUT", "/_ui/"), ("HEAD", "/_ui/")):
        answer = visitor.ask(method, path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Access-Control-Allow-Origin"] is None


def test_the_page_holds_exactly_what_its_policy_names(visitor: Visitor) -> None:
    answer = visitor.ask("GET", "/_ui/")
    assert re.findall(r"<style[^>]*>(.*?)</style>", answer.text, re.DOTALL) == [asset("style.css")]
    assert re.findall(r"<script[^>]*>(.*?)</script>", answer.text, re.DOTALL) == [asset("script.js")]
    for name in ("style.css", "script.js"):
        assert f"'{source_hash(name)}'" in answer.headers["Content-Security-Policy"]
        assert "</" not in asset(name)
    assert not re.search(r'\s(?:style|on\w+)=["\']', answer.text)
    assert not re.search(r'(?:src|href|action)="(?!/_ui/|#)', answer.text)
    assert SECRET not in answer.text


def test_where_there_is_no_page() -> None:
    with DevServer() as server:
        assert server.page_link == ""
        connection = http.client.HTTPConnection(server.url.partition("://")[2], timeout=20)
        for path in ("/", "/_ui/", "/_ui/enter"):
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 404
        connection.close()


def test_over_https(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("127.0.0.1").write(tmp_path)
    with DevServer(web=True, certfile=str(certificate), keyfile=str(key)) as server:
        assert server.page_link.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=str(authority.write(tmp_path)))
        where = urlsplit(server.page_link)
        connection = http.client.HTTPSConnection(where.netloc, timeout=20, context=context)
        connection.request("GET", f"{where.path}?{where.query}")
        answer = connection.getresponse()
        answer.read()
        assert (answer.getheader("Set-Cookie") or "").endswith("; Secure")
        connection.close()


def test_in_a_process_and_with_the_news() -> None:
    with DevServerProcess(web=True) as process:
        visitor = Visitor(process)
        visitor.enter()
        assert process.wait_for_page(timeout=20)
        name, _, port = visitor.host.rpartition(":")
        with socket.create_connection((name, int(port)), timeout=20) as connection:
            request = f"GET /_ui/events HTTP/1.1\r\nHost: {visitor.host}\r\nCookie: {visitor.cookie}\r\n\r\n"
            connection.sendall(request.encode())
            stream = connection.makefile("rb")
            while b"retry" not in stream.readline():
                pass
            process.rotate_key()
            while not stream.readline().startswith(b"data: "):
                pass
            process.stop()  # and the stream ends with it, instead of holding it up
            assert stream.read() is not None
            stream.close()


def test_only_this_machine_has_a_page() -> None:
    shield = Shield(allowed_origins("http", "0.0.0.0", 8080), "k", "s", secure=False, cookie="c")
    assert shield.origins == {"http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080"}
    assert allowed_origins("https", "127.0.0.2", 443) == {
        "https://localhost", "https://127.0.0.1", "https://[::1]", "https://127.0.0.2",
    }  # fmt: skip
    assert not shield.knows_host(Incoming("GET", "/", (("host", "192.0.2.1:8080"),)))
    assert not shield.knows_host(Incoming("GET", "/", (("host", "localhost:8080"), ("host", "localhost:8080"))))


def test_a_server_that_others_reach_shows_its_page_to_this_machine_only() -> None:
    with DevServer(web=True, host="0.0.0.0", for_tests=True) as server:
        assert server.page_link.startswith("http://127.0.0.1:")
        visitor = Visitor(server)
        visitor.origin, visitor.host = (part.replace("0.0.0.0", "127.0.0.1") for part in (visitor.origin, visitor.host))
        visitor.enter()
        runtime = server._runtime
        assert runtime is not None
        page = runtime._page
        assert page is not None
        headers = (("host", visitor.host), ("cookie", visitor.cookie))
        for peer, status in ((("127.0.0.1", 1), 200), (("192.0.2.1", 1), 403), (None, 403)):
            sent: list[Any] = []

            async def send(message: Any, sent: list[Any] = sent) -> None:
                sent.append(message)

            async def receive() -> Any:
                return {"type": "http.disconnect"}

            asyncio.run(page.answer(Incoming("GET", "/_ui/", headers), {"client": peer}, receive, send))
            assert sent[0]["status"] == status, peer


# ---- markup -------------------------------------------------------------------------------------------------


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_breaks_out(text: str, value: str) -> None:
    seen: list[tuple[str, list[tuple[str, str | None]]]] = []
    said: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            seen.append((tag, attributes))

        def handle_data(self, data: str) -> None:
            said.append(data)

    made = h("div", h("b", text), h("input", value=value, title=text), pre(text))
    made.encode()
    reader = Reader(convert_charrefs=True)
    reader.feed(made)
    reader.close()
    assert [tag for tag, _ in seen] == ["div", "b", "input", "pre"]
    assert seen[2][1][1] == ("title", visible(text))
    # What a form sends back is the very text, but for what HTML cannot carry at all.
    carried = all(letter.isprintable() or letter in "\t\n" for letter in value)
    assert not carried or seen[2][1][0] == ("value", value)
    assert "".join(said).startswith(visible(text))


def test_markup_is_what_the_program_made() -> None:
    assert h("p", "<b>", h("b", "x"), None, 3, [h("i")]) == "<p>&lt;b&gt;<b>x</b>3<i></i></p>"
    assert isinstance(h("p"), Markup)
    assert h("input", required=True, hidden=False, for_="x", aria_label='"') == (
        '<input required for="x" aria-label="&quot;">'
    )
    for name in ("p onclick", "P", "", "p>", "1"):
        with pytest.raises(ValueError, match="comes from the program"):
            h(name)
    assert visible("a\u202eb\n\x00\U000e0001") == "a\\u202eb\\u000a\\u0000\\U000e0001"
    assert len(visible("x" * 5000)) == 2001
