"""The page of the scale report."""

from __future__ import annotations

from collections.abc import Sequence

from tests.simulation.scale import Measured


def text(measured: Sequence[Measured]) -> str:
    """Return the page."""
    return repr(len(measured))
