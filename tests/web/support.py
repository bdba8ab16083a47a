"""What the tests of the page have in common."""

from __future__ import annotations

from functools import cache

import httpx2
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, expect

from accredit.core.secret import Secret
from accredit.devserver import DevClient, DevConfig, DevServer

#: What a careless page would turn into an element, a script, an attribute or another line.
HOSTILE = "\"><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>\u202e{{7*7}}'"
SECRET, HOSTILE_SECRET = "s3cr3tCanary-one", "s3cr3tCanary-two"
REPORTS = "https://reports.example"


@cache
def http() -> httpx2.Client:
    """Return one client for all tests: to make one costs more than a request. A fixture closes it."""
    return httpx2.Client(timeout=20)


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
        """Wait until the page says that; looked at from outside, since pages come and go, and run nothing at times."""
        expect(self.page.locator("#notice")).to_contain_text(text, timeout=20_000)

    def rows(self, name: str) -> list[str]:
        return [row.inner_text() for row in self.page.locator(f"tbody[data-live={name}] tr").all()]


def token(server: DevServer, client_id: str = "api-client", secret: str = SECRET, **form: str) -> str:
    answer = http().post(
        server.token_endpoint,
        data={"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret, **form},
    )
    return str(answer.json()["access_token"])


def call(server: DevServer, bearer: str) -> int:
    return http().get(f"{server.api_url}/hello", headers={"Authorization": f"Bearer {bearer}"}).status_code


def hostile_config() -> DevConfig:
    """Return a configuration with a client whose name would like to be more than one."""
    clients = (
        DevClient(client_id="api-client", client_secret=Secret(SECRET), audiences=(REPORTS,)),
        DevClient(
            client_id=HOSTILE, client_secret=Secret(HOSTILE_SECRET), scopes=("orders:read",), token_format="opaque"
        ),
    )
    return DevConfig(clients=clients)
