"""The failures that can be planted, each of which a step must notice."""

from __future__ import annotations

from typing import Final, NamedTuple


class Sabotage(NamedTuple):
    """A planted failure.

    Attributes:
        step: the step that is to notice it.
        what: what is broken.

    """

    step: str
    what: str


SABOTAGES: Final[dict[str, Sabotage]] = {
    "wrong-audience": Sabotage("first", "the client asks for the audience of another API"),
    "expired-token": Sabotage("first", "tokens have expired when they are issued"),
    "forged-signature": Sabotage("first", "the signature of each token is changed"),
    "missing-scope": Sabotage("first", "the client asks for a scope too small"),
    "open-door": Sabotage("first", "the API answers 200 without looking at the token"),
    "blind-log": Sabotage("first", "the server's log is emptied before it is read"),
    "herd": Sabotage("herd", "each caller has a token manager of its own"),
    "lying-log": Sabotage("herd", "the log leaves out a tenth of the requests"),
    "no-renewal": Sabotage("renewal", "nothing is renewed ahead of expiry"),
    "no-retry": Sabotage("refusal", "a 401 is left as it is"),
    "no-revocation": Sabotage("refusal", "the server does not revoke the token"),
    "drop-token": Sabotage("outage", "the client throws its valid token away"),
    "no-outage": Sabotage("outage", "the server never fails"),
    "no-recovery": Sabotage("outage", "the server never comes back"),
}


def listing() -> str:
    """Return the failures as a table, one a line."""
    width = max(map(len, SABOTAGES))
    return "\n".join(f"  {name:{width}}  {item.step:8} {item.what}" for name, item in SABOTAGES.items()) + "\n"
