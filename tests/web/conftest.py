"""A server with a page, and a real headless Chromium to look at it with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from accredit.devserver import DevServer
from tests.web.support import Person, hostile_config, http

REQUIRE_VARIABLE = "ACCREDIT_REQUIRE_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


def chromium() -> str | None:
    """Return the path of a Chromium, or None."""
    return os.environ.get("ACCREDIT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


# For one module, not for the session: while Playwright runs, its event loop counts as running on this thread, and tests
# of asynchronous code could not start theirs.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        text = "needs Chromium: install it (Debian: apt-get install chromium), or name it in ACCREDIT_CHROMIUM"
        if os.environ.get(REQUIRE_VARIABLE) == "1":
            pytest.fail(f"{REQUIRE_VARIABLE}=1, and there is no browser: {text}")
        pytest.skip(text)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture
def server() -> Iterator[DevServer]:
    with DevServer(hostile_config(), web=True) as running:
        yield running


@pytest.fixture
def visit(browser: Browser, server: DevServer) -> Iterator[Callable[..., Person]]:
    """Open the page; keyword arguments are those of a browser context."""
    contexts: list[BrowserContext] = []

    def opened(**settings: Any) -> Person:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        contexts.append(context)
        return Person(context, server)

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(scope="session", autouse=True)
def closing() -> Iterator[None]:
    yield
    http().close()
