"""Processes of one machine share one token: many at once, one after the other, and while others die."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from accredit import Secret
from accredit.clock import SystemClock
from accredit.core.events import StoreFailed, TokenObtained
from accredit.devserver import DevClient, DevConfig, DevServer
from accredit.stores.sqlite import SqliteStore
from accredit.testing.clock import SteerableClock
from tests.stores.forty import COUNT
from tests.stores.support import Issuer, in_children, one_call, process

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
ROOT = Path(__file__).parents[2]
SECRET = "canary-of-the-secret"


@pytest.fixture
def server() -> Iterator[DevServer]:
    with DevServer(DevConfig(clients=(DevClient(client_id="api-client", client_secret=Secret(SECRET)),))) as running:
        yield running


@pytest.fixture
def environment(server: DevServer, tmp_path: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ACCREDIT_")}
    home = dict.fromkeys(("HOME", "XDG_STATE_HOME", "LOCALAPPDATA"), str(tmp_path))
    ours = {"ACCREDIT_ISSUER": server.issuer, "ACCREDIT_CLIENT_ID": "api-client", "ACCREDIT_CLIENT_SECRET": SECRET}
    # A machine that is busy otherwise may give a process its turn late; the deadline is not what is looked at.
    return {**inherited, **home, **ours, "ACCREDIT_DEADLINE": "60"}


def forty(environment: dict[str, str], *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "tests.stores.forty", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT, timeout=110, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_forty_runs_of_accredit_token_at_once_make_one_token_request(
    server: DevServer, environment: dict[str, str]
) -> None:
    tokens = forty(environment)
    assert len(tokens) == COUNT
    assert len(set(tokens)) == 1
    assert tokens[0].count(".") == 2
    assert server.count("/token") == 1
    # And others find it there.
    assert set(forty(environment, "--count", "3")) == set(tokens)
    assert server.count("/token") == 1


def test_runs_without_a_store_ask_each_for_itself(server: DevServer, environment: dict[str, str]) -> None:
    """So that one request is what the store does, and nothing else."""
    assert len(set(forty(environment, "--count", "8", "--", "token", "--no-store"))) == 8
    assert server.count("/token") == 8
    assert not (Path(environment["HOME"]) / "accredit").exists()


def test_runs_that_are_refused_do_not_repeat_what_has_just_been_refused(
    server: DevServer, environment: dict[str, str]
) -> None:
    said = forty(environment, "--count", "12", "--", "token", "--scope", "nonsense")
    assert len(said) == 12
    assert all("invalid_scope" in line and "exit 4" in line for line in said)
    # The hold lasts a second or two, which twelve processes on a busy machine may need.
    assert server.count("/token") < 6


def test_a_job_that_runs_every_minute_for_an_hour_asks_once_for_each_token(tmp_path: Path) -> None:
    """Tokens of ten minutes, a new process each minute, an hour of virtual time."""
    clock = SteerableClock()
    issuer = Issuer(lifetime=600)
    path = tmp_path / "tokens.sqlite3"
    used: list[str] = []
    for _ in range(60):
        store = SqliteStore(path, clock=clock)
        token, events = one_call(store, issuer, clock=clock)
        assert token.usable_until > clock.now()
        assert events.of(StoreFailed) == []
        used.append(token.value)
        clock.advance(60)
    # Nine more runs use each token: after ten minutes it is over.
    assert issuer.count == len(set(used)) == 6
    assert [used.count(token) for token in dict.fromkeys(used)] == [10] * 6


def test_a_job_that_renews_ahead_of_expiry_never_meets_an_expired_token(tmp_path: Path) -> None:
    """``accredit renew --within 180`` each minute: as many token requests as renewals, and an outage is not noticed."""
    clock = SteerableClock()
    issuer = Issuer(lifetime=600)
    path = tmp_path / "tokens.sqlite3"
    renewals = 0
    for minute in range(60):
        issuer.down = minute % 10 in {8, 9}
        with process(SqliteStore(path, clock=clock), issuer, clock=clock) as (manager, events):
            token = manager.get()
            if token.expires_within(240):
                before = issuer.count
                if not issuer.down:
                    manager.renew()
                renewals += issuer.count - before
            assert token.usable_until > clock.now()
        obtained = [event for event in events.of(TokenObtained) if event.source == "server"]
        assert len(obtained) <= 1
        clock.advance(60)
    assert issuer.count == renewals + 1


def test_eight_processes_at_once_through_twenty_renewals_make_one_request_each(tmp_path: Path) -> None:
    """Real processes, one clock that is moved for all of them."""
    path = tmp_path / "tokens.sqlite3"
    clock = SteerableClock()

    def run() -> object:
        issuer = Issuer(lifetime=300)
        token, _ = one_call(SqliteStore(path, clock=patient, timeout=30.0), issuer, clock=patient, deadline=60.0)
        return token.value, issuer.count

    for _ in range(20):
        # Waiting for another process takes real time, here as elsewhere.
        patient = Patient(clock)
        said = [ast.literal_eval(text) for text in in_children(8, run)]
        assert len({token for token, _ in said}) == 1
        assert sum(count for _, count in said) == 1
        clock.advance(300)


class Patient(SystemClock):
    """A steered clock that goes on from where it is; made before a fork, it is the same in all children."""

    def __init__(self, clock: SteerableClock) -> None:
        super().__init__()
        real = self.now
        shift, wall_shift = clock.now() - real(), clock.wall() - real()
        self.now = lambda: real() + shift
        self.wall = lambda: real() + wall_shift  # type: ignore[method-assign]


@pytest.mark.parametrize("arguments", [[], ["--sealed"]])
def test_processes_killed_at_random_points_damage_nothing_and_fail_nobody(arguments: list[str]) -> None:
    """A sample; ``python -m tests.stores.kill9`` kills a thousand, and others with ``--rollback``."""
    command = [sys.executable, "-m", "tests.stores.kill9", "--times", "16", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "16 processes killed, no file damaged, no call failed" in done.stdout
