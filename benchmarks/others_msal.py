"""MSAL talks to https authorities only; its documented parameter ``http_client`` lets us lead it elsewhere."""

import importlib
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from benchmarks.fake import token_response

AUTHORITY = "https://idp.example.com/tenant"


class _Client:
    """Answers MSAL's discovery itself; sends token requests to ``token_url``, or answers them without a session."""

    def __init__(self, token_url: str, session: Any, answer: Callable[[], str]) -> None:
        self._token_url = token_url
        self._session = session
        self._answer = answer

    def get(self, url: str, **_: object) -> Any:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        document = {
            "issuer": AUTHORITY,
            "token_endpoint": f"{origin}/token",
            "authorization_endpoint": f"{origin}/authorize",
        }
        return _answer(json.dumps(document))

    def post(self, url: str, **settings: Any) -> Any:
        del url
        if self._session is None:
            return _answer(self._answer())
        return self._session.post(self._token_url, **settings)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()


def _answer(text: str) -> Any:
    def accept() -> None:
        pass

    return SimpleNamespace(status_code=200, text=text, headers={}, raise_for_status=accept)


def _one_token() -> str:
    return token_response(1).decode()


def application(token_url: str, *, session: Any = None, answer: Callable[[], str] = _one_token) -> Any:
    """Return a confidential client of MSAL. Without a session nothing leaves the process."""
    return importlib.import_module("msal").ConfidentialClientApplication(
        "orders-worker",
        client_credential="a-secret-of-the-benchmark",
        oidc_authority=AUTHORITY,
        http_client=_Client(token_url, session, answer),
    )
