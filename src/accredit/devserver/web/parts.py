"""What the parts of the page are made of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from accredit.devserver.checks import Verdict, distance
from accredit.devserver.control import Control
from accredit.devserver.web.markup import Child, Markup, h
from accredit.devserver.web.shield import PREFIX


@dataclass(frozen=True, slots=True)
class View:
    """What a page is made from.

    Attributes:
        control: the server.
        api_url: where its protected API is.
        form_token: what every form carries.
        notice: what was done last, or what was wrong.
        bad: whether the notice says that something was wrong.
        verdict: what came of an examination, if there was one.

    """

    control: Control
    api_url: str
    form_token: str = field(repr=False)
    notice: str = ""
    bad: bool = False
    verdict: Verdict | None = None


def live(tag: str, name: str, *children: Child, **attributes: str | int | bool | None) -> Markup:
    """Return an element that the script replaces when what is in it has changed."""
    inside = h(tag, *children, **attributes)
    version = hashlib.sha256(inside.encode()).hexdigest()[:16]
    return h(tag, *children, data_live=name, data_version=version, **attributes)


def row(key: str, *cells: Child) -> Markup:
    """Return a row of a table; the script tells by ``key`` which it is, and by a version whether it changed."""
    version = hashlib.sha256("".join(map(str, cells)).encode()).hexdigest()[:16]
    return h("tr", *cells, data_key=key, data_version=version, role="row")


def cell(label: str, *children: Child, class_: str | None = None) -> Markup:
    """Return a cell; in a narrow window its label stands before it."""
    return h("td", h("div", *children), role="cell", data_label=label, class_=class_)


def table(name: str, caption: str, columns: tuple[str, ...], rows: list[Child]) -> Markup:
    """Return a table whose rows the script keeps up to date."""
    # The roles are written out, because a narrow window shows the cells as blocks, and blocks have none.
    heads = [
        h("th", h("span", column, class_="hidden") if column == "Action" else column, scope="col", role="columnheader")
        for column in columns
    ]
    return h(
        "table",
        h("caption", caption, class_="hidden"),
        h("thead", h("tr", list(heads), role="row"), role="rowgroup"),
        h("tbody", rows, data_live=name, data_rows=True, role="rowgroup"),
        class_="stackable",
        role="table",
    )


def card(name: str, title: str, *children: Child, beside: Child = None) -> Markup:
    """Return a part of the page: a section with a heading, and something beside that."""
    return h(
        "section",
        h("div", h("h2", title, id=f"{name}-title", tabindex="-1"), beside, class_="head"),
        *children,
        class_="card",
        id=name,
        aria_labelledby=f"{name}-title",
    )


def form(
    form_token: str, action: str, *children: Child, enhance: str = "yes", **attributes: str | int | bool | None
) -> Markup:
    """Return a form with the token that every form carries; ``enhance``: how the script treats the answer."""
    hidden = h("input", type="hidden", name="form_token", value=form_token)
    return h(
        "form",
        hidden,
        *children,
        method="post",
        action=f"{PREFIX}{action}",
        data_enhance=enhance,
        autocomplete="off",
        **attributes,
    )


def hidden(name: str, value: str) -> Markup:
    """Return a hidden field of a form."""
    return h("input", type="hidden", name=name, value=value)


def name(text: str) -> Markup:
    """Return a name that others chose: kept from turning the text around it."""
    return h("bdi", text)


def until(seconds: float, now: float) -> Markup:
    """Return how far away a time is; the script lets it tick."""
    return h("span", distance(seconds - now), data_until=f"{seconds:.0f}")
