"""The alternatives, as far as they are installed."""

import importlib
from typing import Any

#: Name of the alternative -> the module that has to be importable.
MODULES = {
    "Authlib (httpx2)": "authlib.integrations.httpx_client",
    "Authlib (requests)": "authlib.integrations.requests_client",
    "httpx-auth": "httpx_auth",
    "requests-oauthlib": "requests_oauthlib",
    "requests-oauth2client": "requests_oauth2client",
    "MSAL": "msal",
    "aiohttp-oauth2-client": "aiohttp_oauth2_client",
}
DISTRIBUTIONS = (
    "accredit",
    "httpx2",
    "httpx",
    "requests",
    "aiohttp",
    "Authlib",
    "httpx-auth",
    "requests-oauthlib",
    "requests-oauth2client",
    "msal",
    "aiohttp-oauth2-client",
)


def module(name: str) -> Any:
    """Return the module of an alternative, or None when it is not installed."""
    try:
        return importlib.import_module(MODULES[name])
    except ImportError:
        return None


def missing(*names: str) -> list[str]:
    """Return those that are not installed."""
    return [name for name in names if module(name) is None]
