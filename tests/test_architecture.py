"""The rules of the architecture, read from the source; and a planted break of each, which must be found."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import accredit

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
TESTS = ROOT / "tests"

MOST_LINES = 600
MOST_PUBLIC_NAMES = 20

# What pure code may import of the standard library: no socket, thread, event loop, clock, environment, random number.
PURE_STANDARD_LIBRARY = frozenset({
    "__future__", "abc", "base64", "binascii", "bisect", "collections", "collections.abc", "contextlib", "copy",
    "dataclasses", "datetime", "email.utils", "enum", "functools", "hashlib", "hmac", "http", "ipaddress", "itertools",
    "json", "math", "operator", "pathlib", "re", "string", "struct", "textwrap", "types", "typing", "unicodedata",
    "urllib.parse", "weakref",
})  # fmt: skip
PURE_OTHERS = ("accredit.core", "accredit.errors", "cryptography")

# What the allowed modules still offer that pure code must not use.
IMPURE_NAMES = frozenset({"open", "input", "print", "eval", "exec", "__import__", "breakpoint"})
IMPURE_METHODS = frozenset({
    "read_text", "read_bytes", "write_text", "write_bytes", "iterdir", "exists", "is_file", "is_dir", "expanduser",
    "touch", "unlink", "mkdir", "generate_private_key", "generate_key",
})  # fmt: skip
CLOCK_METHODS = frozenset({"now", "utcnow", "today"})
CLOCK_TYPES = frozenset({"datetime", "date"})

# Rooms, and the only other parts of the package that each may import; a room that is not listed may import any but
# those that forbid it below.
MAY_IMPORT = {
    "accredit.errors": (),
    "accredit.core": ("accredit.errors",),
    "accredit.clock": (),
    "accredit.stores": ("accredit.clock", "accredit.core", "accredit.errors", "accredit.secret_sources"),
    "accredit.transport": ("accredit.clock", "accredit.core", "accredit.errors"),
    # A guard takes any verifier, so it knows none.
    "accredit.resource_server": ("accredit.core", "accredit.errors"),
    # Imported by every run of pytest: the package comes in only when a fixture is asked for.
    "_accredit_pytest": ("accredit.devserver", "accredit.testing"),
}
STRANGERS = ("accredit.stores", "accredit.transport", "accredit.integrations")
TOPS = ("accredit.cli",)  # imported by nothing but themselves

NOT_AT_IMPORT = frozenset({
    "aiohttp", "anyio", "asyncio", "cryptography", "django", "fastapi", "flask", "grpc", "h11", "http.client",
    "httpcore", "httpcore2", "httpx", "httpx2", "redis", "requests", "rich", "starlette", "trio", "urllib.request",
    "urllib3", "uvicorn",
})  # fmt: skip

SLEEPS = frozenset({
    "time.sleep", "asyncio.sleep", "trio.sleep", "trio.sleep_until", "anyio.sleep", "anyio.sleep_until", "gevent.sleep",
})  # fmt: skip
# Sleeps that are known to be right, as "tests/file.py:function" with a reason. There is none, and so it shall stay.
ALLOWED_SLEEPS: dict[str, str] = {}

UNFINISHED = re.compile("TO" + "DO|FIX" + "ME|XX" + "X")


# -------------------------------------------------------------------------------------------------- the reader


def modules(source: Path) -> Iterator[tuple[str, Path]]:
    """Give the dotted name and the file of every module of the package under ``source``."""
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def inside(module: str, *rooms: str) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def imports(module: str, path: Path) -> Iterator[tuple[str, int]]:
    """Give what a module imports, wherever in the file, and the line; ``from a import b`` gives both a and a.b."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            yield base, node.lineno
            if base == "accredit" or base.startswith("accredit."):
                for alias in node.names:
                    yield f"{base}.{alias.name}", node.lineno


def impure_imports(source: Path) -> list[str]:
    found = []
    for module, path in modules(source):
        if inside(module, "accredit.core"):
            for name, line in imports(module, path):
                allowed = name in PURE_STANDARD_LIBRARY or inside(name, *PURE_OTHERS)
                # "from accredit import errors" gives the package's own name first; what it takes decides.
                if not allowed and name != "accredit":
                    found.append(f"{path.relative_to(source).as_posix()}:{line} the core imports {name}")
    return found


def impure_code(source: Path) -> list[str]:
    found = []
    for module, path in modules(source):
        if inside(module, "accredit.core"):
            found += [f"{path.relative_to(source).as_posix()}:{line} {what}" for line, what in impurities(parse(path))]
    return found


