"""The figures as a table for people and as JSON for machines."""

import dataclasses
import json
import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.model import Aim, Interval, Row, Section
from benchmarks.others import DISTRIBUTIONS

_HEAD = """# Benchmarks

`./run bench --publish` measures everything that is claimed about speed, beside the alternatives in the same run, writes
the figures to `benchmarks/results.json`, and this page from them; do not edit it.
Times carry over to no other machine, ratios mostly do. A figure is a median; behind it, in brackets, is the 95 %
interval of that median (bootstrap). Subjects take turns within each round, so that what else the machine does falls
on all of them alike. The alternatives are set up as their documentation says.
"""


def machine(*, quick: bool) -> dict[str, Any]:
    """Return what has to be known about the machine and the versions."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_at_start": _load(),
        "quick": quick,
        "versions": {name: _version(name) for name in DISTRIBUTIONS},
    }


def finish(facts: dict[str, Any]) -> None:
    """Note the load at the end."""
    facts["load_at_end"] = _load()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _load() -> list[float] | None:
    return [round(value, 1) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def table(facts: dict[str, Any], sections: list[Section]) -> str:
    """Return the machine and every section as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version is not None)
    parts = [
        f"Measured {facts['date']} on {facts['system']}, {facts['processor']}, {facts['cores']} cores shared with other"
        f" work (load average over 1, 5 and 15 minutes {_three(facts['load_at_start'])} at the start,"
        f" {_three(facts['load_at_end'])} at the end), {facts['python']}."
        + (" A quick run: not for publication." if facts["quick"] else ""),
        f"Versions: {versions}.",
    ]
    aims = [(section, aim) for section in sections for aim in section.aims]
    if aims:
        parts.append(
            "## Aims\n\n"
            + _grid(
                ("aim", "limit", "measured", "reached"),
                [
                    (
                        aim.what,
                        f"{aim.limit:g} {aim.unit}",
                        f"{_number(aim.measured)} {aim.unit}",
                        "yes" if aim.reached else "**no**",
                    )
                    for _, aim in aims
                ],
            )
        )
    parts += [_section(section) for section in sections]
    return "\n\n".join(parts) + "\n"


def page(facts: dict[str, Any], sections: list[Section]) -> str:
    """Return the page of the documentation."""
    return f"{_HEAD}\n{table(facts, sections)}"


def machine_readable(facts: dict[str, Any], sections: list[Section]) -> str:
    """Return everything as JSON."""
    found = [dataclasses.asdict(section) for section in sections]
    for each, section in zip(found, sections, strict=True):
        each["aims"] = [{**dataclasses.asdict(aim), "reached": aim.reached} for aim in section.aims]
    return json.dumps({"machine": facts, "sections": found}, indent=1) + "\n"


def read(text: str) -> tuple[dict[str, Any], list[Section]]:
    """Return what :func:`machine_readable` wrote."""
    found = json.loads(text)
    return found["machine"], [_read_section(section) for section in found["sections"]]


def _read_section(given: dict[str, Any]) -> Section:
    rows = [Row(**{**row, "cells": {name: _read_cell(cell) for name, cell in row["cells"].items()}})
            for row in given["rows"]]  # fmt: skip
    aims = [Aim(**{name: value for name, value in aim.items() if name != "reached"}) for aim in given["aims"]]
    return Section(**{**given, "rows": rows, "aims": aims})


def _read_cell(cell: Any) -> Any:
    return Interval(**cell) if isinstance(cell, dict) else cell


def _section(section: Section) -> str:
    titles = ["", *(f"{name} ({unit})" if unit else name for name, unit in section.columns.items())]
    notes = any(row.note for row in section.rows)
    if notes:
        titles.append("note")
    rows = [(row.subject, *_cells(section, row), *([row.note] if notes else [])) for row in section.rows]
    text = f"## {section.title}\n\n{section.meaning}\n\n{_grid(titles, rows)}"
    if section.missing:
        text += f"\n\nNot installed, so not measured: {', '.join(section.missing)}."
    return text


def _cells(section: Section, row: Row) -> list[str]:
    return [_cell(row.cells.get(name, "")) for name in section.columns]


def _cell(value: Interval | float | str) -> str:
    if isinstance(value, Interval):
        return f"{_number(value.median)} [{_number(value.low)}, {_number(value.high)}]"
    return value if isinstance(value, str) else _number(value)


def _number(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _three(values: list[float] | None) -> str:
    return "unknown" if values is None else ", ".join(f"{value:g}" for value in values)


def _grid(titles: "tuple[str, ...] | list[str]", rows: "list[tuple[str, ...]]") -> str:
    lines = [titles, ["---"] + ["---:"] * (len(titles) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
