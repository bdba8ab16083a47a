"""The command line of the demo, up to the point where something has to run."""

from __future__ import annotations

import importlib.util
import sys
from typing import Final

from accredit.demo.options import parser
from accredit.demo.sabotage import listing

DONE: Final = 0
MISSING: Final = 3
INTERRUPTED: Final = 130
_NEEDED: Final = ("uvicorn", "cryptography")


def run(args: list[str]) -> int:
    """Run the demo; see :func:`accredit.demo.run`."""
    try:
        options = parser().parse_args(args)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else DONE
    if options.sabotage == "list":
        sys.stdout.write(listing())
        return DONE
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        text = f"accredit demo needs {' and '.join(missing)}: pip install 'accredit[devserver,cli]'"
        sys.stderr.write(f"{text}\n")
        return MISSING

    try:
        from accredit.demo.play import play

        return play(options)
    except KeyboardInterrupt:
        sys.stderr.write("\naccredit demo: interrupted; its server is stopped\n")
        return INTERRUPTED
