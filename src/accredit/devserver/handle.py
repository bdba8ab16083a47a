"""The switches of a development server as Python methods, the same for a server in a thread and in a process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from accredit.devserver.config import DevClient, DevConfig
from accredit.devserver.log import LogEntry

Side = Literal["as", "api"]


class Switches(ABC):
    """Everything a test can do to a running server. All methods block until it is done; any thread may call them.

    Where a method takes ``server``, ``"as"`` is the authorization server and ``"api"`` the protected API.

    Attributes:
        config: the configuration it runs with.
        issuer: the issuer; metadata is found below it.
        url: the origin of the authorization server.
        api_url: the origin of the protected API.
        admin_token: what the admin API demands in ``X-Admin-Token``.
        page_link: opens the page of the server in a browser, and holds its key; empty without a page.

    """

    config: DevConfig
    issuer: str
    url: str
    api_url: str
    admin_token: str
    page_link: str

    @abstractmethod
    def command(self, name: str, *, wait: float = 0.0, **arguments: object) -> Any:
        """Run a command of the admin API and return its result; ``wait``: seconds that it may take by itself."""

    @property
    def token_endpoint(self) -> str:
        """The URL of the token endpoint."""
        return f"{self.issuer}/token"

    @property
    def client(self) -> DevClient:
        """The first configured client."""
        return self.config.clients[0]

    # ---- tokens ---------------------------------------------------------------------------------------------

    def set_token_lifetime(self, seconds: int | None) -> None:
        """Set the lifetime of tokens issued from now on; None for the configured one."""
        self.command("set_token_lifetime", seconds=seconds)

    def set_issuing(
        self, *, omit_expires_in: bool | None = None, omit_scope: bool | None = None, same_token: bool | None = None
    ) -> None:
        """Leave ``expires_in`` or ``scope`` out of answers, or hand out the same token again; None changes nothing."""
        self.command("set_issuing", omit_expires_in=omit_expires_in, omit_scope=omit_scope, same_token=same_token)

    def revoke_client(self, client_id: str | None = None) -> None:
        """Revoke every token of a client (default: the first) so far: the API refuses them from now on."""
        self.command("revoke_client", client_id=client_id or self.client.client_id)

    def revoke_token_id(self, token_id: str) -> None:
        """Revoke one token by its ``jti``."""
        self.command("revoke_token_id", token_id=token_id)

    def rotate_key(self, *, forget_old: bool = False) -> str:
        """Sign with the staged key, else with a new one, and return its key id.

        The old one stays published until the last token it signed has expired, unless ``forget_old``.
        """
        return cast("str", self.command("rotate_key", forget_old=forget_old))

    def stage_key(self) -> str:
        """Publish the next key ahead of its use and return its key id; :meth:`rotate_key` begins to sign with it."""
        return cast("str", self.command("stage_key"))

    def advance_clock(self, seconds: float) -> float:
        """Move the clock of server and API by that many seconds; return its new time."""
        return cast("float", self.command("advance_clock", seconds=seconds))

    def reset_clock(self) -> float:
        """Put the clock of server and API right; return the time."""
        return cast("float", self.command("reset_clock"))

    def sign(self, claims: Mapping[str, object], *, header: Mapping[str, object] | None = None) -> str:
        """Return these claims signed with the current key, as a compact JWS; the server issues no such token itself."""
        return cast("str", self.command("sign", claims=dict(claims), header=dict(header or {})))

    # ---- trouble --------------------------------------------------------------------------------------------

    def set_latency(self, seconds: float, *, client_id: str | None = None, server: Side = "as") -> None:
        """Delay the answers of the token endpoint (of one client, if given) or of the API; others do not wait."""
        self.command("set_latency", seconds=seconds, client_id=client_id, server=server)

    def fail(
        self,
        status: int = 503,
        *,
        error: str | None = None,
        retry_after: str | None = None,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        body: str | None = None,
        truncate: bool = False,
        times: int | None = None,
        path: str = "/token",
        server: Side = "as",
    ) -> None:
        """Answer requests with a failure instead.

        Args:
            status: the HTTP status.
            error: the ``error`` member of a JSON body.
            retry_after: the ``Retry-After`` field, verbatim.
            headers: more fields.
            body: the body, verbatim; give a ``content-type`` in ``headers`` then.
            truncate: break the connection in the middle of the body.
            times: for how many requests; None until :meth:`recover`; 0 ends it.
            path: the path concerned, or ``"*"`` for all.
            server: the authorization server or the API.

        """
        pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        self.command(
            "fail",
            server=server,
            path=self._path(path, server),
            status=status,
            error=error,
            retry_after=retry_after,
            headers=[list(pair) for pair in pairs],
            body=body,
            truncate=truncate,
            times=times,
        )

    def inject(
        self,
        *,
        status: int | None = None,
        error: str | None = None,
        retry_after: str | None = None,
        garbage: str | None = None,
        latency: float = 0.0,
        truncate: bool = False,
        drip: float = 0.0,
        hang_up: bool = False,
        expired_key: bool = False,
        wrong_issuer: bool = False,
        times: int | None = None,
        path: str = "/token",
        server: Side = "as",
    ) -> None:
        """Plan a fault of any kind; what is not named stays as it truly is.

        Args:
            status: answer with this HTTP status instead of the truth.
            error: the ``error`` member of that answer.
            retry_after: the ``Retry-After`` field, verbatim (with status 503 unless another is given).
            garbage: answer 200 with nonsense: a key of :data:`accredit.devserver.control.GARBAGE`.
            latency: seconds before the answer.
            truncate: break the connection in the middle of the body.
            drip: seconds between one byte of the body and the next.
            hang_up: close the connection instead of answering.
            expired_key: sign the token with a key that is no longer published.
            wrong_issuer: put another issuer into the token, or into the metadata.
            times: for how many requests; None until :meth:`recover`; 0 ends it.
            path: the path concerned, or ``"*"`` for all.
            server: the authorization server or the API.

        Raises:
            ValueError: a value is out of bounds (RuntimeError when the server is a process of its own).

        """
        twist = [name for name, on in (("expired_key", expired_key), ("wrong_issuer", wrong_issuer)) if on]
        self.command(
            "inject",
            server=server,
            path=self._path(path, server),
            status=status,
            error=error,
            retry_after=retry_after,
            garbage=garbage,
            latency=latency,
            truncate=truncate,
            drip=drip,
            hang_up=hang_up,
            twist=twist,
            times=times,
        )

    def garbage(self, kind: str, *, times: int | None = None, path: str = "/token") -> None:
        """Answer 200 with nonsense: a key of :data:`accredit.devserver.control.GARBAGE`."""
        self.command("garbage", kind=kind, path=self._path(path, "as"), times=times)

    def recover(self) -> None:
        """End every failure and latency."""
        self.command("recover")

    # ---- the gate -------------------------------------------------------------------------------------------

    def hold(self, *, server: Side = "as") -> None:
        """Hold the token requests (or API calls) that arrive from now on, until :meth:`release`."""
        self.command("hold", server=server)

    def release(self, *, server: Side = "as") -> None:
        """Let the held requests go, and hold no more."""
        self.command("release", server=server)

    def waiting(self, *, server: Side = "as") -> int:
        """Return how many requests are held at this moment."""
        return cast("int", self.command("waiting", server=server))

    def wait_for_waiting(self, number: int, *, timeout: float = 10.0, server: Side = "as") -> int:
        """Wait until that many requests are held at once; return how many are.

        Raises:
            TimeoutError: they were not within ``timeout`` seconds.

        """
        held = self.command("wait_for_waiting", wait=timeout, server=server, number=number, timeout=timeout)
        return _reached(cast("int", held), number, "held requests")

    # ---- the log --------------------------------------------------------------------------------------------

    def wait_for_requests(
        self, number: int, path: str | None = "/token", *, timeout: float = 10.0, server: Side | None = None
    ) -> int:
        """Wait until that many requests have arrived; return how many have.

        Raises:
            TimeoutError: they had not within ``timeout`` seconds.

        """
        full = self._path(path, server)
        arrived = self.command(
            "wait_for_requests", wait=timeout, path=full, server=server, number=number, timeout=timeout
        )
        return _reached(cast("int", arrived), number, "requests")

    def requests(
        self, path: str | None = None, *, server: Side | None = None, client_id: str | None = None
    ) -> list[LogEntry]:
        """Return the log: the last 10,000 requests that match, oldest first."""
        found = self.command("requests", path=self._path(path, server), server=server, client_id=client_id)
        return [LogEntry(**{**entry, "parameters": tuple(entry["parameters"])}) for entry in found]

    def count(self, path: str | None = None, *, server: Side | None = None, client_id: str | None = None) -> int:
        """Return how many requests that match have arrived."""
        return cast("int", self.command("count", path=self._path(path, server), server=server, client_id=client_id))

    def clear_log(self) -> None:
        """Forget the log."""
        self.command("clear_log")

    # ---- the page -------------------------------------------------------------------------------------------

    def note(self, key: str, title: str, text: str = "", items: Sequence[tuple[bool | None, str]] = ()) -> None:
        """Say something on the page of the server; the same key replaces what was said before.

        Args:
            key: what it is known by.
            title: a few words.
            text: a sentence.
            items: sentences, each with whether it is good, or None when that is open.

        """
        self.command("note", key=key, title=title, text=text, items=[list(item) for item in items])

    def wait_for_page(self, *, timeout: float) -> bool:
        """Wait until somebody has opened the page, at most ``timeout`` seconds; return whether somebody has."""
        return cast("bool", self.command("wait_for_page", wait=timeout, timeout=timeout))

    def _path(self, path: Any, server: Side | None) -> Any:
        """Put the path of the issuer before the endpoints that live below it."""
        below = server != "api" and path in {"/token", "/jwks", "/revoke", "/introspect"}
        return f"{self.config.issuer_path}{path}" if below else path


def _reached(measured: int, number: int, what: str) -> int:
    if measured < number:
        msg = f"{measured} {what} after the time-out, where {number} were expected"
        raise TimeoutError(msg)
    return measured
