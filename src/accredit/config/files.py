"""Reading a configuration file: bounded, strict about its encoding, and silent about what is in it."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from accredit.config.schema import type_name
from accredit.errors import ConfigurationError

MAX_BYTES: Final = 1024 * 1024
_PLACE: Final = re.compile(r"\(at (line [0-9]+, column [0-9]+|end of document)\)")
_HIDDEN: Final = "What it says is not shown, since it may hold a secret."


@dataclass(frozen=True, slots=True)
class Document:
    """A configuration file that was read.

    Attributes:
        shown: its path, for messages.
        directory: absolute; relative paths in the file start there.
        table: what it says; in a ``pyproject.toml``, what ``[tool.accredit]`` says.
        in_project: whether it is a ``pyproject.toml``, which belongs into version control and may hold no secret.
        open_to_others: whether group or others may read it (POSIX only; False elsewhere).

    """

    shown: str
    directory: Path
    table: dict[str, object] = field(repr=False)
    in_project: bool
    open_to_others: bool


def read_document(path: Path) -> Document:
    """Read a configuration file, at most 1 MiB of UTF-8 TOML.

    Raises:
        ConfigurationError: naming the path; for wrong TOML also line and column, but never what stands there.

    """
    shown = printable(str(path))
    problem = None
    data, mode = b"", 0
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        # A path with a null byte is a ValueError.
        problem = "it is a directory" if isinstance(error, IsADirectoryError) else _reason(error)
    if problem is not None:
        raise ConfigurationError(
            f"the configuration file {shown} cannot be read ({problem}).", advice="Check the path and its permissions."
        )
    table = _parse(_decode(data, shown), shown)
    in_project = path.name == "pyproject.toml"
    if in_project:
        table = _tool_table(table, shown)
    open_to_others = os.name == "posix" and stat.S_ISREG(mode) and bool(mode & (stat.S_IRGRP | stat.S_IROTH))
    # Not resolved: a symbolic link that is swapped (as container platforms do) must be followed anew at each read.
    return Document(shown, Path(os.path.abspath(path)).parent, table, in_project, open_to_others)  # noqa: PTH100


def printable(text: str) -> str:
    """Return ``text`` with everything escaped that a terminal or a log line might act on."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _decode(data: bytes, shown: str) -> str:
    problem, fix = None, "Save it as UTF-8 without a byte order mark."
    text = ""
    if len(data) > MAX_BYTES:
        problem, fix = f"is larger than {MAX_BYTES} bytes", "Check that it is the configuration file."
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in data:
        problem = "is not UTF-8 but UTF-16, it seems"
    elif data.startswith(b"\xef\xbb\xbf"):
        problem = "starts with a byte order mark"
    else:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            problem = "is not UTF-8"
    if problem is not None:
        raise ConfigurationError(f"the configuration file {shown} {problem}.", advice=fix)
    return text


def _parse(text: str, shown: str) -> dict[str, object]:
    place = None
    try:
        return tomllib.loads(text)
    except RecursionError:
        place = " (nested too deeply)"
    except ValueError as error:  # TOMLDecodeError, and numbers beyond what Python converts
        found = _PLACE.search(str(error))
        place = f" at {found[1]}" if found else ""
        if found and found[1].startswith("end"):
            last = text.rpartition("\n")[2]
            place = f" at line {text.count(chr(10)) + 1}, column {len(last) + 1} (the end of the file)"
    raise ConfigurationError(
        f"the configuration file {shown} is not TOML{place}.", advice=f"Correct that line. {_HIDDEN}"
    )


def _tool_table(table: dict[str, object], shown: str) -> dict[str, object]:
    tool = table.get("tool")
    own = tool.get("accredit") if isinstance(tool, dict) else None
    if own is None:
        raise ConfigurationError(
            f"{shown} has no table [tool.accredit].", advice="Add it, or name another file.", key="tool.accredit"
        )
    if not isinstance(own, dict):
        raise ConfigurationError(
            f"tool.accredit of {shown} is {type_name(own)}.",
            advice="Write a table [tool.accredit].",
            key="tool.accredit",
        )
    return own
