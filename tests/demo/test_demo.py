"""The demo as a person runs it: green as it is, red with each planted failure, and no process left behind."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from accredit.demo import runner
from accredit.demo.options import STEP_NAMES
from accredit.demo.sabotage import SABOTAGES
from accredit.demo.steps import STEPS

DEMO = [sys.executable, "-m", "accredit.demo"]
COMMAND_LINE = [sys.executable, "-m", "accredit.cli.main", "demo"]
# By what else it shows that it was the planted failure that was noticed.
SIGNS = {
    "wrong-audience": "RequestRefusedError: ",
    "expired-token": "answer        401 (expired)",
    "forged-signature": "answer        401 (signature)",
    "missing-scope": "answer        403 (insufficient_scope)",
    "open-door": "0 of 5 calls with a token that is not good were refused",
    "blind-log": "no the server's log agrees with what the callers saw",
    "herd": "100 token requests (expected: 1)",
    "lying-log": "90 calls reached the API (expected: 100)",
    "no-renewal": "no it was renewed ahead of expiry",
    "no-retry": "answered 200, 401, 401",
    "no-revocation": "answered 200, 200, 200",
}


def demo(*arguments: str, command: list[str] = DEMO) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, encoding="utf-8", timeout=100, check=False
    )


def test_it_runs_and_every_claim_is_true() -> None:
    done = demo("--plain", command=COMMAND_LINE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for number, step in enumerate(STEPS, 1):
        assert f" {number}  {step.title}\n" in done.stdout
    assert "all as claimed" in done.stdout
    assert "FAILED" not in done.stdout
    assert done.stdout.isascii()
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "eyJ" not in done.stdout  # what every JWT begins with
    # What the steps are about, in their own words.
    for line in (
        "1 token request",
        "100 of 100 callers waited for a token at the same time",
        "yes it was renewed ahead of expiry",
        "answered 200, 401, 200, 200",
        "UnreachableError: ",
        "1 token request brought everything back",
    ):
        assert line in done.stdout


@pytest.mark.parametrize("name", SABOTAGES)
def test_a_planted_failure_is_noticed_by_its_step(name: str) -> None:
    step = SABOTAGES[name].step
    done = demo("--plain", "--fast", "--only", step, "--sabotage", name)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"FAILED {name} caught by step '{step}'" in done.stdout
    assert "(expected: " in done.stdout
    assert SIGNS.get(name, "") in done.stdout
    assert done.stderr == ""


def test_every_step_has_a_failure_that_it_notices() -> None:
    assert {step.name for step in STEPS} == set(STEP_NAMES) == {item.step for item in SABOTAGES.values()}


def test_json_holds_every_claim() -> None:
    done = demo("--json", "--only", "refusal", "--only", "first", command=COMMAND_LINE)
    whole = json.loads(done.stdout)
    assert (done.returncode, whole["ok"], whole["failed"], whole["sabotage"]) == (0, True, [], None)
    assert [step["name"] for step in whole["steps"]] == ["first", "refusal"]
    for step in whole["steps"]:
        assert step["ok"] is True
        assert step["checks"]
        assert all(check["ok"] for check in step["checks"])


def test_json_tells_what_was_expected_and_seen() -> None:
    done = demo("--json", "--only", "herd", "--only", "refusal", "--sabotage", "no-retry")
    whole = json.loads(done.stdout)
    assert (done.returncode, whole["ok"], whole["failed"]) == (1, False, ["refusal"])
    failed = [check for check in whole["steps"][1]["checks"] if not check["ok"]]
    assert {
        "what": "calls answered 200, as their callers see it",
        "expected": "3 of 3",
        "seen": "1 of 3",
        "ok": False,
    } in (failed)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGKILL, -9)])
def test_no_process_is_left_behind(number: signal.Signals, code: int) -> None:
    process = subprocess.Popen(
        [*DEMO, "--plain", "--only", "renewal"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    shown = ""
    while "A renewal" not in shown:
        line = process.stdout.readline()
        assert line, shown
        shown += line
    assert re.search(r"process \d+", shown)
    process.send_signal(number)
    # The server writes to the same standard error, whose end is reached only when both have closed it: a server that
    # lives on makes this time out.
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in errors


def test_a_server_that_does_not_start_is_told_in_one_line() -> None:
    done = subprocess.run(
        [*DEMO, "--plain"], capture_output=True, text=True, env={**os.environ, "APP_ENV": "production"}, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("accredit demo: the development server did not start: ")
    assert "Traceback" not in done.stderr


def test_a_missing_package_is_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else object())
    assert runner.run([]) == 3
    assert capsys.readouterr().err == "accredit demo needs uvicorn: pip install 'accredit[devserver,cli]'\n"


def test_the_list_and_the_help_name_every_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.run(["--sabotage", "list"]) == 0
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()] == list(SABOTAGES)
    assert runner.run(["--help"]) == 0
    assert listed in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--sabotage", "nothing"], ["--only", "nothing"], ["--nothing"], ["more"]])
def test_a_wrong_command_line_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.run(arguments) == 2
    assert "usage: accredit demo" in capsys.readouterr().err


def test_what_the_demo_needs_is_imported_only_when_it_runs() -> None:
    code = "import accredit.demo, sys; print([name for name in ('httpx2', 'uvicorn', 'rich') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert Path(runner.__file__).name == "runner.py"
