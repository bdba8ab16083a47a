"""Forty runs of ``accredit token`` at once, cold: ``python -m tests.stores.forty``.

Each is a process of its own that has loaded the command line and waits for the start. ``--exec`` starts each from
nothing instead, as a shell does. The environment says what is asked for, as for ``accredit`` itself; the tokens go to
standard output, one a line, and a line with what went wrong for a run that failed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys

from accredit.cli.main import main as accredit

COUNT = 40


def forked(count: int, arguments: list[str]) -> list[str]:
    """Return what each of that many processes printed; they start together."""
    start, go = os.pipe()
    readers = []
    children = []
    for _ in range(count):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(go)
            os.close(reader)
            os.read(start, 1)  # returns when the parent closes its end
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = accredit(arguments)
            os.write(writer, f"{out.getvalue()}{err.getvalue()}{'' if code == 0 else f'exit {code}'}".encode())
            os._exit(0)
        os.close(writer)
        readers.append(reader)
        children.append(child)
    os.close(start)
    os.close(go)
    said = []
    for reader in readers:
        with os.fdopen(reader, "rb") as file:
            said.append(" ".join(file.read().decode().split("\n")).strip())
    for child in children:
        os.waitpid(child, 0)
    return said


def executed(count: int, arguments: list[str]) -> list[str]:
    """Return what each of that many programs printed."""
    command = [sys.executable, "-m", "accredit.cli", *arguments]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(count)
    ]
    return [each.communicate(timeout=300)[0].strip() for each in running]


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.stores.forty", description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--exec", action="store_true", help="start each from nothing")
    parser.add_argument("arguments", nargs="*", default=["token"])
    options = parser.parse_args()
    said = (executed if options.exec else forked)(options.count, options.arguments)
    sys.stdout.write("".join(f"{line}\n" for line in said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
