"""The processes of a fleet. Each reads commands as JSON lines from a socket and answers with one JSON line.

``python -m tests.stores.fleet_worker`` is started by :mod:`tests.stores.fleet`, and ends with its stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

from accredit import AsyncTokenManager, ClientRegistration, ClientSecretBasic, TokenManager
from accredit.core.events import Event, StoreFailed, TokenObtained
from accredit.stores.envelope import Keyring
from accredit.stores.redis import RedisStore
from tests.runtime.support import JumpClock

PATIENCE = 60.0


class Worker:
    """A manager of its own, with a clock that can be moved ahead."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.clock = JumpClock()
        self.events: list[Event] = []
        store = RedisStore(
            settings["url"],
            timeout=settings["timeout"],
            prefix=settings["prefix"],
            keyring=Keyring(settings["key"]) if settings.get("key") else None,
        )
        registration = ClientRegistration(
            id="api-client",
            token_endpoint=settings["token_endpoint"],
            client_id="api-client",
            client_auth=ClientSecretBasic(settings["secret"]),
            deadline=settings["deadline"],
        )
        self.manager = TokenManager(
            registration, store=store, clock=self.clock if settings["jumps"] else None, on_event=self.events.append
        )
        self.face: AsyncTokenManager = self.manager.asynchronous()

    def get(self, tasks: int) -> dict[str, Any]:
        """Get a token in so many tasks at once."""

        async def gather() -> list[Any]:
            return await asyncio.gather(*(self.face.get() for _ in range(tasks)), return_exceptions=True)

        results = asyncio.run(gather())
        tokens = [result for result in results if not isinstance(result, BaseException)]
        return {
            "got": len(tokens),
            "tokens": sorted({hashlib.sha256(token.value.encode()).hexdigest()[:16] for token in tokens}),
            "numbers": sorted({token.generation >> 32 for token in tokens}),
            "errors": sorted({str(result) for result in results if isinstance(result, BaseException)}),
        }

    def renew(self, tasks: int, after: int) -> dict[str, Any]:
        """Let the token become renewable and call on until a token after number ``after`` is there."""
        until = time.monotonic() + PATIENCE
        while True:
            token = self.manager.get()
            if token.generation >> 32 <= after and self.clock.now() < token.renew_at:
                self.clock.make_renewable(token)
            answer = self.get(tasks)
            tasks = 1
            if answer["errors"] or answer["numbers"][0] > after or time.monotonic() > until:
                return answer
            threading.Event().wait(0.005)

    def call_for(self, seconds: float, pause: float) -> dict[str, Any]:
        """Call for so long, as a service does; tokens are real and short-lived."""
        until = time.monotonic() + seconds
        errors: set[str] = set()
        numbers: set[int] = set()
        calls = 0
        while time.monotonic() < until:
            answer = self.get(3)
            errors |= set(answer["errors"])
            numbers |= set(answer["numbers"])
            calls += 3
            threading.Event().wait(pause)
        return {"got": calls, "numbers": sorted(numbers), "errors": sorted(errors), "tokens": []}

    def seen(self) -> dict[str, Any]:
        """Tell what the hooks were told."""
        obtained = [event.source for event in self.events if isinstance(event, TokenObtained)]
        failed = [f"{event.operation} {event.kind}" for event in self.events if isinstance(event, StoreFailed)]
        return {"server": obtained.count("server"), "store": obtained.count("store"), "failed": failed}


def serve(channel: socket.socket, settings: dict[str, Any]) -> None:
    """Be one process of the fleet until the other side hangs up."""
    worker = Worker(settings)
    with channel.makefile("rw", encoding="utf-8") as lines:
        lines.write(json.dumps({"ready": True}) + "\n")
        lines.flush()
        for line in lines:
            command = json.loads(line)
            answer = getattr(worker, command.pop("do"))(**command)
            lines.write(json.dumps(answer) + "\n")
            lines.flush()


def main() -> None:
    """Fork a process for each descriptor that stdin names, so that what takes long to import is imported once."""
    children = []
    for descriptor, settings in json.loads(sys.stdin.readline()):
        child = os.fork()
        if child == 0:
            with socket.socket(fileno=descriptor) as channel:
                serve(channel, settings)
            os._exit(0)
        os.close(descriptor)
        children.append(child)
    sys.stdin.read()
    for child in children:
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
