"""gevent, patched before accredit is imported, after it, and after it was used: one flight for all greenlets."""

from __future__ import annotations

import pytest

from accredit.devserver import DevServer
from tests.runtime.support import PATIENCE
from tests.runtimes.programs import PREAMBLE, Program

pytest.importorskip("gevent")

GREENLETS = 200
THREADS = 16
#: When to patch. gevent itself warns of a late patch when ssl was imported; that is what is wanted here.
BEFORE = f"from gevent import monkey; monkey.patch_all()\n{PREAMBLE}\nmanager = TokenManager(registration())\n"
LATE = """
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from gevent import monkey; monkey.patch_all()
"""
AFTER = f"{PREAMBLE}\nimport ssl, accredit.transport\n{LATE}\nmanager = TokenManager(registration())\n"
AFTER_USE = f"""{PREAMBLE}
manager = TokenManager(registration())
manager.get(scope="orders:write")
{LATE}
"""
PATCHED = pytest.mark.parametrize("start", [BEFORE, AFTER, AFTER_USE], ids=["before", "after import", "after use"])
WAITING = """
import gevent
def waiters():
    slot = manager._slot(None, None, None, None, None)
    return 0 if slot.flight is None else len(slot.flight._gates)
def until_waiting(number):
    while waiters() < number:
        gevent.sleep(0.001)
tell("ready")
sys.stdin.readline()
"""


def used(start: str) -> int:
    return int(start is AFTER_USE)


@PATCHED
def test_a_herd_of_greenlets(server: DevServer, start: str) -> None:
    """Two hundred greenlets, one token request, and others run on while it is under way."""
    script = f"""{start}{WAITING}
ticks = 0
def tick():
    global ticks
    while True:
        ticks += 1
        gevent.sleep(0)
ticking = gevent.spawn(tick)
jobs = [gevent.spawn(manager.get) for _ in range({GREENLETS})]
until_waiting({GREENLETS})
before = ticks
while ticks < before + 100:
    gevent.sleep(0)
tell("all wait and others run")
gevent.joinall(jobs, raise_error=True)
ticking.kill()
tell([len({{job.value.value for job in jobs}}), len(jobs)])
manager.close()
"""
    with Program(script, server) as program:
        assert program.told() == "ready"
        server.hold()
        program.go()
        assert program.told() == "all wait and others run"
        assert server.wait_for_waiting(1, timeout=PATIENCE) == 1
        server.release()
        assert program.end() == [[1, GREENLETS]]
    assert server.count("/token") == 1 + used(start)


@PATCHED
def test_greenlets_and_real_threads_wait_for_one_flight(server: DevServer, start: str) -> None:
    script = f"""{start}{WAITING}
values = []
def call():
    values.append(manager.get().value)
pool = gevent.get_hub().threadpool
pool.maxsize = {THREADS} + 8  # gevent resolves names on threads of this pool too
real = [pool.spawn(call) for _ in range({THREADS})]
jobs = [gevent.spawn(call) for _ in range({THREADS})]
until_waiting({2 * THREADS})
tell("all wait")
gevent.joinall(jobs, raise_error=True)
for job in real:
    job.get()
tell([len(set(values)), len(values)])
manager.close()
"""
    with Program(script, server) as program:
        assert program.told() == "ready"
        server.hold()
        program.go()
        assert program.told() == "all wait"
        server.release()
        assert program.end() == [[1, 2 * THREADS]]
    assert server.count("/token") == 1 + used(start)


@PATCHED
@pytest.mark.parametrize("library", ["requests", "httpx2"])
def test_calls_whose_token_was_revoked(server: DevServer, start: str, library: str) -> None:
    """A herd of greenlets gets 401, and one token request heals them all."""
    script = f"""{start}{WAITING}
import {library}
from accredit.integrations.{library} import AccreditAuth
url = sys.argv[2] + "/orders"
client = {"requests.Session()" if library == "requests" else "httpx2.Client(timeout=30)"}
client.auth = AccreditAuth(manager)
assert client.get(url).status_code == 200
tell("has one")
sys.stdin.readline()
jobs = [gevent.spawn(lambda: client.get(url).status_code) for _ in range(8)]
gevent.joinall(jobs, raise_error=True)
tell([job.value for job in jobs])
client.close()
manager.close()
"""
    with Program(script, server) as program:
        assert program.told() == "ready"
        program.go()
        assert program.told() == "has one"
        server.revoke_client()
        program.go()
        assert program.end() == [[200] * 8]
    assert server.count("/token") == 2 + used(start)


@PATCHED
def test_keep_fresh(server: DevServer, start: str) -> None:
    """The keeper lives on as a greenlet, and the program ends without waiting for it."""
    server.set_token_lifetime(2)
    script = f"""{start}{WAITING}
manager.keep_fresh()
while manager.peek() is None:
    gevent.sleep(0.001)
first = manager.peek().value
while manager.peek() is None or manager.peek().value == first:
    gevent.sleep(0.001)
tell("renewed")
"""
    with Program(script, server) as program:
        assert program.told() == "ready"
        program.go()
        assert program.end() == ["renewed"]
    assert server.count("/token") == 2 + used(start)


@PATCHED
def test_a_greenlet_that_is_killed_hurts_no_other(server: DevServer, start: str) -> None:
    script = f"""{start}{WAITING}
jobs = [gevent.spawn(manager.get) for _ in range(3)]
until_waiting(3)
jobs[0].kill()
with gevent.Timeout(0.001, False):
    manager.get()
tell("killed")
gevent.joinall(jobs[1:], raise_error=True)
tell(len({{job.value.value for job in jobs[1:]}}))
"""
    with Program(script, server) as program:
        assert program.told() == "ready"
        server.hold()
        program.go()
        assert program.told() == "killed"
        server.release()
        assert program.end() == [1]
    assert server.count("/token") == 1 + used(start)
