"""What gunicorn loads before it forks: a manager of the module, used in the master already, and a WSGI application.

Paths: ``/token`` tells who answers and which token it has, ``/cold/NAME`` the same for a principal that has no token
yet, ``/call`` calls the protected API with requests.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import requests

from accredit import ClientRegistration, ClientSecretBasic, TokenManager
from accredit.integrations.requests import AccreditAuth

manager = TokenManager(
    ClientRegistration(
        id="api-client",
        token_endpoint=os.environ["TOKEN_ENDPOINT"],
        client_id="api-client",
        client_auth=ClientSecretBasic("dev-secret"),
        scope="orders:read",
        deadline=30.0,
    )
)
manager.get()
if "KEEP_FRESH" in os.environ:
    manager.keep_fresh()
_ARRIVALS = int(os.environ["ARRIVALS"])


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    told: dict[str, Any] = {"pid": os.getpid(), "master": os.getppid()}
    if path == "/call":
        with requests.Session() as session:
            session.auth = AccreditAuth(manager)
            told["status"] = session.get(f"{os.environ['API_URL']}/orders", timeout=30).status_code
    else:
        os.write(_ARRIVALS, b".")  # the test counts who is here
        token = manager.get(principal=path.removeprefix("/cold/") if path.startswith("/cold/") else None)
        # Enough to tell tokens apart, and none of it.
        told["token"] = hashlib.sha256(token.value.encode()).hexdigest()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]
