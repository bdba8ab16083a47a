"""Group T: where secrets leak, logs are written to by others, and dependencies are missing."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import traceback
import warnings
from typing import Any

import pytest

from accredit import AccessToken, ClientSecretBasic, ClientSecretPost, MemoryStore, Secret
from accredit.core.effects import Credential
from accredit.core.messages import Failure
from accredit.errors import AccreditError
from tests.bad_inputs.invariants import check_error, check_hidden, check_value, own_frames
from tests.bad_inputs.model import CANARIES, ISSUER, SECRET, TOKEN, covers, document, issued
from tests.bad_inputs.rows.discovery import metadata
from tests.bad_inputs.test_processes import run
from tests.bad_inputs.world import World, outcome_of, registration

ENDINGS: dict[str, Any] = {
    "refused": document(401, error="invalid_client", error_description=SECRET),
    "throttled": document(429),
    "malformed": issued(token_type="mac"),
    "token with a control": issued(access_token=f"{TOKEN}\n"),
    "unreachable": Failure("connect", "refused"),
    "fails": document(500, error=SECRET),
}


@covers("T02", outcome="no canary in a traceback with the local variables of every frame")
@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
@pytest.mark.parametrize("auth", [ClientSecretBasic, ClientSecretPost])
@pytest.mark.parametrize("inline", [False, True])
def test_tracebacks_with_variables(ending: Any, auth: type[ClientSecretBasic | ClientSecretPost], inline: bool) -> None:
    world = World(registration(client_auth=auth(SECRET)))
    world.manager._engine._inline = world.clock.inline = inline
    world.script.answers = [ending]
    error = outcome_of(world.manager.get)
    assert isinstance(error, AccreditError)
    check_error(error)
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    check_hidden(shown, "a traceback with variables")
    frames = list(own_frames(error))
    assert len(frames) >= 2
    world.check_whole()


@covers("T02", outcome="the search itself finds a canary that is in a variable, an attribute, a note or a cause")
def test_the_search_finds_what_is_there() -> None:
    for value in (SECRET, TOKEN.encode(), [SECRET], {"x": {"y": TOKEN}}, Credential(Secret(SECRET), SECRET)):
        with pytest.raises(AssertionError, match="canary"):
            check_value(value, "here")
    check_value(Credential(Secret(SECRET), "tag"), "here")
    plain = AccreditError("fine")
    plain.add_note(TOKEN)
    caused = AccreditError("fine")
    caused.__cause__ = ValueError(SECRET)
    for error in (AccreditError(SECRET), AccreditError("x", advice=TOKEN), plain, caused):
        with pytest.raises(AssertionError):
            check_error(error)
    with pytest.raises(AssertionError):
        check_error(ValueError("not ours"))
    assert all(len(canary) > 8 for canary in CANARIES)


@covers("T02", "T12", outcome="a secret prints as ***, is compared, and promises no more than Python can keep")
def test_the_type_of_secrets() -> None:
    secret = Secret(SECRET)
    for text in (
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r:>20}",
        "".join(map(str, [secret])),
        repr([secret]),
        repr({secret: 1}),
    ):
        check_hidden(text, "the text of a secret")
        assert "***" in text
    assert secret == Secret(SECRET)
    assert secret != Secret("other")
    assert "Best effort" in (Secret.__doc__ or "")


@covers("T04", outcome="labels are ids of the configuration: however many scopes are asked for, one series")
def test_labels_that_callers_control() -> None:
    world = World()
    world.script.answers = [document(400, error=f"e{n}-{'x' * 99}") for n in range(30)]
    for number in range(30):
        assert isinstance(outcome_of(lambda number=number: world.manager.get(scope=f"scope-{number}")), AccreditError)  # type: ignore[misc]
    labels = {(type(event).__name__, event.registration, event.principal) for event in world.events}
    assert labels == {("FlightFailed", "main", "service-account")}
    assert "scope-" not in repr(world.events)
    assert {getattr(event, "error").error_code for event in world.events} == {"unknown_error"}  # noqa: B009


@covers("T07", outcome="no canary in the debug output of interpreter and event loop")
def test_debug_output() -> None:
    done = run(
        """
