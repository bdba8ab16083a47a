"""Tokens for aiohttp clients.

Example::

    attach = AccreditMiddleware(manager)
    async with aiohttp.ClientSession(middlewares=(attach,)) as session:
        await session.get("https://api.example.com/orders")
        await session.get("https://api.example.com/reports", middlewares=(attach.using("reports-client"),))

"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

try:
    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, hdrs
except ImportError as _missing:
    if _missing.name != "aiohttp":
        raise
    raise ImportError(
        "accredit.integrations.aiohttp needs the package aiohttp, not older than 3.13: install accredit[aiohttp]",
        name="aiohttp",
    ) from _missing

from yarl import URL

from accredit.core.calls import Choice, call_origin
from accredit.core.token import AccessToken
from accredit.integrations._tokens import MOST_PLACES, Attachment, Tokens
from accredit.runtime.slot import Slot

__all__ = ["AccreditMiddleware"]

_HEADER = hdrs.AUTHORIZATION
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class _Note:
    """What later hops of a redirected call have to know.

    Attributes:
        call: what tells the call from others.
        left: it was redirected to another origin: no hop gets a token any more.
        retried: it was sent a second time.

    """

    call: object
    left: bool = False
    retried: bool = False


# aiohttp runs a middleware once for every hop of a redirect and takes off only headers of the caller's own. What ties
# the hops of a call together is that they run in one context and share a list of traces.
_note: ContextVar[_Note | None] = ContextVar("accredit_note", default=None)


class AccreditMiddleware(Attachment):
    """Attaches an access token to calls: one of ``middlewares`` of a session or of one call (aiohttp 3.12 and later).

    The token of one call is chosen with ``middlewares=(attach.using(...),)``.

    An ``Authorization`` header of the caller's own wins, and so does ``auth=``; an entry of a netrc file never replaces
    the token. The token goes to ``api_origins`` of the registration only, over plain http to loopback only, and never
    follows a redirect to another origin. After a 401 that is about the token, the call is sent once more with a newer
    one, if its body can be; else the 401 reaches the caller.

    Raises:
        AccreditError: out of the call, when no token can be had; it is never sent without.

    """

    def _settle(self, tokens: Tokens, choice: Choice) -> None:
        super()._settle(tokens, choice)
        # By the authority of a URL, the scheme with which the token may go there.
        self._schemes: dict[str, str] = {}

    def __repr__(self) -> str:
        """Say which library it is for."""
        return "<AccreditMiddleware for aiohttp>"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Run one hop of a call. Raises the typed errors of :meth:`AsyncTokenManager.get`."""
        slot = self._quick
        if (
            (token := slot.fresh) is None
            or self._now() >= token.renew_at
            or self._schemes.get((url := request.url)._netloc) != url._scheme  # noqa: SLF001 - as _SPLITS found
            or _note.get() is not None
            or request.headers.setdefault(_HEADER, token.authorization) is not token.authorization
        ):
            found = await self._slot_of(request)
            if found is None:
                return _noted(request, await handler(request))
            slot = found
            token = await self._tokens.obtain_async(slot)
            request.headers[_HEADER] = token.authorization
        response = await handler(request)
        if response.status < 300:
            return response
        if response.status == 401:
            response = await self._after_401(request, response, handler, slot, token)
        return _noted(request, response)

    # -- before the call ----------------------------------------------------------------------------------------

    async def _slot_of(self, request: ClientRequest) -> Slot | None:
        """Return the slot of the token for this hop; None when it is to go as it is."""
        note = _note_of(request)
        if note is None:
            _note.set(None)  # It is of a call that is over, if there is one.
        elif note.left:
            return None
        own = request.headers.get(_HEADER)
        if own is not None and not await _is_from_netrc(request, own):
            return None
        slot = self._tokens.slot(self._choice)
        url = request.url
        if not self._tokens.allows(slot, _origin(url)):
            return None
        if _SPLITS and self._tokens.fixed:
            self._quick = slot
            if len(self._schemes) >= MOST_PLACES:
                self._schemes = {}
            self._schemes[url._netloc] = url._scheme  # noqa: SLF001 - checked where _SPLITS is set
        return slot

    # -- after it -------------------------------------------------------------------------------------------------

    async def _after_401(
        self,
        request: ClientRequest,
        response: ClientResponse,
        handler: ClientHandlerType,
        slot: Slot,
        token: AccessToken,
    ) -> ClientResponse:
        note = _note_of(request)
        if not self._retry_after(request, response, slot, token, retried=note is not None and note.retried):
            return response
        try:
            newer = await self._tokens.replacement_async(slot, token, _origin(request.url))
        except BaseException:
            response.close()  # The task was cancelled: nobody will read this any more.
            raise
        if newer is None:
            return response
        request.session.cookie_jar.update_cookies(response.cookies, response.url)
        response.release()
        await response.wait_for_close()
        _note.set(_Note(_call_of(request), retried=True))
        request.headers[_HEADER] = newer.authorization
        response = await handler(request)
        if response.status == 401:
            self._retry_after(request, response, slot, newer, retried=True)
        return response

    def _retry_after(
        self, request: ClientRequest, response: ClientResponse, slot: Slot, token: AccessToken, *, retried: bool
    ) -> bool:
        body = request.body
        return self._tokens.worth_a_retry(
            slot,
            token,
            response.headers.getall(hdrs.WWW_AUTHENTICATE, ()),
            origin=_origin(request.url),
            carried=request.headers.get(_HEADER) == token.authorization,
            replayable=isinstance(body, bytes) or not body.consumed,
            retried=retried,
        )


