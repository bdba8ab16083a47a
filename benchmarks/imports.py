"""What importing costs over the HTTP library alone, in fresh interpreters."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import others
from benchmarks.measure import _DRAW, interval, minus
from benchmarks.model import Aim, Effort, Interval, Row, Section

_LIMIT = 25.0
#: subject -> (statement, the one it is compared with)
_SUBJECTS = {
    "accredit": ("import httpx2, accredit", "import httpx2"),
    "accredit, one name": ("import httpx2; from accredit import TokenManager", "import httpx2"),
    "accredit, with its httpx2 auth": (
        "import httpx2; from accredit.integrations.httpx2 import AccreditAuth",
        "import httpx2",
    ),
    "Authlib (httpx2)": ("import httpx2; from authlib.integrations.httpx_client import OAuth2Client", "import httpx2"),
    "httpx-auth": ("import httpx; import httpx_auth", "import httpx"),
    "Authlib (requests)": (
        "import requests; from authlib.integrations.requests_client import OAuth2Session",
        "import requests",
    ),
    "requests-oauthlib": ("import requests, requests_oauthlib", "import requests"),
    "requests-oauth2client": ("import requests, requests_oauth2client", "import requests"),
    "MSAL": ("import requests, msal", "import requests"),
    "aiohttp-oauth2-client": ("import aiohttp, aiohttp_oauth2_client.middleware", "import aiohttp"),
}
# Inside the process: nothing of the start and the end of the interpreter is in it.
_INSIDE = """
import time
{base}
wall, cpu = time.perf_counter(), time.process_time()
{statement}
print(time.process_time() - cpu, time.perf_counter() - wall)
"""


def run(effort: Effort) -> list[Section]:
    section = Section(
        "imports",
        "Import time over the HTTP library",
        "Fresh interpreters, bytecode compiled beforehand. Process: CPU time (user and system) of `python -c` with the"
        " import, minus that of a run next to it with the HTTP library alone. Inside: CPU and wall-clock time of the"
        " import statement itself, in a process that has imported the HTTP library. The least is the best of all runs,"
        " the nearest to a machine with nothing else to do.",
        {
            "runs": "",
            "inside, CPU": "ms",
            "inside, least CPU": "ms",
            "inside, wall": "ms",
            "process, CPU": "ms",
            "HTTP library alone, CPU": "ms",
        },
        missing=others.missing(*others.MODULES),
    )
    subjects = {name: pair for name, pair in _SUBJECTS.items() if name not in section.missing}
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        _measure(section, subjects, environment, effort.of(11, 4))
    for row in section.rows:
        if row.subject in {"accredit", "accredit, one name"}:
            found = row.cells["inside, CPU"]
            assert isinstance(found, Interval)
            section.aims.append(Aim(f"import of {row.subject} over httpx2", _LIMIT, found.median, "ms"))
    return [section]


def _measure(section: Section, subjects: dict[str, tuple[str, str]], environment: dict[str, str], runs: int) -> None:
    samples: dict[str, tuple[list[float], ...]] = {name: ([], [], [], []) for name in subjects}
    for pair in subjects.values():
        for statement in pair:
            _process(statement, environment)
    order = list(subjects)
    for turn in range(runs):
        _DRAW.shuffle(order)
        for name in order:
            statement, base = subjects[name]
            both = [base, statement] if turn % 2 else [statement, base]
            spent = {each: _process(each, environment) for each in both}
            cpu, wall = _inside(statement, base, environment)
            for kept, value in zip(samples[name], (spent[statement], spent[base], cpu, wall), strict=True):
                kept.append(value * 1e3)
    for name in subjects:
        process, alone, cpu_samples, wall_samples = samples[name]
        section.rows.append(
            Row(
                name,
                {
                    "runs": runs,
                    "inside, CPU": interval(cpu_samples),
                    "inside, least CPU": min(cpu_samples),
                    "inside, wall": interval(wall_samples),
                    "process, CPU": interval(minus(process, alone)),
                    "HTTP library alone, CPU": interval(alone),
                },
            )
        )


def _process(statement: str, environment: dict[str, str]) -> float:
    if not hasattr(os, "wait4"):
        return 0.0
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", statement], environment)
    _, status, usage = os.wait4(child, 0)
    assert status == 0, statement
    return usage.ru_utime + usage.ru_stime


def _inside(statement: str, base: str, environment: dict[str, str]) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", _INSIDE.format(base=base, statement=statement)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    cpu, wall = done.stdout.split()
    return float(cpu), float(wall)
