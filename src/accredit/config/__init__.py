"""Registrations from a TOML file and the environment: :func:`load`.

Nothing is read but the file that was named, by argument or by ``ACCREDIT_CONFIG``; ``ACCREDIT_`` variables go over it.
:mod:`accredit.config.environment` documents the variables.
"""

from accredit.config.loading import load

__all__ = ["load"]
