"""Each function of the page, clicked in a real headless Chromium, with JavaScript and without."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import httpx2
import pytest
from playwright.sync_api import expect

from accredit.core.strict import b64url_encode
from accredit.devserver import DevServer
from tests.web.support import HOSTILE, HOSTILE_SECRET, REPORTS, SECRET, Person, call, http, token

pytestmark = pytest.mark.xdist_group("browser")
Visit = Callable[..., Person]
BOTH = pytest.mark.parametrize("scripts", [True, False], ids=["script", "no script"])


def kids(server: DevServer) -> list[str]:
    return [key["kid"] for key in server.command("signing_keys")]


@BOTH
def test_what_is_shown(visit: Visit, server: DevServer, scripts: bool) -> None:
    bearer = token(server, scope="orders:read")
    call(server, bearer)
    person = visit(java_script_enabled=scripts)
    page = person.page
    assert page.url == f"{server.url}/_ui/"  # the key is not in the address
    assert page.title() == "accredit development server"
    assert server.issuer in page.locator("header").inner_text()
    assert "orders:write" in person.rows("clients")[0]
    (row,) = person.rows("tokens")
    assert re.search(r"#1\s+jwt\s+api-client\s+orders:read", row)
    assert "active" in row
    assert re.search(r"in 59 min|in 1 h", row)
    requests = person.rows("requests")
    assert "GET /hello" in requests[0]
    assert "POST /token" in requests[1]
    assert "200" in requests[1]
    for secret in (SECRET, HOSTILE_SECRET, bearer, server.admin_token):
        assert secret not in page.content()
    assert person.complaints == []
    # All that it needs came with it.
    assert {url.split("/")[2] for url in person.asked} == {server.url.split("/")[2]}
    assert len([url for url in person.asked if "/_ui/events" not in url]) <= 5


@BOTH
def test_a_token_is_checked(visit: Visit, server: DevServer, scripts: bool) -> None:
    bearer = token(server)
    person = visit(java_script_enabled=scripts)
    page = person.page

    def check(text: str, audience: str = "", scope: str = "") -> str:
        page.fill("#token", text)
        page.select_option("#audience", audience)
        page.fill("#scope", scope)
        page.click("text=Check the token")
        page.wait_for_selector("#result-title")
        page.wait_for_load_state()
        return page.locator("#result").inner_text()

    assert "The API accepts it. It is token #1" in check(bearer, scope="orders:read orders:write")
    assert page.locator("#result .mark.failed").count() == 0
    assert page.locator("#result li").count() == 16
    if scripts:
        expect(page.locator("#result-title")).to_be_focused()
    page.click("#result summary >> text=Claims")
    assert '"client_id": "api-client"' in page.locator("#result pre >> visible=true").inner_text()
    with page.expect_response("**/_ui/check*"):
        check(bearer, audience=REPORTS)
    expect(page.locator("#result .verdict")).to_contain_text("The API refuses it: audience.")
    failed = page.locator("#result li:has(.mark.failed)")
    assert failed.count() == 1
    assert 'aud is "https://api.example"' in failed.inner_text()
    # What was pasted is not given back.
    assert bearer not in page.content()
    with page.expect_response("**/_ui/check*"):
        check("nonsense")
    expect(page.locator("#result .verdict")).to_contain_text("malformed")
    assert person.complaints == []


@BOTH
def test_a_token_is_revoked(visit: Visit, server: DevServer, scripts: bool) -> None:
    first, second = token(server), token(server)
    person = visit(java_script_enabled=scripts)
    assert (call(server, first), call(server, second)) == (200, 200)
    person.page.get_by_role("button", name="Revoke token 1").click()
    person.notice("The token was revoked.")
    assert (call(server, first), call(server, second)) == (401, 200)
    states = person.page.locator("tbody[data-live=tokens] td[data-label=State]")
    expect(states).to_have_text(["active", "revoked"])
    assert person.page.get_by_role("button", name="Revoke token 1").count() == 0


@BOTH
def test_every_token_of_a_client_is_revoked(visit: Visit, server: DevServer, scripts: bool) -> None:
    mine, other = token(server), token(server, HOSTILE, HOSTILE_SECRET)
    person = visit(java_script_enabled=scripts)
    person.page.locator("tbody[data-live=clients] tr").nth(1).get_by_role("button").click()
    person.notice("Every token of the client so far was revoked.")
    assert (call(server, mine), call(server, other)) == (200, 401)


@BOTH
def test_keys_are_staged_rotated_and_forgotten(visit: Visit, server: DevServer, scripts: bool) -> None:
    old = token(server)
    (first,) = kids(server)
    person = visit(java_script_enabled=scripts)
    page = person.page
    listed = page.locator("#keys li")
    page.get_by_role("button", name="Publish the next key").click()
    person.notice("The next key is published.")
    expect(listed).to_have_count(2)
    staged = kids(server)[1]
    page.get_by_role("button", name="Rotate the key", exact=True).click()
    person.notice("The key was rotated. The old one stays published")
    expect(listed.nth(0)).to_contain_text(staged)
    expect(listed.nth(1)).to_contain_text(first)
    assert call(server, old) == 200
    page.get_by_role("button", name="Rotate and forget the old").click()
    person.notice("forgotten")
    expect(listed).to_have_count(1)
    assert call(server, old) == 401


TROUBLE: tuple[tuple[str, dict[str, str], str, str], ...] = (
    ("status", {"status": "429", "retry_after": "9"}, "token", "429"),
    ("garbage", {"garbage": "html"}, "token", "html"),
    ("latency", {"latency": "0.01"}, "token", "late"),
    ("drip", {"drip": "0.0001"}, "token", "drip"),
    ("hang_up", {}, "everything", "gone"),
    ("truncate", {}, "token", "gone"),
    ("expired_key", {}, "token", "unknown_key"),
    ("wrong_issuer", {}, "metadata", "issuer"),
    ("status", {"status": "500"}, "api", "api"),
)


@BOTH
def test_it_is_broken_in_every_way_and_healed(visit: Visit, server: DevServer, scripts: bool) -> None:
    person = visit(java_script_enabled=scripts)
    page = person.page
    for what, fields, place, seen in TROUBLE:
        page.locator(f"input[name=what][value={what}]").check()
        for name, value in fields.items():
            field = page.locator(f"form.break [name={name}]")
            field.select_option(value) if name == "garbage" else field.fill(value)
        page.select_option("#place", place)
        page.get_by_role("button", name="Break it").click()
        person.notice("It is broken as you asked.")
        expect(page.locator("header .pill")).to_contain_text("Broken on purpose")
        assert symptom(server) == seen, what
        page.get_by_role("button", name="Heal everything").click()
        person.notice("Everything is healed.")
        expect(page.locator("header .pill")).to_have_text("Healthy")
        assert symptom(server) == "none", what
    assert person.complaints == []


def symptom(server: DevServer) -> str:
    """Return what is wrong with the server, as a client sees it."""
    server.clear_log()
    metadata = f"{server.url}/.well-known/oauth-authorization-server"
    form = {"grant_type": "client_credentials", "client_id": "api-client", "client_secret": SECRET}
    try:
        if http().get(metadata).json()["issuer"] != server.issuer:
            return "issuer"
        answer = http().post(server.token_endpoint, data=form)
    except httpx2.TransportError:
        return "gone"
    if answer.status_code != 200:
        return str(answer.status_code)
    if not answer.headers["content-type"].startswith("application/json"):
        return "html"
    called = http().get(f"{server.api_url}/hello", headers={"Authorization": f"Bearer {answer.json()['access_token']}"})
    if called.status_code == 500:
        return "api"
    if called.status_code != 200:
        return str(called.json()["reason"])
    fault = server.requests("/token")[-1].fault or ""
    return "late" if "late" in fault else "drip" if "drip" in fault else "none"


@BOTH
def test_so_many_times_and_no_more(visit: Visit, server: DevServer, scripts: bool) -> None:
    person = visit(java_script_enabled=scripts)
    person.page.fill("#times", "1")
    person.page.get_by_role("button", name="Break it").click()
    person.notice("It is broken as you asked.")
    expect(person.page.locator("#trouble ul")).to_contain_text("at /token, 1 more")
    assert [symptom(server), symptom(server)] == ["503", "none"]


@BOTH
def test_the_clock_is_moved_and_put_right(visit: Visit, server: DevServer, scripts: bool) -> None:
    bearer = token(server)
    person = visit(java_script_enabled=scripts)
    person.page.get_by_role("button", name="Move the clock").click()
    person.notice("The clock was moved.")
    expect(person.page.locator("header")).to_contain_text("1 h ahead")
    expect(person.page.locator("tbody[data-live=tokens] .pill")).to_have_text("expired")
    assert call(server, bearer) == 401
    person.page.get_by_role("button", name="Put it right").click()
    person.notice("The clock is right again.")
    expect(person.page.locator("tbody[data-live=tokens] .pill")).to_have_text("active")
    assert call(server, bearer) == 200


@BOTH
def test_a_form_that_makes_no_sense(visit: Visit, server: DevServer, scripts: bool) -> None:
    person = visit(java_script_enabled=scripts)
    person.page.locator("form.break [name=status]").evaluate("field => { field.type = 'text'; field.value = '9e9'; }")
    person.page.get_by_role("button", name="Break it").click()
    person.notice("Nothing was done: status must be a number.")
    assert "bad" in (person.page.locator("#notice").get_attribute("class") or "")
    assert symptom(server) == "none"


def test_it_is_live(visit: Visit, server: DevServer) -> None:
    """What happens on the server shows by itself, in every open page; nothing that is typed or focused is lost."""
    one, two = visit(), visit()
    for person in (one, two):
        expect(person.page.locator("#live")).to_have_text("Live")
    one.page.fill("#token", "half a tok")
    one.page.locator("#scope").focus()
    bearer = token(server)
    for person in (one, two):
        expect(person.page.locator("tbody[data-live=tokens] tr")).to_have_count(1)
        expect(person.page.locator("tbody[data-live=requests] tr").first).to_contain_text("POST /token")
    two.page.get_by_role("button", name="Revoke token 1").click()
    expect(one.page.locator("tbody[data-live=tokens] .pill")).to_have_text("revoked")
    assert call(server, bearer) == 401
    expect(one.page.locator("tbody[data-live=requests] tr").first).to_contain_text("invalid_token")
    assert one.page.input_value("#token") == "half a tok"
    expect(one.page.locator("#scope")).to_be_focused()
    assert one.complaints == two.complaints == []


def test_expiry_ticks_to_its_end(visit: Visit, server: DevServer) -> None:
    server.set_token_lifetime(2)
    person = visit()
    token(server)
    row = person.page.locator("tbody[data-live=tokens] tr")
    expect(row).to_contain_text("in ")
    expect(row.locator(".pill")).to_have_text("expired")
    expect(row.locator("[data-until]")).to_contain_text("ago")


def test_live_updates_are_paused(visit: Visit, server: DevServer) -> None:
    person = visit()
    page = person.page
    expect(page.locator("#live")).to_have_text("Live")
    button = page.get_by_role("button", name="Pause live updates")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    with page.expect_event("request", lambda request: request.url.endswith("/_ui/")) as asked:
        token(server)
        server.count()
        assert page.locator("tbody[data-live=tokens] tr").count() == 0
        button.click()
    assert asked.value.method == "GET"
    expect(page.locator("tbody[data-live=tokens] tr")).to_have_count(1)


def test_a_herd_of_requests(visit: Visit, server: DevServer) -> None:
    person = visit()
    for _ in range(120):
        token(server)
    expect(person.page.locator("#tokens .hint")).to_contain_text("120 issued so far; the newest 50 are listed")
    expect(person.page.locator("tbody[data-live=tokens] tr")).to_have_count(50)
    expect(person.page.locator("tbody[data-live=requests] tr")).to_have_count(100)
    assert len([url for url in person.asked if url.endswith("/_ui/")]) < 100


def test_hostile_names_and_tokens_are_harmless(visit: Visit, server: DevServer) -> None:
    token(server, HOSTILE, HOSTILE_SECRET)
    server.note("x", HOSTILE, HOSTILE, [(True, HOSTILE)])
    person = visit()
    page = person.page
    shown = HOSTILE.replace("\u202e", "\\u202e")
    assert shown in person.rows("clients")[1]
    assert shown in page.locator("[data-live=notes]").inner_text()
    for hostile in (HOSTILE, f"{HOSTILE}.{HOSTILE}.{HOSTILE}", "</textarea><script>document.title='owned'</script>"):
        with page.expect_response("**/_ui/check*"):
            page.fill("#token", hostile)
            page.click("text=Check the token")
    members = {"alg": HOSTILE, "kid": HOSTILE, "typ": HOSTILE, "iss": HOSTILE, "aud": [HOSTILE], "scope": HOSTILE}
    part = b64url_encode(json.dumps(members).encode())
    with page.expect_response("**/_ui/check*"):
        page.fill("#token", f"{part}.{part}.{part}")
        page.click("text=Check the token")
    expect(page.locator("#result")).to_contain_text("onerror")
    with page.expect_response("**/_ui/check*"):
        page.select_option("#audience", REPORTS)
        page.fill("#scope", HOSTILE)
        page.click("text=Check the token")
    page.reload()
    assert page.title() == "accredit development server"
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    assert person.complaints == []  # a violation of the content security policy would be one
    assert {url.split("/")[2] for url in person.asked} == {server.url.split("/")[2]}


def test_injected_code_would_not_run(visit: Visit, server: DevServer) -> None:
    """The content security policy holds even where the page did not: no script, frame, markup or other origin."""
    person = visit()
    page = person.page
    page.evaluate(
        """() => {
          const script = document.createElement('script');
          try { script.textContent = "document.title = 'owned'"; } catch (refused) { console.log('refused'); }
          document.body.append(script);
          const image = document.createElement('img');
          image.setAttribute('src', 'http://127.0.0.1:1/x.png');
          document.body.append(image);
          const frame = document.createElement('iframe');
          frame.setAttribute('src', '/_ui/');
          document.body.append(frame);
        }"""
    )
    page.wait_for_function("() => true")
    assert page.title() == "accredit development server"
    assert any("refused" in text or "Content Security Policy" in text for text in person.complaints)
    with pytest.raises(Exception, match="TrustedHTML"):
        page.evaluate("() => { document.body.innerHTML = '<b>x</b>'; }")


def test_another_page_can_do_nothing(visit: Visit, server: DevServer) -> None:
    """A page of another port, which counts as the same site, has the cookie sent along and still gets nowhere."""
    person = visit()
    kid = kids(server)[0]
    page = person.context.new_page()
    page.goto(f"{server.api_url}/")  # another origin on the same host
    for script in (
        "url => fetch(url + '/_ui/', {credentials: 'include'}).then(r => r.text())",
        "url => fetch(url + '/_ui/do/rotate', {method: 'POST', credentials: 'include', body: new URLSearchParams()})",
        "url => fetch(url + '/_admin/rotate_key', {method: 'POST', headers: {'X-Admin-Token': 'x'}, body: '{}'})",
    ):
        with pytest.raises(Exception, match="Failed to fetch"):
            page.evaluate(script, server.url)
    with page.expect_navigation() as navigated:
        page.evaluate(
            """url => {
              const form = document.createElement('form');
              form.method = 'post';
              form.action = url + '/_ui/do/rotate';
              document.body.append(form);
              form.submit();
            }""",
            server.url,
        )
    assert navigated.value is not None
    assert navigated.value.status == 403
    assert kids(server) == [kid]


def test_without_the_key(visit: Visit, server: DevServer) -> None:
    person = visit()
    person.context.clear_cookies()
    page = person.page
    page.goto(f"{server.url}/")
    assert "api-client" not in page.content()
    page.fill("#key", "wrong")
    page.get_by_role("button", name="Open the page").click()
    expect(page.locator("#notice")).to_contain_text("That is not the key.")
    page.fill("#key", server.page_link.partition("key=")[2])
    page.get_by_role("button", name="Open the page").click()
    expect(page.locator("h1")).to_have_text("Development server")
    assert page.url == f"{server.url}/_ui/"