import faulthandler, gc, logging, warnings
logging.basicConfig(level=logging.DEBUG)
faulthandler.enable()
async def main():
    task = asyncio.create_task(manager.asynchronous().get())
    await asyncio.get_running_loop().run_in_executor(None, Stuck.entered.wait)
    print(task, task.get_stack())
    task.print_stack()
    faulthandler.dump_traceback(all_threads=True)
    task.cancel()
asyncio.run(main(), debug=True)
Stuck.leave.set()
try:
    manager.get(timeout=5)
except Exception as error:
    print(repr(error))
gc.collect()
""",
        "-X",
        "dev",
        PYTHONASYNCIODEBUG="1",
        PYTHONTRACEMALLOC="5",
    )
    assert done.returncode == 0, done.stderr
    assert "orders-worker" not in done.stderr
    assert "UnreachableError" in done.stdout


NASTY = "\x1b[2J\r\nFAKE log line\x00\u202e\u2028\x9b" + "x" * 5000


@covers("T08", outcome="one printable line of bounded length, whatever a server says")
@pytest.mark.parametrize("member", ["error", "error_description", "error_uri", "token_type", "scope", "expires_in"])
@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
def test_log_injection(member: str, status: int, caplog: pytest.LogCaptureFixture) -> None:
    members = {"access_token": TOKEN, "token_type": "Bearer", "error": "x"} | {member: NASTY}
    if status == 200 and member != "error":
        del members["error"]
    world = World()
    world.script.answers = [document(status, (("retry-after", NASTY),), **members)]
    outcome = outcome_of(world.manager.get)
    world.land()
    texts = [str(outcome), repr(outcome), *(record.getMessage() for record in caplog.records)]
    for text in texts:
        assert text.isprintable(), ascii(text)
        assert len(text) < 1000
    world.check_whole()


@covers("T08", outcome="one printable line of bounded length, whatever a metadata document says")
@pytest.mark.parametrize("member", ["issuer", "token_endpoint", "jwks_uri"])
def test_log_injection_by_a_document(member: str, caplog: pytest.LogCaptureFixture) -> None:
    world = World(registration(issuer=ISSUER))
    world.script.documents = [metadata(**{member: f"https://idp.example/{NASTY}"})]
    world.script.answers = [issued()]
    error = outcome_of(world.manager.get)
    world.land()
    assert isinstance(error, AccreditError)
    for text in (str(error), *(record.getMessage() for record in caplog.records)):
        assert text.isprintable(), ascii(text)
        assert len(text) < 1000
    world.check_whole()


MISSING = {"httpx": "httpx", "requests": "requests", "aiohttp": "aiohttp"}


@covers("T11", outcome="an ImportError that names the extra; importing accredit needs none")
@pytest.mark.parametrize("extra", MISSING)
def test_extras_that_are_not_installed(extra: str) -> None:
    code = f"""
import sys
for name in ({MISSING[extra]!r}, "cryptography", "redis", "rich", "uvicorn"):
    sys.modules[name] = None
import accredit
try:
    import accredit.integrations.{extra}
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ.copy()
    )
    assert f"accredit[{extra}]" in done.stdout, done.stdout
    assert done.stderr == ""


@covers("T12", outcome="no copy of the secret in what the library keeps, but in the one object that hides it")
def test_where_the_secret_is_kept() -> None:
    auth = ClientSecretPost(SECRET)
    world = World(registration(client_auth=auth))
    world.script.answers = [issued()]
    token = world.manager.get()
    for value in (auth, world.slot, world.slot.request, world.manager, world.manager._engine, MemoryStore()):
        check_value(value, type(value).__name__)
    assert isinstance(token, AccessToken)
    assert threading.active_count() >= 1
    world.check_whole()


@covers("T07", outcome="nothing is warned about, and every log record is below the logger of the library")
def test_warnings_and_loggers(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.script.answers = [document(500), document(401, error="invalid_client")]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        outcome_of(world.manager.get)
        world.check_whole()
    assert seen == []
    assert {record.name.partition(".")[0] for record in caplog.records if record.name != "asyncio"} == {"accredit"}
    assert all(record.exc_info is None for record in caplog.records)
    assert logging.getLogger("accredit").level == logging.NOTSET
