"""A loopback server for the benchmarks: token endpoint and API in one, in a process of its own, counting requests.

Written on plain asyncio streams, so that it is quick and that the benchmarks can make it do wrong things.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from benchmarks.fake import token_response, token_value

_REASONS = {200: "OK", 204: "No Content", 401: "Unauthorized", 404: "Not Found", 500: "Internal Server Error"}


class BenchServer:
    """Starts the server in another process, and steers it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        self.token_url = f"{self.url}/token"
        self.api_url = f"{self.url}/api"

    def set(self, **settings: object) -> None:
        """Set any of: latency (seconds), expires_in, status (of the token endpoint), revoke (all tokens so far)."""
        self._ask("/control", settings)

    def counts(self) -> dict[str, int]:
        """Return and reset the counts."""
        found: dict[str, int] = json.loads(self._ask("/counts", {}))
        return found

    def _ask(self, path: str, settings: dict[str, object]) -> bytes:
        query = "&".join(f"{name}={value}" for name, value in settings.items())
        with urllib.request.urlopen(f"{self.url}{path}?{query}", timeout=10) as answer:
            body: bytes = answer.read()
            return body

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


@dataclass
class _State:
    latency: float = 0.0
    expires_in: int = 3600
    status: int = 200
    issued: int = 0
    valid_from: int = 1
    counts: dict[str, int] = field(default_factory=lambda: {"token": 0, "api": 0, "without": 0, "refused": 0})

    async def answer(self, path: str, query: dict[str, Any], authorization: str) -> tuple[int, dict[str, str], bytes]:
        if path == "/token":
            return await self._token()
        if path == "/api":
            return self._api(authorization)
        if path == "/control":
            for name in ("latency", "expires_in", "status"):
                if name in query:
                    setattr(self, name, type(getattr(self, name))(query[name][0]))
            if "revoke" in query:
                self.valid_from = self.issued + 1
            return 204, {}, b""
        if path == "/counts":
            counts, self.counts = self.counts, dict.fromkeys(self.counts, 0)
            return 200, {"Content-Type": "application/json"}, json.dumps(counts).encode()
        return 404, {}, b""

    async def _token(self) -> tuple[int, dict[str, str], bytes]:
        self.counts["token"] += 1
        await asyncio.sleep(self.latency)
        if self.status == 401:
            return 401, {"Content-Type": "application/json"}, b'{"error":"invalid_client"}'
        if self.status != 200:
            return self.status, {"Content-Type": "text/plain"}, b"failed"
        self.issued += 1
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        return 200, headers, token_response(self.issued, self.expires_in)

    def _api(self, authorization: str) -> tuple[int, dict[str, str], bytes]:
        self.counts["api"] += 1
        token = authorization.removeprefix("Bearer ")
        if not token:
            self.counts["without"] += 1
        good = token[:8].isdigit() and token == token_value(int(token[:8])) and int(token[:8]) >= self.valid_from
        if good:
            return 200, {"Content-Type": "application/json"}, b'{"orders":[]}'
        self.counts["refused"] += 1
        return 401, {"WWW-Authenticate": 'Bearer error="invalid_token"'}, b""


async def _serve() -> None:
    state = _State()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while head := await _head(reader):
                await _answer(state, head, reader, writer)
        writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The end of standard input is the end of the program that started this one.
    await asyncio.to_thread(sys.stdin.read)


async def _head(reader: asyncio.StreamReader) -> list[str]:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return []
    return head.decode("latin-1").split("\r\n")


async def _answer(state: _State, head: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    await reader.readexactly(int(fields.get("content-length", "0")))
    parts = urlsplit(head[0].split(" ")[1])
    status, headers, body = await state.answer(parts.path, parse_qs(parts.query), fields.get("authorization", ""))
    headers["Content-Length"] = str(len(body))
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await writer.drain()


if __name__ == "__main__":
    asyncio.run(_serve())
