"""What has to be replaced in a forked child: locks, threads, flights."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """Something that goes on living in a forked child."""

    def after_fork(self) -> None:
        """Replace, in the child, every lock and thread, and forget the flights of the parent."""


_LIVING: weakref.WeakSet[Forked] = weakref.WeakSet()
_hook_set = False


def register(living: Forked) -> None:
    """Have :meth:`Forked.after_fork` called in every forked child, for as long as the object lives."""
    global _hook_set  # noqa: PLW0603 - os.register_at_fork can only be called once and never undone
    if not _hook_set and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)
        _hook_set = True
    _LIVING.add(living)


def _after_fork() -> None:
    for living in list(_LIVING):
        living.after_fork()
