"""Name resolution, addresses, connecting, many threads, closing and forking."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from accredit.core.messages import Request, Response
from accredit.transport import HttpTransport, TransportSettings
from accredit.transport.network import Abort, Deadline, is_blocked
from accredit.transport.resolver import MOST_THREADS, Resolver
from tests.transport.hostile import Peer, Server, answer, answering, black_hole
from tests.transport.test_answers import answered, failed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def get(url: str) -> Request:
    """Return a plain request."""
    return Request("GET", url)


@pytest.fixture
def refused_port() -> Iterator[int]:
    """Return a port that is taken but does not listen."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def test_refused(transport: HttpTransport, refused_port: int) -> None:
    assert "refused" in failed(transport.send(get(f"http://127.0.0.1:{refused_port}/"), timeout=5), "connect").detail


@pytest.fixture
def full_port() -> Iterator[int]:
    """Return a port whose queue of connections is full, so that the next one is never answered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        try:
            for _ in range(20):
                sock = socket.socket()
                waiting.append(sock)
                sock.settimeout(0.1)
                try:
                    sock.connect(listener.getsockname())
                except TimeoutError:
                    break
            else:
                pytest.skip("this system accepts more connections than the queue holds")
            yield listener.getsockname()[1]
        finally:
            for sock in waiting:
                sock.close()


def test_a_connection_that_is_never_answered_costs_the_connect_timeout(full_port: int) -> None:
    transport = HttpTransport(TransportSettings(connect_timeout=0.2))
    started = time.monotonic()
    failed(transport.send(get(f"http://127.0.0.1:{full_port}/"), timeout=20), "connect")
    assert time.monotonic() - started < 5


def test_a_connection_that_is_never_answered_meets_the_deadline(full_port: int) -> None:
    failed(HttpTransport().send(get(f"http://127.0.0.1:{full_port}/"), timeout=0.2), "deadline")


def test_the_next_address_is_tried() -> None:
    with Server(answering(answer())) as server:
        transport = HttpTransport(TransportSettings(resolve=lambda _host, _port: ["127.0.0.2", "127.0.0.1"]))
        assert answered(transport.send(get(f"http://idp.test:{server.port}/"), timeout=5)).status == 200
        assert f"Host: idp.test:{server.port}".encode() in server.requests[0]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8 without set-up")
def test_a_black_hole_in_front_does_not_eat_the_deadline(full_port: int) -> None:
    with Server(answering(answer()), address=("127.0.0.2", full_port)):
        transport = HttpTransport(TransportSettings(resolve=lambda _host, _port: ["127.0.0.1", "127.0.0.2"]))
        assert answered(transport.send(get(f"http://idp.test:{full_port}/"), timeout=1)).status == 200


LINK_LOCAL = [
    "169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%1", "febf::1", "::ffff:169.254.169.254", "::169.254.169.254",
    "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::1",
]  # fmt: skip


@pytest.mark.parametrize("address", LINK_LOCAL)
def test_link_local_is_never_contacted(address: str) -> None:
    assert is_blocked(address)
    transport = HttpTransport(TransportSettings(resolve=lambda _host, _port: [address]))
    failed(transport.send(get("http://idp.test/"), timeout=5), "blocked")
    if "%" not in address:
        literal = f"[{address}]" if ":" in address else address
        failed(transport.send(get(f"http://{literal}/latest/meta-data"), timeout=5), "blocked")


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "192.168.1.1", "fd00::1", "::1", "169.253.0.1", "1.1.1.1"]
)
def test_other_addresses_may_be(address: str) -> None:
    assert not is_blocked(address)


def test_only_the_vetted_addresses_of_a_mixture_are_used() -> None:
    with Server(answering(answer())) as server:
        transport = HttpTransport(TransportSettings(resolve=lambda _host, _port: ["169.254.169.254", "127.0.0.1"]))
        assert answered(transport.send(get(f"http://idp.test:{server.port}/"), timeout=5)).status == 200


def test_the_resolved_address_is_the_one_connected_to() -> None:
    """A name that changes between two look-ups (rebinding) is looked up once only."""
    answers = [["127.0.0.1"], ["169.254.169.254"]]
    with Server(answering(answer())) as server:
        transport = HttpTransport(TransportSettings(resolve=lambda _host, _port: answers.pop(0)))
        assert answered(transport.send(get(f"http://idp.test:{server.port}/"), timeout=5)).status == 200
    assert len(answers) == 1


@pytest.mark.parametrize("error", [OSError(), UnicodeError("x"), RuntimeError("x"), None])
def test_a_name_that_does_not_resolve(error: Exception | None) -> None:
    def resolve(_host: str, _port: int) -> Sequence[str]:
        if error is not None:
            raise error
        return ["not an address"]

    transport = HttpTransport(TransportSettings(resolve=resolve))
    failed(transport.send(get("http://idp.test/"), timeout=5), "resolve")


def test_the_system_resolver() -> None:
    with Server(answering(answer())) as server:
        transport = HttpTransport()
        assert answered(transport.send(get(f"http://localhost:{server.port}/"), timeout=5)).status == 200
        failed(transport.send(get(f"http://{'a' * 70}.example/"), timeout=5), "resolve")


class StuckResolver:
    """Answers for nobody until it is released."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.calls: list[str] = []

    def __call__(self, host: str, _port: int) -> Sequence[str]:
        """Block."""
        self.calls.append(host)
        assert self.release.wait(30)
        return ["127.0.0.1"]