def impurities(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                yield node.lineno, "the core is synchronous"
            case ast.Global():
                yield node.lineno, "the core keeps no global state"
            case ast.Name(id=name, ctx=ast.Load()) if name in IMPURE_NAMES:
                yield node.lineno, f"the core calls {name}"
            case ast.Attribute(attr=name) if name in IMPURE_METHODS:
                yield node.lineno, f"the core uses .{name}"
            case ast.Attribute(value=ast.Name(id=kind) | ast.Attribute(attr=kind), attr=name) if (
                name in CLOCK_METHODS and kind in CLOCK_TYPES
            ):
                yield node.lineno, f"the core reads the clock: {kind}.{name}"
            case ast.Try(finalbody=[_, *_]) | ast.TryStar(finalbody=[_, *_]):
                for step in node.finalbody:
                    for inner in ast.walk(step):
                        if isinstance(inner, ast.Yield | ast.YieldFrom):
                            yield inner.lineno, "a flow yields in a finally"
            case _:
                pass


def broken_rooms(source: Path) -> list[str]:
    """List the imports between rooms that the plan does not allow."""
    found = []
    for module, path in modules(source):
        for name, line in imports(module, path):
            if not name.startswith("accredit.") or inside(name, room_of(module)):
                continue
            room = room_of(module)
            where = f"{path.relative_to(source).as_posix()}:{line}"
            if room in MAY_IMPORT and not inside(name, *MAY_IMPORT[room]):
                found.append(f"{where} {room} imports {name}")
            elif room in STRANGERS and inside(name, *STRANGERS):
                found.append(f"{where} {room} imports {name}: these rooms do not know each other")
            elif inside(name, *TOPS):
                found.append(f"{where} {room} imports {name}: nothing may")
    return found


def long_files(*folders: Path) -> list[str]:
    found = []
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines > MOST_LINES and "node_modules" not in path.parts:
                found.append(f"{path.relative_to(folder.parent).as_posix()} has {lines} lines")
    return found


def unfinished(source: Path) -> list[str]:
    return [
        f"{path.relative_to(source).as_posix()}:{number} {line.strip()}"
        for path in sorted(source.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if UNFINISHED.search(line)
    ]


def sleeps(tests: Path) -> list[str]:
    """List the sleeps in the tests as ``file:function``; literally zero seconds is a switch of tasks, no sleep."""
    found = []
    for path in sorted(tests.rglob("*.py")):
        if "node_modules" not in path.parts:
            name = f"{tests.name}/{path.relative_to(tests).as_posix()}"
            found += [f"{name}:{function}" for function in sleepers(parse(path))]
    return found


def sleepers(tree: ast.Module) -> Iterator[str]:
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}

    def full_name(node: ast.AST) -> str:
        if isinstance(node, ast.Name):
            return known.get(node.id, "")
        if isinstance(node, ast.Attribute):
            return f"{full_name(node.value)}.{node.attr}"
        return ""

    def walk(node: ast.AST, function: str) -> Iterator[str]:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                function = name
            case ast.Call(func=called, args=[ast.Constant(value=0)]) if full_name(called) in SLEEPS - {"time.sleep"}:
                return
            case ast.Name() | ast.Attribute() if full_name(node) in SLEEPS:
                yield function
            case _:
                pass
        for child in ast.iter_child_nodes(node):
            yield from walk(child, function)

    yield from walk(tree, "<module>")


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


# ---------------------------------------------------------------------------------------------------- the rules


def test_the_core_imports_nothing_impure() -> None:
    assert impure_imports(SOURCE) == []


def test_the_core_does_nothing_impure() -> None:
    assert impure_code(SOURCE) == []


def test_no_arrow_points_upwards_and_strangers_stay_strangers() -> None:
    assert broken_rooms(SOURCE) == []


def test_no_file_is_too_long() -> None:
    assert long_files(SOURCE, TESTS) == []


def test_nothing_is_left_unfinished() -> None:
    assert unfinished(SOURCE) == []


def test_no_test_sleeps() -> None:
    assert sorted(sleeps(TESTS)) == sorted(ALLOWED_SLEEPS)


def test_the_public_face_is_small_sorted_and_documented() -> None:
    names = accredit.__all__
    assert len(names) <= MOST_PUBLIC_NAMES
    assert list(names) == sorted(names)
    for name in names:
        assert getattr(accredit, name).__doc__, name


def test_importing_the_package_loads_no_network_library() -> None:
    assert loaded_by("import accredit") & NOT_AT_IMPORT == set()


def test_the_package_says_that_it_is_typed() -> None:
    assert (SOURCE / "accredit" / "py.typed").is_file()


# ------------------------------------------------------------------------------ a break of each rule, to be found


def plant(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / "src" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return tmp_path / "src"


@pytest.mark.parametrize(
    "text",
    [
        "import socket",
        "import time",
        "from os import environ",
        "import random as dice",
        "def f():\n    import threading",
        "import httpx2",
        "from accredit import engine",
        "from accredit.stores import memory",
        "from ..stores import memory",
        "from .. import manager",
        "import concurrent.futures",
        "import urllib.request",
    ],
)
def test_an_impure_import_is_found(tmp_path: Path, text: str) -> None:
    assert impure_imports(plant(tmp_path, "accredit/core/bad.py", text))


@pytest.mark.parametrize(
    "text",
    [
        "import json",
        "from urllib.parse import quote",
        "from collections.abc import Iterator",
        "from cryptography.hazmat.primitives import hashes",
        "from accredit.core import strict",
        "from accredit import errors",
        "from . import strict",
        "from .strict import parse_json",
        "from ..errors import AccreditError",
    ],
)
def test_a_pure_import_is_left_alone(tmp_path: Path, text: str) -> None:
    assert impure_imports(plant(tmp_path, "accredit/core/good.py", text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "async def f(): pass",
        "open('x')",
        "print('x')",
        "from datetime import datetime\nx = datetime.now()",
        "import datetime\nx = datetime.datetime.now(datetime.UTC)",
        "from pathlib import Path\nx = Path('x').read_text()",
        "def f():\n    global x\n    x = 1",
        "def f():\n    try:\n        pass\n    finally:\n        yield 1",
        "def f():\n    try:\n        pass\n    finally:\n        if x:\n            yield from g()",
    ],
)
def test_impure_code_is_found(tmp_path: Path, text: str) -> None:
    assert len(impure_code(plant(tmp_path, "accredit/core/bad.py", text))) == 1


def test_pure_code_is_left_alone(tmp_path: Path) -> None:
    text = (
        "def f(now):\n    try:\n        yield now\n    finally:\n        g(now)\ndef h(clock):\n    return clock.now()"
    )
    assert impure_code(plant(tmp_path, "accredit/core/good.py", text)) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("accredit/stores/bad.py", "from accredit.transport import HttpTransport"),
        ("accredit/stores/bad.py", "from accredit import transport"),
        ("accredit/stores/__init__.py", "from ..manager import TokenManager"),
        ("accredit/transport/bad.py", "import accredit.stores.memory"),
        ("accredit/transport.py", "import accredit.engine"),
        ("accredit/integrations/bad.py", "from ..stores.memory import MemoryStore"),
        ("accredit/integrations/bad.py", "def f():\n    from accredit.transport import HttpTransport"),
        ("accredit/errors.py", "from accredit.core.secret import Secret"),
        ("accredit/manager.py", "from accredit.cli import main"),
        ("accredit/resource_server/bad.py", "from accredit.verifier import TokenVerifier"),
    ],
)
def test_an_arrow_that_points_the_wrong_way_is_found(tmp_path: Path, name: str, text: str) -> None:
    assert broken_rooms(plant(tmp_path, name, text))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("accredit/stores/good.py", "from accredit.core.records import Record\nfrom . import contract"),
        ("accredit/integrations/good.py", "from accredit.manager import TokenManager"),
        ("accredit/manager.py", "from accredit.stores.memory import MemoryStore"),
        ("accredit/cli/main.py", "from accredit.cli import token"),
    ],
)
def test_an_arrow_that_points_the_right_way_is_left_alone(tmp_path: Path, name: str, text: str) -> None:
    assert broken_rooms(plant(tmp_path, name, text)) == []


