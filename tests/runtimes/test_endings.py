"""The end of a program: by a signal or by itself, with threads at work or not, and with nothing left to say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from accredit.devserver import DevServer
from tests.runtime.support import PATIENCE
from tests.runtimes.programs import PREAMBLE, Program, run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such signals")

AT_WORK = f"""{PREAMBLE}
import asyncio, os, signal, threading
manager = TokenManager([registration("held"), registration("kept", deadline=300.0)])
keeping = manager.keep_fresh("kept")
threading.Thread(target=lambda: manager.get("held"), daemon=True).start()
"""
HANDLERS = {
    "sys.exit": "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n",
    "close and sys.exit": "signal.signal(signal.SIGTERM, lambda *_: (manager.close(), sys.exit(0)))\n",
    "default": "",
}
WAIT = """
tell("up")
threading.Event().wait()
"""
IN_A_LOOP = """
async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with manager.asynchronous() as tokens:
        task = asyncio.create_task(tokens.get("held"))
        tell("up")
        await stop.wait()
        task.cancel()
    tell("stopped")
asyncio.run(main(), debug=True)
"""


def terminate(program: Program, server: DevServer) -> None:
    assert program.told() == "up"
    # Both flights are in the air, and will be until long after the program has ended.
    assert server.wait_for_waiting(2, timeout=PATIENCE) == 2
    os.kill(program.process.pid, signal.SIGTERM)


@pytest.mark.parametrize("handler", HANDLERS)
def test_sigterm_with_a_keeper_and_flights_in_the_air(server: DevServer, handler: str) -> None:
    server.hold()
    with Program(AT_WORK + HANDLERS[handler] + WAIT, server) as program:
        terminate(program, server)
        assert program.end(-signal.SIGTERM if handler == "default" else 0) == []
    server.release()


def test_sigterm_in_an_event_loop(server: DevServer) -> None:
    server.hold()
    with Program(AT_WORK + IN_A_LOOP, server) as program:
        terminate(program, server)
        assert program.end() == ["stopped"]
    server.release()


def test_a_keyboard_interrupt_of_a_caller_that_waits(server: DevServer) -> None:
    """It ends the wait at once, and the flight goes on for others."""
    server.hold()
    script = f"""{PREAMBLE}
import threading
manager = TokenManager(registration())
signalled = []
tell("up")
try:
    manager.get()
except KeyboardInterrupt:
    tell("interrupted")
tell(len(manager.get().value) > 10)
manager.close()
"""
    with Program(script, server) as program:
        assert program.told() == "up"
        assert server.wait_for_waiting(1, timeout=PATIENCE) == 1
        os.kill(program.process.pid, signal.SIGINT)
        assert program.told() == "interrupted"
        server.release()
        assert program.end() == [True]
    assert server.count("/token") == 1


EVERYTHING = f"""{PREAMBLE}
import asyncio, gc, threading
import aiohttp, httpx, httpx2, requests
from accredit.integrations import aiohttp as a, httpx as h, httpx2 as h2, requests as r
url = sys.argv[2] + "/orders"
nowhere = registration("nowhere", token_endpoint="http://127.0.0.1:9/token", deadline=0.5)
manager = TokenManager([registration(), nowhere], default="api-client")

def in_threads():
    with httpx2.Client(auth=h2.AccreditAuth(manager)) as one, httpx.Client(auth=h.AccreditAuth(manager)) as two:
        with requests.Session() as three:
            three.auth = r.AccreditAuth(manager)
            for client in (one, two, three):
                assert client.get(url).status_code == 200
                assert client.post(url, data=dict(a="form")).status_code == 403

async def in_tasks():
    # Making a client reads certificates, which is not ours; that nothing of ours blocks is shown elsewhere.
    asyncio.get_running_loop().slow_callback_duration = 60.0
    tokens = manager.asynchronous()
    async with (
        httpx2.AsyncClient(auth=h2.AccreditAuth(tokens)) as one,
        httpx.AsyncClient(auth=h.AccreditAuth(tokens)) as two,
        aiohttp.ClientSession(middlewares=(a.AccreditMiddleware(tokens),)) as three,
    ):
        for client in (one, two):
            assert (await client.get(url)).status_code == 200
        async with three.get(url) as answer:
            assert answer.status == 200
    task = asyncio.create_task(tokens.get(scope="orders:write"))
    await asyncio.sleep(0)
    task.cancel()
    for timeout in (0, None):
        try:
            await tokens.get("nowhere", timeout=timeout)
        except AccreditError:
            pass
        else:
            raise AssertionError

in_threads()
asyncio.run(in_tasks())
keeping = manager.keep_fresh()
manager.renew()
tell("used")
"""


@pytest.mark.parametrize("end", ["manager.close()", "del manager, keeping"])
def test_nothing_is_left_open(server: DevServer, end: str) -> None:
    """No ResourceWarning, no exception that nobody could catch: every warning is an error here, and shows."""
    assert run(f"{EVERYTHING}\n{end}\ngc.collect()\ntell('clean')", server) == ["used", "clean"]


def test_what_is_left_open_shows() -> None:
    """The same interpreter, on a program that does leave something behind."""
    code = "import socket; left = socket.socket(); del left; print('done')"
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "ResourceWarning" in done.stderr
