"""What a server may answer, and what becomes of it."""

from __future__ import annotations

import gzip
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accredit.core.messages import Failure, Request, Response
from accredit.transport.exchange import encode, exchange, parse_target
from accredit.transport.network import Abort, Deadline
from tests.transport.hostile import Peer, Server, answer, answering, black_hole

if TYPE_CHECKING:
    from collections.abc import Callable

    from accredit.transport import HttpTransport

FORM = (("Content-Type", "application/x-www-form-urlencoded"),)


def post(url: str, *, max_bytes: int = 256 * 1024) -> Request:
    """Return a small token request."""
    return Request("POST", url, FORM, b"grant_type=client_credentials", max_bytes)


def failed(outcome: Response | Failure, kind: str) -> Failure:
    """Check that ``outcome`` is a failure of that kind."""
    assert isinstance(outcome, Failure), outcome
    assert outcome.kind == kind, outcome
    return outcome


def answered(outcome: Response | Failure) -> Response:
    """Check that ``outcome`` is a response."""
    assert isinstance(outcome, Response), outcome
    return outcome


def test_a_response_with_its_repeated_fields(transport: HttpTransport) -> None:
    reply = answer(
        "401 Unauthorized", b'{"error":"invalid_client"}', "WWW-Authenticate: Basic", "WWW-authenticate: DPoP"
    )
    with Server(answering(reply)) as server:
        response = answered(transport.send(post(server.url + "token?a=b%20c"), timeout=5))
    assert response.status == 401
    assert response.body == b'{"error":"invalid_client"}'
    assert response.header_values("www-authenticate") == ("Basic", "DPoP")


def test_what_is_sent(transport: HttpTransport) -> None:
    fields = (
        *FORM, ("Authorization", "Basic eA=="), ("Cookie", "a=b"), ("Accept-Encoding", "gzip"), ("Content-Length", "1"),
        ("Transfer-Encoding", "chunked"), ("Expect", "100-continue"), ("Host", "other.example"),
    )  # fmt: skip
    with Server(answering(answer())) as server:
        answered(transport.send(Request("POST", f"{server.url}token?a=b%20c", fields, b"x=y&z=1"), timeout=5))
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /token?a=b%20c HTTP/1.1"
    sent = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    assert sent.pop("user-agent").startswith("accredit")
    assert sent == {
        "host": f"127.0.0.1:{server.port}",
        "accept-encoding": "identity",
        "connection": "close",
        "content-type": "application/x-www-form-urlencoded",
        "content-length": "7",
        "authorization": "Basic eA==",
    }
    assert len(lines) == 8
    assert body == b"x=y&z=1"


def holding(data: bytes) -> Callable[[Peer], None]:
    """Return a behaviour that answers and leaves the connection open."""

    def behave(peer: Peer) -> None:
        peer.send(data)
        peer.gone()

    return behave


def test_one_connection_a_request(transport: HttpTransport) -> None:
    reply = answer("200 OK", b"{}", "Connection: keep-alive")
    with Server(holding(reply)) as server:
        for _ in range(3):
            answered(transport.send(Request("GET", server.url), timeout=5))
        assert server.connections == 3


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_never_followed(transport: HttpTransport, status: int) -> None:
    with Server(answering(answer())) as other:
        reply = answer(f"{status} Elsewhere", b"", f"Location: {other.url}")
        with Server(answering(reply)) as server:
            assert answered(transport.send(post(server.url), timeout=5)).status == status
            assert server.connections == 1
        assert other.connections == 0


def test_a_cookie_is_neither_kept_nor_shown(transport: HttpTransport) -> None:
    with Server(answering(answer("200 OK", b"{}", "Set-Cookie: session=1", "X-Other: 2"))) as server:
        first = answered(transport.send(post(server.url), timeout=5))
        answered(transport.send(post(server.url), timeout=5))
        assert b"cookie" not in server.requests[1].lower()
    assert first.header("set-cookie") is None
    assert first.header("x-other") == "2"


