"""The page as HTML, made from the state of the server. It shows no secret and no token."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from itertools import islice
from typing import Final

from accredit.devserver.checks import clock_time, distance
from accredit.devserver.config import DevClient
from accredit.devserver.keys import RingKey
from accredit.devserver.ledger import IssuedToken
from accredit.devserver.log import LogEntry
from accredit.devserver.web.assets import asset
from accredit.devserver.web.markup import Child, Markup, h, raw
from accredit.devserver.web.panels import examination, trouble
from accredit.devserver.web.parts import View, card, cell, form, hidden, live, name, row, table, until
from accredit.devserver.web.shield import PREFIX

_MAX_TOKENS: Final = 50
#: How many of the newest tokens are looked at to count those of a client that are alive.
_MAX_COUNTED: Final = 5000
_MAX_REQUESTS: Final = 100
_ROLES: Final = {"current": ("good", "signs"), "next": ("", "next"), "retired": ("warn", "retired")}


def door(notice: str) -> str:
    """Return the page for a browser that has no session."""
    body = h(
        "main",
        h(
            "section",
            h("h1", "accredit development server", id="door"),
            h("p", "Open the link that the server printed when it started, or give its key here."),
            h("p", notice, id="notice", role="alert", class_="bad" if notice else None),
            h(
                "form",
                h(
                    "div",
                    h("label", "Key of the page", for_="key"),
                    h("input", type="password", id="key", name="key", autocomplete="off", required=True),
                    class_="field",
                ),
                h("button", "Open the page", class_="main"),
                method="post",
                action=f"{PREFIX}enter",
                class_="stack",
            ),
            class_="card stack door",
            aria_labelledby="door",
        ),
        class_="wrap",
    )
    return _document(h("body", body))


def page(view: View) -> str:
    """Return the page."""
    now = view.control.now()
    body = h(
        "body",
        h("a", "To the content", href="#content", class_="skip"),
        _header(view, now),
        h(
            "main",
            h(
                "div",
                h("p", view.notice, id="notice", role="status", aria_live="polite", class_="bad" if view.bad else None),
                h(
                    "div",
                    _notes(view),
                    h(
                        "div",
                        h(
                            "div",
                            _clients(view, now),
                            _tokens(view, now),
                            _requests(view),
                            _keys(view),
                            _clock(view),
                            class_="column",
                        ),
                        h("div", examination(view), trouble(view), class_="column"),
                        class_="grid two",
                    ),
                    class_="grid",
                ),
                class_="wrap",
            ),
            id="content",
            tabindex="-1",
        ),
        h(
            "footer",
            h(
                "div",
                h("p", "For development and tests only. Secrets and tokens are never shown here."),
                class_="wrap",
            ),
        ),
        raw("script", asset("script.js")),
        data_now=f"{now:.3f}",
    )
    return _document(body)


def _document(body: Markup) -> str:
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("title", "accredit development server"),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("meta", name="robots", content="noindex"),
        raw("style", asset("style.css")),
    )
    return f"<!doctype html>\n{h('html', head, body, lang='en')}\n"


def _header(view: View, now: float) -> Markup:
    control = view.control
    config = control.authority.config
    troubles = len(control.faults) + len(control.latencies) + len(control.held())
    pill = h("span", "Healthy", class_="pill good")
    if troubles:
        pill = h("span", f"Broken on purpose: {troubles}", class_="pill bad")
    offset = f", {distance(control.offset).removeprefix('in ')} ahead" if control.offset > 0.5 else ""
    if control.offset < -0.5:
        offset = f", {distance(control.offset).removesuffix(' ago')} behind"
    links = [
        ("clients", "Clients"),
        ("tokens", "Tokens"),
        ("requests", "Requests"),
        ("keys", "Keys"),
        ("clock", "Clock"),
        ("check", "Check a token"),
        ("trouble", "Trouble"),
    ]
    return h(
        "header",
        h(
            "div",
            h(
                "div",
                h("div", h("p", "accredit", class_="brand"), h("h1", "Development server")),
                h(
                    "div",
                    live("span", "status", pill),
                    h("span", "Not live", id="live", class_="hint"),
                    h(
                        "button",
                        "Pause",
                        type="button",
                        id="pause",
                        class_="small",
                        aria_pressed="false",
                        hidden=True,
                        aria_label="Pause live updates",
                    ),
                    h("a", "Reload", href=PREFIX, class_="button", id="reload"),
                    class_="actions",
                ),
                class_="top",
            ),
            h(
                "dl",
                h("div", h("dt", "Issuer"), h("dd", h("code", config.issuer))),
                h("div", h("dt", "Protected API"), h("dd", h("code", view.api_url))),
                live("div", "time", h("dt", "Its clock"), h("dd", f"{clock_time(now)[:16]} UTC{offset}")),
                class_="facts",
            ),
            h(
                "nav",
                h("ul", [h("li", h("a", text, href=f"#{name}")) for name, text in links]),
                aria_label="Parts of the page",
            ),
            class_="wrap",
        ),
    )


def _notes(view: View) -> Markup:
    notes: list[Child] = []
    for note in view.control.notes.values():
        items: list[Child] = [
            h(
                "li",
                h(
                    "span",
                    {True: "✓", False: "✗", None: "•"}[good],
                    aria_hidden="true",
                    class_="mark" + {True: " passed", False: " failed", None: ""}[good],
                ),
                h("div", h("span", {True: "true: ", False: "not true: ", None: ""}[good], class_="hidden"), text),
            )
            for good, text in note.items
        ]
        notes.append(
            h(
                "div",
                h("h3", note.title),
                h("p", note.text, class_="hint") if note.text else None,
                h("ul", items, class_="plain checks") if items else None,
            )
        )
    shown = h(
        "section",
        h("div", h("h2", "What is being shown", id="notes-title"), class_="head"),
        h("div", notes, class_="stack"),
        class_="card",
        aria_labelledby="notes-title",
    )
    return live("div", "notes", shown if notes else None, hidden=not notes)


def _clients(view: View, now: float) -> Markup:
    control = view.control
    config = control.authority.config
    alive: dict[str, int] = {}
    for token in islice(control.authority.ledger.newest_first(), _MAX_COUNTED):
        if token.expires_at > now and not control.authority.ledger.is_denied(token.token_id, token.client_id):
            alive[token.client_id] = alive.get(token.client_id, 0) + 1

    def line(client: DevClient) -> Markup:
        lifetime = control.authority.token_lifetime or client.token_lifetime or config.token_lifetime
        audiences = " ".join(dict.fromkeys((config.default_audience, *client.audiences)))
        return row(
            client.client_id,
            cell("Client", name(client.client_id)),
            cell("Methods", h("span", ", ".join(client.auth_methods), class_="sub")),
            cell(
                "May ask for",
                h("div", " ".join(client.scopes) or "no scope", class_="any"),
                h("div", audiences, class_="sub any"),
            ),
            cell(
                "Tokens",
                h("div", f"{alive.get(client.client_id, 0)} alive"),
                h("div", f"{client.token_format or config.token_format}, {lifetime} s", class_="sub nowrap"),
                class_="nowrap",
            ),
            cell(
                "Action",
                form(
                    view.form_token,
                    "do/revoke-client",
                    hidden("client_id", client.client_id),
                    h(
                        "button",
                        "Revoke all",
                        h("span", f" tokens of {client.client_id}", class_="hidden"),
                        class_="small danger",
                    ),
                ),
                class_="end",
            ),
        )

    rows: list[Child] = [line(client) for client in config.clients]
    columns = ("Client", "Methods", "May ask for", "Tokens", "Action")
    hint = h("p", "Each proves who it is with a secret or a key that is not shown here.", class_="hint")
    return card("clients", "Clients", hint, table("clients", "Clients", columns, rows))


@lru_cache(maxsize=1024)
def _token(token: IssuedToken, state: str, form_token: str) -> tuple[Markup, Markup, str]:
    """Return what stays in the row of a token: the cells before its expiry, those behind it, and their version."""
    tone = {"revoked": " bad", "active": " good", "expired": ""}[state]
    number = token.token_id.partition(".")[0]
    button = form(
        form_token,
        "do/revoke-token",
        hidden("token_id", token.token_id),
        h("button", "Revoke", h("span", f" token {number}", class_="hidden"), class_="small danger"),
    )
    before = [
        cell("Token", h("div", f"#{number}"), h("div", token.token_format, class_="sub")),
        cell("Client", name(token.client_id)),
        cell(
            "Scope",
            h("div", " ".join(token.scope) or "none", class_="any"),
            h("div", " ".join(token.audience), class_="sub any"),
        ),
        cell("State", h("span", state, class_=f"pill{tone}", data_alive=state == "active"), class_="nowrap"),
    ]
    behind = cell("Action", button if state == "active" else None, class_="end")
    version = hashlib.sha256(f"{before}{state}".encode()).hexdigest()[:16]
    return Markup("".join(before)), behind, version


def _tokens(view: View, now: float) -> Markup:
    ledger = view.control.authority.ledger

    def line(token: IssuedToken) -> Markup:
        revoked = ledger.is_denied(token.token_id, token.client_id)
        state = "revoked" if revoked else "active" if token.expires_at > now else "expired"
        before, behind, version = _token(token, state, view.form_token)
        # What ticks does not count for the version: a row must not differ from itself.
        expiry = cell("Expires", until(token.expires_at, now), class_="when")
        return h("tr", before, expiry, behind, data_key=token.token_id, data_version=version, role="row")

    newest = islice(ledger.newest_first(), _MAX_TOKENS)
    columns = ("Token", "Client", "Scope", "State", "Expires", "Action")
    rows: list[Child] = [line(token) for token in newest]
    count = f"{ledger.issued} issued so far" if ledger.issued else "None was issued yet"
    more = f"; the newest {_MAX_TOKENS} are listed" if ledger.issued > _MAX_TOKENS else ""
    body = h(
        "div",
        table("tokens", "Tokens", columns, rows),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_labelledby="tokens-title",
    )
    return card("tokens", "Tokens", body, beside=live("p", "issued", f"{count}{more}", class_="hint"))


def _keys(view: View) -> Markup:
    def item(entry: RingKey) -> Markup:
        tone, text = _ROLES[entry.role]
        words: Child = "published ahead, does not sign yet" if entry.role == "next" else None
        if entry.role == "retired":
            tail = clock_time(entry.last_expiry) if entry.last_expiry < 1e15 else "it is forgotten"
            words = f"published until {tail}"
        return h(
            "li",
            h("span", text, class_=f"pill {tone}".strip()),
            h("code", entry.key.kid or ""),
            h("span", words, class_="sub") if words else None,
        )

    entries = view.control.authority.ring.entries
    return card(
        "keys",
        "Signing keys",
        live("ul", "keys", [item(entry) for entry in entries], class_="plain faults"),
        h("p", "A retired key stays published until the last token it signed has expired.", class_="hint"),
        h(
            "div",
            form(
                view.form_token,
                "do/rotate",
                h("button", "Rotate", h("span", " the key", class_="hidden"), class_="main"),
            ),
            form(view.form_token, "do/stage", h("button", "Publish the next key")),
            form(view.form_token, "do/rotate-forget", h("button", "Rotate and forget the old", class_="danger")),
            class_="actions",
        ),
    )


def _clock(view: View) -> Markup:
    return card(
        "clock",
        "Clock",
        h("p", "Moves the time of the server and its API: tokens expire at once instead of in an hour.", class_="hint"),
        form(
            view.form_token,
            "do/advance",
            h(
                "div",
                h("label", "Seconds to go on", for_="seconds"),
                h("input", type="number", id="seconds", name="seconds", value="3600", step="1", required=True),
                class_="field",
            ),
            h(
                "div",
                h("button", "Move the clock"),
                h(
                    "button",
                    "Put it right",
                    formaction=f"{PREFIX}do/reset-clock",
                    name="reset",
                    value="yes",
                    formnovalidate=True,
                ),
                class_="actions",
            ),
            class_="stack",
            enhance="yes",
        ),
    )


def _requests(view: View) -> Markup:
    log = view.control.log
    rows: list[Child] = [_request(number, entry) for number, entry in list(log.recent)[: -_MAX_REQUESTS - 1 : -1]]
    columns = ("Time", "Request", "Client", "Answer", "Fault")
    body = h(
        "div",
        table("requests", "Requests, the newest first", columns, rows),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_labelledby="requests-title",
    )
    count = f"{log.arrived} so far, the newest first" if log.arrived else "None has arrived yet"
    return card("requests", "Requests", body, beside=live("p", "arrived", count, class_="hint"))


def _request(number: int, entry: LogEntry) -> Markup:
    fields = {field: getattr(entry, field) for field in LogEntry.__slots__}
    return _request_row(number, **fields)


@lru_cache(maxsize=1024)
def _request_row(
    number: int,
    *,
    time: float,
    server: str,
    method: str,
    path: str,
    client_id: str | None,
    grant: str | None,
    parameters: tuple[str, ...],
    token_id: str | None,
    status: int | None,
    error: str | None,
    fault: str | None,
) -> Markup:
    answer = "no answer" if status is None else str(status)
    tone = "" if status is None else " good" if status < 300 else " warn" if status < 500 else " bad"
    token = f"token #{token_id.partition('.')[0]}" if token_id else ""
    about = " · ".join(filter(None, (grant or "", " ".join(parameters[:12]))))
    return row(
        str(number),
        cell("Time", clock_time(time)[11:19], class_="nowrap"),
        cell("Request", h("div", "API " if server == "api" else "", h("code", f"{method} {path}")), _small(about)),
        cell("Client", name(client_id or "—"), _small(token)),
        cell("Answer", h("span", answer, class_=f"pill{tone}"), _small(error or "", "nowrap")),
        cell("Fault", fault or "—"),
    )


def _small(text: str, breaks: str = "any") -> Markup | None:
    return h("div", text, class_=f"sub {breaks}") if text else None
