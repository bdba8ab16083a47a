"""The authorization server and its admin API as an ASGI application: HTTP in and out, faults and gates in between."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

from accredit.core.messages import Response
from accredit.core.strict import StrictError, parse_json_object
from accredit.devserver.config import is_loopback
from accredit.devserver.connections import hang_up_of
from accredit.devserver.control import Control, encode
from accredit.devserver.core import json_response
from accredit.devserver.faults import FAULT_HEADER, FAULT_PARAMETER, Fault, parse_fault
from accredit.devserver.forms import MAX_BODY_BYTES, Incoming, claimed_client_id, one, parse_form
from accredit.devserver.log import LogEntry

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

HangUp = Callable[[], Awaitable[None]]


class Page(Protocol):
    """What serves the page for people."""

    def serves(self, incoming: Incoming) -> bool:
        """Tell whether a request is for the page."""

    async def answer(self, incoming: Incoming, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer it."""


ADMIN_PREFIX: Final = "/_admin/"
ADMIN_HEADER: Final = "x-admin-token"
_GRANTS: Final = frozenset({"client_credentials", "authorization_code", "refresh_token", "password"})
#: Names that may go into the log as they are; anything else is "other", so that no secret gets in as a name.
_PARAMETERS: Final = frozenset(
    {
        "grant_type", "client_id", "client_secret", "scope", "resource", "audience", "token", "token_type_hint",
        "client_assertion", "client_assertion_type", "assertion", "authorization_details", "tenant", FAULT_PARAMETER,
    }
)  # fmt: skip


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


async def read_incoming(scope: Scope, receive: Receive, *, limit: int = MAX_BODY_BYTES) -> Incoming:
    """Read a request, keeping at most ``limit`` + 1 bytes of its body.

    Raises:
        ClientGoneError: the connection was closed.

    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        if len(body) <= limit:
            body += message.get("body", b"")[: limit + 1 - len(body)]
        if not message.get("more_body", False):
            break
    headers = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"])
    query = scope.get("query_string", b"").decode("latin-1")
    return Incoming(scope["method"], scope["path"], headers, bytes(body), query)


def departure(receive: Receive) -> Callable[[], Awaitable[None]]:
    """Return a function that waits until the client has closed the connection."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    return gone


async def send_response(send: Send, response: Response, *, head: bool = False, truncate: bool = False) -> None:
    """Send a response; a truncated one breaks off in the middle of its body."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    body = b"" if head else response.body[: len(response.body) // 2] if truncate else response.body
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def answer_faulty(
    control: Control,
    fault: Fault,
    truth: Response,
    receive: Receive,
    send: Send,
    hang_up: HangUp,
    *,
    head: bool = False,
) -> int | None:
    """Answer as a fault says; return the status, None when the connection was closed instead."""
    if fault.hang_up:
        await hang_up()
        return None
    response = fault.response or truth
    if fault.drip > 0 and not head:
        await _drip(control, response, fault, receive, send)
    else:
        await send_response(send, response, head=head, truncate=fault.truncate)
    return response.status


async def _drip(control: Control, response: Response, fault: Fault, receive: Receive, send: Send) -> None:
    """Send the body one byte at a time, until it is all there, or the client is gone, or the server stops."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    body = response.body[: len(response.body) // 2] if fault.truncate else response.body
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    for number in range(len(body)):
        await send({"type": "http.response.body", "body": body[number : number + 1], "more_body": True})
        if not await control.delay(fault.drip, departure(receive)) or control.closing:
            break
    await send({"type": "http.response.body", "body": b""})


def wished_fault(control: Control, incoming: Incoming) -> Fault | None:
    """Return the fault that a request asks for, where the configuration lets requests do so.

    Raises:
        ValueError: what it asks for is no fault.

    """
    if not control.authority.config.faults_by_request:
        return None
    wishes = [*incoming.values(FAULT_HEADER)]
    wishes += [value for name, value in parse_qsl(incoming.query) if name == FAULT_PARAMETER]
    form = parse_form(incoming) if incoming.method == "POST" else {}
    if isinstance(form, Mapping):
        wishes += form.get(FAULT_PARAMETER, ())
    if len(wishes) > 1:
        msg = "a request may ask for a fault in one place only"
        raise ValueError(msg)
    return parse_fault(wishes[0]) if wishes else None


