"""``python -m tests.drills``: every outage in real time, with the figures; exits non-zero when a demand is not met."""

from __future__ import annotations

import argparse
import sys

from tests.drills.drill import Report, real_time
from tests.drills.outages import KINDS, can_be_played

# A call that hangs for longer than this beyond the deadline is no longer the fault of a busy machine.
_MARGIN = 2.0
_HEAD = ("outage", "calls", "failed", "renewals tried", "typed errors", "slowest error", "requests to recover")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.drills", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"some of {', '.join(KINDS)} (default: all)")
    parser.add_argument("--lifetime", type=int, default=30, metavar="SECONDS", help="of a token (default %(default)s)")
    parser.add_argument("--rate", type=float, default=100.0, help="calls per second (default %(default)s)")
    parser.add_argument("--deadline", type=float, default=2.0, metavar="SECONDS", help="of a caller who waits")
    options = parser.parse_args()
    unknown = set(options.kinds) - set(KINDS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    faults = []
    _say(" | ".join(_HEAD))
    for kind in options.kinds or filter(can_be_played, KINDS):
        report = real_time(kind, lifetime=options.lifetime, deadline=options.deadline, rate=options.rate)
        _say(" | ".join(_row(report)))
        faults += [f"{kind}: {fault}" for fault in report.faults(margin=_MARGIN)]
    for fault in faults[:20]:
        sys.stderr.write(f"{fault}\n")
    return 1 if faults else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _row(report: Report) -> tuple[str, ...]:
    through = report.ridden_through
    return (
        report.kind,
        f"{len(through):,} while the token was usable",
        str(sum(call.outcome != "200" for call in through)),
        str(report.attempts),
        f"{len(report.too_late):,}",
        f"{report.slowest:.2f} s of {report.deadline:g} s",
        str(report.token_requests),
    )


if __name__ == "__main__":
    sys.exit(main())
