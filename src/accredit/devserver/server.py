"""Run the development server: on loopback sockets of its own, in a thread of this process."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self, TextIO

from accredit.devserver.api import Guard, protected_api
from accredit.devserver.app import Application, Receive, Scope, Send, authorization_server
from accredit.devserver.config import DevConfig, Place
from accredit.devserver.connections import Protocol
from accredit.devserver.control import Control
from accredit.devserver.core import Authority
from accredit.devserver.handle import Switches
from accredit.devserver.keys import new_signing_key
from accredit.devserver.log import LogEntry
from accredit.devserver.state import StateFile
from accredit.devserver.web import WebPage, allowed_origins
from accredit.errors import ConfigurationError

try:
    import uvicorn
except ImportError as _missing:  # pragma: no cover - the extra is installed wherever this is tested
    _text = "the development server needs the package uvicorn: install accredit[devserver]"
    raise ImportError(_text, name="uvicorn") from _missing

_BACKLOG: Final = 4096
_START_TIMEOUT: Final = 20.0
_COMMAND_TIMEOUT: Final = 20.0


class _Uvicorn(uvicorn.Server):
    """Tells when it is ready, instead of being asked again and again."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready()


class Runtime:
    """Sockets, applications and the HTTP server of one development server; nothing runs until :meth:`serve`."""

    def __init__(self, config: DevConfig, place: Place) -> None:
        """Open the sockets, so that the ports are known.

        Raises:
            ConfigurationError: the place is not allowed, or the certificate or the state file cannot be used.
            OSError: a port is taken, or the file of the log cannot be opened.

        """
        place.check()
        _check_certificate(place)
        self._place = place
        self._sockets: list[socket.socket] = []
        self._log: _JsonLines | None = None
        state = None if place.state is None else StateFile(place.state)
        try:
            self._open(config, place, state)
        except BaseException:
            self.close_sockets()
            if state is not None:
                state.close()
            raise

    def _open(self, config: DevConfig, place: Place, state: StateFile | None) -> None:
        # Tokens name their issuer, and the issuer its port: what is kept over a restart is worth nothing on another.
        ports = (state.setting("ports") if state is not None else None) or [0, 0]
        self._sockets.append(_listen(place.host, place.port or ports[0]))
        self._sockets.append(_listen(place.host, place.api_port or ports[1]))
        scheme = "https" if place.certfile else "http"
        host = f"[{place.host}]" if ":" in place.host else place.host
        urls = [f"{scheme}://{host}:{sock.getsockname()[1]}" for sock in self._sockets]
        self.url: str = urls[0]
        self.api_url: str = urls[1]
        self.config: DevConfig = dataclasses.replace(config, issuer=config.issuer or f"{self.url}{config.issuer_path}")
        authority = Authority(self.config, [new_signing_key()], unpublished=new_signing_key())
        self.control: Control = Control(authority, state=state)
        if state is not None:
            authority.record = state.record
            state.restore(authority)
            self.control.set_offset(float(state.setting("clock_offset") or 0.0))
            state.record("setting", "ports", [sock.getsockname()[1] for sock in self._sockets])
            state.sweep(self.control.now())
        if place.log_json is not None:
            self._log = _JsonLines(place.log_json)
            self.control.log.on_end = self._log
        origins = allowed_origins(scheme, place.host, self._sockets[0].getsockname()[1])
        self._page = WebPage(self.control, origins, self.api_url) if place.web else None
        self.page_link: str = self._page.link(self.url) if self._page is not None else ""
        self.loop: asyncio.AbstractEventLoop | None = None
        self._uvicorn: _Uvicorn | None = None
        self._farewell: asyncio.Task[None] | None = None

    async def serve(self, ready: Callable[[], None]) -> None:
        """Serve until :meth:`stop`; call ``ready`` as soon as requests are answered."""
        self.loop = asyncio.get_running_loop()
        config = uvicorn.Config(
            self._application(),
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.CRITICAL,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
            ssl_certfile=self._place.certfile,
            ssl_keyfile=self._place.keyfile,
        )
        self._uvicorn = _Uvicorn(config, ready)
        try:
            await self._uvicorn.serve(sockets=self._sockets)
        finally:
            self.control.close()
            if self.control.state is not None:
                self.control.state.close()
            if self._log is not None:
                self._log.close()

    def stop(self) -> None:
        """Let everybody go and stop; call it on the loop of the server."""
        self.control.close()
        if self.loop is not None:
            # Whoever waits for news of the page has to look up.
            self._farewell = self.loop.create_task(self.control.arrived())
        if self._uvicorn is not None:
            self._uvicorn.should_exit = True

    def close_sockets(self) -> None:
        """Close the sockets, for a server that never ran."""
        for sock in self._sockets:
            sock.close()

    def _application(self) -> Application:
        authority = self.control.authority
        guard = Guard(
            authority.policy(),
            authority.key_set,
            authority.is_revoked,
            lambda token, now: authority.opaque_token(token, now=now),
            lambda: authority.ring.forgotten,
        )
        issuing = authorization_server(self.control, self._page)
        guarding = protected_api(self.control, guard)
        api_port = self._sockets[1].getsockname()[1]

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await (guarding if scope["server"][1] == api_port else issuing)(scope, receive, send)

        return application


