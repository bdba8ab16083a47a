"""Run one fuzz target with atheris in this process, which has little memory and may touch nothing outside a folder.

``python -m tests.fuzz.boxed TARGET FOLDER [libFuzzer options]`` begins with the seeds and what earlier runs left in the
folder. The process ends with 0 when every run was fine, and with another number after a finding; its input is kept in
the folder. Only on Linux with CPython 3.11, which is where atheris is installed.
"""

from __future__ import annotations

import importlib
import os
import resource
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SEEDS = Path(__file__).parent / "seeds"
#: Most seconds for one input, which takes a millisecond; far more than a busy machine adds to that.
SECONDS = 10
#: Most memory in MiB: what atheris and the library take, and a little for the input.
MEGABYTES = 512
_FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "ctypes.")


def close_box(folder: str) -> None:
    """Stop the process on anything that reaches out of it, and on any writing outside ``folder``."""
    kept = os.path.realpath(folder) + os.sep

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event.startswith(_FORBIDDEN):
            message = f"a target must not do this: {event}"
            raise PermissionError(message)
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
            if writes and not (isinstance(path, str) and os.path.realpath(path).startswith(kept)):
                message = "a target must not write outside its folder"
                raise PermissionError(message)

    sys.addaudithook(hook)


def planted(data: bytes) -> None:
    """Stand for a target that finds something, so that a test can tell that findings are seen."""
    if data.startswith(b"open"):
        Path("/tmp/accredit-planted").write_bytes(data)
    if data.startswith(b"hang"):
        while True:
            pass
    if data[:2] == b"no":
        message = "planted"
        raise ValueError(message)


def main(arguments: list[str]) -> None:
    """Run the target that the first argument names."""
    # What is limited is the highest peak of this process, and that began with the peak of whoever started it.
    inherited = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    atheris = importlib.import_module("atheris")  # It has no types, and is not there on every system.
    name, folder, *rest = arguments
    with atheris.instrument_imports(include=["accredit"], enable_loader_override=False):
        # Nothing of accredit may have been imported before: it would not be instrumented, and the fuzzer blind.
        from tests.fuzz import checks, targets
    target = {**targets.TARGETS, "planted": planted}[name]
    for seed in sorted((SEEDS / name).iterdir()):  # Lazy imports happen now, before the box is closed.
        target(seed.read_bytes())
    corpus, scratch = Path(folder, "corpus"), Path(folder, "scratch")
    for each in (corpus, scratch):
        each.mkdir(parents=True, exist_ok=True)
    options = [
        f"-timeout={SECONDS}",
        f"-rss_limit_mb={MEGABYTES + inherited}",
        f"-max_len={checks.MAX_INPUT}",
        "-len_control=20",
        f"-dict={SEEDS / 'words.dict'}",
        f"-artifact_prefix={folder}{os.sep}finding-",
    ]
    atheris.Setup([sys.argv[0], *options, *rest, str(corpus), str(SEEDS / name)], target)
    tempfile.tempdir = str(scratch)
    close_box(folder)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
