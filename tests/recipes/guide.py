"""The code of the guide, with the servers and secrets of a test in place of those of the reader."""

from __future__ import annotations

import re
from pathlib import Path

from accredit.devserver import DevServer

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "scheduled.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str, *words: str) -> list[str]:
    """Return the blocks of that language that hold all the words."""
    found = [body for name, body in _BLOCK.findall(PAGE.read_text(encoding="utf-8")) if name == language]
    return [body for body in found if all(word in body for word in words)]


def block(language: str, *words: str) -> str:
    """Return the one block that holds the words."""
    (found,) = blocks(language, *words)
    return found


def for_reader(text: str, server: DevServer, folder: Path) -> str:
    """Return the code as a reader would have it."""
    secret = folder / "orders"
    secret.write_text("dev-secret\n", encoding="utf-8")
    return (
        text.replace("https://idp.example.com", server.issuer)
        .replace("https://api.example.com", server.api_url)
        .replace("/run/secrets/orders", secret.as_posix())
        .replace('"orders-worker"', '"api-client"')
    )


def program(server: DevServer, folder: Path, *parts: str) -> Path:
    """Write the module that all programs share and the parts of one of them to a file."""
    file = folder / "orders_program.py"
    text = "\n".join([block("python", "manager = TokenManager("), *parts])
    file.write_text(for_reader(text, server, folder), encoding="utf-8")
    return file
