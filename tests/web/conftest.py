"""A server with a page, and a real headless Chromium to look at it with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from accredit.core.secret import Secret
from accredit.devserver import DevClient, DevConfig, DevServer

REQUIRE_VARIABLE = "ACCREDIT_REQUIRE_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
#: What a careless page would turn into an element, a script, an attribute or another line.
HOSTILE = "\"><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>\u202e{{7*7}}'"
SECRET, HOSTILE_SECRET = "s3cr3tCanary-one", "s3cr3tCanary-two"
REPORTS = "https://reports.example"


def chromium() -> str | None:
    """Return the path of a Chromium, or None."""
    return os.environ.get("ACCREDIT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
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
    clients = (
        DevClient(client_id="api-client", client_secret=Secret(SECRET), audiences=(REPORTS,)),
        DevClient(
            client_id=HOSTILE, client_secret=Secret(HOSTILE_SECRET), scopes=("orders:read",), token_format="opaque"
        ),
    )
    with DevServer(DevConfig(clients=clients), web=True) as running:
        yield running


class Person:
    """Somebody who looks at the page, and what the browser complained of meanwhile."""

    def __init__(self, context: BrowserContext, server: DevServer) -> None:
        self.context = context
        self.server = server
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(server.page_link)

    def _said(self, message: ConsoleMessage) -> None:
        # That a request was refused is what some tests are about; the browser says it by itself.
        if "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def notice(self, text: str) -> None:
        """Wait until the page says that."""
        self.page.wait_for_function("text => document.getElementById('notice').textContent.includes(text)", arg=text)

    def rows(self, name: str) -> list[str]:
        return [row.inner_text() for row in self.page.locator(f"tbody[data-live={name}] tr").all()]


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


class _Http:
    """One client for all tests: to make one costs more than a request."""

    client: httpx2.Client


@pytest.fixture(scope="session", autouse=True)
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(timeout=20) as client:
        _Http.client = client
        yield client


def token(server: DevServer, client_id: str = "api-client", secret: str = SECRET, **form: str) -> str:
    answer = _Http.client.post(
        server.token_endpoint,
        data={"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret, **form},
    )
    return str(answer.json()["access_token"])


def call(server: DevServer, bearer: str) -> int:
    return _Http.client.get(f"{server.api_url}/hello", headers={"Authorization": f"Bearer {bearer}"}).status_code
