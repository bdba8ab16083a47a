"""What becomes of exceptions that nobody expected: an entry in the log and an error that quotes nothing of them."""

from __future__ import annotations

import contextlib
import logging

from accredit.errors import AccreditError

_LOG = logging.getLogger("accredit")


def interruption(error: BaseException) -> AccreditError:
    """Return the error of callers whose flight was ended by an exit or an interrupt."""
    return AccreditError(
        f"the request for a token was interrupted: {type(error).__name__}.",
        advice="Ask again, unless the process is about to end.",
    )


def say(level: int, text: str, *values: object) -> None:
    """Log; what handlers raise is ignored."""
    # Log handlers are others' code as much as hooks are: what they raise must not keep a flight from landing.
    with contextlib.suppress(Exception):
        _LOG.log(level, text, *values)


def defect(error: Exception) -> AccreditError:
    """Log an exception that nobody expected, and return the error that callers get."""
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
