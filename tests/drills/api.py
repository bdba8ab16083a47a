"""A protected API in a process of its own, which outlives the authorization server whose tokens it verifies.

``python -m tests.drills.api TOKEN_SERVER AUDIENCE`` prints its port and serves until its standard input closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from types import TracebackType
from typing import Any, Self

from accredit.core.access_token import AccessTokenPolicy, verify_access_token
from accredit.core.jwks import JwksPolicy, KeySet, parse_jwks
from accredit.errors import InvalidTokenError

_REASONS = {200: "OK", 401: "Unauthorized", 404: "Not Found"}
_START_SECONDS = 60.0
# This API and its authorization server have the same clock, and an expired token is to be noticed.
_LEEWAY = 0.0


class ApiProcess:
    """The API as a child process: ``with ApiProcess(issuer, audience) as api: ...``."""

    def __init__(self, issuer: str, audience: str) -> None:
        self._command = [sys.executable, "-m", "tests.drills.api", issuer, audience]
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __enter__(self) -> Self:
        self._child = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._child.stdout is not None
        port = self._child.stdout.readline().strip()
        assert port, "the API did not start"
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        self._child.wait(_START_SECONDS)
        self._child.stdout.close()

    def advance_clock(self, seconds: float) -> None:
        """Move the API's clock."""
        self._ask(f"/advance/{seconds}")

    def counts(self) -> Counter[str]:
        """Return how its calls ended: ``served``, ``without`` a token, or the reason of a refusal."""
        return Counter(self._ask("/counts"))

    def _ask(self, path: str) -> Any:
        with self._opener.open(self.url + path, timeout=_START_SECONDS) as answer:
            return json.load(answer)


class _Api:
    def __init__(self, issuer: str, audience: str) -> None:
        self._issuer = issuer
        self._policy = AccessTokenPolicy(issuer=issuer, audience=(audience,), leeway=_LEEWAY)
        self._keys: KeySet | None = None
        self._fetched_at = 0.0
        self._offset = 0.0
        self._counts: Counter[str] = Counter()

    async def answer(self, path: str, authorization: str) -> tuple[int, object]:
        if path.startswith("/advance/"):
            self._offset += float(path.removeprefix("/advance/"))
            return 200, None
        if path == "/counts":
            return 200, self._counts
        if path != "/orders":
            return 404, None
        verdict = await self._judge(authorization.removeprefix("Bearer "))
        self._counts[verdict] += 1
        return (200, {"orders": ["espresso"]}) if verdict == "served" else (401, {"error": verdict})

    async def _judge(self, token: str) -> str:
        if not token:
            return "without"
        for attempt in range(2):
            now = time.time() + self._offset
            try:
                verify_access_token(token, self._keys or KeySet(()), self._policy, now=now)
            except InvalidTokenError as error:
                may = JwksPolicy(cool_down=0.0).may_fetch_for_unknown_key(last_attempt=self._fetched_at, now=now)
                if attempt or error.reason != "unknown_key" or not may:
                    return error.reason
                # A server that was started anew has another key.
                self._keys, self._fetched_at = await asyncio.to_thread(self._fetch), now
            else:
                return "served"
        return "unknown_key"

    def _fetch(self) -> KeySet:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self._issuer}/jwks", timeout=_START_SECONDS) as answer:
            return parse_jwks(answer.read())


async def _serve(issuer: str, audience: str) -> None:
    api = _Api(issuer, audience)

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                status, content = await api.answer(head[0].split(" ")[1], fields.get("authorization", ""))
                body = json.dumps(content).encode()
                lines = [f"HTTP/1.1 {status} {_REASONS[status]}", "Content-Type: application/json"]
                if status == 401:
                    lines.append('WWW-Authenticate: Bearer error="invalid_token"')
                lines += [f"Content-Length: {len(body)}", "", ""]
                writer.write("\r\n".join(lines).encode() + body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    # The end of standard input is the end of whoever started this.
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
