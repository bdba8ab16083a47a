"""What one more identity costs in memory, and whether looking one up stays as quick."""

import gc
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from benchmarks import others
from benchmarks.fake import TOKEN, TOKEN_ENDPOINT, FakeTransport, registration, token_response, token_value
from benchmarks.model import Aim, Effort, Row, Section

_LIMIT = 450.0
_LOOKUP_LIMIT = 2.0
#: More than any run has identities.
_MOST = 200_000
#: The header value that is sent, as the text object it is.
_OWN_TEXT = sys.getsizeof(f"Bearer {TOKEN}")
#: What keeps a whole client per identity is measured with fewer of them.
_HEAVY = frozenset({"Authlib (httpx2)", "Authlib (requests)", "requests-oauth2client", "requests-oauthlib"})

#: What takes long to set up for each.
_SLOW = {"MSAL": 1_000, "accredit, max_entries above the identities": 20_000}

Get = Callable[[int], object]


def run(effort: Effort) -> list[Section]:
    many = effort.of(100_000, 5_000)
    few = effort.of(1_000, 200)
    names = ("accredit", *(name for name in _MAKERS if name != "accredit"))
    section = Section(
        "memory",
        "Memory per identity",
        f"Identities that differ in the audience asked for, each with a token of {len(TOKEN)} characters, a process of"
        " its own for each subject, counted by tracemalloc. Beyond the token: without the text of the header that is"
        " sent (what the identity's own texts take is counted). As it comes, accredit keeps the 10,000 identities used"
        " last ready to be handed out, and all others in its in-memory store at their smallest; with a larger"
        " `max_entries` it keeps all of them ready. Libraries without a cache of several identities need a"
        " client or auth object for each; those that keep an HTTP client in it are measured with fewer identities."
        " Look-up: CPU time of one call that finds a token, at random, in all of them and in a tenth.",
        {
            "identities": "",
            "beyond the token": "bytes",
            "look-up": "µs",
            "look-up, a tenth": "µs",
        },
        missing=others.missing(*(name for name in _MAKERS if name in others.MODULES)),
    )
    for name in names:
        if name in section.missing:
            continue
        count = few if name in _HEAVY else many
        count = min(count, _SLOW.get(name, count))
        found = _measured(name, count)
        row = Row(name, {"identities": count, **found})
        section.rows.append(row)
        # With few identities all of them are kept ready, which is not what the aim is about.
        if name == "accredit" and not effort.quick:
            section.aims.append(Aim("memory per identity beyond the token", _LIMIT, found["beyond the token"], "bytes"))
            ratio = found["look-up"] / found["look-up, a tenth"]
            section.aims.append(Aim("look-up among ten times as many", _LOOKUP_LIMIT, ratio, "times"))
    return [section]


