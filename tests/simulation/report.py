"""Measures large fleets and writes what came of it: ``docs/scale.md`` and its plots."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl

from tests.simulation import page
from tests.simulation.scale import HORIZON, Case, Measured, measure

mpl.use("svg")

from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PLOTS = DOCS / "scale"
FIGURES = ROOT / ".cache" / "scale"
SIZES = (10, 100, 1_000, 10_000, 100_000)
TROUBLED = 1_000
#: The largest fleets are looked at until each process has renewed once.
SHORT = 300.0
CASES = [
    *(Case(size, shared, jitter) for size in SIZES[:-1] for shared in (True, False) for jitter in (True, False)),
    *(Case(SIZES[-1], shared, horizon=SHORT) for shared in (True, False)),
    *(Case(TROUBLED, shared, True, "server") for shared in (True, False)),
    Case(TROUBLED, True, True, "store"),
    *(Case(TROUBLED, shared, jitter, "overload") for shared in (True, False) for jitter in (True, False)),
    Case(10_000, True, True, "store"),
]
_STYLE: Any = {
    "svg.hashsalt": "accredit",
    "svg.fonttype": "none",
    "font.size": 9.0,
    "axes.grid": True,
    "grid.alpha": 0.3,
}


def write() -> int:
    """Measure every case that was not measured yet, and write the page and the plots."""
    measured = []
    for case in CASES:
        one = measured_before(case) or measure_and_keep(case)
        measured.append(one)
        print(f"{case}: {one.token_requests} token requests, {one.steps} steps in {one.seconds:.1f} s", flush=True)
    publish(measured)
    return 0


def measure_and_keep(case: Case) -> Measured:
    """Measure a case and keep the figures: a report that was interrupted goes on where it was."""
    one = measure(case)
    FIGURES.mkdir(parents=True, exist_ok=True)
    _place(case).write_text(json.dumps(asdict(one)), encoding="utf-8")
    return one


def measured_before(case: Case) -> Measured | None:
    """Return the figures that were kept of a case; remove ``.cache/scale`` to measure anew."""
    place = _place(case)
    if not place.exists():
        return None
    figures: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    return Measured(**{**figures, "case": Case(**figures["case"])})


def _place(case: Case) -> Path:
    return FIGURES / ("-".join(map(str, asdict(case).values())) + ".json")


def publish(measured: Sequence[Measured]) -> None:
    """Write the page and the plots."""
    draw(measured)
    (DOCS / "scale.md").write_text(page.text(measured), encoding="utf-8")
    print("docs/scale.md and docs/scale/ are written")


def draw(measured: Sequence[Measured]) -> None:
    """Draw every plot."""
    PLOTS.mkdir(exist_ok=True)
    find = {one.case: one for one in measured}
    _plot("requests", "processes", "token requests in ten minutes", lambda axes: _by_size(axes, find))
    size = max(one.case.processes for one in measured if not one.case.shared and one.case.processes <= 10_000)
    _over_time(
        "jitter",
        f"token requests a second, {size:,} processes that share nothing",
        {
            "with jitter": find[Case(size, shared=False)].requests_by_second,
            "without": find[Case(size, shared=False, jitter=False)].requests_by_second,
        },
    )
    _over_time(
        "server-outage",
        f"token requests a second, {TROUBLED:,} processes",
        {
            "no shared store": find[Case(TROUBLED, shared=False, trouble="server")].requests_by_second,
            "shared store": find[Case(TROUBLED, shared=True, trouble="server")].requests_by_second,
        },
        mark=(200.0, 350.0),
    )
    _over_time(
        "store-outage",
        f"a second, {TROUBLED:,} processes with a shared store",
        {
            "store round trips": find[Case(TROUBLED, shared=True, trouble="store")].trips_by_second,
            "token requests": find[Case(TROUBLED, shared=True, trouble="store")].requests_by_second,
        },
        mark=(200.0, 260.0),
    )
    _over_time(
        "overload",
        f"token requests a second, {TROUBLED:,} processes, a server that can do {TROUBLED // 100}",
        {
            "no shared store, no jitter": find[Case(TROUBLED, False, False, "overload")].requests_by_second,
            "no shared store": find[Case(TROUBLED, False, True, "overload")].requests_by_second,
            "shared store": find[Case(TROUBLED, True, True, "overload")].requests_by_second,
        },
    )


def _by_size(axes: Any, find: dict[Case, Measured]) -> None:
    for shared, label in ((False, "no shared store"), (True, "shared store")):
        sizes = [size for size in SIZES if Case(size, shared) in find]
        axes.loglog(sizes, [find[Case(size, shared)].token_requests for size in sizes], "o-", label=label)


def _over_time(name: str, what: str, series: dict[str, list[int]], *, mark: tuple[float, float] | None = None) -> None:
    def lines(axes: Any) -> None:
        if mark is not None:
            axes.axvspan(*mark, color="0.9", label="outage")
        for label, values in series.items():
            axes.plot(range(int(HORIZON)), values, linewidth=0.9, label=label)
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(bottom=0)

    _plot(name, "seconds", what, lines)


def _plot(name: str, x: str, y: str, lines: Callable[[Any], None]) -> None:
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 3.0), layout="constrained")
        lines(axes)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.legend(frameon=False)
        figure.savefig(PLOTS / f"{name}.svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)
