"""What a start of the command line costs, and what it says of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import pytest

import accredit
import accredit.cli.token
from tests.cli.support import CANARY, Run

HEAVY = {"httpx2", "httpx", "h11", "anyio", "cryptography", "asyncio", "ssl", "socket", "uvicorn", "rich"}
PROBE = """
import json, sys
from accredit.cli.main import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--version"], 0),
        (["--help"], 0),
        (["token", "--help"], 0),
        (["call", "--help"], 0),
        (["renew", "--help"], 0),
        (["serve", "--help"], 0),
        ([], 2),
        (["tokn"], 2),
        (["token", "--nonsense"], 2),
        (["token"], 3),
        (["call", "https://api.example"], 3),
        (["--config", "missing.toml", "token"], 3),
        (["--config", "wrong.toml", "renew", "--within", "5"], 3),
    ],
)
def test_no_network_library_is_imported_where_none_is_needed(elsewhere: Path, arguments: list[str], code: int) -> None:
    (elsewhere / "wrong.toml").write_text("[registration.r]\nscope = 3\n", encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, check=True, timeout=60)
    ended, modules = json.loads(done.stderr.splitlines()[-1])
    assert ended == code
    assert not HEAVY & set(modules)


def test_the_command_is_installed_under_its_name() -> None:
    (entry,) = entry_points(group="console_scripts", name="accredit")
    assert entry.value == "accredit.cli.main:main"


def test_version(run: Run) -> None:
    assert run("--version").text == f"accredit {accredit.__version__}\n"


def test_help_has_examples_and_exit_codes(run: Run) -> None:
    text = run("--help").text
    for part in ("examples:", "exit codes:", "accredit token", "130   interrupted", "ACCREDIT_CONFIG"):
        assert part in text
    for command in ("token", "call", "renew", "serve"):
        assert "example" in run(command, "--help").text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tokn"], "did you mean 'token'?"),
        (["qqqq"], "there are token, call"),
        (["token", "--scopes", "x"], "unrecognized"),
        (["token", "--json", "--header"], "not allowed with"),
        (["token", "--timeout", "0"], "0.05"),
        (["token", "--timeout", "nan"], "seconds"),
        (["renew"], "--within"),
        (["renew", "--within", "-1"], "seconds"),
        (["call"], "give a URL"),
        (["call", "a", "b", "c"], "give a URL"),
        (["call", "ftp://api.example/"], "https://"),
        (["call", "https://user:secret@api.example/"], "user information"),
        (["call", "https://api.example\\@evil.example/"], "host"),
        (["call", "https://api.example", "-H", "no colon"], "Name: value"),
        (["call", "https://api.example", "-H", "a: b\r\nc: d"], "Name: value"),
        (["call", "https://api.example", "-H", "ä: b"], "Name: value"),
        (["call", "https://api.example", "-d", "a", "--json", "b"], "not allowed with"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(run: Run, arguments: list[str], says: str) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert ran.err.startswith("accredit: usage: ")
    assert ran.err.count("\n") == 1
    assert says in ran.err
    assert not ran.out


def test_nothing_that_a_terminal_acts_on_is_repeated(run: Run) -> None:
    ran = run("token\x1b[31m")
    assert ran.code == 2
    assert "\x1b" not in ran.err


def test_the_arguments_of_demo_are_its_own(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[str] = []
    fake = ModuleType("accredit.demo")
    fake.run = lambda arguments: got.extend(arguments) or 9  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "accredit.demo", fake)
    assert run("demo", "--sabotage", "no-renewal", "--help").code == 9
    assert got == ["--sabotage", "no-renewal", "--help"]


def test_a_missing_extra_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accredit.demo", None)
    ran = run("demo")
    assert ran.code == 3
    assert ran.err.startswith("accredit: configuration: ")
    assert "accredit[all]" in ran.err


def test_a_defect_is_told_without_its_text(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(accredit.cli.token, "run", broken)
    ran = run("token")
    assert ran.code == 1
    assert "RuntimeError at broken" in ran.err
