"""gunicorn with --preload: the master has a token when it forks, and each worker goes on from there by itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from accredit.devserver import DevServer
from tests.runtime.support import PATIENCE
from tests.runtimes.programs import ROOT

pytest.importorskip("gunicorn")

WORKERS = 3
HERD = 24
CLASSES = {
    "sync": ("--worker-class", "sync"),
    "gthread": ("--worker-class", "gthread", "--threads", str(HERD)),
    "gevent": ("--worker-class", "gevent"),
}
ALL = pytest.mark.parametrize("worker_class", CLASSES)


class Prefork:
    """gunicorn, listening on a socket that the test made."""

    def __init__(self, url: str, process: subprocess.Popen[str], arrivals: int) -> None:
        self.url = url
        self.process = process
        self._arrivals = arrivals

    def get(self, path: str) -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url + path, timeout=PATIENCE) as answer:
            return json.load(answer)

    def get_all(self, paths: list[str], meanwhile: Callable[[], object] = lambda: None) -> list[Any]:
        """Make all of these requests at once."""
        found: list[Any] = []
        jobs = [threading.Thread(target=lambda path=path: found.append(self.get(path))) for path in paths]
        for job in jobs:
            job.start()
        meanwhile()
        for job in jobs:
            job.join(PATIENCE)
        assert len(found) == len(paths)
        return found

    def wait_for_arrivals(self, number: int) -> None:
        """Return when so many requests have come as far as asking for a token."""
        while number > 0:
            number -= len(os.read(self._arrivals, number))

    def every_worker(self, path: str) -> list[Any]:
        """Ask until each of the workers has answered; return all answers."""
        answers: list[Any] = []
        while len({answer["pid"] for answer in answers}) < WORKERS:
            assert len(answers) < 2000
            answers += self.get_all([path] * WORKERS * 2)
        return answers


@contextmanager
def prefork(server: DevServer, worker_class: str, **environment: str) -> Iterator[Prefork]:
    reader, writer = os.pipe()
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        command = [
            *(sys.executable, "-m", "gunicorn", "--preload", "--workers", str(WORKERS), *CLASSES[worker_class]),
            *("--bind", f"fd://{listener.fileno()}", "--graceful-timeout", "1", "--log-level", "warning"),
            *("--no-control-socket", "tests.runtimes.prefork_app:application"),
        ]
        environ = {
            **os.environ,
            "TOKEN_ENDPOINT": server.token_endpoint,
            "API_URL": server.api_url,
            "ARRIVALS": str(writer),
            **environment,
        }
        fds = (listener.fileno(), writer)
        process = subprocess.Popen(command, env=environ, cwd=ROOT, pass_fds=fds, stderr=subprocess.PIPE, text=True)
        os.close(writer)
        watchdog = threading.Timer(3 * PATIENCE, process.kill)
        watchdog.start()
        try:
            yield Prefork(f"http://127.0.0.1:{listener.getsockname()[1]}", process, reader)
        finally:
            watchdog.cancel()
            process.terminate()
            process.communicate()
            os.close(reader)


@ALL
def test_workers_have_the_token_of_the_master(server: DevServer, worker_class: str) -> None:
    with prefork(server, worker_class) as running:
        answers = running.every_worker("/token")
        assert len({answer["token"] for answer in answers}) == 1
        assert {answer["master"] for answer in answers} == {running.process.pid}
        # Three processes and their master: one token request.
        assert server.count("/token") == 1
        assert {answer["status"] for answer in running.every_worker("/call")} == {200}
        assert server.count("/token") == 1


@pytest.mark.parametrize("worker_class", ["gthread", "gevent"])
def test_a_herd_costs_each_worker_one_request(server: DevServer, worker_class: str) -> None:
    with prefork(server, worker_class) as running:
        running.wait_for_arrivals(len(running.every_worker("/token")))
        server.hold()

        def release() -> None:
            running.wait_for_arrivals(HERD)
            assert 1 <= server.wait_for_waiting(1, timeout=PATIENCE) <= WORKERS
            server.release()

        answers = running.get_all(["/cold/herd"] * HERD, release)
        pids = {answer["pid"] for answer in answers}
        assert len({answer["token"] for answer in answers}) == len(pids)
        assert server.count("/token") == 1 + len(pids)


@ALL
def test_a_revoked_token_is_healed_in_each_worker(server: DevServer, worker_class: str) -> None:
    with prefork(server, worker_class) as running:
        running.every_worker("/token")
        server.revoke_client()
        answers = running.every_worker("/call")
        assert {answer["status"] for answer in answers} == {200}
        assert server.count("/token") == 1 + WORKERS


@ALL
def test_keep_fresh_of_the_master_goes_on_in_the_workers(server: DevServer, worker_class: str) -> None:
    """From each worker's first use on it renews without traffic; and so does the master itself."""
    server.set_token_lifetime(2)
    with prefork(server, worker_class, KEEP_FRESH="1") as running:
        running.every_worker("/token")
        # Nobody asks for anything from here on.
        seen = server.count("/token")
        server.wait_for_requests(seen + 2 * (1 + WORKERS), timeout=PATIENCE)


@ALL
def test_it_ends_while_a_flight_is_in_the_air(server: DevServer, worker_class: str) -> None:
    with prefork(server, worker_class, KEEP_FRESH="1") as running:
        running.every_worker("/token")
        server.hold()
        failed: list[Exception] = []

        def call() -> None:
            try:
                running.get("/cold/held")
            except Exception as error:
                failed.append(error)

        caller = threading.Thread(target=call, daemon=True)
        caller.start()
        server.wait_for_waiting(1, timeout=PATIENCE)
        running.process.send_signal(signal.SIGTERM)
        _, err = running.process.communicate(timeout=PATIENCE)
        assert running.process.returncode == 0, err
        assert "Traceback" not in err
        server.release()
        caller.join(PATIENCE)
        assert len(failed) == 1
