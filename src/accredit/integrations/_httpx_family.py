"""The one auth flow of httpx2 and httpx, whose classes look alike but are not interchangeable.

Both clients run the flow around redirects: what is yielded is sent, redirects are followed, and the last answer
comes back. On a redirect to another origin they take the Authorization header off (but for http to https of the same
host, on the default ports), so an answer is about our token only if its own request still carries it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Hashable
from typing import Any, ClassVar

from accredit.core.calls import Choice, call_origin
from accredit.core.token import AccessToken
from accredit.integrations._tokens import MOST_PLACES, Attachment, Tokens
from accredit.runtime.slot import Slot

_OPTION = "accredit"
# Under this name a request remembers the token it was given, so that a request sent again gets the token of the day
# rather than passing for one with a header of the caller's own.
_GIVEN = "accredit.token"
_MOST_DRAINED = 64 * 1024


class HttpxAuth(Attachment):
    """Attach an access token to each call, and heal a 401 once. See the modules for each library."""

    requires_request_body = False
    requires_response_body = False
    _library: ClassVar[str]
    _byte_stream: ClassVar[type[Any]]
    _put: Callable[[Any, str], bool]
    _place: Callable[[Any], Hashable]

    def _settle(self, tokens: Tokens, choice: Choice) -> None:
        super()._settle(tokens, choice)
        self._places: set[Hashable] = set()

    def __repr__(self) -> str:
        """Say which library it is for: a client of the other one quotes this when it refuses the object."""
        return (
            f"<AccreditAuth for {self._library}; the one for another library is in accredit.integrations,"
            " in the module of that name>"
        )

    # -- the flow, twice: the two differ in how they wait -----------------------------------------------------

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Run the call of a synchronous client. Raises the typed errors of :meth:`TokenManager.get`."""
        slot = self._quick
        token = self._ready(slot, request)
        if token is None:
            found = self._slot_of(request)
            if found is None:
                yield request
                return
            slot = found
            token = self._tokens.obtain(slot)
            _attach(request, token)
        response = yield request
        if response.status_code != 401:
            return
        origin = _origin(response.request)
        if not self._retry_after(response, slot, token, origin, retried=False):
            return
        if _is_small(response):
            # The connection goes back to the pool before the wait.
            self._refill(response, b"".join(response.iter_raw()))
        newer = self._tokens.replacement(slot, token, origin)
        if newer is None:
            return
        # After a redirect it is the request of the last hop that was refused; those before it were served.
        request = response.request
        _attach(request, newer)
        response = yield request
        if response.status_code == 401:
            self._retry_after(response, slot, newer, _origin(response.request), retried=True)

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """Run the call of an asynchronous client. Raises the typed errors of :meth:`AsyncTokenManager.get`."""
        slot = self._quick
        token = self._ready(slot, request)
        if token is None:
            found = self._slot_of(request)
            if found is None:
                yield request
                return
            slot = found
            token = await self._tokens.obtain_async(slot)
            _attach(request, token)
        response = yield request
        if response.status_code != 401:
            return
        origin = _origin(response.request)
        if not self._retry_after(response, slot, token, origin, retried=False):
            return
        if _is_small(response):
            self._refill(response, b"".join([part async for part in response.aiter_raw()]))
        newer = await self._tokens.replacement_async(slot, token, origin)
        if newer is None:
            return
        request = response.request
        _attach(request, newer)
        response = yield request
        if response.status_code == 401:
            self._retry_after(response, slot, newer, _origin(response.request), retried=True)

    # -- before the call ----------------------------------------------------------------------------------------

    def _ready(self, slot: Slot, request: Any) -> AccessToken | None:
        """Attach a fresh token if nothing about this call is out of the ordinary; else None, and nothing was done."""
        token = slot.fresh
        if (
            token is None
            or self._now() >= token.renew_at
            or self._place(request.url) not in self._places
            or _OPTION in request.extensions
            or not self._put(request.headers, token.authorization)
        ):
            return None
        request.extensions[_GIVEN] = token
        return token

    def _slot_of(self, request: Any) -> Slot | None:
        """Return the slot of the token for this call; None when it is to go as it is."""
        own = request.headers.get("Authorization")
        if own is not None and not _is_ours(request, own):
            return None
        option = request.extensions.get(_OPTION)
        slot = self._tokens.slot(self._choice if option is None else self._choice.vary_by(option))
        if self._tokens.allows(slot, _origin(request)):
            if option is None and self._tokens.fixed:
                self._quick = slot
                if len(self._places) >= MOST_PLACES:
                    self._places = set()
                self._places.add(self._place(request.url))
            return slot
        if own is not None:
            del request.headers["Authorization"]
        return None

    # -- after a 401 --------------------------------------------------------------------------------------------

    def _retry_after(self, response: Any, slot: Slot, token: AccessToken, origin: str, *, retried: bool) -> bool:
        request = response.request
        return self._tokens.worth_a_retry(
            slot,
            token,
            response.headers.get_list("www-authenticate"),
            origin=origin,
            carried=request.headers.get("Authorization") == token.authorization,
            replayable=self._is_replayable(request.stream),
            retried=retried,
        )

    def _is_replayable(self, stream: Any) -> bool:
        """Tell whether a body is in memory. Generators and files are at their end by now."""
        if isinstance(stream, self._byte_stream):
            return True
        parts = getattr(stream, "fields", None)  # multipart/form-data
        return isinstance(parts, list) and all(isinstance(getattr(part, "file", b""), bytes | str) for part in parts)

    def _refill(self, response: Any, body: bytes) -> None:
        """Make a response that was read in full look as if it had not been, for a caller who streams."""
        response.stream = self._byte_stream(body)
        response.is_stream_consumed = False
        response.is_closed = False


