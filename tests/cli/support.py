"""What the tests of the command line share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

CANARY = "canary%:+ é-4c0ffee1"


@dataclass(frozen=True)
class Ran:
    """What a run of the command line gave."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()


Run = Callable[..., Ran]
