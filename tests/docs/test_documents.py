"""The README and the guides: their code runs, their links lead somewhere, and they leave nothing out."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import accredit
from accredit import config
from accredit.config.schema import KEYS
from accredit.devserver import DevClient, DevConfig, DevServer
from accredit.errors import AccreditError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)(#[^)]*)?\)")
NAMED_TEST = re.compile(r"`(tests/[\w/]+(?:\.py)?/?)(?:::(\w+))?`((?:, `::\w+`)*)")


def blocks(page: Path, language: str) -> list[str]:
    return [body for name, body in BLOCK.findall(page.read_text(encoding="utf-8")) if name == language]


@pytest.fixture
def server() -> Iterator[DevServer]:
    scopes = ("orders:read", "orders:write")
    clients = (
        DevClient(client_id="orders-worker", client_secret="orders-secret", scopes=scopes),  # type: ignore[arg-type]  # wrapped
        DevClient(client_id="api-client", client_secret="dev-secret", scopes=scopes),  # type: ignore[arg-type]  # wrapped
    )
    with DevServer(DevConfig(clients=clients)) as server:
        yield server


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_blocks_run(page: Path, server: DevServer, tmp_path: Path) -> None:
    """Servers and secrets of a reader are put in place of the examples; all else runs to the letter."""
    secret = tmp_path / "orders"
    secret.write_text("orders-secret\n")
    namespace: dict[str, Any] = {"__name__": "documented"}
    for body in blocks(page, "python"):
        text = (
            body.replace("https://idp.example.com", server.issuer)
            .replace("https://api.example.com", server.api_url)
            .replace("/run/secrets/orders", secret.as_posix())
        )
        exec(compile(text, page.name, "exec"), namespace)
        for name in [node.name for node in ast.parse(text).body if isinstance(node, ast.AsyncFunctionDef)]:
            if inspect.iscoroutinefunction(namespace[name]):
                asyncio.run(namespace[name]())
    if page.name == "README.md":
        assert server.count("/token") == 2  # one for the scope of the registration, one for that of a call
        assert namespace["orders"].status_code == 200
        assert namespace["headers"]["Authorization"].startswith("Bearer ")
    if "manager" in namespace:
        namespace["manager"].close()


def test_the_store_suite_of_the_guide_runs(tmp_path: Path) -> None:
    file = tmp_path / "test_my_store.py"
    file.write_text("\n".join(blocks(ROOT / "docs" / "stores.md", "python")))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")], ids=lambda page: page.name)
def test_toml_blocks_load(page: Path, tmp_path: Path) -> None:
    for body in blocks(page, "toml"):
        file = tmp_path / "accredit.toml"
        file.write_text(body)
        registrations = config.load(file, environ={})
        assert registrations.get("api-client") is not None
        assert registrations.default == "api-client"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, _ in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_guarantee_names_a_test_that_exists() -> None:
    rows = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if "`tests/" in line]
    assert len(rows) > 15
    for row in rows:
        found = NAMED_TEST.findall(row)
        assert found, row
        for path, name, more in found:
            place = ROOT / path
            assert place.exists(), row
            for test in filter(None, [name, *re.findall(r"::(\w+)", more)]):
                assert f"def {test}(" in place.read_text(encoding="utf-8"), row


def test_every_key_of_a_registration_is_documented() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert [key for key in KEYS if f"`{key}`" not in text] == []


def test_every_public_name_is_documented() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in accredit.__all__ if name not in text and name != "__version__"] == []


def test_every_error_says_in_the_guide_whose_fault_it_is() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    kinds = [
        kind for kind in vars(accredit.errors).values() if inspect.isclass(kind) and issubclass(kind, AccreditError)
    ]
    assert [kind.__name__ for kind in kinds if f"`{kind.__name__}`" not in text] == []


def test_the_exit_codes_of_the_guide_are_those_of_the_help() -> None:
    environment = {**os.environ, "COLUMNS": "100"}
    command = [sys.executable, "-m", "accredit.cli", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment).stdout
    codes = set(re.findall(r"^ {2,5}(\d+) {2,}\S", shown.partition("exit codes:")[2], re.MULTILINE))
    table = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8").partition("| exit code |")[2]
    assert codes == {code for row in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for code in row.split(", ")}