class DevServer(Switches):
    """A development server in a thread of this process: ``with DevServer() as server: ...``.

    Args:
        config: its configuration; by default one client ``api-client`` with the secret ``dev-secret``.
        host: a loopback address.
        port: of the authorization server; 0 for a free one.
        api_port: of the protected API; 0 for a free one.
        certfile: PEM certificate chain, for https.
        keyfile: PEM private key.
        for_tests: run although the host is not loopback or the environment says production.
        web: serve the page; see ``page_link``.
        state: a file that keeps keys, tokens and ports over a restart; it is made if need be.
        log_json: a file that gets each request as a line of JSON; ``"-"`` is standard output.

    """

    def __init__(
        self,
        config: DevConfig | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_port: int = 0,
        certfile: str | None = None,
        keyfile: str | None = None,
        for_tests: bool = False,
        web: bool = False,
        state: str | None = None,
        log_json: str | None = None,
    ) -> None:
        """Keep the settings; nothing runs yet."""
        self._given: DevConfig = config or DevConfig()
        self.config: DevConfig = self._given
        self._place = Place(
            host=host,
            port=port,
            api_port=api_port,
            certfile=certfile,
            keyfile=keyfile,
            for_tests=for_tests,
            web=web,
            state=state,
            log_json=log_json,
            environment=dict(os.environ),
        )
        self._runtime: Runtime | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def start(self) -> Self:
        """Start and wait until requests are answered.

        Raises:
            ConfigurationError: the place is not allowed, or the certificate or the state file cannot be used.
            OSError: a port is taken, or the file of the log cannot be opened; ``filename`` says which.
            RuntimeError: it runs already, or did not start.

        """
        if self._thread is not None:
            msg = "the development server runs already"
            raise RuntimeError(msg)
        runtime = Runtime(self._given, self._place)
        self._failure = None
        ready = threading.Event()
        thread = threading.Thread(target=self._run, args=(runtime, ready), name="accredit-devserver", daemon=True)
        thread.start()
        if not ready.wait(_START_TIMEOUT) or self._failure is not None:
            runtime.close_sockets()
            msg = "the development server did not start"
            raise RuntimeError(msg) from self._failure
        self._runtime, self._thread = runtime, thread
        self.config = runtime.config
        self.issuer: str = runtime.config.issuer
        self.url: str = runtime.url
        self.api_url: str = runtime.api_url
        self.admin_token: str = runtime.control.admin_token
        self.page_link: str = runtime.page_link
        return self

    def _run(self, runtime: Runtime, ready: threading.Event) -> None:
        try:
            asyncio.run(runtime.serve(ready.set))
        except BaseException as error:
            self._failure = error
        finally:
            ready.set()

    def stop(self) -> None:
        """Stop; requests that are held or delayed are answered first. Stopping twice does nothing."""
        runtime, thread = self._runtime, self._thread
        if runtime is None or thread is None:
            return
        self._runtime = self._thread = None
        if runtime.loop is not None and thread.is_alive():
            runtime.loop.call_soon_threadsafe(runtime.stop)
        thread.join(_START_TIMEOUT)

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def command(self, name: str, *, wait: float = 0.0, **arguments: object) -> Any:
        """Run a command on the loop of the server.

        Raises:
            RuntimeError: the server does not run.

        """
        if self._runtime is None or self._runtime.loop is None:
            msg = "the development server does not run"
            raise RuntimeError(msg)
        future = asyncio.run_coroutine_threadsafe(self._runtime.control.command(name, arguments), self._runtime.loop)
        return future.result(_COMMAND_TIMEOUT + wait)


class _JsonLines:
    """Writes each request as a line of JSON."""

    def __init__(self, path: str) -> None:
        """Open the file for appending; raises OSError when that cannot be."""
        self._own = path != "-"
        self._file: TextIO = open(path, "a", encoding="ascii", newline="\n") if self._own else sys.stdout  # noqa: PTH123, SIM115 - closed below

    def __call__(self, entry: LogEntry) -> None:
        try:
            self._file.write(f"{entry.json_line()}\n")
            self._file.flush()
        except (OSError, ValueError):
            # A full disk or a reader that went away is no reason to answer no more.
            return

    def close(self) -> None:
        """Close the file."""
        if self._own:
            self._file.close()


def _listen(host: str, port: int) -> socket.socket:
    """Open the socket before the HTTP server starts: the port is then ours, and connections queue at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle off only where the protocol is named; with it on, each kept connection waits 40 ms an answer.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        # With the place: which of the two ports, or which of several servers, is what the reader wants to know.
        raise OSError(error.errno, error.strerror, f"{host}:{port}") from None
    return sock


def _check_certificate(place: Place) -> None:
    """Raise ConfigurationError when the certificate cannot be used: in a thread nobody would be told why."""
    if place.certfile is None:
        return
    problem = ""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(place.certfile, place.keyfile)
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or type(error).__name__
    if problem:
        msg = f"the certificate and its key cannot be used: {problem}."
        raise ConfigurationError(
            msg, advice="Give a PEM certificate chain and the private key that belongs to it.", key="certfile"
        )
