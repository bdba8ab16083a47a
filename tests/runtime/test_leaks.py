"""A canary secret and a canary token are found nowhere: not in logs, errors, their frames, events, reprs or pickles."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import json
import logging
import pickle
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

import pytest

from accredit import (
    AccreditError,
    ClientRegistration,
    ClientSecretBasic,
    ClientSecretPost,
    ConfigurationError,
    CredentialRefusedError,
    MalformedResponseError,
    Secret,
    ThrottledError,
    TokenManager,
    UnreachableError,
)
from accredit.devserver import DevClient, DevConfig, DevServer
from tests.runtime.support import Events, JumpClock, in_loop, in_trio, registration, threads

CANARY = "kanarie: Öl%4f+9a&b7/c2"
TOKEN_CANARY = "tokenkanarie-8e1b44f0a9"
CLIENT = "canary-client"
PAIR = f"{CLIENT}:{CANARY}"
ENCODED_PAIR = f"{CLIENT}:{quote(CANARY, safe='')}"
FORMS = (
    CANARY,
    TOKEN_CANARY,
    quote(CANARY, safe=""),
    quote(CANARY),
    repr(CANARY)[1:-1],
    ascii(CANARY)[1:-1],
    base64.b64encode(CANARY.encode()).decode(),
    base64.b64encode(PAIR.encode()).decode(),
    base64.b64encode(ENCODED_PAIR.encode()).decode(),
    # Parts are as bad as the whole.
    CANARY[:9],
    CANARY[-9:],
    TOKEN_CANARY[:12],
)
Make = Callable[..., TokenManager]


def clean(text: str, where: str) -> None:
    found = [form for form in FORMS if form in text]
    assert not found, f"{where} tells {found}"


def frames_of(error: BaseException) -> Iterator[FrameType]:
    trace = error.__traceback__
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__", "")).startswith("accredit"):
            yield trace.tb_frame
        trace = trace.tb_next


def attributes_of(value: object) -> Iterator[tuple[str, object]]:
    for kind in type(value).__mro__:
        slots = getattr(kind, "__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                yield name, getattr(value, name)
    yield from getattr(value, "__dict__", {}).items()


def texts_of(value: object) -> Iterator[str]:
    """Give what a debugger or a crash reporter would show of a value: itself, and what is one level below."""
    yield repr(value)
    if type(value).__module__.startswith("accredit"):
        for name, attribute in attributes_of(value):
            yield f"{name}={attribute!r}"
    if isinstance(value, dict | list | tuple | set):
        for item in value.values() if isinstance(value, dict) else value:
            yield repr(item)


def clean_error(error: BaseException, seen: set[int] | None = None) -> None:
    """Look at everything that hangs on an error."""
    seen = set() if seen is None else seen
    if id(error) in seen:
        return
    seen.add(id(error))
    for text in (str(error), repr(error), f"{error}", repr(error.args), repr(getattr(error, "__notes__", ()))):
        clean(text, "the error")
    for name, value in attributes_of(error):
        clean(f"{value!r} {value}", f"attribute {name}")
    for frame in frames_of(error):
        for name, value in frame.f_locals.items():
            for text in texts_of(value):
                clean(text, f"local {name} of {frame.f_code.co_qualname}")
    if isinstance(error, AccreditError):
        # Not the frames of the test itself, which of course know the canary.
        clean("".join(traceback.format_exception(error)), "the traceback")
        clean(repr(pickle.dumps(error)), "the pickle")
        assert pickle.loads(pickle.dumps(error)) == error
    for other in (error.__cause__, error.__context__):
        if other is not None:
            clean_error(other, seen)


def clean_object(value: object) -> None:
    for text in (
        repr(value),
        str(value),
        f"{value}",
        f"{value!r:>400}",
        f"{value}",
        str([value]),
        repr({"key": value}),
    ):
        clean(text, type(value).__name__)
    try:
        data = pickle.dumps(value)
    except Exception as error:
        clean_error(error)
    else:
        clean(repr(data), f"the pickle of {type(value).__name__}")


@pytest.fixture
def server() -> Iterator[DevServer]:
    client = DevClient(client_id=CLIENT, client_secret=Secret(CANARY))
    with DevServer(DevConfig(clients=(client,))) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_is_said(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Listen to every logger at DEBUG, to warnings and to both streams, and find nothing there."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s %(args)s %(exc_info)s %(stack_info)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield
        gc.collect()
    root.removeHandler(handler)
    clean(stream.getvalue(), "the log")
    for record in caplog.records:
        for text in (record.getMessage(), repr(record.args), str(record.exc_text)):
            clean(text, f"the log of {record.name}")
    for warning in warned:
        clean(str(warning.message), "a warning")
    out, err = capfd.readouterr()
    clean(out + err, "the output")


def canary(server: DevServer, **changes: Any) -> ClientRegistration:
    return registration(server, CANARY, **({"client_id": CLIENT, "deadline": 10} | changes))


def echo(server: DevServer, status: int, text: str, **members: str) -> None:
    body = json.dumps({"error_description": text} | members, ensure_ascii=False)
    server.fail(status, body=body, headers={"content-type": "application/json"})


def refuse(text: str) -> Callable[[DevServer], None]:
    return lambda server: echo(server, 401, text, error="invalid_client")


def grant(**members: object) -> Callable[[DevServer], None]:
    body = json.dumps({"access_token": TOKEN_CANARY, "token_type": "Bearer"} | members)
    return lambda server: server.fail(200, body=body, headers={"content-type": "application/json"})


SERVERS: dict[str, tuple[Callable[[DevServer], None], type[AccreditError]]] = {
    "the secret echoed": (refuse(f"the secret '{CANARY}' is wrong"), CredentialRefusedError),
    "the secret echoed in part": (refuse(f"the secret starts with {CANARY[:9]}"), CredentialRefusedError),
    "the secret echoed encoded": (refuse(f"got {quote(CANARY, safe='')}"), CredentialRefusedError),
    "the header echoed": (refuse(f"Basic {base64.b64encode(ENCODED_PAIR.encode()).decode()}"), CredentialRefusedError),
    "the secret as error code": (lambda server: echo(server, 401, "", error=CANARY), AccreditError),
    "the secret in a 400": (lambda server: echo(server, 400, CANARY), AccreditError),
    "the secret in a 500": (lambda server: echo(server, 500, CANARY, error="server_error"), UnreachableError),
    "the secret in a 429": (lambda server: echo(server, 429, CANARY, error="slow_down"), ThrottledError),
    "the secret in a page": (
        lambda server: server.fail(200, body=f"<p>{CANARY}", headers={"content-type": "text/html"}),
        MalformedResponseError,
    ),
    "the secret in a redirect": (
        lambda server: server.fail(302, headers={"location": f"https://x/?s={quote(CANARY)}"}),
        MalformedResponseError,
    ),
    "the secret in Retry-After": (
        lambda server: server.fail(503, retry_after=quote(CANARY)),
        AccreditError,
    ),
    "a token without a life": (grant(expires_in=0), MalformedResponseError),
    "a token with a bad life": (grant(expires_in="soon"), MalformedResponseError),
    "a token of another type": (grant(token_type=TOKEN_CANARY), MalformedResponseError),
    "a token with a space": (grant(access_token=f"{TOKEN_CANARY} x"), MalformedResponseError),
    "a token as a list": (grant(access_token=[TOKEN_CANARY]), MalformedResponseError),
    "a token with a bad scope": (grant(scope=[TOKEN_CANARY]), MalformedResponseError),
    "a token and an error": (grant(error=TOKEN_CANARY), MalformedResponseError),
    "a token twice": (
        lambda server: server.fail(
            200,
            body=f'{{"access_token":"{TOKEN_CANARY}","access_token":"{TOKEN_CANARY}"}}',
            headers={"content-type": "application/json"},
        ),
        MalformedResponseError,
    ),
    "garbage": (lambda server: server.garbage("not_json"), MalformedResponseError),
    "a broken answer": (lambda server: server.fail(200, body=CANARY * 9, truncate=True), UnreachableError),
}


@pytest.mark.parametrize("method", [ClientSecretBasic, ClientSecretPost])
@pytest.mark.parametrize("name", SERVERS)
def test_whatever_the_server_answers(
    server: DevServer, make_manager: Make, name: str, method: Callable[[str], Any]
) -> None:
    begin, kind = SERVERS[name]
    events = Events()
    manager = make_manager(canary(server, client_auth=method(CANARY)), on_event=events)
    face = manager.asynchronous()
    begin(server)
    for _ in range(2):  # the second time from the hold
        with pytest.raises(kind) as caught:
            manager.get()
        clean_error(caught.value)
    (from_loop,) = in_loop(face.get, debug=True)()
    (from_trio,) = in_trio(face.renew)()
    assert isinstance(from_loop, AccreditError)
    assert isinstance(from_trio, AccreditError)
    clean_error(from_loop)
    clean_error(from_trio)
    for event in events.seen:
        clean(repr(event), "an event")
        for _, value in attributes_of(event):
            clean(f"{value} {value!r}", "an event")
            if isinstance(value, BaseException):
                clean_error(value)


def closed_port(server: DevServer) -> str:
    with DevServer() as other:
        return other.token_endpoint


UNREACHABLE: dict[str, tuple[Callable[[DevServer], str], float]] = {
    "connection refused": (closed_port, 10),
    "no TLS there": (lambda server: server.token_endpoint.replace("http://", "https://"), 10),
    "no such host": (lambda server: "https://nowhere.invalid/token", 2),
    "too late": (lambda server: server.token_endpoint, 0.05),
}


@pytest.mark.parametrize("name", UNREACHABLE)
def test_when_the_server_cannot_be_reached(server: DevServer, make_manager: Make, name: str) -> None:
    endpoint, deadline = UNREACHABLE[name]
    server.hold()
    manager = make_manager(canary(server, token_endpoint=endpoint(server), deadline=deadline))
    with pytest.raises(UnreachableError) as caught:
        manager.get()
    clean_error(caught.value)
    with pytest.raises(UnreachableError) as caught:
        manager.get(timeout=0)
    clean_error(caught.value)


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
def test_when_a_proxy_is_wrong(
    server: DevServer, make_manager: Make, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, f"http://user:{quote(CANARY, safe='')}@127.0.0.1:1")
    manager = make_manager(
        canary(server, token_endpoint="http://idp.example/token", allow_insecure_http=True, deadline=2)
    )
    with pytest.raises(AccreditError) as caught:
        manager.get()
    clean_error(caught.value)


def test_secret_sources_that_fail(server: DevServer, make_manager: Make, tmp_path: Path) -> None:
    def raising() -> str:
        raise LookupError(f"vault says no to {CANARY}")

    def exiting() -> str:
        raise SystemExit(CANARY)

    async def asynchronous() -> str:
        return CANARY

    utf16 = tmp_path / "utf16"
    utf16.write_bytes(CANARY.encode("utf-16"))
    latin = tmp_path / "latin"
    latin.write_bytes(CANARY.encode("latin-1") + b"\xff")
    lines = tmp_path / "lines"
    lines.write_text(f"{CANARY}\n{CANARY}\n")
    huge = tmp_path / "huge"
    huge.write_text(CANARY * 10_000)
    sources = [
        *(Secret.from_function(function) for function in (raising, exiting, asynchronous)),  # type: ignore[arg-type]
        Secret.from_function(CANARY.encode),  # type: ignore[arg-type]
        Secret.from_function(lambda: f"{CANARY}\n"),
        *(Secret.from_file(path) for path in (utf16, latin, lines, huge, tmp_path)),
    ]
    for source in sources:
        manager = make_manager(registration(server, source, client_id=CLIENT))
        with pytest.raises(AccreditError) as caught:
            manager.get()
        clean_error(caught.value)
        # It did not stay behind: the next caller is answered too, not left waiting for a flight that died.
        with pytest.raises(AccreditError) as caught:
            manager.get(timeout=5)
        clean_error(caught.value)
    assert server.count("/token") == 0


@pytest.mark.parametrize("secret", [f"{CANARY}\r\n", f"\x00{CANARY}", ""], ids=["line break", "null", "empty"])
def test_secrets_that_are_refused_at_once(server: DevServer, secret: str) -> None:
    for make in (ClientSecretBasic, ClientSecretPost):
        for given in (secret, Secret(secret)):
            with pytest.raises(ConfigurationError) as caught:
                make(given)
            clean_error(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        registration(server, secret, client_id=CLIENT)
    clean_error(caught.value)


def test_environment_secrets_that_are_refused(
    server: DevServer, make_manager: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (f'"{CANARY}"', f"\ufeff{CANARY}", f"{CANARY}\n\n"):
        monkeypatch.setenv("THE_SECRET", value)
        manager = make_manager(registration(server, Secret.from_environment("THE_SECRET"), client_id=CLIENT))
        with pytest.raises(ConfigurationError) as caught:
            manager.get()
        clean_error(caught.value)


def test_nothing_of_what_is_public_shows_it(server: DevServer, make_manager: Make, clock: JumpClock) -> None:
    grant(expires_in=100, instance_url="https://x")(server)
    events = Events()
    chosen = canary(server, keep_members=["instance_url"])
    manager = make_manager(chosen, clock=clock, on_event=events)
    face = manager.asynchronous()
    with manager.keep_fresh() as keeping:
        token = manager.get()
        assert token.value == TOKEN_CANARY
        engine = manager._engine
        slot = engine.slots[token.fingerprint]
        clean(repr(engine.store.read(slot.request.identity)), "a record")
        public = [
            token,
            chosen,
            chosen.client_auth,
            ClientSecretBasic(CANARY),
            ClientSecretPost(Secret(CANARY)),
            Secret(CANARY),
            ClientSecretBasic(CANARY).source,
            ClientSecretBasic(Secret.from_function(lambda: CANARY)).source,
            manager,
            face,
            keeping,
            engine,
            engine.store,
            engine.store._store,
            engine._driver,
            slot,
            slot.request,
            slot.request.identity,
            *events.seen,
        ]
        for value in public:
            clean_object(value)
        server.recover()
    manager.remove()
    with pytest.raises(TypeError) as caught:
        pickle.dumps(token)
    clean_error(caught.value)


def test_a_renewal_that_fails_beside_a_usable_token(server: DevServer, make_manager: Make, clock: JumpClock) -> None:
    """The frames of the error hang on to the slot; the token in it does not show."""
    grant(expires_in=1000)(server)
    manager = make_manager(canary(server), clock=clock)
    token = manager.get()
    refuse(CANARY)(server)
    with pytest.raises(CredentialRefusedError) as caught:
        manager.renew()
    clean_error(caught.value)
    clock.expire(token)
    clock.shift += 5
    with pytest.raises(CredentialRefusedError) as caught:
        manager.get()
    clean_error(caught.value)


def test_asyncio_debug_and_cancelled_callers(server: DevServer, make_manager: Make) -> None:
    manager = make_manager(canary(server))
    server.hold()

    async def scenario() -> None:
        asyncio.get_running_loop().slow_callback_duration = 0.0  # report every step
        task = asyncio.create_task(manager.asynchronous().get())
        await asyncio.sleep(0)
        clean(repr(task), "a task")
        task.print_stack(file=(stack := io.StringIO()))
        clean(stack.getvalue(), "the stack of a task")
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(scenario(), debug=True)
    server.release()
    assert manager.get().value


def test_a_hook_that_raises_is_not_quoted(server: DevServer, make_manager: Make, caplog: Any) -> None:
    def hook(event: object) -> None:
        raise LookupError(CANARY)

    manager = make_manager(canary(server), on_event=hook)
    with threads([manager.get] * 3) as answers:
        pass
    assert len(answers.results) == 3
    assert "LookupError" in caplog.text