def _noted(request: ClientRequest, response: ClientResponse) -> ClientResponse:
    """Note that a call is redirected to another origin: from there on, back again included, it gets no token."""
    if response.status in _REDIRECTS and _redirect_origin(request, response) != _origin(request.url):
        _note.set(_Note(_call_of(request), left=True))
    return response


def _note_of(request: ClientRequest) -> _Note | None:
    note = _note.get()
    return note if note is not None and note.call is _call_of(request) else None


def _call_of(request: ClientRequest) -> object:
    # Without that list, rather too many calls without a token than one token too many.
    traces = getattr(request, "_traces", None)
    return asyncio.current_task() if traces is None else traces


def _redirect_origin(request: ClientRequest, response: ClientResponse) -> str | None:
    target = response.headers.get(hdrs.LOCATION) or response.headers.get(hdrs.URI)
    if target is None:
        return _origin(request.url)
    try:
        return _origin(request.url.join(URL(target)))
    except ValueError:
        return None


def _origin(url: URL) -> str:
    host = url.host_subcomponent or ""
    return call_origin(url.scheme, host if url.port is None else f"{host}:{url.port}")


async def _is_from_netrc(request: ClientRequest, authorization: str) -> bool:
    session: Any = getattr(request, "session", None)
    if session is None or not session.trust_env or not authorization.startswith("Basic "):
        return False
    host = request.url.host
    return await asyncio.to_thread(_netrc_header, host) == authorization if host is not None else False


def _netrc_header(host: str) -> str | None:
    try:
        from aiohttp.helpers import basicauth_from_netrc, netrc_from_env
    except ImportError:  # They are no promise of aiohttp's.
        return None
    try:
        return basicauth_from_netrc(netrc_from_env(), host).encode()
    except LookupError:
        return None


def _splits(url_class: Callable[[str], Any]) -> bool:
    """Tell whether a URL keeps scheme and authority as texts, as it has done for years."""
    probe = url_class("https://u:p@API.example:8443/path?a=b#c")
    return (getattr(probe, "_scheme", None), getattr(probe, "_netloc", None)) == ("https", "u:p@api.example:8443")


_SPLITS = _splits(URL)
