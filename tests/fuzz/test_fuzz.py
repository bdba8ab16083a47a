"""Every fuzz target, for a few seconds: guided by coverage where atheris is, with hypothesis and the seeds everywhere.

``./run fuzz`` runs them for longer. What it finds becomes a seed, and a test beside the tests of what was wrong.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accredit.errors import ConfigurationError
from tests.fuzz.boxed import ROOT, SEEDS, planted
from tests.fuzz.checks import MAX_INPUT, SECRET, FindingError, check_silent, check_text
from tests.fuzz.targets import TARGETS

GUIDED = importlib.util.find_spec("atheris") is not None
# About a second each on an idle machine, beside another one to begin.
RUNS = {
    "token_response": 3_000,
    "discovery": 5_000,
    "challenge": 8_000,
    "guard": 4_000,
    "resource_metadata": 4_000,
    "retry_after": 5_000,
    "url": 4_000,
    "jws": 2_000,
    "jwk": 2_000,
    "token": 2_000,
    "jwks": 2_000,
    "introspection": 2_000,
    "configuration": 1_000,
}


def seeds(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((SEEDS / name).iterdir())]


def boxed(name: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz.boxed", name, str(folder), "-seed=1", *options]
    env = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=100, check=False)


def mutated(name: str) -> st.SearchStrategy[bytes]:
    """Return the seeds of a target with a piece of them, or of another one, cut out, repeated or replaced."""
    known = seeds(name)
    pieces = st.one_of(
        st.binary(max_size=8),
        st.sampled_from([b"@S", b"@U", b"@B", b"@T", b'"', b"\\", b"\n", b"\xff", b"\xc3\x9f", b"9" * 40, b"[" * 40]),
        st.builds(lambda seed, at, size: seed[at : at + size], st.sampled_from(known), places, places),
    )
    return st.builds(
        lambda seed, at, cut, piece, times: seed[:at] + piece * times + seed[at + cut :],
        st.sampled_from(known),
        places,
        st.integers(0, 12),
        pieces,
        st.integers(0, 3),
    )


places = st.integers(0, 300)


@pytest.mark.parametrize("name", TARGETS)
def test_the_library_stands_whatever_it_is_given(name: str, tmp_path: Path) -> None:
    if not GUIDED:
        settings(max_examples=400)(given(mutated(name))(TARGETS[name]))()
        return
    done = boxed(name, tmp_path, f"-runs={RUNS[name]}")
    found = [path.read_bytes() for path in tmp_path.glob("finding-*")]
    assert (done.returncode, found) == (0, []), done.stderr[-3000:]
    ran = re.search(r"^Done (\d+) runs", done.stderr, re.MULTILINE)
    assert ran, done.stderr[-3000:]
    assert int(ran[1]) >= RUNS[name]  # It may run a few more, to measure the seeds.
    assert "no interesting inputs" not in done.stderr  # The fuzzer would be blind.


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_what_is_made_of_them(name: str) -> None:
    target = TARGETS[name]
    for seed in seeds(name):
        assert len(seed) <= MAX_INPUT
        target(seed)
    settings(max_examples=60)(given(mutated(name))(target))()
    settings(max_examples=20)(given(st.binary(max_size=200))(target))()


@pytest.mark.parametrize("name", TARGETS)
def test_time_and_memory_are_bounded_by_the_size_of_the_input(name: str) -> None:
    """An input of the largest size made of one piece over and over, which is what makes careless readers slow."""
    pieces = {piece for seed in seeds(name) for piece in (seed[:1], seed[-3:], seed[len(seed) // 2 :][:7]) if piece}
    for piece in sorted(pieces | {b'"\\', b", ", b"=", b"a=", b'[{"a":', b"%", b".", b"9", b"\xe2\x84\xab"}):
        for seed in seeds(name)[:2]:
            middle = len(seed) // 2
            data = (seed[:middle] + piece * MAX_INPUT)[: MAX_INPUT - middle] + seed[middle:]
            tracemalloc.start()
            before = time.thread_time()
            TARGETS[name](data)
            seconds = time.thread_time() - before
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            # What is quadratic takes seconds for this size; what is linear some milliseconds.
            assert seconds < 1.0, (name, piece)
            assert peak < 4 * 2**20, (name, piece)


def test_a_finding_is_seen() -> None:
    error = ConfigurationError("fine.", advice="fine.", key="fine")
    check_silent(error)
    for text in (SECRET, SECRET[3:9], "7%2ff%2b", "7/F+9 É2"):
        with pytest.raises(FindingError):
            check_text(f"it says {text} there")
        with pytest.raises(FindingError):
            check_silent(ConfigurationError("fine.", advice=text))
    error.__context__ = ValueError(SECRET)
    with pytest.raises(FindingError):
        check_silent(error)


@pytest.mark.parametrize(("word", "reason"), [("no", "planted"), ("open", "must not write"), ("hang", "timeout")])
def test_the_box_ends_with_a_finding_and_keeps_its_input(word: str, reason: str, tmp_path: Path) -> None:
    if not GUIDED:
        with pytest.raises(ValueError, match="planted"):
            planted(b"no")
        return
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "one").write_text(word)
    done = boxed("planted", tmp_path, "-runs=10", "-timeout=1")
    assert done.returncode != 0
    assert reason in done.stdout + done.stderr
    assert [path.read_text()[: len(word)] for path in tmp_path.glob("finding-*")] == [word]
