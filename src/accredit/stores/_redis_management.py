"""What an operator does with the Redis store: list, remove, purge. Never a value is read, and never a foreign key."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import unquote

from accredit.stores._redis_link import Link, Pools
from accredit.stores._redis_nodes import Nodes, settled
from accredit.stores._redis_scripts import Script
from accredit.stores.codec import read_header
from accredit.stores.contract import Entry

#: Least seconds that one operation may take: a person waits for it, and no call does.
SECONDS: Final = 5.0
_COUNT: Final = 500
Run = Callable[..., Any]


class Management:
    """Goes through the keys of all servers, a few at a time, with SCAN."""

    def __init__(self, prefix: str, pools: Pools, nodes: Nodes, run: Run, timeout: float) -> None:
        """Keep them. ``run`` runs a script on the server of its first key."""
        self._prefix = prefix
        self._pools = pools
        self._nodes = nodes
        self._run = run
        self._seconds = max(timeout, SECONDS)
        start = re.escape(prefix)
        self._ours = re.compile(rf"{start}:([A-Za-z0-9._-]{{1,64}}):([^:{{}}]+):\{{[0-9a-f]{{32}}\}}(:lease|:hold)?")
        self._throttle = re.compile(rf"{start}:throttle:\{{[0-9a-f]{{32}}\}}")

    def entries(self, look: Script, registration: str | None) -> list[Entry]:
        """Return the records with life left."""
        found = []
        for key in sorted(self._keys(registration)):
            match = self._ours.fullmatch(key)
            if match is None or match[3]:
                continue
            for form, left, high, low, suspect in self._run(look, (key,)):
                header = read_header(b"accredit:%s:" % form)
                generation = int(high) << 32 | int(low)
                found.append(
                    Entry(
                        key,
                        match[1],
                        unquote(match[2]),
                        left / 1000,
                        generation,
                        "" if header is None else header.key_id,
                        0 if header is None else header.schema,
                        suspect=suspect == 1,
                    )
                )
        return found

    def remove_key(self, forget: Script, key: str) -> bool:
        """Forget one key and what belongs to it."""
        match = self._ours.fullmatch(key)
        if match is None or match[3]:
            return False
        return bool(self._run(forget, (key, f"{key}:lease", f"{key}:hold")))

    def purge(self, forget: Script, registration: str | None) -> int:
        """Forget everything, or everything of one registration; leases that run are left alone."""
        count = 0
        for key in sorted(self._keys(registration)):
            match = self._ours.fullmatch(key)
            if match is not None:
                # A hold may be left of a record that has gone.
                base = key.removesuffix(match[3] or "")
                count += bool(self._run(forget, (base, f"{base}:lease", f"{base}:hold")))
            elif registration is None and self._throttle.fullmatch(key):
                self._run(forget, (f"{key}:none", f"{key}:none", key))
        return count

    def _keys(self, registration: str | None) -> Iterator[str]:
        start = f"{self._prefix}:" if registration is None else f"{self._prefix}:{registration}:"
        for place in self._nodes.masters(time.monotonic() + self._seconds):
            pool = self._pools.pool(place)
            cursor = b"0"
            while True:
                scan = _scan(cursor, f"{start}*")
                cursor, keys = settled(pool, time.monotonic() + self._seconds, scan)
                for raw in keys:
                    key = raw.decode("utf-8", "replace")
                    # The pattern is but a help: what it lets through may be anything.
                    if key.startswith(start):
                        yield key
                if cursor == b"0":
                    break


def _scan(cursor: bytes, pattern: str) -> Callable[[Link], Any]:
    return lambda link: link.ask("SCAN", cursor, "MATCH", pattern, "COUNT", _COUNT)