def _attach(request: Any, token: AccessToken) -> None:
    request.headers["Authorization"] = token.authorization
    request.extensions[_GIVEN] = token


def _is_ours(request: Any, authorization: str) -> bool:
    given = request.extensions.get(_GIVEN)
    return isinstance(given, AccessToken) and given.authorization == authorization


def _origin(request: Any) -> str:
    return call_origin(request.url.scheme, request.url.netloc.decode("ascii"))


def _is_small(response: Any) -> bool:
    if response.is_stream_consumed or response.is_closed:
        return False
    length = response.headers.get("content-length", "")
    return length.isdecimal() and len(length) < 10 and int(length) <= _MOST_DRAINED


def putter(headers_class: Callable[..., Any]) -> Callable[[Any, str], bool]:
    """Return a function that puts an Authorization header where there is none, and tells whether it did.

    To look and to set are two passes through the headers, more than the rest of the auth step together. Where the
    list behind them is what it has been for years, one pass does both.
    """
    probe = headers_class({"A": "b"})
    return _put_quickly if getattr(probe, "_list", None) == [(b"A", b"a", b"b")] else _put_plainly


def _put_quickly(headers: Any, value: str) -> bool:
    entries = headers._list  # noqa: SLF001 - checked by putter()
    for entry in entries:
        if entry[1] == b"authorization":
            return False
    entries.append((b"Authorization", b"authorization", value.encode("ascii")))
    return True


def _put_plainly(headers: Any, value: str) -> bool:
    if "Authorization" in headers:
        return False
    headers["Authorization"] = value
    return True


def placer(url_class: Callable[[str], Any]) -> Callable[[Any], Hashable]:
    """Return a function that tells what of a URL decides where a request goes: scheme, user information, host, port.

    The properties of a URL put texts together anew at each look. Where its parts are what they have been for years,
    they are taken as they lie there.
    """
    probe = getattr(url_class("https://u:p@API.example:8443/path?a=b#c"), "_uri_reference", None)
    parts = isinstance(probe, tuple) and probe == ("https", "u:p", "api.example", 8443, "/path", "a=b", "c")
    return _place_quickly if parts else _place_plainly


def _place_quickly(url: Any) -> Hashable:
    place: Hashable = url._uri_reference[:4]  # noqa: SLF001 - checked by placer()
    return place


def _place_plainly(url: Any) -> Hashable:
    return (url.scheme, url.userinfo, url.host, url.port)
