"""An authorization server and a protected API for development and tests: strict, and able to misbehave on demand.

It needs the extra ``accredit[devserver]``. It refuses to listen beyond loopback, and to run in production.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from accredit.devserver.config import DevClient, DevConfig

if TYPE_CHECKING:
    from accredit.devserver.log import LogEntry
    from accredit.devserver.process import DevServerProcess
    from accredit.devserver.server import DevServer

__all__ = ["DevClient", "DevConfig", "DevServer", "DevServerProcess", "LogEntry"]

_WHERE = {"DevServer": "server", "DevServerProcess": "process", "LogEntry": "log"}


def __getattr__(name: str) -> object:
    """Import what needs the extra when it is asked for."""
    module = _WHERE.get(name)
    if module is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    import importlib

    try:
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package in {"uvicorn", "cryptography", "h11", "click"}:
            msg = f"the development server needs the package {package}: install accredit[devserver]"
            raise ImportError(msg, name=package) from error
        raise
