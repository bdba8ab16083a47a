"""Planted bugs: each breaks one guarantee of the library in a copy of its source, and the simulator must see it.

A bug is a change of text in ``src/``; it is applied to a copy, and a fresh interpreter runs seeds over that copy. A
change whose text is not there any more is an error, so the table cannot go stale.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_SCRIPT = """
import json, sys
from pathlib import Path
import accredit
from tests.simulation.runner import first_found
assert Path(accredit.__file__).is_relative_to(sys.argv[1]), accredit.__file__
found = first_found(range(int(sys.argv[2])), sys.argv[3] or None)
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Bug:
    """One planted bug.

    Attributes:
        name: what is broken.
        changes: file under ``src/accredit``, the text that is there, and what stands there instead.
        seeds: within how many seeds it is found.
        invariants: which invariants see it first, in one seed or another.
        profile: the profile of the seeds; any when empty.

    """

    name: str
    changes: tuple[tuple[str, str, str], ...]
    seeds: int
    invariants: tuple[str, ...]
    profile: str = ""


def _bug(name: str, seeds: int, invariants: str, *changes: tuple[str, str, str], profile: str = "") -> Bug:
    return Bug(name, changes, seeds, tuple(invariants.split(", ")), profile)


BUGS = [
    _bug(
        "a lease is ended by whoever comes", 100, "one leader",
        ("stores/memory.py", "if leased is not None and leased[0] == owner:\n            self._leases.drop",
         "if leased is not None:\n            self._leases.drop"),
    ),
    _bug(
        "everybody gets the lease", 20, "one leader",
        ("stores/memory.py", "if leased is not None and leased[0] != owner:", "if leased is None and owner == '':"),
    ),
    _bug(
        "a lease does not end", 100, "memory, recovery, deadline, static stability",
        ("stores/memory.py", "self._leases.put(key, owner, now + lease, now)",
         "self._leases.put(key, owner, now + 1e9, now)"),
    ),
    _bug(
        "a process marks any generation as suspect", 200, "suspect",
        ("runtime/slot.py", "if self.token is None or self.token.generation != generation:", "if self.token is None:"),
    ),
    _bug(
        "the store marks any generation as suspect", 200, "suspect",
        ("stores/memory.py", "and kept.generation != generation:\n",
         "and kept.generation is None:\n"),
        ("stores/memory.py", "self._suspects.put(key, generation, kept.ends_at, now)",
         "self._suspects.put(key, kept.generation, kept.ends_at, now)"),
    ),
    _bug(
        "no jitter", 60, "spread",
        ("core/renewal.py", "late / 2.0 * (1.0 + jitter)", "late / 2.0 * 1.5"),
    ),
    _bug(
        "a hold without the tag of the credential", 300, "credential, hold, recovery",
        ("core/flows.py", 'tag = credential.tag if isinstance(error, CredentialRefusedError) else ""', 'tag = ""'),
    ),
    _bug(
        "a record found in the store lives by the wall clock", 200, "usable",
        ("core/flows.py", "remaining = min(stored.remaining, stored.record.lifetime, stored.record.expires_at - wall)",
         "remaining = min(stored.record.lifetime, stored.record.expires_at - wall)"),
        ("core/flows.py", "if min(stored.remaining, record.expires_at - wall) <= leeway_for(",
         "if record.expires_at - wall <= leeway_for("),
    ),
    _bug(
        "what a record says of its own end is not looked at", 300, "usable",
        ("core/flows.py", "remaining = min(stored.remaining, stored.record.lifetime, stored.record.expires_at - wall)",
         "remaining = min(stored.remaining, stored.record.lifetime)"),
        ("core/flows.py", "if min(stored.remaining, record.expires_at - wall) <= leeway_for(",
         "if stored.remaining <= leeway_for("),
        profile="store",
    ),
    _bug(
        "a failed renewal discards the token", 60, "static stability",
        ("runtime/slot.py", "        self.failures += failed.counts\n",
         "        self.failures += failed.counts\n        self.token = None\n"),
    ),
    _bug(
        "a record replaces any other", 300, "generation",
        ("stores/memory.py", "there is not None\n                and not there.suspect\n",
         "there is not None\n                and there.suspect is None\n"),
        profile="everything",
    ),
    _bug(
        "no cool-down", 200, "cool-down, due",
        ("core/flows.py", "COOL_DOWN = 60.0", "COOL_DOWN = 0.0"),
    ),
    _bug(
        "attempts without limit", 100, "attempts",
        ("core/discovery.py", "ATTEMPTS = 3", "ATTEMPTS = 1000"),
    ),
    _bug(
        "a request waits for its answer forever", 200, "deadline, recovery, memory",
        ("core/flows.py", "refresh_token), timeout=remaining)", "refresh_token), timeout=1e6)"),
    ),
    _bug(
        "a caller waits forever", 100, "deadline, wake-up",
        ("manager.py", "if not await got.wait_async(until - self._now()):", "if not await got.wait_async(1e6):"),
    ),
    _bug(
        "a flight wakes one of its waiters", 100, "wake-up",
        ("runtime/flight.py", "for gate in gates:", "for gate in list(gates)[:1]:"),
    ),
    _bug(
        "a flight that failed stays", 60, "wake-up",
        ("engine.py", "            if mine:\n                slot.flight = None",
         "            if mine and isinstance(result, Obtained):\n                slot.flight = None"),
    ),
    _bug(
        "each caller starts a flight", 60, "one flight",
        ("engine.py", "            elif slot.flight is not None:\n                return slot.flight\n", ""),
    ),
    _bug(
        "an identity without its scopes", 60, "identity",
        ("core/registration.py", '            ("scope", scopes),\n', ""),
    ),
    _bug(
        "life counts from when the answer came", 60, "usable",
        ("core/flows.py", "return _Issued(outcome, sent.local, sent.wall), False",
         "return _Issued(outcome, received.local, received.wall), False"),
    ),
    _bug(
        "no hold after a failure", 60, "hold, work",
        ("runtime/slot.py", "self.retry_at = now + max(failed.hold, LEAST_RETRY)", "self.retry_at = now"),
        ("runtime/slot.py", "self.held = failed if failed.hold > 0 else None", "self.held = None"),
    ),
    _bug(
        "holds of one length", 200, "hold",
        ("core/renewal.py", "full = min(last, BACK_OFF_FIRST * 2.0 ** min(failures, 16))",
         "full = BACK_OFF_FIRST"),
    ),
    _bug(
        "a throttle is not looked for", 300, "throttle",
        ("core/flows.py", "held = yield from endpoint_hold(throttle)", "held = None if throttle else None"),
    ),
    _bug(
        "the breaker stays open", 200, "breaker",
        ("runtime/guarded_store.py", "if now < self._closed_at:", "if now > 0.0:"),
    ),
    _bug(
        "a token that is over on landing is handed out", 1000, "usable",
        ("engine.py", " and self.now() < outcome.usable_until", ""),
    ),
    _bug(
        "a caller in a hurry gets no suspect token", 300, "static stability",
        ("engine.py", "if token is not None and is_newer(token.generation, newer_than):\n            return token\n",
         "if token is None and newer_than == 0:\n            return token\n"),
    ),
    _bug(
        "a store that counts anew is not believed", 500, "shared, due, recovery",
        ("engine.py", "floor = newer_than if over is not None else _newest(slot.generation(), newer_than)",
         "floor = _newest(slot.generation(), newer_than)"),
        profile="everything",
    ),
]  # fmt: skip


def plant(bug: Bug, folder: Path) -> Path:
    """Copy ``src/`` into a folder, apply the bug, and return the copy."""
    source = folder / "src"
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
    for name, old, new in bug.changes:
        path = source / "accredit" / name
        text = path.read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise LookupError(f"{bug.name}: the text to change is {text.count(old)} times in {name}")
        path.write_text(text.replace(old, new), encoding="utf-8")
    return source


def catch(bug: Bug, folder: Path) -> tuple[int, str, str] | None:
    """Run the seeds of a planted bug until one finds it; return seed, invariant and text, or None."""
    source = plant(bug, folder)
    path = os.pathsep.join([str(source), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", _SCRIPT, str(source), str(bug.seeds), bug.profile]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found = json.loads(done.stdout)
    return None if found is None else (found[0], found[1], found[2])
