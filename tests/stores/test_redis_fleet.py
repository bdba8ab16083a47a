"""Real processes share one Redis: one token request per renewal, also while a primary dies and a replica takes over."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from accredit.devserver import DevClient, DevConfig, DevServer
from accredit.stores.envelope import generate_key
from tests.servers.redis import (
    ClusterServers,
    SentinelServers,
    Server,
    redis_6,
    redis_cluster,
    start_cluster,
    start_sentinels,
    valkey,
)
from tests.stores.fleet import PROCESSES, SECRET, TASKS, Fleet, check_agreement, start_fleet

__all__ = ["redis_6", "redis_cluster", "valkey"]
pytestmark = pytest.mark.real_server
RENEWALS = 50


@pytest.fixture
def server() -> Iterator[DevServer]:
    with DevServer() as running:
        yield running


def renew(fleet: Fleet, server: DevServer, number: int, tasks: int = TASKS) -> tuple[int, int]:
    """Renew in all processes at once; return the number of the token they have then, and the requests it took."""
    before = server.count("/token")
    answers = fleet.all("renew", tasks=tasks, after=number)
    return check_agreement(answers, tasks), server.count("/token") - before


@pytest.mark.timeout(300)
def test_cold_and_through_fifty_renewals_a_fleet_makes_one_request_each(valkey: Server, server: DevServer) -> None:
    with start_fleet(valkey.url, server) as fleet:
        number = first = check_agreement(fleet.all("get", tasks=TASKS))
        assert server.count("/token") == 1
        for _ in range(RENEWALS):
            number, requests = renew(fleet, server, number)
            assert requests == 1
        assert (number, server.count("/token")) == (first + RENEWALS, 1 + RENEWALS)
        seen = fleet.all("seen")
        assert sum(one["server"] for one in seen) == 1 + RENEWALS
        assert sum(one["store"] for one in seen) == (PROCESSES - 1) * (1 + RENEWALS)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["redis_6", "redis_cluster"])
def test_on_redis_6_and_on_a_cluster_too_and_encrypted(
    request: pytest.FixtureRequest, server: DevServer, name: str
) -> None:
    url = request.getfixturevalue(name).url
    with start_fleet(url, server, processes=4, key=generate_key().reveal()) as fleet:
        number = check_agreement(fleet.all("get", tasks=TASKS))
        for _ in range(3):
            number, requests = renew(fleet, server, number)
            assert requests == 1
        assert server.count("/token") == 4


@pytest.mark.timeout(300)
def test_short_lived_tokens_in_real_time(valkey: Server, server: DevServer) -> None:
    """Whoever is first renews; ``python -m tests.stores.fleet`` does this for longer."""
    server.set_token_lifetime(2)
    with start_fleet(valkey.url, server, processes=4, jumps=False) as fleet:
        answers = fleet.all("call_for", seconds=6.0, pause=0.02)
        assert [answer["errors"] for answer in answers] == [[]] * 4
        numbers = {number for answer in answers for number in answer["numbers"]}
        assert len(numbers) >= 2
        assert server.count("/token") == len(numbers)


@pytest.fixture
def sentinels() -> Iterator[SentinelServers]:
    with tempfile.TemporaryDirectory() as folder, start_sentinels(Path(folder)) as servers:
        yield servers


@pytest.fixture
def cluster() -> Iterator[ClusterServers]:
    with tempfile.TemporaryDirectory() as folder, start_cluster(Path(folder)) as servers:
        yield servers


def fail_over(fleet: Fleet, server: DevServer, victim: Server) -> None:
    """Kill the primary while one process of the fleet asks for the token that all of them wait for."""
    number = check_agreement(fleet.all("get", tasks=TASKS))
    number, requests = renew(fleet, server, number)
    assert requests == 1
    before = server.count("/token")
    server.hold()
    fleet.send("renew", tasks=TASKS, after=number)
    server.wait_for_waiting(1, timeout=60.0)
    victim.kill()
    server.release()
    answers = fleet.answers()
    for answer in answers:
        # A usable token was there all the time, so nobody was kept waiting and nothing failed.
        assert answer["errors"] == []
        assert answer["numbers"][0] > number
    assert 1 <= server.count("/token") - before <= 2
    # Once it is over all is as before.
    latest = max(answer["numbers"][-1] for answer in answers)
    latest, _ = renew(fleet, server, latest, tasks=1)
    assert renew(fleet, server, latest) == (latest + 1, 1)


@pytest.mark.timeout(300)
def test_a_fail_over_behind_sentinels_costs_at_most_one_more_request(
    sentinels: SentinelServers, server: DevServer
) -> None:
    with start_fleet(sentinels.url, server, timeout=2.0) as fleet:
        fail_over(fleet, server, sentinels.primary())


@pytest.mark.timeout(300)
def test_a_fail_over_in_a_cluster_costs_at_most_one_more_request(cluster: ClusterServers, server: DevServer) -> None:
    with start_fleet(cluster.url, server, timeout=2.0, processes=4) as fleet:
        fleet.all("get", tasks=1)
        servers = [one for one in cluster.servers if holds_a_record(one)]
        primaries = [one for one in servers if is_primary(one)]
        assert len(primaries) == 1
        fail_over(fleet, server, primaries[0])


def holds_a_record(server: Server) -> bool:
    with server.client() as client:
        return bool(list(client.scan_iter("fleet-*")))


def is_primary(server: Server) -> bool:
    with server.client() as client:
        return bool(client.execute_command("ROLE")[0] == b"master")


@pytest.mark.timeout(300)
def test_two_secrets_in_rotation_do_not_hold_each_other_back(valkey: Server) -> None:
    """Half of the fleet still has the old secret, which the server takes no more: the new half goes on at once."""
    clients = (DevClient(client_id="api-client", client_secret=SECRET),)  # type: ignore[arg-type] # it wraps a text
    with DevServer(DevConfig(clients=clients)) as server:
        own = [SECRET, "old-secret"] * 2
        with start_fleet(valkey.url, server, processes=4, own_secrets=own, key=generate_key().reveal()) as fleet:
            fleet.send("get", only=1, tasks=5)
            (old,) = fleet.answers(only=1)
            assert old["got"] == 0
            assert "credential" in old["errors"][0] or "invalid_client" in old["errors"][0]
            assert server.count("/token") == 1
            # Its like is held by the store, and asks nobody: the tag of a secret is the fleet's.
            fleet.send("get", only=3, tasks=5)
            assert fleet.answers(only=3)[0]["got"] == 0
            assert server.count("/token") == 1
            fleet.send("get", only=0, tasks=5)
            assert fleet.answers(only=0)[0]["got"] == 5
            assert server.count("/token") == 2
            # And those with the old secret have the token that those with the new one got.
            answers = fleet.all("get", tasks=5)
            assert [answer["got"] for answer in answers][0::2] == [5, 5]
            assert server.count("/token") == 2
