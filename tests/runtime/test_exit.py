"""An interpreter that exits waits for nothing of the library, and says nothing on its behalf."""

from __future__ import annotations

import subprocess
import sys

import pytest

from accredit.devserver import DevServer
from tests.runtime.support import PATIENCE

PREAMBLE = """
import asyncio, atexit, os, sys, threading
from accredit import AccreditError, ClientRegistration, ClientSecretBasic, TokenManager

def registration(id, **changes):
    auth = ClientSecretBasic("dev-secret")
    return ClientRegistration(id=id, token_endpoint=sys.argv[1], client_id="api-client", client_auth=auth, **changes)

manager = TokenManager([registration("held", deadline=300), registration("other")])
"""
IN_THE_AIR = """
flying = threading.Event()
waiter = threading.Thread(target=lambda: manager.get("held"), daemon=True)
manager.keep_fresh("other")
waiter.start()
sys.stdin.readline()
"""
ENDINGS = {
    "end": "",
    "close": "manager.close()",
    "sys.exit": "sys.exit(0)",
    "close at exit": "atexit.register(manager.close)",
    "from a task": """
async def main():
    try:
        await manager.asynchronous().get("held", timeout=0.01)
    except AccreditError:
        pass
asyncio.run(main(), debug=True)
""",
    "cancelled task": """
async def main():
    task = asyncio.create_task(manager.asynchronous().get("held"))
    await asyncio.sleep(0)
    task.cancel()
asyncio.run(main(), debug=True)
""",
    "forgotten task": """
async def main():
    asyncio.create_task(manager.asynchronous().get("held"))
    await asyncio.sleep(0)
asyncio.run(main(), debug=True)
""",
    "first use at exit": """
@atexit.register
def late():
    try:
        manager.get("other", timeout=0)
    except AccreditError:
        pass
""",
}


def run(server: DevServer, script: str, *, then: int = 0) -> None:
    arguments = [sys.executable, "-X", "dev", "-W", "error", "-c", script, server.token_endpoint]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            if then:
                server.wait_for_waiting(then, timeout=PATIENCE)
            out, err = process.communicate("\n", timeout=PATIENCE)
        finally:
            process.kill()
    assert err == ""
    assert out == "done\n"
    assert process.returncode == 0


@pytest.mark.parametrize("ending", ENDINGS)
def test_with_a_keeper_and_a_flight_in_the_air(server: DevServer, ending: str) -> None:
    # The server never answers before the process has ended, and the deadline is far beyond the patience of this test.
    server.hold()
    run(server, f"{PREAMBLE}{IN_THE_AIR}print('done', flush=True)\n{ENDINGS[ending]}", then=2)
    server.release()


@pytest.mark.parametrize("ending", ["end", "close"])
def test_with_a_keeper_at_rest(server: DevServer, ending: str) -> None:
    run(server, f"{PREAMBLE}manager.keep_fresh('other')\nmanager.get('other')\nprint('done')\n{ENDINGS[ending]}")


def test_a_module_level_manager_that_is_never_used(server: DevServer) -> None:
    run(server, f"{PREAMBLE}print('done')")
    assert server.count() == 0
