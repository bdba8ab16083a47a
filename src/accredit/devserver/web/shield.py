"""Who may see and use the page: whoever has its key, from this machine, and no page of another origin. Pure.

- **Host** must be one of ours (421 otherwise): a name that was rebound to this machine is not (DNS rebinding).
- **Origin** of whatever changes something must be ours, to the byte; ``Sec-Fetch-Site`` of reads must not say that
  another site, or another port of this machine, asked.
- A **session cookie** (HttpOnly, SameSite=Strict) is given for the key that the server printed when it started.
- A **token** in every form, bound to that session: a cookie alone changes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from accredit.devserver.config import is_loopback
from accredit.devserver.forms import Incoming

PREFIX: Final = "/_ui/"


def allowed_origins(scheme: str, host: str, port: int) -> frozenset[str]:
    """Return the origins under which a person reaches a server on that address."""
    names = {"localhost", "127.0.0.1", "[::1]"}
    if is_loopback(host):
        names.add(f"[{host}]" if ":" in host else host)
    default = {"http": 80, "https": 443}[scheme]
    return frozenset(f"{scheme}://{name}" + ("" if port == default else f":{port}") for name in names)


@dataclass(frozen=True, slots=True)
class Shield:
    """The checks.

    Attributes:
        origins: our own origins.
        key: what the server printed.
        session: the value of the cookie that is given for it.
        secure: whether the cookie travels over https only.
        cookie: its name, which differs from server to server: cookies do not tell ports apart.

    """

    origins: frozenset[str]
    key: str = field(repr=False)
    session: str = field(repr=False)
    secure: bool
    cookie: str

    def form_token(self) -> str:
        """Return what every form carries."""
        return hmac.new(self.session.encode(), b"form", hashlib.sha256).hexdigest()

    def knows_host(self, incoming: Incoming) -> bool:
        """Tell whether the request was meant for this server."""
        hosts = [host.lower() for host in incoming.values("host")]
        return len(hosts) == 1 and hosts[0] in {origin.partition("://")[2] for origin in self.origins}

    def may_read(self, incoming: Incoming) -> bool:
        """Tell whether it may be a person, or our own script, that asks."""
        sites = incoming.values("sec-fetch-site")
        if not sites or set(sites) <= {"same-origin", "none"}:
            return True
        # A link from elsewhere may lead here; nothing else may.
        return incoming.values("sec-fetch-mode") == ("navigate",) and incoming.values("sec-fetch-dest") == ("document",)

    def from_here(self, incoming: Incoming) -> bool:
        """Tell whether a form of this very page was sent, as far as the browser knows."""
        origins = incoming.values("origin")
        # A page reached under one of our names is not of the same origin as under another.
        host = incoming.values("host")[0].lower()
        return len(origins) == 1 and origins[0] in self.origins and origins[0].partition("://")[2] == host

    def has_session(self, incoming: Incoming) -> bool:
        """Tell whether the browser has been given a session."""
        given = [
            value.strip()
            for header in incoming.values("cookie")
            for name, _, value in (pair.partition("=") for pair in header.split(";"))
            if name.strip() == self.cookie
        ]
        return len(given) == 1 and same(given[0], self.session)

    def has_form_token(self, form: Mapping[str, Collection[str]]) -> bool:
        """Tell whether a form is one that this server made."""
        return same(next(iter(form.get("form_token", ())), ""), self.form_token())

    def is_key(self, text: str) -> bool:
        """Tell whether it is the key of the page."""
        return same(text, self.key)

    def set_cookie(self) -> tuple[str, str]:
        """Return the header field that gives a session, for as long as the browser runs."""
        secure = "; Secure" if self.secure else ""
        return ("set-cookie", f"{self.cookie}={self.session}; Path={PREFIX}; HttpOnly; SameSite=Strict{secure}")


def same(one: str, other: str) -> bool:
    """Compare without telling by the time how much is right."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def security_headers(styles: Collection[str], scripts: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Return the fields of every answer, for a page with exactly these (hashes of) styles and scripts in it."""
    quoted = {kind: " ".join(f"'{item}'" for item in sorted(items)) or "'none'" for kind, items in
              (("style", styles), ("script", scripts))}  # fmt: skip
    policy = (
        f"default-src 'none'; style-src {quoted['style']}; script-src {quoted['script']}; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script';"
        " trusted-types 'none'"
    )
    return (
        ("content-security-policy", policy),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        # Not "no-referrer": browsers then send "Origin: null" with forms.
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
    )
