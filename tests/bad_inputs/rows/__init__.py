"""Rows that are answers of a server, as tables."""

from __future__ import annotations

from tests.bad_inputs.model import Case
from tests.bad_inputs.rows import discovery, faults, granted, refusals, rejected

CASES: tuple[Case, ...] = (*granted.CASES, *rejected.CASES, *refusals.CASES, *faults.CASES, *discovery.CASES)
