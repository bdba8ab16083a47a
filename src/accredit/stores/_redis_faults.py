"""What went wrong at Redis, in a word and a sentence that hold nothing that Redis or the network said."""

from __future__ import annotations

import re
from typing import Final

from redis import exceptions

from accredit.errors import StoreError

#: Found in the text of an error, since a script wraps the error of a command differently in every version.
_CODES: Final = re.compile(
    r"\b(WRONGPASS|NOAUTH|NOPERM|READONLY|OOM|MISCONF|LOADING|BUSY|WRONGTYPE|CLUSTERDOWN|MASTERDOWN|TRYAGAIN|"
    r"CROSSSLOT|NOREPLICAS|NOSCRIPT|MOVED|ASK|UNKILLABLE)\b"
)
# Redis 6.2 says so without a code when a script may not use a command.
_DENIED: Final = re.compile(r"(?i)user executing the script|can't run this command|no permissions")

_REASONS: Final = {
    "WRONGPASS": "authentication",
    "NOAUTH": "authentication",
    "NOPERM": "permission",
    "READONLY": "read-only",
    "OOM": "out of memory",
    "MISCONF": "misconfigured",
    "LOADING": "loading",
    "BUSY": "busy",
    "UNKILLABLE": "busy",
    "WRONGTYPE": "wrong type",
    "CLUSTERDOWN": "cluster down",
    "MASTERDOWN": "cluster down",
    "TRYAGAIN": "cluster moving",
    "MOVED": "cluster moving",
    "ASK": "cluster moving",
    "CROSSSLOT": "cross slot",
    "NOREPLICAS": "read-only",
    "NOSCRIPT": "scripts flushed",
}
_ADVICE: Final = {
    "timeout": "Find out why it is slow; the process goes on without it meanwhile.",
    "connection": "It closed the connection: look into its log.",
    "unreachable": "Check that it is up and that host, port and TLS are right.",
    "authentication": "Check the user name and the password that the store is given.",
    "permission": "The user needs the commands and the key pattern that the documentation of the Redis store lists.",
    "read-only": "Connect to a primary that accepts writes.",
    "out of memory": "Raise maxmemory, or choose an eviction policy that evicts.",
    "misconfigured": "Redis refuses writes because it cannot save to disk.",
    "exhausted": "Raise max_connections.",
    "certificate": "Check ca_file and the name in the URL.",
}


def store_error(reason: str, where: str) -> StoreError:
    """Return the error of that reason; ``where`` is a host and port, or a path."""
    return StoreError(f"Redis at {where} failed: {reason}.", advice=_ADVICE.get(reason, ""), reason=reason)


def reason_of(error: BaseException) -> str:
    """Return in a word what an exception of redis-py, of a socket or of TLS means."""
    import ssl

    # Not isinstance alone: redis-py makes connection errors of what a server answers, too.
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
        return "authentication"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "certificate"
    code = getattr(error, "status_code", None)
    found = _CODES.search(f"{code or ''} {error}")
    if isinstance(error, exceptions.ResponseError | exceptions.BusyLoadingError):
        for kind, reason in _KINDS.items():
            if isinstance(error, kind):
                return reason
        if found is not None:
            return _REASONS[found.group()]
        return "permission" if _DENIED.search(str(error)) else "refused"
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return "timeout"
    if isinstance(error, exceptions.InvalidResponse | ValueError):
        return "not Redis"
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "certificate"
    return "connection"


_KINDS: Final[dict[type[BaseException], str]] = {
    exceptions.NoPermissionError: "permission",
    exceptions.ReadOnlyError: "read-only",
    exceptions.OutOfMemoryError: "out of memory",
    exceptions.BusyLoadingError: "loading",
    exceptions.ClusterDownError: "cluster down",
    exceptions.TryAgainError: "cluster moving",
    exceptions.AskError: "cluster moving",
    exceptions.ClusterCrossSlotError: "cross slot",
    exceptions.NoScriptError: "scripts flushed",
}
