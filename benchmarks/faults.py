"""How many faulty token responses are refused, and how many odd but right ones are taken."""

import asyncio
import contextlib
import gc
import itertools
import socketserver
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from benchmarks import others
from benchmarks.clients import TASKS, THREADS
from benchmarks.fault_cases import GROUPS, LIMIT, Case
from benchmarks.model import Aim, Effort, Row, Section

_SIDE_BY_SIDE = 4


def run(effort: Effort) -> list[Section]:
    groups = {group: cases[:: effort.of(1, 4)] for group, cases in GROUPS.items()}
    count = sum(map(len, groups.values()))
    section = Section(
        "faults",
        "Faulty token responses",
        f"{count} answers of a token endpoint: odd but right ones, whose token has to reach the API unchanged, and"
        f" faulty ones, after which the call has to end with an error, unsent, within {LIMIT:.0f} s, and without the"
        " secret going to another host. Each cell counts those that went so. The list is the project's own, made from"
        " RFC 6749, 6750, 8259 and 9110 and from what servers and proxies do; it is in `benchmarks/fault_cases.py`,"
        " and what went wrong with each is in the file for machines. All have their default time-outs.",
        {"right": f"of {count}", **{group: f"of {len(cases)}" for group, cases in groups.items()}},
        missing=others.missing(*others.MODULES),
    )
    subjects: dict[str, Callable[[str, str], None]] = {name: _calling(make) for name, make in THREADS.items()}
    subjects.update(
        {f"{name}, async": _calling_async(TASKS[name]) for name in ("accredit, aiohttp", "aiohttp-oauth2-client")}
    )
    warnings.simplefilter("ignore", ResourceWarning)
    present = {name: call for name, call in subjects.items() if name.removesuffix(", async") not in section.missing}
    # Most of the time goes by in waiting for those that hang, so the subjects take their turns side by side.
    with _Server() as server, ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        section.rows += pool.map(lambda name: _row(server, name, present[name], groups), present)
    for row in section.rows:
        if row.subject.startswith("accredit"):
            what = f"faulty token responses handled wrong, {row.subject}"
            section.aims.append(Aim(what, 0, len(row.details), "cases"))
    gc.collect()
    return [section]


def _row(server: "_Server", name: str, call: Callable[[str, str], None], groups: Mapping[str, Sequence[Case]]) -> Row:
    row = Row(name, {"right": 0})
    for group, cases in groups.items():
        found = {case.name: how for case in cases if (how := server.judge(case, call))}
        row.cells[group] = len(cases) - len(found)
        row.details.update(found)
    row.cells["right"] = sum(map(len, groups.values())) - len(row.details)
    return row


def _calling(make: Callable[[str], Any]) -> Callable[[str, str], None]:
    def call(token_url: str, api_url: str) -> None:
        with make(token_url) as client:
            client(api_url)

    return call


def _calling_async(make: Callable[[str], Any]) -> Callable[[str, str], None]:
    async def call(token_url: str, api_url: str) -> None:
        async with make(token_url) as client:
            await client(api_url)

    return lambda token_url, api_url: asyncio.run(call(token_url, api_url))


class _Server:
    """Token endpoint, API and another host on loopback. Every case has a path of its own, so that none disturbs."""

    def __init__(self) -> None:
        self._case: dict[str, Case] = {}
        self._api: dict[str, list[str]] = {}
        self._leaked: set[str] = set()
        self._keys = itertools.count(1)
        self._server = _listening(self._answer)
        self._other = _listening(self._other_host)

    def judge(self, case: Case, call: Callable[[str, str], None]) -> str:
        """Let a subject meet a case; return what went wrong, or nothing."""
        key = str(next(self._keys))
        self._case[key] = case
        self._api[key] = []
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        raised: list[BaseException] = []

        def meet() -> None:
            try:
                call(f"{url}/token/{key}", f"{url}/api/{key}")
            except Exception as error:
                raised.append(error)

        thread = threading.Thread(target=meet, daemon=True)
        thread.start()
        thread.join(LIMIT)
        if thread.is_alive():
            return f"no end within {LIMIT:.0f} s"
        if key in self._leaked:
            return "secret sent to another host"
        sent = self._api[key]
        if case.good:
            return "" if sent == [f"Bearer {case.token}"] else "refused" if not sent else "another token"
        if sent:
            return "called with the token" if sent[0] else "called without a token"
        return "" if raised else "no error"

    def _answer(self, connection: Any, head: bytes, body: bytes) -> None:
        del body
        path = head.split(b" ", 2)[1].decode("latin-1")
        kind, _, key = path.strip("/").partition("/")
        if kind == "token":
            other = f"http://127.0.0.1:{self._other.server_address[1]}/{key}"
            self._case[key].respond(connection, other)
            return
        self._api[key].append(_authorization(head))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

    def _other_host(self, connection: Any, head: bytes, body: bytes) -> None:
        key = head.split(b" ", 2)[1].decode("latin-1").strip("/")
        if b"a-secret-of-the-benchmark" in body or b"authorization: basic" in head.lower():
            self._leaked.add(key)
        connection.sendall(self._case[key].answer_of_other)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self._server, self._other):
            server.shutdown()
            server.server_close()


def _authorization(head: bytes) -> str:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"authorization":
            return value.removeprefix(b" ").decode("latin-1")
    return ""


def _listening(answer: Callable[[Any, bytes, bytes], None]) -> socketserver.ThreadingTCPServer:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                head = b""
                while line := self.rfile.readline():
                    head += line
                    if line == b"\r\n":
                        break
                if head:
                    fields = head.lower().split(b"\r\n")
                    length = next((int(part[15:]) for part in fields if part.startswith(b"content-length:")), 0)
                    answer(self.connection, head, self.rfile.read(length))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
