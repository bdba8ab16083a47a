"""Which configuration file the command line reads, and when it trusts one that nobody named."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from accredit.config.environment import CONFIG
from accredit.errors import ConfigurationError

LOCAL: Final = "accredit.toml"
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def config_file(option: str | None) -> Path | None:
    """Return the file of ``--config``; without it, and without ``ACCREDIT_CONFIG``, a trusted ``./accredit.toml``.

    None means that the library looks at the environment.

    Raises:
        ConfigurationError: there is a ``./accredit.toml``, but somebody else might have written it: it could send a
            secret of the environment to a server of theirs.

    """
    if option is not None:
        return Path(option)
    if CONFIG in os.environ:
        return None
    try:
        status = os.lstat(LOCAL)
    except FileNotFoundError:
        return None
    except OSError:
        status = None
    # On Windows the mode and the owner id do not tell who may write (access control lists do): no check.
    if os.name == "posix":
        reason = "it cannot be examined"
        if status is not None:
            reason = distrust(status, Path().stat(), os.geteuid())
        if reason:
            raise ConfigurationError(
                f"./{LOCAL} is not read: {reason}.",
                advice=f"If you trust it, name it: accredit --config ./{LOCAL} ...",
                key="--config",
            )
    return Path(LOCAL)


def distrust(status: os.stat_result, directory: os.stat_result, user: int) -> str:
    """Return why ``user`` (an id) is not to trust a file of that status in that directory; empty when all is well."""
    if stat.S_ISLNK(status.st_mode):
        return "it is a symbolic link"
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    if status.st_uid != user:
        return "it belongs to another user"
    if status.st_mode & _OTHERS_WRITE:
        return "other users can write to it (chmod go-w removes that)"
    if directory.st_uid not in {user, 0}:
        return "this directory belongs to another user"
    if directory.st_mode & _OTHERS_WRITE:
        return "other users can write to this directory"
    return ""
