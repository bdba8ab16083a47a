"""A typed client of one protected API, synchronous and asynchronous, with tokens taken care of.

Run it against any authorization server::

    ACCREDIT_ISSUER=https://idp.example.com ACCREDIT_CLIENT_ID=orders-worker \
    ACCREDIT_CLIENT_SECRET_FILE=/run/secrets/orders ACCREDIT_SCOPE=orders:read \
    python examples/secure_api_client.py https://api.example.com /orders
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx2

from accredit import AccreditError, AsyncTokenManager, TokenManager
from accredit.integrations.httpx2 import AccreditAuth


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """What the API answered.

    Attributes:
        status: the HTTP status.
        data: the decoded JSON body, or the text when it is not JSON.

    """

    status: int
    data: Any

    @property
    def ok(self) -> bool:
        """Whether the call succeeded."""
        return self.status < 400

    @classmethod
    def of(cls, response: httpx2.Response) -> Self:
        """Read a response."""
        is_json = "json" in response.headers.get("content-type", "")
        return cls(response.status_code, response.json() if is_json else response.text)


class SecureAPIClient:
    """Calls a protected API from threads. Share one between them."""

    def __init__(self, base_url: str, manager: TokenManager, registration: str | None = None) -> None:
        """Prepare the HTTP client; the first call obtains the first token."""
        self._http = httpx2.Client(base_url=base_url, auth=AccreditAuth(manager, registration))

    def call_protected_api(self, endpoint: str, *, method: str = "GET", json: Any = None) -> ApiResponse:
        """Call ``endpoint``.

        Raises:
            AccreditError: no token could be had; the call was not sent.
            httpx2.HTTPError: the API could not be reached.

        """
        return ApiResponse.of(self._http.request(method, endpoint, json=json))

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._http.close()


class AsyncSecureAPIClient:
    """Calls a protected API from tasks of asyncio or trio."""

    def __init__(self, base_url: str, manager: AsyncTokenManager, registration: str | None = None) -> None:
        """Prepare the HTTP client; the first call obtains the first token."""
        self._http = httpx2.AsyncClient(base_url=base_url, auth=AccreditAuth(manager, registration))

    async def call_protected_api(self, endpoint: str, *, method: str = "GET", json: Any = None) -> ApiResponse:
        """Call ``endpoint``. Errors as for :class:`SecureAPIClient`."""
        return ApiResponse.of(await self._http.request(method, endpoint, json=json))

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._http.aclose()


async def call_twice(base_url: str, endpoint: str, manager: AsyncTokenManager) -> list[ApiResponse]:
    """Make two calls at once; they share one token."""
    async with AsyncSecureAPIClient(base_url, manager) as client:
        return list(await asyncio.gather(*(client.call_protected_api(endpoint) for _ in range(2))))


def main(base_url: str, endpoint: str) -> int:
    """Call the API both ways, with the registration that the environment gives."""
    try:
        with TokenManager.from_config() as manager:
            with SecureAPIClient(base_url, manager) as client:
                print(client.call_protected_api(endpoint))
            for response in asyncio.run(call_twice(base_url, endpoint, manager.asynchronous())):
                print(response)
    except AccreditError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
