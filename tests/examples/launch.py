"""Serve the ``app`` of an example on a free port of loopback; print the port; end when standard input closes."""

from __future__ import annotations

import os
import runpy
import socket
import sys
import threading
from pathlib import Path


def main() -> None:
    path = Path(sys.argv[1])
    sys.path.insert(0, str(path.parent))
    # A module that Django can import by its name, as it could if it had been run as its docstring says.
    app = __import__(path.stem).app if path.stem.endswith("framework") else runpy.run_path(str(path))["app"]

    def end() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=end, daemon=True).start()
    if path.stem.endswith("fastapi"):
        import uvicorn

        sock = socket.create_server(("127.0.0.1", 0))
        print(sock.getsockname()[1], flush=True)  # noqa: T201 - read by who started this
        uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[sock])
    else:
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, *_: object) -> None:
                pass

        server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
        print(server.server_port, flush=True)  # noqa: T201 - as above
        server.serve_forever()


if __name__ == "__main__":
    main()
