"""Run the development server: on loopback sockets of its own, in a thread of this process."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from accredit.core.access_token import AccessTokenPolicy
from accredit.devserver.api import Guard, protected_api
from accredit.devserver.app import Application, Receive, Scope, Send, authorization_server
from accredit.devserver.config import DevConfig, Place
from accredit.devserver.control import Control
from accredit.devserver.core import Authority
from accredit.devserver.handle import Switches
from accredit.devserver.keys import new_signing_key

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
            ConfigurationError: the place is not allowed.
            OSError: a port is taken.

        """
        place.check()
        self._place = place
        self._sockets = [_listen(place.host, place.port)]
        try:
            self._sockets.append(_listen(place.host, place.api_port))
        except OSError:
            self.close_sockets()
            raise
        scheme = "https" if place.certfile else "http"
        host = f"[{place.host}]" if ":" in place.host else place.host
        urls = [f"{scheme}://{host}:{sock.getsockname()[1]}" for sock in self._sockets]
        self.url: str = urls[0]
        self.api_url: str = urls[1]
        self.config: DevConfig = dataclasses.replace(config, issuer=config.issuer or f"{self.url}{config.issuer_path}")
        self.control: Control = Control(Authority(self.config, [new_signing_key()]))
        self.loop: asyncio.AbstractEventLoop | None = None
        self._uvicorn: _Uvicorn | None = None

    async def serve(self, ready: Callable[[], None]) -> None:
        """Serve until :meth:`stop`; call ``ready`` as soon as requests are answered."""
        self.loop = asyncio.get_running_loop()
        config = uvicorn.Config(
            self._application(),
            http="h11",
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
        await self._uvicorn.serve(sockets=self._sockets)

    def stop(self) -> None:
        """Let everybody go and stop; call it on the loop of the server."""
        self.control.close()
        if self._uvicorn is not None:
            self._uvicorn.should_exit = True

    def close_sockets(self) -> None:
        """Close the sockets, for a server that never ran."""
        for sock in self._sockets:
            sock.close()

    def _application(self) -> Application:
        authority = self.control.authority
        audiences = {name for client in self.config.clients for name in client.audiences}
        policy = AccessTokenPolicy(
            issuer=self.config.issuer,
            audience=(self.config.default_audience, *sorted(audiences - {self.config.default_audience})),
            algorithms=("ES256",),
            # Server and API have one clock: a token is refused in the very second it expires.
            leeway=0,
        )
        issuing = authorization_server(self.control)
        guarding = protected_api(self.control, Guard(policy, authority.key_set, authority.is_revoked))
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
            environment=dict(os.environ),
        )
        self._runtime: Runtime | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def start(self) -> Self:
        """Start and wait until requests are answered.

        Raises:
            ConfigurationError: the place is not allowed.
            OSError: a port is taken, or the certificate cannot be read.
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
    except OSError:
        sock.close()
        raise
    return sock
