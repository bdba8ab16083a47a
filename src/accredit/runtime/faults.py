"""What becomes of exceptions that nobody expected, and of log handlers that raise."""

from __future__ import annotations

import contextlib
import logging

from accredit.errors import AccreditError

_LOG = logging.getLogger("accredit")


def say(level: int, text: str, *values: object) -> None:
    """Log. Log handlers are others' code as much as hooks are: what they raise must not keep a flight from landing."""
    with contextlib.suppress(Exception):
        _LOG.log(level, text, *values)


def interruption(error: BaseException) -> AccreditError:
    """Return the error of those who waited for a flight that an exit or an interrupt ended."""
    return AccreditError(
        f"the request was interrupted: {type(error).__name__}.",
        advice="Ask again, unless the process is about to end.",
    )


def defect(error: Exception) -> AccreditError:
    """Return, and log, the error for an exception that should not have been."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace is not None else "?"
    # The text of an unexpected exception may quote anything, so only its type and place are told.
    say(logging.ERROR, "internal error in accredit: %s at %s", type(error).__name__, place)
    return AccreditError(
        f"internal error in accredit: {type(error).__name__} at {place}.",
        advice="Please report this as a defect.",
    )
