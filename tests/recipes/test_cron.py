"""cron: real processes with the environment that cron gives them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from accredit.devserver import DevServer
from tests.recipes.guide import PAGE, block
from tests.runtime.support import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no cron")

CONFIG = """
[registration.api-client]
issuer = "{issuer}"
client_id = "api-client"
client_secret = {{ file = "{secret}" }}
scope = ["orders:read"]
api_origins = ["{api}"]
deadline = {deadline}
"""


@pytest.fixture
def config(server: DevServer, tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("dev-secret\n", encoding="utf-8")
    return written(server, tmp_path)


def written(server: DevServer, folder: Path, *, issuer: str = "", deadline: float = 30.0) -> Path:
    file = folder / "accredit.toml"
    file.write_text(
        CONFIG.format(
            issuer=issuer or server.issuer, secret=folder / "secret", api=server.api_url, deadline=deadline
        ),
        encoding="utf-8",
    )  # fmt: skip
    return file


def lines() -> list[str]:
    """Return the commands of the guide's crontab."""
    entries = [line.split(None, 5)[5] for line in block("text", "accredit").splitlines() if line[0] in "*0123456789"]
    assert len(entries) == 2, PAGE
    return entries


def cron(line: str, config: Path, server: DevServer) -> subprocess.CompletedProcess[str]:
    """Run a line as cron does: by sh, in another folder, with next to no environment."""
    line = (
        line.replace("/srv/orders/accredit.toml", shlex.quote(str(config)))
        .replace("https://api.example.com", server.api_url)
        .replace("/var/log/orders", shlex.quote(str(config.parent)))
        .replace("/srv/orders/orders.json", shlex.quote(str(config.parent / "orders.json")))
    )
    environment = {
        "PATH": f"{sysconfig.get_path('scripts')}:/usr/bin:/bin",
        "HOME": str(config.parent),
        "LOGNAME": "nobody",
    }
    return subprocess.run(
        ["/bin/sh", "-c", line], cwd="/", env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=2 * PATIENCE, check=False,
    )  # fmt: skip


def test_renew_as_in_the_guide(server: DevServer, config: Path) -> None:
    renew, _ = lines()
    assert "renew --within 900" in renew
    log = config.parent / "renew.log"
    for number, what in enumerate(("obtained", "kept", "kept"), start=1):
        done = cron(renew, config, server)
        # Nothing that cron would mail.
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
        written_lines = log.read_text(encoding="utf-8").splitlines()
        assert len(written_lines) == number
        assert written_lines[-1].startswith(f"api-client: {what}, expires in ")
        # The next run has what the first one left.
        assert server.count("/token") == 1


def test_runs_that_keep_nothing(server: DevServer, config: Path) -> None:
    renew, _ = lines()
    log = config.parent / "renew.log"
    for number in (1, 2):
        assert cron(renew.replace("renew ", "renew --no-store "), config, server).returncode == 0
        assert server.count("/token") == number
    assert all("api-client: obtained" in line for line in log.read_text(encoding="utf-8").splitlines())


def test_a_call_as_in_the_guide(server: DevServer, config: Path) -> None:
    _, call = lines()
    done = cron(call, config, server)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert "espresso" in (config.parent / "orders.json").read_text(encoding="utf-8")
    assert (server.count("/token"), server.count(server="api")) == (1, 1)


def test_what_a_monitor_sees(server: DevServer, config: Path) -> None:
    """The exit codes that the guide names, and one line that says what to do."""
    renew, _ = lines()
    log = config.parent / "renew.log"
    codes: dict[str, int] = {}
    server.fail(401, error="invalid_client")
    codes["refused"] = cron(renew, config, server).returncode
    server.recover()
    server.fail(429, retry_after="60")
    codes["throttled"] = cron(renew, config, server).returncode
    server.recover()
    written(server, config.parent, issuer="http://127.0.0.1:9", deadline=2.0)
    codes["unreachable"] = cron(renew, config, server).returncode
    assert codes == {"refused": 4, "throttled": 5, "unreachable": 6}
    text = log.read_text(encoding="utf-8")
    assert [line.split(":")[1].strip() for line in text.splitlines()] == list(codes)
    assert "dev-secret" not in text
    guide = PAGE.read_text(encoding="utf-8")
    assert [name for name, code in codes.items() if f"`{code}` {name}" not in guide] == []


def test_runs_that_overlap(server: DevServer, config: Path) -> None:
    """A run that takes longer than the time to the next one disturbs nobody."""
    renew, _ = lines()
    server.hold()
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(cron, renew, config, server) for _ in range(3)]
        assert server.wait_for_waiting(1, timeout=PATIENCE) == 1
        server.release()
        assert [each.result().returncode for each in running] == [0, 0, 0]
    assert server.count("/token") == 1
    assert len((config.parent / "renew.log").read_text(encoding="utf-8").splitlines()) == 3
    assert os.listdir(config.parent)  # noqa: PTH208 - the folder is as it was, with the log
