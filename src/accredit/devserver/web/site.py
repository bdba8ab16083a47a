"""The routes of the page: who may come in, what is shown, what forms do, and the news for the script."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from accredit.core.messages import Response
from accredit.devserver.app import Receive, Scope, Send, departure, send_response
from accredit.devserver.checks import examine
from accredit.devserver.config import is_loopback
from accredit.devserver.control import Control
from accredit.devserver.forms import Form, Incoming, one, parse_form
from accredit.devserver.web.actions import DONE, WrongFormError, perform
from accredit.devserver.web.assets import source_hash
from accredit.devserver.web.parts import View
from accredit.devserver.web.shield import PREFIX, Shield, security_headers
from accredit.devserver.web.view import door, page

_HEARTBEAT: Final = 15.0
#: The least time between two pieces of news, in seconds: a herd of requests is one piece.
_CALM: Final = 0.2
_MAX_SCOPES: Final = 50


class WebPage:
    """The page of a server.

    Args:
        control: the server.
        origins: under which it is reached, see :func:`accredit.devserver.web.shield.allowed_origins`.
        api_url: where its protected API is.

    """

    def __init__(self, control: Control, origins: frozenset[str], api_url: str) -> None:
        """Draw a session of its own."""
        port = max((urlsplit(origin).port or 0 for origin in origins), default=0)
        secure = any(origin.startswith("https:") for origin in origins)
        cookie = f"accredit-{port}"
        self._shield = Shield(origins, control.page_key, secrets.token_urlsafe(32), secure, cookie)
        self._control = control
        self._api_url = api_url
        self._headers = security_headers((source_hash("style.css"),), (source_hash("script.js"),))

    def link(self, url: str) -> str:
        """Return the address that opens the page, key included; on loopback, whatever ``url`` the server has."""
        known = sorted(self._shield.origins, key=lambda origin: "127.0.0.1" not in origin)
        origin = url if url in self._shield.origins else known[0]
        return f"{origin}{PREFIX}enter?key={self._control.page_key}"

    def serves(self, incoming: Incoming) -> bool:
        """Tell whether a request is for the page."""
        return incoming.path in {"/", PREFIX.rstrip("/")} or incoming.path.startswith(PREFIX)

    async def answer(self, incoming: Incoming, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        refusal = self._refusal(incoming, scope)
        if refusal is None and incoming.path == f"{PREFIX}events" and incoming.method == "GET":
            await self._news(receive, send)
            return
        response = refusal or await self._respond(incoming)
        await send_response(send, response, head=incoming.method == "HEAD")

    # ---- who comes in ---------------------------------------------------------------------------------------

    def _refusal(self, incoming: Incoming, scope: Scope) -> Response | None:
        peer = scope.get("client")
        if not (peer and is_loopback(peer[0])):
            return self._text(403, "This page is for people on the machine that the server runs on.")
        if not self._shield.knows_host(incoming):
            return self._text(421, "This server is not known under that name.")
        if not self._shield.may_read(incoming):
            return self._text(403, "Pages of other origins may not ask for this one.")
        if incoming.method not in {"GET", "HEAD", "POST"}:
            return self._text(405, "There is no such method here.", ("allow", "GET, HEAD, POST"))
        if incoming.method == "POST" and not self._shield.from_here(incoming):
            return self._text(403, "Forms are taken from this page only.")
        inside = incoming.path.startswith(PREFIX) and incoming.path != f"{PREFIX}enter"
        if inside and not self._shield.has_session(incoming):
            return self._html(403, door(""))
        return None

    # ---- what they get --------------------------------------------------------------------------------------

    async def _respond(self, incoming: Incoming) -> Response:
        if not incoming.path.startswith(PREFIX):
            return self._elsewhere(PREFIX)
        route = incoming.path.removeprefix(PREFIX)
        query = dict(parse_qsl(incoming.query))
        if incoming.method == "POST":
            return await self._post(route, incoming)
        if route == "enter":
            return self._enter(query.get("key", ""))
        if route:
            return self._html(404, self._page("There is no such page.", bad=True))
        self._control.page_opened()
        return self._html(200, self._page(DONE.get(query.get("done", ""), "")))

    async def _post(self, route: str, incoming: Incoming) -> Response:
        form = parse_form(incoming)
        if not isinstance(form, Mapping):
            return self._html(400, door(f"The form was not understood: {form.description}."))
        if route == "enter":
            return self._enter(one(form, "key") or "")
        if not self._shield.has_form_token(form):
            return self._html(403, self._page("The form is older than the server. Try it again.", bad=True))
        if route == "check":
            return self._check(form)
        problem = done = ""
        try:
            done = await perform(self._control, route.removeprefix("do/") if route.startswith("do/") else "", form)
        except WrongFormError as error:
            problem = str(error)
        if problem:
            return self._html(400, self._page(f"Nothing was done: {problem}.", bad=True))
        return self._elsewhere(f"{PREFIX}?done={done}#notice")

    def _enter(self, key: str) -> Response:
        if not key:
            return self._html(403, door(""))
        if not self._shield.is_key(key):
            return self._html(403, door("That is not the key. The server prints it when it starts, each time another."))
        return self._elsewhere(PREFIX, self._shield.set_cookie())

    def _check(self, form: Form) -> Response:
        token = (one(form, "token") or "").strip()
        if not token:
            return self._html(400, self._page("Nothing was done: there is no token to check.", bad=True))
        wanted = tuple((one(form, "scope") or "").split()[:_MAX_SCOPES])
        control = self._control
        verdict = examine(token, control.authority, now=control.now(), audience=one(form, "audience"), scope=wanted)
        view = View(control, self._api_url, self._shield.form_token(), verdict=verdict)
        return self._html(200, page(view))

    def _page(self, notice: str, *, bad: bool = False) -> str:
        return page(View(self._control, self._api_url, self._shield.form_token(), notice, bad))

    # ---- how it is sent -------------------------------------------------------------------------------------

    def _html(self, status: int, text: str) -> Response:
        return self._response(status, "text/html; charset=utf-8", text)

    def _text(self, status: int, text: str, *more: tuple[str, str]) -> Response:
        return self._response(status, "text/plain; charset=utf-8", f"{text}\n", *more)

    def _elsewhere(self, place: str, *more: tuple[str, str]) -> Response:
        return self._response(303, "text/plain; charset=utf-8", "", ("location", place), *more)

    def _response(self, status: int, kind: str, text: str, *more: tuple[str, str]) -> Response:
        # A lone surrogate in what is shown has become visible as an escape; nothing is left that has no UTF-8.
        body = text.encode()
        fields = (("content-type", kind), ("content-length", str(len(body))), *self._headers, *more)
        return Response(status, fields, body)

    async def _news(self, receive: Receive, send: Send) -> None:
        """Tell the script that something changed, as often as it does (server-sent events), until either side ends."""
        headers = [*self._headers, ("content-type", "text/event-stream")]
        fields = [(name.encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": b"retry: 1000\n\n", "more_body": True})
        leaving = asyncio.ensure_future(departure(receive)())
        version = self._control.version
        try:
            while not self._control.closing:
                fresh = await _unless(leaving, self._control.news(version, _HEARTBEAT))
                if fresh is None:
                    return
                text = b": nothing new\n\n" if fresh == version else b"data: %d\n\n" % fresh
                version = fresh
                await send({"type": "http.response.body", "body": text, "more_body": True})
                await self._control.pause(_CALM)
            await send({"type": "http.response.body", "body": b""})
        finally:
            leaving.cancel()


async def _unless(leaving: asyncio.Future[None], work: Awaitable[int]) -> int | None:
    """Return what the work gives, or None when the client leaves first."""
    task = asyncio.ensure_future(work)
    both: set[asyncio.Future[Any]] = {task, leaving}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        return None if leaving.done() else task.result()
    finally:
        task.cancel()


__all__ = ["WebPage"]
