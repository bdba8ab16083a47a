"""URLs: one reading only, and what was checked is what would be contacted."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import httpx2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from accredit.core.strict import StrictError, Url, is_link_local, origin_of, parse_url

hosts = st.from_regex(
    r"[a-z_]([a-z0-9-]{0,6}[a-z0-9])?(\.[a-z][a-z0-9]{0,5}){0,3}", fullmatch=True
) | st.ip_addresses().map(lambda address: f"[{address}]" if address.version == 6 else str(address))
tails = st.from_regex(r"(/[A-Za-z0-9._~!$&'()*+,;=:@-]{0,5}){0,3}(\?[a-z=&/?]{0,6})?", fullmatch=True)
urls = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["https", "HTTPS", "http"]),
    hosts,
    st.just("") | st.integers(1, 65535).map(":{}".format),
    tails,
)
# Near misses: text of the characters on which readers disagree.
oddities = st.text("https:/?#@[]%.\\ \t\n0127xfelocalhost-_éß。\u200b", max_size=40)


def refusal(text: str, *, allow_insecure_http: bool = False) -> str:
    with pytest.raises(StrictError) as caught:
        parse_url(text, allow_insecure_http=allow_insecure_http, purpose="issuer")
    assert caught.value.__context__ is None
    message = str(caught.value)
    assert message.startswith("issuer: ")
    return message.removeprefix("issuer: ")


class TestParts:
    def test_everything(self) -> None:
        text = "HTTPS://Login.Example:8443/a/B%2Fc?x=1&y=/?"
        assert parse_url(text) == Url(text, "https", "login.example", 8443, "/a/B%2Fc", "x=1&y=/?")
        assert parse_url(text).origin == "https://login.example:8443"
        assert parse_url(text).wire == "https://login.example:8443/a/B%2Fc?x=1&y=/?"

    @pytest.mark.parametrize(
        ("text", "origin", "port"),
        [
            ("https://as.example", "https://as.example", 443),
            ("https://as.example:443/", "https://as.example", 443),
            ("https://as.example:80/", "https://as.example:80", 80),
            ("http://localhost", "http://localhost", 80),
            ("http://localhost:443", "http://localhost:443", 443),
            ("https://10.0.0.8:1", "https://10.0.0.8:1", 1),
            ("https://as.example:65535", "https://as.example:65535", 65535),
            ("https://[2001:DB8:0:0:0:0:0:1]:8443/", "https://[2001:db8::1]:8443", 8443),
            ("https://my_idp:8080/realms/x", "https://my_idp:8080", 8080),
            ("https://as.example?tenant=1", "https://as.example", 443),
        ],
    )
    def test_origin_and_port(self, text: str, origin: str, port: int) -> None:
        url = parse_url(text)
        assert (url.origin, url.port, url.text) == (origin, port, text)
        assert origin_of(text) == origin
        assert url.path in {"", "/", "/realms/x"}

    def test_the_default_purpose(self) -> None:
        with pytest.raises(StrictError, match=r"^URL: "):
            parse_url("ftp://as.example")


class TestPlainHttp:
    @pytest.mark.parametrize(
        "host", ["localhost", "LOCALHOST", "127.0.0.1", "127.255.0.3", "[::1]", "[0:0:0:0:0:0:0:1]"]
    )
    def test_loopback(self, host: str) -> None:
        url = parse_url(f"http://{host}:8080/")
        assert url.is_loopback

    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1.attacker.test",
            "localhost.attacker.test",
            "x.localhost",
            "0.0.0.0",
            "[::]",
            "[::127.0.0.1]",
            "[::2]",
            "128.0.0.1",
            "as.example",
            "10.0.0.1",
            "local-host",
        ],
    )
    def test_d21_not_loopback(self, host: str) -> None:
        assert refusal(f"http://{host}/").startswith("plain http")
        assert not parse_url(f"http://{host}/", allow_insecure_http=True).is_loopback
        assert parse_url(f"https://{host}/").scheme == "https"

    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            ("http://localhost:80@attacker.test/", "user information"),
            ("http://127.0.0.1@attacker.test/", "user information"),
            ("http://[::ffff:127.0.0.1]/", "an IPv4 address written as IPv6"),
            ("http://[::ffff:7f00:1]/", "an IPv4 address written as IPv6"),
            ("http://2130706433/", "a numeric host"),
            ("http://0x7f.1/", "a numeric host"),
            ("http://0x7f000001/", "a numeric host"),
            ("http://127.1/", "a numeric host"),
            ("http://127.0.1/", "a numeric host"),
            ("http://0177.0.0.1/", "a numeric host"),
            ("http://127.0.0.01/", "a numeric host"),
            ("http://127.0.0.0x1/", "a numeric host"),
            ("http://127.0.0.0X1/", "a numeric host"),
            ("http://127.0.0.1.5/", "a numeric host"),
            ("http://127.0.0.256/", "a numeric host"),
            ("http://a.example.5/", "a numeric host"),
            ("http://127.0.0.1./", "malformed host name"),
            ("http://localhost./", "malformed host name"),
            ("http://localhost%2e/", "malformed host name"),
            ("http://127。0。0。1/", "the international host name"),
            ("http://\uff11\uff12\uff17.0.0.1/", "the international host name"),
            ("http://\uff4cocalhost/", "the international host name"),
        ],
    )
    def test_d21_odd_spellings_of_loopback(self, text: str, fault: str) -> None:
        for allow in (False, True):
            assert refusal(text, allow_insecure_http=allow).startswith(fault)
            assert refusal(text.replace("http:", "https:"), allow_insecure_http=allow).startswith(fault)


class TestLinkLocal:
    @pytest.mark.parametrize(
        "host",
        [
            "169.254.169.254",
            "169.254.0.1",
            "[fe80::1]",
            "[FEBF::1]",
            "[::169.254.169.254]",
            "[64:ff9b::169.254.169.254]",
            "[2002:a9fe:a9fe::1]",
        ],
    )
    def test_never(self, host: str) -> None:
        for scheme in ("http", "https"):
            assert refusal(f"{scheme}://{host}/", allow_insecure_http=True).startswith("a link-local address")
        assert is_link_local(host.strip("[]"))

    def test_mapped(self) -> None:
        assert is_link_local("::ffff:169.254.169.254")
        assert refusal("https://[::ffff:169.254.169.254]/").startswith("an IPv4 address written as IPv6")

    def test_a_zone_of_name_resolution(self) -> None:
        assert is_link_local("fe80::1%eth0")

    @pytest.mark.parametrize(
        "address",
        [
            "10.0.0.1",
            "169.253.0.1",
            "127.0.0.1",
            "::1",
            "::",
            "fc00::1",
            "2002:0a00:0001::1",
            "64:ff9b::a00:1",
            "::ffff:10.0.0.1",
            "as.example",
            "",
        ],
    )
    def test_others(self, address: str) -> None:
        assert not is_link_local(address)


class TestRefused:
    @pytest.mark.parametrize(
        "character", ["\t", "\n", "\r", "\x00", "\x1f", "\x7f", " ", "\\", "\u00a0", "\u2028", "\x85", "\ud800"]
    )
    @pytest.mark.parametrize("place", [0, 3, 8, 11, 18, 20, 25])
    def test_d22_controls_spaces_backslashes(self, character: str, place: int) -> None:
        text = "https://as.example/a/b?c"
        fault = (
            f"control character, white space or backslash: U+{ord(character):04X} at position {min(place, len(text))}"
        )
        assert refusal(text[:place] + character + text[place:]) == fault

    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            ("https://user@as.example/", "user information"),
            ("https://user:canary@as.example/", "user information"),
            ("https://@as.example/", "user information"),
            ("https://as.example/#top", "a fragment, starting at position 19"),
            ("https://as.example#", "a fragment, starting at position 18"),
            ("https://as.example#@evil.example/", "a fragment"),
            ("https://as.example./", "malformed host name"),
            ("https://as..example/", "malformed host name"),
            ("https://.example/", "malformed host name"),
            ("https://-as.example/", "malformed host name"),
            ("https://as-.example/", "malformed host name"),
            ("https://a%73.example/", "malformed host name"),
            ("https://as.example;x/", "malformed host name"),
            ("https://as,example/", "malformed host name"),
            (f"https://{'a' * 64}.example/", "malformed host name"),
            (f"https://{'a.' * 127}/", "the host has 254 characters"),
            (f"https://{'é.' * 120}example/", "malformed host name"),
            ("https:///a", "the host has 0 characters"),
            ("https://", "the host has 0 characters"),
            ("https://:443/", "the host has 0 characters"),
            ("https:as.example", "does not start with"),
            ("https:/as.example", "does not start with"),
            ("//as.example", "does not start with"),
            ("as.example", "does not start with"),
            ("/path", "does not start with"),
            ("ftp://as.example", "does not start with"),
            ("file:///etc/passwd", "does not start with"),
            ("javascript:alert(1)", "does not start with"),
            ("http\u017f://as.example", "does not start with"),
            ("", "0 characters"),
            ("https://as.example/" + "a" * 4096, "4115 characters"),
        ],
    )
    def test_d22_forms(self, text: str, fault: str) -> None:
        message = refusal(text)
        assert message.startswith(fault)
        assert "canary" not in message

    @pytest.mark.parametrize(
        "port",
        ["", "0", "00443", "65536", "99999", "443x", "\uff14\uff14\uff13", "-1", "+443", "443:443", "1_0", "1" * 5000],
    )
    def test_ports(self, port: str) -> None:
        for host in ("as.example", "[::1]"):
            assert "port" in refusal(f"https://{host}:{port}/") or len(port) > 4000

    @pytest.mark.parametrize(
        "literal", ["[::1", "[]", "[::1]x", "[::1]]", "[1.2.3.4]", "[fe80::1%25eth0]", "[::g]", "[v1.x]", "[:::1]"]
    )
    def test_ipv6_literals(self, literal: str) -> None:
        assert refusal(f"https://{literal}/") == "malformed IPv6 address"

    @pytest.mark.parametrize("character", [*list('"<>^`{|}'), "é", "💥", "%", "%a", "%zz", "%%41", "\u202e"])
    def test_what_must_be_escaped(self, character: str) -> None:
        fault = f"not allowed unescaped in a URL: U+{ord(character[0]):04X} at position 20"
        assert refusal(f"https://as.example/a{character}") == fault
        assert refusal(f"https://as.example/?{character}") == fault


class TestInternationalNames:
    @pytest.mark.parametrize(
        ("name", "ascii_name"),
        [
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.Example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
            ("\u0430pple.example", "xn--pple-43d.example"),  # a Cyrillic letter that looks like an "a"
        ],
    )
    def test_d22_shown_as_punycode(self, name: str, ascii_name: str) -> None:
        text = f"https://{name}/a"
        url = parse_url(text)
        assert (url.text, url.host, url.wire) == (text, ascii_name, f"https://{ascii_name}/a")

    @pytest.mark.parametrize(
        "name",
        [
            "faß.example",
            "ς.example",
            "a\u200db.example",
            "a\u00adb.example",
            "bu\u0308cher.example",
            "℀.example",
            "a\uff0eexample",
            "\u2488com",
            "💥.example",
            "\U0001f100.example",
            "é" * 64 + ".example",
            "é..example",
            "xn--bcher-kva.é.example",
            "\u0378.example",
        ],
    )
    def test_ambiguous(self, name: str) -> None:
        assert refusal(f"https://{name}/").startswith("the international host name is ambiguous or not allowed")


class TestProperties:
    @given(urls)
    def test_well_formed_urls_read_alike_everywhere(self, text: str) -> None:
        url, refused = None, ""
        try:
            url = parse_url(text, allow_insecure_http=True)
        except StrictError as error:
            refused = str(error)
        if url is None:
            assert any(word in refused for word in ("link-local", "IPv4 address written"))
            return
        split = urlsplit(text)
        default = 443 if split.scheme == "https" else 80
        assert (url.scheme, url.port, url.path, url.query) == (
            split.scheme,
            split.port or default,
            split.path,
            split.query,
        )
        assert origin_of(text) == url.origin

    @given(urls | oddities | oddities.map("https://".__add__) | st.text())
    @example("https://as.example\\@evil.example/")
    @example("https://as.example:443@evil.example")
    def test_what_was_checked_is_what_is_contacted(self, text: str) -> None:
        try:
            url = parse_url(text)
        except StrictError:
            return
        again = parse_url(url.wire)
        assert (again.wire, again.host, again.port, again.path) == (url.wire, url.host, url.port, url.path)
        assert url.wire.isascii()
        assert url.host == url.host.lower()
        sent = httpx2.URL(url.wire)
        assert sent.raw_host.decode("ascii") == url.host
        assert (sent.scheme, sent.port or {"http": 80, "https": 443}[url.scheme], sent.userinfo) == (
            url.scheme,
            url.port,
            b"",
        )
        assert url.scheme == "https" or url.is_loopback

    @given(st.text() | oddities | oddities.map("https://".__add__))
    def test_origin_of_agrees_with_parse_url(self, text: str) -> None:
        try:
            origin = origin_of(text)
        except StrictError:
            with pytest.raises(StrictError):
                parse_url(text, allow_insecure_http=True)
            return
        assert origin_of(origin) == origin

    @pytest.mark.parametrize(
        "text", ["é" * 4000, "é." * 2000, "a." * 2000, ":" * 4000, "[" * 4000, "1." * 2000, "x@" * 2000]
    )
    def test_time_is_linear(self, text: str) -> None:
        before = time.thread_time()
        assert refusal(f"https://{text}/")
        assert time.thread_time() - before < 2


class TestOriginOf:
    @pytest.mark.parametrize(
        ("text", "origin"),
        [
            ("http://api.example", "http://api.example"),
            ("http://api.example:80/x", "http://api.example"),
            ("https://API.example/a b?c d#e@f\\", "https://api.example"),
            ("https://api.example?x=@evil.example", "https://api.example"),
            ("https://api.example#@evil.example", "https://api.example"),
            ("https://bücher.example:444/", "https://xn--bcher-kva.example:444"),
            ("http://169.254.169.254/", "http://169.254.169.254"),
        ],
    )
    def test_of_an_api(self, text: str, origin: str) -> None:
        assert origin_of(text) == origin

    @pytest.mark.parametrize(
        "text",
        [
            "https://api.example\\@evil.example/",
            "https://user@api.example/",
            "https://api.exa\nmple/",
            " https://api.example/",
            "https://api.example./",
            "https://2130706433/",
            "ws://api.example/",
            "",
        ],
    )
    def test_open_to_two_readings(self, text: str) -> None:
        with pytest.raises(StrictError, match=r"^API URL: "):
            origin_of(text)
