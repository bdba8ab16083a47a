"""Tokens for requests and its sessions.

Example::

    session = requests.Session()
    session.auth = AccreditAuth(manager)
    session.get("https://api.example.com/orders")
    session.get("https://api.example.com/reports", auth=session.auth.using("reports-client"))

"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Literal
from urllib.parse import urljoin, urlsplit

try:
    import requests
except ModuleNotFoundError as _missing:
    if _missing.name != "requests":
        raise
    raise ImportError(
        "accredit.integrations.requests needs the package requests: install accredit[requests]",
        name="requests",
    ) from _missing

from requests.auth import AuthBase
from requests.structures import CaseInsensitiveDict

from accredit.core.calls import Choice, call_origin
from accredit.core.token import AccessToken
from accredit.errors import ConfigurationError
from accredit.integrations._tokens import Attachment, Tokens
from accredit.runtime.slot import Slot

__all__ = ["AccreditAuth"]

_HEADER = "Authorization"
_MOST_REMEMBERED = 8
_MOST_PREFIXES = 8


class AccreditAuth(Attachment, AuthBase):
    """Attaches an access token to calls: as ``auth`` of a session or of one call. Threads may share it.

    The token of one call is chosen with ``auth=auth.using(...)``.

    An ``Authorization`` header of the caller's own, on the session or the call, wins; an entry of a netrc file never
    replaces the token. The token goes to ``api_origins`` of the registration only, over plain http to loopback only,
    and never follows a redirect to another origin. After a 401 that is about the token, the call is sent once more
    with a newer one, if its body is in memory or a file that can seek; else the 401 reaches the caller.

    Raises:
        AccreditError: out of the call, when no token can be had; it is never sent without.

    """

    def _settle(self, tokens: Tokens, choice: Choice) -> None:
        super()._settle(tokens, choice)
        # The token that was attached last, and how it lies in the headers of a request.
        self._ready: tuple[Any, tuple[str, str]] = (_NO_TOKEN, ("", ""))
        self._prefixes: tuple[str, ...] = ()
        self._hook = self._on_response
        # The tokens that were attached of late, by their header: an answer says which one its request carried.
        self._attached: dict[str, AccessToken] = {}

    def __repr__(self) -> str:
        """Say which library it is for."""
        return "<AccreditAuth for requests>"

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        """Attach the token to a request that is being prepared. Raises the typed errors of ``TokenManager.get``."""
        token, entry = self._ready
        request: Any = r
        try:
            if (
                token is self._quick.fresh
                and self._now() < token.renew_at  # type: ignore[union-attr]  # _NO_TOKEN is not None
                and ((body := request.body) is None or body.__class__ is bytes)
                and request.url.startswith(self._prefixes)
                and not (hooks := request.hooks["response"])
                # Asking headers for what they lack raises and catches an error, which costs more than all the rest.
                and "authorization" not in (headers := request.headers._store)  # noqa: SLF001 - as _STORES found
            ):
                headers["authorization"] = entry
                hooks.append(self._hook)
                return r
        except AttributeError:  # It is not what requests makes, or not whole: the other way says what is wrong.
            pass
        return self._attach_slowly(r)

    # -- before the call ----------------------------------------------------------------------------------------

    def _attach_slowly(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        if not isinstance(r, requests.PreparedRequest):
            raise ConfigurationError(
                f"this AccreditAuth is for requests, and was given a request of {type(r).__module__}.",
                advice="Take the AccreditAuth from the module in accredit.integrations that has the library's name.",
            )
        # A request may be prepared anew with the header that it was given here.
        own = r.headers.get(_HEADER)
        if own is not None and not isinstance(own, str):
            own = own.decode("latin-1")
        if own is not None and own not in self._attached:
            return r
        slot = self._tokens.slot(self._choice)
        url = r.url or ""
        if self._tokens.allows(slot, _origin(url)):
            if _STORES and self._tokens.fixed:
                self._learn(slot, url)
            self._attach(r, self._tokens.obtain(slot))
        else:
            r.headers.pop(_HEADER, None)
        return r

    def _learn(self, slot: Slot, url: str) -> None:
        """Remember how URLs begin that the token may go to: up to the slash that ends the authority."""
        if url.startswith("https://") and self._tokens.goes_to_any_https(slot):
            prefix = "https://"
        else:
            prefix = url[: url.find("/", len("https://")) + 1]
        if prefix and prefix not in self._prefixes:
            # A few are as quick as one. Of many, those in use come back by themselves.
            self._prefixes = (prefix, *self._prefixes[: _MOST_PREFIXES - 1])
        self._quick = slot

    def _attach(self, r: requests.PreparedRequest, token: AccessToken) -> None:
        r.headers[_HEADER] = token.authorization
        self._remember(token)
        self._ready = (token, (_HEADER, token.authorization))
        hooks = r.hooks["response"]
        body = r.body
        if body is None or isinstance(body, bytes | str):
            if self._hook not in hooks:
                hooks.append(self._hook)
        else:
            hooks[:] = [hook for hook in hooks if not isinstance(hook, _Rewinding)]
            hooks.append(_Rewinding(self, body))

    def _remember(self, token: AccessToken) -> None:
        # Each step is one that threads cannot see half done.
        self._attached[token.authorization] = token
        for oldest in list(self._attached)[:-_MOST_REMEMBERED]:
            self._attached.pop(oldest, None)

    # -- after it -------------------------------------------------------------------------------------------------

    def _on_response(self, response: requests.Response, **settings: Any) -> requests.Response:
        """Answer a 401, and keep the header where it belongs on a redirect. It is the ``response`` hook."""
        return self._answered(response, None, settings)

    def _answered(
        self, response: requests.Response, rewinding: _Rewinding | None, settings: dict[str, Any]
    ) -> requests.Response:
        if response.status_code == 401:
            response = self._after_401(response, rewinding, settings)
        if response.is_redirect:
            self._before_redirect(response)
        return response

    def _after_401(
        self, response: requests.Response, rewinding: _Rewinding | None, settings: dict[str, Any]
    ) -> requests.Response:
        request = response.request
        token = self._attached.get(_header_of(request))
        if token is None:
            return response
        slot = self._tokens.slot(self._choice)
        if not self._retry_after(response, slot, token, rewinding, retried=_was_retried(request)):
            return response
        try:
            newer = self._tokens.replacement(slot, token, _origin(request.url or ""))
        except BaseException:
            response.close()  # An interrupt must not leave a connection behind.
            raise
        if newer is None or (rewinding is not None and not rewinding.rewind()):
            return response
        self._remember(newer)
        # Read to the end and given back, the connection serves the second try.
        with suppress(requests.RequestException, RuntimeError):
            _ = response.content
        response.close()
        again = request.copy()
        # The first request is what a redirect would be made from, so it has to carry the newer token too.
        for each in (request, again):
            each.headers = _Headers(each.headers, copies_retried=True)
            each.headers[_HEADER] = newer.authorization
        connection: Any = response.connection
        answer: requests.Response = connection.send(again, **settings)
        answer.history.append(response)
        answer.request = again
        if answer.status_code == 401:
            self._retry_after(answer, slot, newer, rewinding, retried=True)
        return answer

    def _retry_after(
        self,
        response: requests.Response,
        slot: Slot,
        token: AccessToken,
        rewinding: _Rewinding | None,
        *,
        retried: bool,
    ) -> bool:
        request = response.request
        body = request.body
        plain = body is None or isinstance(body, bytes | str)
        challenge = response.headers.get("www-authenticate")
        return self._tokens.worth_a_retry(
            slot,
            token,
            () if challenge is None else (challenge,),
            origin=_origin(request.url or ""),
            carried=_header_of(request) == token.authorization,
            replayable=plain or (rewinding is not None and rewinding.can_rewind(body)),
            retried=retried,
        )

    def _before_redirect(self, response: requests.Response) -> None:
        request = response.request
        if _header_of(request) in self._attached:
            # requests would put an entry of a netrc file over the token when the redirect stays at the origin, and
            # leave the token on when it goes from http to https of the same host.
            stays = _redirect_origin(response) == _origin(request.url or "")
            old = request.headers
            request.headers = _Headers(
                old,
                retried=_was_retried(request),
                copies_retried=isinstance(old, _Headers) and old.copies_retried,
                on_copy="keep" if stays else "drop",
            )


class _Rewinding:
    """The response hook of a request whose body is a stream: knows where it began."""

    def __init__(self, auth: AccreditAuth, body: Any) -> None:
        self._auth = auth
        self._body = body
        self._start: int | None = None
        tell, seek = getattr(body, "tell", None), getattr(body, "seek", None)
        if callable(tell) and callable(seek):
            with suppress(OSError, ValueError):
                self._start = tell()

    def __call__(self, response: requests.Response, **settings: Any) -> requests.Response:
        return self._auth._answered(response, self, settings)  # noqa: SLF001 - of this module

    def can_rewind(self, body: object) -> bool:
        return self._start is not None and body is self._body

    def rewind(self) -> bool:
        try:
            self._body.seek(self._start)
        except (OSError, ValueError):
            return False
        return True


class _Headers(CaseInsensitiveDict[str]):
    """Headers of a request that was sent again or redirected: a redirect is made from a copy of them.

    Attributes:
        retried: the request is a later hop of a call that was sent a second time.
        copies_retried: its copies are.
        on_copy: what a copy does about the Authorization header: "keep" it against being overwritten, "drop" it, or
            nothing.

    """

    def __init__(
        self,
        data: Any,
        *,
        retried: bool = False,
        copies_retried: bool = False,
        on_copy: Literal["keep", "drop"] | None = None,
    ) -> None:
        """Take the headers over."""
        self.retried = retried
        self.copies_retried = copies_retried or retried
        self.on_copy = on_copy
        self._kept = False
        super().__init__(data)

    def __setitem__(self, key: str, value: str) -> None:
        """Set a header, if it is not the one to be kept."""
        if not (self._kept and key.lower() == "authorization" and key in self):
            super().__setitem__(key, value)

    def copy(self) -> _Headers:
        """Return the headers of a request that is made from this one."""
        other = _Headers(self, retried=self.copies_retried)
        if self.on_copy == "drop":
            other.pop(_HEADER, None)
        other._kept = self.on_copy == "keep"
        return other


def _keeps_a_store(headers_class: Callable[..., Any]) -> bool:
    """Tell whether headers keep name and value under the name in lower case, as they have done for years."""
    return getattr(headers_class({"A": "b"}), "_store", None) == {"a": ("A", "b")}


_STORES = _keeps_a_store(CaseInsensitiveDict)
#: Not None, which is what a slot without a token has.
_NO_TOKEN: Final[Any] = object()


def _header_of(request: requests.PreparedRequest) -> str:
    value = request.headers.get(_HEADER, "")
    return value if isinstance(value, str) else value.decode("latin-1")


def _was_retried(request: requests.PreparedRequest) -> bool:
    return isinstance(request.headers, _Headers) and request.headers.retried


def _origin(url: str) -> str:
    parts = urlsplit(url)
    # What stands before the last @ is user information, but for readers to whom a backslash ends the host.
    return call_origin(parts.scheme, parts.netloc if "\\" in parts.netloc else parts.netloc.rpartition("@")[2])


def _redirect_origin(response: requests.Response) -> str | None:
    try:
        return _origin(urljoin(response.url, response.headers["location"]))
    except ValueError:
        return None
