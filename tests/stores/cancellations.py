"""Callers that are cancelled or run out of time, by the thousand, while a proxy delays the answers of Redis.

``python -m tests.stores.cancellations NUMBER`` does it until so many have given up. No caller may ever get a token of
another identity: each token says in its claims whose it is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from typing import Any

from accredit import AccessToken, AsyncTokenManager, ClientRegistration, ClientSecretBasic, Secret
from accredit.devserver import DevClient, DevConfig, DevServer
from accredit.errors import AccreditError
from accredit.instrumentation import StoreFailed
from accredit.stores.redis import RedisStore
from tests.runtime.support import Events, JumpClock
from tests.servers.redis import Server
from tests.servers.resp import Proxy, up_to

IDENTITIES = 40
CALLERS = 1000


@dataclass
class Result:
    """What came of it.

    Attributes:
        given_up: callers that were cancelled, or whose time was up.
        answered: callers that got a token.
        wrong: tokens of another identity.
        failed: callers that got an error: their request was under way when the clock was moved by two hours.
        store_timeouts: operations of the store that ended in the middle.

    """

    given_up: int = 0
    answered: int = 0
    wrong: int = 0
    failed: int = 0
    store_timeouts: int = 0


def run(url: str, server: DevServer, *, number: int, timeout: float, seed: int, per_round: int = CALLERS) -> Result:
    """Run until ``number`` callers have given up; ``timeout`` is that of the store, in seconds."""
    return asyncio.run(_run(url, server, number, timeout, random.Random(seed), per_round))


async def _run(url: str, server: DevServer, number: int, seconds: float, draw: random.Random, per_round: int) -> Result:
    result, events, clock = Result(), Events(), JumpClock()
    registrations = [
        ClientRegistration(
            id=f"r{index}",
            token_endpoint=server.token_endpoint,
            client_id=f"client-{index}",
            client_auth=ClientSecretBasic("dev-secret"),
            deadline=10.0,
        )
        for index in range(IDENTITIES)
    ]
    manager = AsyncTokenManager(
        registrations, store=RedisStore(url, timeout=seconds), clock=clock, on_event=events, max_entries=IDENTITIES * 2
    )
    while result.given_up < number:
        # Every token is over: all of them are looked for again, in the store first.
        clock.shift += 7200.0
        await asyncio.gather(*(_caller(manager, draw, result) for _ in range(per_round)))
    result.store_timeouts = sum(event.kind == "timeout" for event in events.of(StoreFailed))
    await manager.close()
    return result


async def _caller(manager: AsyncTokenManager, draw: random.Random, result: Result) -> None:
    index = draw.randrange(IDENTITIES)
    patience = draw.random() * 0.02
    task = asyncio.ensure_future(_get(manager, index, patience if draw.random() < 0.5 else None))
    if draw.random() < 0.6:
        asyncio.get_running_loop().call_later(patience, task.cancel)
    try:
        token = await task
    except (TimeoutError, asyncio.CancelledError):
        result.given_up += 1
        return
    except AccreditError as error:
        if "within" in str(error):
            result.given_up += 1
        else:
            result.failed += 1
        return
    result.answered += 1
    result.wrong += owner_of(token) != f"client-{index}"


async def _get(manager: AsyncTokenManager, index: int, patience: float | None) -> AccessToken:
    if patience is None:
        return await manager.get(f"r{index}")
    async with asyncio.timeout(patience):
        return await manager.get(f"r{index}", timeout=patience * 2)


def owner_of(token: AccessToken) -> str:
    """Return the client that the server issued a token to (RFC 9068, section 2.2)."""
    payload = token.value.split(".")[1]
    claims: dict[str, Any] = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    owner: str = claims["client_id"]
    return owner


def config() -> DevConfig:
    """Return the configuration of a server that knows every client."""
    return DevConfig(
        clients=tuple(
            DevClient(client_id=f"client-{index}", client_secret=Secret("dev-secret")) for index in range(IDENTITIES)
        )
    )


def main() -> int:
    """Run it, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.stores.cancellations", description=main.__doc__)
    parser.add_argument("number", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with Server("valkey") as redis, DevServer(config()) as server, Proxy(redis.port, up_to(0.1)) as proxy:
        result = run(proxy.url, server, number=options.number, timeout=0.06, seed=options.seed)
    sys.stdout.write(f"{result}\n")
    return 0 if result.wrong == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
