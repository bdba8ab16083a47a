"""The authorization server and its admin API as an ASGI application: HTTP in and out, faults and gates in between."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final

from accredit.core.messages import Response
from accredit.core.strict import StrictError, parse_json_object
from accredit.devserver.config import is_loopback
from accredit.devserver.control import Control, Fault, encode
from accredit.devserver.core import json_response
from accredit.devserver.forms import MAX_BODY_BYTES, Incoming, claimed_client_id, one, parse_form
from accredit.devserver.log import LogEntry

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

ADMIN_PREFIX: Final = "/_admin/"
ADMIN_HEADER: Final = "x-admin-token"
_GRANTS: Final = frozenset({"client_credentials", "authorization_code", "refresh_token", "password"})
#: Names that may go into the log as they are; anything else is "other", so that no secret gets in as a name.
_PARAMETERS: Final = frozenset(
    {
        "grant_type", "client_id", "client_secret", "scope", "resource", "audience", "token", "token_type_hint",
        "client_assertion", "client_assertion_type", "assertion", "authorization_details", "tenant",
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
    return Incoming(scope["method"], scope["path"], headers, bytes(body))


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


async def send_fault(send: Send, fault: Fault, entry: LogEntry, *, head: bool = False) -> None:
    """Send a planned fault."""
    entry.status = fault.response.status
    await send_response(send, fault.response, head=head, truncate=fault.truncate)


def authorization_server(control: Control) -> Application:
    """Return the ASGI application of the authorization server."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            incoming = await read_incoming(scope, receive)
        except ClientGoneError:
            return
        if incoming.path.startswith(ADMIN_PREFIX):
            await send_response(send, await _admin(control, incoming, scope.get("client")))
        else:
            await _serve(control, incoming, receive, send)

    return application


async def _serve(control: Control, incoming: Incoming, receive: Receive, send: Send) -> None:
    entry = control.log.add(_entry(control, incoming))
    await control.arrived()
    head = incoming.method == "HEAD"
    if incoming.path == f"{control.authority.config.issuer_path}/token" and not await control.detain(
        "as", entry.client_id, departure(receive)
    ):
        return
    fault = control.fault("as", incoming.path)
    if fault is not None:
        await send_fault(send, fault, entry, head=head)
        return
    outcome = control.authority.handle(incoming, now=control.now(), random_id=secrets.token_urlsafe(18))
    entry.status, entry.token_id = outcome.response.status, outcome.token_id
    await send_response(send, outcome.response, head=head)


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
