"""``accredit demo``: the main job over real HTTP, against a server in a process of its own, with every claim checked.

It needs the extra ``accredit[devserver]``, and is prettier with ``accredit[cli]``. Nothing of either is imported
before :func:`run` is called.
"""

from __future__ import annotations

__all__ = ["run"]


def run(args: list[str]) -> int:
    """Run the demo.

    Args:
        args: its command line, without the name of the command.

    Returns:
        the exit code: 0 when every claim was seen to be true, 1 when one was not, 2 for a wrong command line,
        3 when a package is missing, 130 when it was interrupted.

    """
    from accredit.demo.runner import run as run_now

    return run_now(args)
