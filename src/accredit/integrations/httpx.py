"""Tokens for httpx clients.

Example::

    auth = AccreditAuth(manager)
    with httpx.Client(auth=auth) as client:
        client.get("https://api.example.com/orders")
        client.get("https://api.example.com/reports", extensions={"accredit": "reports-client"})
        client.get("https://api.example.com/reports", auth=auth.using(scope="reports:read"))

"""

from __future__ import annotations

try:
    import httpx
except ModuleNotFoundError as _missing:
    if _missing.name != "httpx":
        raise
    raise ImportError(
        "accredit.integrations.httpx needs the package httpx: install accredit[httpx]",
        name="httpx",
    ) from _missing

from accredit.integrations._httpx_family import HttpxAuth, placer, putter

__all__ = ["AccreditAuth"]


class AccreditAuth(HttpxAuth, httpx.Auth):
    """Attaches an access token to the calls of ``httpx.Client`` and ``httpx.AsyncClient``.

    Give it to a client or to one call as ``auth``. The token of one call is chosen with :meth:`using`, or by
    ``extensions={"accredit": "registration-id"}``, or by ``extensions={"accredit": {"scope": "orders:read"}}`` with
    any of ``registration``, ``scope``, ``resource``, ``audience`` and ``principal``.

    An ``Authorization`` header of the caller's own, on the client or the call, wins. The token goes to ``api_origins``
    of the registration only, and over plain http to loopback only. After a 401 that is about the token, the call is
    sent once more with a newer one, if its body is in memory; else the 401 reaches the caller.

    Raises:
        AccreditError: out of the call, when no token can be had; it is never sent without.

    """

    _library = "httpx"
    _byte_stream = httpx.ByteStream
    _put = staticmethod(putter(httpx.Headers))
    _place = staticmethod(placer(httpx.URL))
