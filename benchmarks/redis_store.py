"""The Redis store: its verbs beside a plain GET and SET, and a fleet that starts cold."""

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.synchronize import Barrier
from queue import Empty
from typing import Any

from accredit import ClientRegistration, ClientSecretPost, TokenManager
from accredit.core.records import Record
from accredit.stores.codec import RecordCodec
from accredit.stores.redis import RedisStore
from accredit.testing.store_contract import make_identity
from benchmarks import measure, others
from benchmarks.clients import THREADS
from benchmarks.fake import token_value
from benchmarks.measure import Timed
from benchmarks.model import Aim, Effort, Row, Section
from benchmarks.server import BenchServer

_LATENCY = 0.05
_TASKS = 50
_PATIENCE = 120.0
_FLEETS = (1, 2, 4, 8, 16, 32, 64)
#: Of the alternatives, one of each kind; none has a store that processes share.
_ALONE = ("Authlib (requests)", "MSAL")


def run(effort: Effort) -> list[Section]:
    # Here, since a system without a server to measure against still has the other benchmarks.
    from tests.servers.redis import FLAVOURS, Server, executable

    sections = []
    for flavour in FLAVOURS:
        if executable(flavour) is not None:
            with Server(flavour) as server:
                sections.append(_verbs(effort, server.url, flavour))
    if executable("valkey") is not None and sys.platform != "win32":
        with Server("valkey") as server:
            sections += [_cold(effort, server.url), _fleets(effort, server.url)]
    return sections


# ---- verbs --------------------------------------------------------------------------------------------------


def _record(identity: Any, count: int = 1) -> Record:
    return Record(identity.encoded, token_value(count), 3600.0, time.time() + 3600.0, (1 << 32) | count)


def _wall(function: Callable[[], object]) -> Timed:
    def timed(number: int) -> float:
        laps = [None] * number
        start = time.perf_counter()
        for _ in laps:
            function()
        return (time.perf_counter() - start) / number

    return timed


def _verbs(effort: Effort, url: str, flavour: str) -> Section:
    import redis

    section = Section(
        f"redis verbs {flavour}",
        f"Verbs of the Redis store ({flavour})",
        "One round trip each, over loopback, wall time. Ratios, round by round, to a plain `GET` and `SET` with expiry"
        " of a value as long as the record, by redis-py's own client. A claim that is satisfied is what most processes"
        " of a fleet do once per renewal; a claim that leads and a publish are what one of them does. A third of a"
        " satisfied claim is spent on checking the record, field by field.",
        {"microseconds": "µs", "of GET": "", "of SET": ""},
    )
    store, identity = RedisStore(url, timeout=30.0), make_identity()
    other = make_identity()
    record = _record(identity)
    store.publish(identity, owner="a", record=record, remaining=3600.0, credential="", based_on=None)
    value = RecordCodec().encode(record, store_key="x")

    def claim() -> None:
        store.claim(identity, newer_than=None, credential="", owner="b", lease=5.0)

    def lead() -> None:
        store.claim(other, newer_than=None, credential="", owner="b", lease=5.0)

    def publish() -> None:
        # Not newer than what is there, and living longer, so it is written each time.
        store.publish(identity, owner="b", record=record, remaining=3600.0, credential="", based_on=1 << 62)

    with redis.Redis.from_url(url, socket_timeout=30.0) as client:
        client.set("plain", value)
        subjects = {
            "GET": _wall(lambda: client.get("plain")),
            "SET": _wall(lambda: client.set("plain", value, px=3_600_000)),
            "claim, satisfied": _wall(claim),
            "claim, lead": _wall(lead),
            "publish": _wall(publish),
        }
        samples = measure.interleaved(subjects, rounds=effort.of(40, 5), number=effort.of(200, 50))
    for name in ("claim, satisfied", "claim, lead", "publish", "GET", "SET"):
        cells: dict[str, Any] = {
            "microseconds": measure.scaled(samples[name], 1e6),
            "of GET": measure.interval(measure.over(samples[name], samples["GET"])),
            "of SET": measure.interval(measure.over(samples[name], samples["SET"])),
        }
        section.rows.append(Row(name, cells))
    for name, base in (("claim, satisfied", "of GET"), ("publish", "of SET")):
        row = next(row for row in section.rows if row.subject == name)
        section.aims.append(Aim(f"{name}, {base}, {flavour}", 4.0, row.cells[base].median, "times"))  # type: ignore[union-attr]
    store.close()
    return section


# ---- fleets -------------------------------------------------------------------------------------------------


