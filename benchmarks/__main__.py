"""``python -m benchmarks``: run all benchmarks, or one; print the table, and write the files that are asked for."""

import argparse
import importlib
import sys
from pathlib import Path

from benchmarks import report
from benchmarks.model import Effort, Section

#: In the order of the table. Each module has ``run(effort)``, which returns sections.
NAMES = ("fresh", "auth_step", "whole_request", "imports", "memory", "herds", "faults", "guard")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a look at it in a minute or two; not for publication")
    parser.add_argument("--only", action="append", choices=NAMES, help="only this benchmark; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures for machines")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the table for people")
    arguments = parser.parse_args()
    effort = Effort(arguments.quick)
    machine = report.machine(quick=arguments.quick)
    sections: list[Section] = []
    for name in arguments.only or NAMES:
        print(f"benchmarks: {name} ...", file=sys.stderr, flush=True)
        sections += importlib.import_module(f"benchmarks.{name}").run(effort)
    report.finish(machine)
    print(report.table(machine, sections))
    if arguments.table is not None:
        arguments.table.write_text(report.page(machine, sections), encoding="utf-8")
    if arguments.json is not None:
        arguments.json.write_text(report.machine_readable(machine, sections), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
