"""``python -m benchmarks``: run all benchmarks, or one; print the table, and write the files that are asked for."""

import argparse
import importlib
import sys
import time
from pathlib import Path

from benchmarks import report
from benchmarks.model import Effort, Section

#: In the order of the table. Each module has ``run(effort)``, which returns sections.
NAMES = (
    "fresh",
    "auth_step",
    "whole_request",
    "imports",
    "memory",
    "herds",
    "faults",
    "redis_store",
    "encryption",
    "guard",
    "rpc",
    "verify",
)


ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results.json"
PAGE = ROOT / "docs" / "benchmarks.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a look at it in a minute or two; not for publication")
    parser.add_argument("--only", action="append", choices=NAMES, help="only this benchmark; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures for machines")
    parser.add_argument(
        "--publish", action="store_true", help="all of it, into benchmarks/results.json and docs/benchmarks.md"
    )
    parser.add_argument("--page", action="store_true", help="measure nothing: write the page anew from the file")
    arguments = parser.parse_args()
    if arguments.page:
        write_page()
        return 0
    if arguments.publish and arguments.only:
        parser.error("what is published is a run of everything")
    effort = Effort(arguments.quick)
    machine = report.machine(quick=arguments.quick)
    machine["seconds"] = {}
    sections: list[Section] = []
    for name in arguments.only or NAMES:
        print(f"benchmarks: {name} ...", file=sys.stderr, flush=True)
        began = time.monotonic()
        sections += importlib.import_module(f"benchmarks.{name}").run(effort)
        machine["seconds"][name] = round(time.monotonic() - began)
    report.finish(machine)
    print(report.table(machine, sections))
    files = [arguments.json] if arguments.json is not None else []
    if arguments.publish:
        files.append(RESULTS)
    for file in files:
        file.write_text(report.machine_readable(machine, sections), encoding="utf-8")
    if arguments.publish:
        write_page()
    return 0


def write_page() -> None:
    """Write the page of the documentation from the published figures."""
    machine, sections = report.read(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(report.page(machine, sections), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
