"""The panels of the page in which something is entered: a token to check, and trouble to make."""

from __future__ import annotations

from typing import Final

from accredit.devserver.checks import Verdict
from accredit.devserver.faults import GARBAGE
from accredit.devserver.web.markup import Child, Markup, h, pre
from accredit.devserver.web.parts import View, card, form, live

_MARKS: Final = {"passed": "✓", "failed": "✗", "skipped": "·"}

#: Where a fault can be, and its name for people.
PLACES: Final = {
    "token": "the token endpoint",
    "jwks": "the keys (JWKS)",
    "metadata": "the metadata",
    "introspect": "introspection",
    "revoke": "revocation",
    "everything": "the whole authorization server",
    "api": "the protected API",
}


def examination(view: View) -> Markup:
    """Return the panel in which a token is checked, with what came of it."""
    audiences = view.control.authority.config.audiences()
    return card(
        "check",
        "Check a token",
        form(
            view.form_token,
            "check#result",
            h(
                "div",
                h("label", "Access token", for_="token"),
                h(
                    "textarea",
                    id="token",
                    name="token",
                    required=True,
                    spellcheck="false",
                    autocapitalize="off",
                    aria_describedby="token-hint",
                ),
                h("p", "It is examined on this machine and not kept.", id="token-hint", class_="hint"),
                class_="field",
            ),
            h(
                "div",
                h(
                    "div",
                    h("label", "For the API", for_="audience"),
                    h(
                        "select",
                        h("option", "any of this server's", value=""),
                        [h("option", name, value=name) for name in audiences],
                        id="audience",
                        name="audience",
                    ),
                    class_="field",
                ),
                h(
                    "div",
                    h("label", "Demanded scope", for_="scope"),
                    h("input", type="text", id="scope", name="scope", spellcheck="false", autocapitalize="off"),
                    class_="field",
                ),
                class_="pair",
            ),
            h("div", h("button", "Check the token", class_="main"), class_="actions"),
            class_="stack",
            enhance="result",
        ),
        _result(view.verdict),
    )


def _result(verdict: Verdict | None) -> Markup:
    if verdict is None:
        return h("div", id="result")
    issued = verdict.issued
    known = f" It is token #{issued.token_id.partition('.')[0]} of this server." if issued is not None else ""
    summary = "The API accepts it." if verdict.accepted else f"The API refuses it: {verdict.reason}."
    items: list[Child] = [
        h(
            "li",
            h("span", _MARKS[check.result], class_=f"mark {check.result}", aria_hidden="true"),
            h(
                "div",
                h("strong", check.name),
                h("span", f" ({check.result})", class_="hidden"),
                h("div", check.detail, class_="sub"),
            ),
        )
        for check in verdict.checks
    ]
    details: list[Child] = [
        h("details", h("summary", title), pre(text))
        for title, text in (("Header", verdict.header), ("Claims", verdict.claims))
        if text is not None
    ]
    tone = "good" if verdict.accepted else "bad"
    return h(
        "div",
        h("h3", "Result", id="result-title", tabindex="-1"),
        h("p", f"{summary}{known}", class_=f"verdict {tone}"),
        h("ul", items, class_="plain checks"),
        details,
        id="result",
        class_="stack",
    )


def trouble(view: View) -> Markup:
    """Return the panel that breaks and heals."""
    control = view.control
    items: list[Child] = []
    for (server, path), fault in control.faults.items():
        times = "until healed" if fault.remaining is None else f"{fault.remaining} more"
        where = ("API " if server == "api" else "") + ("everything" if path == "*" else path)
        items.append(h("li", h("span", fault.label(), class_="pill bad"), h("span", f"at {where}, {times}")))
    items += [
        h("li", h("span", f"{seconds:g} s late", class_="pill bad"), h("span", f"at {_side(place)}"))
        for place, seconds in control.latencies.items()
    ]
    items += [
        h("li", h("span", "held", class_="pill bad"), h("span", f"requests wait at {_side(server)}"))
        for server in control.held()
    ]
    present = h("ul", items, class_="plain faults") if items else h("p", "Nothing is broken.", class_="empty")

    def option(value: str, text: str, *extra: Child, checked: bool = False) -> Markup:
        choice = h("label", h("input", type="radio", name="what", value=value, checked=checked), text, class_="choice")
        return h("div", choice, h("div", *extra, class_="extra") if extra else None, class_="option")

    def number(name: str, value: str, label: str, **more: str) -> Markup:
        return h("input", type="number", name=name, value=value, aria_label=label, **more)

    kinds = [h("option", kind.replace("_", " "), value=kind) for kind in GARBAGE]
    choices: list[Child] = [
        option(
            "status",
            "Answer with status",
            number("status", "503", "Status", min="200", max="599"),
            h("input", type="text", name="retry_after", placeholder="Retry-After", aria_label="Retry-After, if any"),
            checked=True,
        ),
        option("garbage", "Answer nonsense", h("select", list(kinds), name="garbage", aria_label="Kind of nonsense")),
        option("latency", "Answer late, by seconds", number("latency", "5", "Seconds of delay", min="0", step="any")),
        option("drip", "Drip, seconds a byte", number("drip", "0.5", "Seconds a byte", min="0", step="any")),
        option("hang_up", "Hang up"),
        option("truncate", "Cut the answer off"),
        option("expired_key", "Sign with an expired key"),
        option("wrong_issuer", "Name another issuer"),
    ]
    places = [h("option", text, value=name) for name, text in PLACES.items()]
    return card(
        "trouble",
        "Trouble",
        live("div", "faults", present),
        form(view.form_token, "do/heal", h("div", h("button", "Heal everything", class_="main"), class_="actions")),
        form(
            view.form_token,
            "do/break",
            h("fieldset", h("legend", "What shall go wrong"), choices),
            h(
                "div",
                h(
                    "div",
                    h("label", "Where", for_="place"),
                    h("select", list(places), id="place", name="place"),
                    class_="field",
                ),
                h(
                    "div",
                    h("label", "For how many requests", for_="times"),
                    h("input", type="number", id="times", name="times", min="1", step="1", placeholder="until healed"),
                    class_="field",
                ),
                class_="pair",
            ),
            h("div", h("button", "Break it", class_="danger"), class_="actions"),
            class_="stack break",
        ),
    )


def _side(place: str) -> str:
    if place.startswith("client:"):
        return f"the token endpoint, for {place.removeprefix('client:')}"
    return "the protected API" if place == "api" else "the token endpoint"
