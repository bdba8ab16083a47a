"""What holds whatever happens: asserted on every case."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

from accredit import AccessToken, Secret, TokenManager
from accredit.core.events import Event
from accredit.core.messages import Request
from accredit.core.records import Claimed, Wait
from accredit.errors import AccreditError
from accredit.runtime.slot import Slot
from tests.bad_inputs.model import CANARIES
from tests.runtime.support import eventually

# The two types that hold a secret for a living; they show it to nobody, which is checked, and are not looked into.
_HOLDERS = (Secret, AccessToken)


def check_hidden(text: str, where: str, *, beside: Iterable[str] = ()) -> None:
    """I2: no canary in a text."""
    for canary in (*CANARIES, *beside):
        assert canary not in text, f"a canary is in {where}"


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Return the error, its causes and contexts."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [current.__cause__, current.__context__]


def own_frames(error: BaseException) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the frames of this library on a traceback: the name of the function, and its local variables."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__", "")).startswith("accredit"):
            yield frame.f_code.co_qualname if hasattr(frame.f_code, "co_qualname") else "?", dict(frame.f_locals)


def attributes_of(value: object) -> Iterator[tuple[str, object]]:
    """Return the attributes of an object of this library, slots included."""
    names = [name for kind in type(value).__mro__ for name in _slots(kind)]
    yield from ((name, getattr(value, name)) for name in names if hasattr(value, name))
    yield from vars(value).items() if hasattr(value, "__dict__") else ()


def _slots(kind: type) -> list[str]:
    slots = kind.__dict__.get("__slots__", ())
    return [slots] if isinstance(slots, str) else list(slots)


def check_value(value: object, where: str) -> None:
    """I2: no canary in what a tool that shows variables would show: the repr, and one level of attributes."""
    check_hidden(repr(value), where)
    if isinstance(value, bytes):
        check_hidden(value.decode("latin-1"), where)
    if type(value).__module__.startswith("accredit") and not isinstance(value, _HOLDERS):
        for name, attribute in attributes_of(value):
            check_hidden(repr(attribute), f"{where}.{name}")


def check_error(error: BaseException) -> None:
    """I1 and I2 on an error as a caller gets it."""
    assert isinstance(error, AccreditError), repr(error)
    assert type(error).__module__ == "accredit.errors"
    assert type(error) is not AccreditError, f"an internal error: {error}"
    for link in chain_of(error):
        for text in (str(link), repr(link), repr(link.args), repr(vars(link)), "".join(getattr(link, "__notes__", ()))):
            check_hidden(text, f"the text of a {type(link).__name__}")
        assert isinstance(link, AccreditError), f"hangs on a {type(link).__name__}"
        for function, variables in own_frames(link):
            for name, value in variables.items():
                check_value(value, f"the variable {name} of {function}")
    check_hidden("".join(traceback.format_exception(error)), "the traceback")
    data = pickle.dumps(error)
    check_hidden(data.decode("latin-1"), "the pickle")
    assert pickle.loads(data) == error
    assert len(str(error)) < 2000
    assert str(error).isprintable(), "control characters in the text of an error"


def check_log(records: Iterable[logging.LogRecord]) -> None:
    """I2 on the log."""
    formatter = logging.Formatter("%(name)s %(levelname)s %(message)s")
    for record in records:
        check_hidden(formatter.format(record), f"the log {record.name}")
        check_hidden(repr(record.args), f"the log {record.name}")


def check_events(events: Iterable[Event]) -> None:
    """I2 on events."""
    for event in events:
        check_hidden(repr(event), "an event")
        check_hidden(repr(tuple(event)), "an event")


def check_public(manager: TokenManager, slots: Iterable[Slot]) -> None:
    """I2 on what a program may print."""
    engine = manager._engine
    check_hidden(repr(manager) + repr(engine) + repr(engine.store) + repr(engine._driver), "the repr of a manager")
    for slot in slots:
        check_value(slot.request, "a token request")
        check_value(slot.request.registration, "a registration")
        check_value(slot.request.registration.client_auth, "a client authentication")
        check_hidden(repr(slot.token) + str(slot.token) + f"{slot.token}", "the repr of a token")
        check_hidden(repr(slot.held), "what is remembered of a refusal")


def check_request(request: Request, hosts: frozenset[str]) -> None:
    """I5, I7 and one client authentication, on a request as it goes to the transport."""
    host = request.url.split("/")[2].partition(":")[0]
    assert host in hosts, f"a request went to {host}"
    assert request.max_bytes <= 512 * 1024
    names = [name.lower() for name, _ in request.headers]
    check_hidden(repr(request) + str(request), "the repr of a request")
    if request.method == "GET":
        assert request.body == b""
        assert not {"authorization", "cookie", "proxy-authorization"} & set(names)
    else:
        assert names.count("authorization") + request.body.count(b"client_secret=") == 1


def check_nothing_left(manager: TokenManager) -> None:
    """I9: no flight, no lease, no worker, nobody who waits."""
    engine = manager._engine
    eventually(lambda: not engine._workers._busy and not engine._workers._waiting, "the end of the workers")
    assert engine._driver._shared == {}
    assert engine.keeper._thread is None
    for slot in engine.slots.values():
        assert slot.flight is None
        claimed = engine.store._store.claim(
            slot.request.identity, newer_than=None, credential="other", owner="probe", lease=1.0
        )
        assert isinstance(claimed, Claimed)
        assert not isinstance(claimed.directive, Wait), "a lease was left behind"
