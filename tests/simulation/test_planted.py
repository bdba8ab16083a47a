"""Each planted bug is found within the seeds that the table states; a change that does not apply is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.planted import BUGS, ROOT, Bug, catch, plant
from tests.simulation.test_seeds import SAFETY
from tests.simulation.watch import INVARIANTS


@pytest.mark.timeout(SAFETY)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_a_planted_bug_is_found(bug: Bug, tmp_path: Path) -> None:
    found = catch(bug, tmp_path)
    assert found is not None, f"{bug.seeds} seeds did not find it"
    seed, invariant, text = found
    assert seed < bug.seeds
    assert invariant in bug.invariants, text


def test_almost_every_invariant_has_a_bug_that_it_finds() -> None:
    # The others hold by construction of the flows; what would break them is found by another one first.
    assert set(INVARIANTS) - {name for bug in BUGS for name in bug.invariants} <= {
        "due",
        "asked with the lease",
        "requests",
    }


def test_a_bug_whose_text_is_gone_is_an_error(tmp_path: Path) -> None:
    gone = Bug("gone", (("engine.py", "this text is not there", ""),), 1, ("identity",))
    with pytest.raises(LookupError, match="0 times"):
        plant(gone, tmp_path)


def test_without_a_bug_nothing_is_found(tmp_path: Path) -> None:
    nothing = Bug("nothing", (("__init__.py", "__version__ =", "__version__  ="),), 20, ("identity",))
    assert catch(nothing, tmp_path) is None
    assert (tmp_path / "src" / "accredit" / "__init__.py").read_text() != (
        ROOT / "src/accredit/__init__.py"
    ).read_text()
