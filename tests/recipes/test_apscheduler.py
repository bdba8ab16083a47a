"""APScheduler, in threads and in an event loop, as programs of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from accredit.devserver import DevServer
from tests.recipes.guide import ROOT, block, program
from tests.runtime.support import PATIENCE

pytest.importorskip("apscheduler")

IN_THREADS = ("from apscheduler.schedulers.background", "scheduler.shutdown()")
IN_A_LOOP = ("AsyncIOScheduler",)
#: What a program does meanwhile is its own affair: this one waits to be told to end.
WAIT = "import sys\nsys.stdin.readline()\n"
RUN = "asyncio.run(main())\n"


@pytest.mark.parametrize("where", ["threads", "loop"])
def test_jobs_that_come_round(server: DevServer, tmp_path: Path, where: str) -> None:
    """Three times round, with tokens that live four seconds: no job fails, and they are renewed between the jobs."""
    server.set_token_lifetime(4)
    if where == "threads":
        parts = [block("python", IN_THREADS[0]), WAIT, block("python", IN_THREADS[1], "keeping.stop()")]
    else:
        text = block("python", *IN_A_LOOP)
        assert "await asyncio.sleep(hours * 3600)" in text
        text = text.replace("await asyncio.sleep(hours * 3600)", "await asyncio.to_thread(sys.stdin.readline)")
        parts = ["import sys\n", text, RUN]
    file = program(server, tmp_path, *parts)
    text = file.read_text(encoding="utf-8")
    assert "hours=1" in text
    file.write_text(text.replace("hours=1", "seconds=1"), encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-W", "error", str(file)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    ) as process:  # fmt: skip
        try:
            server.wait_for_requests(3, "/orders", timeout=2 * PATIENCE, server="api")
            tokens = server.count("/token")
            # Between two jobs too.
            server.wait_for_requests(tokens + 1, timeout=PATIENCE)
            out, err = process.communicate("\n", timeout=PATIENCE)
        finally:
            process.kill()
    # On a busy machine a round may begin while the last one has not ended; that is APScheduler's to say.
    said = [line for line in err.splitlines() if "maximum number of running instances" not in line]
    assert (out, said, process.returncode) == ("", [], 0)
    # A failed job would have said so. A token that ran out on its way was healed by one retry.
    statuses = [entry.status for entry in server.requests("/orders", server="api")]
    assert statuses.count(200) >= 3
    assert set(statuses) <= {200, 401}
