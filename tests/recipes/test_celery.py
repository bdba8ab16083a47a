"""A real Celery worker with a pool of processes, over a broker of files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from accredit.devserver import DevServer
from tests.recipes.guide import block, program
from tests.runtime.support import PATIENCE

pytest.importorskip("celery")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Celery has no pool of processes on Windows")

PROCESSES = 2
#: What a deployment configures, not a program: a broker without a server, for these tests.
CONFIGURED = """
from orders_program import *

app.conf.update(
    broker_url="filesystem://",
    broker_transport_options={"data_folder_in": FOLDER + "/queue", "data_folder_out": FOLDER + "/queue",
                              "control_folder": FOLDER + "/control"},
    result_backend="file://" + FOLDER + "/results",
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)
"""
SENDER = """
import json, sys
from orders_worker import orders
results = [orders.delay() for _ in range(int(sys.argv[1]))]
print(json.dumps([result.get(timeout=60) for result in results]))
"""


@contextmanager
def worker(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [
        *(sys.executable, "-m", "celery", "-A", "orders_worker", "worker", "--pool", "prefork"),
        *("--concurrency", str(PROCESSES), "--without-gossip", "--without-mingle", "--without-heartbeat"),
        *("--loglevel", "ERROR"),
    ]
    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment(folder),
    )  # fmt: skip
    watchdog = threading.Timer(3 * PATIENCE, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder), "C_FORCE_ROOT": "1", "no_proxy": "127.0.0.1"}


def send(folder: Path, number: int) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", SENDER, str(number)],
        cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=2 * PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results: list[int] = json.loads(done.stdout)
    return results


def test_a_worker_with_a_pool_of_processes(server: DevServer, tmp_path: Path) -> None:
    program(server, tmp_path, block("python", "from celery import"))
    for name in ("queue", "control", "results"):
        (tmp_path / name).mkdir()
    text = CONFIGURED.replace("FOLDER", repr(tmp_path.as_posix()))
    (tmp_path / "orders_worker.py").write_text(text, encoding="utf-8")
    with worker(tmp_path) as process:
        # keep_fresh() in each process of the pool, and in no other: before any task has run.
        assert server.wait_for_requests(PROCESSES, timeout=2 * PATIENCE) == PROCESSES
        assert send(tmp_path, 20) == [2] * 20
        assert server.count("/token") == PROCESSES
        assert [entry.status for entry in server.requests("/orders", server="api")] == [200] * 20
        # A revoked token is healed in each process that meets it.
        server.revoke_client()
        assert send(tmp_path, 8) == [2] * 8
        assert PROCESSES < server.count("/token") <= 2 * PROCESSES
        # With no task to do, short-lived ones are renewed all the same.
        server.set_token_lifetime(2)
        server.revoke_client()
        assert send(tmp_path, 8) == [2] * 8
        server.wait_for_requests(server.count("/token") + 3, timeout=PATIENCE)
        # And it ends while requests are in the air.
        server.hold()
        server.wait_for_waiting(1, timeout=PATIENCE)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=2 * PATIENCE)
        assert process.returncode == 0, out
        assert "Traceback" not in out
        server.release()