HTTP = b"HTTP/1.1 200 OK\r\n"
ENDED_BADLY = {
    "hang up at once": (b"", "closed before"),
    "hang up in the head": (HTTP + b"Content-Le", "closed before"),
    "hang up in the body": (HTTP + b"Content-Length: 100\r\n\r\n{", "closed before"),
    "hang up in a chunk": (HTTP + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", "closed before"),
    "hang up before the last chunk": (HTTP + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "closed before"),
    "not HTTP": (b"220 smtp.example ESMTP\r\n\r\n", "not valid HTTP"),
    "TLS, not HTTP": (b"\x15\x03\x01\x00\x02\x02\x16", "not valid HTTP"),
    "two lengths": (HTTP + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "not valid HTTP"),
    "negative length": (HTTP + b"Content-Length: -1\r\n\r\n", "not valid HTTP"),
    "length of 5000 digits": (HTTP + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", "not valid HTTP"),
    "gzip as transfer coding": (HTTP + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "not valid HTTP"),
    "bad chunk length": (HTTP + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "not valid HTTP"),
    "NUL in a field": (HTTP + b"X-A: a\x00b\r\n\r\n", "not valid HTTP"),
    "no colon in a field": (HTTP + b"nonsense\r\n\r\n", "not valid HTTP"),
    "switching protocols": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "not valid HTTP"),
    "100,000 fields": (HTTP + b"A: b\r\n" * 100_000 + b"\r\n", "head is too large"),
    "a line of 1 MB": (HTTP + b"A: " + b"b" * 1_000_000 + b"\r\n\r\n", "head is too large"),
    "a status line of 1 MB": (b"HTTP/1.1 200 " + b"b" * 1_000_000 + b"\r\n\r\n", "head is too large"),
    "1,000 interim responses": (b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * 1000 + answer(), "interim"),
    "a trailer of 1 MB": (HTTP + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"b" * 1_000_000, "head is too large"),
}


@pytest.mark.parametrize("case", ENDED_BADLY)
def test_an_answer_that_cannot_be_read(transport: HttpTransport, case: str) -> None:
    reply, phrase = ENDED_BADLY[case]
    with Server(answering(reply)) as server:
        failure = failed(transport.send(post(server.url), timeout=5), "read")
    assert phrase in failure.detail


def test_a_few_interim_responses_are_fine(transport: HttpTransport) -> None:
    with Server(answering(b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + answer())) as server:
        assert answered(transport.send(post(server.url), timeout=5)).status == 200


def test_a_body_that_ends_with_the_connection(transport: HttpTransport) -> None:
    with Server(answering(b"HTTP/1.0 200 OK\r\n\r\n{}")) as server:
        assert answered(transport.send(post(server.url), timeout=5)).body == b"{}"


def test_a_body_in_chunks(transport: HttpTransport) -> None:
    chunks = b"1\r\n{\r\n1;ext=1\r\n}\r\n0\r\nX-Trailer: 1\r\n\r\n"
    with Server(answering(HTTP + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)) as server:
        response = answered(transport.send(post(server.url), timeout=5))
    assert response.body == b"{}"
    assert response.header("x-trailer") is None


def endless(start: bytes, part: bytes) -> Callable[[Peer], None]:
    """Return a behaviour that never stops sending."""

    def behave(peer: Peer) -> None:
        peer.send(start)
        while True:
            peer.send(part)

    return behave


BOMB = gzip.compress(b"\0" * 10_000_000)
TOO_LARGE = {
    "announced": answering(HTTP + b"Content-Length: 100000000\r\n\r\n"),
    "one byte over": answering(answer(body=b"x" * 1025)),
    "one byte over, in chunks": answering(
        HTTP + b"Transfer-Encoding: chunked\r\n\r\n401\r\n" + b"x" * 1025 + b"\r\n0\r\n\r\n"
    ),
    "endless chunks": endless(HTTP + b"Transfer-Encoding: chunked\r\n\r\n", b"400\r\n" + b"x" * 1024 + b"\r\n"),
    "endless chunks of one byte": endless(HTTP + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000),
    "endless until closed": endless(b"HTTP/1.0 200 OK\r\n\r\n", b"x" * 4096),
    "gzip bomb": answering(answer("200 OK", BOMB, "Content-Encoding: gzip")),
    "gzip in gzip": answering(answer("200 OK", gzip.compress(BOMB), "Content-Encoding: gzip, gzip")),
    "coding in two fields": answering(answer("200 OK", b"x", "Content-Encoding: identity", "Content-Encoding: br")),
    "unknown coding": answering(answer("200 OK", b"x", "Content-Encoding: zstd")),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_an_answer_that_is_too_large(transport: HttpTransport, case: str) -> None:
    with Server(TOO_LARGE[case]) as server:
        failed(transport.send(post(server.url, max_bytes=1024), timeout=5), "too_large")


def test_chunk_overhead_counts_too(transport: HttpTransport) -> None:
    line = b"1;" + b"e" * 8000 + b"\r\nx\r\n"
    with Server(endless(HTTP + b"Transfer-Encoding: chunked\r\n\r\n", line)) as server:
        failure = failed(transport.send(post(server.url, max_bytes=1024), timeout=5), "too_large")
    assert "on the wire" in failure.detail


def test_the_number_of_chunks_is_bounded(transport: HttpTransport) -> None:
    """Chunks of one byte cost a thousand times what they carry."""
    with Server(endless(HTTP + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000)) as server:
        failure = failed(transport.send(post(server.url), timeout=20), "too_large")
    assert "pieces" in failure.detail


def test_a_body_of_exactly_the_limit(transport: HttpTransport) -> None:
    with Server(answering(answer("200 OK", b"x" * 1024, "Content-Encoding: identity"))) as server:
        assert len(answered(transport.send(post(server.url, max_bytes=1024), timeout=5)).body) == 1024


SLOW: dict[str, Callable[[Peer], None]] = {
    "never answers": black_hole,
    "drips the head": lambda peer: peer.drip((b"%c" % byte for byte in answer()), 0.05),
    "drips the body": lambda peer: peer.drip([HTTP + b"Content-Length: 900\r\n\r\n", *[b"x"] * 900], 0.05),
    "drips chunks": lambda peer: peer.drip(
        [HTTP + b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 900], 0.05
    ),
    "drips interim responses": lambda peer: peer.drip(
        (b"%c" % byte for byte in b"HTTP/1.1 100 Continue\r\n\r\n" * 9), 0.05
    ),
}


@pytest.mark.parametrize("case", SLOW)
def test_the_deadline_is_one_for_everything(transport: HttpTransport, case: str) -> None:
    with Server(SLOW[case]) as server:
        started = time.monotonic()
        failed(transport.send(post(server.url), timeout=0.3), "deadline")
        took = time.monotonic() - started
    assert 0.3 <= took < 1.5


def test_a_request_that_is_not_read_meets_the_deadline(transport: HttpTransport) -> None:
    over = threading.Event()
    with Server(lambda _peer: over.wait(20), read=False) as server:
        request = Request("POST", server.url, FORM, b"x" * 50_000_000)
        failed(transport.send(request, timeout=0.3), "deadline")
        over.set()


def test_an_early_answer_to_a_request_that_is_cut_off(transport: HttpTransport) -> None:
    def refuse(peer: Peer) -> None:
        peer.send(answer("413 Content Too Large", b""))
        peer.sock.shutdown(1)
        peer.gone()

    with Server(refuse, read=False) as server:
        request = Request("POST", server.url, FORM, b"x" * 5_000_000)
        assert answered(transport.send(request, timeout=5)).status == 413


def test_no_time_at_all(transport: HttpTransport) -> None:
    failed(transport.send(post("http://127.0.0.1:9/"), timeout=0), "deadline")
    failed(transport.send(post("http://127.0.0.1:9/"), timeout=-1), "deadline")
    with pytest.raises(ValueError, match="finite"):
        transport.send(post("http://127.0.0.1:9/"), timeout=float("nan"))


@pytest.mark.parametrize(
    "url",
    ["ftp://a.example/", "https:///x", "https://u:p@a.example/", "https://a.example/a b", "https://a.example\\@b/"],
)
def test_a_url_that_was_not_validated(transport: HttpTransport, url: str) -> None:
    with pytest.raises(ValueError, match="absolute http or https URL"):
        transport.send(Request("GET", url), timeout=1)


@pytest.mark.parametrize(
    "name_value", [("A B", "x"), ("A", "x\r\nB: y"), ("A", "x\0"), ("A", "é"), ("A", " x"), ("", "x")]
)
def test_a_field_that_would_inject(transport: HttpTransport, name_value: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="header field 1 of the request") as caught:
        transport.send(Request("GET", "http://127.0.0.1:9/", (name_value,)), timeout=1)
    assert repr(name_value[1]) not in str(caught.value)


class Canned:
    """A stream that holds a recorded answer, cut into pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = iter(pieces)

    def read(self, deadline: Deadline) -> bytes:
        """Return the next piece."""
        deadline.left()
        return next(self._pieces, b"")

    def write(self, data: bytes, deadline: Deadline) -> None:
        """Accept everything."""
        assert data
        deadline.left()


TOKENS = st.sampled_from([
    b"HTTP/1.1 ", b"200 OK", b"100 ", b"204 ", b"\r\n", b"\n", b"Content-Length: ", b"Transfer-Encoding: chunked",
    b"Content-Encoding: gzip", b"0", b"5", b"ffffffffffffffff", b":", b" ", b"\0", b"x" * 3000,
])  # fmt: skip


@given(st.lists(st.one_of(TOKENS, st.binary(max_size=8)), max_size=40))
def test_any_bytes_are_an_answer_or_a_failure(pieces: list[bytes]) -> None:
    request = Request("GET", "http://idp.test/", max_bytes=1024)
    outgoing = encode(request, parse_target(request.url), user_agent="accredit", proxy=None)
    body, kind = b"", "read"
    try:
        body = exchange(Canned([p for p in pieces if p]), outgoing, max_bytes=1024, deadline=Deadline(60)).body
    except Abort as abort:
        kind = abort.failure.kind
    assert kind in {"read", "too_large"}
    assert len(body) <= 1024


class Broken(Canned):
    """A stream that takes no request, never looks at the clock, and still has an answer."""

    def write(self, data: bytes, deadline: Deadline) -> None:
        raise BrokenPipeError

    def read(self, deadline: Deadline) -> bytes:
        return next(self._pieces, b"")


def test_an_answer_that_came_before_the_request_was_taken() -> None:
    request = Request("GET", "http://idp.test/")
    outgoing = encode(request, parse_target(request.url), user_agent="accredit", proxy=None)
    stream = Broken([answer("503 Busy")])
    assert exchange(stream, outgoing, max_bytes=1024, deadline=Deadline(60)).status == 503


def test_the_deadline_counts_between_reads_too() -> None:
    request = Request("GET", "http://idp.test/")
    outgoing = encode(request, parse_target(request.url), user_agent="accredit", proxy=None)
    chunks = [HTTP + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1000]
    with pytest.raises(TimeoutError):
        exchange(Broken(chunks), outgoing, max_bytes=1024, deadline=Deadline(0))
