"""What the forms of the page do: from parameters to a command of the server, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from accredit.devserver.control import Control
from accredit.devserver.core import TWISTS
from accredit.devserver.forms import Form, one
from accredit.devserver.web.panels import PLACES

#: What is said when it is done; the page is asked for by the name, so that no address can put words into its mouth.
DONE: Final[Mapping[str, str]] = {
    "opened": "",
    "rotate": "The key was rotated. The old one stays published until the last token it signed has expired.",
    "rotate-forget": "The key was rotated and the old ones were forgotten: tokens that they signed are refused now.",
    "stage": "The next key is published. It signs after the next rotation.",
    "revoke-token": "The token was revoked.",
    "revoke-client": "Every token of the client so far was revoked.",
    "break": "It is broken as you asked.",
    "heal": "Everything is healed.",
    "advance": "The clock was moved.",
    "reset-clock": "The clock is right again.",
}


class WrongFormError(ValueError):
    """A form that the page did not make so; the text is for people."""


async def perform(control: Control, action: str, form: Form) -> str:
    """Do what a form asks for; return the key of :data:`DONE`.

    Raises:
        WrongFormError: a value is missing or makes no sense; it is not repeated.

    """
    if action == "advance" and "reset" in form:
        action = "reset-clock"
    commands = _COMMANDS.get(action)
    if commands is None:
        raise WrongFormError("there is no such action")
    problem = ""
    try:
        for name, arguments in commands(control, form):
            await control.command(name, arguments)
    except WrongFormError:
        raise
    except (LookupError, TypeError, ValueError) as error:
        problem = str(error)
    if problem:
        raise WrongFormError(problem)
    return action


Commands = list[tuple[str, dict[str, Any]]]


def _rotate(forget: bool) -> Callable[[Control, Form], Commands]:  # noqa: FBT001 - used twice, below
    return lambda _control, _form: [("rotate_key", {"forget_old": forget})]


def _revoke_token(control: Control, form: Form) -> Commands:
    token_id = one(form, "token_id") or ""
    if control.authority.ledger.get(token_id) is None:
        raise WrongFormError("there is no such token")
    return [("revoke_token_id", {"token_id": token_id})]


def _revoke_client(control: Control, form: Form) -> Commands:
    client_id = one(form, "client_id") or ""
    if control.authority.config.client(client_id) is None:
        raise WrongFormError("there is no such client")
    return [("revoke_client", {"client_id": client_id})]


def _heal(control: Control, _form: Form) -> Commands:
    return [("recover", {}), *(("release", {"server": server}) for server in control.held())]


def _advance(_control: Control, form: Form) -> Commands:
    return [("advance_clock", {"seconds": _number(form, "seconds")})]


def _break(control: Control, form: Form) -> Commands:
    what, place = one(form, "what") or "", one(form, "place") or ""
    if place not in PLACES:
        raise WrongFormError("there is no such place")
    plan: dict[str, Any] = {}
    match what:
        case "status":
            plan = {"status": int(_number(form, "status")), "retry_after": one(form, "retry_after")}
        case "garbage":
            plan = {"garbage": one(form, "garbage") or ""}
        case "latency" | "drip":
            plan = {what: _number(form, what)}
        case "hang_up" | "truncate":
            plan = {what: True}
        case _ if what in TWISTS:
            plan = {"twist": [what]}
        case _:
            raise WrongFormError("say what shall go wrong")
    if one(form, "times") is not None:
        plan["times"] = int(_number(form, "times"))
    base = control.authority.config.issuer_path
    server = "api" if place == "api" else "as"
    paths = {
        "everything": ("*",),
        "api": ("*",),
        "metadata": (f"/.well-known/oauth-authorization-server{base}", f"{base}/.well-known/openid-configuration"),
    }.get(place, (f"{base}/{place}",))
    return [("inject", {"server": server, "path": path, **plan}) for path in paths]


def _number(form: Form, name: str) -> float:
    text = one(form, name) or ""
    digits = text.removeprefix("-").replace(".", "", 1)
    # Not float() alone: it reads "nan", "1e999" and digits of other scripts.
    if not (digits.isascii() and digits.isdigit() and len(text) <= 15):
        raise WrongFormError(f"{name.replace('_', ' ')} must be a number")
    return float(text)


_COMMANDS: Final[Mapping[str, Callable[[Control, Form], Commands]]] = {
    "rotate": _rotate(forget=False),
    "rotate-forget": _rotate(forget=True),
    "stage": lambda _control, _form: [("stage_key", {})],
    "revoke-token": _revoke_token,
    "revoke-client": _revoke_client,
    "break": _break,
    "heal": _heal,
    "advance": _advance,
    "reset-clock": lambda _control, _form: [("reset_clock", {})],
}
