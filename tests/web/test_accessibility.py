"""The page for people with a keyboard, a screen reader, weak sight or a small screen."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from accredit.devserver import DevServer
from tests.web.support import HOSTILE, HOSTILE_SECRET, Person, call, hostile_config, token

pytestmark = pytest.mark.xdist_group("browser")
Visit = Callable[..., Person]
CHECKS = (Path(__file__).parent / "accessibility.js").read_text(encoding="utf-8")
WIDTHS = {320: 640, 390: 844, 1280: 900}
SCHEMES: tuple[Any, ...] = ("light", "dark")


def problems(page: Page) -> list[str]:
    found: list[str] = page.evaluate(CHECKS)
    return found


def busy(server: DevServer) -> str:
    """Let the server have something of everything to show; return a good token."""
    good = token(server)
    token(server, HOSTILE, HOSTILE_SECRET)
    for _ in range(12):
        token(server, scope="orders:read")
    call(server, good)
    call(server, "nonsense")
    server.revoke_token_id(server.requests("/token")[-1].token_id or "")
    server.rotate_key()
    server.stage_key()
    server.inject(status=503, path="/revoke")
    server.set_latency(0.001, client_id=HOSTILE)
    server.hold(server="api")
    server.advance_clock(60)
    server.note("step", "Step 1 of 2", "What is shown.", [(True, "so it is"), (False, "so it is not"), (None, "open")])
    return good


def fill(person: Person, text: str) -> None:
    page = person.page
    page.fill("#token", text)
    page.click("text=Check the token")
    page.wait_for_selector("#result-title")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_is_wrong_at_any_width(visit: Visit, server: DevServer, scheme: Any) -> None:
    """With ``ACCREDIT_SCREENSHOTS`` naming a folder, what was looked at is kept there as pictures."""
    good = busy(server)
    person = visit(color_scheme=scheme)
    page = person.page
    fill(person, good)
    page.click("#result summary >> text=Claims")
    for width, height in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": height})
        assert problems(page) == [], width
        folder = os.environ.get("ACCREDIT_SCREENSHOTS")
        if folder:
            page.screenshot(path=f"{folder}/page-{scheme}-{width}.png", full_page=True)
    fill(person, "nonsense")
    assert problems(page) == []
    assert person.complaints == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_is_wrong_without_script_or_without_anything_to_show(
    visit: Visit, server: DevServer, scheme: Any
) -> None:
    person = visit(color_scheme=scheme, java_script_enabled=False, viewport={"width": 390, "height": 844})
    page = person.page
    assert page.locator("#pause").is_hidden()
    assert page.get_by_role("link", name="Reload").is_visible()
    page.click("text=Revoke all >> nth=0")
    page.wait_for_url("**/?done=revoke-client*")
    person.context.clear_cookies()
    page.goto(f"{server.url}/_ui/")
    assert page.locator("h1").count() == 1
    # Checks run in scripts, so the same pages are looked at once more by somebody who has them.
    other = visit(color_scheme=scheme, viewport={"width": 390, "height": 844})
    assert problems(other.page) == []
    folder = os.environ.get("ACCREDIT_SCREENSHOTS")
    if folder:
        other.page.screenshot(path=f"{folder}/empty-{scheme}-390.png", full_page=True)
    other.context.clear_cookies()
    other.page.goto(f"{server.url}/_ui/")
    door = [problem for problem in problems(other.page) if not problem.startswith(("not one", "no way", "nothing"))]
    assert door == []


def test_the_browser_names_every_control(visit: Visit, server: DevServer) -> None:
    """The names are those that Chromium gives to assistive technology, not those that a check makes out."""
    busy(server)
    person = visit()
    session = person.context.new_cdp_session(person.page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    wanted = {
        "button",
        "link",
        "textbox",
        "combobox",
        "radio",
        "spinbutton",
        "table",
        "region",
        "navigation",
        "heading",
    }
    found: dict[str, list[str]] = {}
    for node in nodes:
        role = node.get("role", {}).get("value")
        if not node.get("ignored") and role in wanted:
            found.setdefault(role, []).append(node.get("name", {}).get("value", ""))
    assert set(found) == wanted
    assert [(role, name) for role, names in found.items() for name in names if not name.strip()] == []
    assert "Revoke token 1" in found["button"]
    assert {"Clients", "Tokens", "Requests, the newest first"} <= set(found["table"])
    person.page.set_viewport_size({"width": 390, "height": 844})
    narrow = session.send("Accessibility.getFullAXTree")["nodes"]
    roles = [node.get("role", {}).get("value") for node in narrow if not node.get("ignored")]
    assert {"table", "row", "cell"} <= set(roles)  # the cells are blocks now, and still cells


def test_the_keyboard_reaches_everything_and_shows_where_it_is(visit: Visit, server: DevServer) -> None:
    busy(server)
    person = visit()
    page = person.page
    expect(page.locator("#live")).to_have_text("Live")
    expected = page.evaluate(
        """() => {
          const stops = 'a[href], button, input, select, textarea, summary, [tabindex="0"]';
          const nodes = [...document.querySelectorAll(stops)];
          const able = nodes.filter((node) => node.type !== 'hidden' && node.getClientRects().length);
          // Of the radio buttons of one group, the chosen one has the focus.
          return able.filter((node) => node.type !== 'radio' || node.checked)
            .map((node, index) => { node.dataset.stop = index; return index; });
        }"""
    )
    seen = []
    for _ in range(len(expected)):
        page.keyboard.press("Tab")
        stop = page.evaluate(
            """() => {
              const node = document.activeElement, style = getComputedStyle(node);
              const box = node.getBoundingClientRect();
              return [Number(node.dataset.stop ?? -1), parseFloat(style.outlineWidth), style.outlineStyle,
                      box.bottom > 0 && box.top < innerHeight];
            }"""
        )
        seen.append(stop[0])
        assert stop[1] >= 2, stop
        assert stop[2] != "none", stop
        assert stop[3], stop
    assert seen == expected


def test_the_first_stop_leads_to_the_content(visit: Visit) -> None:
    page = visit().page
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "To the content"
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "content"


def test_what_was_done_is_announced(visit: Visit, server: DevServer) -> None:
    person = visit()
    region = person.page.locator("#notice")
    assert region.get_attribute("role") == "status"
    handle = region.element_handle()
    person.page.get_by_role("button", name="Heal everything").press("Enter")
    person.notice("Everything is healed.")
    # The very region that was there before: a new one with its text in it would not be read out.
    assert handle is not None
    assert handle.evaluate("node => node.isConnected && node.textContent") == "Everything is healed."


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("document.documentElement.lang = ''", "no language"),
        ("document.querySelector('footer').remove()", "not one contentinfo"),
        ("document.querySelector('nav').removeAttribute('aria-label')", "a landmark without a name"),
        ("document.querySelector('label[for=token]').remove()", "a control without a name"),
        ("document.querySelector('[aria-label=Status]').removeAttribute('aria-label')", "a control without a name"),
        ("document.querySelector('.hint').style.color = '#999'", "contrast"),
        ("document.querySelector('#token').style.borderColor = '#ddd'", "the edge of a field"),
        ("document.querySelector('nav a').style.padding = '0'", "a target of"),
        ("document.querySelector('h2').replaceWith(document.createElement('h4'))", "heading level"),
        ("document.querySelector('fieldset legend').remove()", "a choice without a question"),
        ("document.querySelector('main').style.width = '3000px'", "the page is"),
        ("document.querySelector('h3, h2').id = 'token'", "the id token twice"),
        ("document.querySelector('table caption').remove()", "a table without caption"),
        ("document.querySelector('#scope').tabIndex = 5", "a focus order of its own"),
        ("document.querySelector('.skip').remove()", "no way to skip"),
        ("document.querySelectorAll('.small.danger span').forEach((node) => node.remove())", "two buttons of one name"),
    ],
)
def test_the_checks_find_what_is_wrong(visited: Person, damage: str, found: str) -> None:
    visited.page.reload()
    visited.page.evaluate(f"() => {{ {damage}; }}")
    assert [problem for problem in problems(visited.page) if problem.startswith(found)] != []


@pytest.fixture(scope="module")
def visited(browser: Any) -> Any:
    with DevServer(hostile_config(), web=True) as server:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
        for _ in range(2):
            token(server)
        yield Person(context, server)
        context.close()
