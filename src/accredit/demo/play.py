"""Runs the steps against a server in a process of its own."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from accredit.clock import SystemClock
from accredit.demo.report import Report
from accredit.demo.screen import Screen, choose
from accredit.demo.stage import Stage, config
from accredit.demo.steps import STEPS, Step
from accredit.demo.web import WebScreen, stay
from accredit.devserver.process import DevServerProcess

AS_CLAIMED: Final = 0
FAILED: Final = 1


def play(options: argparse.Namespace) -> int:
    """Run the chosen steps; return the exit code."""
    screen, hint = choose(plain_text=options.plain, as_json=options.json)
    chosen = [step for step in STEPS if not options.only or step.name in options.only]
    now = SystemClock().now
    server = DevServerProcess(config(), web=options.web)
    problem = ""
    # Whatever ends this block ends the server too; should this process be killed, the server ends by itself.
    try:
        try:
            server.start()
        except RuntimeError as error:
            problem = str(error)
        if problem:
            sys.stderr.write(f"accredit demo: {problem}\n")
            return FAILED
        if options.web:
            screen = WebScreen(screen, server, len(chosen))
        screen.opening(f"process {server.pid}")
        began = now()
        stage = Stage(server, options.sabotage, options.fast)
        played = [(step, _play_step(stage, step, number, screen)) for number, step in enumerate(chosen, 1)]
        screen.closing(played, now() - began, options.sabotage)
        if hint:
            sys.stdout.write(f"{hint}\n")
            sys.stdout.flush()
        if options.web:
            stay()
    finally:
        server.stop()
    return AS_CLAIMED if all(report.ok for _, report in played) else FAILED


def _play_step(stage: Stage, step: Step, number: int, screen: Screen) -> Report:
    report = Report()
    now = SystemClock().now
    began = now()
    with screen.playing(number, step, report):
        try:
            stage.begin()
            step.play(stage, report)
        except Exception as error:
            # A step that breaks is a claim that did not hold; the others still have something to show.
            report.broke(error)
    report.seconds = now() - began
    screen.played(report)
    return report