def test_a_long_file_is_found(tmp_path: Path) -> None:
    assert long_files(plant(tmp_path, "accredit/long.py", "x = 1\n" * MOST_LINES)) == []
    assert long_files(plant(tmp_path, "accredit/long.py", "x = 1\n" * (MOST_LINES + 1)))


def test_something_unfinished_is_found(tmp_path: Path) -> None:
    assert unfinished(plant(tmp_path, "accredit/bad.py", "x = 1  # TO" + "DO: two"))


@pytest.mark.parametrize(
    "text",
    [
        "import time\ndef test():\n    time.sleep(0)",
        "from time import sleep as nap\ndef test():\n    nap(1)",
        "import time as t\ndef test():\n    start(t.sleep, 1)",
        "import asyncio\nasync def test():\n    await asyncio.sleep(0.1)",
        "import asyncio\nasync def test(x):\n    await asyncio.sleep(x)",
        "from trio import sleep\nasync def test():\n    await sleep(1)",
        "import anyio\nasync def test():\n    await anyio.sleep(delay=1)",
    ],
)
def test_a_test_that_sleeps_is_found(tmp_path: Path, text: str) -> None:
    assert sleeps(plant(tmp_path, "test_bad.py", text)) == ["src/test_bad.py:test"]


@pytest.mark.parametrize(
    "text",
    [
        "import asyncio\nasync def test():\n    await asyncio.sleep(0)",
        "import trio\nasync def test():\n    await trio.sleep_forever()",
        "def test(clock):\n    clock.sleep(5)",
    ],
)
def test_a_test_that_only_switches_tasks_is_left_alone(tmp_path: Path, text: str) -> None:
    assert sleeps(plant(tmp_path, "test_good.py", text)) == []


def test_a_library_that_is_loaded_is_seen() -> None:
    assert "asyncio" in loaded_by("import asyncio")