@pytest.fixture
def stuck() -> Iterator[StuckResolver]:
    """Return a resolver that is stuck until the end of the test."""
    resolver = StuckResolver()
    yield resolver
    resolver.release.set()


def test_a_stuck_resolver_meets_the_deadline(stuck: StuckResolver) -> None:
    transport = HttpTransport(TransportSettings(resolve=stuck))
    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda _: transport.send(get("http://idp.test/"), timeout=0.3), range(8)))
    assert time.monotonic() - started < 3
    assert {failed(outcome, "deadline").kind for outcome in outcomes} == {"deadline"}
    assert stuck.calls == ["idp.test"]  # one question for all eight


def test_stuck_lookups_hold_a_bounded_number_of_threads(stuck: StuckResolver) -> None:
    resolver = Resolver(stuck)
    hosts = [f"h{n}.test" for n in range(3 * MOST_THREADS)]

    def ask(host: str) -> str:
        try:
            resolver.addresses(host, 443, Deadline(0.3))
        except TimeoutError:
            return "late"
        return "answered"

    with ThreadPoolExecutor(len(hosts)) as pool:
        assert set(pool.map(ask, hosts)) == {"late"}
    assert len(stuck.calls) == MOST_THREADS
    assert len(resolver._lookups) == MOST_THREADS  # those that nobody waits for any more were dropped from the queue
    stuck.release.set()
    assert resolver.addresses("later.test", 443, Deadline(10)) == ("127.0.0.1",)


def test_a_resolver_answers_all_who_asked_together(stuck: StuckResolver) -> None:
    resolver = Resolver(stuck)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(resolver.addresses, "idp.test", 443, Deadline(10)) for _ in range(4)]
        while sum(len(lookup.waiters) for lookup in list(resolver._lookups.values())) < 4:
            assert not any(future.done() for future in futures)
        stuck.release.set()
        assert {future.result() for future in futures} == {("127.0.0.1",)}
    assert stuck.calls == ["idp.test"]


def test_a_lookup_that_failed_is_not_remembered() -> None:
    answers: list[list[str]] = [[], ["127.0.0.1"]]
    resolver = Resolver(lambda _host, _port: answers.pop(0))
    with pytest.raises(Abort):
        resolver.addresses("idp.test", 443, Deadline(5))
    assert resolver.addresses("idp.test", 443, Deadline(5)) == ("127.0.0.1",)


def test_many_threads_at_once(transport: HttpTransport) -> None:
    def echo(peer: Peer) -> None:
        peer.send(answer(body=peer.request.split(b" ")[1]))

    with Server(echo) as server, ThreadPoolExecutor(32) as pool:
        urls = [f"http://h{n % 5}.test:{server.port}/{n}" for n in range(128)]
        outcomes = list(pool.map(lambda url: transport.send(get(url), timeout=20), urls))
        assert [answered(outcome).body for outcome in outcomes] == [f"/{n}".encode() for n in range(128)]
        assert server.connections == 128


def test_close_interrupts_what_is_under_way(transport: HttpTransport) -> None:
    arrived = threading.Event()

    def behave(peer: Peer) -> None:
        arrived.set()
        black_hole(peer)

    with Server(behave) as server, ThreadPoolExecutor(1) as pool:
        future = pool.submit(transport.send, get(server.url), timeout=20)
        assert arrived.wait(5)
        transport.close()
        assert "closed" in failed(future.result(5), "connect").detail
        transport.close()
        assert "closed" in failed(transport.send(get(server.url), timeout=5), "connect").detail
        assert server.connections == 1


def test_close_before_the_first_request() -> None:
    transport = HttpTransport()
    transport.close()
    failed(transport.send(get("http://127.0.0.1:9/"), timeout=1), "connect")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("told", [True, False])
def test_fork_in_the_middle_of_requests(stuck: StuckResolver, told: bool) -> None:
    """One parent thread waits for a name, one for an answer, and the locks are taken; the child starts afresh."""
    arrived, go_on = threading.Event(), threading.Event()

    def behave(peer: Peer) -> None:
        if b"/wait" in peer.request:
            arrived.set()
            assert go_on.wait(20)
        peer.send(answer(body=b"parent and child"))

    parent = os.getpid()

    def resolve(host: str, port: int) -> Sequence[str]:
        return stuck(host, port) if host == "stuck.test" and os.getpid() == parent else ["127.0.0.1"]

    transport = HttpTransport(TransportSettings(resolve=resolve))
    with Server(behave) as server, ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(transport.send, get(f"http://idp.test:{server.port}/wait"), timeout=20)
        resolving = pool.submit(transport.send, get(f"http://stuck.test:{server.port}/"), timeout=20)
        assert arrived.wait(5)
        with transport._lock:
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    if told:
                        transport.after_fork()
                    outcome = transport.send(get(f"http://stuck.test:{server.port}/"), timeout=10)
                    transport.close()
                    status = 0 if isinstance(outcome, Response) and outcome.body == b"parent and child" else 2
                finally:
                    os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        go_on.set()
        stuck.release.set()
        assert answered(waiting.result(10)).body == b"parent and child"
        assert answered(resolving.result(10)).body == b"parent and child"
    transport.close()
