"""``accredit demo --web``: the page shows the demo live, and stays until somebody interrupts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from accredit.demo.steps import STEPS
from accredit.demo.web import WebScreen
from tests.demo.test_demo import DEMO
from tests.web.conftest import browser
from tests.web.support import http

__all__ = ["browser"]


class Running:
    """A demo that runs with a page."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*DEMO, "--web", "--fast", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        self.link = ""
        for line in self.process.stderr:
            found = re.search(r"the page: (\S+)", line)
            if found:
                self.link = found[1]
                break

    def interrupt(self) -> tuple[str, str]:
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=60)

    def await_end(self) -> None:
        """Wait until it says that the page stays."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "stays until" in line:
                return
        pytest.fail("it ended")


@pytest.fixture
def running() -> Iterator[list[Running]]:
    demos: list[Running] = []
    yield demos
    for demo in demos:
        demo.process.kill()
        demo.process.communicate()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.xdist_group("browser")
def test_the_page_shows_the_demo_live(running: list[Running], browser: Any) -> None:
    demo = Running("--plain", "--only", "first", "--only", "refusal")
    running.append(demo)
    page = browser.new_page()
    page.set_default_timeout(60_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(demo.link)  # this is what it waited for
    page.wait_for_selector("text=Step 1 of 2: The first call")
    page.wait_for_selector("text=Step 2 of 2: A 401, healed by one retry")
    page.wait_for_selector("text=Everything was as claimed")
    notes = page.locator("[data-live=notes]").inner_text()
    assert "the status of the first call: 200" in notes
    assert page.locator("[data-live=notes] .mark.failed").count() == 0
    assert page.locator("[data-live=notes] .mark.passed").count() > 5
    assert page.locator("tbody[data-live=requests] tr").count() > 5
    assert page.locator("tbody[data-live=tokens] .pill.bad").count() >= 1  # what was revoked
    demo.await_end()
    # The server goes on, and the page works.
    page.get_by_role("button", name="Heal everything").click()
    page.wait_for_selector("#notice:has-text('healed')")
    page.context.close()
    out, _ = demo.interrupt()
    assert demo.process.returncode == 0
    assert "all as claimed" in out
    assert complaints == []


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_failed_claim_shows_and_json_stays_one_object(running: list[Running]) -> None:
    demo = Running("--json", "--only", "refusal", "--sabotage", "no-retry")
    running.append(demo)
    first = http().get(demo.link)
    cookie = first.headers["set-cookie"].partition(";")[0]
    page = demo.link.partition("enter")[0]
    assert http().get(page, headers={"Cookie": cookie}).status_code == 200
    demo.await_end()
    shown = http().get(page, headers={"Cookie": cookie}).text
    assert "Something was not as claimed" in shown
    assert "not true: " in shown
    out, _ = demo.interrupt()
    assert demo.process.returncode == 1
    assert json.loads(out)["failed"] == ["refusal"]


def test_it_does_not_wait_for_ever() -> None:
    """Nobody opens the page: it begins all the same."""
    waited: list[float] = []
    told: list[tuple[Any, ...]] = []

    class Server:
        page_link = "http://127.0.0.1:1/_ui/enter?key=k"

        def wait_for_page(self, *, timeout: float) -> bool:
            waited.append(timeout)
            return False

        def note(self, *said: Any, **more: Any) -> None:
            told.append((*said, more))

    class Inner:
        def __getattr__(self, name: str) -> Any:
            return lambda *_: threading.Lock() if name == "playing" else None

    screen = WebScreen(Inner(), Server(), 1)  # type: ignore[arg-type]  # what of them is used
    screen.opening("process 1")
    with screen.playing(1, STEPS[0], None):  # type: ignore[arg-type]  # not looked at
        pass
    assert waited == [60.0]
    assert told[0][1] == "Step 1 of 1: The first call"
    assert told[0][3] == {"items": [(None, "under way")]}


def test_without_the_option_there_is_no_page() -> None:
    done = subprocess.run(
        [*DEMO, "--plain", "--fast", "--only", "first"], capture_output=True, text=True, timeout=100, check=True
    )
    assert "page" not in done.stdout + done.stderr
