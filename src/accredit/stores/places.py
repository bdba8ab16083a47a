"""Where a store file lies, and whether that is a place for tokens: one's own, closed to others, and of which kind."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from accredit.errors import StoreError

FOLDER: Final = "accredit"
FILE: Final = "tokens.sqlite3"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_POSIX: Final = os.name == "posix"
_MOUNTS: Final = Path("/proc/self/mountinfo")
# Shared memory and locks are known to work between processes here; anything else may be a network.
_LOCAL: Final = frozenset({
    "apfs", "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuseblk", "jfs", "ntfs", "ntfs3", "overlay",
    "ramfs", "reiserfs", "tmpfs", "vfat", "xfs", "zfs",
})  # fmt: skip
_WINDOWS_LOCAL_DRIVES: Final = (2, 3, 6)  # removable, fixed, RAM disk, as GetDriveTypeW says
_ADVICE: Final = "Name another file, or do without: tokens are then kept in memory only."


def default_path(environ: Mapping[str, str] | None = None, platform: str | None = None) -> Path:
    """Return the store file of this user: ``accredit/tokens.sqlite3`` in the user's state directory.

    Linux and others: ``XDG_STATE_HOME``, else ``~/.local/state``. macOS: ``~/Library/Application Support``. Windows:
    ``%LOCALAPPDATA%``.

    Raises:
        StoreError: the user has no such directory.

    """
    environ = os.environ if environ is None else environ
    platform = platform or sys.platform
    if platform == "win32":
        base = environ.get("LOCALAPPDATA", "")
    elif platform == "darwin":
        base = _under_home(environ, "Library", "Application Support")
    else:
        # The specification has relative paths ignored.
        given = environ.get("XDG_STATE_HOME", "")
        base = given if given.startswith("/") else _under_home(environ, ".local", "state")
    if not base:
        raise StoreError("this user has no directory for state.", advice=_ADVICE, reason="place")
    return Path(base) / FOLDER / FILE


def _under_home(environ: Mapping[str, str], *names: str) -> str:
    home = environ.get("HOME") or (os.path.expanduser("~") if environ is os.environ else "")  # noqa: PTH111 - may fail
    # A home that is missing, or "/", is that of a service that is not meant to have one.
    if not home.startswith("/") or home.strip("/") == "" or not os.path.isdir(home):  # noqa: PTH112 - a text
        return ""
    return os.path.join(home, *names)  # noqa: PTH118 - a text


def prepare_folder(folder: Path) -> None:
    """See to it that ``folder`` is there, belongs to this user, and nobody else can write to it.

    What is missing is made with mode 0700, and a folder named ``accredit`` that others can read is closed to them. On
    Windows the folder is only made: what others may do there is inherited, and in the user's own profile it is nothing.

    Raises:
        StoreError: it is not, naming the folder and the reason.

    """
    missing = []
    current = folder
    while not os.path.lexists(current) and current != current.parent:
        missing.append(current)
        current = current.parent
    reason = ""
    if _POSIX and missing:
        reason = _distrust(current, follow=True)
    if reason:
        raise _unfit(current, reason)
    for path in reversed(missing):
        problem = None
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:  # another process was faster
            pass
        except OSError as error:
            problem = f"it cannot be made ({error.strerror or type(error).__name__})"
        if problem is not None:
            raise _unfit(path, problem)
    if _POSIX:
        reason = _distrust(folder, follow=False)
        if reason:
            raise _unfit(folder, reason)
        if folder.name == FOLDER and folder.lstat().st_mode & _OTHERS:
            with contextlib.suppress(OSError):  # a read-only file system
                folder.chmod(0o700)


def check_file(path: Path) -> os.stat_result | None:
    """Return what there is at ``path``: None when nothing; a file of this user's that only the user can open.

    A file that others could open is closed to them.

    Raises:
        StoreError: it is something else.

    """
    reason = ""
    status: os.stat_result | None = None
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = f"it cannot be examined ({error.strerror or type(error).__name__})"
    if status is not None:
        if not stat.S_ISREG(status.st_mode):
            reason = "it is a symbolic link" if stat.S_ISLNK(status.st_mode) else "it is not a regular file"
        elif _POSIX and status.st_uid != os.geteuid():
            reason = "it belongs to another user"
        elif _POSIX and status.st_mode & _OTHERS:
            try:
                path.chmod(0o600)
            except OSError:
                reason = "other users can open it"
    if reason:
        raise _unfit(path, reason)
    return status


def _distrust(folder: Path, *, follow: bool) -> str:
    try:
        status = folder.stat() if follow else folder.lstat()
    except OSError as error:
        return f"it cannot be examined ({error.strerror or type(error).__name__})"
    if stat.S_ISLNK(status.st_mode):
        return "it is a symbolic link"
    if not stat.S_ISDIR(status.st_mode):
        return "it is not a directory"
    if status.st_uid != os.geteuid():
        return "it belongs to another user"
    if status.st_mode & _OTHERS_WRITE:
        return "other users can write to it"
    return ""


def _unfit(path: Path, reason: str) -> StoreError:
    shown = "".join(character if character.isprintable() else "?" for character in str(path))
    return StoreError(f"{shown} is no place for tokens: {reason}.", advice=_ADVICE, reason="place")


def is_local(folder: Path) -> bool:
    """Tell whether ``folder`` is on a file system of this machine for certain; False also when that cannot be told."""
    resolved = os.path.realpath(folder)
    if sys.platform == "win32":
        return _is_local_drive(resolved)
    try:
        text = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return False
    return file_system_of(resolved, text) in _LOCAL


def file_system_of(path: str, mounts: str) -> str:
    """Return the type of the file system that ``path`` (resolved) is on, by the text of ``/proc/self/mountinfo``."""
    found, longest = "", -1
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 6 or not after:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        # A later mount on the same point covers an earlier one.
        if inside and len(point) >= longest:
            found, longest = after.split(" ")[0], len(point)
    return found


def _is_local_drive(path: str) -> bool:
    drive = os.path.splitdrive(path)[0]
    if not re.fullmatch(r"[A-Za-z]:", drive):
        return False  # \\server\share
    import ctypes

    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - there is no such name for type checkers elsewhere
    return int(kernel.GetDriveTypeW(f"{drive}\\")) in _WINDOWS_LOCAL_DRIVES
