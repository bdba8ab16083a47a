"""Take any one check of the verifier away, and a test fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.bad_inputs.model import covers
from tests.verifier.planted import FAULTS, ROOT


@pytest.fixture(scope="module")
def nursery() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.verifier.planted"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def result(nursery: subprocess.Popen[str], number: int) -> int:
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    nursery.stdin.write(f"{number}\n")
    nursery.stdin.flush()
    return int(nursery.stdout.readline())


# A sample, one in fifteen, for every day; all of them take minutes: ACCREDIT_PLANTED=all
ALL = os.environ.get("ACCREDIT_PLANTED") == "all"
CHOSEN = range(0, len(FAULTS), 1 if ALL else 15)


@covers("T13", outcome="a test fails for every check that is taken away")
@pytest.mark.parametrize("number", CHOSEN, ids=lambda n: f"{FAULTS[n].file}-{n}")
def test_a_check_that_is_gone_is_missed(nursery: subprocess.Popen[str], number: int) -> None:
    assert result(nursery, number) == 1, FAULTS[number]


@pytest.mark.skipif(not ALL, reason="they are run by themselves; here it is only of use beside the faults")
def test_without_a_fault_the_same_tests_pass(nursery: subprocess.Popen[str]) -> None:
    assert result(nursery, -1) == 0


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_every_fault_can_be_planted(number: int) -> None:
    compile(FAULTS[number].source(), FAULTS[number].file, "exec")
    for test in FAULTS[number].tests:
        file, *_, name = test.split("::")
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")
