"""What a benchmark gives: figures with their intervals, and what they mean."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Interval:
    """A median of samples, and the 95 % interval of that median (bootstrap, percentile method)."""

    median: float
    low: float
    high: float


@dataclass(slots=True)
class Row:
    """One subject in one section.

    Attributes:
        subject: what was measured.
        cells: figures by the column they stand in.
        note: what a reader should know about this row.
        details: what a table has no room for, for the file for machines.
        numbers: those behind cells that are texts, for the file for machines.

    """

    subject: str
    cells: dict[str, "Interval | float | int | str"]
    note: str = ""
    details: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(slots=True)
class Section:
    """One benchmark.

    Attributes:
        name: for ``--only``.
        title: heading of the table.
        meaning: what the columns mean, and how they were measured.
        columns: columns of the table and their units.
        rows: the subjects, accredit's first.
        aims: what accredit aims at, and whether this run reached it.
        missing: alternatives that are not installed.

    """

    name: str
    title: str
    meaning: str
    columns: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    aims: list["Aim"] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Aim:
    """An aim of accredit: reached when the measured value is at most the limit."""

    what: str
    limit: float
    measured: float
    unit: str

    @property
    def reached(self) -> bool:
        """Tell whether this run reached it."""
        return self.measured <= self.limit


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: everything for figures that are published, little of it for a quick look."""

    quick: bool

    def of(self, full: int, quick: int) -> int:
        """Return one of the two numbers."""
        return quick if self.quick else full
