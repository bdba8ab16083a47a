"""A fleet of real processes that share a store and a development server, which counts their token requests.

``python -m tests.stores.fleet --help`` runs it for longer than the tests do: real short-lived tokens, many renewals.
"""

from __future__ import annotations

import argparse
import json
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TextIO

from accredit.devserver import DevServer
from tests.servers.redis import Server

TASKS = 50
PROCESSES = 8
SECRET = "dev-secret"
Answers = list[dict[str, Any]]


class Fleet:
    """So many processes, told what to do at the same moment."""

    def __init__(self, channels: Sequence[TextIO]) -> None:
        self._channels = channels

    def send(self, do: str, only: int | None = None, **arguments: Any) -> None:
        """Tell all, or one, to do something; :meth:`answers` waits for it."""
        line = json.dumps({"do": do, **arguments}) + "\n"
        for channel in self._channels if only is None else [self._channels[only]]:
            channel.write(line)
            channel.flush()

    def answers(self, only: int | None = None) -> Answers:
        """Return what each answered."""
        found = []
        for channel in self._channels if only is None else [self._channels[only]]:
            line = channel.readline()
            assert line, "a process of the fleet died"
            found.append(json.loads(line))
        return found

    def all(self, do: str, **arguments: Any) -> Answers:
        """Tell all to do something and return what each answered."""
        self.send(do, **arguments)
        return self.answers()


@contextmanager
def start_fleet(
    url: str,
    server: DevServer,
    *,
    processes: int = PROCESSES,
    jumps: bool = True,
    timeout: float = 10.0,
    deadline: float = 60.0,
    key: str | None = None,
    own_secrets: list[str] | None = None,
) -> Iterator[Fleet]:
    """Start the processes; each has a prefix in common with the others of this fleet, and with nobody else.

    The time-outs are far above the defaults, since a machine that runs tests may stand still for a while.
    """
    prefix = f"fleet-{secrets.token_hex(4)}"
    with ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(processes)]
        settings = {
            "url": url,
            "timeout": timeout,
            "prefix": prefix,
            "token_endpoint": server.token_endpoint,
            "deadline": deadline,
            "jumps": jumps,
            "key": key,
        }
        mother = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "tests.stores.fleet_worker"],
                stdin=subprocess.PIPE,
                text=True,
                pass_fds=[theirs.fileno() for _, theirs in pairs],
            )
        )
        assert mother.stdin is not None
        orders = [
            (theirs.fileno(), {**settings, "secret": SECRET if own_secrets is None else own_secrets[number]})
            for number, (_, theirs) in enumerate(pairs)
        ]
        mother.stdin.write(json.dumps(orders) + "\n")
        mother.stdin.flush()
        channels = []
        for ours, theirs in pairs:
            theirs.close()
            stack.enter_context(ours)
            channels.append(stack.enter_context(ours.makefile("rw", encoding="utf-8")))
        fleet = Fleet(channels)
        fleet.answers()
        yield fleet


def check_agreement(answers: Answers, tasks: int = TASKS) -> int:
    """Assert that every task of every process got one and the same token; return its number."""
    for answer in answers:
        assert answer["errors"] == []
        assert answer["got"] in {tasks, 1}
    tokens = {token for answer in answers for token in answer["tokens"]}
    numbers = {number for answer in answers for number in answer["numbers"]}
    assert len(tokens) == len(numbers) == 1, (tokens, numbers)
    number: int = numbers.pop()
    return number


def main() -> int:
    """Run a fleet on real time, and print how many token requests there were per renewal."""
    parser = argparse.ArgumentParser(prog="python -m tests.stores.fleet", description=main.__doc__)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--lifetime", type=int, default=2, help="seconds that a token lives (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=90.0, help="how long to call (default %(default)s)")
    options = parser.parse_args()
    with Server("valkey") as store, DevServer() as server:
        server.set_token_lifetime(options.lifetime)
        with start_fleet(store.url, server, processes=options.processes, jumps=False) as fleet:
            answers = fleet.all("call_for", seconds=options.seconds, pause=0.01)
            seen = fleet.all("seen")
            requests = server.count("/token")
    renewals = len({number for answer in answers for number in answer["numbers"]})
    calls = sum(answer["got"] for answer in answers)
    errors = sorted({error for answer in answers for error in answer["errors"]})
    failures = sorted({what for one in seen for what in one["failed"]})
    sys.stdout.write(
        f"{options.processes} processes, {calls} calls, {renewals} tokens, {requests} token requests,"
        f" errors: {errors}, failures of the store: {failures}\n"
    )
    return 0 if requests == renewals and not errors else 1


if __name__ == "__main__":
    sys.exit(main())