def _measured(name: str, count: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", name, str(count)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


# -- in the process of one subject -------------------------------------------------------------------------------


def _measure(name: str, count: int) -> dict[str, float]:
    get = _MAKERS[name](count)
    get(-1)  # what the first use imports and sets up belongs to no identity
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(count):
        get(number)
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    tenth = max(1, count // 10)
    smaller = _MAKERS[name](tenth)
    for number in range(tenth):
        smaller(number)
    return {
        "beyond the token": used / count - _OWN_TEXT,
        "look-up": _lookup(get, count),
        "look-up, a tenth": _lookup(smaller, tenth),
    }


def _lookup(get: Get, count: int) -> float:
    """Return the CPU time of one look-up in µs, each time others of ``count`` in no order."""
    laps = []
    for lap in range(7):
        numbers = [(lap * 1000 + number) * 7919 % count for number in range(1000)]
        start = time.process_time_ns()
        for number in numbers:
            get(number)
        laps.append((time.process_time_ns() - start) / len(numbers) / 1e3)
    return statistics.median(laps)


def _audience(number: int) -> str:
    return f"https://api-{number}.example.com"


def _accredit(_count: int) -> Get:
    from accredit import MemoryStore, TokenManager

    store = MemoryStore(max_entries=_MOST)
    manager = TokenManager(registration(), transport=FakeTransport(), renewal="inline", store=store)
    return lambda number: manager.get(audience=_audience(number))


def _accredit_first_level(_count: int) -> Get:
    from accredit import MemoryStore, TokenManager

    manager = TokenManager(
        registration(),
        transport=FakeTransport(),
        renewal="inline",
        max_entries=_MOST,
        store=MemoryStore(max_entries=_MOST),
    )
    return lambda number: manager.get(audience=_audience(number))


def _httpx_auth(_count: int) -> Get:
    module = others.module("httpx-auth")
    common = importlib.import_module("httpx_auth._oauth2.common")
    auths: dict[int, Any] = {}

    def get(number: int) -> object:
        auth = auths.get(number)
        if auth is None:
            auth = auths[number] = module.OAuth2ClientCredentials(
                TOKEN_ENDPOINT, "orders-worker", "secret", audience=_audience(number)
            )
            common.OAuth2.token_cache._add_access_token(auth.state, token_value(number + 1), 3600)
        return common.OAuth2.token_cache.get_token(auth.state)

    return get


def _clients(make: Callable[[int], Any]) -> Get:
    clients: dict[int, Any] = {}

    def get(number: int) -> object:
        client = clients.get(number)
        if client is None:
            client = clients[number] = make(number)
        client.ensure_active_token(client.token)
        return client.token["access_token"]

    return get


def _settings(number: int) -> dict[str, Any]:
    return {
        "token": {"access_token": token_value(number + 1), "token_type": "Bearer", "expires_in": 3600},
        "token_endpoint": TOKEN_ENDPOINT,
        "grant_type": "client_credentials",
    }


def _authlib_httpx2(_count: int) -> Get:
    import httpx2

    module = others.module("Authlib (httpx2)")
    shared = httpx2.MockTransport(lambda request: httpx2.Response(200, request=request))
    return _clients(
        lambda number: module.OAuth2Client("orders-worker", "secret", transport=shared, **_settings(number))
    )


def _authlib_requests(_count: int) -> Get:
    module = others.module("Authlib (requests)")
    return _clients(lambda number: module.OAuth2Session("orders-worker", "secret", **_settings(number)))


def _oauth2client(_count: int) -> Get:
    module = others.module("requests-oauth2client")
    server = module.OAuth2Client(TOKEN_ENDPOINT, client_id="orders-worker", client_secret="secret")
    auths: dict[int, Any] = {}

    def get(number: int) -> object:
        auth = auths.get(number)
        if auth is None:
            token = module.BearerToken(token_value(number + 1), expires_in=3600)
            auth = auths[number] = module.OAuth2ClientCredentialsAuth(server, token=token, audience=_audience(number))
        auth.token.is_expired(auth.leeway)
        return auth.token.access_token

    return get


def _oauthlib(_count: int) -> Get:
    module = others.module("requests-oauthlib")
    backend = importlib.import_module("oauthlib.oauth2").BackendApplicationClient
    sessions: dict[int, Any] = {}

    def get(number: int) -> object:
        session = sessions.get(number)
        if session is None:
            token = {**_settings(number)["token"], "expires_at": time.time() + 3600}
            session = sessions[number] = module.OAuth2Session(client=backend("orders-worker"), token=token)
        return session.token["access_token"]

    return get


def _msal(_count: int) -> Get:
    from benchmarks import others_msal

    issued = iter(range(1, 10**8))
    app = others_msal.application(TOKEN_ENDPOINT, answer=lambda: token_response(next(issued)).decode())
    return lambda number: app.acquire_token_for_client(scopes=[f"{_audience(number)}/.default"])


_MAKERS: dict[str, Callable[[int], Get]] = {
    "accredit": _accredit,
    "accredit, max_entries above the identities": _accredit_first_level,
    "httpx-auth": _httpx_auth,
    "MSAL": _msal,
    "requests-oauth2client": _oauth2client,
    "requests-oauthlib": _oauthlib,
    "Authlib (requests)": _authlib_requests,
    "Authlib (httpx2)": _authlib_httpx2,
}

if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], int(sys.argv[2]))))