def _registration(token_endpoint: str) -> ClientRegistration:
    return ClientRegistration(
        id="bench",
        client_id="bench",
        client_auth=ClientSecretPost("bench"),
        token_endpoint=token_endpoint,
        deadline=60.0,
    )


def _shares(url: str, prefix: str, token_url: str, barrier: Barrier, results: Any) -> None:
    """Be one process of a fleet: get a token in many tasks at once."""
    import asyncio

    store = RedisStore(url, timeout=30.0, prefix=prefix)
    face = TokenManager(_registration(token_url), store=store).asynchronous()

    async def one() -> float:
        start = time.perf_counter()
        await face.get()
        return time.perf_counter() - start

    async def all_of_them() -> list[float]:
        return await asyncio.gather(*(one() for _ in range(_TASKS)))

    barrier.wait(_PATIENCE)
    seconds = asyncio.run(all_of_them())
    led = any(slot.token is not None for slot in face._engine.slots.values())
    results.put((max(seconds), led))


def _alone(name: str, token_url: str, api_url: str, barrier: Barrier, results: Any) -> None:
    """Be one process that uses an alternative."""
    with THREADS[name](token_url) as call:
        barrier.wait(_PATIENCE)
        start = time.perf_counter()
        call(api_url)
        results.put((time.perf_counter() - start, True))


@contextmanager
def _processes(number: int, target: Any, *arguments: Any) -> Iterator[list[float]]:
    """Run so many processes that begin together; give what each took."""
    # Forked: 64 interpreters that import everything would take longer than what is measured.
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(number), context.Queue()
    running = [context.Process(target=target, args=(*arguments, barrier, results)) for _ in range(number)]
    for process in running:
        process.start()
    seconds: list[float] = []
    with suppress(Empty):
        seconds.extend(results.get(timeout=_PATIENCE)[0] for _ in running)
    yield seconds
    for process in running:
        process.join(_PATIENCE)


def _cold(effort: Effort, url: str) -> Section:
    repeats = effort.of(10, 2)
    section = Section(
        "redis cold start",
        "A fleet that starts cold",
        f"Eight processes with {_TASKS} tasks each want their first token at the same moment; the token endpoint takes"
        f" {_LATENCY * 1000:.0f} ms. Milliseconds until a process has the token in all its tasks, over {repeats} runs:"
        " the first of the eight (the one that asked, or the first to be told) and the last.",
        {"median": "ms", "worst": "ms"},
    )
    first, last, requests = [], [], 0
    with BenchServer() as server:
        for number in range(repeats):
            server.set(latency=_LATENCY)
            server.counts()
            with _processes(8, _shares, url, f"cold-{time.time_ns()}-{number}", server.token_url) as seconds:
                first.append(min(seconds) * 1000)
                last.append(max(seconds) * 1000)
            requests += server.counts()["token"]
    for name, samples in (("first process", first), ("last process", last)):
        section.rows.append(Row(name, {"median": statistics.median(samples), "worst": max(samples)}))
    late = [one - other for one, other in zip(last, first, strict=True)]
    section.rows.append(Row("last after first", {"median": statistics.median(late), "worst": max(late)}))
    section.aims.append(Aim("token requests per cold start of eight processes", 1.0, requests / repeats, "requests"))
    return section


def _fleets(effort: Effort, url: str) -> Section:
    sizes = _FLEETS if not effort.quick else (1, 8)
    section = Section(
        "redis fleets",
        "Token requests of a fleet",
        "So many processes want their first token at the same moment; requests that reached the server. No alternative"
        " has a store that processes share.",
        {str(size): "" for size in sizes},
        missing=[name for name in others.missing(*others.MODULES) if name in _ALONE],
    )
    shared, alone = Row("accredit, Redis store", {}), []
    with BenchServer() as server:
        server.set(latency=_LATENCY)
        for size in sizes:
            server.counts()
            with _processes(size, _shares, url, f"fleet-{time.time_ns()}", server.token_url):
                shared.cells[str(size)] = server.counts()["token"]
        for name in _ALONE:
            if name in section.missing or name not in THREADS:
                continue
            row = Row(name, {})
            for size in sizes:
                server.counts()
                with _processes(size, _alone, name, server.token_url, server.api_url):
                    row.cells[str(size)] = server.counts()["token"]
            alone.append(row)
    section.rows += [shared, *alone]
    most = max(int(value) for value in shared.cells.values())  # type: ignore[arg-type]
    section.aims.append(Aim(f"token requests of up to {sizes[-1]} processes", 1.0, most, "requests"))
    return section
