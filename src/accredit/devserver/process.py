"""Run the development server in a process of its own, steered over its admin API; standard library only."""

from __future__ import annotations

import dataclasses
import http.client
import json
import ssl
import subprocess
import sys
import threading
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from accredit.devserver.app import ADMIN_HEADER, ADMIN_PREFIX
from accredit.devserver.config import DevConfig, config_to_mapping
from accredit.devserver.handle import Switches

_START_TIMEOUT: Final = 30.0
_COMMAND_TIMEOUT: Final = 20.0


class DevServerProcess(Switches):
    """A development server as a child process: ``with DevServerProcess() as server: ...``.

    The child ends when its standard input closes, so none is left behind however this process ends. Arguments as
    for :class:`accredit.devserver.server.DevServer`.
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
        self._certfile = certfile
        self._options = ["--host", host, "--port", str(port), "--api-port", str(api_port), "--config-json", "-"]
        if certfile is not None:
            self._options += ["--certfile", certfile]
        if keyfile is not None:
            self._options += ["--keyfile", keyfile]
        if for_tests:
            self._options.append("--i-know-this-is-for-tests")
        if web:
            self._options.append("--web")
        if state is not None:
            self._options += ["--state", state]
        if log_json is not None:
            self._options += ["--log-json", log_json]
        self._child: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """Start the child and wait until it answers requests.

        Raises:
            RuntimeError: it runs already, or could not start (the reason is in the message).

        """
        if self._child is not None:
            msg = "the development server runs already"
            raise RuntimeError(msg)
        command = [sys.executable, "-m", "accredit.devserver", *self._options]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")  # noqa: S603
        self._child = child
        # Configuration goes through the pipe: arguments can be read by every user of the machine.
        report: dict[str, Any] = {}
        watchdog = threading.Timer(_START_TIMEOUT, child.kill)
        watchdog.start()
        try:
            if child.stdin is not None and child.stdout is not None:
                child.stdin.write(json.dumps(config_to_mapping(self._given)) + "\n")
                child.stdin.flush()
                report = json.loads(child.stdout.readline() or "{}")
        except OSError:
            pass
        finally:
            watchdog.cancel()
        if "url" not in report:
            self.stop()
            msg = f"the development server did not start: {report.get('error', 'its process ended')}"
            raise RuntimeError(msg)
        self.config = dataclasses.replace(self._given, issuer=report["issuer"])
        self.issuer: str = report["issuer"]
        self.url: str = report["url"]
        self.api_url: str = report["api_url"]
        self.admin_token: str = report["admin_token"]
        self.page_link: str = report["page_link"]
        return self

    @property
    def pid(self) -> int | None:
        """The process id of the child, or None when it does not run."""
        return None if self._child is None else self._child.pid

    def stop(self) -> None:
        """Stop the child; stopping twice does nothing."""
        child, self._child = self._child, None
        if child is None:
            return
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue
        try:
            child.wait(_START_TIMEOUT)
        except subprocess.TimeoutExpired:  # pragma: no cover - a child that hangs
            child.kill()
            child.wait()

    def kill(self) -> None:
        """Kill the child at once, as an outage would."""
        if self._child is not None:
            self._child.kill()
        self.stop()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def command(self, name: str, *, wait: float = 0.0, **arguments: object) -> Any:
        """Run a command through the admin API.

        Raises:
            RuntimeError: the server does not run, or refused the command.

        """
        if self._child is None:
            msg = "the development server does not run"
            raise RuntimeError(msg)
        where = urlsplit(self.url)
        connection = self._connection(where.hostname or "", where.port or 0, _COMMAND_TIMEOUT + wait)
        try:
            headers = {ADMIN_HEADER: self.admin_token, "content-type": "application/json"}
            connection.request("POST", f"{ADMIN_PREFIX}{name}", json.dumps(arguments), headers)
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "result" not in answer:
            msg = f"the development server refused {name}: {answer.get('error')}"
            raise RuntimeError(msg)
        return answer["result"]

    def _connection(self, host: str, port: int, seconds: float) -> http.client.HTTPConnection:
        if self._certfile is None:
            return http.client.HTTPConnection(host, port, timeout=seconds)
        # Exactly the certificate we gave it is trusted, whatever name it was made out to.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(self._certfile)
        return http.client.HTTPSConnection(host, port, timeout=seconds, context=context)