def authorization_server(control: Control, page: Page | None = None) -> Application:
    """Return the ASGI application of the authorization server, with its page if there is one."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            incoming = await read_incoming(scope, receive)
        except ClientGoneError:
            return
        if incoming.path.startswith(ADMIN_PREFIX):
            await send_response(send, await _admin(control, incoming, scope.get("client")))
        elif page is not None and page.serves(incoming):
            await page.answer(incoming, scope, receive, send)
        else:
            await _serve(control, incoming, scope, receive, send)

    return application


async def _serve(control: Control, incoming: Incoming, scope: Scope, receive: Receive, send: Send) -> None:
    entry = control.log.add(_entry(control, incoming))
    await control.arrived()
    try:
        await _respond(control, incoming, entry, scope, receive, send)
    finally:
        control.log.end(entry)
        await control.arrived()


async def _respond(
    control: Control, incoming: Incoming, entry: LogEntry, scope: Scope, receive: Receive, send: Send
) -> None:
    head = incoming.method == "HEAD"
    gone = departure(receive)
    if incoming.path == f"{control.authority.config.issuer_path}/token" and not await control.detain(
        "as", entry.client_id, gone
    ):
        return
    fault = control.fault("as", incoming.path)
    problem = ""
    try:
        fault = wished_fault(control, incoming) or fault
    except ValueError as error:
        problem = str(error)
    if problem:
        entry.status, entry.error = 400, "invalid_request"
        members = {"error": "invalid_request", "error_description": f"{problem}."}
        await send_response(send, json_response(400, members), head=head)
        return
    if fault is not None:
        entry.fault = fault.label()
        if not await control.delay(fault.latency, gone):
            return
    truth = Response(200)
    if fault is None or (fault.response is None and not fault.hang_up):
        truth = _truth(control, incoming, entry, fault)
    if fault is None:
        entry.status = truth.status
        await send_response(send, truth, head=head)
        return
    # Known before it is sent: whoever has read the answer finds its status in the log.
    entry.status = None if fault.hang_up else (fault.response or truth).status
    await answer_faulty(control, fault, truth, receive, send, hang_up_of(scope, receive), head=head)


def _truth(control: Control, incoming: Incoming, entry: LogEntry, fault: Fault | None) -> Response:
    outcome = control.authority.handle(
        incoming,
        now=control.now(),
        random_id=secrets.token_urlsafe(18),
        random_value=secrets.token_urlsafe(32),
        twist=fault.twist if fault is not None else (),
    )
    if not control.commit():
        # What was not written must not be handed out: after a restart nobody would know of it.
        entry.error = "server_error"
        members = {"error": "server_error", "error_description": "the state file cannot be written"}
        return json_response(503, members, ("cache-control", "no-store"))
    entry.token_id, entry.error = outcome.token_id, outcome.error
    return outcome.response


def _entry(control: Control, incoming: Incoming) -> LogEntry:
    entry = LogEntry(control.now(), "as", incoming.method, incoming.path)
    if incoming.method == "POST":
        form = parse_form(incoming)
        if isinstance(form, Mapping):
            names = dict.fromkeys(name if name in _PARAMETERS else "other" for name in form)
            entry.parameters = tuple(names)
            grant = one(form, "grant_type")
            entry.grant = grant if grant is None or grant in _GRANTS else "other"
        entry.client_id = claimed_client_id(incoming, control.authority.config)
    return entry


async def _admin(control: Control, incoming: Incoming, peer: Sequence[Any] | None) -> Response:
    """Run a command: ``POST /_admin/NAME`` with a JSON object of arguments."""
    given = incoming.values(ADMIN_HEADER)
    token = given[0] if len(given) == 1 else ""
    known = hmac.compare_digest(token.encode("utf-8", "replace"), control.admin_token.encode())
    if not known or not (peer and is_loopback(peer[0])):
        return json_response(403, {"error": "forbidden"})
    # A browser always sends an Origin along: no page may steer the server.
    if incoming.method != "POST" or incoming.values("origin"):
        return json_response(405, {"error": "method_not_allowed"}, ("allow", "POST"))
    try:
        arguments = parse_json_object(incoming.body or b"{}", max_bytes=MAX_BODY_BYTES)
        result = await control.command(incoming.path.removeprefix(ADMIN_PREFIX), arguments)
        body = encode({"result": result})
    except (StrictError, TypeError, ValueError, LookupError) as error:
        return json_response(400, {"error": f"{type(error).__name__}: {error}"})
    headers = (("content-type", "application/json"), ("content-length", str(len(body))))
    return Response(200, headers, body)
