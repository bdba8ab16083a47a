"""What the tests of stores share: an issuer without a network, events, a raw look into a file."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from accredit import AccessToken, ClientRegistration, ClientSecretPost, TokenManager
from accredit.core.events import Event
from accredit.core.messages import Failure, Request, Response
from accredit.stores.contract import Store

E = TypeVar("E", bound=Event)


class Issuer:
    """A transport to an authorization server that issues token after token, or does not answer at all."""

    def __init__(self, lifetime: int = 3600) -> None:
        self.lifetime = lifetime
        self.count = 0
        self.down = False

    def send(self, request: Request, *, timeout: float) -> Response | Failure:
        assert request.method == "POST"
        assert timeout > 0
        if self.down:
            return Failure("connect", "nobody listens")
        self.count += 1
        members = {"access_token": f"canary-{os.getpid()}-{self.count}", "token_type": "Bearer"}
        body = json.dumps({**members, "expires_in": self.lifetime}).encode()
        return Response(200, (("content-type", "application/json"),), body)

    def after_fork(self) -> None:
        """Have nothing open."""

    def close(self) -> None:
        """Have nothing open."""


class Events:
    """A hook that remembers."""

    def __init__(self) -> None:
        self.seen: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.seen.append(event)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.seen if isinstance(event, kind)]


def registration(registration_id: str = "api-client", **changes: Any) -> ClientRegistration:
    values: dict[str, Any] = {
        "id": registration_id,
        "token_endpoint": "https://as.example/token",
        "client_id": "orders-worker",
        "client_auth": ClientSecretPost("secret"),
    }
    return ClientRegistration(**(values | changes))


@contextmanager
def process(
    store: Store, transport: Issuer, /, *, clock: Any = None, **changes: Any
) -> Iterator[tuple[TokenManager, Events]]:
    """Give a manager as a new process would have it: nothing in memory, all in the store."""
    events = Events()
    manager = TokenManager(
        registration(**changes), store=store, transport=transport, renewal="inline", on_event=events, clock=clock
    )
    with manager:
        yield manager, events


def one_call(store: Store, transport: Issuer, /, *, clock: Any = None, **changes: Any) -> tuple[AccessToken, Events]:
    """Return the token that a new process gets, and the events of its life."""
    with process(store, transport, clock=clock, **changes) as (manager, events):
        return manager.get(), events


def rows(path: Path, statement: str, *values: object) -> list[Any]:
    """Run a statement on a store file, past the store."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement, values).fetchall()


def raw(path: Path) -> bytes:
    """Return all bytes of a store file and of what lies beside it."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(f"*{path.name}*")))


def in_child(function: Callable[[], object], *, user: int | None = None) -> str:
    """Return the repr of what a function returns or raises in a forked child, there as another user if one is given."""
    (text,) = in_children(1, function, user=user)
    return text


def in_children(count: int, function: Callable[[], object], *, user: int | None = None) -> list[str]:
    """Do the same in several children that start together."""
    start, go = os.pipe()
    readers, children = [], []
    for _ in range(count):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            text = ""
            try:
                os.close(go)
                os.read(start, 1)  # returns when the parent closes its end
                if user is not None:
                    os.setgid(user)
                    os.setuid(user)
                text = repr(function())
            except BaseException as error:
                text = f"{type(error).__name__}: {error}"
            finally:
                os.write(writer, text.encode())
                os._exit(0)
        os.close(writer)
        readers.append(reader)
        children.append(child)
    os.close(start)
    os.close(go)
    texts = []
    for reader in readers:
        with os.fdopen(reader, "rb") as file:
            texts.append(file.read().decode())
    for child in children:
        os.waitpid(child, 0)
    return texts
