"""Runs seeds: one of them explained, or many of them counted."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from tests.simulation.kernel import Finding
from tests.simulation.scenario import Profile, draw
from tests.simulation.watch import INVARIANTS
from tests.simulation.world import Result, World

NIGHTLY = 100_000
_BATCH = 50


class Found(NamedTuple):
    """A seed whose run broke an invariant, or crashed."""

    seed: int
    invariant: str
    text: str


def run_seed(seed: int, *, trace: list[str] | None = None, profile: Profile | None = None) -> Result:
    """Run one seed.

    Raises:
        Finding: an invariant does not hold.

    """
    return World(draw(seed, profile=profile), trace=trace).run()


def try_seed(seed: int, profile: Profile | None = None) -> Result | Found:
    """Run one seed; what goes wrong is a value."""
    try:
        return run_seed(seed, profile=profile)
    except Finding as finding:
        return Found(seed, finding.invariant, str(finding))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return Found(seed, "crash", f"{type(error).__name__}: {error} ({place.name}, line {place.lineno})")


def first_found(seeds: Iterable[int], profile: Profile | None = None) -> Found | None:
    """Return what is found first, in seeds of one profile if it is given; None when nothing is."""
    for seed in seeds:
        outcome = try_seed(seed, profile)
        if isinstance(outcome, Found):
            return outcome
    return None


def explain(seed: int) -> tuple[list[str], Found | None]:
    """Run one seed again and return its trace, in lines for people."""
    lines: list[str] = []
    found = None
    try:
        run_seed(seed, trace=lines)
    except Finding as finding:
        found = Found(seed, finding.invariant, finding.text)
        lines += ["", f"BROKEN: {finding}", f"  {finding.invariant}: {INVARIANTS[finding.invariant]}"]
    return lines, found


def _batch(seeds: list[int]) -> list[Result | Found]:
    return [try_seed(seed) for seed in seeds]


def sweep(first: int, last: int, *, workers: int) -> int:
    """Run many seeds and say what came of them; return how many found something."""
    began = time.perf_counter()
    batches = [list(range(start, min(start + _BATCH, last + 1))) for start in range(first, last + 1, _BATCH)]
    steps = count = hand_outs = issued = 0
    found: list[Found] = []
    with ProcessPoolExecutor(workers) as pool:
        for outcomes in pool.map(_batch, batches):
            for outcome in outcomes:
                count += 1
                if isinstance(outcome, Found):
                    found.append(outcome)
                    print(f"seed {outcome.seed}: {outcome.text}", flush=True)
                else:
                    steps += outcome.steps
                    hand_outs += outcome.hand_outs
                    issued += outcome.issued
            if len(batches) > 20 and count % (_BATCH * (len(batches) // 20)) == 0:
                print(f"  {count} seeds, {len(found)} findings", file=sys.stderr, flush=True)
    took = time.perf_counter() - began
    print(
        f"{count} seeds, {steps} steps, {hand_outs} tokens handed out, {issued} issued; "
        f"{took:.1f} s with {workers} workers: {count / took:.0f} seeds and {steps / took:.0f} steps a second"
    )
    kinds = Counter(each.invariant for each in found)
    print(f"{len(found)} findings" + (f": {dict(kinds)}" if kinds else ""))
    if found:
        print(f"replay and explain one with: ./run simulate --seed {found[0].seed}")
    return len(found)


def main(arguments: list[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="./run simulate", description="Fleets of processes in virtual time.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seed", type=int, metavar="N", help="replay one seed and explain it")
    what.add_argument("--seeds", metavar="A-B", help="run these seeds")
    what.add_argument("--nightly", action="store_true", help=f"run {NIGHTLY} seeds")
    what.add_argument("--report", action="store_true", help="measure fleets of up to 100,000; write docs/scale.md")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes to run seeds in (default: 2)")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        lines, found = explain(options.seed)
        print("\n".join(lines))
        print("an invariant is broken" if found else "every invariant holds")
        return 1 if found else 0
    if options.report:
        from tests.simulation.report import write

        return write()
    first, _, last = ("0-" + str(NIGHTLY - 1) if options.nightly else options.seeds).partition("-")
    if not first.isdigit() or not (last or first).isdigit():
        parser.error("--seeds takes A-B, two numbers")
    return 1 if sweep(int(first), int(last or first), workers=options.workers) else 0
