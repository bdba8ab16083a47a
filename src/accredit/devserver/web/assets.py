"""The style and the script of the page: files of this package, put into the page and named by their hashes."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from importlib.resources import files


@lru_cache
def asset(name: str) -> str:
    """Return the text of ``style.css`` or ``script.js``."""
    # Line ends as a browser hashes them, whatever a checkout made of them.
    return files(__package__).joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


@lru_cache
def source_hash(name: str) -> str:
    """Return the hash source of an asset for the content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(asset(name).encode()).digest()).decode()
